//! A future seen without regard to its class: the parts that Future and Task share.

use super::{Future, Waiters};
use crate::combine::gather::Gathering;
use crate::kit::{err, Any, Native, Obj, PyResult};
use crate::layout::FutureBase;
use crate::raise;
use crate::task::Task;

/// The shared parts of a native future.
#[derive(Clone, Copy)]
pub(crate) struct FutureView<'a> {
    pub(crate) object: &'a Any,
    pub(crate) base: &'a FutureBase,
    pub(crate) waiters: &'a Waiters,
}

impl<'a> FutureView<'a> {
    /// The view of an instance of our Future, which our Task is too.
    ///
    /// # Safety
    /// The object is one.
    #[inline(always)]
    pub(crate) unsafe fn of_native(object: &'a Any) -> FutureView<'a> {
        // SAFETY: by the caller's promise: the C base's fields come first, the waiters behind the body.
        unsafe {
            FutureView {
                object,
                base: &*object.raw().cast::<FutureBase>(),
                waiters: crate::kit::class::extra::<Waiters>(object),
            }
        }
    }

    /// The view of a native future, or nothing for any other object.
    #[inline]
    pub(crate) fn of(object: &'a Any) -> Option<FutureView<'a>> {
        let native = is_exact(object) || Future::class().is_instance(object);
        // SAFETY: just checked.
        native.then(|| unsafe { FutureView::of_native(object) })
    }

    /// As [`FutureView::of`], for objects of exactly our classes, whose methods nobody has overridden (but for
    /// `cancel`, which each has its own: see [`cancel_any`](crate::task::cancel::cancel_any)).
    #[inline]
    pub(crate) fn exact(object: &'a Any) -> Option<FutureView<'a>> {
        // SAFETY: just checked.
        is_exact(object).then(|| unsafe { FutureView::of_native(object) })
    }
}

#[inline(always)]
fn is_exact(object: &Any) -> bool {
    let class = object.type_raw();
    class == Task::class().raw()
        || class == Future::class().raw()
        || class == Gathering::class().raw()
}

/// The future's loop, or asyncio's error for one whose `__init__` never ran.
pub(crate) fn require_loop(future: FutureView<'_>) -> PyResult<Obj> {
    future.base.event_loop.get().ok_or_else(|| {
        raise!(
            err::runtime_error(),
            "{} object is not initialized.",
            name(future)
        )
    })
}

fn name(future: FutureView<'_>) -> &'static str {
    if Task::class().is_instance(future.object) {
        "Task"
    } else {
        "Future"
    }
}
