//! `Queue.get()`.

use super::super::{held, waiters};
use super::{shut_down, Queue};
use crate::awaitable::again::Again;
use crate::awaitable::{Awaitable, Flow, Wait};
use crate::kit::class::FreeList;
use crate::kit::{err, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};

#[repr(C)]
pub(super) struct Get {
    wait: Wait,
    /// Until this is over.
    queue: ObjCell,
}

static CLASS: Class = Class::new();
static AGAIN: Again = Again::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Get {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.cell(&self.queue);
    }

    fn clear(&self) {
        self.wait.clear();
        self.queue.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        self.wait.was_awaited()
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Get {
    const NAME: &'static str = "Queue.get";

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
        let body = Get {
            wait: Wait::new(&Get::KIND),
            queue: ObjCell::new(self.as_any().own()),
        };
        body.make()
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Get>(c"ioxide.QueueGet").build(&CLASS)?;
    Ok(())
}
