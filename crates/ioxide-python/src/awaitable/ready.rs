//! An awaitable that is over before it begins: `async with lock` when the lock is free.

use crate::kit::{Any, Class, Head, Native, Obj, PyResult};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Returns `None` as often as it is awaited; there is one for all.
#[repr(C)]
struct Nothing {
    head: Head,
}

static CLASS: Class = Class::new();
static NOTHING: AtomicPtr<crate::kit::ffi::PyObject> = AtomicPtr::new(std::ptr::null_mut());

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Nothing {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }
}

/// The slot of [`Nothing`]: null without an exception returns `None`, whatever the state.
unsafe extern "C" fn next(_object: crate::kit::Raw) -> crate::kit::Raw {
    std::ptr::null_mut()
}

/// An awaitable that returns `None` at once.
#[inline]
pub(crate) fn nothing() -> Obj {
    // SAFETY: made at import and kept for ever.
    unsafe { Obj::from_borrowed(NOTHING.load(Ordering::Relaxed)) }
}

pub(crate) fn build() -> PyResult<()> {
    use crate::kit::ffi;
    crate::kit::ClassSpec::new::<Nothing>(c"ioxide.Nothing")
        .slot(
            ffi::Py_tp_iter,
            ffi::PyObject_SelfIter as *mut std::ffi::c_void,
        )
        .slot(
            ffi::Py_am_await,
            ffi::PyObject_SelfIter as *mut std::ffi::c_void,
        )
        .slot(ffi::Py_tp_iternext, next as *mut std::ffi::c_void)
        .methods([crate::method!(onearg Nothing, "send",
            |_: &Nothing, _: &Any| -> PyResult<Obj> {
                Err(crate::kit::send::stop_iteration(Obj::none()))
            }, "Returns at once.")])
        .build(&CLASS)?;
    let one = Nothing { head: Head::new() }.make()?.into_obj();
    NOTHING.store(one.into_raw(), Ordering::Relaxed);
    Ok(())
}
