//! Starting a task at once, inside of who creates it.

use super::{context, registry, step, Task};
use crate::kit::{self, Any, Native, PyResult};
use crate::running;
use crate::runtime::EventLoop;

/// Runs the first step now. A task that suspends goes on as any other.
pub(crate) fn start(task: &Task, event_loop: &Any) -> PyResult<()> {
    registry::register(task, event_loop)?;
    let before = running::swap(event_loop, Some(task.as_any()))?;
    let first = || step::run(task, event_loop, None);
    let result = match EventLoop::of(event_loop) {
        Some(native) => context::within(task, native, first),
        None => kit::context::within(&*task.context()?, first),
    };
    let restored = kit::err::preserved(|| running::swap(event_loop, before.as_deref()));
    result??;
    drop(restored?);
    // As the C code does: a task that is over needs its coroutine no more. The repr of 3.11 cannot do without.
    if cfg!(Py_3_12) && !task.base.future.is_pending() {
        task.base.coro.clear();
    }
    Ok(())
}
