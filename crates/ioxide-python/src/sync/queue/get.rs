//! `Queue.get()`.

use super::super::waiters;
use super::{shut_down, Queue};
use crate::awaitable::{Awaitable, Flow, Wait};
use crate::kit::{err, Class, Native, Obj, Own, PyResult, Visitor};

#[repr(C)]
pub(super) struct Get {
    wait: Wait,
    queue: Own<Queue>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Get {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.object(self.queue.as_obj());
    }

    fn clear(&self) {
        self.wait.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Get {
    const NAME: &'static str = "Queue.get";

    fn start(&self) -> PyResult<Flow> {
        let queue = &self.queue;
        if !queue.ask_empty()? {
            return queue.ask_get().map(Flow::Return);
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
        let queue = &self.queue;
        queue.getters.remove(self.as_any());
        if self.wait.is_woken() && !queue.ask_empty()? {
            // The item that this one was woken for is the next one's.
            queue.getters.release_next()?;
        }
        Err(err::restore(exception))
    }
}

impl Queue {
    pub(super) fn get(&self) -> PyResult<Own<Get>> {
        let body = Get {
            wait: Wait::new(&Get::KIND),
            queue: self.own(),
        };
        body.make()
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Get>(c"ioxide.QueueGet").build(&CLASS)?;
    Ok(())
}
