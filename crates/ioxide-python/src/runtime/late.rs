//! Registrations that wait until the kernel is asked: of a connection that is closed before, it never hears.
//!
//! Only for descriptors that nobody else can have ([`Descriptor::is_sole`](crate::transport::descriptor::Descriptor)):
//! what is registered later must still be what was meant, and can fail only for lack of memory, which is told then.
//!
//! What was begun in one turn is left alone in the next, in which programs mostly hear of their connection; in the one
//! after that the kernel is asked because of it. Whoever asks the kernel before registers what there is.

use super::io::{Descriptors, Entry, Side, Watcher};
use super::target::Target;
use super::work::Work;
use super::EventLoop;
use crate::kit::{err, Own, PyResult};
use std::cell::UnsafeCell;
use std::io;
use std::os::fd::RawFd;

/// The descriptors that are still to be registered: those of the last batch, and earlier ones.
#[derive(Default)]
struct Lists {
    fresh: Vec<RawFd>,
    aged: Vec<RawFd>,
}

pub(crate) struct Late(UnsafeCell<Lists>);

impl Late {
    pub(crate) const fn new() -> Late {
        Late(UnsafeCell::new(Lists {
            fresh: Vec::new(),
            aged: Vec::new(),
        }))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn lists(&self) -> &mut Lists {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        let lists = self.lists();
        lists.fresh.is_empty() && lists.aged.is_empty()
    }

    fn pop(&self) -> Option<RawFd> {
        let lists = self.lists();
        lists.aged.pop().or_else(|| lists.fresh.pop())
    }

    pub(crate) fn clear(&self) {
        *self.lists() = Lists::default();
    }
}

impl Entry {
    /// Whether somebody still waits of whom the kernel has not heard.
    fn is_wanted(&self) -> bool {
        self.registered.is_none() && !self.interest().is_none()
    }
}

impl Descriptors {
    /// Forgets those of whom nobody waits to hear any more.
    fn retain_wanted(&self, late: &mut Vec<RawFd>) {
        late.retain(|&fd| {
            self.entry(fd).is_some_and(|entry| {
                entry.late = entry.is_wanted();
                entry.late
            })
        });
    }
}

impl EventLoop {
    /// As [`EventLoop::watch`], of a descriptor that only `target` has.
    pub(crate) fn watch_late(&self, fd: RawFd, side: Side, target: Own<Target>) -> PyResult<()> {
        self.refuse_if_closed()?;
        let watcher = Watcher::Native(target);
        match self.descriptors.entry(fd) {
            Some(entry) if entry.registered.is_none() => {
                entry.since = self.polling.collection();
                *entry.place(side) = Some(watcher);
                if !std::mem::replace(&mut entry.late, true) {
                    self.late.lists().fresh.push(fd);
                }
                Ok(())
            }
            _ => self.watch(fd, side, watcher).map(drop),
        }
    }

    /// Whether it is time to ask the kernel because of those who wait without its knowledge.
    #[inline(always)]
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty() && self.has_aged()
    }

    fn has_aged(&self) -> bool {
        let lists = self.late.lists();
        self.descriptors.retain_wanted(&mut lists.aged);
        if !lists.aged.is_empty() {
            return true;
        }
        std::mem::swap(&mut lists.fresh, &mut lists.aged);
        false
    }

    /// Tells the kernel of all.
    #[inline(always)]
    pub(super) fn register_late(&self) {
        if !self.late.is_empty() {
            self.register_all_late();
        }
    }

    fn register_all_late(&self) {
        while let Some(fd) = self.late.pop() {
            if let Some(entry) = self.descriptors.entry(fd) {
                entry.late = false;
            }
            self.register_wanted(fd);
        }
    }

    /// Tells the kernel of this one, should it not know.
    pub(crate) fn register_wanted(&self, fd: RawFd) {
        let Some(entry) = self.descriptors.entry(fd) else {
            return;
        };
        if !entry.is_wanted() {
            return;
        }
        let interest = entry.interest();
        if let Err(error) = self.kernel_register(fd, interest) {
            self.not_registered(fd, &error);
        }
    }

    /// Whoever waits would wait for ever, and is told.
    #[cold]
    fn not_registered(&self, fd: RawFd, error: &io::Error) {
        let exception = err::take(err::raise_os(error));
        for side in [Side::Read, Side::Write] {
            let place = self.descriptors.entry(fd).map(|entry| entry.place(side));
            if let Some(Watcher::Native(target)) = place.and_then(Option::take) {
                self.push(Work::Unwatched(target, exception.clone()));
            }
        }
    }
}
