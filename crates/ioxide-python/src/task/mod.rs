//! A task: one coroutine and the right to resume it.
//!
//! The loop is the only caller of [`step::step`]; everyone else may only wake.
//!
//! # States
//! | state | waits for | in the ready queue | leaves by |
//! |---|---|---|---|
//! | Scheduled | – | yes | `step` |
//! | Running | – | no | `suspend`, `finish` |
//! | Parked | `fut_waiter`: a future, or a native awaitable | no | `wake`, `cancel` |
//! | Done | – | no | never |
//!
//! # Invariants
//! 1. A task is in the ready queue at most once.
//! 2. A parked task is owned by what it waits for, so it lives as long as that can wake it.
//! 3. Nothing of the task is borrowed while its coroutine runs: the coroutine may call any method of it.
//! 4. Whether a step is inside of the task's context already is a parameter of that step, never state.

pub(crate) mod awaited_by;
pub(crate) mod cancel;
pub(crate) mod context;
pub(crate) mod eager;
pub(crate) mod registry;
pub(crate) mod step;
pub(crate) mod suspend;
pub(crate) mod wake;

use crate::future::{self, FutureView, Waiters};
use crate::kit::class::{hide, reveal, Construct, FreeList};
use crate::kit::{
    context as contexts, err, ffi, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, Own,
    PyResult, Signature, Visitor,
};
use crate::layout::{self, TaskBase};
use crate::runtime::work::Work;
use crate::runtime::{schedule, EventLoop};
use crate::{import, intern, raise};
use std::sync::atomic::{AtomicI64, Ordering};

/// `ioxide.Task`, a subclass of `_asyncio.Task` with everything but its getters replaced.
#[repr(C)]
pub(crate) struct Task {
    pub(crate) base: TaskBase,
}

/// What stands behind a task: as behind any future, then links in our own list of tasks, on versions whose
/// interpreter has none.
#[derive(Default)]
#[repr(C)]
pub(crate) struct TaskExtra {
    waiters: Waiters,
    #[cfg(not(Py_3_14))]
    links: registry::Links,
}

static CLASS: Class = Class::new();

/// The number in the next default name.
static NEXT_NAME: AtomicI64 = AtomicI64::new(1);

// SAFETY: `repr(C)`, begins with the base class's struct, and the class is built from it below.
unsafe impl Native for Task {
    type Extra = TaskExtra;

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        future::traverse(self.view(), visitor);
        visitor.cells([
            &self.base.fut_waiter,
            &self.base.coro,
            &self.base.name,
            &self.base.context,
        ]);
    }

    fn clear(&self) {
        future::clear(self.view());
        ObjCell::clear_all([
            &self.base.fut_waiter,
            &self.base.coro,
            &self.base.name,
            &self.base.context,
        ]);
        #[cfg(Py_3_13)]
        crate::kit::class::clear_managed_dict(self.as_any());
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        !self.base.future.is_pending() && !self.base.future.log_tb()
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn finalize(&self) {
        if let Err(raised) = self.report_if_pending() {
            err::unraisable(raised, self.as_any());
        }
        future::finalize::report_unretrieved(self.view());
        // As with the weak set of older versions, a task that was given up is on no list any more, even if
        // its finalizer brought it back.
        registry::unregister(self);
    }

    fn last_rites(&self) {
        registry::unregister(self);
        #[cfg(Py_3_13)]
        crate::kit::class::clear_managed_dict(self.as_any());
    }
}

impl Construct for Task {
    fn empty() -> Task {
        Task {
            base: TaskBase::empty(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<5> = Signature::new(
            "Task",
            ["coro", "loop", "name", "context", "eager_start"],
            1,
        )
        .keyword_only_after(1)
        .told_as_in_c();
        let [coro, event_loop, name, context, eager] = args.bind(&SIGNATURE)?;
        let Some(coro) = coro else { return Ok(()) };
        let eager = eager.map_or(Ok(false), Any::truthy)?;
        future::init(self.view(), event_loop)?;
        let event_loop = self.event_loop();
        let native = EventLoop::of(&event_loop);
        let (name, context) = (name.and_then(Any::some), context.and_then(Any::some));
        self.set_up(coro, name, context, native)?;
        if eager && is_running(&event_loop)? {
            return eager::start(self, &event_loop);
        }
        self.schedule_first_step(&event_loop)?;
        registry::register(self, &event_loop)
    }
}

/// `loop.is_running()`.
fn is_running(event_loop: &Any) -> PyResult<bool> {
    match EventLoop::exact(event_loop) {
        Some(native) => Ok(native.is_running()),
        None => event_loop.method0(intern!("is_running"))?.truthy(),
    }
}

impl Task {
    #[inline(always)]
    pub(crate) fn view(&self) -> FutureView<'_> {
        // SAFETY: an instance of our class, which derives from our Future.
        unsafe { FutureView::of_native(self.as_any()) }
    }

    #[inline(always)]
    pub(crate) fn event_loop(&self) -> Obj {
        self.base.future.event_loop.get_or_none()
    }

    /// The context in which the coroutine runs, or `None` for a task that was never set up.
    pub(crate) fn context(&self) -> PyResult<Obj> {
        context::of(self)
    }

    /// A task of a native loop, scheduled; or, if it is `eager` and the loop runs, begun.
    pub(crate) fn spawn(
        event_loop: &EventLoop,
        coro: &Any,
        name: Option<&Any>,
        context: Option<&Any>,
        eager: bool,
    ) -> PyResult<Own<Task>> {
        let eager = eager && event_loop.is_running();
        let task = if eager {
            Task::empty().make()?
        } else {
            // SAFETY: the ready queue answers for the task, and reveals it when it begins, or is dropped.
            unsafe { Task::empty().make_hidden()? }
        };
        task.base.future.event_loop.set(event_loop.as_any().own());
        if event_loop.debug() {
            task.base.future.source_tb.set(future::extract_stack()?);
        }
        task.set_up(coro, name, context, Some(event_loop))?;
        if eager {
            eager::start(&task, event_loop.as_any())?;
            return Ok(task);
        }
        if context.is_none() {
            task.hide_context();
        }
        event_loop.push(Work::Begin(task.clone()));
        registry::register(&task, event_loop.as_any())?;
        Ok(task)
    }

    /// A task that waits for its first step is kept from the collector: the ready queue answers for it, and a crowd
    /// of new tasks is not looked at again and again while it grows. So with its context, if that is its own.
    #[inline]
    fn hide_context(&self) {
        if !self.base.shares_context() {
            // SAFETY: a context takes part in garbage collection, and is revealed with the task.
            unsafe { hide(&self.base.context.get_or_none()) };
        }
    }

    /// Shows the task to the collector: it begins.
    #[inline]
    pub(crate) fn reveal(&self) {
        // SAFETY: both are whole and take part in garbage collection.
        unsafe {
            reveal(self.as_any());
            if !self.base.shares_context() {
                reveal(&self.base.context.get_or_none());
            }
        }
    }

    /// Gives the task its coroutine, name and context.
    fn set_up(
        &self,
        coro: &Any,
        name: Option<&Any>,
        context: Option<&Any>,
        native: Option<&EventLoop>,
    ) -> PyResult<()> {
        self.base.mark_as_task();
        if !is_coroutine(coro)? {
            self.base.set_log_destroy_pending(false);
            return Err(raise!(
                err::type_error(),
                "a coroutine was expected, got {}",
                coro.repr_text()
            ));
        }
        let name = match name {
            Some(name) => as_name(name)?,
            None => value::int(NEXT_NAME.fetch_add(1, Ordering::Relaxed))?,
        };
        if let Some(other) = context.filter(|context| !contexts::is_context(context)) {
            self.base.set_log_destroy_pending(false);
            return Err(raise!(
                err::type_error(),
                "a contextvars.Context was expected, got {}",
                other.repr_text()
            ));
        }
        context::begin(self, context, native)?;
        self.base.fut_waiter.clear();
        self.base.set_must_cancel(false);
        self.base.set_num_cancels(0);
        self.base.set_log_destroy_pending(true);
        self.base.coro.set(coro.own());
        self.base.name.set(name);
        Ok(())
    }

    fn schedule_first_step(&self, event_loop: &Any) -> PyResult<()> {
        match EventLoop::of(event_loop) {
            Some(native) => {
                native.refuse_if_closed()?;
                native.push(Work::Step(self.own()));
                Ok(())
            }
            None => {
                let step = wake::StepCall::of(self, None)?;
                schedule::call_soon(event_loop, &step, &[], &*self.context()?)
            }
        }
    }

    fn report_if_pending(&self) -> PyResult<()> {
        if !self.base.future.is_pending() || !self.base.log_destroy_pending() {
            return Ok(());
        }
        let Some(event_loop) = self.base.future.event_loop.get() else {
            return Ok(());
        };
        let message = "Task was destroyed but it is pending!";
        let report = future::finalize::context_of(message, self.as_any(), intern!("task"))?;
        if let Some(source) = self.base.future.source_tb.get() {
            report.dict_set(intern!("source_traceback"), &source)?;
        }
        event_loop.method(intern!("call_exception_handler"), &[&report])?;
        Ok(())
    }

    /// `_fut_waiter`: what the task waits for. While its wake-up is on the way, libraries that deliver cancellations of
    /// their own (anyio) look for a future that is done or cancelled, which a native awaitable stands in for.
    fn fut_waiter(&self) -> PyResult<Obj> {
        let waiter = self.base.fut_waiter.get_or_none();
        match crate::awaitable::wait_of(&waiter) {
            Some(wait) if !wait.is_waiting() => wait.as_done_future(&self.event_loop()),
            _ => Ok(waiter),
        }
    }

    /// The name; a default one is a number until somebody asks.
    fn name(&self) -> PyResult<Obj> {
        let name = self.base.name.get_or_none();
        if !name.is_int() {
            return Ok(name);
        }
        let text = value::str(&format!("Task-{}", name.to_i64()?))?;
        self.base.name.set(text.clone());
        Ok(text)
    }

    fn set_name(&self, name: &Any) -> PyResult<()> {
        self.base.name.set(as_name(name)?);
        Ok(())
    }
}

fn as_name(name: &Any) -> PyResult<Obj> {
    // SAFETY: alive.
    if unsafe { ffi::PyUnicode_CheckExact(name.raw()) != 0 } {
        return Ok(name.own());
    }
    // SAFETY: alive; a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyObject_Str(name.raw())) }
}

/// What a task can run: `asyncio.iscoroutine`.
#[inline]
pub(crate) fn is_coroutine(object: &Any) -> PyResult<bool> {
    // SAFETY: alive.
    if unsafe { ffi::PyCoro_CheckExact(object.raw()) != 0 } || crate::awaitable::is_native(object) {
        return Ok(true);
    }
    import!("asyncio.coroutines", "iscoroutine")?
        .call1(object)?
        .truthy()
}

fn refuse_set(this: &Task, what: &str) -> crate::kit::Raised {
    let _ = this;
    raise!(
        err::runtime_error(),
        "Task does not support {what} operation"
    )
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Task>(c"ioxide.Task")
        .base(future::Future::class().object())
        .base(layout::c_task()?)
        .doc(c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\nA coroutine that \
                runs on a loop.\n\nloop: by default the running one, or else the thread's current one. name: by \
                default Task- and a number. context: the contextvars.Context, by default a copy of the current \
                one. eager_start: whether it begins at once, which takes the running loop. As asyncio.Task: not \
                thread-safe.")
        .constructible::<Task>()
        .slot(ffi::Py_tp_iter, crate::unary!(Task, |this: &Task| future::iterate(this.view())))
        .slot(ffi::Py_am_await, crate::unary!(Task, |this: &Task| future::iterate(this.view())))
        .methods([
            crate::method!(args Task, "cancel", cancel::cancel,
                "cancel($self, /, msg=None)\n--\n\nThrows CancelledError(msg) into the coroutine at its next \
                    chance; False if it is done."),
            crate::method!(noargs Task, "cancelling", cancel::cancelling,
                "How many requests to cancel are pending."),
            crate::method!(noargs Task, "uncancel", cancel::uncancel,
                "Takes back one request to cancel; returns how many remain."),
            crate::method!(noargs Task, "get_name", Task::name, "The name."),
            crate::method!(onearg Task, "set_name", Task::set_name,
                "set_name($self, value, /)\n--\n\nSets the name, made a string."),
            crate::method!(noargs Task, "get_context", Task::context, "The contextvars.Context."),
            crate::method!(onearg Task, "set_result",
                |this: &Task, _: &Any| -> PyResult<()> { Err(refuse_set(this, "set_result")) },
                "set_result($self, result, /)\n--\n\nRuntimeError: a task sets its own result."),
            crate::method!(onearg Task, "set_exception",
                |this: &Task, _: &Any| -> PyResult<()> { Err(refuse_set(this, "set_exception")) },
                "set_exception($self, exception, /)\n--\n\nRuntimeError: a task sets its own exception."),
        ])
        .getset([crate::getter!(Task, "_fut_waiter", Task::fut_waiter, "What the task waits for.")])
        .build(&CLASS)?;
    wake::build()?;
    registry::prepare()
}
