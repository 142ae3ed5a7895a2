//! Where a reader keeps what has arrived and was not read yet.
//!
//! | form | when |
//! |---|---|
//! | Empty | nothing is there: an idle connection has no buffer |
//! | Chunk | one chunk arrived at an empty reader: a read that takes all of it gets that very object |
//! | Window | chunks were joined |
//! | Shared | Python code asked for `_buffer`: from then on that bytearray is the buffer |

use crate::kit::{bytearray, value, Any, Obj, PyResult};
use ioxide_core::buffer::receive::Receive;
use std::cell::Cell;

#[derive(Default)]
enum Form {
    #[default]
    Empty,
    /// The bytes from `start` on.
    Chunk {
        bytes: Obj,
        start: usize,
    },
    Window(Receive),
    Shared(Obj),
}

/// The bytes that a reader holds. No method runs Python code.
pub(super) struct Storage(Cell<Form>);

impl Storage {
    pub(super) const fn new() -> Storage {
        Storage(Cell::new(Form::Empty))
    }

    /// Runs `f` with the form, which goes back afterwards. `f` must not come back here.
    #[inline]
    fn with_form<R>(&self, f: impl FnOnce(&mut Form) -> R) -> R {
        let mut form = self.0.take();
        let result = f(&mut form);
        self.0.set(form);
        result
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        // SAFETY: nothing else runs while the borrow lives.
        unsafe { (*self.0.as_ptr()).len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `f`, which does no more than look, with all the bytes.
    #[inline]
    pub(super) fn with_window<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        self.with_form(|form| form.with_window(f))
    }

    /// Appends a copy.
    pub(super) fn append(&self, data: &[u8]) -> PyResult<()> {
        self.with_form(|form| form.append(data))
    }

    /// Appends a bytes object, which is kept instead of copied where that is possible.
    pub(super) fn append_bytes(&self, bytes: &Any) -> PyResult<()> {
        self.with_form(|form| match form {
            Form::Empty => {
                *form = Form::Chunk {
                    bytes: bytes.own(),
                    start: 0,
                };
                Ok(())
            }
            _ => form.append(bytes.bytes_content()),
        })
    }

    /// Takes the first `count` bytes, or all if there are fewer, as a bytes object.
    pub(super) fn take(&self, count: usize) -> PyResult<Obj> {
        self.with_form(|form| form.take(count))
    }

    /// Drops the first `count` bytes, or all if there are fewer.
    pub(super) fn consume(&self, count: usize) -> PyResult<()> {
        self.with_form(|form| form.consume(count))
    }

    /// The bytearray that is the buffer from now on.
    pub(super) fn share(&self) -> PyResult<Obj> {
        self.with_form(|form| {
            if let Form::Shared(array) = form {
                return Ok(array.clone());
            }
            let array = form.with_window(bytearray::new)?;
            *form = Form::Shared(array.clone());
            Ok(array)
        })
    }

    /// Makes this bytearray the buffer.
    pub(super) fn replace(&self, array: &Any) {
        drop(self.0.replace(Form::Shared(array.own())));
    }
}

impl Form {
    fn len(&self) -> usize {
        match self {
            Form::Empty => 0,
            Form::Chunk { bytes, start } => bytes.bytes_content().len() - start,
            Form::Window(window) => window.len(),
            Form::Shared(array) => array.bytearray_len(),
        }
    }

    #[inline]
    fn with_window<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Form::Empty => f(&[]),
            Form::Chunk { bytes, start } => f(&bytes.bytes_content()[*start..]),
            Form::Window(window) => f(window.window()),
            Form::Shared(array) => array.with_bytearray(f),
        }
    }

    fn append(&mut self, data: &[u8]) -> PyResult<()> {
        match self {
            Form::Empty => {
                *self = Form::Chunk {
                    bytes: value::bytes(data)?,
                    start: 0,
                };
            }
            Form::Chunk { bytes, start } => {
                let joined = Receive::joined(&bytes.bytes_content()[*start..], data);
                *self = Form::Window(joined);
            }
            Form::Window(window) => window.append(data),
            Form::Shared(array) => array.bytearray_append(data)?,
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> PyResult<Obj> {
        if let Form::Chunk { bytes, start: 0 } = self {
            if bytes.bytes_content().len() <= count {
                let whole = bytes.clone();
                *self = Form::Empty;
                return Ok(whole);
            }
        }
        let taken = self.with_window(|window| value::bytes(&window[..count.min(window.len())]))?;
        self.consume(count)?;
        Ok(taken)
    }

    fn consume(&mut self, count: usize) -> PyResult<()> {
        match self {
            Form::Empty => {}
            Form::Chunk { start, .. } => *start = start.saturating_add(count),
            Form::Window(window) => window.consume(count),
            Form::Shared(array) => {
                return array.bytearray_consume(count.min(array.bytearray_len()))
            }
        }
        if self.is_used_up() {
            *self = Form::Empty;
        }
        Ok(())
    }

    fn is_used_up(&self) -> bool {
        match self {
            Form::Chunk { bytes, start } => *start >= bytes.bytes_content().len(),
            Form::Window(window) => window.is_empty(),
            Form::Empty | Form::Shared(_) => false,
        }
    }
}
