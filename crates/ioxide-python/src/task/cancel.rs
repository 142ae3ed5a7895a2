//! Asking a task to stop.

use super::Task;
use crate::awaitable;
use crate::combine::gather::Gathering;
use crate::future::{settle, Future};
use crate::kit::{Any, Args, Native, Obj, PyResult, Signature};
use crate::{intern, kit};

/// `Task.cancel(msg=None)`.
pub(crate) fn cancel(task: &Task, args: Args<'_>) -> PyResult<bool> {
    const SIGNATURE: Signature<1> = Signature::new("cancel", ["msg"], 0);
    let [message] = args.bind(&SIGNATURE)?;
    request(task, message)
}

/// Requests the cancellation: false if the task is done.
pub(crate) fn request(task: &Task, message: Option<&Any>) -> PyResult<bool> {
    let base = &task.base;
    base.future.set_log_tb(false);
    if !base.future.is_pending() {
        return Ok(false);
    }
    base.set_num_cancels(base.num_cancels() + 1);
    if let Some(waiter) = base.fut_waiter.get() {
        if cancel_awaited(&waiter, message)? {
            return Ok(true);
        }
    }
    base.set_must_cancel(true);
    drop(base.future.cancel_msg.replace(message.map(Any::own)));
    Ok(true)
}

/// Passes a cancellation on to what the task waits for, with the task's message.
pub(crate) fn cancel_waiter(task: &Task, awaited: &Any) -> PyResult<bool> {
    cancel_awaited(awaited, task.base.future.cancel_msg.get().as_deref())
}

/// Cancels whatever a task can wait for.
fn cancel_awaited(awaited: &Any, message: Option<&Any>) -> PyResult<bool> {
    if let Some(wait) = awaitable::wait_of(awaited) {
        return Ok(wait.cancel(message.map(Any::own)));
    }
    if let Some(task) = awaited.exact::<Task>() {
        // Tasks may wait for each other in a long chain, or in a circle.
        return kit::call::recursive(c" while cancelling a task", || request(task, message));
    }
    if let Some(future) = awaited.exact::<Future>() {
        return settle::cancel(future.view(), message.map(Any::own));
    }
    if let Some(gathering) = awaited.exact::<Gathering>() {
        return gathering.cancel(message);
    }
    let method = awaited.attr(intern!("cancel"))?;
    let none = Obj::none();
    method
        .call_with(&[], &[(intern!("msg"), message.unwrap_or(&none))])?
        .truthy()
}

/// Cancels any future or task, native or not: what `gather`, `wait_for` and others do to their children.
pub(crate) fn cancel_any(awaited: &Any, message: Option<&Any>) -> PyResult<bool> {
    cancel_awaited(awaited, message)
}

pub(crate) fn cancelling(task: &Task) -> PyResult<Obj> {
    kit::value::int(task.base.num_cancels().into())
}

/// `Task.uncancel()`: with the last request gone, a cancellation that was not delivered yet is forgotten.
pub(crate) fn uncancel(task: &Task) -> PyResult<Obj> {
    let count = task.base.num_cancels();
    if count > 0 {
        task.base.set_num_cancels(count - 1);
        if count == 1 {
            task.base.set_must_cancel(false);
        }
    }
    debug_assert!(Task::class().is_instance(task.as_any()));
    cancelling(task)
}

/// `cancelling()` of any task.
#[inline]
pub(crate) fn cancelling_any(task: &Any) -> PyResult<i64> {
    match task.exact::<Task>() {
        Some(task) => Ok(task.base.num_cancels().into()),
        None => task.method0(intern!("cancelling"))?.to_i64(),
    }
}

/// `uncancel()` of any task.
pub(crate) fn uncancel_any(task: &Any) -> PyResult<i64> {
    match task.exact::<Task>() {
        Some(task) => uncancel(task)?.to_i64(),
        None => task.method0(intern!("uncancel"))?.to_i64(),
    }
}
