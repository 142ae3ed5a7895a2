//! Large bytes objects that programs were given, and that become the next ones once nobody has them any more.
//!
//! What a large object costs is its memory: the C library gives that back to the system as soon as it is freed, and
//! every page of the next object is a fault.

use crate::kit::spare::SpareBytes;
use crate::kit::{value, Obj, PyResult};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// How many are remembered: what the program looks at, what it gets next, and as many of another size.
const COUNT: usize = 4;

/// The last large objects that one loop has given to its programs.
pub(crate) struct LargeBytes(UnsafeCell<Vec<SpareBytes>>);

impl LargeBytes {
    pub(crate) const fn new() -> LargeBytes {
        LargeBytes(UnsafeCell::new(Vec::new()))
    }

    /// As [`value::bytes_filled`], in the memory of an object that nobody has any more, if there is one of about
    /// that size.
    pub(crate) fn filled<E>(
        &self,
        capacity: usize,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> PyResult<Result<Obj, E>> {
        // SAFETY: the interpreter lock is held, and `fill` runs no Python code, which alone could come back here.
        let known = unsafe { &mut *self.0.get() };
        if let Some(room) = known.iter_mut().find_map(|spare| spare.room_for(capacity)) {
            return Ok(room.fill(fill));
        }
        let made = value::bytes_filled(capacity, fill)?;
        if let Ok(bytes) = &made {
            let oldest = (known.len() >= COUNT).then(|| known.remove(0));
            known.push(SpareBytes::new(bytes));
            // Bytes have no finalizer: freeing them runs no code.
            drop(oldest);
        }
        Ok(made)
    }

    pub(crate) fn clear(&self) {
        // SAFETY: as above; the borrow ends before anything is dropped.
        let known = unsafe { std::mem::take(&mut *self.0.get()) };
        drop(known);
    }
}
