//! Where the loop's time comes from: nanoseconds on a clock that never goes back.
#![allow(unsafe_code, reason = "clock_gettime is a system call")]

use std::sync::atomic::{AtomicU64, Ordering};

/// A monotonic clock. Every deadline in this crate is a value of one such clock.
pub trait Clock {
    /// Nanoseconds since an arbitrary fixed point; never decreases.
    fn now(&self) -> u64;
}

/// `CLOCK_MONOTONIC`, the clock behind Python's `time.monotonic()`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now(&self) -> u64 {
        read(libc::CLOCK_MONOTONIC)
    }
}

/// The CPU time that the calling thread has used.
#[derive(Debug, Default, Clone, Copy)]
pub struct ThreadTime;

impl Clock for ThreadTime {
    fn now(&self) -> u64 {
        read(libc::CLOCK_THREAD_CPUTIME_ID)
    }
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec to write to. The call cannot fail on Linux, where these
    // clocks always exist; were it to, `time` would still be initialised.
    unsafe { libc::clock_gettime(clock, &mut time) };
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// A clock that moves only when it is told to: for tests and virtual time.
#[derive(Debug, Default)]
pub struct Manual {
    now: AtomicU64,
}

impl Manual {
    /// A clock that stands at `now` nanoseconds.
    pub fn new(now: u64) -> Self {
        Self {
            now: AtomicU64::new(now),
        }
    }

    /// Moves the clock forward by `nanoseconds`.
    pub fn advance(&self, nanoseconds: u64) {
        self.now.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Moves the clock to `now`; a time in the past is ignored, since the clock never goes back.
    pub fn advance_to(&self, now: u64) {
        self.now.fetch_max(now, Ordering::Relaxed);
    }
}

impl Clock for Manual {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}
