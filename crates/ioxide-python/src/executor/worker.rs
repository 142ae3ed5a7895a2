//! What a thread of the pool does from its start to its end.

use super::job::Job;
use super::news::News;
use crate::files::operation::Operation;
use crate::import;
use crate::kit::{err, gil, value, Obj, Own, PyResult};
use ioxide_core::driver::waker::Waker;
use ioxide_core::pool::{JobSource, Wait};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

/// A job on its way to a worker.
pub(crate) enum Ticket {
    /// A function that a program runs in the executor.
    Call(Own<Job>),
    /// An operation on a file.
    File(Own<Operation>),
}

impl Ticket {
    /// Does it. Who runs it must tell the loop that is returned.
    fn run(&self) -> Option<Obj> {
        match self {
            Ticket::Call(job) => job.run(),
            Ticket::File(operation) => operation.run(),
        }
    }

    /// The pool drops it. Gives back the arguments of a detached call.
    pub(crate) fn dropped(&self) -> Option<Obj> {
        match self {
            Ticket::Call(job) => job.dropped(),
            Ticket::File(operation) => {
                operation.dropped();
                None
            }
        }
    }
}

// SAFETY: made, run and dropped by threads that hold the interpreter lock; in between it is only moved.
unsafe impl Send for Ticket {}

/// What the thread that works passes into a closure which that same thread runs without the lock.
struct Here<T>(T);

// SAFETY: `gil::released` runs its closure on the calling thread.
unsafe impl<T> Send for Here<T> {}

impl<T> Here<T> {
    /// The value; by a method, so that a closure captures the whole of `Here`.
    fn get(self) -> T {
        self.0
    }
}

/// What the workers of one pool share.
pub(super) struct Crew {
    /// Jobs that are queued or run.
    pub(super) busy: AtomicUsize,
    news: News,
}

impl Crew {
    pub(super) fn new() -> Crew {
        Crew {
            busy: AtomicUsize::new(0),
            news: News::new(),
        }
    }
}

/// Works until the pool is shut down. The thread keeps one thread state, and so its `threading.local`s,
/// from job to job.
pub(super) fn work(source: &JobSource<Ticket>, crew: &Crew) {
    gil::attached(|| {
        told("begin");
        let mut waker: Option<Arc<Waker>> = None;
        while sleep(source, waker.take()) == Wait::Ready {
            // Those of one who is stuck.
            crew.news.tell();
            while let Some(next) = source.next_ready(crew.news.is_any(), gil::handovers()) {
                if next.tell {
                    crew.news.tell();
                }
                #[cfg(Py_GIL_DISABLED)]
                told("sweep");
                if let Some(event_loop) = gil::working(|| next.job.run()) {
                    crew.news.note(event_loop);
                }
                drop(next);
                crew.busy.fetch_sub(1, Ordering::Release);
            }
            // The loop is woken when the lock is free, so that it does not wake up to wait for it.
            waker = crew.news.claim();
        }
        told("end");
    });
}

/// Waits for work without the lock.
fn sleep(source: &JobSource<Ticket>, waker: Option<Arc<Waker>>) -> Wait {
    let here = Here((source, waker));
    gil::released(move || {
        let (source, waker) = here.get();
        if let Some(waker) = waker {
            waker.wake();
        }
        source.wait(gil::is_contended)
    })
}

/// Tells `threading` about this thread.
fn told(what: &str) {
    let result = || -> PyResult<()> {
        let name = value::str(std::thread::current().name().unwrap_or_default())?;
        let function = match what {
            "begin" => import!("ioxide._executor", "_thread_begins")?,
            #[cfg(Py_GIL_DISABLED)]
            "sweep" => import!("ioxide._executor", "_thread_sweeps")?,
            _ => import!("ioxide._executor", "_thread_ends")?,
        };
        function.call1(&name).map(drop)
    };
    if let Err(raised) = result() {
        err::unraisable(raised, &Obj::none());
    }
}
