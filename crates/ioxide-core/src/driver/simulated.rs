//! A backend without an operating system: a script says what becomes ready and how time passes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Driver, Event, Events, Interest};
use crate::clock::{Clock, Manual};

#[derive(Debug, Clone, Copy)]
struct Registration {
    token: u64,
    interest: Interest,
    /// Something has changed since it was last reported.
    changed: bool,
}

impl Registration {
    fn new(token: u64, interest: Interest) -> Self {
        Self {
            token,
            interest,
            changed: true,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Scripted {
    at: u64,
    fd: RawFd,
    level: Option<Event>,
}

#[derive(Debug, Default)]
struct State {
    registered: BTreeMap<RawFd, Registration>,
    levels: BTreeMap<RawFd, Event>,
    script: VecDeque<Scripted>,
}

/// The contract in its executable form: same answers as epoll, on virtual time.
#[derive(Debug)]
pub struct Simulated {
    clock: Arc<Manual>,
    state: Mutex<State>,
}

impl Simulated {
    /// A driver that moves `clock` where a real one would sleep.
    pub fn new(clock: Arc<Manual>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    /// From time `at` (nanoseconds) on, `fd` is ready for `ready`; [`Interest::NONE`] ends it.
    pub fn script(&self, at: u64, fd: RawFd, ready: Interest) {
        let level = (!ready.is_none()).then_some(Event {
            token: 0,
            readable: ready.readable,
            writable: ready.writable,
            error: false,
            hangup: false,
            special: false,
        });
        self.schedule(Scripted { at, fd, level });
    }

    /// From time `at` (nanoseconds) on, `fd` is hung up, with an error if `error`.
    pub fn script_hangup(&self, at: u64, fd: RawFd, error: bool) {
        let level = Event {
            token: 0,
            readable: true,
            writable: true,
            error,
            hangup: true,
            special: true,
        };
        self.schedule(Scripted {
            at,
            fd,
            level: Some(level),
        });
    }

    /// What is registered for `fd`.
    pub fn interest(&self, fd: RawFd) -> Option<Interest> {
        self.lock()
            .registered
            .get(&fd)
            .map(|registration| registration.interest)
    }

    fn schedule(&self, step: Scripted) {
        let mut state = self.lock();
        let index = state.script.partition_point(|other| other.at <= step.at);
        state.script.insert(index, step);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn play_until(&mut self, now: u64) {
        while let Some(step) = self.script.front().copied().filter(|step| step.at <= now) {
            self.script.pop_front();
            match step.level {
                Some(level) => self.levels.insert(step.fd, level),
                None => self.levels.remove(&step.fd),
            };
            if let Some(registration) = self.registered.get_mut(&step.fd) {
                registration.changed = true;
            }
        }
    }

    fn collect(&mut self, events: &mut Events) {
        let due = |(_, registration): &(&RawFd, &mut Registration)| {
            registration.changed || !registration.interest.edge
        };
        for (fd, registration) in self.registered.iter_mut().filter(due) {
            let Some(level) = self.levels.get(fd) else {
                continue;
            };
            let ended = level.error || level.hangup;
            let event = Event {
                token: registration.token,
                readable: ended || (level.readable && registration.interest.readable),
                writable: ended || (level.writable && registration.interest.writable),
                ..*level
            };
            if (event.readable || event.writable) && events.as_slice().len() < events.capacity() {
                registration.changed = false;
                events.push(event);
            }
        }
    }
}

impl Driver for Simulated {
    fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut state = self.lock();
        if state.registered.contains_key(&fd) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        state
            .registered
            .insert(fd, Registration::new(token, interest));
        Ok(())
    }

    fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        match self.lock().registered.get_mut(&fd) {
            Some(registration) => {
                *registration = Registration::new(token, interest);
                Ok(())
            }
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        match self.lock().registered.remove(&fd) {
            Some(_) => Ok(()),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    /// Moves the clock from one scripted step to the next until something is ready or the timeout
    /// is over. Without a timeout it returns with no event when the script ends, rather than for
    /// ever.
    fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize> {
        events.clear();
        let end = timeout_ns.map_or(u64::MAX, |timeout| self.clock.now().saturating_add(timeout));
        let mut state = self.lock();
        loop {
            state.play_until(self.clock.now());
            state.collect(events);
            let count = events.as_slice().len();
            if count > 0 {
                return Ok(count);
            }
            match state.script.front().filter(|step| step.at <= end) {
                Some(step) => self.clock.advance_to(step.at),
                None => {
                    if timeout_ns.is_some() {
                        self.clock.advance_to(end);
                    }
                    return Ok(0);
                }
            }
        }
    }
}
