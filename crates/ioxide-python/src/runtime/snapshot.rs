//! The contexts of callbacks: captured once and shared as long as nobody changes anything.
//!
//! Each `call_soon` promises a context of its own: a copy of the caller's, so that what one callback sets no
//! other sees. Nearly all callbacks set nothing. So the loop keeps one *snapshot*, in which nothing ever runs, and
//! all handles that were made under the same variables hold it; to run them it keeps one *scratch* copy of
//! the snapshot, which serves again as long as its variables are still the snapshot's and nobody else holds it. A
//! callback that sets a variable, or keeps a token, keeps its copy to itself. Tasks do the same with each of
//! their steps: see [`crate::task::context`].

use super::EventLoop;
use crate::kit::{context, Any, Obj, ObjCell, PyResult, Visitor};

/// What a callback runs in.
#[derive(Clone)]
pub(crate) enum Context {
    /// A context that somebody gave us: run in this very one.
    Given(Obj),
    /// A snapshot that others hold too: run in a copy.
    Shared(Obj),
}

impl Context {
    pub(crate) fn object(&self) -> &Obj {
        match self {
            Context::Given(context) | Context::Shared(context) => context,
        }
    }

    /// A context that may be shown to Python code, which may run things in it.
    pub(crate) fn presentable(&self) -> PyResult<Obj> {
        match self {
            Context::Given(context) => Ok(context.clone()),
            Context::Shared(snapshot) => context::copy(snapshot),
        }
    }
}

/// What a task is to step in.
pub(crate) enum Lent {
    /// The scratch: to be given back with [`EventLoop::keep_scratch`].
    Scratch(Obj),
    /// A context to keep.
    Own(Obj),
}

/// A loop's snapshot and scratch.
pub(crate) struct Snapshots {
    snapshot: ObjCell,
    scratch: ObjCell,
}

impl Snapshots {
    pub(crate) const fn new() -> Snapshots {
        Snapshots {
            snapshot: ObjCell::empty(),
            scratch: ObjCell::empty(),
        }
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.snapshot);
        visitor.cell(&self.scratch);
    }

    pub(crate) fn clear(&self) {
        self.snapshot.clear();
        self.scratch.clear();
    }

    /// Lets go of what only the loop keeps alive. What tasks and handles share is needed again.
    pub(crate) fn rest(&self) {
        // SAFETY: nothing runs while they are borrowed.
        let is_needed = match unsafe { (self.snapshot.peek(), self.scratch.peek()) } {
            (Some(snapshot), Some(scratch)) => {
                snapshot.refcount() > 1 && context::is_same(snapshot, scratch)
            }
            _ => false,
        };
        if !is_needed {
            self.clear();
        }
    }
}

impl EventLoop {
    /// The current context, for a callback that was given none.
    #[inline]
    pub(crate) fn capture(&self) -> PyResult<Context> {
        let cell = &self.snapshots.snapshot;
        if let Some(current) = context::peek_current() {
            // SAFETY: nothing runs while the snapshot is borrowed.
            let same = unsafe { cell.peek() }.is_some_and(|known| context::is_same(known, current));
            if same {
                return Ok(Context::Shared(cell.get_or_none()));
            }
            let copy = context::copy_current()?;
            cell.set(copy.clone());
            return Ok(Context::Shared(copy));
        }
        context::copy_current().map(Context::Given)
    }

    /// A context that has the snapshot's variables and is nobody else's.
    #[inline]
    pub(crate) fn scratch(&self, snapshot: &Any) -> PyResult<Obj> {
        match self.snapshots.scratch.take() {
            Some(scratch) if context::is_same(&scratch, snapshot) => Ok(scratch),
            _ => context::copy(snapshot),
        }
    }

    /// As [`EventLoop::scratch`], for a task, which can keep a context: where tasks of different variables take
    /// turns, the scratch is not made anew for each step of each.
    #[inline]
    pub(crate) fn lend(&self, snapshot: &Any) -> PyResult<Lent> {
        match self.snapshots.scratch.take() {
            Some(scratch) if context::is_same(&scratch, snapshot) => Ok(Lent::Scratch(scratch)),
            Some(other) if !self.snapshots.snapshot.holds(snapshot) => {
                self.snapshots.scratch.set(other);
                context::copy(snapshot).map(Lent::Own)
            }
            _ => context::copy(snapshot).map(Lent::Scratch),
        }
    }

    /// Keeps the scratch for who is next, unless the last one did.
    #[inline]
    pub(crate) fn keep_scratch(&self, scratch: Obj) {
        if context::is_held_only_by(1, &scratch) {
            drop(self.snapshots.scratch.replace(Some(scratch)));
        }
    }
}
