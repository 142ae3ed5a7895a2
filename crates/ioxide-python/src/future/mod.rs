//! A future: an outcome that will come, and who waits for it.
//!
//! # States
//! | state | leaves by |
//! |---|---|
//! | Pending | `set_result`, `set_exception`, `cancel` ([`settle`]) |
//! | Finished, Cancelled | never |
//!
//! # Invariants
//! 1. State, outcome and loop stand in the fields of the C base class, so that its getters tell the truth.
//! 2. Waiters stand behind the C base's fields, never in them, and behind what a subclass adds: so the layout is
//!    the C base's, and Task can derive from this class and from `_asyncio.Task` alike. When the future is done
//!    each waiter is made ready once, in the order in which they came.
//! 3. An exception that nobody retrieved is reported when the future dies.

pub(crate) mod awaiting;
pub(crate) mod finalize;
pub(crate) mod settle;
pub(crate) mod view;
pub(crate) mod waiters;

pub(crate) use view::FutureView;
pub(crate) use waiters::{Waiter, Waiters};

use crate::kit::class::{Construct, FreeList};
use crate::kit::{
    err, ffi, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Signature,
    Visitor,
};
use crate::layout::{self, FutureBase};
use crate::runtime::EventLoop;
use crate::{import, intern, raise, running};

/// `ioxide.Future`, a subclass of `_asyncio.Future` with everything but its getters replaced.
#[repr(C)]
pub(crate) struct Future {
    base: FutureBase,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with the base class's struct, and the class is built from it below.
unsafe impl Native for Future {
    type Extra = Waiters;

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        traverse(self.view(), visitor);
    }

    fn clear(&self) {
        clear(self.view());
        #[cfg(Py_3_13)]
        crate::kit::class::clear_managed_dict(self.as_any());
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        !self.base.log_tb()
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn finalize(&self) {
        finalize::report_unretrieved(self.view());
    }

    #[cfg(Py_3_13)]
    fn last_rites(&self) {
        crate::kit::class::clear_managed_dict(self.as_any());
    }
}

impl Construct for Future {
    fn empty() -> Future {
        Future {
            base: FutureBase::empty(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Future", ["loop"], 0)
            .keyword_only_after(0)
            .told_as_in_c();
        let [event_loop] = args.bind(&SIGNATURE)?;
        init(self.view(), event_loop)
    }
}

impl Future {
    pub(crate) fn view(&self) -> FutureView<'_> {
        // SAFETY: an instance of our class.
        unsafe { FutureView::of_native(self.as_any()) }
    }

    /// A pending future of this loop.
    #[inline]
    pub(crate) fn new(event_loop: &Any) -> PyResult<Own<Future>> {
        let made = Future::empty().make()?;
        made.base.event_loop.set(event_loop.own());
        if let Some(native) = EventLoop::of(event_loop) {
            if native.debug() {
                made.base.source_tb.set(extract_stack()?);
            }
        }
        Ok(made)
    }
}

/// `Future.__init__`; the loop defaults to the current one.
pub(crate) fn init(future: FutureView<'_>, event_loop: Option<&Any>) -> PyResult<()> {
    // Before 3.15 a second `__init__` starts the future anew, and CPython's tests of those versions do it.
    #[cfg(Py_3_15)]
    if !future.base.event_loop.is_empty() {
        return Err(raise!(
            err::runtime_error(),
            "{} object is already initialized",
            future.object.full_type_name()?
        ));
    }
    let event_loop = match event_loop.and_then(Any::some) {
        Some(event_loop) => event_loop.own(),
        None => current_loop()?,
    };
    clear(future);
    future.base.set_state(layout::State::Pending);
    future.base.set_log_tb(false);
    future.base.set_blocking(false);
    let debug = loop_debug(&event_loop)?;
    future.base.event_loop.set(event_loop);
    if debug {
        future.base.source_tb.set(extract_stack()?);
    }
    Ok(())
}

/// The running loop, or the current one as the policy has it.
pub(crate) fn current_loop() -> PyResult<Obj> {
    match running::running_loop()? {
        Some(running) => Ok(running),
        None => crate::kit::names::import_now("asyncio.events", "get_event_loop")?.call0(),
    }
}

/// `loop.get_debug()`.
#[inline]
pub(crate) fn loop_debug(event_loop: &Any) -> PyResult<bool> {
    match EventLoop::exact(event_loop) {
        Some(native) => Ok(native.debug()),
        None => event_loop.method0(intern!("get_debug"))?.truthy(),
    }
}

/// Where the object was made, for reports in debug mode.
pub(crate) fn extract_stack() -> PyResult<Obj> {
    import!("traceback", "extract_stack")?.call0()
}

pub(crate) fn traverse(future: FutureView<'_>, visitor: &mut Visitor) {
    let base = future.base;
    visitor.cells([
        &base.event_loop,
        &base.c_callback0,
        &base.c_context0,
        &base.c_callbacks,
        &base.exception,
        &base.exception_tb,
        &base.result,
        &base.source_tb,
        &base.cancel_msg,
        &base.cancelled_exc,
    ]);
    #[cfg(Py_3_14)]
    visitor.cell(&base.awaited_by);
    #[cfg(Py_3_13)]
    crate::kit::class::visit_managed_dict(future.object, visitor);
    future.waiters.traverse(visitor);
}

pub(crate) fn clear(future: FutureView<'_>) {
    let base = future.base;
    ObjCell::clear_all([
        &base.event_loop,
        &base.c_callback0,
        &base.c_context0,
        &base.c_callbacks,
        &base.exception,
        &base.exception_tb,
        &base.result,
        &base.source_tb,
        &base.cancel_msg,
        &base.cancelled_exc,
    ]);
    #[cfg(Py_3_14)]
    {
        base.awaited_by_is_set.set(0);
        base.awaited_by.clear();
    }
    future.waiters.clear();
}

fn add_done_callback(future: FutureView<'_>, args: Args<'_>) -> PyResult<()> {
    const SIGNATURE: Signature<2> =
        Signature::new("add_done_callback", ["fn", "context"], 1).keyword_only_after(1);
    let [callback, context] = args.bind(&SIGNATURE)?;
    view::require_loop(future)?;
    match callback {
        Some(callback) => waiters::add_done_callback(future, callback, context),
        None => Ok(()),
    }
}

/// `remove_done_callback`: how many were removed.
fn remove_done_callback(future: FutureView<'_>, callback: &Any) -> PyResult<usize> {
    view::require_loop(future)?;
    future.waiters.remove_equal(callback)
}

fn set_log_traceback(future: FutureView<'_>, value: Option<&Any>) -> PyResult<()> {
    match value {
        None => Err(raise!(err::attribute_error(), "cannot delete attribute")),
        Some(value) if value.truthy()? => Err(raise!(
            err::value_error(),
            "_log_traceback can only be set to False"
        )),
        Some(_) => {
            future.base.set_log_tb(false);
            Ok(())
        }
    }
}

fn set_blocking(future: FutureView<'_>, value: Option<&Any>) -> PyResult<()> {
    match value {
        None => Err(raise!(err::attribute_error(), "cannot delete attribute")),
        Some(value) => {
            let blocking = value.truthy()?;
            future.base.set_blocking(blocking);
            Ok(())
        }
    }
}

fn get_blocking(future: FutureView<'_>) -> Obj {
    value::bool(future.base.blocking())
}

fn make_iter(future: FutureView<'_>) -> PyResult<Obj> {
    view::require_loop(future)?;
    awaiting::FutureIter::of(future.object)
}

fn set_result(this: &Future, result: &Any) -> PyResult<()> {
    settle::set_result(this.view(), result.own())
}

fn set_exception(this: &Future, exception: &Any) -> PyResult<()> {
    view::require_loop(this.view())?;
    settle::set_exception(this.view(), exception)
}

fn cancel(this: &Future, args: Args<'_>) -> PyResult<bool> {
    const SIGNATURE: Signature<1> = Signature::new("cancel", ["msg"], 0);
    let [message] = args.bind(&SIGNATURE)?;
    settle::cancel(this.view(), message.map(Any::own))
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Future>(c"ioxide.Future")
        .base(layout::c_future()?)
        .doc(c"Future(*, loop=None)\n--\n\nA result that will be there later.\n\nloop: by default the running \
                one, or else the thread's current one. As asyncio.Future: not thread-safe.")
        .constructible::<Future>()
        .slot(
            ffi::Py_tp_iter,
            crate::unary!(Future, |this: &Future| make_iter(this.view())),
        )
        .slot(
            ffi::Py_am_await,
            crate::unary!(Future, |this: &Future| make_iter(this.view())),
        )
        .methods([
            crate::method!(onearg Future, "set_result", set_result,
                "set_result($self, result, /)\n--\n\nSets the result; InvalidStateError if it is done \
                    already."),
            crate::method!(onearg Future, "set_exception", set_exception,
                "set_exception($self, exception, /)\n--\n\nSets the exception, an instance or a class; \
                    InvalidStateError if it is done already, TypeError for StopIteration."),
            crate::method!(args Future, "cancel", cancel,
                "cancel($self, /, msg=None)\n--\n\nCancels the future; False if it is done already. msg is \
                    the argument of the CancelledError."),
            crate::method!(noargs Future, "result", |this: &Future| settle::result(this.view()),
                "The result; raises the exception, CancelledError, or InvalidStateError if not done."),
            crate::method!(noargs Future, "exception", |this: &Future| settle::exception(this.view()),
                "The exception or None; raises CancelledError, or InvalidStateError if not done."),
            crate::method!(args Future, "add_done_callback",
                |this: &Future, args: Args<'_>| add_done_callback(this.view(), args),
                "add_done_callback($self, fn, /, *, context=None)\n--\n\nCalls fn(self) soon \
                    after this is done, in the context, by default a copy of the current one."),
            crate::method!(onearg Future, "remove_done_callback",
                |this: &Future, callback: &Any| remove_done_callback(this.view(), callback),
                "remove_done_callback($self, fn, /)\n--\n\nRemoves every callback that equals fn; returns how \
                    many there were."),
        ])
        .getset([
            crate::getter!(Future, "_callbacks", |this: &Future| waiters::callbacks(this.view()),
                "The pairs (callback, context), or None."),
            crate::getter!(Future, "_asyncio_future_blocking",
                |this: &Future| get_blocking(this.view()),
                |this: &Future, value: Option<&Any>| set_blocking(this.view(), value),
                "Set while a task is about to wait for this."),
            crate::getter!(Future, "_log_traceback",
                |this: &Future| this.view().base.log_tb(),
                |this: &Future, value: Option<&Any>| set_log_traceback(this.view(), value),
                "Whether an exception waits to be retrieved."),
        ])
        .build(&CLASS)?;
    awaiting::build()
}

/// The iterator of a task, which is a future too.
pub(crate) fn iterate(future: FutureView<'_>) -> PyResult<Obj> {
    make_iter(future)
}
