//! Resuming coroutines, and answering `send` from native awaitables.

use super::{err, ffi, Any, Obj, PyResult, Raised, Raw};
use crate::intern;
use std::ptr;

/// What a coroutine did when it was resumed.
pub(crate) enum Sent {
    Yielded(Obj),
    Returned(Obj),
}

/// `coroutine.send(None)`, without an exception for its return.
#[inline]
pub(crate) fn send_none(coroutine: &Any) -> PyResult<Sent> {
    let mut result = ptr::null_mut();
    // SAFETY: both are alive; a new reference is stored unless the outcome is an error.
    unsafe {
        match ffi::PyIter_Send(coroutine.raw(), ffi::Py_None(), &mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yielded(Obj::steal(result))),
            ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Returned(Obj::steal(result))),
            ffi::PySendResult::PYGEN_ERROR => Err(Raised),
        }
    }
}

/// `coroutine.throw(exception)`.
pub(crate) fn throw(coroutine: &Any, exception: &Any) -> PyResult<Sent> {
    match coroutine.method(intern!("throw"), &[exception]) {
        Ok(yielded) => Ok(Sent::Yielded(yielded)),
        Err(raised) => stop_value(raised).map(Sent::Returned),
    }
}

/// The value of the `StopIteration` that is set; any other exception stands.
pub(crate) fn stop_value(raised: Raised) -> PyResult<Obj> {
    if !err::matches(err::stop_iteration()) {
        return Err(raised);
    }
    err::take(raised).attr(intern!("value"))
}

/// Sets `StopIteration(value)`, by which an iterator returns `value`.
pub(crate) fn stop_iteration(value: Obj) -> Raised {
    match err::stop_iteration().call1(&value) {
        Ok(exception) => err::restore(exception),
        Err(raised) => raised,
    }
}

/// The outcome of a step as `tp_iternext` tells it. Null without an exception ends with `None`.
pub(crate) fn iternext(step: impl FnOnce() -> PyResult<Sent>) -> Raw {
    match caught(step) {
        Ok(Sent::Yielded(object)) => object.into_raw(),
        Ok(Sent::Returned(value)) => {
            if !value.is_none() {
                let _ = super::stop::set(value);
            }
            ptr::null_mut()
        }
        Err(Raised) => ptr::null_mut(),
    }
}

/// The outcome of a step as `am_send` tells it.
///
/// # Safety
/// `result` is a place for a reference.
pub(crate) unsafe fn am_send(
    result: *mut Raw,
    step: impl FnOnce() -> PyResult<Sent>,
) -> ffi::PySendResult {
    let (status, object) = match caught(step) {
        Ok(Sent::Yielded(object)) => (ffi::PySendResult::PYGEN_NEXT, object.into_raw()),
        Ok(Sent::Returned(value)) => (ffi::PySendResult::PYGEN_RETURN, value.into_raw()),
        Err(Raised) => (ffi::PySendResult::PYGEN_ERROR, ptr::null_mut()),
    };
    // SAFETY: by the caller's promise.
    unsafe { *result = object };
    status
}

/// The outcome of a step as a method call tells it: a return is `StopIteration`.
pub(crate) fn as_call(step: PyResult<Sent>) -> PyResult<Obj> {
    match step? {
        Sent::Yielded(object) => Ok(object),
        Sent::Returned(value) => Err(stop_iteration(value)),
    }
}

/// Runs `f` at the boundary: a panic becomes an exception.
#[inline(always)]
fn caught<R>(f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        super::class::panicked(&*payload);
        Err(Raised)
    })
}
