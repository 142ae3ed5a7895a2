//! `wait_for()`: awaiting something for so long and no longer.

use super::{add_edge, awaiter, child, ensure_future, remove_edge};
use crate::awaitable::again::Again;
use crate::awaitable::inner::Inner;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::errors;
use crate::future::{settle, FutureView};
use crate::kit::send::Sent;
use crate::kit::{
    err, ffi, value, Any, Args, Class, Native, Obj, ObjCell, Own, PyResult, Raised, Signature,
    Visitor,
};
use crate::raise;
use crate::running;
use crate::runtime::alarm::Deadline;
use crate::runtime::target::{TargetKind, Told};
use crate::scope::expiry::{raise_timeout, Expiry};
#[cfg(not(Py_3_12))]
use crate::{runtime::EventLoop, task::is_coroutine, task::Task};
use std::cell::Cell;

/// What is being waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// An inner iterator, which is driven from here: nothing but it knows what the task waits for.
    Inner,
    /// A future of ours, for which the task waits directly.
    Future,
    /// The end of a future that was cancelled because there was no time at all.
    Cancelling,
}

/// `wait_for(fut, timeout)`: `async with timeout(...): return await fut`.
type WaitFor = Waiting<WaitForState>;

struct WaitForState {
    awaited: ObjCell,
    inner: Inner,
    timeout: ObjCell,
    awaiter: ObjCell,
    phase: Cell<Phase>,
    expiry: Expiry,
}

static CLASS: Class = Class::new();

static AGAIN: Again = Again::new();

// SAFETY: begins with `Wait`, whose kind begins with the `Told::KIND` given here.
unsafe impl Told for WaitFor {
    fn done(&self, _future: &Any) -> PyResult<()> {
        self.wait.wake()
    }

    fn fire(&self) -> PyResult<()> {
        self.expiry.fire()
    }
}

impl Awaitable for WaitFor {
    const NAME: &'static str = "wait_for";
    const TOLD: TargetKind = <WaitFor as Told>::KIND;

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.expiry.traverse(visitor);
        self.inner.traverse(visitor);
        visitor.cell(&self.awaited);
        visitor.cell(&self.timeout);
        visitor.cell(&self.awaiter);
    }

    fn unlink(&self) {
        self.expiry.clear();
        self.inner.clear();
        self.awaited.clear();
        self.timeout.clear();
        self.awaiter.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let event_loop = running::require_running_loop()?;
        let deadline = match self.timeout.take() {
            None => None,
            Some(timeout) if is_no_time(&timeout)? => return self.start_without_time(),
            Some(timeout) => {
                self.spawn_where_expected(&event_loop)?;
                Some(Deadline::after(&event_loop, &timeout)?)
            }
        };
        self.expiry.enter(&event_loop, deadline, || self.target())?;
        let awaited = self.awaited.get_or_none();
        if let Some(view) = FutureView::exact(&awaited) {
            if !view.base.is_pending() {
                return self.end(settle::result(view).map(Sent::Returned));
            }
            self.phase.set(Phase::Future);
            return Ok(Flow::Await(awaited));
        }
        self.awaited.clear();
        let begun = self.inner.begin(&awaited);
        drop(awaited);
        if let Some(inner) = self.inner.iterator() {
            self.wait.set_delegate(inner);
        }
        self.end(begun.and_then(|()| self.inner.resume()))
    }

    fn resume(&self) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Inner => self.end(self.inner.resume()),
            Phase::Future => {
                let awaited = self.awaited.get_or_none();
                match FutureView::exact(&awaited) {
                    Some(view) if !view.base.is_pending() => {
                        self.end(settle::result(view).map(Sent::Returned))
                    }
                    _ => self.end(Err(raise!(
                        err::runtime_error(),
                        "await wasn't used with future"
                    ))),
                }
            }
            Phase::Cancelling => {
                self.stop_listening()?;
                self.result_or_timeout()
            }
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Inner => self.end(self.inner.throw(&exception)),
            Phase::Future => self.end(Err(err::raise_instance(&exception))),
            Phase::Cancelling => {
                self.stop_listening()?;
                Err(err::raise_instance(&exception))
            }
        }
    }
}

/// `timeout <= 0`.
fn is_no_time(timeout: &Any) -> PyResult<bool> {
    // SAFETY: alive.
    if unsafe {
        ffi::PyLong_CheckExact(timeout.raw()) != 0 || ffi::PyFloat_CheckExact(timeout.raw()) != 0
    } {
        return Ok(timeout.to_f64()? <= 0.0);
    }
    timeout.at_most(&*value::int(0)?)
}

impl WaitFor {
    fn new() -> PyResult<Own<WaitFor>> {
        WaitFor::with(WaitForState {
            awaited: ObjCell::empty(),
            inner: Inner::empty(),
            timeout: ObjCell::empty(),
            awaiter: ObjCell::empty(),
            phase: Cell::new(Phase::Inner),
            expiry: Expiry::new(),
        })
        .make()
    }

    /// Up to 3.11 a coroutine that has a timeout runs in a task of its own, and programs of that time look for
    /// it in `all_tasks()`; since 3.12 it runs in the task that waits. It begins at once all the same, so that
    /// who is cancelled before the next turn cancels something that has begun.
    #[inline]
    fn spawn_where_expected(&self, event_loop: &Any) -> PyResult<()> {
        #[cfg(not(Py_3_12))]
        {
            let awaited = self.awaited.get_or_none();
            let task = match EventLoop::making_tasks(event_loop) {
                Some(native) if native.makes_plain_tasks() && is_coroutine(&awaited)? => {
                    Task::spawn(native, &awaited, None, None, true)?.into_obj()
                }
                _ => ensure_future::ensure(&awaited, Some(event_loop))?,
            };
            self.awaited.set(task);
        }
        let _ = event_loop;
        Ok(())
    }

    /// Hands on what the inner awaitable did; where it is over, so is the timeout.
    #[inline]
    fn end(&self, sent: PyResult<Sent>) -> PyResult<Flow> {
        match sent {
            Ok(Sent::Yielded(yielded)) => Ok(Flow::Pass(yielded)),
            Ok(Sent::Returned(value)) => {
                #[cfg(not(Py_3_12))]
                self.expiry.refuse_cancelled()?;
                self.expiry.leave(None)?;
                self.awaited.clear();
                AGAIN.keep(self);
                Ok(Flow::Return(value))
            }
            Err(raised) => Err(self.end_raised(raised)),
        }
    }

    #[cold]
    fn end_raised(&self, raised: Raised) -> Raised {
        let exception = err::take(raised);
        match self.expiry.leave(Some(&exception)) {
            Ok(()) => err::restore(exception),
            Err(raised) => raised,
        }
    }

    /// There is no time: what is not done already is cancelled, and its end is awaited.
    fn start_without_time(&self) -> PyResult<Flow> {
        let fut = ensure_future::ensure(&self.awaited.get_or_none(), None)?;
        if child::is_done(&fut)? {
            return child::result(&fut).map(Flow::Return);
        }
        self.awaited.set(fut.clone());
        self.phase.set(Phase::Cancelling);
        child::listen(&fut, &self.target())?;
        let awaiter = awaiter()?;
        add_edge(&fut, awaiter.as_deref())?;
        drop(self.awaiter.replace(awaiter));
        if let Err(raised) = child::cancel(&fut) {
            let exception = err::take(raised);
            self.stop_listening()?;
            return Err(err::restore(exception));
        }
        Ok(Flow::Park)
    }

    fn stop_listening(&self) -> PyResult<()> {
        let fut = self.awaited.get_or_none();
        child::unlisten(&fut, &self.target())?;
        remove_edge(&fut, self.awaiter.take().as_deref())
    }

    fn result_or_timeout(&self) -> PyResult<Flow> {
        match child::result(&self.awaited.get_or_none()) {
            Ok(value) => Ok(Flow::Return(value)),
            Err(raised) if err::matches(errors::cancelled()?) => {
                Err(raise_timeout(&err::take(raised)))
            }
            Err(raised) => Err(raised),
        }
    }
}

/// `wait_for(fut, timeout)`.
pub(crate) fn wait_for(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("wait_for", ["fut", "timeout"], 2);
    let [fut, timeout] = args.bind(&SIGNATURE)?;
    let made = match AGAIN.take::<WaitFor>() {
        Some(kept) => {
            kept.expiry.reset();
            kept.phase.set(Phase::Inner);
            kept
        }
        None => WaitFor::new()?,
    };
    drop(made.awaited.replace(fut.map(Any::own)));
    drop(
        made.timeout
            .replace(timeout.and_then(Any::some).map(Any::own)),
    );
    Ok(made.into_obj())
}

pub(crate) fn build() -> PyResult<()> {
    spec::<WaitFor>(c"ioxide.WaitFor").build(&CLASS)?;
    Ok(())
}
