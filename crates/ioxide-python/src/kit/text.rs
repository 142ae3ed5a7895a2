//! Looking into strings without a copy of them.

use super::{ffi, Any, Obj, PyResult, Raised};
use std::ffi::c_int;

impl Any {
    /// How many characters a string has.
    pub(crate) fn text_len(&self) -> PyResult<usize> {
        // SAFETY: alive; -1 with an error set for what is no string.
        let length = unsafe { ffi::PyUnicode_GetLength(self.raw()) };
        usize::try_from(length).map_err(|_| Raised)
    }

    /// The characters of a string from `start` to `end`.
    #[inline]
    pub(crate) fn text_slice(&self, start: usize, end: usize) -> PyResult<Obj> {
        let (start, end) = (start as ffi::Py_ssize_t, end as ffi::Py_ssize_t);
        // SAFETY: alive; the places are clipped; a new reference, or null for what is no string.
        unsafe { Obj::steal_or_raised(ffi::PyUnicode_Substring(self.raw(), start, end)) }
    }

    /// Where the character stands between `start` and `end`.
    #[inline]
    pub(crate) fn text_find(
        &self,
        wanted: char,
        start: usize,
        end: usize,
    ) -> PyResult<Option<usize>> {
        const FORWARD: c_int = 1;
        let (start, end) = (start as ffi::Py_ssize_t, end as ffi::Py_ssize_t);
        // SAFETY: alive; the places are clipped; -2 with an error set.
        let found =
            unsafe { ffi::PyUnicode_FindChar(self.raw(), u32::from(wanted), start, end, FORWARD) };
        match found {
            -2 => Err(Raised),
            found => Ok(usize::try_from(found).ok()),
        }
    }
}
