//! Futures of two kinds that share one outcome: a loop's, and those of `concurrent.futures`.

use super::{child, ensure_future};
use crate::future::{self, settle, FutureView};
use crate::kit::{
    err, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Signature, Visitor,
};
use crate::runtime::target::{Target, Told};
use crate::task::{cancel, step, suspend};
use crate::{errors, import, intern, raise, running};

/// A link between a source, whose outcome is copied, and a destination, whose cancellation goes back.
///
/// One of the two may be a `concurrent.futures.Future`, which calls back in whatever thread it is done.
#[repr(C)]
struct Chain {
    target: Target,
    source: ObjCell,
    destination: ObjCell,
    /// The loops of the two; nothing for a concurrent future.
    source_loop: ObjCell,
    destination_loop: ObjCell,
}

static CLASS: Class = Class::new();

impl Chain {
    fn cells(&self) -> [&ObjCell; 4] {
        [
            &self.source,
            &self.destination,
            &self.source_loop,
            &self.destination_loop,
        ]
    }
}

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for Chain {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.cells().into_iter().for_each(|cell| visitor.cell(cell));
    }

    fn clear(&self) {
        self.cells().into_iter().for_each(ObjCell::clear);
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for Chain {
    fn done(&self, future: &Any) -> PyResult<()> {
        if self.source.holds(future) {
            self.source_done()
        } else {
            self.destination_done()
        }
    }

    /// Copies, on the loop of the destination.
    fn fire(&self) -> PyResult<()> {
        match (self.source.get(), self.destination.get()) {
            (Some(source), Some(destination)) if self.destination_loop.is_empty() => {
                copy_to_concurrent(&source, &destination)
            }
            (Some(source), Some(destination)) => copy_to_future(&source, &destination),
            _ => Ok(()),
        }
    }
}

/// Whether the loop is the one that runs in this thread, or there is none to care about.
fn is_here(event_loop: Option<&Any>) -> PyResult<bool> {
    match event_loop {
        None => Ok(true),
        Some(event_loop) => {
            Ok(running::running_loop()?.is_some_and(|running| running.is(event_loop)))
        }
    }
}

impl Chain {
    fn source_done(&self) -> PyResult<()> {
        let event_loop = self.destination_loop.get();
        if is_here(event_loop.as_deref())? {
            return self.fire();
        }
        let Some(event_loop) = event_loop else {
            return Ok(());
        };
        if event_loop.method0(intern!("is_closed"))?.truthy()? {
            return Ok(());
        }
        let copy = self.target().fire_callable()?;
        event_loop
            .method(intern!("call_soon_threadsafe"), &[&copy])
            .map(drop)
    }

    fn destination_done(&self) -> PyResult<()> {
        let (Some(source), Some(destination)) = (self.source.get(), self.destination.get()) else {
            return Ok(());
        };
        if !child::is_cancelled(&destination)? {
            return Ok(());
        }
        let event_loop = self.source_loop.get();
        match event_loop {
            Some(event_loop) if !is_here(Some(&event_loop))? => {
                let cancel = source.attr(intern!("cancel"))?;
                event_loop
                    .method(intern!("call_soon_threadsafe"), &[&cancel])
                    .map(drop)
            }
            _ => child::cancel(&source).map(drop),
        }
    }
}

/// Gives a concurrent future the outcome of a loop's future.
fn copy_to_concurrent(source: &Any, destination: &Any) -> PyResult<()> {
    if child::is_cancelled(source)? {
        destination.method0(intern!("cancel"))?;
    }
    if !destination
        .method0(intern!("set_running_or_notify_cancel"))?
        .truthy()?
    {
        return Ok(());
    }
    match child::exception(source)? {
        Some(exception) => {
            let exception = as_asyncio(exception)?;
            destination.method(intern!("set_exception"), &[&exception])?;
        }
        None => {
            let result = child::result(source)?;
            destination.method(intern!("set_result"), &[&result])?;
        }
    }
    Ok(())
}

/// Gives a loop's future the outcome of any other, unless it was cancelled.
fn copy_to_future(source: &Any, destination: &Any) -> PyResult<()> {
    if child::is_cancelled(destination)? {
        return Ok(());
    }
    if child::is_cancelled(source)? {
        return cancel::cancel_any(destination, None).map(drop);
    }
    match (child::exception(source)?, FutureView::exact(destination)) {
        (Some(exception), Some(view)) => settle::set_exception(view, &*as_asyncio(exception)?),
        (None, Some(view)) => settle::set_result(view, child::result(source)?),
        (Some(exception), None) => destination
            .method(intern!("set_exception"), &[&*as_asyncio(exception)?])
            .map(drop),
        (None, None) => {
            let result = child::result(source)?;
            destination
                .method(intern!("set_result"), &[&result])
                .map(drop)
        }
    }
}

/// The exceptions of `concurrent.futures` become asyncio's of the same name.
fn as_asyncio(exception: Obj) -> PyResult<Obj> {
    for (theirs, ours) in [
        (
            import!("concurrent.futures", "CancelledError")?,
            errors::cancelled()?,
        ),
        (
            import!("concurrent.futures", "InvalidStateError")?,
            errors::invalid_state()?,
        ),
    ] {
        if exception.class().is(theirs) {
            let arguments = exception.attr(intern!("args"))?;
            let made = ours.call_slice(arguments.tuple_items())?;
            let traceback = exception.attr(intern!("__traceback__"))?;
            return made.method(intern!("with_traceback"), &[&traceback]);
        }
    }
    Ok(exception)
}

fn is_concurrent(object: &Any) -> PyResult<bool> {
    object.is_instance(import!("concurrent.futures", "Future")?)
}

/// The loop of one end of a chain.
fn end_loop(end: &Any, what: &str) -> PyResult<Option<Obj>> {
    if ensure_future::is_future(end)? {
        return suspend::loop_of(end).map(Some);
    }
    if is_concurrent(end)? {
        return Ok(None);
    }
    Err(raise!(
        err::type_error(),
        "A future is required for {what} argument"
    ))
}

/// Links the two: the outcome goes one way, a cancellation the other.
fn chain(source: &Any, destination: &Any) -> PyResult<()> {
    let source_loop = end_loop(source, "source")?;
    let destination_loop = end_loop(destination, "destination")?;
    let made = Chain {
        target: Target::new(&Chain::KIND),
        source: ObjCell::new(source.own()),
        destination: ObjCell::new(destination.own()),
        source_loop: ObjCell::empty(),
        destination_loop: ObjCell::empty(),
    }
    .make()?;
    drop(made.source_loop.replace(source_loop));
    drop(made.destination_loop.replace(destination_loop));
    let target = made.target();
    child::listen(destination, &target)?;
    child::listen(source, &target)
}

/// `wrap_future(future, *, loop=None)`.
pub(crate) fn wrap_future(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> =
        Signature::new("wrap_future", ["future", "loop"], 1).keyword_only_after(1);
    let [source, event_loop] = args.bind(&SIGNATURE)?;
    let source = source.map_or_else(Obj::none, Any::own);
    if ensure_future::is_future(&source)? {
        return Ok(source);
    }
    if !is_concurrent(&source)? {
        return Err(raise!(
            import!("builtins", "AssertionError")?,
            "concurrent.futures.Future is expected, got {}",
            source.repr_text()
        ));
    }
    let event_loop = match event_loop.and_then(Any::some) {
        Some(event_loop) => event_loop.own(),
        None => future::current_loop()?,
    };
    let destination = ensure_future::create_future(&event_loop)?;
    chain(&source, &destination)?;
    Ok(destination)
}

/// A coroutine on its way to the loop of another thread.
#[repr(C)]
struct Submission {
    target: Target,
    coro: ObjCell,
    event_loop: ObjCell,
    future: ObjCell,
}

static SUBMISSION: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for Submission {
    type Extra = ();

    fn class() -> &'static Class {
        &SUBMISSION
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.coro);
        visitor.cell(&self.event_loop);
        visitor.cell(&self.future);
    }

    fn clear(&self) {
        self.coro.clear();
        self.event_loop.clear();
        self.future.clear();
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for Submission {
    /// Starts the coroutine, on the loop's thread.
    fn fire(&self) -> PyResult<()> {
        let (Some(coro), Some(event_loop), Some(future)) =
            (self.coro.take(), self.event_loop.take(), self.future.take())
        else {
            return Ok(());
        };
        let outcome =
            ensure_future::ensure(&coro, Some(&event_loop)).and_then(|task| chain(&task, &future));
        let Err(raised) = outcome else { return Ok(()) };
        let exception = err::take(raised);
        if !step::leaves_loop(&exception)
            && future
                .method0(intern!("set_running_or_notify_cancel"))?
                .truthy()?
        {
            future.method(intern!("set_exception"), &[&exception])?;
        }
        Err(err::restore(exception))
    }
}

/// `run_coroutine_threadsafe(coro, loop)`.
pub(crate) fn run_coroutine_threadsafe(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("run_coroutine_threadsafe", ["coro", "loop"], 2);
    let [coro, event_loop] = args.bind(&SIGNATURE)?;
    let coro = coro.map_or_else(Obj::none, Any::own);
    let event_loop = event_loop.map_or_else(Obj::none, Any::own);
    if !crate::task::is_coroutine(&coro)? {
        return Err(raise!(err::type_error(), "A coroutine object is required"));
    }
    let future = import!("concurrent.futures", "Future")?.call0()?;
    let submission: Own<Submission> = Submission {
        target: Target::new(&Submission::KIND),
        coro: ObjCell::new(coro),
        event_loop: ObjCell::new(event_loop.clone()),
        future: ObjCell::new(future.clone()),
    }
    .make()?;
    let start = submission.target().fire_callable()?;
    event_loop.method(intern!("call_soon_threadsafe"), &[&start])?;
    Ok(future)
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Chain>(c"ioxide._Chain").build(&CLASS)?;
    ClassSpec::new::<Submission>(c"ioxide._Submission").build(&SUBMISSION)?;
    Ok(())
}
