//! Telling about what went wrong: the exception handler, slow callbacks.

use super::work::Work;
use super::EventLoop;
use crate::kit::{value, Any, Native, Obj, PyResult};
use crate::{import, intern};

/// Reports an exception to the loop's exception handler. Fails only with what must leave the loop.
#[cold]
pub(crate) fn exception(
    event_loop: &EventLoop,
    message: &str,
    exception: &Any,
    more: &[(&'static Any, &Any)],
) -> PyResult<()> {
    let context = value::dict()?;
    context.dict_set(intern!("message"), &*value::str(message)?)?;
    context.dict_set(intern!("exception"), exception)?;
    for (key, value) in more {
        context.dict_set(key, value)?;
    }
    event_loop
        .as_any()
        .method(intern!("call_exception_handler"), &[&context])
        .map(drop)
}

/// What a piece of work is about, kept for a report after it has run.
pub(crate) struct Shown(Obj);

impl Shown {
    pub(crate) fn of(work: &Work) -> Shown {
        Shown(work.object().own())
    }
}

/// Logs that something held the loop up, as asyncio's debug mode does.
#[cold]
pub(crate) fn slow(shown: &Shown, duration: f64) -> PyResult<()> {
    import!("ioxide._report", "slow_callback")?
        .call(&[&shown.0, &*value::float(duration)?])
        .map(drop)
}
