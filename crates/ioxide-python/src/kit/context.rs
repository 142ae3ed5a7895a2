//! `contextvars`: copying the current context, running inside of one.

use super::{ffi, Any, Obj, PyResult, Raised};

/// A copy of the current context.
#[inline]
pub(crate) fn copy_current() -> PyResult<Obj> {
    // SAFETY: a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyContext_CopyCurrent()) }
}

/// A copy of this context.
pub(crate) fn copy(context: &Any) -> PyResult<Obj> {
    // SAFETY: a context (anything else is an error); a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyContext_Copy(context.raw())) }
}

/// Whether the object is a `contextvars.Context`.
pub(crate) fn is_context(object: &Any) -> bool {
    // SAFETY: alive.
    unsafe { ffi::PyContext_CheckExact(object.raw()) != 0 }
}

/// Runs `f` inside of the context. An exception that `f` leaves set stays set.
///
/// Fails with `RuntimeError` when somebody is inside of it already.
#[inline]
pub(crate) fn within<R>(context: &Any, f: impl FnOnce() -> R) -> PyResult<R> {
    // SAFETY: a context; entered and left in pairs on one thread.
    unsafe {
        if ffi::PyContext_Enter(context.raw()) != 0 {
            return Err(Raised);
        }
        let result = f();
        if ffi::PyContext_Exit(context.raw()) != 0 {
            // Only code that meddled with the stack of contexts gets here; what `f` raised is lost to it.
            return Err(Raised);
        }
        Ok(result)
    }
}
