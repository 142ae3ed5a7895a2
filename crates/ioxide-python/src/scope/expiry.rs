//! The rules of a timeout: when it cancels its task, and when that cancellation becomes a `TimeoutError`.
//!
//! # States
//! | state | meaning | leaves by |
//! |---|---|---|
//! | Created | not entered | `enter` |
//! | Entered | the task runs inside | `fire`, `leave` |
//! | Expiring | the task was asked to stop | `leave` |
//! | Expired, Exited | over | never |

use crate::errors;
use crate::kit::{err, ffi, Any, Obj, ObjCell, Own, PyResult, Raised, Visitor};
use crate::runtime::alarm::{Alarm, Deadline};
use crate::runtime::target::Target;
use crate::task::cancel;
use crate::{combine::child, import, raise, running};
use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl State {
    /// The word in `repr()` and in messages.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Entered => "active",
            State::Expiring => "expiring",
            State::Expired => "expired",
            State::Exited => "finished",
        }
    }
}

/// What `Timeout` and `wait_for` share. Its owner is the target whose `fire` calls [`Expiry::fire`].
pub(crate) struct Expiry {
    state: Cell<State>,
    task: ObjCell,
    /// How many requests to cancel the task had before.
    cancelling: Cell<i64>,
    alarm: Alarm,
}

impl Expiry {
    pub(crate) const fn new() -> Expiry {
        Expiry {
            state: Cell::new(State::Created),
            task: ObjCell::empty(),
            cancelling: Cell::new(0),
            alarm: Alarm::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    /// As new, for an owner that is used again. Only when nothing else refers to it.
    pub(crate) fn reset(&self) {
        self.alarm.reset();
        self.state.set(State::Created);
    }

    /// Begins, in the task that runs now. Without a deadline nothing expires.
    pub(crate) fn enter(
        &self,
        event_loop: &Any,
        deadline: Option<Deadline>,
        owner: impl FnOnce() -> Own<Target>,
    ) -> PyResult<()> {
        if self.state.get() != State::Created {
            return Err(raise!(
                err::runtime_error(),
                "Timeout has already been entered"
            ));
        }
        let Some(task) = running::current_task(event_loop)? else {
            return Err(raise!(
                err::runtime_error(),
                "Timeout should be used inside a task"
            ));
        };
        self.cancelling.set(cancel::cancelling_any(&task)?);
        self.task.set(task);
        self.state.set(State::Entered);
        match deadline {
            Some(deadline) => self.alarm.at(event_loop, deadline, &owner()),
            None => Ok(()),
        }
    }

    /// Moves the deadline of a timeout that was entered.
    pub(crate) fn reschedule(
        &self,
        event_loop: &Any,
        deadline: Option<Deadline>,
        owner: impl FnOnce() -> Own<Target>,
    ) -> PyResult<()> {
        self.alarm.disarm()?;
        match deadline {
            Some(deadline) => self.alarm.at(event_loop, deadline, &owner()),
            None => Ok(()),
        }
    }

    /// The timer has gone off.
    pub(crate) fn fire(&self) -> PyResult<()> {
        if !self.alarm.goes_off() || self.state.get() != State::Entered {
            return Ok(());
        }
        self.state.set(State::Expiring);
        match self.task.get() {
            Some(task) => child::cancel(&task).map(drop),
            None => Ok(()),
        }
    }

    /// Before 3.12, a cancellation from outside that came after the deadline wins over a result.
    #[cfg(not(Py_3_12))]
    pub(crate) fn refuse_cancelled(&self) -> PyResult<()> {
        let task = match self.task.get() {
            Some(task) if self.state.get() == State::Expiring => task,
            _ => return Ok(()),
        };
        if cancel::cancelling_any(&task)? <= self.cancelling.get() + 1 {
            return Ok(());
        }
        self.leave(None)?;
        Err(err::restore(errors::cancelled()?.call0()?))
    }

    /// Ends, with the exception that leaves the scope. An error is the exception that takes its place.
    #[inline]
    pub(crate) fn leave(&self, exception: Option<&Any>) -> PyResult<()> {
        self.alarm.disarm()?;
        let task = self.task.take();
        match self.state.get() {
            State::Expiring => {
                self.state.set(State::Expired);
                match task {
                    Some(task) => self.convert(&task, exception),
                    None => Ok(()),
                }
            }
            State::Entered => {
                self.state.set(State::Exited);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The cancellation that the timeout asked for becomes a `TimeoutError`, if nobody else asked for one.
    #[cold]
    fn convert(&self, task: &Any, exception: Option<&Any>) -> PyResult<()> {
        let remaining = cancel::uncancel_any(task)?;
        let Some(exception) = exception.filter(|_| remaining <= self.cancelling.get()) else {
            return Ok(());
        };
        if err::is_a(exception, errors::cancelled()?) {
            return Err(raise_timeout(exception));
        }
        // SAFETY: alive.
        if unsafe { ffi::PyExceptionInstance_Check(exception.raw()) == 0 } {
            return Ok(());
        }
        insert_timeout(exception)?;
        if exception.is_instance(import!("builtins", "ExceptionGroup")?)? {
            for member in exception.attr(crate::intern!("exceptions"))?.collect()? {
                insert_timeout(&member)?;
            }
        }
        Ok(())
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.task);
        self.alarm.traverse(visitor);
    }

    pub(crate) fn clear(&self) {
        self.task.clear();
        self.alarm.clear();
    }
}

/// `raise TimeoutError from cause`, which may be a class instead of an instance.
pub(crate) fn raise_timeout(cause: &Any) -> Raised {
    match timeout_from(cause) {
        Ok(timeout) => err::restore(timeout),
        Err(raised) => raised,
    }
}

/// A `TimeoutError` with this cause and context.
fn timeout_from(cause: &Any) -> PyResult<Obj> {
    let timeout = err::timeout_error().call0()?;
    // SAFETY: alive; the setters take over the references that they are given.
    unsafe {
        if ffi::PyExceptionInstance_Check(cause.raw()) != 0 {
            ffi::PyException_SetCause(timeout.raw(), cause.own().into_raw());
            ffi::PyException_SetContext(timeout.raw(), cause.own().into_raw());
        }
    }
    Ok(timeout)
}

/// Where a `CancelledError` is the context of something in the chain, puts a `TimeoutError` in between.
fn insert_timeout(exception: &Any) -> PyResult<()> {
    let mut exception = exception.own();
    loop {
        // SAFETY: an exception; a new reference or null without an error.
        let context = unsafe {
            let raw = ffi::PyException_GetContext(exception.raw());
            if raw.is_null() {
                return Ok(());
            }
            Obj::steal(raw)
        };
        if err::is_a(&context, errors::cancelled()?) {
            let timeout = timeout_from(&context)?;
            // SAFETY: both are exceptions; the setter takes over the reference.
            unsafe { ffi::PyException_SetContext(exception.raw(), timeout.into_raw()) };
            return Ok(());
        }
        exception = context;
    }
}
