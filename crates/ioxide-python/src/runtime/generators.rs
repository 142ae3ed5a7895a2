//! The asynchronous generators that were begun on a loop and live: `shutdown_asyncgens()` closes them.
//!
//! A program may begin one for every message (an asynchronous context manager is one), and nearly all are over at
//! once. So each is noted by a weak reference without a callback, and what is dead is swept out when there are many.

use crate::kit::{value, weak, Any, Obj, PyResult, Visitor};
use ioxide_core::register::Register;
use std::cell::{Cell, UnsafeCell};

#[derive(Default)]
pub(crate) struct Generators {
    /// Weak references, by the address of what they refer to. Never borrowed while anything else runs.
    begun: UnsafeCell<Register<usize, Obj>>,
    /// They have been closed: whoever begins another is warned.
    shut_down: Cell<bool>,
}

/// What names a generator while it lives.
fn address(generator: &Any) -> usize {
    generator.raw() as usize
}

impl Generators {
    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    fn begun(&self) -> &mut Register<usize, Obj> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.begun.get() }
    }

    pub(crate) fn are_shut_down(&self) -> bool {
        self.shut_down.get()
    }

    /// Notes one that is about to begin.
    pub(crate) fn add(&self, generator: &Any) -> PyResult<()> {
        let reference = weak::reference(generator)?;
        let dead = self.begun().enter(address(generator), reference);
        drop(dead);
        if self.begun().is_crowded() {
            self.sweep();
        }
        Ok(())
    }

    #[cold]
    fn sweep(&self) {
        let dead = self.begun().take_dead(|it| weak::target(it).is_some());
        drop(dead);
    }

    /// Forgets one that is being closed.
    pub(crate) fn remove(&self, generator: &Any) {
        // Where the reference is cleared before the generator asks to be closed, what is found at its address is
        // a dead entry: its own.
        let removed = self.begun().remove(&address(generator));
        drop(removed);
    }

    /// Those that live, in the order in which they were begun.
    pub(crate) fn live(&self) -> PyResult<Obj> {
        let live: Vec<Obj> = self
            .begun()
            .in_order()
            .filter_map(|it| weak::target(it))
            .collect();
        value::list(live.into_iter())
    }

    /// Those that live, which the caller closes.
    pub(crate) fn shut_down(&self) -> PyResult<Obj> {
        self.shut_down.set(true);
        let live = self.live();
        self.clear();
        live
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        for reference in self.begun().iter() {
            visitor.object(reference);
        }
    }

    pub(super) fn clear(&self) {
        let dropped = std::mem::take(self.begun());
        drop(dropped);
    }
}
