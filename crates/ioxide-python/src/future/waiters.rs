//! Who is told when a future is done, in the order in which they asked.

use super::view::FutureView;
use crate::handle::Handle;
use crate::kit::{value, Any, Obj, Own, PyResult, Visitor};
use crate::runtime::schedule;
use crate::runtime::snapshot::Context;
use crate::runtime::target::Target;
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::task::{wake, Task};
use std::cell::Cell;

/// One who waits for a future.
pub(crate) enum Waiter {
    /// A callback of Python code, with the context to run it in.
    Callback { callback: Obj, context: Context },
    /// A task of ours that is parked on the future.
    Task(Own<Task>),
    /// A native object that is told without a Python call (gather, wait, shield …).
    Target(Own<Target>),
}

impl Waiter {
    /// The callback and the context by which Python code sees this waiter.
    fn as_pair(&self) -> PyResult<(Obj, Obj)> {
        match self {
            Waiter::Callback { callback, context } => {
                Ok((callback.clone(), context.presentable()?))
            }
            Waiter::Task(task) => Ok((wake::callable(task)?, task.context()?)),
            Waiter::Target(target) => Ok((target.callable()?, Obj::none())),
        }
    }
}

#[allow(
    clippy::box_collection,
    reason = "one word in each future instead of three"
)]
type Rest = Box<Vec<Waiter>>;

/// The waiters of one future. Nearly always there is one at most, which stands inline.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Waiters {
    first: Cell<Option<Waiter>>,
    rest: Cell<Option<Rest>>,
}

impl Waiters {
    #[inline]
    pub(crate) fn push(&self, waiter: Waiter) {
        match self.first.take() {
            None => self.first.set(Some(waiter)),
            taken => {
                self.first.set(taken);
                let mut rest = self.rest.take().unwrap_or_default();
                rest.push(waiter);
                self.rest.set(Some(rest));
            }
        }
    }

    /// Takes all of them.
    fn take(&self) -> (Option<Waiter>, Option<Rest>) {
        (self.first.take(), self.rest.take())
    }

    /// Looks at all of them; `f` runs no Python code and adds no waiter.
    fn each(&self, mut f: impl FnMut(&Waiter)) {
        let first = self.first.take();
        let rest = self.rest.take();
        if let Some(waiter) = &first {
            f(waiter);
        }
        for waiter in rest.iter().flat_map(|rest| rest.iter()) {
            f(waiter);
        }
        self.first.set(first);
        self.rest.set(rest);
    }

    /// Takes out the native waiter, if it is among them.
    pub(crate) fn remove_target(&self, target: &Any) {
        self.retain(|waiter| !matches!(waiter, Waiter::Target(own) if own.as_obj().is(target)));
    }

    fn retain(&self, mut keep: impl FnMut(&Waiter) -> bool) {
        let (first, rest) = self.take();
        let (kept, removed): (Vec<Waiter>, Vec<Waiter>) = first
            .into_iter()
            .chain(rest.into_iter().flat_map(|rest| *rest))
            .partition(|w| keep(w));
        kept.into_iter().for_each(|waiter| self.push(waiter));
        drop(removed);
    }

    /// `_callbacks`: the pairs (callback, context), or nothing.
    pub(crate) fn pairs(&self) -> PyResult<Vec<(Obj, Obj)>> {
        let mut pairs = Vec::new();
        let mut failed = None;
        self.each(|waiter| match waiter.as_pair() {
            Ok(pair) => pairs.push(pair),
            Err(raised) => failed = Some(raised),
        });
        failed.map_or(Ok(pairs), Err)
    }

    /// Removes every waiter whose callback equals `callback`; says how many there were.
    ///
    /// Comparing runs Python code, which may add waiters or take all of them: the comparison works on a copy.
    pub(crate) fn remove_equal(&self, callback: &Any) -> PyResult<usize> {
        let mut matching = Vec::new();
        for (index, (other, _)) in self.pairs()?.iter().enumerate() {
            if other.equals(callback)? {
                matching.push((index, other.clone()));
            }
        }
        if matching.is_empty() {
            return Ok(0);
        }
        let (mut index, mut removed) = (0, 0);
        self.retain(|waiter| {
            let hit = matching.iter().any(|(at, other)| {
                *at == index
                    && match waiter {
                        Waiter::Callback { callback, .. } => callback.is(other),
                        _ => true,
                    }
            });
            index += 1;
            removed += usize::from(hit);
            !hit
        });
        Ok(removed)
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        self.each(|waiter| match waiter {
            Waiter::Callback { callback, context } => {
                visitor.object(callback);
                visitor.object(context.object());
            }
            Waiter::Task(task) => visitor.object(task.as_obj()),
            Waiter::Target(target) => visitor.object(target.as_obj()),
        });
    }

    pub(crate) fn clear(&self) {
        drop(self.take());
    }
}

/// Makes everybody who waits for the future ready. Called once, when the future is done.
#[inline]
pub(crate) fn schedule_all(future: FutureView<'_>) -> PyResult<()> {
    let (first, rest) = future.waiters.take();
    let c_callbacks = !future.base.c_callback0.is_empty();
    if first.is_none() && !c_callbacks {
        return Ok(());
    }
    let event_loop = future.base.event_loop.get_or_none();
    let native = EventLoop::of(&event_loop);
    if c_callbacks {
        schedule_c_callbacks(future, &event_loop)?;
    }
    for waiter in first
        .into_iter()
        .chain(rest.into_iter().flat_map(|rest| *rest))
    {
        schedule_one(future, waiter, &event_loop, native)?;
    }
    Ok(())
}

#[inline]
fn schedule_one(
    future: FutureView<'_>,
    waiter: Waiter,
    event_loop: &Any,
    native: Option<&EventLoop>,
) -> PyResult<()> {
    match (waiter, native) {
        (Waiter::Task(task), Some(native)) => {
            native.push(Work::Wake(task));
            Ok(())
        }
        (Waiter::Target(target), Some(native)) => {
            native.push(Work::Done(target, future.object.own()));
            Ok(())
        }
        (Waiter::Callback { callback, context }, Some(native)) => {
            native.refuse_if_closed()?;
            let handle = Handle::within(native, &callback, &[future.object], context)?;
            native.push(Work::Handle(handle));
            Ok(())
        }
        (waiter, None) => {
            let (callback, context) = waiter.as_pair()?;
            schedule::call_soon(event_loop, &callback, &[future.object], &context)
        }
    }
}

/// Callbacks that unbound calls of the C class's methods left in the C code's fields.
#[cold]
fn schedule_c_callbacks(future: FutureView<'_>, event_loop: &Any) -> PyResult<()> {
    let base = future.base;
    let callback = base.c_callback0.take();
    let context = base.c_context0.take();
    if let (Some(callback), Some(context)) = (callback, context) {
        schedule::call_soon(event_loop, &callback, &[future.object], &context)?;
    }
    if let Some(list) = base.c_callbacks.take().filter(|list| !list.is_none()) {
        for pair in list.collect()? {
            if let [callback, context] = pair.tuple_items() {
                schedule::call_soon(event_loop, callback, &[future.object], context)?;
            }
        }
    }
    Ok(())
}

/// `add_done_callback`.
pub(crate) fn add_done_callback(
    future: FutureView<'_>,
    callback: &Any,
    context: Option<&Any>,
) -> PyResult<()> {
    let event_loop = super::view::require_loop(future)?;
    let native = EventLoop::of(&event_loop);
    let context = match (context.and_then(Any::some), native) {
        (Some(context), _) => Context::Given(context.own()),
        (None, Some(native)) => native.capture()?,
        (None, None) => Context::Given(crate::kit::context::copy_current()?),
    };
    let waiter = Waiter::Callback {
        callback: callback.own(),
        context,
    };
    if future.base.is_pending() {
        future.waiters.push(waiter);
        return Ok(());
    }
    schedule_one(future, waiter, &event_loop, native)
}

/// Adds a native waiter; a future that is done tells it in the next turn.
pub(crate) fn add_target(future: FutureView<'_>, target: &Own<Target>) -> PyResult<()> {
    if future.base.is_pending() {
        future.waiters.push(Waiter::Target(target.clone()));
        return Ok(());
    }
    let event_loop = super::view::require_loop(future)?;
    let native = EventLoop::of(&event_loop);
    schedule_one(future, Waiter::Target(target.clone()), &event_loop, native)
}

/// The value of `_callbacks`.
pub(crate) fn callbacks(future: FutureView<'_>) -> PyResult<Obj> {
    let mut pairs = Vec::new();
    if let Some(callback) = future.base.c_callback0.get() {
        pairs.push((callback, future.base.c_context0.get_or_none()));
    }
    pairs.extend(future.waiters.pairs()?);
    if pairs.is_empty() {
        return Ok(Obj::none());
    }
    let mut tuples = Vec::with_capacity(pairs.len());
    for (callback, context) in &pairs {
        tuples.push(value::tuple(&[callback, context])?);
    }
    value::list(tuples.into_iter())
}
