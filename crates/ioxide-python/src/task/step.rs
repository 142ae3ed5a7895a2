//! One step of a task: resume the coroutine, and take note of how it stopped.

use super::{context, suspend, Task};
use crate::errors;
use crate::future::settle;
use crate::kit::send::{self, Sent};
use crate::kit::{err, Any, Native, Obj, PyResult, Raised};
use crate::layout::State;
use crate::runtime::EventLoop;
use crate::{raise, running};

/// Resumes the task inside of its context, throwing `thrown` if there is one.
///
/// Fails only with what must leave the loop: `KeyboardInterrupt`, `SystemExit`, or a broken state.
#[inline]
pub(crate) fn step(task: &Task, event_loop: &EventLoop, thrown: Option<Obj>) -> PyResult<()> {
    let this = event_loop.as_any();
    running::enter(this, task.as_any())?;
    let result = context::within(task, event_loop, || run(task, this, thrown));
    running::leave(this, task.as_any());
    result?
}

/// As [`step`], for a caller who is inside of the context already.
pub(crate) fn step_in_context(task: &Task, event_loop: &Any, thrown: Option<Obj>) -> PyResult<()> {
    running::enter(event_loop, task.as_any())?;
    let result = run(task, event_loop, thrown);
    running::leave(event_loop, task.as_any());
    result
}

/// Resumes the coroutine once.
#[inline]
pub(crate) fn run(task: &Task, event_loop: &Any, thrown: Option<Obj>) -> PyResult<()> {
    let base = &task.base;
    if !base.future.is_pending() {
        return Err(already_done(task));
    }
    let thrown = if base.must_cancel() {
        Some(cancel_now(task, thrown)?)
    } else {
        thrown
    };
    base.fut_waiter.clear();
    let Some(coro) = base.coro.get() else {
        return Err(raise!(err::runtime_error(), "uninitialized Task object"));
    };
    let sent = match &thrown {
        None => send::send_none(&coro),
        Some(exception) => send::throw(&coro, exception),
    };
    match sent {
        Ok(Sent::Yielded(awaited)) => suspend::suspend(task, event_loop, awaited),
        Ok(Sent::Returned(value)) => finish(task, value),
        Err(raised) => fail(task, raised),
    }
}

#[cold]
fn already_done(task: &Task) -> Raised {
    match errors::invalid_state() {
        Ok(class) => raise!(
            class,
            "__step(): already done: {}",
            task.as_any().repr_text()
        ),
        Err(raised) => raised,
    }
}

/// The exception of a cancellation that came before the step: it wins over anything but another one.
#[cold]
fn cancel_now(task: &Task, thrown: Option<Obj>) -> PyResult<Obj> {
    task.base.set_must_cancel(false);
    match thrown {
        Some(exception) if err::is_a(&exception, errors::cancelled()?) => Ok(exception),
        _ => settle::take_cancelled_error(task.view()),
    }
}

#[inline]
fn finish(task: &Task, value: Obj) -> PyResult<()> {
    if task.base.must_cancel() {
        // The coroutine returned although it was cancelled in this very step.
        task.base.set_must_cancel(false);
        let message = task.base.future.cancel_msg.get();
        settle::cancel(task.view(), message)?;
    } else {
        settle::set_result(task.view(), value)?;
    }
    super::registry::retire(task);
    Ok(())
}

fn fail(task: &Task, raised: Raised) -> PyResult<()> {
    let exception = err::take(raised);
    if err::is_a(&exception, errors::cancelled()?) {
        // The message is the exception's: whoever asks a second time gets a bare one (mirrors `__step`).
        task.base.future.cancelled_exc.set(exception);
        settle::cancel(task.view(), None)?;
        super::registry::retire(task);
        return Ok(());
    }
    debug_assert!(task.base.future.state() == State::Pending);
    settle::set_exception(task.view(), &exception)?;
    super::registry::retire(task);
    if leaves_loop(&exception) {
        return Err(err::restore(exception));
    }
    Ok(())
}

/// Whether the exception ends the loop rather than only who raised it.
pub(crate) fn leaves_loop(exception: &Any) -> bool {
    err::is_a(exception, err::keyboard_interrupt()) || err::is_a(exception, err::system_exit())
}
