//! `Queue.join()`: waits for the event that nothing is unfinished.

use super::super::event::Event;
use super::super::waiters;
use super::Queue;
use crate::awaitable::{Awaitable, Flow, Waiting};
use crate::kit::{err, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};

pub(super) type Join = Waiting<JoinState>;

pub(super) struct JoinState {
    queue: Own<Queue>,
    /// The event in whose list this stands.
    event: ObjCell,
}

static CLASS: Class = Class::new();

impl Awaitable for Join {
    const NAME: &'static str = "Queue.join";

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.object(self.queue.as_obj());
        visitor.cell(&self.event);
    }

    fn unlink(&self) {
        self.event.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        if self.queue.unfinished.get() <= 0 {
            return Ok(Flow::Return(Obj::none()));
        }
        let event = self.queue.finished_event()?;
        if !event.enlist(self.as_any())? {
            return Ok(Flow::Return(Obj::none()));
        }
        self.event.set(event.into_obj());
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        self.leave();
        Ok(Flow::Return(Obj::none()))
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.leave();
        Err(err::restore(exception))
    }
}

impl Join {
    fn leave(&self) {
        let event = self.event.take();
        if let Some(event) = event.as_deref().and_then(Any::cast::<Event>) {
            event.leave(self.as_any());
        }
    }
}

impl Queue {
    pub(super) fn join(&self) -> PyResult<Own<Join>> {
        let body = Join::with(JoinState {
            queue: self.own(),
            event: ObjCell::empty(),
        });
        body.make()
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Join>(c"ioxide.QueueJoin").build(&CLASS)?;
    Ok(())
}
