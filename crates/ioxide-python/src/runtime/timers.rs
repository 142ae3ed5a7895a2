//! What is due at some time.

use super::target::Target;
use super::work::Work;
use super::EventLoop;
use crate::awaitable::sleep::Sleep;
use crate::handle::timer::TimerHandle;
use crate::kit::{err, Native, Own, Visitor, Word};
use ioxide_core::timers::{TimerKey, TimerQueue};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;

/// Whom a timer is for.
pub(crate) enum Timer {
    Handle(Own<TimerHandle>),
    Sleep(Own<Sleep>),
    Target(Own<Target>),
}

/// A timer in one word: the object, and as the tag which kind it is of.
struct Packed(Word);

const HANDLE: usize = 0;
const SLEEP: usize = 1;
const TARGET: usize = 2;

impl Packed {
    #[inline(always)]
    fn pack(timer: Timer) -> Packed {
        Packed(match timer {
            Timer::Handle(handle) => Word::new(handle.into_pointer(), HANDLE),
            Timer::Sleep(sleep) => Word::new(sleep.into_pointer(), SLEEP),
            Timer::Target(target) => Word::new(target.into_pointer(), TARGET),
        })
    }

    #[inline(always)]
    fn unpack(self) -> Timer {
        let packed = ManuallyDrop::new(self);
        // SAFETY: it is not used again.
        unsafe { packed.read() }
    }

    /// What is packed, to be looked at.
    fn view(&self) -> ManuallyDrop<Timer> {
        // SAFETY: what is read is not dropped, so that the reference stays the packed one's.
        ManuallyDrop::new(unsafe { self.read() })
    }

    /// # Safety
    /// Only one of all that are read is dropped, and the packed one is not.
    #[inline(always)]
    unsafe fn read(&self) -> Timer {
        let object = self.0.pointer();
        // SAFETY: what stands under each tag is what `pack` has put there, with its reference.
        unsafe {
            match self.0.tag() {
                HANDLE => Timer::Handle(Own::steal(object)),
                SLEEP => Timer::Sleep(Own::steal(object)),
                _ => Timer::Target(Own::steal(object)),
            }
        }
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        // SAFETY: dropped once.
        drop(unsafe { self.read() });
    }
}

/// So many timers that are due at once are prepared together.
const CROWD: usize = 8;

/// All timers. Nothing in here runs Python code, except `clear`.
pub(crate) struct Timers(UnsafeCell<TimerQueue<Packed>>);

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers(UnsafeCell::new(TimerQueue::default()))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn queue(&self) -> &mut TimerQueue<Packed> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    #[inline]
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.queue().next_deadline()
    }

    /// Whether one has a deadline of `now` or earlier.
    #[inline]
    pub(crate) fn are_due(&self, now: u64) -> bool {
        self.queue().is_due(now)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.queue().len()
    }

    /// Whether the timer has not gone off.
    pub(crate) fn contains(&self, key: TimerKey) -> bool {
        self.queue().contains(key)
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for timer in self.queue().iter() {
            match &*timer.view() {
                Timer::Handle(timer) => timer.handle().show_waiting(visitor),
                Timer::Sleep(sleep) => visitor.object(sleep.as_obj()),
                Timer::Target(target) => visitor.object(target.as_obj()),
            }
        }
    }

    /// The handles that wait, in no particular order.
    pub(crate) fn handles(&self) -> Vec<crate::kit::Obj> {
        self.queue()
            .iter()
            .filter_map(|timer| match &*timer.view() {
                Timer::Handle(handle) => Some(handle.as_obj().clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn clear(&self) {
        let dropped = self.queue().drain();
        for timer in &dropped {
            if let Timer::Handle(timer) = &*timer.view() {
                timer.handle().reveal_if_held();
            }
        }
        drop(dropped);
    }
}

impl EventLoop {
    #[inline]
    pub(crate) fn add_timer(&self, deadline: u64, timer: Timer) -> TimerKey {
        self.timers.queue().insert(deadline, Packed::pack(timer))
    }

    /// Takes a timer out; false for one that has gone off, which is gone already.
    #[inline]
    pub(crate) fn remove_timer(&self, key: TimerKey) -> bool {
        let removed = self.timers.queue().remove(key);
        removed.is_some()
    }

    /// The instant `delay` seconds from now.
    #[inline]
    pub(crate) fn deadline_after(&self, delay: f64) -> u64 {
        if self.clock.asks() {
            if let Err(raised) = self.ask_for_time() {
                err::unraisable(raised, self.as_any());
            }
        }
        self.clock.now().saturating_add(super::clock::to_ns(delay))
    }

    /// Makes everything ready that is due.
    #[inline]
    pub(crate) fn expire(&self, now: u64) {
        let before = self.ready.len();
        while let Some(timer) = self.timers.queue().pop_due(now) {
            // It is not looked at before its turn: among very many timers each one has to be fetched from memory, which
            // is on its way while the others leave the queue.
            self.ready.push(match timer.unpack() {
                Timer::Handle(handle) => {
                    handle.as_any().prefetch::<TimerHandle>();
                    Work::Handle(handle.into_handle())
                }
                Timer::Sleep(sleep) => {
                    sleep.as_any().prefetch::<Sleep>();
                    Work::Sleep(sleep)
                }
                Timer::Target(target) => Work::Fire(target),
            });
        }
        if self.ready.len() - before >= CROWD {
            self.ready.prefetch_sleepers(before);
        }
    }
}
