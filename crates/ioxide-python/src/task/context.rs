//! The context of a task: shared with other tasks until its coroutine changes a variable.
//!
//! `create_task` promises the coroutine a copy of the current context. Nearly all coroutines set nothing, so a task
//! of ours begins with the loop's [snapshot](crate::runtime::snapshot), as callbacks do, and each of its steps runs
//! in the loop's scratch copy of it. During the step the scratch is the task's context like any other. Afterwards it
//! goes back, if it still has the snapshot's variables and nobody else has come to hold it: who kept a token, or
//! asked for the context, holds it. Otherwise it stays the task's own.
//!
//! # States
//! | `shares_context` | `context` | |
//! |---|---|---|
//! | yes | a snapshot, in which nothing ever runs | between steps only |
//! | no | the task's own, or during a step the scratch | |

use super::Task;
use crate::kit::{context, Any, Obj, PyResult};
use crate::runtime::snapshot::{Context, Lent};
use crate::runtime::EventLoop;

/// Gives a new task its context: the one given, or what a copy of the current one would be.
pub(super) fn begin(task: &Task, given: Option<&Any>, native: Option<&EventLoop>) -> PyResult<()> {
    let context = match (given, native) {
        (Some(given), _) => Context::given(given.own()),
        (None, Some(native)) => native.capture()?,
        (None, None) => Context::given(context::copy_current()?),
    };
    task.base.set_shares_context(context.is_shared());
    task.base.context.set(context.into_object());
    Ok(())
}

/// The task's context, for others, who may run things in it: from now on it is the task's own. `None` for a
/// task that was never set up.
pub(crate) fn of(task: &Task) -> PyResult<Obj> {
    let context = task.base.context.get_or_none();
    if !task.base.shares_context() {
        return Ok(context);
    }
    let own = context::copy(&context)?;
    task.base.set_shares_context(false);
    task.base.context.set(own.clone());
    Ok(own)
}

/// Runs `f`, a step of the task, inside of its context.
#[inline]
pub(super) fn within<R>(task: &Task, event_loop: &EventLoop, f: impl FnOnce() -> R) -> PyResult<R> {
    if !task.base.shares_context() {
        let context = task.base.context.get_or_none();
        return context::within(&context, f);
    }
    task.base.set_shares_context(false);
    let Some(snapshot) = task.base.context.take() else {
        return context::within(&Obj::none(), f);
    };
    if snapshot.refcount() == 1 {
        // All others have gone their own ways.
        task.base.context.set(snapshot.clone());
        return context::within(&snapshot, f);
    }
    let own = match event_loop.lend(&snapshot) {
        Ok(Lent::Scratch(scratch)) => {
            return within_scratch(task, event_loop, snapshot, scratch, f)
        }
        Ok(Lent::Own(own)) => own,
        Err(raised) => {
            task.base.set_shares_context(true);
            task.base.context.set(snapshot);
            return Err(raised);
        }
    };
    task.base.context.set(own.clone());
    context::within(&own, f)
}

#[inline]
fn within_scratch<R>(
    task: &Task,
    event_loop: &EventLoop,
    snapshot: Obj,
    scratch: Obj,
    f: impl FnOnce() -> R,
) -> PyResult<R> {
    task.base.context.set(scratch.clone());
    let result = context::within(&scratch, f);
    let unchanged = task.base.context.holds(&scratch)
        && context::is_same(&scratch, &snapshot)
        && context::is_held_only_by(2, &scratch);
    if unchanged {
        task.base.set_shares_context(true);
        task.base.context.set(snapshot);
        event_loop.keep_scratch(scratch);
    }
    result
}
