//! Making a future of anything that can be awaited, and tasks of coroutines.

use crate::awaitable;
use crate::future::{self, FutureView};
use crate::kit::{err, ffi, Any, Args, Obj, PyResult, Raised, Signature};
use crate::runtime::EventLoop;
use crate::task::{self, suspend};
use crate::{import, intern, raise, running};

/// `ensure_future(coro_or_future, *, loop=None)`.
pub(crate) fn ensure_future(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> =
        Signature::new("ensure_future", ["coro_or_future", "loop"], 1).keyword_only_after(1);
    let [object, event_loop] = args.bind(&SIGNATURE)?;
    match object {
        Some(object) => ensure(object, event_loop.and_then(Any::some)),
        None => Ok(Obj::none()),
    }
}

/// The object itself if it is a future, else a task of the loop (by default the running one) that awaits it.
#[inline]
pub(crate) fn ensure(object: &Any, event_loop: Option<&Any>) -> PyResult<Obj> {
    if is_future(object)? {
        return match event_loop {
            Some(event_loop) if !suspend::loop_of(object)?.is(event_loop) => {
                Err(attached_elsewhere())
            }
            _ => Ok(object.own()),
        };
    }
    if task::is_coroutine(object)? {
        return spawn_or_close(object, event_loop);
    }
    if !is_awaitable(object)? {
        return Err(raise!(
            err::type_error(),
            "An asyncio.Future, a coroutine or an awaitable is required"
        ));
    }
    let wrapped = import!("ioxide._awaitable", "_wrap_awaitable")?.call1(object)?;
    spawn_or_close(&wrapped, event_loop)
}

#[cold]
fn attached_elsewhere() -> Raised {
    raise!(
        err::value_error(),
        "The future belongs to a different loop than the one specified as the loop argument"
    )
}

/// `asyncio.isfuture`.
#[inline]
pub(crate) fn is_future(object: &Any) -> PyResult<bool> {
    if FutureView::exact(object).is_some() {
        return Ok(true);
    }
    // SAFETY: alive.
    if unsafe { ffi::PyCoro_CheckExact(object.raw()) != 0 } || awaitable::is_native(object) {
        return Ok(false);
    }
    import!("asyncio.base_futures", "isfuture")?
        .call1(object)?
        .truthy()
}

/// `inspect.isawaitable`, for what is neither a future nor a coroutine.
fn is_awaitable(object: &Any) -> PyResult<bool> {
    import!("inspect", "isawaitable")?.call1(object)?.truthy()
}

/// A task for the coroutine; where the loop refuses, the coroutine is closed.
fn spawn_or_close(coro: &Any, event_loop: Option<&Any>) -> PyResult<Obj> {
    let current;
    let event_loop = match event_loop {
        Some(event_loop) => event_loop,
        None => {
            current = future::current_loop()?;
            &current
        }
    };
    match spawn(event_loop, coro) {
        Err(raised) if err::matches(err::runtime_error()) => {
            let exception = err::take(raised);
            coro.method0(intern!("close"))?;
            Err(err::restore(exception))
        }
        outcome => outcome,
    }
}

/// `loop.create_task(coro)`.
#[inline]
pub(crate) fn spawn(event_loop: &Any, coro: &Any) -> PyResult<Obj> {
    match EventLoop::making_tasks(event_loop) {
        Some(native) => native.spawn(coro),
        None => event_loop.method(intern!("create_task"), &[coro]),
    }
}

/// `loop.create_task(...)` with the arguments as they came.
pub(crate) fn spawn_with(event_loop: &Any, args: Args<'_>) -> PyResult<Obj> {
    match (EventLoop::making_tasks(event_loop), args.positional()) {
        (Some(native), [coro]) if !args.has_keywords() => native.spawn(coro),
        (Some(native), [_]) => native.create_task(args),
        _ => {
            let keywords = crate::kit::value::dict()?;
            for (name, value) in args.keywords() {
                keywords.dict_set(name, value)?;
            }
            event_loop
                .attr(intern!("create_task"))?
                .call_dict(args.positional(), &keywords)
        }
    }
}

/// `create_task(coro, **kwargs)`.
pub(crate) fn create_task(args: Args<'_>) -> PyResult<Obj> {
    let event_loop = running::require_running_loop()?;
    spawn_with(&event_loop, args)
}

/// A pending future of the loop: `loop.create_future()`.
pub(crate) fn create_future(event_loop: &Any) -> PyResult<Obj> {
    match EventLoop::exact(event_loop) {
        Some(_) => Ok(future::Future::new(event_loop)?.into_obj()),
        None => event_loop.method0(intern!("create_future")),
    }
}
