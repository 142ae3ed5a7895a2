//! What audit hooks are told of; they may refuse.

use super::value::check;
use super::{Any, Obj, PyResult, Raw};
use std::ffi::{c_char, c_int, c_void, CStr};

extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// A file is about to be opened.
pub(crate) fn open(name: &Any, mode: &CStr, flags: c_int) -> PyResult<()> {
    // SAFETY: the format names an object, a C string and an integer, as they are passed.
    check(unsafe {
        PySys_Audit(
            c"open".as_ptr(),
            c"Osi".as_ptr(),
            name.raw(),
            mode.as_ptr(),
            flags,
        )
    })
}

/// A socket is about to be connected. The socket object is made only if there is a hook to see it.
pub(crate) fn connect(socket: &dyn Fn() -> PyResult<Obj>, address: &Any) -> PyResult<()> {
    type Make<'a> = &'a dyn Fn() -> PyResult<Obj>;
    extern "C" fn make(context: *mut c_void) -> Raw {
        // SAFETY: the context is the one given below, which lives through the call.
        match unsafe { &*context.cast::<Make<'_>>() }() {
            Ok(object) => object.into_raw(),
            Err(_) => std::ptr::null_mut(),
        }
    }
    let make: extern "C" fn(*mut c_void) -> Raw = make;
    // SAFETY: the format names a converter with its argument, and an object, as they are passed.
    check(unsafe {
        PySys_Audit(
            c"socket.connect".as_ptr(),
            c"O&O".as_ptr(),
            make,
            (&raw const socket).cast_mut().cast::<c_void>(),
            address.raw(),
        )
    })
}
