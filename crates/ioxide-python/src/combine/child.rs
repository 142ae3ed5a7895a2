//! A future as those who combine futures see it: ours by its fields, any other by its methods.

use crate::future::{settle, waiters, FutureView};
use crate::intern;
use crate::kit::{Any, Obj, Own, PyResult};
use crate::layout::State;
use crate::runtime::target::Target;
use crate::task::{cancel, Task};

#[inline]
pub(crate) fn is_done(future: &Any) -> PyResult<bool> {
    match FutureView::exact(future) {
        Some(view) => Ok(!view.base.is_pending()),
        None => future.method0(intern!("done"))?.truthy(),
    }
}

#[inline]
pub(crate) fn is_cancelled(future: &Any) -> PyResult<bool> {
    match FutureView::exact(future) {
        Some(view) => Ok(view.base.state() == State::Cancelled),
        None => future.method0(intern!("cancelled"))?.truthy(),
    }
}

/// The exception of a future that is done and not cancelled, marked as retrieved.
#[inline]
pub(crate) fn exception(future: &Any) -> PyResult<Option<Obj>> {
    let found = match FutureView::exact(future) {
        Some(view) if view.base.exception.is_empty() => return Ok(None),
        Some(view) => settle::exception(view)?,
        None => future.method0(intern!("exception"))?,
    };
    Ok((!found.is_none()).then_some(found))
}

/// `result()`.
#[inline]
pub(crate) fn result(future: &Any) -> PyResult<Obj> {
    match FutureView::exact(future) {
        Some(view) => settle::result(view),
        None => future.method0(intern!("result")),
    }
}

/// The exception that a cancelled future raises.
pub(crate) fn cancelled_error(future: &Any) -> PyResult<Obj> {
    match FutureView::exact(future) {
        Some(view) => settle::take_cancelled_error(view),
        None => future.method0(intern!("_make_cancelled_error")),
    }
}

/// `cancel()`.
pub(crate) fn cancel(future: &Any) -> PyResult<bool> {
    match future.exact::<Task>() {
        Some(task) => cancel::request(task, None),
        None if FutureView::exact(future).is_some() => cancel::cancel_any(future, None),
        None => future.method0(intern!("cancel"))?.truthy(),
    }
}

/// Tells `target` when the future is done, in the turn after.
#[inline]
pub(crate) fn listen(future: &Any, target: &Own<Target>) -> PyResult<()> {
    match FutureView::exact(future) {
        Some(view) => waiters::add_target(view, target),
        None => {
            let callable = target.callable()?;
            future
                .method(intern!("add_done_callback"), &[&callable])
                .map(drop)
        }
    }
}

/// Undoes [`listen`], as long as the future is pending.
#[inline]
pub(crate) fn unlisten(future: &Any, target: &Own<Target>) -> PyResult<()> {
    match FutureView::exact(future) {
        Some(view) => {
            view.waiters.remove_target(target.as_obj());
            Ok(())
        }
        None => {
            let callable = target.callable()?;
            future
                .method(intern!("remove_done_callback"), &[&callable])
                .map(drop)
        }
    }
}

/// Silences the report about a task that is destroyed while pending, for one that nobody else can reach.
pub(crate) fn mute(future: &Any) -> PyResult<()> {
    match future.exact::<Task>() {
        Some(task) => {
            task.base.set_log_destroy_pending(false);
            Ok(())
        }
        None => {
            let no = crate::kit::value::bool(false);
            future.set_attr(intern!("_log_destroy_pending"), &no)
        }
    }
}
