//! The outcome of a future: setting it once, and reading it.

use super::view::{require_loop, FutureView};
use super::waiters::schedule_all;
use crate::errors;
use crate::kit::{err, ffi, Any, Obj, PyResult, Raised};
use crate::layout::State;
use crate::{intern, raise};

/// `set_result`.
#[inline]
pub(crate) fn set_result(future: FutureView<'_>, result: Obj) -> PyResult<()> {
    refuse_unless_pending(future)?;
    future.base.result.set(result);
    future.base.set_state(State::Finished);
    schedule_all(future)
}

#[inline]
fn refuse_unless_pending(future: FutureView<'_>) -> PyResult<()> {
    if future.base.event_loop.is_empty() {
        require_loop(future)?;
    }
    if !future.base.is_pending() {
        return Err(err::raise(errors::invalid_state()?, "invalid state"));
    }
    Ok(())
}

/// `set_exception`: takes an instance or a class.
pub(crate) fn set_exception(future: FutureView<'_>, exception: &Any) -> PyResult<()> {
    refuse_unless_pending(future)?;
    let exception = instance_of(exception)?;
    let traceback = traceback_of(&exception);
    future.base.exception_tb.replace(traceback);
    future.base.exception.set(exception);
    future.base.set_state(State::Finished);
    schedule_all(future)?;
    future.base.set_log_tb(true);
    Ok(())
}

fn traceback_of(exception: &Any) -> Option<Obj> {
    // SAFETY: an exception instance; a new reference or null without an error.
    unsafe {
        let traceback = ffi::PyException_GetTraceback(exception.raw());
        (!traceback.is_null()).then(|| Obj::steal(traceback))
    }
}

/// An exception instance that may stand in a future.
fn instance_of(exception: &Any) -> PyResult<Obj> {
    // SAFETY: alive; a class is made into an instance by a call without arguments.
    let is_class = unsafe { ffi::PyExceptionClass_Check(exception.raw()) != 0 };
    let made = if is_class {
        exception.call0()?
    } else {
        exception.own()
    };
    // SAFETY: alive.
    if unsafe { ffi::PyExceptionInstance_Check(made.raw()) == 0 } {
        return Err(raise!(err::type_error(), "invalid exception object"));
    }
    if !err::is_a(&made, err::stop_iteration()) {
        return Ok(made);
    }
    if refuses_stop_iteration() {
        return Err(raise!(err::type_error(), "{NO_STOP_ITERATION}"));
    }
    wrap_stop_iteration(&made)
}

const NO_STOP_ITERATION: &str =
    "StopIteration interacts badly with generators and cannot be raised into a Future";

/// The exception that stands in a future for a `StopIteration`: awaiting it must raise, not return.
pub(crate) fn wrap_stop_iteration(stop: &Any) -> PyResult<Obj> {
    let replacement = err::take(raise!(err::runtime_error(), "{NO_STOP_ITERATION}"));
    replacement.set_attr(intern!("__cause__"), stop)?;
    replacement.set_attr(intern!("__context__"), stop)?;
    Ok(replacement)
}

/// Releases before 3.11.8 and 3.12.2 refuse a `StopIteration`, later ones wrap it.
fn refuses_stop_iteration() -> bool {
    // SAFETY: a constant of the running interpreter.
    let version = unsafe { ffi::Py_Version } >> 8;
    version < 0x030b08 || (0x030c00..0x030c02).contains(&version)
}

/// Cancels a future whatever it is: false if it was done already.
pub(crate) fn cancel(future: FutureView<'_>, message: Option<Obj>) -> PyResult<bool> {
    if future.base.event_loop.is_empty() {
        require_loop(future)?;
    }
    future.base.set_log_tb(false);
    if !future.base.is_pending() {
        return Ok(false);
    }
    future.base.set_state(State::Cancelled);
    drop(future.base.cancel_msg.replace(message));
    schedule_all(future)?;
    Ok(true)
}

/// `CancelledError(message)`, as `_make_cancelled_error` makes it.
pub(crate) fn cancelled_error(message: Option<&Any>) -> PyResult<Obj> {
    let class = errors::cancelled()?;
    match message.and_then(Any::some) {
        Some(message) => class.call1(message),
        None => class.call0(),
    }
}

/// The exception that a cancelled future raises: the one that ended the task, the first time.
pub(crate) fn take_cancelled_error(future: FutureView<'_>) -> PyResult<Obj> {
    if let Some(exception) = future.base.cancelled_exc.take() {
        return Ok(exception);
    }
    cancelled_error(future.base.cancel_msg.get().as_deref())
}

/// How a future that is done ended.
pub(crate) enum Outcome {
    Returned(Obj),
    Failed(Obj),
}

/// The outcome; marks an exception as retrieved. Not being done is an error.
#[inline]
pub(crate) fn outcome(future: FutureView<'_>) -> PyResult<Outcome> {
    let base = future.base;
    match base.state() {
        State::Finished => {
            if base.exception.is_empty() {
                return Ok(Outcome::Returned(base.result.get_or_none()));
            }
            base.set_log_tb(false);
            retrieve_exception(future).map(Outcome::Failed)
        }
        State::Cancelled => take_cancelled_error(future).map(Outcome::Failed),
        State::Pending => Err(not_done(future, "Result is not set.")),
    }
}

#[cold]
fn not_done(future: FutureView<'_>, message: &str) -> Raised {
    match errors::invalid_state() {
        Ok(class) if future.base.event_loop.is_empty() => {
            err::raise(class, "Future object is not initialized.")
        }
        Ok(class) => err::raise(class, message),
        Err(raised) => raised,
    }
}

/// The exception with the traceback that it had when it was set.
fn retrieve_exception(future: FutureView<'_>) -> PyResult<Obj> {
    let exception = future.base.exception.get_or_none();
    let traceback = future.base.exception_tb.take().unwrap_or_else(Obj::none);
    // SAFETY: an exception and a traceback or `None`.
    if unsafe { ffi::PyException_SetTraceback(exception.raw(), traceback.raw()) } < 0 {
        return Err(Raised);
    }
    Ok(exception)
}

/// `result()`.
#[inline]
pub(crate) fn result(future: FutureView<'_>) -> PyResult<Obj> {
    match outcome(future)? {
        Outcome::Returned(value) => Ok(value),
        Outcome::Failed(exception) => Err(err::raise_instance(&exception)),
    }
}

/// `exception()`.
pub(crate) fn exception(future: FutureView<'_>) -> PyResult<Obj> {
    match future.base.state() {
        State::Cancelled => Err(err::raise_instance(&*take_cancelled_error(future)?)),
        State::Pending => Err(not_done(future, "Exception is not set.")),
        State::Finished => {
            future.base.set_log_tb(false);
            Ok(future.base.exception.get_or_none())
        }
    }
}

/// The exception that a future's outcome throws into who waits for it, if it throws one.
#[inline]
pub(crate) fn thrown(future: FutureView<'_>) -> PyResult<Option<Obj>> {
    if future.base.state() == State::Finished && future.base.exception.is_empty() {
        return Ok(None);
    }
    match outcome(future)? {
        Outcome::Returned(_) => Ok(None),
        Outcome::Failed(exception) => Ok(Some(exception)),
    }
}
