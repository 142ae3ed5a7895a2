//! A bytes object that grows.

use super::{ffi, Obj, PyResult, Raised, Raw};

extern "C" {
    fn _PyBytes_Resize(bytes: *mut Raw, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Bytes that are joined piece by piece, right in the object that they will be.
#[derive(Default)]
pub(crate) struct BytesBuilder {
    /// Longer than what it holds, while it grows. Nobody else has seen it.
    bytes: Option<Obj>,
    len: usize,
}

impl BytesBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a copy. Runs no Python code. After `MemoryError` it is empty.
    pub(crate) fn append(&mut self, data: &[u8]) -> PyResult<()> {
        if data.is_empty() {
            return Ok(());
        }
        let len = self.len + data.len();
        let bytes = match self.bytes.take() {
            Some(bytes) if bytes.bytes_content().len() >= len => bytes,
            before => {
                let room = before.as_ref().map_or(0, |old| old.bytes_content().len());
                let held = std::mem::take(&mut self.len);
                let grown = resized(before, len.max(room * 2))?;
                self.len = held;
                grown
            }
        };
        // SAFETY: an object of its own with room for so many bytes, of which the first `self.len` are in use.
        unsafe {
            let start = ffi::PyBytes_AsString(bytes.raw()).cast::<u8>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), start.add(self.len), data.len());
        }
        self.bytes = Some(bytes);
        self.len = len;
        Ok(())
    }

    /// The object, as long as what it holds.
    pub(crate) fn finish(self) -> PyResult<Obj> {
        match self.bytes {
            Some(bytes) if bytes.bytes_content().len() == self.len => Ok(bytes),
            bytes => resized(bytes, self.len),
        }
    }
}

/// The object with another length, or a new one.
fn resized(bytes: Option<Obj>, len: usize) -> PyResult<Obj> {
    let Some(bytes) = bytes else {
        // SAFETY: a new object, or null.
        return unsafe {
            Obj::steal_or_raised(ffi::PyBytes_FromStringAndSize(
                std::ptr::null(),
                len as ffi::Py_ssize_t,
            ))
        };
    };
    let mut raw = bytes.into_raw();
    // SAFETY: nobody else has seen the object, so that it may be resized; if that fails, it is freed.
    unsafe {
        if _PyBytes_Resize(&mut raw, len as ffi::Py_ssize_t) != 0 {
            return Err(Raised);
        }
        Ok(Obj::steal(raw))
    }
}
