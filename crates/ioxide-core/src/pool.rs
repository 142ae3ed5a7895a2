//! Threads for work that blocks: started when needed, woken one after the other.
//!
//! A worker is woken *before* a job is given to it, takes the job itself, and only then is the next
//! worker woken. So a worker that needs a lock to run jobs (the interpreter's) can take the lock
//! first and then go on from job to job while it holds it: short jobs are run by one worker in a
//! row without a single further wake-up, and as soon as one blocks and lets go of the lock, the
//! next worker is there. Nothing is lost by this: whenever jobs are queued, either some worker has
//! been woken and will look, or all of them are busy and will look when they are done.
//!
//! # Brisk work
//! Jobs that let go of the lock for some microseconds, as those that open and read files do, would
//! be fought over all the same: each time the next worker takes the lock, and the first one waits
//! to get it back. So after a row of short jobs whoever runs them is left alone, and another worker
//! watches without the lock. When nothing has moved for a tick of 0.1 ms it takes over, and workers
//! are woken one after the other again, until there has been another row. So a job that blocks
//! may hold back others for that long, once in a row. News of what is done may be kept while work
//! is brisk, and are told together: whoever is told would want the lock as well.

mod news;
mod pace;
mod source;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// As much as the interpreter's own threads have: its recursion limits count on it. It is reserved
/// address space, of which only what is used becomes memory.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// What every worker runs: takes jobs from the source until that says shutdown.
pub type Worker<J> = Arc<dyn Fn(&JobSource<J>) + Send + Sync>;

use pace::Pace;
use source::{wake, Seat, Sleeper};
pub use source::{JobSource, Next};

/// A pool of threads for jobs that block. Dropping it shuts it down without waiting.
pub struct Pool<J: Send + 'static> {
    shared: Arc<Shared<J>>,
}

/// Why a worker's wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// There is work: take it with [`JobSource::next_ready`], now or after getting hold of a lock.
    Ready,
    /// The pool is shut down and nothing is left to do: return.
    Shutdown,
}

/// A job that the pool did not take.
#[derive(Debug)]
pub enum Rejected<J> {
    /// The pool is shut down.
    Shutdown(J),
    /// There is no thread, and the system refused to start one.
    NoThread(J, io::Error),
}

struct Shared<J: Send + 'static> {
    state: Mutex<State<J>>,
    /// Signalled when the last thread ends.
    ended: Condvar,
    worker: Worker<J>,
    name_prefix: String,
    max_threads: usize,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Threads that run or are about to.
    threads: usize,
    /// Threads that sleep until they are told; who went to sleep last is woken first.
    asleep: Vec<Arc<Seat>>,
    /// Threads that were woken or started and have not looked for a job since.
    waking: usize,
    pace: Pace,
    started: usize,
    shutdown: bool,
    handles: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> Pool<J> {
    /// A pool of at most `max_threads` threads (at least one), named `{name_prefix}_{n}`; none is
    /// started yet.
    pub fn new(max_threads: usize, name_prefix: impl Into<String>, worker: Worker<J>) -> Self {
        Self {
            shared: Arc::new(Shared::new(max_threads.max(1), name_prefix.into(), worker)),
        }
    }

    /// Queues a job, and wakes or starts a thread for it unless one is on its way already.
    pub fn submit(&self, job: J) -> Result<(), Rejected<J>> {
        self.queue(job, false).map(drop)
    }

    /// As [`submit`](Self::submit), for who has the lock that workers need and is about to let go of it: a
    /// thread that is woken now might only wait for it. Whether [`begin`](Self::begin) is to be called then; if that takes
    /// longer than expected, the watcher sees to it.
    pub fn submit_soon(&self, job: J) -> Result<bool, Rejected<J>> {
        self.queue(job, true)
    }

    /// Wakes a thread for what [`submit_soon`](Self::submit_soon) has queued, unless it is under way.
    pub fn begin(&self) {
        let mut state = self.shared.lock();
        if !state.jobs.is_empty() {
            // There is the watcher at least.
            let sleeper = self.shared.summon(&mut state).unwrap_or_default();
            drop(state);
            wake(sleeper);
        }
    }

    fn queue(&self, job: J, soon: bool) -> Result<bool, Rejected<J>> {
        let mut state = self.shared.lock();
        if state.shutdown {
            return Err(Rejected::Shutdown(job));
        }
        state.jobs.push_back(job);
        if soon && state.pace.is_flowing() && state.pace.watcher.is_some() {
            return Ok(state.waking == 0 && !state.pace.is_covered());
        }
        match self.shared.summon(&mut state) {
            Ok(sleeper) => {
                drop(state);
                wake(sleeper);
            }
            // Without a single thread nobody would ever run the job; otherwise somebody will.
            Err(error) if state.threads == 0 => {
                if let Some(job) = state.jobs.pop_back() {
                    return Err(Rejected::NoThread(job, error));
                }
            }
            Err(_) => {}
        }
        Ok(false)
    }

    /// Takes no more jobs. Those queued are run, or returned with `drop_pending`. Does not wait.
    pub fn shutdown(&self, drop_pending: bool) -> Vec<J> {
        let mut state = self.shared.lock();
        state.shutdown = true;
        let dropped = if drop_pending {
            state.jobs.drain(..).collect()
        } else {
            Vec::new()
        };
        let sleepers: Vec<Sleeper> = std::iter::from_fn(|| state.send_to_work()).collect();
        drop(state);
        sleepers.into_iter().for_each(Sleeper::wake);
        dropped
    }

    /// Waits until all threads have ended, after [`shutdown`](Self::shutdown). `false` when the
    /// timeout came first, and at once when a thread of the pool waits for itself.
    pub fn join(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let current = thread::current().id();
        let mut state = self.shared.lock();
        if state
            .handles
            .iter()
            .any(|handle| handle.thread().id() == current)
        {
            return false;
        }
        while state.threads > 0 {
            let ended = &self.shared.ended;
            state = match deadline.map(|end| end.saturating_duration_since(Instant::now())) {
                None => ended.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    ended
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        let handles = std::mem::take(&mut state.handles);
        drop(state);
        for handle in handles {
            // A worker's panic has been reported by the panic hook; it has ended all the same.
            let _ = handle.join().is_ok();
        }
        true
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.lock().threads
    }

    /// In a forked child: begins anew without threads and jobs, since those stayed in the parent.
    pub fn reset_after_fork(&mut self) {
        let old = &self.shared;
        let fresh = Shared::new(
            old.max_threads,
            old.name_prefix.clone(),
            Arc::clone(&old.worker),
        );
        let abandoned = std::mem::replace(&mut self.shared, Arc::new(fresh));
        // Its lock may be held for ever by a thread that does not exist here.
        std::mem::forget(abandoned);
    }
}

impl<J: Send + 'static> Drop for Pool<J> {
    fn drop(&mut self) {
        drop(self.shutdown(true));
    }
}

impl<J: Send + 'static> Shared<J> {
    fn new(max_threads: usize, name_prefix: String, worker: Worker<J>) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            threads: 0,
            asleep: Vec::new(),
            waking: 0,
            pace: Pace::new(),
            started: 0,
            shutdown: false,
            handles: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            ended: Condvar::new(),
            worker,
            name_prefix,
            max_threads,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        // Nothing that can panic half-way runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody will look for jobs, if there is anybody who is not busy.
    fn summon(self: &Arc<Self>, state: &mut State<J>) -> io::Result<Option<Sleeper>> {
        if state.waking > 0 {
            return Ok(None);
        }
        if state.pace.is_covered() {
            return self.have_watched(state);
        }
        let sleeper = state.send_to_work();
        self.start_thread_without(&sleeper, state)?;
        Ok(sleeper)
    }

    /// Sees to it that somebody watches, if there is anybody who is not busy.
    fn have_watched(self: &Arc<Self>, state: &mut State<J>) -> io::Result<Option<Sleeper>> {
        if state.pace.watcher.is_some() {
            return Ok(None);
        }
        let sleeper = state.send_to_watch();
        self.start_thread_without(&sleeper, state)?;
        Ok(sleeper)
    }

    fn start_thread_without(
        self: &Arc<Self>,
        sleeper: &Option<Sleeper>,
        state: &mut State<J>,
    ) -> io::Result<()> {
        if sleeper.is_none() && state.threads < self.max_threads {
            self.start_thread(state)?;
        }
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, state: &mut State<J>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let handle = thread::Builder::new()
            .name(format!("{}_{}", self.name_prefix, state.started))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let worker = Arc::clone(&shared.worker);
                let source = Leaving(JobSource::new(shared));
                worker(&source.0);
            })?;
        state.handles.push(handle);
        state.started += 1;
        state.threads += 1;
        state.waking += 1;
        Ok(())
    }
}

/// Signs a thread off, however its worker ends.
struct Leaving<J: Send + 'static>(JobSource<J>);

impl<J: Send + 'static> Drop for Leaving<J> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
