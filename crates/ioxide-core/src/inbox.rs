//! Work handed to the loop by other threads, with a wake-up only when the loop really sleeps.
//!
//! # States
//! | state    | meaning                                | left by                            |
//! |----------|----------------------------------------|------------------------------------|
//! | Idle     | consumer awake, nothing known queued   | `push` → Pending, `begin_sleep` → Sleeping |
//! | Pending  | something may be queued                | `take_into` → Idle                 |
//! | Sleeping | consumer blocked or about to block     | `push` → Pending, `end_sleep` → Idle |
//!
//! # Why no wake-up is lost
//! A producer queues first and then swaps the state to Pending. The consumer goes to sleep by a
//! compare-exchange from Idle, and both act on the same atomic, so one comes first: if the
//! producer, the consumer finds Pending and does not sleep; if the consumer, the producer's swap
//! returns Sleeping and it must wake the consumer. Only one producer can see Sleeping, since its
//! swap replaces it: one wake-up per sleep. `take_into` leaves Pending *before* it takes the
//! queue's lock: whoever pushed before that is seen by it, whoever pushed later sets Pending again.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const IDLE: u8 = 0;
const PENDING: u8 = 1;
const SLEEPING: u8 = 2;

/// A queue with many producers and one consumer, who may sleep.
///
/// `push` may be called from any thread but not from a signal handler, since it takes a lock.
#[derive(Debug)]
pub struct Inbox<T> {
    state: AtomicU8,
    queue: Mutex<VecDeque<T>>,
}

impl<T: Send> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send> Inbox<T> {
    /// An empty inbox whose consumer is awake.
    pub const fn new() -> Self {
        Self {
            state: AtomicU8::new(IDLE),
            queue: Mutex::new(VecDeque::new()),
        }
    }

    /// Queues an item. `true` means that the caller must wake the consumer, and nobody else will.
    #[must_use = "the consumer sleeps until it is woken"]
    pub fn push(&self, item: T) -> bool {
        self.lock().push_back(item);
        self.state.swap(PENDING, Ordering::AcqRel) == SLEEPING
    }

    /// Whether nothing waits to be taken: one atomic load.
    ///
    /// May be `false` with nothing queued, when the last `take_into` ran into a `push`; never
    /// `true` after a `push` that has returned.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.state.load(Ordering::Acquire) != PENDING
    }

    /// Moves everything queued to the end of `out`, in order. Only the consumer may call it.
    pub fn take_into(&self, out: &mut VecDeque<T>) {
        self.state.swap(IDLE, Ordering::AcqRel);
        let mut queue = self.lock();
        if out.is_empty() {
            mem::swap(&mut *queue, out);
        } else {
            out.append(&mut queue);
        }
    }

    /// The consumer is about to block. `false`: something is queued, so it must not.
    #[must_use = "blocking although something is queued would lose a wake-up"]
    pub fn begin_sleep(&self) -> bool {
        self.state
            .compare_exchange(IDLE, SLEEPING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The consumer has stopped blocking, for whatever reason: producers need not wake it any more.
    pub fn end_sleep(&self) {
        // Failure means that a producer has been here, and then the state already is Pending.
        let _ = self
            .state
            .compare_exchange(SLEEPING, IDLE, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        // Nothing that can panic runs under the lock; a poisoned queue is still a whole one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
