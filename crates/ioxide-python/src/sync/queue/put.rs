//! `Queue.put()`.

use super::super::waiters;
use super::{shut_down, Queue};
use crate::awaitable::{Awaitable, Flow, Wait};
use crate::kit::{err, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};

#[repr(C)]
pub(super) struct Put {
    wait: Wait,
    queue: Own<Queue>,
    item: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Put {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.object(self.queue.as_obj());
        visitor.cell(&self.item);
    }

    fn clear(&self) {
        self.wait.clear();
        self.item.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Put {
    const NAME: &'static str = "Queue.put";

    fn start(&self) -> PyResult<Flow> {
        let queue = &self.queue;
        if !queue.ask_full()? {
            let item = self.item.get_or_none();
            return queue.ask_put(&item).map(Flow::Return);
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
        let queue = &self.queue;
        queue.putters.remove(self.as_any());
        if self.wait.is_woken() && !queue.ask_full()? {
            // The room that this one was woken for is the next one's.
            queue.putters.release_next()?;
        }
        Err(err::restore(exception))
    }
}

impl Queue {
    pub(super) fn put(&self, item: &Any) -> PyResult<Own<Put>> {
        let body = Put {
            wait: Wait::new(&Put::KIND),
            queue: self.own(),
            item: ObjCell::new(item.own()),
        };
        body.make()
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Put>(c"ioxide.QueuePut").build(&CLASS)?;
    Ok(())
}
