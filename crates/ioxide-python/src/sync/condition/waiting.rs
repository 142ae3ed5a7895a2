//! `Condition.wait()` and `wait_for()`: out of the lock, notified, and into the lock again, come what may.
//!
//! # States
//! | state | stands in the list of | leaves by |
//! |---|---|---|
//! | Listening | the condition | a notification or an exception, both to Relocking |
//! | Relocking | the lock | having the lock; a cancellation is kept until then |
//! | RelockingElsewhere | – (the foreign lock's affair) | as Relocking |

use super::super::acquire::Acquired;
use super::super::lock::Lock;
use super::super::waiters;
use super::Condition;
use crate::awaitable::inner::Inner;
use crate::awaitable::{Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::send::Sent;
use crate::kit::{err, value, Any, Class, Native, Obj, ObjCell, Own, PyResult, Raised, Visitor};
use crate::{errors, intern, raise};
use std::cell::Cell;

#[derive(Clone, Copy)]
enum Phase {
    Listening,
    Relocking,
    RelockingElsewhere,
}

/// The awaitable of both methods.
pub(in crate::sync) type ConditionWait = Waiting<ConditionWaitState>;

pub(in crate::sync) struct ConditionWaitState {
    condition: Own<Condition>,
    /// Of `wait_for`.
    predicate: ObjCell,
    phase: Cell<Phase>,
    /// What is raised once the lock is held again.
    error: ObjCell,
    /// `acquire()` of a lock that is not ours.
    inner: Inner,
}

static CLASS: Class = Class::new();

impl Awaitable for ConditionWait {
    const NAME: &'static str = "Condition.wait";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.object(self.condition.as_obj());
        visitor.cell(&self.predicate);
        visitor.cell(&self.error);
        self.inner.traverse(visitor);
    }

    fn unlink(&self) {
        self.predicate.clear();
        self.error.clear();
        self.inner.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        match self.predicate_holds()? {
            Some(result) => Ok(Flow::Return(result)),
            None => self.listen(),
        }
    }

    fn resume(&self) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Listening => {
                self.condition.waiters.remove(self.as_any());
                self.relock(self.acquire())
            }
            Phase::Relocking => {
                self.lock()?.admit(self.as_any())?;
                self.relocked()
            }
            Phase::RelockingElsewhere => self.relock(follow(self.inner.resume())),
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Listening => {
                self.condition.waiters.remove(self.as_any());
                self.error.set(exception);
                self.relock(self.acquire())
            }
            Phase::Relocking => {
                let dismissed =
                    self.lock()?
                        .dismiss(self.as_any(), self.wait.is_woken(), &exception);
                self.relock(dismissed.and(Err(err::restore(exception))))
            }
            Phase::RelockingElsewhere => self.relock(follow(self.inner.throw(&exception))),
        }
    }
}

/// How far a foreign lock's `acquire()` has come: nothing more to do, or what it has yielded.
fn follow(sent: PyResult<Sent>) -> PyResult<Option<Flow>> {
    Ok(match sent? {
        Sent::Yielded(object) => Some(Flow::Pass(object)),
        Sent::Returned(_) => None,
    })
}

impl ConditionWait {
    pub(in crate::sync) fn new(
        condition: &Condition,
        predicate: Option<&Any>,
    ) -> PyResult<Own<ConditionWait>> {
        let body = ConditionWait::with(ConditionWaitState {
            condition: condition.own(),
            predicate: ObjCell::empty(),
            phase: Cell::new(Phase::Listening),
            error: ObjCell::empty(),
            inner: Inner::empty(),
        });
        if let Some(predicate) = predicate {
            body.predicate.set(predicate.own());
        }
        body.make()
    }

    /// What the predicate returned, if it is true. Without a predicate nothing is ever true.
    fn predicate_holds(&self) -> PyResult<Option<Obj>> {
        let Some(predicate) = self.predicate.get() else {
            return Ok(None);
        };
        let result = predicate.call0()?;
        Ok(result.truthy()?.then_some(result))
    }

    /// Gives the lock up and waits for a notification.
    fn listen(&self) -> PyResult<Flow> {
        let condition = &self.condition;
        if !condition.is_locked()? {
            return Err(raise!(
                err::runtime_error(),
                "cannot wait on un-acquired lock"
            ));
        }
        condition.bound.require(condition.as_any())?;
        condition.let_go()?;
        condition.waiters.push(self.as_any());
        self.phase.set(Phase::Listening);
        Ok(Flow::Park)
    }

    /// The lock of the condition, which is ours where this is asked.
    fn lock(&self) -> PyResult<Own<Lock>> {
        match self.condition.lock()?.cast::<Lock>() {
            Some(lock) => Ok(lock.own()),
            None => Err(raise!(
                err::runtime_error(),
                "the condition's lock has changed"
            )),
        }
    }

    /// Begins to take the lock: nothing if it is taken, else how to wait for it.
    fn acquire(&self) -> PyResult<Option<Flow>> {
        if let Some(lock) = self.condition.native_lock() {
            if lock.try_acquire()? {
                return Ok(None);
            }
            lock.enlist(self.as_any())?;
            self.phase.set(Phase::Relocking);
            return Ok(Some(Flow::Park));
        }
        let awaited = self.condition.as_any().method0(intern!("acquire"))?;
        self.inner.begin(&awaited)?;
        self.phase.set(Phase::RelockingElsewhere);
        follow(self.inner.resume())
    }

    /// Goes on with taking the lock, which has come this far. Cancellations do not end it: the last one is
    /// raised when the lock is held.
    fn relock(&self, mut outcome: PyResult<Option<Flow>>) -> PyResult<Flow> {
        loop {
            match outcome {
                Ok(Some(flow)) => return Ok(flow),
                Ok(None) => return self.relocked(),
                Err(raised) => self.keep_cancellation(raised)?,
            }
            outcome = self.acquire();
        }
    }

    fn keep_cancellation(&self, raised: Raised) -> PyResult<()> {
        let exception = err::take(raised);
        if err::is_a(&exception, errors::cancelled()?) {
            self.error.set(exception);
            return Ok(());
        }
        self.fail(exception).map(drop)
    }

    /// The lock is held again.
    fn relocked(&self) -> PyResult<Flow> {
        if let Some(exception) = self.error.take() {
            return self.fail(exception);
        }
        if self.predicate.is_empty() {
            return Ok(Flow::Return(value::bool(true)));
        }
        match self.predicate_holds()? {
            Some(result) => Ok(Flow::Return(result)),
            None => self.listen(),
        }
    }

    /// Raises. A notification that this one may have had is passed on: somebody else may be woken for nothing,
    /// but none is lost.
    fn fail(&self, exception: Obj) -> PyResult<Flow> {
        self.condition.notify_some(1)?;
        Err(err::restore(exception))
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<ConditionWait>(c"ioxide.ConditionWait").build(&CLASS)?;
    Ok(())
}
