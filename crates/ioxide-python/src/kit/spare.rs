//! Bytes objects whose memory is used again when nobody has them any more.

use super::{ffi, Obj, PyResult};
use std::mem::MaybeUninit;

/// A bytes object that was made here, and how much memory it has, which may be more than its length.
///
/// # Invariants
/// 1. `bytes` has memory for `room` bytes and the zero behind them. Nobody shrinks it: who has the only reference to
///    bytes may, but whoever is given these has a second one, beside ours.
/// 2. It is written to only while ours is the only reference. Whoever could tell that it changes would have one.
pub(crate) struct SpareBytes {
    bytes: Obj,
    room: usize,
}

impl SpareBytes {
    /// A new object with so much room. Its content is undefined until it is [filled](Self::fill).
    pub(crate) fn with_room(room: usize) -> PyResult<SpareBytes> {
        // SAFETY: a new object or null.
        let bytes = unsafe {
            Obj::steal_or_raised(ffi::PyBytes_FromStringAndSize(
                std::ptr::null(),
                room as ffi::Py_ssize_t,
            ))?
        };
        Ok(SpareBytes { bytes, room })
    }

    /// An object of somebody else's making, which is not to be written to.
    #[inline]
    pub(crate) fn fixed(bytes: Obj) -> SpareBytes {
        SpareBytes { bytes, room: 0 }
    }

    /// The object, which must not leave before it was filled.
    #[inline]
    pub(crate) fn bytes(&self) -> &Obj {
        &self.bytes
    }

    /// How many bytes it has memory for, if it may be written to.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Whether nobody but us has the object.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.bytes.refcount() == 1
    }

    /// Makes the object, if nobody else has it, a new one with what `fill` writes into its room. `fill` runs no Python
    /// code, and says how many bytes it has initialised; whatever else it says is given back, and the object is as
    /// undefined as what was written.
    #[inline]
    pub(crate) fn fill<E>(
        &mut self,
        fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        debug_assert!(self.is_free());
        let room = if self.is_free() { self.room } else { 0 };
        #[allow(
            deprecated,
            reason = "bytes objects have no other way to forget their hash"
        )]
        // SAFETY: by the invariants, unless the room is 0, when nothing is written.
        unsafe {
            let raw = self.bytes.raw().cast::<ffi::PyBytesObject>();
            let place = (&raw mut (*raw).ob_sval).cast::<MaybeUninit<u8>>();
            let count = fill(std::slice::from_raw_parts_mut(place, room))?.min(room);
            if room > 0 {
                place.add(count).write(MaybeUninit::new(0));
                (*raw).ob_shash = -1;
                (*raw).ob_base.ob_size = count as ffi::Py_ssize_t;
            }
            Ok(count)
        }
    }
}
