//! How transports end: on request, by an error, or left to the garbage collector. Every way leads to
//! [`lost`], once.

use super::base::Base;
use crate::kit::{err, Any, Obj, PyResult, Raised};
use crate::runtime::io::Side;
use crate::runtime::work::Work;
use crate::task::step;
use crate::{import, intern};

/// `close()`: what waits is still written, then `connection_lost(None)`.
pub(super) fn close(this: &Base) -> PyResult<()> {
    if this.closing.replace(true) {
        return Ok(());
    }
    this.stop_reading();
    let flushed = this.flush();
    if flushed.is_err() || this.waiting() > 0 || this.conn_lost.get() > 0 {
        this.settle();
        return flushed;
    }
    this.conn_lost.set(1);
    this.unwatch(Side::Write);
    schedule_lost(this)
}

/// `abort()`: what waits is dropped, then `connection_lost(None)`.
pub(super) fn abort(this: &Base) -> PyResult<()> {
    this.flush()?;
    force(this, None)
}

/// Ends the connection at once with this exception.
pub(super) fn force(this: &Base, exception: Option<Obj>) -> PyResult<()> {
    if this.conn_lost.get() > 0 {
        return Ok(());
    }
    this.discard();
    this.unwatch(Side::Write);
    if !this.closing.replace(true) {
        this.stop_reading();
    }
    this.conn_lost.set(1);
    drop(this.lost.replace(exception));
    schedule_lost(this)
}

/// An error that ends the connection: told, unless it is the network's, and given to `connection_lost`. Fails
/// only with what must leave the loop.
#[cold]
pub(super) fn fatal(this: &Base, raised: Raised, message: &str) -> PyResult<()> {
    let exception = err::take(raised);
    if step::leaves_loop(&exception) {
        return Err(err::restore(exception));
    }
    fatal_error(this, &exception, message)
}

/// As [`fatal`], for an exception that is not set.
pub(super) fn fatal_error(this: &Base, exception: &Any, message: &str) -> PyResult<()> {
    let told = if (this.kind.expected)(exception) {
        log(this, exception, message)
    } else {
        this.report(message, exception)
    };
    let forced = force(this, Some(exception.own()));
    told.and(forced)
}

/// The kernel cannot tell of the connection any more, which is not the peer's doing: reported, and given to
/// `connection_lost`.
#[cold]
pub(super) fn unwatched(this: &Base, exception: &Any) -> PyResult<()> {
    let told = this.report(&format!("Fatal error on {}", this.kind.what), exception);
    let forced = force(this, Some(exception.own()));
    told.and(forced)
}

/// Logs an error that is nobody's mistake, in debug mode.
fn log(this: &Base, exception: &Any, message: &str) -> PyResult<()> {
    if !this.is_debug() {
        return Ok(());
    }
    let format = crate::kit::value::str("%r: %s")?;
    let message = crate::kit::value::str(message)?;
    let debug = import!("asyncio.log", "logger")?.attr(intern!("debug"))?;
    let arguments: [&Any; 3] = [&format, this.object(), &message];
    debug
        .call_with(&arguments, &[(intern!("exc_info"), exception)])
        .map(drop)
}

fn schedule_lost(this: &Base) -> PyResult<()> {
    this.with_loop(|event_loop| {
        event_loop.refuse_if_closed()?;
        event_loop.push(Work::Fire(this.target_own()));
        Ok(())
    })
}

/// Calls `connection_lost` and closes the descriptor. The transport keeps nothing alive afterwards.
pub(super) fn lost(this: &Base) -> PyResult<()> {
    if this.over.replace(true) {
        return Ok(());
    }
    let exception = this.lost.get_or_none();
    let told = match this.streams() {
        Some(streams) => this.within(|| streams.connection_lost(&exception)),
        None => this
            .call(intern!("connection_lost"), &[&exception])
            .map(drop),
    };
    let told = match told.map_err(err::take) {
        Err(exception) => this
            .callback_failed("connection_lost", exception)
            .map_err(err::take),
        Ok(()) => Ok(()),
    };
    let released = release(this);
    match (told, released) {
        (Ok(()), released) => released,
        (Err(exception), Ok(())) => Err(err::restore(exception)),
        (Err(exception), Err(second)) => {
            err::unraisable(second, this.object());
            Err(err::restore(exception))
        }
    }
}

/// Closes the descriptor, unwatched before, and lets go of everything.
fn release(this: &Base) -> PyResult<()> {
    this.discard();
    this.leave();
    let closed = this.descriptor.close();
    this.drop_references();
    closed
}

/// Closes the descriptor at once and tells nobody: of a loop that does not run any more.
pub(super) fn release_untold(this: &Base) -> PyResult<()> {
    if this.over.replace(true) {
        return Ok(());
    }
    release(this)
}

/// A transport that nobody has closed and nobody can reach: told, and closed.
pub(super) fn abandoned(this: &Base) {
    if this.over.get() {
        return;
    }
    err::warn_unclosed(
        this.object(),
        &format!("unclosed transport {}", this.object().repr_text()),
    );
    this.over.set(true);
    if let Err(raised) = release(this) {
        err::unraisable(raised, this.object());
    }
}
