//! One turn of the loop: wait, events, timers, batch. Work runs nowhere else.

use super::EventLoop;
use crate::fork;
use crate::intern;
use crate::kit::{err, ffi, gil, Native, PyResult, Raised};
use crate::transport::hub;
use ioxide_core::clock::{Clock, Monotonic, ThreadTime};
use ioxide_core::driver::epoll::Epoll;
use ioxide_core::driver::linger::{self, Linger, Plan};
use ioxide_core::driver::waker::Waker;
use ioxide_core::driver::{Driver, Events, Interest, RESERVED_TOKEN};
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::sync::Arc;

/// While work is ready the kernel is asked after so much of it only …
const WORK_BETWEEN_POLLS: usize = 256;
/// … or when this many nanoseconds have passed, looked at every few turns.
const NS_BETWEEN_POLLS: u64 = 100_000;
const TURNS_BETWEEN_LOOKS: u32 = 8;

/// … but in so many turns after bytes came, went, or descriptors changed it is asked each time: an answer is near, and
/// programs count on seeing it after as many turns as with asyncio, which asks in each.
const ATTENTIVE_TURNS: u32 = 8;

/// With more timers than this pending, …
const MANY_TIMERS: usize = 16;
/// … the loop sleeps at least so many nanoseconds between two looks at them: what is due in between is late by
/// no more than asyncio's clock of milliseconds makes it, and a dense crowd of timers does not cost a system call
/// and a wake-up each, which take ten times as long as a timer.
const NS_BETWEEN_WAKES: u64 = 1_000_000;

/// The most events of one wait.
const EVENTS: usize = 512;
/// How many of them are passed on in a turn, unless more is ready anyway: those that they wake go on in the turn after
/// it, while what belongs to them is still in the processor's cache, and their peers have something to do meanwhile.
const EVENTS_AT_ONCE: usize = 8;
/// Fewer, if they would bring streams more bytes than this, going by those before: these have to stay in the cache too,
/// until they are read.
const BYTES_AT_ONCE: usize = 64 * 1024;

/// The driver, and when to ask it.
pub(crate) struct Polling {
    driver: UnsafeCell<Option<Box<Backend>>>,
    /// How many events the last wait has brought …
    collected: Cell<usize>,
    /// … and how many of them were passed on.
    passed: Cell<usize>,
    /// How many of those passed on last have brought bytes to streams, …
    bringers: Cell<usize>,
    /// … and how many bytes.
    brought: Cell<usize>,
    /// Which wait that was; wraps around.
    collection: Cell<u32>,
    usable: Cell<bool>,
    asleep: Cell<bool>,
    turns: Cell<u32>,
    /// In how many turns from now the kernel is asked for sure, if it has anything to tell.
    attentive: Cell<u32>,
    /// How many descriptors it may tell of.
    registered: Cell<usize>,
    work: Cell<usize>,
    last: Cell<u64>,
    /// How much of this turn's work has run none of the program's code.
    silent: Cell<usize>,
    /// None of the program's code has run since the kernel was asked.
    unchanged: Cell<bool>,
    linger: Linger,
}

/// What the kernel gives a loop.
pub(crate) struct Backend {
    pub(crate) driver: Epoll,
    waker: Arc<Waker>,
    /// What the last wait has brought.
    events: UnsafeCell<Events>,
    /// In which process it was opened.
    generation: u32,
}

impl Polling {
    pub(crate) fn new() -> Polling {
        Polling {
            driver: UnsafeCell::new(None),
            collected: Cell::new(0),
            passed: Cell::new(0),
            bringers: Cell::new(0),
            brought: Cell::new(0),
            collection: Cell::new(0),
            usable: Cell::new(false),
            asleep: Cell::new(false),
            turns: Cell::new(0),
            attentive: Cell::new(0),
            registered: Cell::new(0),
            work: Cell::new(0),
            last: Cell::new(0),
            silent: Cell::new(0),
            unchanged: Cell::new(false),
            linger: Linger::new(),
        }
    }

    /// From now on the descriptors are opened when they are needed.
    pub(crate) fn begin(&self) {
        self.usable.set(true);
    }

    /// Whether the loop has begun and is not closed.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable.get()
    }

    /// Opens the descriptors, in the place of those that a fork has inherited.
    pub(crate) fn open(&self) -> io::Result<()> {
        let backend = Backend {
            driver: Epoll::new()?,
            waker: Arc::new(Waker::new()?),
            events: UnsafeCell::new(Events::with_capacity(EVENTS)),
            generation: fork::generation(),
        };
        backend
            .driver
            .add(backend.waker.fd(), RESERVED_TOKEN, Interest::READABLE)?;
        self.has_collected(0);
        // SAFETY: no borrow is alive: there was nothing to borrow, or it is reopened after a fork.
        unsafe { *self.driver.get() = Some(Box::new(backend)) };
        Ok(())
    }

    /// Closes the descriptors.
    pub(crate) fn close(&self) {
        self.usable.set(false);
        self.has_collected(0);
        // SAFETY: a loop is closed only while it does not run, so no wait borrows the backend.
        unsafe { *self.driver.get() = None };
    }

    /// The backend of a loop that has needed it.
    fn opened(&self) -> Option<&Backend> {
        // SAFETY: replaced only by `open` and `close`, when nobody borrows it.
        unsafe { (*self.driver.get()).as_deref() }
    }

    /// The backend of a loop that is not closed.
    pub(crate) fn backend(&self) -> io::Result<Option<&Backend>> {
        if self.opened().is_none() && self.usable.get() {
            self.open()?;
        }
        Ok(self.opened())
    }

    /// Whether this process is a fork of the one that opened the descriptors: they are the parent's.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        self.opened()
            .is_some_and(|backend| backend.generation != fork::generation())
    }

    #[inline(always)]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.get()
    }

    /// Interrupts the wait of a sleeping loop, once.
    #[cold]
    pub(crate) fn wake(&self) {
        self.asleep.set(false);
        if let Some(backend) = self.opened() {
            backend.waker.wake();
        }
    }

    /// If the loop sleeps: the waker by which the caller must end that, which it may do without the
    /// interpreter lock.
    pub(crate) fn claim_wake(&self) -> Option<Arc<Waker>> {
        if !self.asleep.replace(false) {
            return None;
        }
        self.opened().map(|backend| Arc::clone(&backend.waker))
    }

    /// A wait has brought so many events.
    fn has_collected(&self, count: usize) {
        self.passed.set(0);
        self.collected.set(count);
        self.collection.set(self.collection.get().wrapping_add(1));
    }

    /// Whether some of what the last wait has brought was not passed on yet.
    #[inline(always)]
    fn has_events(&self) -> bool {
        self.passed.get() < self.collected.get()
    }

    /// Which wait the events come from that are passed on now.
    pub(crate) fn collection(&self) -> u32 {
        self.collection.get()
    }

    /// Something was done that the kernel is likely to answer.
    #[inline(always)]
    pub(crate) fn attend(&self) {
        self.attentive.set(ATTENTIVE_TURNS);
    }

    /// A descriptor was registered for one thing and is for another.
    #[inline]
    pub(crate) fn counts(&self, before: Interest, after: Interest) {
        let count = self.registered.get() + usize::from(!after.is_none());
        let left = count.saturating_sub(usize::from(!before.is_none()));
        self.registered.set(left);
    }

    /// Nothing is registered any more.
    pub(crate) fn counts_anew(&self) {
        self.registered.set(0);
    }

    /// What was just done on behalf of the kernel has run none of the program's code.
    #[inline(always)]
    pub(crate) fn was_silent(&self) {
        self.silent.set(self.silent.get() + 1);
    }

    /// An event has brought a stream so many bytes, which are read in the next turn.
    #[inline(always)]
    pub(crate) fn has_brought(&self, count: usize) {
        self.bringers.set(self.bringers.get() + 1);
        self.brought.set(self.brought.get().saturating_add(count));
    }

    /// How many events to pass on, beside so much work that is ready.
    #[inline]
    fn at_once(&self, ready: usize) -> usize {
        let bringers = self.bringers.replace(0);
        let fitting = match self.brought.replace(0) {
            0 => EVENTS_AT_ONCE,
            brought => (bringers * BYTES_AT_ONCE / brought).clamp(1, EVENTS_AT_ONCE),
        };
        // The reads are ready too.
        fitting.max(ready.saturating_sub(bringers))
    }

    /// A turn's work is done, which was so much.
    #[inline]
    fn has_worked(&self, count: usize) {
        let silent = self.silent.replace(0);
        self.unchanged.set(silent == count && count > 0);
    }

    /// Whether it is time to ask the kernel although work is ready.
    #[inline]
    fn is_due(&self, now: impl FnOnce() -> u64) -> bool {
        // The kernel was asked in the turn before, which has only received and woken: there is nothing to answer yet.
        if self.unchanged.replace(false) {
            return false;
        }
        let attentive = self.attentive.get();
        if attentive > 0 {
            self.attentive.set(attentive - 1);
            if self.registered.get() > 0 {
                return true;
            }
        }
        let turns = self.turns.get() + 1;
        self.turns.set(turns);
        if self.work.get() >= WORK_BETWEEN_POLLS {
            return true;
        }
        turns.is_multiple_of(TURNS_BETWEEN_LOOKS)
            && now().saturating_sub(self.last.get()) > NS_BETWEEN_POLLS
    }

    /// How to wait for so many nanoseconds, or for ever, with nothing to do meanwhile.
    fn plan(&self, timeout: Option<u64>) -> Plan {
        if timeout.is_some_and(|timeout| timeout < linger::LONGEST) {
            return Plan::Sleep;
        }
        self.linger.plan()
    }

    #[inline]
    fn has_polled(&self, now: u64) {
        self.turns.set(0);
        self.work.set(0);
        self.last.set(now);
    }
}

impl EventLoop {
    /// Runs one turn. What becomes ready during the batch waits for the next turn, so that a callback which
    /// reschedules itself starves neither I/O nor timers (mirrors `BaseEventLoop._run_once`).
    pub(crate) fn turn(&self) -> PyResult<()> {
        if self.clock.asks() {
            self.ask_for_time()?;
        }
        // The clock is read once, and again only after the kernel was asked.
        let mut now = self.time_for_timers();
        let is_idle = self.ready.is_empty() && !now.is_some_and(|now| self.timers.are_due(now));
        if self.polling.has_events() {
            self.pass_on();
        } else if is_idle
            || self.is_late()
            || self
                .polling
                .is_due(|| now.unwrap_or_else(|| self.clock.now()))
        {
            now = Some(self.poll()?);
        }
        if let Some(now) = now {
            self.expire(now);
        }
        self.hub.begin_batch();
        let result = self.run_batch();
        hub::end_batch(self, result)
    }

    /// The time by which timers are due or not; none if there is no timer.
    #[inline]
    fn time_for_timers(&self) -> Option<u64> {
        match self.timers.len() {
            0 => None,
            // It was due when it was made, as those of `call_later(0)` are: there is nothing else to find out.
            1 if self.timers.are_due(self.clock.seen()) => Some(self.clock.seen()),
            _ => Some(self.clock.now()),
        }
    }

    /// Asks the kernel, waiting if nothing is ready; returns the time after that.
    fn poll(&self) -> PyResult<u64> {
        check_signals()?;
        self.renew_after_fork()
            .map_err(|error| err::raise_os(&error))?;
        self.register_late();
        let timeout = self.timeout();
        let events = self.wait(timeout)?;
        if events == 0 && self.clock.is_virtual() {
            self.jump();
        }
        if self.clock.asks() {
            self.ask_for_time()?;
        }
        let now = self.clock.now();
        self.polling.has_polled(now);
        Ok(now)
    }

    /// Calls the `time()` that a subclass or an attribute of this loop has put in place of ours: timers go by it, as
    /// with asyncio. If there is none any more, the clock is the kernel's again.
    #[cold]
    pub(crate) fn ask_for_time(&self) -> PyResult<()> {
        let time = self.as_any().attr(intern!("time"))?;
        if time.is_builtin_function() {
            self.clock.ask_no_more();
            return Ok(());
        }
        let now = time.call0()?.to_f64()?;
        // As deadlines are rounded, so that what is due at this very time is.
        self.clock.tell(super::clock::to_ns(now));
        Ok(())
    }

    /// Moves a virtual clock to the next deadline: nothing is ready, nor has the kernel anything.
    #[cold]
    fn jump(&self) {
        if self.ready.is_empty() && !self.stopping.get() {
            if let Some(deadline) = self.timers.next_deadline() {
                self.clock.advance_to(deadline);
            }
        }
    }

    /// How long the loop may sleep, in nanoseconds.
    fn timeout(&self) -> Option<u64> {
        if !self.ready.is_empty() || self.stopping.get() {
            return Some(0);
        }
        let deadline = self.timers.next_deadline()?;
        if self.clock.is_virtual() {
            return Some(0);
        }
        let deadline = if self.timers.len() > MANY_TIMERS {
            deadline.max(self.polling.last.get() + NS_BETWEEN_WAKES)
        } else {
            deadline
        };
        Some(deadline.saturating_sub(self.clock.now()))
    }

    /// Waits, and passes on what has happened; returns how much that was.
    fn wait(&self, timeout: Option<u64>) -> PyResult<usize> {
        let backend = self.polling.backend();
        let Some(backend) = backend.map_err(|error| err::raise_os(&error))? else {
            return self.refuse_if_closed().map(|()| 0);
        };
        // SAFETY: only this function changes the buffer, and it does not call itself: waiting runs no Python code
        // of this loop.
        let events = unsafe { &mut *backend.events.get() };
        let to_begin = self.executor.take_waiting();
        let begin = move || {
            if let Some(pool) = to_begin {
                pool.begin();
            }
        };
        let may_sleep = timeout != Some(0);
        let result = if !may_sleep && !gil::is_wanted() {
            begin();
            backend.driver.wait(events, timeout)
        } else if !may_sleep {
            // The loop is busy: other threads have their turn.
            let driver = &backend.driver;
            let events: &mut Events = events;
            gil::lent(|| {
                begin();
                driver.wait(events, timeout)
            })
        } else {
            // What the last callbacks saw is not kept alive by a loop that has nothing to do.
            self.snapshots.rest();
            self.polling.asleep.set(true);
            let result = self.sleep(&backend.driver, events, timeout, begin);
            self.polling.asleep.set(false);
            result
        };
        self.polling.has_collected(*result.as_ref().unwrap_or(&0));
        if may_sleep {
            // What was collected is passed on later, should a handler raise.
            check_signals()?;
        }
        let count = result.map_err(|error| err::raise_os(&error))?;
        self.pass_on();
        Ok(count)
    }

    /// Passes on the next of the events that were collected: as if the kernel had told of no more, which it may do at
    /// any time. But no less than what is ready already, so that a loop with much to do does not keep them waiting.
    fn pass_on(&self) {
        let Some(backend) = self.polling.opened() else {
            return;
        };
        if !self.polling.has_events() {
            return;
        }
        let first = self.polling.passed.get();
        let count = self.polling.at_once(self.ready.len());
        let end = self.polling.collected.get().min(first + count);
        self.polling.passed.set(end);
        // SAFETY: only `wait` changes the buffer, and nothing here waits or runs Python code.
        let events = unsafe { &*backend.events.get() };
        for event in events.as_slice().get(first..end).unwrap_or_default() {
            if event.token == RESERVED_TOKEN {
                backend.waker.drain();
            } else {
                self.polling.attend();
                self.dispatch(event);
            }
        }
    }

    /// Waits without the interpreter lock, calling `begin` first. Returns early with nothing if the loop has lingered in
    /// vain: before it sleeps, signals and the timeout are looked at again.
    fn sleep(
        &self,
        driver: &Epoll,
        events: &mut Events,
        timeout: Option<u64>,
        begin: impl FnOnce() + Send,
    ) -> io::Result<usize> {
        let learned = &self.polling.linger;
        let plan = self.polling.plan(timeout);
        let (result, taken) = gil::released(|| {
            begin();
            match plan {
                Plan::Sleep => (driver.wait(events, timeout), 0),
                Plan::Measure => {
                    let begun = ThreadTime.now();
                    let result = driver.wait(events, timeout);
                    (result, ThreadTime.now() - begun)
                }
                Plan::Linger(longest) => {
                    match linger::linger(driver, events, &Monotonic, longest) {
                        Ok((count, elapsed)) => (Ok(count), elapsed),
                        Err(error) => (Err(error), 0),
                    }
                }
            }
        });
        let count = result?;
        match plan {
            Plan::Sleep => {}
            Plan::Measure => learned.measured(taken),
            Plan::Linger(_) if count > 0 => learned.gained(taken),
            Plan::Linger(_) => {
                learned.lost();
                return Ok(0);
            }
        }
        let first = events.as_slice().first();
        learned.ended(count == 1 && first.is_some_and(|event| event.token != RESERVED_TOKEN));
        Ok(count)
    }

    /// Runs what was ready when the batch began.
    fn run_batch(&self) -> PyResult<()> {
        let count = self.ready.len();
        self.polling.work.set(self.polling.work.get() + count);
        if self.debug() {
            return self.run_batch_watched(count);
        }
        let mut left = count;
        while left > 0 {
            let Some(work) = self.ready.pop() else { break };
            left -= 1;
            work.run(self, &mut left)?;
        }
        self.polling.has_worked(count);
        Ok(())
    }

    /// As [`EventLoop::run_batch`], reporting what takes long.
    #[cold]
    fn run_batch_watched(&self, count: usize) -> PyResult<()> {
        for _ in 0..count {
            let Some(mut work) = self.ready.pop() else {
                break;
            };
            work.show(self).unwrap_or_else(err::discard);
            let begun = self.clock.seconds();
            let shown = super::report::Shown::of(&work);
            work.run(self, &mut 0)?;
            let duration = self.clock.seconds() - begun;
            if duration >= self.slow_callback_duration.get() {
                super::report::slow(&shown, duration)?;
            }
        }
        Ok(())
    }
}

/// Runs the handlers of signals that have come, if this is the main thread.
pub(crate) fn check_signals() -> PyResult<()> {
    // SAFETY: no precondition but the lock.
    match unsafe { ffi::PyErr_CheckSignals() } {
        0 => Ok(()),
        _ => Err(Raised),
    }
}
