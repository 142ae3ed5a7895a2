//! Threads for work that blocks: started when needed, woken one after the other.
//!
//! A worker is woken *before* a job is given to it, takes the job itself, and only then is the next
//! worker woken. So a worker that needs a lock to run jobs (the interpreter's) can take the lock
//! first and then go on from job to job while it holds it: short jobs are run by one worker in a
//! row without a single further wake-up, and as soon as one blocks and lets go of the lock, the
//! next worker is there. Nothing is lost by this: whenever jobs are queued, either some worker has
//! been woken and will look, or all of them are busy and will look when they are done.

use std::cell::Cell;
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

/// A worker's end of the pool.
pub struct JobSource<J: Send + 'static> {
    shared: Arc<Shared<J>>,
    /// Whether this worker was woken and has not looked for a job since.
    woken: Cell<bool>,
    has_worked: Cell<bool>,
}

struct Shared<J: Send + 'static> {
    state: Mutex<State<J>>,
    /// Signalled once for every permit, and for all at shutdown.
    work: Condvar,
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
    /// Threads that sleep and have no permit to wake up.
    idle: usize,
    /// Permits to wake up that no sleeper has taken yet.
    permits: usize,
    /// Threads that were woken or started and have not looked for a job since.
    waking: usize,
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
        let mut state = self.shared.lock();
        if state.shutdown {
            return Err(Rejected::Shutdown(job));
        }
        state.jobs.push_back(job);
        if let Err(error) = self.shared.summon(&mut state) {
            // Without a single thread nobody would ever run the job; otherwise somebody will.
            if state.threads == 0 {
                if let Some(job) = state.jobs.pop_back() {
                    return Err(Rejected::NoThread(job, error));
                }
            }
        }
        Ok(())
    }

    /// Takes no more jobs. Those queued are run, or returned with `drop_pending`. Does not wait.
    pub fn shutdown(&self, drop_pending: bool) -> Vec<J> {
        let mut state = self.shared.lock();
        state.shutdown = true;
        self.shared.work.notify_all();
        if drop_pending {
            state.jobs.drain(..).collect()
        } else {
            Vec::new()
        }
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
            idle: 0,
            permits: 0,
            waking: 0,
            started: 0,
            shutdown: false,
            handles: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
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
    fn summon(self: &Arc<Self>, state: &mut State<J>) -> io::Result<()> {
        if state.waking > 0 {
            return Ok(());
        }
        if state.idle > 0 {
            state.idle -= 1;
            state.permits += 1;
            state.waking += 1;
            self.work.notify_one();
        } else if state.threads < self.max_threads {
            self.start_thread(state)?;
        }
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, state: &mut State<J>) -> io::Result<()> {
        let source = JobSource {
            shared: Arc::clone(self),
            woken: Cell::new(true),
            has_worked: Cell::new(false),
        };
        let handle = thread::Builder::new()
            .name(format!("{}_{}", self.name_prefix, state.started))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let worker = Arc::clone(&source.shared.worker);
                let source = Leaving(source);
                worker(&source.0);
            })?;
        state.handles.push(handle);
        state.started += 1;
        state.threads += 1;
        state.waking += 1;
        Ok(())
    }
}

impl<J: Send + 'static> JobSource<J> {
    /// The next queued job, without waiting.
    pub fn next_ready(&self) -> Option<J> {
        let mut state = self.shared.lock();
        if self.woken.replace(false) {
            state.waking -= 1;
        }
        let job = state.jobs.pop_front()?;
        self.has_worked.set(true);
        if !state.jobs.is_empty() {
            // No thread to be had is no failure here: this one comes back for more.
            let _ = self.shared.summon(&mut state).is_ok();
        }
        Some(job)
    }

    /// Sleeps until there is work or the pool is shut down. What is queued at shutdown comes first.
    pub fn wait(&self) -> Wait {
        let mut state = self.shared.lock();
        loop {
            if !state.jobs.is_empty() {
                if !self.woken.replace(true) {
                    state.waking += 1;
                }
                return Wait::Ready;
            }
            if self.woken.replace(false) {
                state.waking -= 1;
            }
            if state.shutdown {
                return Wait::Shutdown;
            }
            state = self.sleep(state);
        }
    }

    /// Returns with a permit, or without one at shutdown.
    fn sleep<'a>(&'a self, mut state: MutexGuard<'a, State<J>>) -> MutexGuard<'a, State<J>> {
        state.idle += 1;
        while state.permits == 0 {
            if state.shutdown {
                state.idle -= 1;
                return state;
            }
            state = self
                .shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        // Whoever gave the permit has taken this thread out of `idle` and counted it as waking.
        state.permits -= 1;
        self.woken.set(true);
        state
    }
}

/// Signs a thread off, however its worker ends.
struct Leaving<J: Send + 'static>(JobSource<J>);

impl<J: Send + 'static> Drop for Leaving<J> {
    fn drop(&mut self) {
        let source = &self.0;
        let mut state = source.shared.lock();
        state.threads -= 1;
        if source.woken.get() {
            state.waking -= 1;
        }
        // A worker that panicked over one job must not leave the others without anybody. One that
        // left without taking a job would only be followed by another like it.
        if !state.jobs.is_empty() && source.has_worked.get() {
            let _ = source.shared.summon(&mut state).is_ok();
        }
        if state.threads == 0 {
            source.shared.ended.notify_all();
        }
    }
}
