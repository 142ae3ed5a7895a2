//! `TaskGroup`: tasks that end before the block that started them.

use super::enter::Enter;
use super::group_exit::GroupExit;
use crate::awaitable::ready;
use crate::combine::{child, ensure_future};
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, PyResult, Raised, Signature,
    Visitor,
};
use crate::runtime::target::{Target, Told};
use crate::task::{awaited_by, step};
use crate::{intern, raise, running};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.TaskGroup()`.
#[repr(C)]
pub(crate) struct TaskGroup {
    target: Target,
    entered: Cell<bool>,
    exiting: Cell<bool>,
    aborting: Cell<bool>,
    /// The group has cancelled its parent, and takes that back when it ends.
    pub(super) parent_cancel_requested: Cell<bool>,
    cancel_on_enter: Cell<bool>,
    event_loop: ObjCell,
    pub(super) parent: ObjCell,
    /// The tasks that are not done, as the keys of a dict: they are cancelled in the order in which they were
    /// made, where asyncio's set leaves the order open. Made with the first of them.
    tasks: ObjCell,
    /// The list of exceptions; made with the first of them.
    pub(super) errors: ObjCell,
    /// A `KeyboardInterrupt` or `SystemExit`, which goes before all others.
    pub(super) base_error: ObjCell,
    /// The [`GroupExit`] that waits for the last task.
    exit: ObjCell,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

impl TaskGroup {
    fn cells(&self) -> [&ObjCell; 6] {
        [
            &self.event_loop,
            &self.parent,
            &self.tasks,
            &self.errors,
            &self.base_error,
            &self.exit,
        ]
    }
}

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for TaskGroup {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.cells().into_iter().for_each(|cell| visitor.cell(cell));
    }

    fn clear(&self) {
        self.cells().into_iter().for_each(ObjCell::clear);
    }
}

impl Construct for TaskGroup {
    fn empty() -> TaskGroup {
        TaskGroup {
            target: Target::new(&TaskGroup::KIND),
            entered: Cell::new(false),
            exiting: Cell::new(false),
            aborting: Cell::new(false),
            parent_cancel_requested: Cell::new(false),
            cancel_on_enter: Cell::new(false),
            event_loop: ObjCell::empty(),
            parent: ObjCell::empty(),
            tasks: ObjCell::empty(),
            errors: ObjCell::empty(),
            base_error: ObjCell::empty(),
            exit: ObjCell::empty(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<0> = Signature::new("TaskGroup", [], 0);
        args.bind(&SIGNATURE).map(drop)
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for TaskGroup {
    fn done(&self, task: &Any) -> PyResult<()> {
        if let Some(tasks) = self.tasks.get() {
            tasks.dict_discard(task)?;
        }
        let parent = self.parent.get();
        if let Some(parent) = &parent {
            awaited_by::discard(task, parent)?;
        }
        if !self.has_tasks()? {
            if let Some(exit) = self.exit.get().as_deref().and_then(Any::exact::<GroupExit>) {
                exit.wake()?;
            }
        }
        if child::is_cancelled(task)? {
            return Ok(());
        }
        match (child::exception(task)?, parent) {
            (None, _) => Ok(()),
            (Some(exception), Some(parent)) => self.has_failed(task, exception, &parent),
            (Some(exception), None) => self.report_orphan(task, &exception),
        }
    }
}

impl TaskGroup {
    fn label(&self) -> String {
        self.as_any().repr_text()
    }

    pub(super) fn has_tasks(&self) -> PyResult<bool> {
        match self.tasks.get() {
            Some(tasks) => Ok(tasks.len()? > 0),
            None => Ok(false),
        }
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.aborting.get()
    }

    pub(super) fn begin_exit(&self) {
        self.exiting.set(true);
    }

    /// The exit is told when the last task is done.
    pub(super) fn set_exit(&self, exit: Option<&GroupExit>) {
        drop(self.exit.replace(exit.map(|exit| exit.as_any().own())));
    }

    pub(super) fn add_error(&self, exception: &Any) -> PyResult<()> {
        let errors = match self.errors.get() {
            Some(errors) => errors,
            None => {
                let made = value::list(std::iter::empty())?;
                self.errors.set(made.clone());
                made
            }
        };
        errors.list_push(exception)
    }

    pub(super) fn note_base_error(&self, exception: &Any) {
        if step::leaves_loop(exception) && self.base_error.is_empty() {
            self.base_error.set(exception.own());
        }
    }

    /// A task has failed: the others and the block are cancelled.
    fn has_failed(&self, task: &Any, exception: Obj, parent: &Any) -> PyResult<()> {
        self.add_error(&exception)?;
        self.note_base_error(&exception);
        if child::is_done(parent)? {
            return self.report_orphan(task, &exception);
        }
        if self.aborting.get() || self.parent_cancel_requested.get() {
            return Ok(());
        }
        self.abort()?;
        self.cancel_parent(parent)
    }

    fn cancel_parent(&self, parent: &Any) -> PyResult<()> {
        self.parent_cancel_requested.set(true);
        child::cancel(parent).map(drop)
    }

    /// A task has failed after who would have been told was gone.
    #[cold]
    fn report_orphan(&self, task: &Any, exception: &Any) -> PyResult<()> {
        let Some(event_loop) = self.event_loop.get() else {
            return Ok(());
        };
        let message = format!(
            "Task {} has errored out but its parent task {} is already completed",
            task.repr_text(),
            self.parent.get_or_none().repr_text()
        );
        let context = value::dict()?;
        context.dict_set(intern!("message"), &*value::str(&message)?)?;
        context.dict_set(intern!("exception"), exception)?;
        context.dict_set(intern!("task"), task)?;
        event_loop
            .method(intern!("call_exception_handler"), &[&context])
            .map(drop)
    }

    /// Cancels every task that is not done.
    pub(super) fn abort(&self) -> PyResult<()> {
        self.aborting.set(true);
        let Some(tasks) = self.tasks.get() else {
            return Ok(());
        };
        for task in tasks.collect()? {
            if !child::is_done(&task)? {
                child::cancel(&task)?;
            }
        }
        Ok(())
    }

    /// What awaiting `__aenter__()` does.
    pub(crate) fn enter(&self) -> PyResult<()> {
        if self.entered.get() {
            return Err(raise!(
                err::runtime_error(),
                "TaskGroup {} has already been entered",
                self.label()
            ));
        }
        let event_loop = running::require_running_loop()?;
        let Some(parent) = running::current_task(&event_loop)? else {
            return Err(raise!(
                err::runtime_error(),
                "TaskGroup {} cannot determine the parent task",
                self.label()
            ));
        };
        self.event_loop.set(event_loop);
        self.parent.set(parent);
        self.entered.set(true);
        if self.cancel_on_enter.get() {
            self.cancel()?;
        }
        Ok(())
    }

    /// Leaves a group in which nothing happened at once; otherwise awaits the tasks.
    fn aexit(&self, args: Args<'_>) -> PyResult<Obj> {
        let (class, exception) = super::exit_arguments(args)?;
        let uneventful = class.is_none()
            && self.entered.get()
            && self.errors.is_empty()
            && !self.parent_cancel_requested.get()
            && !self.has_tasks()?;
        if uneventful {
            self.exiting.set(true);
            self.parent.clear();
            return Ok(ready::nothing());
        }
        GroupExit::of(self, class, exception)
    }

    /// `cancel()`: ends the block and the tasks, without an exception.
    fn cancel(&self) -> PyResult<()> {
        if !self.entered.get() {
            self.cancel_on_enter.set(true);
            return Ok(());
        }
        if self.aborting.get() || (self.exiting.get() && !self.has_tasks()?) {
            return Ok(());
        }
        self.abort()?;
        match self.parent.get() {
            Some(parent) if !self.parent_cancel_requested.get() => self.cancel_parent(&parent),
            _ => Ok(()),
        }
    }

    /// `create_task(coro, **kwargs)`.
    fn create_task(&self, args: Args<'_>) -> PyResult<Obj> {
        if let Some(what) = self.refusal()? {
            return Err(self.refuse(args, what));
        }
        let event_loop = self.event_loop.get_or_none();
        let task = ensure_future::spawn_with(&event_loop, args)?;
        self.admit(&task)?;
        Ok(task)
    }

    /// Why no task can be made now.
    #[inline]
    fn refusal(&self) -> PyResult<Option<&'static str>> {
        Ok(if !self.entered.get() {
            Some("has not been entered")
        } else if self.exiting.get() && !self.has_tasks()? {
            Some("is finished")
        } else if self.aborting.get() {
            Some("is shutting down")
        } else {
            None
        })
    }

    #[cold]
    fn refuse(&self, args: Args<'_>, what: &str) -> Raised {
        // Before 3.13 the coroutine is left to the caller.
        if cfg!(Py_3_13) {
            if let Err(raised) = close_coroutine(args) {
                return raised;
            }
        }
        raise!(err::runtime_error(), "TaskGroup {} {what}", self.label())
    }

    #[inline]
    fn admit(&self, task: &Any) -> PyResult<()> {
        if let Some(parent) = self.parent.get() {
            awaited_by::add(task, &parent)?;
        }
        let tasks = match self.tasks.get() {
            Some(tasks) => tasks,
            None => {
                let made = value::dict()?;
                self.tasks.set(made.clone());
                made
            }
        };
        tasks.dict_set(task, &Obj::none())?;
        // A task that is done already is told of in the next turn like any other: its failure must not cancel
        // the block before the block has it.
        child::listen(task, &self.target())?;
        if self.aborting.get() && !child::is_done(task)? {
            // An eager task has cancelled the group before it was part of it.
            child::cancel(task)?;
        }
        Ok(())
    }

    /// Lets go of what the group holds, when it is over: exceptions keep many objects alive.
    pub(super) fn forget(&self) {
        self.exit.clear();
        self.parent.clear();
        self.errors.clear();
        self.base_error.clear();
    }

    fn repr(&self) -> PyResult<Obj> {
        let mut text = "<TaskGroup".to_owned();
        for (cell, name) in [(&self.tasks, "tasks"), (&self.errors, "errors")] {
            let count = cell.get().map_or(Ok(0), |held| held.len())?;
            if count > 0 {
                text.push_str(&format!(" {name}={count}"));
            }
        }
        if self.aborting.get() {
            text.push_str(" cancelling");
        } else if self.entered.get() {
            text.push_str(" entered");
        }
        text.push('>');
        value::str(&text)
    }

    fn tasks_set(&self) -> PyResult<Obj> {
        match self.tasks.get() {
            Some(tasks) => value::set_of(&tasks),
            None => value::set(),
        }
    }
}

/// Closes the coroutine for which no task was made.
fn close_coroutine(args: Args<'_>) -> PyResult<()> {
    let keyword = || {
        let mut keywords = args.keywords();
        let found = keywords.find(|(name, _)| matches!(name.to_str(), Ok("coro")));
        found.map(|(_, value)| value)
    };
    match args.positional().first().copied().or_else(keyword) {
        Some(coro) => coro.method0(intern!("close")).map(drop),
        None => Ok(()),
    }
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<TaskGroup>(c"ioxide.TaskGroup")
        .doc(c"TaskGroup()\n--\n\nTasks that end before the block that started them.\n\nThe first failure \
                cancels the others; failures leave the block as an ExceptionGroup. RuntimeError if it is entered \
                twice, or outside of a task.\n\nNot thread-safe.")
        .constructible::<TaskGroup>()
        .dict(offset_of!(TaskGroup, dict))
        .weak(offset_of!(TaskGroup, weak))
        .slot(
            crate::kit::ffi::Py_tp_repr,
            crate::unary!(TaskGroup, TaskGroup::repr),
        )
        .methods([
            crate::method!(noargs TaskGroup, "__aenter__",
                |this: &TaskGroup| Enter::of(this.as_any()), "Enters; to be awaited in a task."),
            crate::method!(args TaskGroup, "__aexit__", TaskGroup::aexit,
                "Awaits the tasks, then raises what they raised."),
            crate::method!(args TaskGroup, "create_task", TaskGroup::create_task,
                "create_task($self, coro, **kwargs)\n--\n\nMakes a task of the group, with the arguments of \
                    loop.create_task(). RuntimeError before the block and once it has ended or was cancelled."),
            crate::method!(noargs TaskGroup, "cancel", TaskGroup::cancel,
                "Cancels the block and the tasks; the block ends without an exception."),
        ])
        .getset([
            crate::getter!(TaskGroup, "_tasks", TaskGroup::tasks_set, "The tasks that are not done."),
            crate::getter!(TaskGroup, "_errors",
                |this: &TaskGroup| this.errors.get_or_none(), "The exceptions so far, or None."),
            crate::getter!(TaskGroup, "_base_error",
                |this: &TaskGroup| this.base_error.get_or_none(), "What leaves the loop, or None."),
            crate::getter!(TaskGroup, "_parent_task",
                |this: &TaskGroup| this.parent.get_or_none(), "The task that is inside, or None."),
            crate::getter!(TaskGroup, "_loop",
                |this: &TaskGroup| this.event_loop.get_or_none(), "The loop, once entered."),
            crate::getter!(TaskGroup, "_entered",
                |this: &TaskGroup| this.entered.get(), "Whether entered."),
            crate::getter!(TaskGroup, "_exiting",
                |this: &TaskGroup| this.exiting.get(), "Whether the block has ended."),
            crate::getter!(TaskGroup, "_aborting",
                |this: &TaskGroup| this.aborting.get(), "Whether the tasks were cancelled."),
            crate::getter!(TaskGroup, "_parent_cancel_requested",
                |this: &TaskGroup| this.parent_cancel_requested.get(),
                "Whether the group has cancelled its parent."),
        ])
        .build(&CLASS)?;
    Ok(())
}
