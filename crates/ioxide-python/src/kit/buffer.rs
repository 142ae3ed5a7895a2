//! The buffer protocol: the bytes of any object that has some, borrowed as long as the view lives.

use super::{ffi, Any, PyResult, Raised};
use std::mem::MaybeUninit;

/// A contiguous view of an object's bytes. As long as it lives, the object keeps them where they are.
pub(crate) struct Buffer(ffi::Py_buffer);

impl Buffer {
    /// A view to read from. `TypeError` or `BufferError` for what has no contiguous bytes.
    pub(crate) fn readable(object: &Any) -> PyResult<Buffer> {
        Self::get(object, ffi::PyBUF_SIMPLE)
    }

    /// A view to write to. `BufferError` for what is read-only.
    pub(crate) fn writable(object: &Any) -> PyResult<Buffer> {
        Self::get(object, ffi::PyBUF_WRITABLE)
    }

    fn get(object: &Any, flags: std::ffi::c_int) -> PyResult<Buffer> {
        let mut view = MaybeUninit::uninit();
        // SAFETY: the object is alive; the view is filled in unless the call fails.
        unsafe {
            if ffi::PyObject_GetBuffer(object.raw(), view.as_mut_ptr(), flags) != 0 {
                return Err(Raised);
            }
            Ok(Buffer(view.assume_init()))
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len as usize
    }

    /// The bytes. Code that may change them must not run while the slice is in use.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.0.len == 0 {
            return &[];
        }
        // SAFETY: a contiguous view of `len` bytes that the object keeps in place.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.len()) }
    }

    /// The place to write to, of a view made by [`Buffer::writable`].
    pub(crate) fn space(&mut self) -> &mut [MaybeUninit<u8>] {
        if self.0.len == 0 {
            return &mut [];
        }
        // SAFETY: a contiguous view of `len` bytes that the object keeps in place; it was asked for to be
        // written to.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the view was filled in by the interpreter and is released once.
        unsafe { ffi::PyBuffer_Release(&mut self.0) }
    }
}
