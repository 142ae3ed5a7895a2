//! Native awaitables: what a task can wait for without a future.
//!
//! `await sleep(1)`, `await queue.get()`, `await lock.acquire()` need no Future, no callback and no Handle: the
//! awaitable yields itself, the task's step recognises it and parks the task on it, and whoever fulfils it
//! puts the task into the ready queue.
//!
//! To Python code such an object looks like a coroutine (`send`, `throw`, `close`, `__await__`), so that it can
//! be given to `create_task`, `wait_for` or `run`, and warns when it is never awaited.
//!
//! # States
//! | state | meaning | leaves by |
//! |---|---|---|
//! | Fresh | nobody has awaited it | `start` |
//! | Offered | has yielded itself, nobody has parked yet | `park` |
//! | Parked | a task, or a future for tasks that are not ours, waits | `wake`, `cancel` |
//! | Woken | fulfilled, the waiter's step is on its way | `resume` |
//! | Cancelled | the waiter's step will throw `CancelledError` | `throw` |
//! | Done | over | never |
//!
//! # Two ways to wait
//! A task of ours on a loop of ours parks directly. Under any other task or loop the awaitable makes a future of
//! that loop and lets the task wait for that: the same state machine, one more object.

pub(crate) mod again;
mod face;
pub(crate) mod inner;
pub(crate) mod ready;
pub(crate) mod sleep;
mod waiting;

pub(crate) use face::{is_native, spec, wait_of};
pub(crate) use waiting::{Awaitable, Waiting};

use crate::future::{settle, FutureView};
use crate::kit::send::Sent;
use crate::kit::{err, Any, Head, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::target::{Target, TargetKind};
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::task::Task;
use crate::{intern, raise, running};
use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Fresh,
    Offered,
    Parked,
    Woken,
    Cancelled,
    Done,
}

/// What a native awaitable does when it is resumed.
pub(crate) enum Flow {
    /// Wait until [`Wait::wake`].
    Park,
    /// Give way for one turn (a bare `yield`), then resume.
    Yield,
    /// Wait for this future (or any awaited thing that the task understands), then resume.
    Await(Obj),
    /// What the awaitable itself awaits has yielded this: it goes to the task as it is, then resume.
    Pass(Obj),
    /// Over, with this value.
    Return(Obj),
}

/// What distinguishes one kind of awaitable from another.
#[repr(C)]
pub(crate) struct Kind {
    /// First, so that an awaitable is a target too.
    told: TargetKind,
    /// For the warning about what was never awaited.
    pub(crate) name: &'static str,
    /// The first step.
    start: unsafe fn(&Any) -> PyResult<Flow>,
    /// The step after a wake-up.
    resume: unsafe fn(&Any) -> PyResult<Flow>,
    /// An exception is thrown in; [`Wait::state`] still says how the waiting stood. Must leave no trace in
    /// whatever the awaitable was waiting on.
    throw: unsafe fn(&Any, Obj) -> PyResult<Flow>,
}

impl Kind {
    /// The same under another name: for one class that serves several functions.
    pub(crate) const fn named(&self, name: &'static str) -> Kind {
        Kind {
            told: self.told,
            name,
            start: self.start,
            resume: self.resume,
            throw: self.throw,
        }
    }
}

/// The head of every native awaitable.
#[repr(C)]
pub(crate) struct Wait {
    head: Head,
    /// The parked task, or the future that stands in for one that is not ours; the iterator to which the
    /// awaitable delegates in between; the message of a cancellation that is on its way.
    waiter: ObjCell,
    /// Where a target has its kind.
    kind: &'static Kind,
    state: Cell<State>,
}

// An awaitable can be told things like any target.
const _: () = assert!(std::mem::offset_of!(Wait, kind) == Target::KIND_OFFSET);

impl Any {
    /// # Safety
    /// The object is a native awaitable.
    #[inline(always)]
    unsafe fn cast_wait(&self) -> &Wait {
        // SAFETY: by the caller's promise.
        unsafe { &*self.raw().cast::<Wait>() }
    }
}

impl Wait {
    const fn new(kind: &'static Kind) -> Wait {
        Wait {
            head: Head::new(),
            waiter: ObjCell::empty(),
            kind,
            state: Cell::new(State::Fresh),
        }
    }

    fn as_any(&self) -> &Any {
        // SAFETY: the struct is the beginning of an object.
        unsafe { Any::from_raw(std::ptr::from_ref(self).cast_mut().cast()) }
    }

    pub(crate) fn state(&self) -> State {
        self.state.get()
    }

    /// Notes the iterator to which the awaitable delegates ([`Flow::Pass`]): call graphs follow it.
    pub(crate) fn set_delegate(&self, inner: Obj) {
        self.waiter.set(inner);
    }

    /// What the awaitable awaits in its turn, unless it is a task that waits for it.
    fn awaited(&self) -> Option<Obj> {
        match self.state.get() {
            State::Parked if self.stand_in().is_none() => None,
            State::Cancelled => None,
            _ => self.waiter.get(),
        }
    }

    /// Parks the task on the awaitable, if it has just yielded itself. One that was woken before the task
    /// could park goes on in the next turn, as a future that is done does.
    #[inline]
    pub(crate) fn park(&self, task: &Task) -> bool {
        match self.state.get() {
            State::Offered => {
                self.waiter.set(task.as_any().own());
                self.state.set(State::Parked);
                true
            }
            State::Woken => {
                push_wake(task.own());
                true
            }
            _ => false,
        }
    }

    /// Whether somebody still waits: not woken and not cancelled.
    pub(crate) fn is_waiting(&self) -> bool {
        match self.state.get() {
            State::Offered => true,
            State::Parked => match self.stand_in() {
                Some(future) => future.base.is_pending(),
                None => true,
            },
            _ => false,
        }
    }

    /// `fut.cancelled()` of asyncio's waiters.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.get() == State::Cancelled
            || self
                .stand_in()
                .is_some_and(|f| f.base.state() == crate::layout::State::Cancelled)
    }

    /// The future that stands in for a task that is not ours.
    fn stand_in(&self) -> Option<FutureView<'_>> {
        if self.state.get() != State::Parked {
            return None;
        }
        // SAFETY: nothing runs while the borrow lives.
        let waiter = unsafe { self.waiter.peek() }?;
        waiter
            .exact::<crate::future::Future>()
            .map(crate::future::Future::view)
    }

    /// Has the processor fetch the task that waits.
    #[inline(always)]
    pub(crate) fn prefetch_waiter(&self) {
        // SAFETY: nothing runs while the borrow lives.
        if let Some(waiter) = unsafe { self.waiter.peek() } {
            waiter.prefetch::<Task>();
        }
    }

    /// Whether the waiting was fulfilled and the waiter has not gone on yet.
    pub(crate) fn is_woken(&self) -> bool {
        self.state.get() == State::Woken
            || self
                .stand_in()
                .is_some_and(|f| f.base.state() == crate::layout::State::Finished)
    }

    /// Fulfils the waiting: the waiter goes on in the next turn. Once only; a waiter that is not waiting any more
    /// is left alone.
    #[inline]
    pub(crate) fn wake(&self) -> PyResult<()> {
        self.wake_if_waiting().map(drop)
    }

    /// As [`Wait::wake`]; says whether somebody was waiting.
    #[inline]
    pub(crate) fn wake_if_waiting(&self) -> PyResult<bool> {
        match self.state.get() {
            State::Parked => {}
            State::Offered => {
                self.state.set(State::Woken);
                return Ok(true);
            }
            _ => return Ok(false),
        }
        if let Some(future) = self.stand_in() {
            if !future.base.is_pending() {
                return Ok(false);
            }
            let future = future.object.own();
            return match FutureView::of(&future) {
                Some(view) => settle::set_result(view, Obj::none()).map(|()| true),
                None => Ok(false),
            };
        }
        let Some(task) = self.waiter.take().and_then(into_task) else {
            return Ok(false);
        };
        self.state.set(State::Woken);
        push_wake(task);
        Ok(true)
    }

    /// As [`Wait::wake`] for a task of ours that waits; false, and nothing done, for any other: that might run code
    /// of the program.
    #[inline]
    pub(crate) fn wake_task(&self) -> bool {
        if self.state.get() != State::Parked || self.stand_in().is_some() {
            return false;
        }
        let Some(task) = self.waiter.take().and_then(into_task) else {
            return false;
        };
        self.state.set(State::Woken);
        push_wake(task);
        true
    }

    /// Cancels the waiting on behalf of the parked task; false if it is too late for that.
    pub(crate) fn cancel(&self, message: Option<Obj>) -> bool {
        if self.state.get() != State::Parked || self.stand_in().is_some() {
            return false;
        }
        let Some(task) = self.waiter.take().and_then(into_task) else {
            return false;
        };
        self.state.set(State::Cancelled);
        drop(self.waiter.replace(message));
        push_wake(task);
        true
    }

    /// A future that ended as the waiting did: woken or cancelled.
    pub(crate) fn as_done_future(&self, event_loop: &Any) -> PyResult<Obj> {
        let future = crate::future::Future::new(event_loop)?;
        if self.is_cancelled() {
            settle::cancel(future.view(), self.waiter.get())?;
        } else {
            settle::set_result(future.view(), Obj::none())?;
        }
        Ok(future.into_obj())
    }

    /// What the wake-up throws into the coroutine.
    #[inline]
    pub(crate) fn thrown(&self) -> PyResult<Option<Obj>> {
        if self.state.get() != State::Cancelled {
            return Ok(None);
        }
        settle::cancelled_error(self.waiter.take().as_deref()).map(Some)
    }

    #[inline]
    fn advance(&self) -> PyResult<Sent> {
        // SAFETY: the kind is the one of this object's class.
        let flow = match self.state.get() {
            State::Fresh => unsafe { (self.kind.start)(self.as_any()) },
            State::Woken => unsafe { (self.kind.resume)(self.as_any()) },
            State::Parked => return self.advance_stand_in(),
            State::Offered | State::Cancelled => {
                return Err(raise!(
                    err::runtime_error(),
                    "await wasn't used with future"
                ))
            }
            State::Done => {
                return Err(raise!(
                    err::runtime_error(),
                    "cannot reuse already awaited coroutine"
                ))
            }
        };
        self.follow(flow)
    }

    /// The future that stood in for a foreign task is done, or the awaited thing is.
    fn advance_stand_in(&self) -> PyResult<Sent> {
        let Some(waiter) = self.waiter.take() else {
            // SAFETY: as above.
            return self.follow(unsafe { (self.kind.resume)(self.as_any()) });
        };
        if waiter.cast::<Task>().is_some() {
            self.waiter.set(waiter);
            return Err(raise!(
                err::runtime_error(),
                "await wasn't used with future"
            ));
        }
        let outcome = match FutureView::of(&waiter) {
            Some(future) => settle::result(future).map(drop),
            None => waiter.method0(intern!("result")).map(drop),
        };
        match outcome {
            Ok(()) => {
                self.state.set(State::Woken);
                // SAFETY: as above.
                self.follow(unsafe { (self.kind.resume)(self.as_any()) })
            }
            Err(raised) => self.throw(err::take(raised)),
        }
    }

    /// An exception is thrown in at the point where the awaitable waits.
    fn throw(&self, exception: Obj) -> PyResult<Sent> {
        if matches!(self.state.get(), State::Fresh | State::Done) {
            self.state.set(State::Done);
            return Err(err::raise_instance(&exception));
        }
        if self
            .stand_in()
            .is_some_and(|future| future.base.is_pending())
        {
            self.waiter.clear();
        }
        // SAFETY: the kind is the one of this object's class.
        let flow = unsafe { (self.kind.throw)(self.as_any(), exception) };
        self.follow(flow)
    }

    #[inline]
    fn follow(&self, flow: PyResult<Flow>) -> PyResult<Sent> {
        match flow {
            Ok(Flow::Park) => self.offer(),
            Ok(Flow::Yield) => {
                self.state.set(State::Woken);
                Ok(Sent::Yielded(Obj::none()))
            }
            Ok(Flow::Await(future)) => {
                self.waiter.set(future.clone());
                self.state.set(State::Woken);
                mark_blocking(&future)?;
                Ok(Sent::Yielded(future))
            }
            Ok(Flow::Pass(yielded)) => {
                self.state.set(State::Woken);
                Ok(Sent::Yielded(yielded))
            }
            Ok(Flow::Return(value)) => {
                self.finish();
                Ok(Sent::Returned(value))
            }
            Err(raised) => {
                err::preserved(|| self.finish());
                Err(raised)
            }
        }
    }

    fn finish(&self) {
        self.state.set(State::Done);
        self.waiter.clear();
    }

    /// Yields the awaitable itself to a task of ours, a future of the running loop to any other.
    #[inline]
    fn offer(&self) -> PyResult<Sent> {
        if runs_natively()? {
            self.waiter.clear();
            self.state.set(State::Offered);
            return Ok(Sent::Yielded(self.as_any().own()));
        }
        let event_loop = running::require_running_loop()?;
        let future = crate::future::Future::new(&event_loop)?;
        future.view().base.set_blocking(true);
        self.state.set(State::Parked);
        self.waiter.set(future.as_obj().clone());
        Ok(Sent::Yielded(future.into_obj()))
    }

    fn close(&self) -> PyResult<()> {
        if matches!(self.state.get(), State::Fresh | State::Done) {
            self.finish();
            return Ok(());
        }
        let exit = err::generator_exit().call0()?;
        match self.throw(exit) {
            Ok(Sent::Yielded(_)) => Err(raise!(
                err::runtime_error(),
                "coroutine ignored GeneratorExit"
            )),
            Ok(Sent::Returned(_)) => Ok(()),
            Err(raised)
                if err::matches(err::generator_exit()) || err::matches(err::stop_iteration()) =>
            {
                err::discard(raised);
                Ok(())
            }
            Err(raised) => Err(raised),
        }
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.waiter);
    }

    fn clear(&self) {
        self.waiter.clear();
    }

    /// Whether somebody has begun to await this, or closed it: nobody needs to be warned.
    #[inline(always)]
    fn was_awaited(&self) -> bool {
        self.state.get() != State::Fresh
    }

    fn warn_if_never_awaited(&self) {
        if self.state.get() != State::Fresh {
            return;
        }
        self.state.set(State::Done);
        let message = format!("coroutine '{}' was never awaited", self.kind.name);
        if let Err(raised) = err::warn(err::runtime_warning(), &message, 1) {
            err::unraisable(raised, self.as_any());
        }
    }
}

/// The reference to a parked task, as what it is.
#[inline]
fn into_task(waiter: Obj) -> Option<Own<Task>> {
    // SAFETY: just checked.
    waiter
        .cast::<Task>()
        .is_some()
        .then(|| unsafe { Own::from_obj(waiter) })
}

/// Puts the task's wake-up into its loop's ready queue.
#[inline]
fn push_wake(task: Own<Task>) {
    let event_loop = task.event_loop();
    if let Some(native) = EventLoop::of(&event_loop) {
        native.push(Work::Wake(task));
    }
}

/// Whether the code that runs now was resumed by a task of ours on a loop of ours.
#[inline]
fn runs_natively() -> PyResult<bool> {
    let Some(task) = running::running_task()? else {
        return Ok(false);
    };
    let Some(task) = task.cast::<Task>() else {
        return Ok(false);
    };
    Ok(EventLoop::of(&task.event_loop()).is_some())
}

/// What `await` does to a future before it yields it.
fn mark_blocking(future: &Any) -> PyResult<()> {
    match FutureView::exact(future) {
        Some(view) => view.base.set_blocking(true),
        None => {
            let yes = crate::kit::value::bool(true);
            future.set_attr(intern!("_asyncio_future_blocking"), &yes)?;
        }
    }
    Ok(())
}
