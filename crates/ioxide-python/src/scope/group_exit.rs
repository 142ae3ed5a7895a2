//! The end of a task group: awaiting the tasks, and deciding what is raised.

use super::task_group::TaskGroup;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::errors;
use crate::kit::{err, ffi, value, Any, Class, Native, Obj, ObjCell, PyResult, Raised, Visitor};
use crate::task::cancel;
use crate::{import, intern};

/// What `TaskGroup.__aexit__` returns.
pub(crate) type GroupExit = Waiting<GroupExitState>;

pub(crate) struct GroupExitState {
    group: ObjCell,
    /// What leaves the block: its class, and the exception.
    class: ObjCell,
    exception: ObjCell,
    /// The cancellation to be raised at the end, if there is nothing worse.
    propagate: ObjCell,
    /// The last cancellation that came while waiting.
    cancellation: ObjCell,
}

static CLASS: Class = Class::new();

impl GroupExit {
    fn cells(&self) -> [&ObjCell; 5] {
        [
            &self.group,
            &self.class,
            &self.exception,
            &self.propagate,
            &self.cancellation,
        ]
    }
}

impl Awaitable for GroupExit {
    const NAME: &'static str = "TaskGroup.__aexit__";

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.cells().into_iter().for_each(|cell| visitor.cell(cell));
    }

    fn unlink(&self) {
        self.cells().into_iter().for_each(ObjCell::clear);
    }

    fn start(&self) -> PyResult<Flow> {
        let held = self.group.get_or_none();
        let Some(group) = held.cast::<TaskGroup>() else {
            return Ok(Flow::Return(value::bool(true)));
        };
        let begun = self.begin(group);
        self.go_on(group, begun)
    }

    fn resume(&self) -> PyResult<Flow> {
        let held = self.group.get_or_none();
        match held.cast::<TaskGroup>() {
            Some(group) => self.go_on(group, Ok(())),
            None => Ok(Flow::Return(value::bool(true))),
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        let held = self.group.get_or_none();
        let Some(group) = held.cast::<TaskGroup>() else {
            return Err(err::raise_instance(&exception));
        };
        let noted = self.note(group, exception);
        self.go_on(group, noted)
    }
}

impl GroupExit {
    pub(crate) fn of(
        group: &TaskGroup,
        class: Option<&Any>,
        exception: Option<&Any>,
    ) -> PyResult<Obj> {
        let body = GroupExit::with(GroupExitState {
            group: ObjCell::new(group.as_any().own()),
            class: ObjCell::empty(),
            exception: ObjCell::empty(),
            propagate: ObjCell::empty(),
            cancellation: ObjCell::empty(),
        });
        drop(body.class.replace(class.map(Any::own)));
        drop(body.exception.replace(exception.map(Any::own)));
        Ok(body.make()?.into_obj())
    }

    /// The last task is done.
    pub(crate) fn wake(&self) -> PyResult<()> {
        self.wait.wake()
    }

    fn begin(&self, group: &TaskGroup) -> PyResult<()> {
        group.begin_exit();
        if let Some(exception) = self.exception.get() {
            group.note_base_error(&exception);
        }
        if let Some(class) = self.class.get() {
            if err::is_a(&class, errors::cancelled()?) {
                drop(self.propagate.replace(self.exception.get()));
            }
            if !group.is_aborting() {
                group.abort()?;
            }
        }
        Ok(())
    }

    /// Notes a cancellation that came while waiting; anything else ends the waiting.
    fn note(&self, group: &TaskGroup, exception: Obj) -> PyResult<()> {
        if !err::is_a(&exception, errors::cancelled()?) {
            return Err(err::raise_instance(&exception));
        }
        if !group.is_aborting() {
            self.propagate.set(exception.clone());
            self.cancellation.set(exception);
            return group.abort();
        }
        self.cancellation.set(exception);
        Ok(())
    }

    /// Waits on while there are tasks, else ends.
    fn go_on(&self, group: &TaskGroup, so_far: PyResult<()>) -> PyResult<Flow> {
        let outcome = match so_far.and_then(|()| group.has_tasks()) {
            Ok(true) => {
                group.set_exit(Some(self));
                return Ok(Flow::Park);
            }
            Ok(false) => self.conclude(group),
            Err(raised) => Err(raised),
        };
        err::preserved(|| {
            group.forget();
            self.cells().into_iter().for_each(ObjCell::clear);
        });
        outcome.map(|()| Flow::Return(value::bool(true)))
    }

    /// All tasks are done: what is to be raised is raised, everything else was told to somebody.
    fn conclude(&self, group: &TaskGroup) -> PyResult<()> {
        if let Some(exception) = group.base_error.get() {
            return Err(err::raise_instance(&exception));
        }
        let parent = group.parent.get_or_none();
        if group.parent_cancel_requested.get() {
            // What the group asked for is taken back, whatever became of it.
            if cancel::uncancel_any(&parent)? == 0 {
                self.propagate.clear();
            } else if self.propagate.is_empty() {
                // The cancellation that remains is somebody else's.
                drop(self.propagate.replace(self.cancellation.get()));
            }
        }
        if group.errors.is_empty() {
            if let Some(cancellation) = self.propagate.get() {
                return Err(err::raise_instance(&cancellation));
            }
        }
        if let Some(class) = self.class.get() {
            if !err::is_a(&class, errors::cancelled()?) {
                group.add_error(&self.exception.get_or_none())?;
            }
        }
        match group.errors.get() {
            Some(errors) => self.raise_errors(&parent, &errors),
            None => Ok(()),
        }
    }

    fn raise_errors(&self, parent: &Any, failures: &Any) -> PyResult<()> {
        if cancel::cancelling_any(parent)? > 0 {
            // Cancelled from outside: asked again, now that nothing of the group is in the way.
            cancel::uncancel_any(parent)?;
            crate::combine::child::cancel(parent)?;
        }
        if let (Some(class), Some(exception)) = (self.class.get(), self.exception.get()) {
            // The end of an asynchronous generator is not a failure, unless something else failed too.
            if err::is_a(&class, err::generator_exit()) && failures.len()? == 1 {
                return Err(err::raise_instance(&exception));
            }
        }
        Err(raise_group(failures)?)
    }
}

/// `raise BaseExceptionGroup(..., errors) from None`.
fn raise_group(failures: &Any) -> PyResult<Raised> {
    let class = import!("builtins", "BaseExceptionGroup")?;
    let group = class.call(&[intern!("unhandled errors in a TaskGroup"), failures])?;
    // SAFETY: an exception; no cause, which also hides the context.
    unsafe { ffi::PyException_SetCause(group.raw(), std::ptr::null_mut()) };
    Ok(err::raise_instance(&group))
}

pub(crate) fn build() -> PyResult<()> {
    spec::<GroupExit>(c"ioxide.TaskGroupExit").build(&CLASS)?;
    Ok(())
}
