//! One timer of one target, on any loop.

use super::clock;
use super::target::Target;
use super::timers::Timer;
use super::work::Work;
use super::EventLoop;
use crate::intern;
use crate::kit::{err, value, Any, ObjCell, Own, PyResult, Visitor};
use ioxide_core::timers::TimerKey;
use std::cell::Cell;

/// Calls the target's `fire` once, unless it is disarmed before.
///
/// A timer that has gone off stands in the ready queue, out of which nothing is taken: an alarm that is disarmed
/// then remembers to ignore it, so `fire` begins with [`Alarm::goes_off`].
pub(crate) struct Alarm {
    /// The native loop, or the handle of a loop that is not ours; nothing while disarmed.
    owner: ObjCell,
    /// The timer in the native loop's queue; none for one that went straight into the ready queue.
    key: Cell<Option<TimerKey>>,
    /// How many of those in the ready queue are to be ignored.
    stale: Cell<u32>,
}

impl Alarm {
    pub(crate) const fn new() -> Alarm {
        Alarm {
            owner: ObjCell::empty(),
            key: Cell::new(None),
            stale: Cell::new(0),
        }
    }

    /// Arms for the deadline; what is due already goes off in the next turn.
    pub(crate) fn at(
        &self,
        event_loop: &Any,
        deadline: Deadline,
        target: &Own<Target>,
    ) -> PyResult<()> {
        let Deadline { when, ahead } = deadline;
        if let Some(native) = EventLoop::exact(event_loop) {
            native.refuse_if_closed()?;
            if !ahead && when <= native.clock.seconds() {
                native.push(Work::Fire(target.clone()));
                self.key.set(None);
            } else {
                let key = native.add_timer(clock::to_ns(when), Timer::Target(target.clone()));
                self.key.set(Some(key));
            }
            self.owner.set(event_loop.own());
            return Ok(());
        }
        let fire = target.fire_callable()?;
        let now = event_loop.method0(intern!("time"))?.to_f64()?;
        let handle = if when <= now {
            event_loop.method(intern!("call_soon"), &[&fire])?
        } else {
            let when = value::float(when)?;
            event_loop.method(intern!("call_at"), &[&when, &fire])?
        };
        self.owner.set(handle);
        Ok(())
    }

    /// Arms for `delay` seconds from now, at the earliest in the turn after the next look at the timers.
    pub(crate) fn after(&self, event_loop: &Any, delay: f64, target: &Own<Target>) -> PyResult<()> {
        if let Some(native) = EventLoop::exact(event_loop) {
            native.refuse_if_closed()?;
            let deadline = native.deadline_after(delay);
            let key = native.add_timer(deadline, Timer::Target(target.clone()));
            self.key.set(Some(key));
            self.owner.set(event_loop.own());
            return Ok(());
        }
        let (fire, delay) = (target.fire_callable()?, value::float(delay)?);
        let handle = event_loop.method(intern!("call_later"), &[&delay, &fire])?;
        self.owner.set(handle);
        Ok(())
    }

    /// Takes the timer back, if it is armed.
    pub(crate) fn disarm(&self) -> PyResult<()> {
        let Some(owner) = self.owner.take() else {
            return Ok(());
        };
        let Some(native) = EventLoop::exact(&owner) else {
            return owner.method0(intern!("cancel")).map(drop);
        };
        let removed = self.key.take().is_some_and(|key| native.remove_timer(key));
        if !removed && !native.is_closed() {
            self.stale.set(self.stale.get() + 1);
        }
        Ok(())
    }

    /// Whether the timer that goes off now is the one that is armed; disarms it.
    pub(crate) fn goes_off(&self) -> bool {
        if self.stale.get() > 0 {
            self.stale.set(self.stale.get() - 1);
            return false;
        }
        self.key.set(None);
        self.owner.take().is_some()
    }

    /// As new. Only when nothing else refers to the target, so that no timer of it is on its way: a loop that
    /// was closed has forgotten those that it had.
    pub(crate) fn reset(&self) {
        self.stale.set(0);
    }

    pub(crate) fn is_armed(&self) -> bool {
        !self.owner.is_empty()
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.owner);
    }

    pub(crate) fn clear(&self) {
        drop(self.owner.take());
    }
}

/// A time by a loop's clock.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    /// Seconds.
    pub(crate) when: f64,
    /// Known to have been ahead of the clock a moment ago, so that nobody looks at the clock again.
    ahead: bool,
}

impl Deadline {
    pub(crate) const fn at(when: f64) -> Deadline {
        Deadline { when, ahead: false }
    }

    /// `loop.time() + delay`, with `delay` any number of seconds.
    pub(crate) fn after(event_loop: &Any, delay: &Any) -> PyResult<Deadline> {
        let now = match EventLoop::exact(event_loop) {
            Some(native) => native.clock.seconds(),
            None => event_loop.method0(intern!("time"))?.to_f64()?,
        };
        let delay = delay.to_f64().or_else(|raised| {
            // asyncio adds it to the clock: that is where a wrong type fails.
            let reason = err::take(raised);
            value::float(now)?.plus(delay)?;
            Err(err::restore(reason))
        })?;
        Ok(Deadline {
            when: now + delay,
            ahead: delay > 0.0,
        })
    }
}
