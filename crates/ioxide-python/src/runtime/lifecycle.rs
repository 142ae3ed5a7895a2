//! Beginning, running, stopping and closing a loop.

use super::{current_thread, EventLoop};
use crate::kit::{err, Any, Native, Obj, PyResult};
use crate::{import, intern, raise, running};

/// What `__init__` does: opens what the kernel gives a loop, unless that is to be done only when it is needed.
pub(crate) fn open(event_loop: &EventLoop, late: bool) -> PyResult<()> {
    if !late {
        event_loop
            .polling
            .open()
            .map_err(|error| err::raise_os(&error))?;
    }
    event_loop.polling.begin();
    Ok(())
}

/// `run_forever()`.
pub(crate) fn run_forever(event_loop: &EventLoop) -> PyResult<()> {
    event_loop.refuse_if_closed()?;
    refuse_if_running(event_loop)?;
    let hooks = begin(event_loop)?;
    let result = turns(event_loop);
    // Whatever ends the loop, it is left as it was found.
    let ended = err::preserved(|| end(event_loop, &hooks));
    result.and(ended)
}

fn turns(event_loop: &EventLoop) -> PyResult<()> {
    loop {
        event_loop.turn()?;
        if event_loop.stopping.get() {
            return Ok(());
        }
    }
}

pub(crate) fn refuse_if_running(event_loop: &EventLoop) -> PyResult<()> {
    if event_loop.is_running() {
        return Err(raise!(
            err::runtime_error(),
            "This event loop is already running"
        ));
    }
    if running::running_loop()?.is_some() {
        return Err(raise!(
            err::runtime_error(),
            "Cannot run the event loop while another loop is running"
        ));
    }
    Ok(())
}

/// Makes the loop the running one; gives back the hooks of asynchronous generators that were set before.
fn begin(event_loop: &EventLoop) -> PyResult<Obj> {
    let this = event_loop.as_any();
    track_origins(event_loop.debug())?;
    let hooks = import!("sys", "get_asyncgen_hooks")?.call0()?;
    import!("sys", "set_asyncgen_hooks")?.call_with(
        &[],
        &[
            (
                intern!("firstiter"),
                &*this.attr(intern!("_asyncgen_firstiter_hook"))?,
            ),
            (
                intern!("finalizer"),
                &*this.attr(intern!("_asyncgen_finalizer_hook"))?,
            ),
        ],
    )?;
    running::set_running_loop(Some(this))?;
    event_loop.thread.set(current_thread());
    Ok(hooks)
}

fn end(event_loop: &EventLoop, hooks: &Any) -> PyResult<()> {
    event_loop.stopping.set(false);
    event_loop.thread.set(0);
    running::set_running_loop(None)?;
    track_origins(false)?;
    let (first, last) = (
        hooks.attr(intern!("firstiter"))?,
        hooks.attr(intern!("finalizer"))?,
    );
    import!("sys", "set_asyncgen_hooks")?
        .call_with(
            &[],
            &[
                (intern!("firstiter"), &first),
                (intern!("finalizer"), &last),
            ],
        )
        .map(drop)
}

/// In debug mode coroutines remember where they were made.
pub(crate) fn track_origins(on: bool) -> PyResult<()> {
    const DEPTH: i64 = 10;
    let get = import!("sys", "get_coroutine_origin_tracking_depth")?;
    let depth = get.call0()?.to_i64()?;
    if on == (depth > 0) {
        return Ok(());
    }
    let set = import!("sys", "set_coroutine_origin_tracking_depth")?;
    set.call1(&*crate::kit::value::int(if on { DEPTH } else { 0 })?)
        .map(drop)
}

/// Closes the descriptors and drops what was scheduled. The façade has closed the rest before.
pub(crate) fn close(event_loop: &EventLoop) -> PyResult<()> {
    if event_loop.is_running() {
        return Err(raise!(
            err::runtime_error(),
            "Cannot close a running event loop"
        ));
    }
    if event_loop.is_closed() {
        return Ok(());
    }
    event_loop.mark_closed();
    event_loop.ready.clear();
    event_loop.timers.clear();
    event_loop.descriptors.clear();
    event_loop.late.clear();
    event_loop.snapshots.clear();
    event_loop.hub.messages.clear();
    event_loop.polling.close();
    Ok(())
}

/// A loop that dies open tells so, and is closed.
pub(crate) fn warn_if_open(event_loop: &EventLoop) {
    if event_loop.is_closed() || !event_loop.polling.is_usable() {
        return;
    }
    let this = event_loop.as_any();
    err::warn_unclosed(this, &format!("unclosed event loop {}", this.repr_text()));
    if !event_loop.is_running() {
        if let Err(raised) = this.method0(intern!("close")) {
            err::unraisable(raised, this);
        }
    }
}
