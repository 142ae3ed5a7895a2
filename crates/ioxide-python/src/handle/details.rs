//! What a handle remembers besides its callback: a few bits, and what is rare, in one word.

use crate::kit::{ObjCell, Visitor};
use std::cell::Cell;
use std::ptr;

/// Set in a handle that was called off.
pub(super) const CANCELLED: usize = 1;
/// The arguments are a tuple; if not, there is one or none.
pub(super) const TUPLE: usize = 2;
/// The time was given as an int, and should come back as one.
pub(super) const INT: usize = 4;

const BITS: usize = CANCELLED | TUPLE | INT;

/// What few handles have.
pub(super) struct Rare {
    /// In debug mode, after cancellation: what `repr` said before.
    pub(super) shown: ObjCell,
    pub(super) source_traceback: ObjCell,
    /// Whether a loop that is not ours has the timer in its heap: such loops keep book here.
    pub(super) scheduled: Cell<bool>,
}

/// The bits, beside the address of the rare part, which is null until there is one.
pub(super) struct Details(Cell<*mut Rare>);

impl Details {
    pub(super) const fn new() -> Details {
        Details(Cell::new(ptr::null_mut()))
    }

    #[inline(always)]
    pub(super) fn has(&self, bit: usize) -> bool {
        self.0.get().addr() & bit != 0
    }

    #[inline(always)]
    pub(super) fn set(&self, bit: usize, on: bool) {
        let bit_if_on = if on { bit } else { 0 };
        self.0
            .set(self.0.get().map_addr(|address| address & !bit | bit_if_on));
    }

    #[inline(always)]
    fn address(&self) -> *mut Rare {
        self.0.get().map_addr(|address| address & !BITS)
    }

    #[inline(always)]
    pub(super) fn rare(&self) -> Option<&Rare> {
        // SAFETY: null, or made below and freed with `self` only.
        unsafe { self.address().as_ref() }
    }

    #[cold]
    pub(super) fn rare_or_new(&self) -> &Rare {
        if self.address().is_null() {
            let made = Box::into_raw(Box::new(Rare {
                shown: ObjCell::empty(),
                source_traceback: ObjCell::empty(),
                scheduled: Cell::new(false),
            }));
            let bits = self.0.get().addr();
            self.0.set(made.map_addr(|address| address | bits));
        }
        // SAFETY: just made, or earlier; freed with `self` only.
        unsafe { &*self.address() }
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        if let Some(rare) = self.rare() {
            visitor.cell(&rare.shown);
            visitor.cell(&rare.source_traceback);
        }
    }

    pub(super) fn clear(&self) {
        if let Some(rare) = self.rare() {
            rare.shown.clear();
            rare.source_traceback.clear();
        }
    }
}

impl Drop for Details {
    #[inline(always)]
    fn drop(&mut self) {
        let rare = self.address();
        if !rare.is_null() {
            // SAFETY: made by `Box`, and nobody else has it.
            drop(unsafe { Box::from_raw(rare) });
        }
    }
}
