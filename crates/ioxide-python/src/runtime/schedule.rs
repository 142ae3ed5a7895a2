//! `call_soon` for any loop: ours without a Python call, others by their method.

use super::work::Work;
use super::EventLoop;
use crate::handle::Handle;
use crate::intern;
use crate::kit::{Any, PyResult};

/// Schedules `callback(*arguments)` in the context; no handle is given back.
#[inline]
pub(crate) fn call_soon(
    event_loop: &Any,
    callback: &Any,
    arguments: &[&Any],
    context: &Any,
) -> PyResult<()> {
    if let Some(native) = EventLoop::of(event_loop) {
        native.refuse_if_closed()?;
        let handle = Handle::new(native, callback, arguments, Some(context))?;
        native.push(Work::Handle(handle));
        return Ok(());
    }
    let mut all = Vec::with_capacity(arguments.len() + 1);
    all.push(callback);
    all.extend_from_slice(arguments);
    let method = event_loop.attr(intern!("call_soon"))?;
    method
        .call_with(&all, &[(intern!("context"), context)])
        .map(drop)
}
