//! The asynchronous generators that were begun on a loop and live: `shutdown_asyncgens()` closes them.
//!
//! A program may begin one for every message (an asynchronous context manager is one), and nearly all are over at
//! once. So each is noted by a weak reference without a callback, and what is dead is swept out when the list has
//! grown.

use crate::kit::{value, weak, Any, Obj, PyResult, Visitor};
use std::cell::{Cell, UnsafeCell};

/// The list is not swept while it is shorter than this.
const SHORT: usize = 32;

pub(crate) struct Generators {
    /// Weak references. Never borrowed while anything else runs.
    begun: UnsafeCell<Vec<Obj>>,
    /// At this length the list is swept.
    limit: Cell<usize>,
    /// They have been closed: whoever begins another is warned.
    shut_down: Cell<bool>,
}

impl Generators {
    pub(super) const fn new() -> Generators {
        Generators {
            begun: UnsafeCell::new(Vec::new()),
            limit: Cell::new(SHORT),
            shut_down: Cell::new(false),
        }
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    fn begun(&self) -> &mut Vec<Obj> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.begun.get() }
    }

    pub(crate) fn are_shut_down(&self) -> bool {
        self.shut_down.get()
    }

    /// Notes one that is about to begin.
    pub(crate) fn add(&self, generator: &Any) -> PyResult<()> {
        let reference = weak::reference(generator)?;
        self.begun().push(reference);
        if self.begun().len() >= self.limit.get() {
            self.sweep();
        }
        Ok(())
    }

    #[cold]
    fn sweep(&self) {
        let all = std::mem::take(self.begun());
        let (live, dead): (Vec<Obj>, Vec<Obj>) = all
            .into_iter()
            .partition(|reference| weak::target(reference).is_some());
        self.limit.set(SHORT.max(live.len() * 2));
        self.begun().extend(live);
        drop(dead);
    }

    /// Forgets one that is being closed.
    pub(crate) fn remove(&self, generator: &Any) {
        let of_it = |reference: &Obj| weak::target(reference).is_some_and(|it| it.is(generator));
        let place = self.begun().iter().position(of_it);
        let removed = place.map(|index| self.begun().swap_remove(index));
        drop(removed);
    }

    /// Those that live.
    pub(crate) fn live(&self) -> PyResult<Obj> {
        let live: Vec<Obj> = self
            .begun()
            .iter()
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
