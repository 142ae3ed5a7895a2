//! `Queue.get()`.

use super::super::{held, waiters};
use super::{shut_down, Queue};
use crate::awaitable::again::Again;
use crate::awaitable::{Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{err, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};

pub(super) type Get = Waiting<GetState>;

pub(super) struct GetState {
    /// Until this is over.
    queue: ObjCell,
}

static CLASS: Class = Class::new();
static AGAIN: Again = Again::new();

impl Awaitable for Get {
    const NAME: &'static str = "Queue.get";

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
    }

    fn unlink(&self) {
        self.queue.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let queue = self.queue()?;
        if !queue.ask_empty()? {
            return self.over(queue.ask_get()?);
        }
        if queue.is_shutdown.get() {
            return Err(shut_down());
        }
        queue.bound.require(queue.as_any())?;
        queue.getters.push(self.as_any());
        Ok(Flow::Park)
    }

    /// Woken: but somebody else may have been quicker, and then this stands in line again.
    fn resume(&self) -> PyResult<Flow> {
        self.start()
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        let queue = self.queue()?;
        queue.getters.remove(self.as_any());
        if self.wait.is_woken() && !queue.ask_empty()? {
            // The item that this one was woken for is the next one's.
            queue.getters.release_next()?;
        }
        Err(err::restore(exception))
    }
}

impl Get {
    fn queue(&self) -> PyResult<Own<Queue>> {
        held(&self.queue)
    }

    fn over(&self, item: Obj) -> PyResult<Flow> {
        self.queue.clear();
        AGAIN.keep(self);
        Ok(Flow::Return(item))
    }
}

impl Queue {
    #[inline]
    pub(super) fn get(&self) -> PyResult<Own<Get>> {
        if let Some(again) = AGAIN.take::<Get>() {
            again.queue.set(self.as_any().own());
            return Ok(again);
        }
        let body = Get::with(GetState {
            queue: ObjCell::new(self.as_any().own()),
        });
        body.make()
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Get>(c"ioxide.QueueGet").build(&CLASS)?;
    Ok(())
}
