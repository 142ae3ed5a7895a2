//! The pool as an object: what `ioxide._executor.ThreadPool` is native of.

use super::at_exit;
use super::job::{Call, Job};
use super::worker::{self, Crew, Ticket};
use crate::fork;
use crate::kit::class::Construct;
use crate::kit::{err, value, Any, Args, Class, ClassSpec, Head, Native, Obj, PyResult, Signature};
use crate::raise;
use crate::runtime::EventLoop;
use ioxide_core::pool::{Pool, Rejected};
use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// The threads of one process.
#[derive(Clone)]
struct Threads {
    pool: Arc<Pool<Ticket>>,
    crew: Arc<Crew>,
    generation: u32,
}

/// A pool of threads for Python functions.
#[repr(C)]
pub(crate) struct ThreadPool {
    head: Head,
    threads: RefCell<Option<Threads>>,
    max_workers: Cell<usize>,
    name_prefix: RefCell<String>,
    is_shut_down: Cell<bool>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for ThreadPool {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    /// Nobody can submit any more: what is queued is run, then the threads end.
    fn last_rites(&self) {
        if let Some(threads) = self.threads.take() {
            if threads.generation == fork::generation() {
                drop(threads.pool.shutdown(false));
            } else {
                std::mem::forget(threads);
            }
        }
    }
}

impl Construct for ThreadPool {
    fn empty() -> ThreadPool {
        ThreadPool {
            head: Head::new(),
            threads: RefCell::new(None),
            max_workers: Cell::new(1),
            name_prefix: RefCell::new(String::new()),
            is_shut_down: Cell::new(false),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> =
            Signature::new("ThreadPool", ["max_workers", "thread_name_prefix"], 2);
        let [Some(most), Some(prefix)] = args.bind(&SIGNATURE)? else {
            return Ok(());
        };
        let most = usize::try_from(most.to_i64()?).unwrap_or(0);
        if most == 0 {
            return Err(raise!(
                err::value_error(),
                "max_workers must be greater than 0"
            ));
        }
        self.max_workers.set(most);
        self.name_prefix.replace(prefix.to_str()?.to_owned());
        Ok(())
    }
}

impl ThreadPool {
    /// The threads of this process: a forked child begins anew.
    fn threads(&self) -> Threads {
        let mut place = self.threads.borrow_mut();
        if let Some(threads) = place.as_ref() {
            if threads.generation == fork::generation() {
                return threads.clone();
            }
        }
        // The parent's lock may be held for ever by a thread that does not exist here.
        std::mem::forget(place.take());
        let crew = Arc::new(Crew::new());
        let shared = Arc::clone(&crew);
        let pool = Arc::new(Pool::new(
            self.max_workers.get(),
            self.name_prefix.borrow().clone(),
            Arc::new(move |source: &_| worker::work(source, &shared)),
        ));
        at_exit::register(&pool);
        let threads = Threads {
            pool,
            crew,
            generation: fork::generation(),
        };
        *place = Some(threads.clone());
        threads
    }

    pub(crate) fn submit(&self, ticket: Ticket) -> PyResult<()> {
        self.give(ticket, |pool, ticket| pool.submit(ticket))
    }

    /// As [`ThreadPool::submit`], from a loop, which calls `begin` on the pool in its list when it is about to wait.
    pub(crate) fn submit_from(&self, event_loop: &EventLoop, ticket: Ticket) -> PyResult<()> {
        self.give(ticket, |pool, ticket| {
            if pool.submit_soon(ticket)? {
                event_loop.executor.to_begin(pool);
            }
            Ok(())
        })
    }

    fn give(
        &self,
        ticket: Ticket,
        submit: impl FnOnce(&Arc<Pool<Ticket>>, Ticket) -> Result<(), Rejected<Ticket>>,
    ) -> PyResult<()> {
        at_exit::refuse_if_over()?;
        if self.is_shut_down.get() {
            return Err(refuse_shut_down());
        }
        let threads = self.threads();
        threads.crew.busy.fetch_add(1, Ordering::Relaxed);
        let rejected = match submit(&threads.pool, ticket) {
            Ok(()) => return Ok(()),
            Err(rejected) => rejected,
        };
        threads.crew.busy.fetch_sub(1, Ordering::Relaxed);
        Err(match rejected {
            Rejected::Shutdown(_) => refuse_shut_down(),
            Rejected::NoThread(_, error) => {
                raise!(err::runtime_error(), "can't start new thread: {error}")
            }
        })
    }

    /// `_submit(func, *args)`: the outcome is the function's own affair.
    fn submit_detached(&self, args: Args<'_>) -> PyResult<()> {
        let [function, arguments @ ..] = args.positional() else {
            return Err(crate::event_loop::missing("_submit", "func"));
        };
        self.submit(Ticket::Call(Job::detached(Call::new(
            function, arguments,
        )?)?))
    }

    /// `_shut_down(drop_queued)`: takes no more work. The arguments of those detached calls that are dropped.
    fn shut_down(&self, drop_queued: &Any) -> PyResult<Obj> {
        let drop_queued = drop_queued.truthy()?;
        self.is_shut_down.set(true);
        let Some(threads) = self.current() else {
            return value::list(std::iter::empty());
        };
        let dropped = threads.pool.shutdown(drop_queued);
        threads
            .crew
            .busy
            .fetch_sub(dropped.len(), Ordering::Relaxed);
        let calls: Vec<Obj> = dropped.iter().filter_map(Ticket::dropped).collect();
        value::list(calls.into_iter())
    }

    /// The threads that were started in this process, if any were.
    fn current(&self) -> Option<Threads> {
        self.threads
            .borrow()
            .as_ref()
            .filter(|threads| threads.generation == fork::generation())
            .cloned()
    }

    /// `_join(timeout)`: waits until the threads have ended; whether they have in that many seconds.
    fn join(&self, timeout: &Any) -> PyResult<bool> {
        let timeout = match timeout.some() {
            Some(seconds) => {
                Some(Duration::try_from_secs_f64(seconds.to_f64()?).unwrap_or_default())
            }
            None => None,
        };
        let Some(threads) = self.current() else {
            return Ok(true);
        };
        at_exit::join(&threads.pool, timeout)
    }

    /// `_is_idle()`: nothing is queued and nothing runs.
    fn is_idle(&self) -> bool {
        self.current()
            .is_none_or(|threads| threads.crew.busy.load(Ordering::Acquire) == 0)
    }
}

fn refuse_shut_down() -> crate::kit::Raised {
    raise!(
        err::runtime_error(),
        "cannot schedule new futures after shutdown"
    )
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<ThreadPool>(c"ioxide.BaseThreadPool")
        .doc(c"What is native of the loop's own executor.")
        .constructible::<ThreadPool>()
        .methods([
            crate::method!(args ThreadPool, "_submit", ThreadPool::submit_detached,
                "Calls func(*args) on a thread."),
            crate::method!(onearg ThreadPool, "_shut_down", ThreadPool::shut_down,
                "Takes no more work; drops what is queued if told so."),
            crate::method!(onearg ThreadPool, "_join", ThreadPool::join,
                "Waits until the threads have ended."),
            crate::method!(noargs ThreadPool, "_is_idle", ThreadPool::is_idle,
                "Whether nothing is queued and nothing runs."),
        ])
        .getset([
            crate::getter!(
                ThreadPool,
                "_max_workers",
                |this: &ThreadPool| this.max_workers.get(),
                "The most threads there can be."
            ),
            crate::getter!(
                ThreadPool,
                "_shutdown",
                |this: &ThreadPool| this.is_shut_down.get(),
                "Whether it is shut down."
            ),
        ])
        .build(&CLASS)?;
    Ok(())
}
