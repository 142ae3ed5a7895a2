//! Paths: what `open()` takes for one, and what hooks are told of it.

use super::value::check;
use super::{ffi, Any, Obj, PyResult, Raised, Raw};
use std::ffi::{c_int, CStr, CString};
use std::ptr;

/// A path as the system takes it, and as errors name it.
pub(crate) struct Path {
    pub(crate) system: CString,
    pub(crate) name: Obj,
}

impl Path {
    /// Of a string, bytes or anything with `__fspath__`; the errors are those of `open()`.
    pub(crate) fn of(object: &Any) -> PyResult<Path> {
        // SAFETY: alive; a new reference or null.
        let name = unsafe { Obj::steal_or_raised(ffi::PyOS_FSPath(object.raw()))? };
        let mut raw: Raw = ptr::null_mut();
        // SAFETY: alive; the converter stores a new reference to bytes without a null, or fails.
        let encoded = unsafe {
            if ffi::PyUnicode_FSConverter(name.raw(), (&raw mut raw).cast()) == 0 {
                return Err(Raised);
            }
            Obj::steal_or_raised(raw)?
        };
        let system = CString::new(encoded.bytes_content())
            .map_err(|_| super::err::raise(super::err::value_error(), "embedded null byte"))?;
        Ok(Path { system, name })
    }
}

/// Tells audit hooks that a file is about to be opened; they may refuse.
pub(crate) fn audit_open(name: &Any, mode: &CStr, flags: c_int) -> PyResult<()> {
    extern "C" {
        fn PySys_Audit(
            event: *const std::ffi::c_char,
            format: *const std::ffi::c_char,
            ...
        ) -> c_int;
    }
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
