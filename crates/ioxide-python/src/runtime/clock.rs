//! The loop's clock: the kernel's monotonic one, or one that jumps ahead whenever the loop has nothing to do.

use ioxide_core::clock::{Clock, Monotonic};
use std::cell::Cell;

pub(crate) const NS_PER_S: f64 = 1e9;

/// Nanoseconds; `loop.time()` in seconds.
pub(crate) struct LoopClock {
    virtual_now: Cell<Option<u64>>,
}

impl LoopClock {
    pub(crate) const fn monotonic() -> LoopClock {
        LoopClock {
            virtual_now: Cell::new(None),
        }
    }

    /// Makes the clock virtual, starting at zero.
    pub(crate) fn make_virtual(&self) {
        self.virtual_now.set(Some(0));
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.virtual_now.get().is_some()
    }

    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self.virtual_now.get() {
            None => Monotonic.now(),
            Some(now) => now,
        }
    }

    /// Moves a virtual clock to `deadline`, never back.
    pub(crate) fn advance_to(&self, deadline: u64) {
        if let Some(now) = self.virtual_now.get() {
            self.virtual_now.set(Some(now.max(deadline)));
        }
    }

    #[inline]
    pub(crate) fn seconds(&self) -> f64 {
        self.now() as f64 / NS_PER_S
    }
}

/// The instant in nanoseconds of `when` in seconds: not before it, at the ends of the range if beyond.
pub(crate) fn to_ns(when: f64) -> u64 {
    // The cast saturates, and takes NaN to zero.
    (when * NS_PER_S).ceil() as u64
}
