//! Paths: what `open()` takes for one.

use super::{ffi, Any, Obj, PyResult, Raised, Raw};
use std::ffi::CString;
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
