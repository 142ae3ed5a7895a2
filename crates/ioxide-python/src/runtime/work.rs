//! Everything that can be ready to run: the closed list.

use super::target::Target;
use super::EventLoop;
use crate::awaitable::sleep::Sleep;
use crate::handle::deferred::Deferred;
use crate::handle::Handle;
use crate::kit::{err, Any, Native, Obj, Own, PyResult, Raised, Small, Visitor};
use crate::task::{step, wake, Task};
use crate::transport::operation::SocketOperation;

/// One thing to do. Each owns what it is about.
pub(crate) enum Work {
    /// A callback of Python code.
    Handle(Own<Handle>),
    /// A callback of Python code of a future that is done, which has no handle: see [`Work::show`].
    Called(Obj, Small<Deferred>),
    /// The first step of a task, hidden from the collector until then: see [`Task::reveal`].
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
    /// A descriptor cannot be watched, with this exception.
    Unwatched(Own<Target>, Obj),
    /// The descriptor of an operation on a socket is ready for it.
    Operation(Own<SocketOperation>),
}

impl Work {
    /// Does it. Fails only with what must leave the loop; everything else is reported. A handle may have others of the
    /// `left` ones that are next in the queue done with it, which are counted down then.
    #[inline]
    pub(crate) fn run(self, event_loop: &EventLoop, left: &mut usize) -> PyResult<()> {
        let work = match self {
            Work::Handle(handle) => return handle.run(event_loop, left),
            work => work,
        };
        let result = match &work {
            Work::Handle(_) => Ok(()),
            Work::Called(future, deferred) => return deferred.run(event_loop, future),
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
            Work::Unwatched(target, exception) => target.unwatched(exception),
            Work::Operation(operation) => {
                event_loop.polling.was_silent();
                operation.ready()
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(raised) => work.failed(event_loop, raised),
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
            Work::Called(future, _) => future.repr_text(),
            Work::Begin(task) | Work::Step(task) | Work::Throw(task, _) | Work::Wake(task) => {
                task.as_obj().repr_text()
            }
            Work::Sleep(sleep) => sleep.as_obj().repr_text(),
            Work::Operation(operation) => operation.as_obj().repr_text(),
            Work::Done(target, _)
            | Work::Fire(target)
            | Work::Readable(target)
            | Work::Writable(target)
            | Work::Unwatched(target, _) => target.as_obj().repr_text(),
        }
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        match self {
            Work::Handle(handle) => handle.show_waiting(visitor),
            Work::Called(future, deferred) => {
                visitor.object(future);
                deferred.traverse(visitor);
            }
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
            Work::Done(target, other) | Work::Unwatched(target, other) => {
                visitor.object(target.as_obj());
                visitor.object(other);
            }
            Work::Fire(target) | Work::Readable(target) | Work::Writable(target) => {
                visitor.object(target.as_obj());
            }
        }
    }

    /// Makes the work ready for the eyes of Python code: a callback has a handle then, by which it can be called off.
    pub(crate) fn show(&mut self, event_loop: &EventLoop) -> PyResult<()> {
        if let Work::Called(future, deferred) = self {
            let handle = deferred.handle(event_loop, future)?;
            *self = Work::Handle(handle);
        }
        Ok(())
    }

    /// The object that Python code sees for this in `loop._ready`.
    pub(crate) fn object(&self) -> &Any {
        match self {
            Work::Handle(handle) => handle.as_obj(),
            Work::Called(future, _) => future,
            Work::Begin(task) | Work::Step(task) | Work::Throw(task, _) | Work::Wake(task) => {
                task.as_obj()
            }
            Work::Sleep(sleep) => sleep.as_obj(),
            Work::Operation(operation) => operation.as_obj(),
            Work::Done(target, _)
            | Work::Fire(target)
            | Work::Readable(target)
            | Work::Writable(target)
            | Work::Unwatched(target, _) => target.as_obj(),
        }
    }
}
