//! One function to be called on a worker, and the way of its outcome back to the loop.

use super::news;
use crate::errors;
use crate::future::{settle, Future, FutureView};
use crate::kit::{
    context, err, value, Any, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Raised,
    Visitor,
};
use crate::runtime::target::{Target, Told};
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::{import, intern};
use std::cell::Cell;

/// A call that has not been made yet.
pub(crate) struct Call {
    function: ObjCell,
    /// A tuple, or nothing.
    arguments: ObjCell,
    /// A dict, or nothing.
    pub(crate) keywords: ObjCell,
    /// The context to make it in; the worker's own if empty.
    pub(crate) context: ObjCell,
}

impl Call {
    pub(crate) fn new(function: &Any, arguments: &[&Any]) -> PyResult<Call> {
        let tuple = if arguments.is_empty() {
            ObjCell::empty()
        } else {
            ObjCell::new(value::tuple(arguments)?)
        };
        Ok(Call {
            function: ObjCell::new(function.own()),
            arguments: tuple,
            keywords: ObjCell::empty(),
            context: ObjCell::empty(),
        })
    }

    /// Makes the call, once: what it was made of is let go.
    pub(crate) fn make(&self) -> PyResult<Obj> {
        let Some(function) = self.function.take() else {
            return Ok(Obj::none());
        };
        let (arguments, keywords) = (self.arguments.take(), self.keywords.take());
        let items = arguments.as_deref().map_or(&[][..], Any::tuple_items);
        let call = || match &keywords {
            Some(keywords) => function.call_dict(items, keywords),
            None => function.call_slice(items),
        };
        match self.context.take() {
            Some(context) => context::within(&context, call)?,
            None => call(),
        }
    }

    fn cells(&self) -> [&ObjCell; 4] {
        [
            &self.function,
            &self.arguments,
            &self.keywords,
            &self.context,
        ]
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }
}

/// How a call ended.
#[derive(Clone, Copy)]
enum End {
    Returned,
    Raised,
    /// It was never made: the pool was told to drop what is queued.
    Dropped,
}

/// A call, and the future that waits for it.
#[repr(C)]
pub(crate) struct Job {
    target: Target,
    call: Call,
    /// The loop's future; empty for a call whose outcome is the caller's own affair.
    future: ObjCell,
    event_loop: ObjCell,
    end: Cell<End>,
    outcome: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with the head of a target, and the class is built from it below.
unsafe impl Native for Job {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.call.traverse(visitor);
        visitor.cells([&self.future, &self.event_loop, &self.outcome]);
    }

    fn clear(&self) {
        self.call.clear();
        ObjCell::clear_all([&self.future, &self.event_loop, &self.outcome]);
    }
}

// SAFETY: begins with a target of its own kind.
unsafe impl Told for Job {
    /// Back on the loop: settles the future, unless it was cancelled in the meantime.
    fn fire(&self) -> PyResult<()> {
        let (Some(future), outcome) = (self.future.take(), self.outcome.take()) else {
            return Ok(());
        };
        let Some(view) = FutureView::of(&future).filter(|view| view.base.is_pending()) else {
            return Ok(());
        };
        match (self.end.get(), outcome) {
            (End::Dropped, _) => settle::cancel(view, None).map(drop),
            (End::Raised, Some(exception)) => {
                settle::set_exception(view, &*as_asyncio_has_it(exception)?)
            }
            (_, outcome) => settle::set_result(view, outcome.unwrap_or_else(Obj::none)),
        }
    }
}

/// What `concurrent.futures` raises of its own is told in asyncio's classes, and a `StopIteration` as what it
/// is, also by a version whose futures refuse it: nobody would be told.
fn as_asyncio_has_it(exception: Obj) -> PyResult<Obj> {
    let class = exception.class();
    if err::is_a(&exception, err::stop_iteration()) {
        return settle::wrap_stop_iteration(&exception);
    }
    let ours = if class.is(import!("concurrent.futures", "CancelledError")?) {
        errors::cancelled()?
    } else if class.is(import!("concurrent.futures", "InvalidStateError")?) {
        errors::invalid_state()?
    } else {
        return Ok(exception);
    };
    let arguments = exception.attr(intern!("args"))?;
    let made = ours.call_slice(arguments.tuple_items())?;
    let traceback = exception.attr(intern!("__traceback__"))?;
    made.method(intern!("with_traceback"), &[&traceback])
}

impl Job {
    fn with(call: Call, future: ObjCell, event_loop: ObjCell) -> PyResult<Own<Job>> {
        Job {
            target: Target::new(&Job::KIND),
            call,
            future,
            event_loop,
            end: Cell::new(End::Returned),
            outcome: ObjCell::empty(),
        }
        .make()
    }

    /// A call whose outcome goes to a future of this loop.
    pub(crate) fn for_future(
        call: Call,
        future: &Own<Future>,
        event_loop: &EventLoop,
    ) -> PyResult<Own<Job>> {
        Job::with(
            call,
            ObjCell::new(future.as_obj().clone()),
            ObjCell::new(event_loop.object()),
        )
    }

    /// A call that sees to its outcome by itself.
    pub(crate) fn detached(call: Call) -> PyResult<Own<Job>> {
        Job::with(call, ObjCell::empty(), ObjCell::empty())
    }

    /// On a worker: makes the call, unless the future is done by now, and hands the outcome to the loop. Who
    /// runs the job must tell the loop that is returned.
    pub(crate) fn run(&self) -> Option<Obj> {
        let Some(future) = self.future.get() else {
            if let Err(raised) = self.call.make() {
                err::unraisable(raised, self.as_any());
            }
            return None;
        };
        if !FutureView::of(&future).is_some_and(|view| view.base.is_pending()) {
            self.clear();
            return None;
        }
        match self.call.make() {
            Ok(value) => self.outcome.set(value),
            Err(Raised) => {
                self.end.set(End::Raised);
                self.outcome.set(err::take(Raised));
            }
        }
        self.hand_over()
    }

    /// The pool drops the job: its future is cancelled. Gives back the arguments of a detached call.
    pub(crate) fn dropped(&self) -> Option<Obj> {
        let arguments = self.call.arguments.take();
        self.call.clear();
        if self.future.is_empty() {
            return arguments;
        }
        self.end.set(End::Dropped);
        if let Some(event_loop) = self.hand_over() {
            news::tell(&event_loop);
        }
        None
    }

    /// Makes the settling ready on the loop, which is returned if it is to be told. A loop that is closed has
    /// nobody left who waits.
    fn hand_over(&self) -> Option<Obj> {
        let event_loop = self.event_loop.take()?;
        let native = EventLoop::of(&event_loop).filter(|native| !native.is_closed())?;
        native.ready.push(Work::Fire(self.target()));
        let is_asleep = native.polling.is_asleep();
        is_asleep.then_some(event_loop)
    }
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Job>(c"ioxide.ExecutorJob")
        .doc(c"A function that a thread of the executor runs.")
        .build(&CLASS)?;
    Ok(())
}
