//! The contract that every backend of the loop meets: which descriptors are ready.
//!
//! # Contract
//! 1. Level-triggered: what is ready is reported by every `wait` until it is no longer ready.
//! 2. A descriptor is registered at most once; a token comes back in events as it was given.
//! 3. After `delete` returns, later `wait`s do not report the token. Events already collected may
//!    still name it: tokens should carry a generation, which makes those harmless.
//! 4. Errors and hang-ups are reported whatever the interest. So a registration without interest
//!    spins on a dead peer: delete it instead.
//! 5. Whoever closes a descriptor deletes it first.
//! 6. `wait` may return early with no event, as after a signal.
//! 7. What is registered by the edge is reported once when `add` or `modify` finds it ready, and once whenever more
//!    arrives, room is made, or it ends; never again for what is merely left over. Whoever relies on that must
//!    have found the descriptor exhausted since the last report. Several such edges may be one event, and an event may come
//!    without one. A side that nobody waits for may be left registered for good.

pub mod epoll;
pub mod linger;
pub mod simulated;
pub mod waker;

use std::io;
use std::os::fd::RawFd;

/// A token that stands for no descriptor: the waker's.
pub const RESERVED_TOKEN: u64 = u64::MAX;

/// What to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    pub readable: bool,
    pub writable: bool,
    /// Of changes only, not of what stays as it is: see the contract.
    pub edge: bool,
}

impl Interest {
    pub const NONE: Self = Self {
        readable: false,
        writable: false,
        edge: false,
    };
    pub const READABLE: Self = Self {
        readable: true,
        writable: false,
        edge: false,
    };
    pub const WRITABLE: Self = Self {
        readable: false,
        writable: true,
        edge: false,
    };
    pub const BOTH: Self = Self {
        readable: true,
        writable: true,
        edge: false,
    };

    /// The same, by the edge.
    pub const fn edge(self) -> Self {
        Self { edge: true, ..self }
    }

    /// Whether there is nothing to be told of.
    pub const fn is_none(self) -> bool {
        !self.readable && !self.writable
    }
}

/// What happened to one registered descriptor.
///
/// After an error or a hang-up both `readable` and `writable` are set, so that whoever waits finds
/// out by trying; a side that was not asked for must be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The descriptor has an error pending.
    pub error: bool,
    /// Both directions are closed.
    pub hangup: bool,
    /// Of a registration by the edge that reads: the other end has finished, failed, or sent urgent data, so that a
    /// read which brings less than it could hold may have left something behind.
    pub special: bool,
}

/// The events of one `wait`, in a buffer that is used again.
#[derive(Debug)]
pub struct Events {
    ready: Vec<Event>,
    capacity: usize,
}

impl Events {
    /// The most events that one `wait` reports.
    pub const MAX: usize = 1024;

    /// Room for `capacity` events per `wait`, at least one and at most [`Events::MAX`].
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, Self::MAX);
        Self {
            ready: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// The most events that the next `wait` may report.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The events of the last `wait`.
    pub fn as_slice(&self) -> &[Event] {
        &self.ready
    }

    /// Forgets the events of the last `wait`.
    pub fn clear(&mut self) {
        self.ready.clear();
    }

    fn push(&mut self, event: Event) {
        debug_assert!(
            self.ready.len() < self.capacity,
            "a backend reports no more than fits"
        );
        self.ready.push(event);
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.ready.iter()
    }
}

/// A source of readiness; see the module for what all of them promise.
pub trait Driver {
    /// Registers a descriptor. Fails with `EEXIST` if it is registered already, and with `EPERM`
    /// if its kind cannot be waited for (a regular file).
    fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()>;

    /// Changes token and interest of a registered descriptor. Fails with `ENOENT` if it is not.
    fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()>;

    /// Ends a registration. Fails with `ENOENT` if there is none.
    fn delete(&self, fd: RawFd) -> io::Result<()>;

    /// Waits until something is ready or `timeout_ns` nanoseconds are over (`None`: for ever), puts
    /// what happened into `events` in place of what was there, and returns how many they are.
    fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize>;
}
