//! Bytearrays, and bytes made of anything.

use super::value::check;
use super::{err, ffi, Any, Obj, PyResult, Raised};
use std::mem::MaybeUninit;

/// `bytes(object)`.
pub(crate) fn to_bytes(object: &Any) -> PyResult<Obj> {
    // SAFETY: alive; a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyBytes_FromObject(object.raw())) }
}

/// A new bytearray with these bytes.
pub(crate) fn new(data: &[u8]) -> PyResult<Obj> {
    // SAFETY: the bytes are copied.
    unsafe {
        Obj::steal_or_raised(ffi::PyByteArray_FromStringAndSize(
            data.as_ptr().cast(),
            data.len() as ffi::Py_ssize_t,
        ))
    }
}

impl Any {
    pub(crate) fn is_bytearray(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyByteArray_Check(self.raw()) != 0 }
    }

    pub(crate) fn bytearray_len(&self) -> usize {
        debug_assert!(self.is_bytearray());
        // SAFETY: a bytearray.
        unsafe { ffi::PyByteArray_Size(self.raw()) as usize }
    }

    /// Runs `f` with the content of a bytearray. `f` runs no Python code.
    pub(crate) fn with_bytearray<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let length = self.bytearray_len();
        // SAFETY: a bytearray, which nobody changes while `f` runs; its pointer is never null.
        f(unsafe {
            std::slice::from_raw_parts(ffi::PyByteArray_AsString(self.raw()).cast(), length)
        })
    }

    /// Runs `f` with the memory of what is exactly a bytearray, unless that is empty; no `f` for anything else. `f` runs no
    /// Python code: nobody is kept from resizing it.
    #[inline]
    pub(crate) fn with_bytearray_space<R>(
        &self,
        f: impl FnOnce(&mut [MaybeUninit<u8>]) -> R,
    ) -> Option<R> {
        // SAFETY: alive; of exactly a bytearray, which nobody resizes while `f` runs, the pointer is never null.
        unsafe {
            if ffi::PyByteArray_CheckExact(self.raw()) == 0 {
                return None;
            }
            let length = self.bytearray_len();
            let start = ffi::PyByteArray_AsString(self.raw()).cast();
            (length > 0).then(|| f(std::slice::from_raw_parts_mut(start, length)))
        }
    }

    /// Appends to a bytearray; `BufferError` while somebody else has a view of it.
    pub(crate) fn bytearray_append(&self, data: &[u8]) -> PyResult<()> {
        let length = self.bytearray_len();
        let Some(total) = length.checked_add(data.len()) else {
            return Err(err::raise(err::overflow_error(), "too many bytes"));
        };
        // SAFETY: a bytearray; after the resize there is room for `data` behind the old content.
        unsafe {
            check(ffi::PyByteArray_Resize(
                self.raw(),
                total as ffi::Py_ssize_t,
            ))?;
            let end = ffi::PyByteArray_AsString(self.raw()).add(length);
            std::ptr::copy_nonoverlapping(data.as_ptr(), end.cast(), data.len());
        }
        Ok(())
    }

    /// `del array[:count]`, which takes constant time.
    pub(crate) fn bytearray_consume(&self, count: usize) -> PyResult<()> {
        // SAFETY: alive; a bytearray clips the bounds.
        match unsafe { ffi::PySequence_DelSlice(self.raw(), 0, count as ffi::Py_ssize_t) } {
            0 => Ok(()),
            _ => Err(Raised),
        }
    }
}
