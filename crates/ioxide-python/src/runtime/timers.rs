//! What is due at some time.

use super::target::Target;
use super::work::Work;
use super::EventLoop;
use crate::awaitable::sleep::Sleep;
use crate::handle::timer::TimerHandle;
use crate::kit::{Own, Visitor};
use ioxide_core::timers::{TimerHeap, TimerKey};
use std::cell::UnsafeCell;

/// Whom a timer is for.
pub(crate) enum Timer {
    Handle(Own<TimerHandle>),
    Sleep(Own<Sleep>),
    Target(Own<Target>),
}

/// The heap of timers. Nothing in here runs Python code, except `clear`.
pub(crate) struct Timers(UnsafeCell<TimerHeap<Timer>>);

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers(UnsafeCell::new(TimerHeap::default()))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn heap(&self) -> &mut TimerHeap<Timer> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.heap().next_deadline()
    }

    /// Whether one has a deadline of `now` or earlier.
    #[inline]
    pub(crate) fn are_due(&self, now: u64) -> bool {
        self.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.heap().len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.heap().is_empty()
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for timer in self.heap().iter() {
            match timer {
                Timer::Handle(timer) => timer.handle().show_waiting(visitor),
                Timer::Sleep(sleep) => visitor.object(sleep.as_obj()),
                Timer::Target(target) => visitor.object(target.as_obj()),
            }
        }
    }

    /// The handles that wait, in no particular order.
    pub(crate) fn handles(&self) -> Vec<crate::kit::Obj> {
        self.heap()
            .iter()
            .filter_map(|timer| match timer {
                Timer::Handle(handle) => Some(handle.as_obj().clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn clear(&self) {
        let dropped = self.heap().drain();
        for timer in &dropped {
            if let Timer::Handle(timer) = timer {
                timer.handle().reveal_if_held();
            }
        }
        drop(dropped);
    }
}

impl EventLoop {
    #[inline]
    pub(crate) fn add_timer(&self, deadline: u64, timer: Timer) -> TimerKey {
        self.timers.heap().insert(deadline, timer)
    }

    /// Takes a timer out; false for one that has gone off, which is gone already.
    #[inline]
    pub(crate) fn remove_timer(&self, key: TimerKey) -> bool {
        let removed = self.timers.heap().remove(key);
        removed.is_some()
    }

    /// The instant `delay` seconds from now.
    #[inline]
    pub(crate) fn deadline_after(&self, delay: f64) -> u64 {
        self.clock.now().saturating_add(super::clock::to_ns(delay))
    }

    /// Makes everything ready that is due.
    #[inline]
    pub(crate) fn expire(&self, now: u64) {
        while let Some(timer) = self.timers.heap().pop_due(now) {
            self.ready.push(match timer {
                Timer::Handle(handle) => {
                    handle.left_heap();
                    Work::Handle(handle.into_handle())
                }
                Timer::Sleep(sleep) => Work::Sleep(sleep),
                Timer::Target(target) => Work::Fire(target),
            });
        }
    }
}
