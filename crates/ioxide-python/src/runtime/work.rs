//! Everything that can be ready to run: the closed list.

use super::target::Target;
use super::EventLoop;
use crate::awaitable::sleep::Sleep;
use crate::handle::Handle;
use crate::kit::{err, Any, Native, Obj, Own, PyResult, Raised, Visitor};
use crate::task::{step, wake, Task};
use crate::transport::operation::SocketOperation;
use std::cell::UnsafeCell;
use std::collections::VecDeque;

/// One thing to do. Each owns what it is about.
pub(crate) enum Work {
    /// A callback of Python code.
    Handle(Own<Handle>),
    /// The first step of a task, hidden from the collector until then: see [`Task::hide`].
    Begin(Own<Task>),
    /// The next step of a task.
    Step(Own<Task>),
    /// The next step of a task, which throws an exception.
    Throw(Own<Task>, Obj),
    /// What the task waits for is done.
    Wake(Own<Task>),
    /// A sleep is over.
    Sleep(Own<Sleep>),
    /// A native waiter is told that this future is done.
    Done(Own<Target>, Obj),
    /// A native timer has gone off.
    Fire(Own<Target>),
    /// A descriptor is readable.
    Readable(Own<Target>),
    /// A descriptor is writable.
    Writable(Own<Target>),
    /// The descriptor of an operation on a socket is ready for it.
    Operation(Own<SocketOperation>),
}

impl Work {
    /// Does it. Fails only with what must leave the loop; everything else is reported.
    #[inline]
    pub(crate) fn run(self, event_loop: &EventLoop) -> PyResult<()> {
        let result = match &self {
            Work::Handle(handle) => return handle.run(event_loop),
            Work::Begin(task) => {
                task.reveal();
                step::step(task, event_loop, None)
            }
            Work::Step(task) => step::step(task, event_loop, None),
            Work::Throw(task, exception) => step::step(task, event_loop, Some(exception.clone())),
            Work::Wake(task) => wake::wake(task, event_loop),
            Work::Sleep(sleep) => sleep.fire(),
            Work::Done(target, future) => target.done(future),
            Work::Fire(target) => target.fire(),
            Work::Readable(target) => target.readable(),
            Work::Writable(target) => target.writable(),
            Work::Operation(operation) => operation.ready(),
        };
        match result {
            Ok(()) => Ok(()),
            Err(raised) => self.failed(event_loop, raised),
        }
    }

    #[cold]
    fn failed(&self, event_loop: &EventLoop, raised: Raised) -> PyResult<()> {
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        let message = format!("Exception in callback {}", self.describe());
        super::report::exception(event_loop, &message, &exception, &[])
    }

    /// What it is about, for reports.
    pub(crate) fn describe(&self) -> String {
        match self {
            Work::Handle(handle) => handle.as_obj().repr_text(),
            Work::Begin(task) | Work::Step(task) | Work::Throw(task, _) | Work::Wake(task) => {
                task.as_obj().repr_text()
            }
            Work::Sleep(sleep) => sleep.as_obj().repr_text(),
            Work::Operation(operation) => operation.as_obj().repr_text(),
            Work::Done(target, _)
            | Work::Fire(target)
            | Work::Readable(target)
            | Work::Writable(target) => target.as_obj().repr_text(),
        }
    }

    fn traverse(&self, visitor: &mut Visitor) {
        match self {
            Work::Handle(handle) => visitor.object(handle.as_obj()),
            Work::Begin(task) => {
                visitor.object(task.as_obj());
                // What only the queue owns is a part of it, so that a loop that is dropped with tasks which never
                // began is garbage with all they hold.
                if task.as_any().refcount() == 1 {
                    task.traverse(visitor);
                }
            }
            Work::Step(task) | Work::Wake(task) => visitor.object(task.as_obj()),
            Work::Throw(task, exception) => {
                visitor.object(task.as_obj());
                visitor.object(exception);
            }
            Work::Sleep(sleep) => visitor.object(sleep.as_obj()),
            Work::Operation(operation) => visitor.object(operation.as_obj()),
            Work::Done(target, future) => {
                visitor.object(target.as_obj());
                visitor.object(future);
            }
            Work::Fire(target) | Work::Readable(target) | Work::Writable(target) => {
                visitor.object(target.as_obj());
            }
        }
    }

    /// The object that Python code sees for this in `loop._ready`.
    pub(crate) fn object(&self) -> &Any {
        match self {
            Work::Handle(handle) => handle.as_obj(),
            Work::Begin(task) | Work::Step(task) | Work::Throw(task, _) | Work::Wake(task) => {
                task.as_obj()
            }
            Work::Sleep(sleep) => sleep.as_obj(),
            Work::Operation(operation) => operation.as_obj(),
            Work::Done(target, _)
            | Work::Fire(target)
            | Work::Readable(target)
            | Work::Writable(target) => target.as_obj(),
        }
    }
}

/// First in, first out. Nothing in here runs Python code, except `clear`.
pub(crate) struct ReadyQueue(UnsafeCell<VecDeque<Work>>);

impl ReadyQueue {
    pub(crate) const fn new() -> ReadyQueue {
        ReadyQueue(UnsafeCell::new(VecDeque::new()))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn queue(&self) -> &mut VecDeque<Work> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    #[inline(always)]
    pub(crate) fn push(&self, work: Work) {
        self.queue().push_back(work);
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<Work> {
        self.queue().pop_front()
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.queue().len()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue().is_empty()
    }

    pub(crate) fn objects(&self) -> Vec<Obj> {
        self.queue()
            .iter()
            .map(|work| work.object().own())
            .collect()
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for work in self.queue().iter() {
            work.traverse(visitor);
        }
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(self.queue());
        for work in &dropped {
            if let Work::Begin(task) = work {
                task.reveal();
            }
        }
        drop(dropped);
    }
}
