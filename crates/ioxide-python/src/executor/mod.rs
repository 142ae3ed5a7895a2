//! Blocking functions, run on threads of our own: what the loop's executor is unless a program sets another.
//!
//! A job goes from `run_in_executor` into the pool's queue, is run by a worker that holds the interpreter lock
//! from job to job, and comes back to its loop as ready work that settles the future. No
//! `concurrent.futures.Future` lies in between, and the loop is woken only if it sleeps.

pub(crate) mod at_exit;
pub(crate) mod job;
mod news;
pub(crate) mod pool;
mod worker;

use crate::fork;
use crate::future::Future;
use crate::kit::{context, err, ffi, Any, Args, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::EventLoop;
use crate::{import, intern, raise};
use ioxide_core::pool::Pool;
use job::{Call, Job};
use pool::ThreadPool;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
pub(crate) use worker::Ticket;

/// A loop's default executor.
pub(crate) struct LoopExecutor {
    /// `loop._default_executor`: ours, any other, or nothing yet.
    default: ObjCell,
    /// `shutdown_default_executor` has been called.
    shut_down: Cell<bool>,
    /// The pool that is to begin with what it was given when the loop lets go of the interpreter lock.
    waiting: RefCell<Option<Waiting>>,
}

struct Waiting {
    pool: Arc<Pool<Ticket>>,
    generation: u32,
}

impl LoopExecutor {
    pub(crate) const fn new() -> LoopExecutor {
        LoopExecutor {
            default: ObjCell::empty(),
            shut_down: Cell::new(false),
            waiting: RefCell::new(None),
        }
    }

    /// Has the pool begin when the loop waits.
    fn to_begin(&self, pool: &Arc<Pool<Ticket>>) {
        if let Some(other) = self.take_waiting() {
            if !Arc::ptr_eq(&other, pool) {
                other.begin();
            }
        }
        *self.waiting.borrow_mut() = Some(Waiting {
            pool: Arc::clone(pool),
            generation: fork::generation(),
        });
    }

    /// Which pool is to begin, once the caller has let go of the interpreter lock.
    #[inline]
    pub(crate) fn take_waiting(&self) -> Option<Arc<Pool<Ticket>>> {
        let waiting = self.waiting.take()?;
        if waiting.generation != fork::generation() {
            // A parent's: its lock may be held for ever by a thread that does not exist here.
            std::mem::forget(waiting);
            return None;
        }
        Some(waiting.pool)
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.default);
    }

    pub(crate) fn clear(&self) {
        self.default.clear();
    }
}

/// Our pool behind an executor, unless a subclass may have changed what `submit` does.
pub(crate) fn native(executor: &Any) -> PyResult<Option<&ThreadPool>> {
    if executor
        .class()
        .is(import!("ioxide._executor", "ThreadPool")?)
    {
        return Ok(executor.cast::<ThreadPool>());
    }
    Ok(None)
}

impl EventLoop {
    /// The default executor, made at first use.
    pub(crate) fn default_executor(&self) -> PyResult<Obj> {
        if self.executor.shut_down.get() {
            return Err(raise!(
                err::runtime_error(),
                "Executor shutdown has been called"
            ));
        }
        if let Some(executor) = self.executor.default.get() {
            return Ok(executor);
        }
        let made = import!("ioxide._executor", "ThreadPool")?.call0()?;
        self.executor.default.set(made.clone());
        Ok(made)
    }

    /// Gives the call to our pool; the future is settled on this loop.
    pub(crate) fn submit(&self, pool: &ThreadPool, call: Call) -> PyResult<Own<Future>> {
        let future = Future::new(self.as_any())?;
        pool.submit_from(self, Ticket::Call(Job::for_future(call, &future, self)?))?;
        Ok(future)
    }

    /// `run_in_executor(executor, func, *args)`.
    fn run_in_executor(&self, args: Args<'_>) -> PyResult<Obj> {
        let [executor, func, arguments @ ..] = args.positional() else {
            let missing = if args.positional().is_empty() {
                "executor"
            } else {
                "func"
            };
            return Err(crate::event_loop::missing("run_in_executor", missing));
        };
        if args.has_keywords() {
            return Err(raise!(
                err::type_error(),
                "run_in_executor() takes no keyword arguments"
            ));
        }
        self.refuse_if_closed()?;
        if self.debug() {
            self.check_callback(func, "run_in_executor")?;
        }
        let executor = match executor.some() {
            Some(executor) => executor.own(),
            None => self.default_executor()?,
        };
        if let Some(pool) = native(&executor)? {
            let call = Call::new(func, arguments)?;
            return Ok(self.submit(pool, call)?.into_obj());
        }
        self.submit_elsewhere(&executor, func, arguments)
    }

    /// Any other executor gives a `concurrent.futures.Future`, which is wrapped.
    fn submit_elsewhere(&self, executor: &Any, func: &Any, arguments: &[&Any]) -> PyResult<Obj> {
        let mut all = Vec::with_capacity(arguments.len() + 1);
        all.push(func);
        all.extend_from_slice(arguments);
        let theirs = executor.attr(intern!("submit"))?.call_slice(&all)?;
        crate::kit::names::import_now("asyncio", "wrap_future")?
            .call_with(&[&theirs], &[(intern!("loop"), self.as_any())])
    }

    /// `_to_thread(func, args, kwargs)`: the default executor runs it in a copy of the current context.
    fn to_thread(&self, args: Args<'_>) -> PyResult<Obj> {
        let [func, arguments, keywords] = args.positional() else {
            return Err(crate::event_loop::missing("_to_thread", "func"));
        };
        self.refuse_if_closed()?;
        let context = context::copy_current()?;
        let executor = self.default_executor()?;
        if let Some(pool) = native(&executor)? {
            let call = Call::new(func, arguments.tuple_items())?;
            if keywords.len()? > 0 {
                call.keywords.set(keywords.own());
            }
            call.context.set(context);
            return Ok(self.submit(pool, call)?.into_obj());
        }
        let run = context.attr(intern!("run"))?;
        let mut all: Vec<&Any> = vec![&run, func];
        all.extend_from_slice(arguments.tuple_items());
        let bound = import!("functools", "partial")?.call_dict(&all, keywords)?;
        self.submit_elsewhere(&executor, &bound, &[])
    }

    fn set_default(&self, executor: Option<&Any>) {
        let executor = executor.and_then(Any::some).map(Any::own);
        drop(self.executor.default.replace(executor));
    }

    fn set_shut_down(&self, value: Option<&Any>) -> PyResult<()> {
        self.executor
            .shut_down
            .set(value.map_or(Ok(false), Any::truthy)?);
        Ok(())
    }
}

/// What a loop has for executors.
pub(crate) fn methods() -> [ffi::PyMethodDef; 2] {
    [
        crate::method!(leading EventLoop, "run_in_executor", ["executor", "func"], EventLoop::run_in_executor,
            "run_in_executor($self, executor, func, *args)\n--\n\nCalls func(*args) in the executor, or in \
                the default one for None; a Future. RuntimeError if the loop is closed, or the default executor \
                shut down. Not thread-safe."),
        crate::method!(args EventLoop, "_to_thread", EventLoop::to_thread,
            "Calls func(*args, **kwargs) in a thread and a copy of the context; a Future."),
    ]
}

/// The attributes that programs look at.
pub(crate) fn getset() -> [ffi::PyGetSetDef; 2] {
    [
        crate::getter!(
            EventLoop,
            "_default_executor",
            |this: &EventLoop| this.executor.default.get_or_none(),
            |this: &EventLoop, executor: Option<&Any>| -> PyResult<()> {
                this.set_default(executor);
                Ok(())
            },
            "The default executor, None before its first use."
        ),
        crate::getter!(
            EventLoop,
            "_executor_shutdown_called",
            |this: &EventLoop| this.executor.shut_down.get(),
            EventLoop::set_shut_down,
            "Whether shutdown_default_executor() was called."
        ),
    ]
}

pub(crate) fn build() -> PyResult<()> {
    job::build()?;
    pool::build()
}
