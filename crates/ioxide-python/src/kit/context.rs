//! `contextvars`: copying the current context, running inside of one, and telling whether it has changed.

use super::{ffi, value::check, Any, Obj, PyResult, Raised, Raw};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Words from the start of the thread state to the current context; 0 as long as that is not known.
static CURRENT_WORD: AtomicUsize = AtomicUsize::new(0);

/// The words of a `contextvars.Context`, which have not changed since there are contexts. [`find`] makes sure.
#[repr(C)]
struct Layout {
    head: super::Head,
    previous: Raw,
    /// The immutable mapping of variables to values: another one as soon as a variable is set.
    variables: Raw,
    weak_references: Raw,
}

#[inline(always)]
fn thread_state() -> *mut Raw {
    // SAFETY: the lock is held, so there is a thread state.
    unsafe { ffi::PyThreadState_Get() }.cast()
}

/// Learns, once, where the current context stands. Where it cannot be found nothing is shared.
pub(crate) fn find() -> PyResult<()> {
    const FARTHEST: usize = 400;
    // SAFETY: contexts and variables are made, entered and left in order; words of this thread's own state
    // are read up to the first match.
    unsafe {
        let context = Obj::steal_or_raised(ffi::PyContext_New())?;
        let variable = Obj::steal_or_raised(ffi::PyContextVar_New(
            c"ioxide.probe".as_ptr(),
            std::ptr::null_mut(),
        ))?;
        check(ffi::PyContext_Enter(context.raw()))?;
        let found = (0..FARTHEST).find(|index| *thread_state().add(*index) == context.raw());
        let before = variables(&context);
        let token = ffi::PyContextVar_Set(variable.raw(), variable.raw());
        let after = variables(&context);
        let weak = (*context.type_raw()).tp_weaklistoffset as usize
            == std::mem::offset_of!(Layout, weak_references);
        check(ffi::PyContext_Exit(context.raw()))?;
        drop(Obj::steal_or_raised(token)?);
        if let Some(index) = found.filter(|_| weak && before != after && !before.is_null()) {
            CURRENT_WORD.store(index, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Which variables a context has, as an address that says only "the same" or "others".
///
/// # Safety
/// The object is a `contextvars.Context`.
#[inline(always)]
unsafe fn variables(context: &Any) -> Raw {
    // SAFETY: by the caller's promise and the probe.
    unsafe { (*context.raw().cast::<Layout>()).variables }
}

/// Whether both contexts have the very same variables and values.
#[inline(always)]
pub(crate) fn is_same(one: &Any, other: &Any) -> bool {
    debug_assert!(is_context(one) && is_context(other));
    // SAFETY: contexts.
    unsafe { variables(one) == variables(other) }
}

/// Whether nobody but `holders` counted references can find this context any more.
#[inline(always)]
pub(crate) fn is_held_only_by(holders: isize, context: &Any) -> bool {
    debug_assert!(is_context(context));
    // SAFETY: a context, by the probe.
    let weak = unsafe { (*context.raw().cast::<Layout>()).weak_references };
    context.refcount() == holders && weak.is_null()
}

/// The current context, borrowed, where it can be seen without a copy.
#[inline(always)]
pub(crate) fn peek_current<'a>() -> Option<&'a Any> {
    let index = CURRENT_WORD.load(Ordering::Relaxed);
    if index == 0 {
        return None;
    }
    // SAFETY: the word holds the current context or null.
    unsafe {
        let raw = *thread_state().add(index);
        (!raw.is_null()).then(|| Any::from_raw(raw))
    }
}

/// Whether this is the current context; false where that cannot be seen.
#[inline(always)]
pub(crate) fn is_current(context: &Any) -> bool {
    peek_current().is_some_and(|current| current.raw() == context.raw())
}

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
