//! The contexts of callbacks: captured once and shared as long as nobody changes anything.
//!
//! Each `call_soon` promises a context of its own: a copy of the caller's, so that what one callback sets no
//! other sees. Nearly all callbacks set nothing. So the loop keeps one *snapshot*, in which nothing ever runs, and
//! all handles that were made under the same variables hold it; to run them it keeps one *scratch* copy of
//! the snapshot, which serves again as long as its variables are still the snapshot's and nobody else holds it. A
//! callback that sets a variable, or keeps a token, keeps its copy to itself. Tasks do the same with each of
//! their steps: see [`crate::task::context`].

use super::EventLoop;
use crate::kit::{context, Any, Obj, ObjCell, PyResult, Raised, Visitor, Word};
use std::cell::Cell;
use std::mem::ManuallyDrop;

/// What a callback runs in, in one word: a context that somebody gave us, to run in this very one; or a snapshot
/// that others hold too, to run in a copy of.
pub(crate) struct Context(Word);

const GIVEN: usize = 0;
const SHARED: usize = 1;

impl Context {
    #[inline(always)]
    pub(crate) fn given(context: Obj) -> Context {
        Context(Word::new(context.into_pointer(), GIVEN))
    }

    #[inline(always)]
    fn shared(snapshot: Obj) -> Context {
        Context(Word::new(snapshot.into_pointer(), SHARED))
    }

    #[inline(always)]
    pub(crate) fn is_shared(&self) -> bool {
        self.0.tag() == SHARED
    }

    #[inline(always)]
    pub(crate) fn object(&self) -> &Any {
        // SAFETY: the reference that is owned keeps it alive.
        unsafe { Any::from_raw(self.0.pointer().as_ptr()) }
    }

    #[inline(always)]
    pub(crate) fn into_object(self) -> Obj {
        let context = ManuallyDrop::new(self);
        // SAFETY: the reference that was owned is passed on.
        unsafe { Obj::steal(context.0.pointer().as_ptr()) }
    }

    /// A context that may be shown to Python code, which may run things in it.
    pub(crate) fn presentable(&self) -> PyResult<Obj> {
        if self.is_shared() {
            return context::copy(self.object());
        }
        Ok(self.object().own())
    }
}

impl Clone for Context {
    #[inline(always)]
    fn clone(&self) -> Context {
        Context(Word::new(self.object().own().into_pointer(), self.0.tag()))
    }
}

impl Drop for Context {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the reference is ours to give back.
        drop(unsafe { Obj::steal(self.0.pointer().as_ptr()) });
    }
}

/// A field that holds what a callback runs in, or nothing.
pub(crate) struct ContextCell(Cell<Option<Context>>);

impl ContextCell {
    pub(crate) const fn empty() -> ContextCell {
        ContextCell(Cell::new(None))
    }

    #[inline(always)]
    pub(crate) const fn new(context: Context) -> ContextCell {
        ContextCell(Cell::new(Some(context)))
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> Option<Context> {
        // SAFETY: the borrow ends with the copy, which runs no Python code.
        unsafe { self.peek() }.cloned()
    }

    /// What is held, borrowed.
    ///
    /// # Safety
    /// As [`ObjCell::peek`].
    #[inline(always)]
    pub(crate) unsafe fn peek(&self) -> Option<&Context> {
        // SAFETY: by the caller's promise.
        unsafe { (*self.0.as_ptr()).as_ref() }
    }

    #[inline(always)]
    pub(crate) fn set(&self, context: Context) {
        drop(self.0.replace(Some(context)));
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        // SAFETY: the collector's visit runs no Python code.
        if let Some(context) = unsafe { self.peek() } {
            visitor.object(context.object());
        }
    }

    pub(crate) fn clear(&self) {
        drop(self.0.take());
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
                return Ok(Context::shared(cell.get_or_none()));
            }
            let copy = context::copy_current()?;
            cell.set(copy.clone());
            return Ok(Context::shared(copy));
        }
        context::copy_current().map(Context::given)
    }

    /// Runs `call`, which is given the copy, in a copy of the snapshot. If that fails the copy is given back with the
    /// failure.
    #[inline]
    pub(crate) fn run_in_copy(
        &self,
        snapshot: &Any,
        call: impl FnOnce(&Any) -> PyResult<Obj>,
    ) -> Result<Obj, (Raised, Option<Context>)> {
        let scratch = self.scratch(snapshot).map_err(|raised| (raised, None))?;
        match context::within(&scratch, || call(&scratch)).and_then(|result| result) {
            Ok(result) => {
                self.keep_scratch(scratch);
                Ok(result)
            }
            Err(raised) => Err((raised, Some(Context::given(scratch)))),
        }
    }

    /// A context that has the snapshot's variables and is nobody else's.
    #[inline]
    fn scratch(&self, snapshot: &Any) -> PyResult<Obj> {
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
