//! The last awaitable of a class that is over, kept to be used again.
//!
//! `await queue.get()` on a queue with items makes an object, awaits it and drops it. Instead of dying, it is
//! given out again: nobody can tell, since it is only taken when nothing else refers to it.

use super::{Awaitable, State};
use crate::kit::{ffi, Obj, Own};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The place for one awaitable of a class. The atomic is for the type only: who touches it holds the interpreter
/// lock. Without such a lock nothing is kept.
pub(crate) struct Again(AtomicPtr<ffi::PyObject>);

impl Again {
    pub(crate) const fn new() -> Again {
        Again(AtomicPtr::new(ptr::null_mut()))
    }

    /// Keeps an awaitable that returns now and has given up what it referred to, unless one is kept already.
    #[inline(always)]
    pub(crate) fn keep(&self, awaitable: &impl Awaitable) {
        if cfg!(Py_GIL_DISABLED) || !self.0.load(Ordering::Relaxed).is_null() {
            return;
        }
        let kept = awaitable.as_any().own().into_raw();
        self.0.store(kept, Ordering::Relaxed);
    }

    /// The one that is kept, as fresh as a new one, if nobody else refers to it.
    #[inline(always)]
    pub(crate) fn take<T: Awaitable>(&self) -> Option<Own<T>> {
        let kept = self.0.load(Ordering::Relaxed);
        if kept.is_null() {
            return None;
        }
        self.0.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: the place owned the reference, and is of one class only.
        let kept = unsafe { Own::<T>::from_obj(Obj::steal(kept)) };
        // SAFETY: an awaitable.
        let wait = unsafe { kept.as_obj().cast_wait() };
        if kept.as_obj().refcount() != 1 || wait.state.get() != State::Done {
            return None;
        }
        wait.state.set(State::Fresh);
        // A new object is young: one that the collector has grown old with, or was told to leave alone for ever
        // (`gc.freeze`), would keep a cycle that it becomes part of alive.
        // SAFETY: a live object that is tracked, and is again.
        unsafe {
            ffi::PyObject_GC_UnTrack(kept.as_obj().raw().cast());
            ffi::PyObject_GC_Track(kept.as_obj().raw().cast());
        }
        Some(kept)
    }
}
