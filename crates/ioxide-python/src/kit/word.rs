//! A pointer and a few bits in one word, for what exists a hundred thousand times.

use std::ptr::NonNull;

/// What three bits can say: whatever an allocator gives is aligned to eight bytes at least.
const BITS: usize = 0b111;

/// A pointer to something aligned to eight bytes, and a tag below eight. Owns nothing by itself.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Word(NonNull<u8>);

impl Word {
    #[inline(always)]
    pub(crate) fn new<T>(pointer: NonNull<T>, tag: usize) -> Word {
        debug_assert!(tag <= BITS && pointer.addr().get() & BITS == 0);
        Word(pointer.cast::<u8>().map_addr(|address| address | tag))
    }

    #[inline(always)]
    pub(crate) fn into_raw(self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// # Safety
    /// From `into_raw`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(raw: NonNull<u8>) -> Word {
        Word(raw)
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> usize {
        self.0.addr().get() & BITS
    }

    #[inline(always)]
    pub(crate) fn pointer<T>(self) -> NonNull<T> {
        let pointer = self.0.as_ptr().map_addr(|address| address & !BITS);
        // SAFETY: it was not null when the tag was put beside it, and the tag is all that is taken away.
        unsafe { NonNull::new_unchecked(pointer.cast()) }
    }
}
