//! A worker's end of the pool: where its jobs come from, and where it sleeps.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::news::News;
use super::pace::{Spent, TICK};
use super::{Shared, State, Wait};
use crate::clock::{Clock, ThreadTime};

/// How often a watcher lets itself be told that it could not go on either, before it tries all the same.
const HOPELESS_TICKS: u32 = 20;

/// What a sleeping worker is to do.
const NOTHING: u8 = 0;
const WORK: u8 = 1;
const WATCH: u8 = 2;

/// Where a worker sleeps.
pub(super) struct Seat {
    thread: Thread,
    /// Changed only under the lock of the state.
    order: AtomicU8,
}

impl Seat {
    pub(super) fn of_this_thread() -> Self {
        Self {
            thread: thread::current(),
            order: AtomicU8::new(NOTHING),
        }
    }

    fn order(&self, what: u8) {
        self.order.store(what, Ordering::Relaxed);
    }
}

/// A sleeper to be woken once the lock of the state is free.
#[must_use = "it sleeps until it is woken"]
pub(super) struct Sleeper(Arc<Seat>);

impl Sleeper {
    pub(super) fn wake(self) {
        self.0.thread.unpark();
    }
}

#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    /// By the thread's clock, in nanoseconds, if that is of interest.
    work: Option<u64>,
    handovers: usize,
}

/// A job, and what to do before it is run.
#[derive(Debug)]
pub struct Next<J> {
    pub job: J,
    /// News that the worker has kept must be told first: the job may take long.
    pub tell: bool,
}

/// A worker's end of the pool.
pub struct JobSource<J: Send + 'static> {
    pub(super) shared: Arc<Shared<J>>,
    seat: Arc<Seat>,
    /// Whether this worker was woken and has not looked for a job since.
    pub(super) woken: Cell<bool>,
    pub(super) has_worked: Cell<bool>,
    /// When it took the job that it runs.
    begun: Cell<Option<Begun>>,
    /// What it has not told.
    news: Cell<News>,
}

impl<J: Send + 'static> JobSource<J> {
    /// That of this thread, which is counted as waking.
    pub(super) fn new(shared: Arc<Shared<J>>) -> Self {
        Self {
            shared,
            seat: Arc::new(Seat::of_this_thread()),
            woken: Cell::new(true),
            has_worked: Cell::new(false),
            begun: Cell::new(None),
            news: Cell::default(),
        }
    }

    /// The next queued job, without waiting; `None` also where another worker gets on well by itself.
    ///
    /// `has_news` says that there are outcomes, of this worker's jobs or of others', of which nobody was told. They
    /// may be kept until the next call if the answer says so; if this worker is stuck in the meantime,
    /// [`wait`](Self::wait) sends another one. Where there is no answer they are to be told now.
    ///
    /// `handovers` is how often the lock that jobs need has been handed over so far.
    pub fn next_ready(&self, has_news: bool, handovers: usize) -> Option<Next<J>> {
        let now = Instant::now();
        let spent = self.begun.take().map(|begun| begun.spent(now, handovers));
        let mut state = self.shared.lock();
        self.has_looked(&mut state);
        if let Some(spent) = spent {
            state.pace.took(spent);
        }
        state.pace.has_news = false;
        let is_covered = !state.shutdown && state.pace.is_covered_without(&self.seat);
        let Some(job) = state.jobs.pop_front_if(|_| !is_covered) else {
            // It will look once more, before it sleeps: nobody else need be woken until then.
            self.woken.set(true);
            state.waking += 1;
            return None;
        };
        self.has_worked.set(true);
        let is_brisk = state.pace.is_brisk();
        state.pace.goes_on(&self.seat, now);
        // No thread to be had is no failure here: this one comes back for more.
        let sleeper = if !state.jobs.is_empty() {
            self.shared.summon(&mut state).unwrap_or_default()
        } else if state.pace.is_flowing() {
            self.shared.have_watched(&mut state).unwrap_or_default()
        } else {
            None
        };
        let mut news = self.news.get();
        let keeps = news.waits(has_news && state.pace.may_keep_news(), now);
        self.news.set(news);
        state.pace.has_news = keeps;
        drop(state);
        wake(sleeper);
        self.begun.set(Some(Begun {
            at: now,
            work: (!is_brisk).then(|| ThreadTime.now()),
            handovers,
        }));
        Some(Next {
            job,
            tell: has_news && !keeps,
        })
    }

    /// Sleeps until there is work, or news to be told for somebody who is stuck, or the pool is shut down. What
    /// is queued at shutdown comes first.
    ///
    /// `is_hopeless` is asked before this worker takes over from one who does not get on: whether it could not
    /// either, because what both need is in other hands.
    pub fn wait(&self, is_hopeless: impl Fn() -> bool) -> Wait {
        let mut state = self.shared.lock();
        self.begun.set(None);
        self.news.take();
        state.pace.rests(&self.seat);
        loop {
            let is_covered = !state.shutdown && state.pace.is_covered_without(&self.seat);
            if !state.jobs.is_empty() && !is_covered || state.pace.has_news && self.woken.get() {
                if !self.woken.replace(true) {
                    state.waking += 1;
                }
                return Wait::Ready;
            }
            self.has_looked(&mut state);
            if state.shutdown {
                return Wait::Shutdown;
            }
            let watches = !state.jobs.is_empty() && state.pace.watcher.is_none();
            if watches {
                state.pace.watcher = Some(Arc::clone(&self.seat));
            } else {
                state.asleep.push(Arc::clone(&self.seat));
            }
            state = self.sleep(state, watches, &is_hopeless);
        }
    }

    fn has_looked(&self, state: &mut State<J>) {
        state.pace.looks += 1;
        if self.woken.replace(false) {
            state.waking -= 1;
        }
    }

    /// Returns when this worker is told to work, or when it has found that it has to.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<J>>,
        mut watches: bool,
        is_hopeless: &impl Fn() -> bool,
    ) -> MutexGuard<'a, State<J>> {
        let (mut seen, mut hopeless) = (state.pace.looks, 0);
        loop {
            drop(state);
            if watches {
                thread::park_timeout(TICK);
            } else {
                thread::park();
            }
            state = self.shared.lock();
            match self.seat.order.swap(NOTHING, Ordering::Relaxed) {
                WORK => {
                    self.woken.set(true);
                    return state;
                }
                WATCH => {
                    watches = true;
                    seen = state.pace.looks;
                    continue;
                }
                _ if !watches => continue,
                _ => {}
            }
            if state.pace.looks != seen {
                seen = state.pace.looks;
                hopeless = 0;
            } else if state.jobs.is_empty() && !state.pace.has_news {
                // Nothing moves since there is nothing to do. Who works is woken before this one.
                state.pace.watcher = None;
                state.asleep.insert(0, Arc::clone(&self.seat));
                watches = false;
            } else if state.waking > 0 || (hopeless < HOPELESS_TICKS && is_hopeless()) {
                hopeless += 1;
            } else {
                state.pace.falter();
                state.waking += 1;
                self.woken.set(true);
                return state;
            }
        }
    }

    /// The thread ends, however its worker has.
    pub(super) fn leave(&self) {
        let mut state = self.shared.lock();
        state.threads -= 1;
        state.pace.rests(&self.seat);
        if self.woken.get() {
            state.waking -= 1;
        }
        // A worker that panicked over one job must not leave the others without anybody. One that
        // left without taking a job would only be followed by another like it.
        let sleeper = if !state.jobs.is_empty() && self.has_worked.get() {
            self.shared.summon(&mut state).unwrap_or_default()
        } else {
            None
        };
        if state.threads == 0 {
            self.shared.ended.notify_all();
        }
        drop(state);
        wake(sleeper);
    }
}

impl Begun {
    fn spent(&self, now: Instant, handovers: usize) -> Spent {
        Spent {
            time: now.duration_since(self.at),
            work: self
                .work
                .map(|work| Duration::from_nanos(ThreadTime.now() - work)),
            was_shared: handovers != self.handovers,
        }
    }
}

impl<J> State<J> {
    /// Takes a sleeping worker, the watcher last, and has it work.
    pub(super) fn send_to_work(&mut self) -> Option<Sleeper> {
        let seat = match self.asleep.pop() {
            Some(seat) => seat,
            None => self.pace.watcher.take()?,
        };
        self.waking += 1;
        seat.order(WORK);
        Some(Sleeper(seat))
    }

    /// Has a sleeping worker watch.
    pub(super) fn send_to_watch(&mut self) -> Option<Sleeper> {
        let seat = self.asleep.pop()?;
        seat.order(WATCH);
        self.pace.watcher = Some(Arc::clone(&seat));
        Some(Sleeper(seat))
    }
}

pub(super) fn wake(sleeper: Option<Sleeper>) {
    if let Some(sleeper) = sleeper {
        sleeper.wake();
    }
}
