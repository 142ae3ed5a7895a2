//! Telling a sleeping loop that something is done for it, which workers put off while they are at it.

use crate::kit::{Any, Obj, ObjCell};
use crate::runtime::EventLoop;
use ioxide_core::driver::waker::Waker;
use std::sync::Arc;

/// The loop that has news from the workers of one pool. Used under the interpreter lock only.
pub(crate) struct News(ObjCell);

// SAFETY: used under the interpreter lock only. Where the last worker drops it without, it is empty: workers claim
// what there is before they let go of the lock to sleep or to end.
unsafe impl Send for News {}
// SAFETY: the same.
unsafe impl Sync for News {}

impl News {
    pub(crate) fn new() -> News {
        News(ObjCell::empty())
    }

    pub(crate) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// This loop sleeps, and has news.
    pub(crate) fn note(&self, event_loop: Obj) {
        if let Some(other) = self.0.replace(Some(event_loop)) {
            // As a rule it is the same one; a pool that several loops share is in no hurry.
            if !self.0.get().is_some_and(|noted| noted.is(&other)) {
                tell(&other);
            }
        }
    }

    /// Wakes the loop.
    pub(crate) fn tell(&self) {
        if let Some(waker) = self.claim() {
            waker.wake();
        }
    }

    /// What wakes the loop, which does not need the lock; the caller must use it at once.
    pub(crate) fn claim(&self) -> Option<Arc<Waker>> {
        claim(&*self.0.take()?)
    }
}

/// Wakes the loop, if it sleeps.
pub(crate) fn tell(event_loop: &Any) {
    if let Some(waker) = claim(event_loop) {
        waker.wake();
    }
}

fn claim(event_loop: &Any) -> Option<Arc<Waker>> {
    EventLoop::of(event_loop)?.polling.claim_wake()
}
