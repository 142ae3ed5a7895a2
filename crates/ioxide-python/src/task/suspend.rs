//! What a yield means: what the task waits for now, and who will wake it.

use super::{awaited_by, wake, Task};
use crate::awaitable::{self, Wait};
use crate::future::{FutureView, Waiter};
use crate::intern;
use crate::kit::{err, Any, Native, Obj, PyResult, Raised};
use crate::runtime::work::Work;
use crate::runtime::{schedule, EventLoop};

/// Parks the task on what its coroutine yielded.
#[inline]
pub(crate) fn suspend(task: &Task, event_loop: &Any, awaited: Obj) -> PyResult<()> {
    if let Some(wait) = awaitable::wait_of(&awaited) {
        if park_on_wait(task, wait, &awaited)? {
            return Ok(());
        }
    } else if let Some(future) = FutureView::exact(&awaited) {
        return park_on_future(task, event_loop, future);
    } else if awaited.is_none() {
        return again(task, event_loop, None);
    }
    suspend_on_foreign(task, event_loop, awaited)
}

/// Parks on a native awaitable; false if it did not offer itself to this task.
#[inline]
fn park_on_wait(task: &Task, wait: &Wait, awaited: &Obj) -> PyResult<bool> {
    if !wait.park(task) {
        return Ok(false);
    }
    task.base.fut_waiter.set(awaited.clone());
    if task.base.must_cancel() && wait.cancel(task.base.future.cancel_msg.get()) {
        task.base.set_must_cancel(false);
    }
    Ok(true)
}

#[inline]
fn park_on_future(task: &Task, event_loop: &Any, future: FutureView<'_>) -> PyResult<()> {
    if future.object.is(task.as_any()) {
        return complain(task, event_loop, &|| {
            format!("Task cannot await on itself: {}", task.as_any().repr_text())
        });
    }
    if !future.base.event_loop.holds(event_loop) {
        return attached_elsewhere(task, event_loop, future.object);
    }
    if !future.base.blocking() {
        return yielded_bare(task, event_loop, future.object);
    }
    future.base.set_blocking(false);
    awaited_by::add(future.object, task.as_any())?;
    if future.base.is_pending() {
        future.waiters.push(Waiter::Task(task.own()));
    } else {
        wake_soon(task, event_loop, future.object)?;
    }
    task.base.fut_waiter.set(future.object.own());
    cancel_if_asked(task, future.object)
}

/// A future that is done already wakes in the next turn.
fn wake_soon(task: &Task, event_loop: &Any, future: &Any) -> PyResult<()> {
    match EventLoop::of(event_loop) {
        Some(native) => {
            native.push(Work::Wake(task.own()));
            Ok(())
        }
        None => {
            let callback = wake::callable(task)?;
            schedule::call_soon(event_loop, &callback, &[future], &*task.context()?)
        }
    }
}

/// Hands a cancellation that came during the step on to what the task waits for.
fn cancel_if_asked(task: &Task, awaited: &Any) -> PyResult<()> {
    if task.base.must_cancel() && super::cancel::cancel_waiter(task, awaited)? {
        task.base.set_must_cancel(false);
    }
    Ok(())
}

/// Schedules the next step.
#[inline]
pub(crate) fn again(task: &Task, event_loop: &Any, thrown: Option<Obj>) -> PyResult<()> {
    if let Some(native) = EventLoop::of(event_loop) {
        native.push(match thrown {
            None => Work::Step(task.own()),
            Some(exception) => Work::Throw(task.own(), exception),
        });
        return Ok(());
    }
    let step = wake::StepCall::of(task, thrown)?;
    schedule::call_soon(event_loop, &step, &[], &*task.context()?)
}

/// Throws a `RuntimeError` into the coroutine in the next turn.
#[cold]
fn complain(task: &Task, event_loop: &Any, message: &dyn Fn() -> String) -> PyResult<()> {
    let exception = err::take(err::raise(err::runtime_error(), &message()));
    again(task, event_loop, Some(exception))
}

#[cold]
fn attached_elsewhere(task: &Task, event_loop: &Any, awaited: &Any) -> PyResult<()> {
    complain(task, event_loop, &|| {
        format!(
            "Task {} got Future {} attached to a different loop",
            task.as_any().repr_text(),
            awaited.repr_text()
        )
    })
}

#[cold]
fn yielded_bare(task: &Task, event_loop: &Any, awaited: &Any) -> PyResult<()> {
    complain(task, event_loop, &|| {
        format!(
            "yield was used instead of yield from in task {} with {}",
            task.as_any().repr_text(),
            awaited.repr_text()
        )
    })
}

/// Futures that are not exactly ours: subclasses, the standard library's, anybody's.
fn suspend_on_foreign(task: &Task, event_loop: &Any, awaited: Obj) -> PyResult<()> {
    let blocking = match awaited.attr_opt(intern!("_asyncio_future_blocking")) {
        Ok(blocking) => blocking.filter(|blocking| !blocking.is_none()),
        Err(raised) => return throw_raised(task, event_loop, raised),
    };
    let Some(blocking) = blocking else {
        return bad_yield(task, event_loop, &awaited);
    };
    match park_on_foreign(task, event_loop, &awaited, &blocking) {
        Ok(()) => Ok(()),
        Err(raised) => throw_raised(task, event_loop, raised),
    }
}

fn park_on_foreign(task: &Task, event_loop: &Any, awaited: &Obj, blocking: &Any) -> PyResult<()> {
    if !loop_of(awaited)?.is(event_loop) {
        return attached_elsewhere(task, event_loop, awaited);
    }
    if !blocking.truthy()? {
        return yielded_bare(task, event_loop, awaited);
    }
    if awaited.is(task.as_any()) {
        return complain(task, event_loop, &|| {
            format!("Task cannot await on itself: {}", task.as_any().repr_text())
        });
    }
    awaited_by::add(awaited, task.as_any())?;
    let no = crate::kit::value::bool(false);
    awaited.set_attr(intern!("_asyncio_future_blocking"), &no)?;
    let callback = wake::callable(task)?;
    let method = awaited.attr(intern!("add_done_callback"))?;
    method.call_with(&[&callback], &[(intern!("context"), &*task.context()?)])?;
    task.base.fut_waiter.set(awaited.clone());
    cancel_if_asked(task, awaited)
}

/// The loop of any future.
pub(crate) fn loop_of(future: &Any) -> PyResult<Obj> {
    if let Some(view) = FutureView::exact(future) {
        return Ok(view.base.event_loop.get_or_none());
    }
    match future.attr_opt(intern!("get_loop"))? {
        Some(method) => method.call0(),
        None => future.attr(intern!("_loop")),
    }
}

/// An exception that came up while parking is the coroutine's.
fn throw_raised(task: &Task, event_loop: &Any, raised: Raised) -> PyResult<()> {
    let exception = err::take(raised);
    again(task, event_loop, Some(exception))
}

#[cold]
fn bad_yield(task: &Task, event_loop: &Any, awaited: &Any) -> PyResult<()> {
    let is_generator = crate::import!("types", "GeneratorType")
        .and_then(|class| awaited.is_instance(class))
        .map_err(raise_again)
        .unwrap_or(false);
    complain(task, event_loop, &|| {
        let (task, awaited) = (task.as_any().repr_text(), awaited.repr_text());
        if is_generator {
            format!(
                "yield was used instead of yield from for generator in task {task} with {awaited}"
            )
        } else {
            format!("Task got bad yield: {awaited}")
        }
    })
}

fn raise_again(raised: Raised) {
    err::discard(raised);
}
