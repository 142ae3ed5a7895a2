//! Bytes objects whose memory is used again when nobody has them any more.

use super::value::is_sole_bytes;
use super::{ffi, Any, Obj};
use std::mem::MaybeUninit;

/// A bytes object and how much memory it has, which may be more than its length.
pub(crate) struct SpareBytes {
    bytes: Obj,
    room: usize,
}

impl SpareBytes {
    pub(crate) fn new(bytes: &Any) -> SpareBytes {
        SpareBytes {
            room: bytes.bytes_content().len(),
            bytes: bytes.own(),
        }
    }

    /// Whether nobody has the object.
    pub(crate) fn is_free(&self) -> bool {
        is_sole_bytes(&self.bytes)
    }

    /// The room for so many bytes, if nobody has the object, and it has not much more: what is kept for long must
    /// not take more than twice the memory it needs.
    pub(crate) fn room_for(&mut self, capacity: usize) -> Option<Room<'_>> {
        let suits =
            capacity <= self.room && self.room <= capacity.saturating_mul(2) && self.is_free();
        suits.then_some(Room {
            bytes: &self.bytes,
            capacity,
        })
    }
}

/// The memory of a bytes object that nobody else has.
pub(crate) struct Room<'a> {
    bytes: &'a Obj,
    capacity: usize,
}

impl Room<'_> {
    /// The object with what `fill` writes into it, as a new one would be. `fill` runs no Python code, and says how
    /// many bytes it has initialised; whatever else it says is given back.
    pub(crate) fn fill<E>(
        self,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> Result<Obj, E> {
        #[allow(
            deprecated,
            reason = "bytes objects have no other way to forget their hash"
        )]
        // SAFETY: exactly a bytes object with memory for so many bytes and the zero behind them: nothing shrinks what
        // has a second reference, and when it had one only, that was ours. Whoever could tell that it changes would
        // have one.
        unsafe {
            let raw = self.bytes.raw().cast::<ffi::PyBytesObject>();
            let place = (&raw mut (*raw).ob_sval).cast::<MaybeUninit<u8>>();
            let space = std::slice::from_raw_parts_mut(place, self.capacity);
            let count = fill(space)?.min(self.capacity);
            place.add(count).write(MaybeUninit::new(0));
            (*raw).ob_shash = -1;
            (*raw).ob_base.ob_size = count as ffi::Py_ssize_t;
        }
        Ok(self.bytes.clone())
    }
}
