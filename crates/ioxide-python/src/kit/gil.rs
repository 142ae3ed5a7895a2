//! Giving up the interpreter lock, and taking it on a thread of our own.
//!
//! A thread that wants the lock of one that is busy gets it by itself after the interpreter's switch interval
//! only, 5 ms. So those who want it are counted, and a loop that never sleeps lends it to them ([`lent`]).

use super::ffi;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many of our threads wait for the lock.
static WANTED: AtomicUsize = AtomicUsize::new(0);
/// How many of our threads run what may give up the lock and want it back.
static WORKING: AtomicUsize = AtomicUsize::new(0);
/// How often one of them has got it.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// How long a lender waits for the borrower, who is asleep and must be scheduled first.
const SCHEDULED: Duration = Duration::from_micros(50);

/// In a forked child: those who waited are the parent's threads.
pub(crate) fn forked() {
    WANTED.store(0, Ordering::Relaxed);
    WORKING.store(0, Ordering::Relaxed);
}

/// Whether another of our threads wants the lock, or may.
#[inline(always)]
pub(crate) fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed) > 0 || WORKING.load(Ordering::Relaxed) > 0
}

/// Whether somebody waits for the lock: one more would wait as well.
pub(crate) fn is_contended() -> bool {
    WANTED.load(Ordering::Relaxed) > 0
}

/// How often one of our threads has got the lock.
pub(crate) fn handovers() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

/// Runs a job on a thread of ours.
pub(crate) fn working<R>(job: impl FnOnce() -> R) -> R {
    struct Done;
    impl Drop for Done {
        fn drop(&mut self) {
            WORKING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    WORKING.fetch_add(1, Ordering::Relaxed);
    let _done = Done;
    job()
}

/// Runs what waits for the lock.
#[inline]
fn wanting<R>(take: impl FnOnce() -> R) -> R {
    WANTED.fetch_add(1, Ordering::Relaxed);
    let result = take();
    WANTED.fetch_sub(1, Ordering::Relaxed);
    TAKEN.fetch_add(1, Ordering::Relaxed);
    result
}

/// As [`released`], for a short `f`: if others want the lock, one of them has it before this goes on.
pub(crate) fn lent<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    released(|| {
        let taken = TAKEN.load(Ordering::Relaxed);
        let result = f();
        if WANTED.load(Ordering::Relaxed) > 0 {
            let begun = Instant::now();
            while TAKEN.load(Ordering::Relaxed) == taken && begun.elapsed() < SCHEDULED {
                std::thread::yield_now();
            }
        }
        result
    })
}

/// Runs `f` without the interpreter lock. What `f` captures is `Send`, so it cannot touch Python objects.
#[inline]
pub(crate) fn released<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    struct Saved(*mut ffi::PyThreadState);
    impl Drop for Saved {
        fn drop(&mut self) {
            // SAFETY: the state that was saved on this thread, restored once (also when `f` panics).
            wanting(|| unsafe { ffi::PyEval_RestoreThread(self.0) });
        }
    }
    // SAFETY: this thread holds the lock.
    let saved = Saved(unsafe { ffi::PyEval_SaveThread() });
    let result = f();
    drop(saved);
    result
}

/// Runs `f` with the interpreter lock, on a thread that may not have met the interpreter before.
pub(crate) fn attached<R>(f: impl FnOnce() -> R) -> R {
    struct Ensured(ffi::PyGILState_STATE);
    impl Drop for Ensured {
        fn drop(&mut self) {
            // SAFETY: paired with the call below, on the same thread.
            unsafe { ffi::PyGILState_Release(self.0) }
        }
    }
    // SAFETY: the interpreter is initialised as long as our threads run.
    let ensured = Ensured(wanting(|| unsafe { ffi::PyGILState_Ensure() }));
    let result = f();
    drop(ensured);
    result
}
