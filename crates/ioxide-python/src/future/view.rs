//! A future seen without regard to its class: the parts that Future and Task share.

use super::{Future, Waiters};
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
    /// The view of a native future, or nothing for any other object.
    #[inline]
    pub(crate) fn of(object: &'a Any) -> Option<FutureView<'a>> {
        if let Some(task) = object.exact::<Task>() {
            return Some(task.view());
        }
        if let Some(future) = object.exact::<Future>() {
            return Some(future.view());
        }
        if let Some(task) = object.cast::<Task>() {
            return Some(task.view());
        }
        object.cast::<Future>().map(Future::view)
    }

    /// As [`FutureView::of`], for objects of exactly our classes, whose methods nobody has overridden.
    #[inline]
    pub(crate) fn exact(object: &'a Any) -> Option<FutureView<'a>> {
        if let Some(task) = object.exact::<Task>() {
            return Some(task.view());
        }
        object.exact::<Future>().map(Future::view)
    }
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
