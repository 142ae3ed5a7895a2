//! `Queue.put()`.

use super::super::{held, waiters};
use super::{shut_down, Queue};
use crate::awaitable::again::Again;
use crate::awaitable::{Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{err, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};

pub(super) type Put = Waiting<PutState>;

pub(super) struct PutState {
    /// Until this is over, as the item.
    queue: ObjCell,
    item: ObjCell,
}

static CLASS: Class = Class::new();
static AGAIN: Again = Again::new();

impl Awaitable for Put {
    const NAME: &'static str = "Queue.put";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.queue);
        visitor.cell(&self.item);
    }

    fn unlink(&self) {
        self.queue.clear();
        self.item.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let queue = self.queue()?;
        if !queue.ask_full()? {
            let item = self.item.take().unwrap_or_else(Obj::none);
            return self.over(queue.ask_put(&item)?);
        }
        if queue.is_shutdown.get() {
            return Err(shut_down());
        }
        queue.bound.require(queue.as_any())?;
        queue.putters.push(self.as_any());
        Ok(Flow::Park)
    }

    /// Woken: but somebody else may have been quicker, and then this stands in line again.
    fn resume(&self) -> PyResult<Flow> {
        self.start()
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        let queue = self.queue()?;
        queue.putters.remove(self.as_any());
        if self.wait.is_woken() && !queue.ask_full()? {
            // The room that this one was woken for is the next one's.
            queue.putters.release_next()?;
        }
        Err(err::restore(exception))
    }
}

impl Put {
    fn queue(&self) -> PyResult<Own<Queue>> {
        held(&self.queue)
    }

    fn over(&self, result: Obj) -> PyResult<Flow> {
        self.queue.clear();
        AGAIN.keep(self);
        Ok(Flow::Return(result))
    }
}

impl Queue {
    #[inline]
    pub(super) fn put(&self, item: &Any) -> PyResult<Own<Put>> {
        if let Some(again) = AGAIN.take::<Put>() {
            again.queue.set(self.as_any().own());
            again.item.set(item.own());
            return Ok(again);
        }
        let body = Put::with(PutState {
            queue: ObjCell::new(self.as_any().own()),
            item: ObjCell::new(item.own()),
        });
        body.make()
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Put>(c"ioxide.QueuePut").build(&CLASS)?;
    Ok(())
}
