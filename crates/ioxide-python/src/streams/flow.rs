//! Flow control of a protocol: whether its transport takes more, and who waits until it does.

use super::draining::Draining;
use crate::kit::{err, Any, Obj, PyResult, Visitor};
use crate::raise;
use std::cell::Cell;

/// What `pause_writing`, `resume_writing` and `connection_lost` have said.
///
/// # Invariant
/// Somebody is among `waiters` only from parking until being woken, failed or cancelled.
pub(super) struct Flow {
    pub(super) paused: Cell<bool>,
    pub(super) lost: Cell<bool>,
    waiters: Cell<Vec<Obj>>,
}

impl Flow {
    pub(super) const fn new() -> Flow {
        Flow {
            paused: Cell::new(false),
            lost: Cell::new(false),
            waiters: Cell::new(Vec::new()),
        }
    }

    /// Whether a drain has nothing to wait for; `ConnectionResetError` if nothing will ever be sent.
    #[inline]
    pub(super) fn is_open(&self) -> PyResult<bool> {
        if self.lost.get() {
            return Err(raise!(err::connection_reset(), "Connection lost"));
        }
        Ok(!self.paused.get())
    }

    pub(super) fn pause(&self) -> PyResult<()> {
        if self.paused.replace(true) {
            return Err(raise!(err::assertion_error(), "writing is paused already"));
        }
        Ok(())
    }

    pub(super) fn resume(&self) -> PyResult<()> {
        if !self.paused.replace(false) {
            return Err(raise!(err::assertion_error(), "writing is not paused"));
        }
        self.release(None)
    }

    /// The connection is gone: whoever waits goes on, or fails with the exception.
    pub(super) fn lose(&self, exception: Option<&Any>) -> PyResult<()> {
        self.lost.set(true);
        if !self.paused.get() {
            return Ok(());
        }
        self.release(exception)
    }

    fn release(&self, exception: Option<&Any>) -> PyResult<()> {
        for waiter in self.waiters.take() {
            if let Some(draining) = waiter.exact::<Draining>() {
                draining.release(exception)?;
            }
        }
        Ok(())
    }

    pub(super) fn add(&self, draining: &Any) {
        let mut waiters = self.waiters.take();
        waiters.push(draining.own());
        self.waiters.set(waiters);
    }

    pub(super) fn remove(&self, draining: &Any) {
        let (gone, kept): (Vec<Obj>, Vec<Obj>) = self
            .waiters
            .take()
            .into_iter()
            .partition(|waiter| waiter.is(draining));
        self.waiters.set(kept);
        drop(gone);
    }

    /// Those who wait, for `_drain_waiters`.
    pub(super) fn waiters(&self) -> Vec<Obj> {
        let waiters = self.waiters.take();
        let copy = waiters.clone();
        self.waiters.set(waiters);
        copy
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        let waiters = self.waiters.take();
        for waiter in &waiters {
            visitor.object(waiter);
        }
        self.waiters.set(waiters);
    }

    pub(super) fn clear(&self) {
        drop(self.waiters.take());
    }
}
