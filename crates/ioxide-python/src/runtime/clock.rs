//! The loop's clock: the kernel's monotonic one, one that jumps ahead whenever the loop has nothing to do, or the
//! program's, where it has put its own `time()` in place of the loop's.

use ioxide_core::clock::{Clock, Monotonic};
use std::cell::Cell;

pub(crate) const NS_PER_S: f64 = 1e9;

/// Nanoseconds; `loop.time()` in seconds.
pub(crate) struct LoopClock {
    virtual_now: Cell<Option<u64>>,
    /// What the kernel's clock has said last.
    seen: Cell<u64>,
    /// Whether somebody may have replaced `loop.time`, so that it has to be called.
    asks: Cell<bool>,
    /// What it has said last.
    told: Cell<Option<u64>>,
}

impl LoopClock {
    pub(crate) const fn monotonic() -> LoopClock {
        LoopClock {
            virtual_now: Cell::new(None),
            seen: Cell::new(0),
            asks: Cell::new(false),
            told: Cell::new(None),
        }
    }

    /// Makes the clock virtual, starting at zero.
    pub(crate) fn make_virtual(&self) {
        self.virtual_now.set(Some(0));
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.virtual_now.get().is_some()
    }

    /// See `EventLoop::ask_for_time`.
    #[inline(always)]
    pub(crate) fn asks(&self) -> bool {
        self.asks.get()
    }

    /// From now on `loop.time` is called.
    pub(crate) fn ask(&self) {
        self.asks.set(true);
    }

    /// There is no `loop.time` but our own any more.
    pub(crate) fn ask_no_more(&self) {
        self.asks.set(false);
        self.told.set(None);
    }

    /// What the program says the time is, in nanoseconds.
    pub(crate) fn tell(&self, now: u64) {
        self.told.set(Some(now));
    }

    /// The time that timers go by.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self.told.get() {
            None => self.own_now(),
            Some(now) => now,
        }
    }

    /// The time of this clock itself, whatever the program has put in its place.
    #[inline]
    fn own_now(&self) -> u64 {
        match self.virtual_now.get() {
            None => {
                let now = Monotonic.now();
                self.seen.set(now);
                now
            }
            Some(now) => now,
        }
    }

    /// A time that has come, without looking at the clock: it may be later than that.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        let known = self.told.get().or(self.virtual_now.get());
        known.unwrap_or(self.seen.get())
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

    /// What our own `loop.time()` says.
    pub(crate) fn own_seconds(&self) -> f64 {
        self.own_now() as f64 / NS_PER_S
    }
}

/// The instant in nanoseconds of `when` in seconds: not before it, at the ends of the range if beyond.
pub(crate) fn to_ns(when: f64) -> u64 {
    // The cast saturates, and takes NaN to zero.
    (when * NS_PER_S).ceil() as u64
}
