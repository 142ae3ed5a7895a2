//! The ready queue: work in the order in which it came, in two words each.

use super::work::Work;
use super::EventLoop;
use crate::handle::Handle;
use crate::kit::{ffi, Obj, Own, PyResult, Small, Visitor, Word};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr::{without_provenance_mut, NonNull};

/// A piece of work. First the object that it is about; then what to do: its number alone, or its number as the tag
/// beside what else it is about.
struct Entry(NonNull<ffi::PyObject>, *mut u8);

const HANDLE: usize = 1;
const BEGIN: usize = 2;
const STEP: usize = 3;
const WAKE: usize = 4;
const SLEEP: usize = 5;
const FIRE: usize = 6;
const READABLE: usize = 7;
const WRITABLE: usize = 8;
const OPERATION: usize = 9;
/// Numbers up to here stand alone; nothing that is allocated has such an address.
const ALONE: usize = 15;

const THROW: usize = 1;
const DONE: usize = 2;
const CALLED: usize = 3;
const UNWATCHED: usize = 4;

impl Entry {
    #[inline(always)]
    fn pack(work: Work) -> Entry {
        fn alone(object: NonNull<ffi::PyObject>, what: usize) -> Entry {
            Entry(object, without_provenance_mut(what))
        }
        fn beside<T>(object: NonNull<ffi::PyObject>, other: NonNull<T>, what: usize) -> Entry {
            Entry(object, Word::new(other, what).into_raw())
        }
        match work {
            Work::Handle(handle) => alone(handle.into_pointer(), HANDLE),
            Work::Begin(task) => alone(task.into_pointer(), BEGIN),
            Work::Step(task) => alone(task.into_pointer(), STEP),
            Work::Wake(task) => alone(task.into_pointer(), WAKE),
            Work::Sleep(sleep) => alone(sleep.into_pointer(), SLEEP),
            Work::Fire(target) => alone(target.into_pointer(), FIRE),
            Work::Readable(target) => alone(target.into_pointer(), READABLE),
            Work::Writable(target) => alone(target.into_pointer(), WRITABLE),
            Work::Operation(operation) => alone(operation.into_pointer(), OPERATION),
            Work::Throw(task, exception) => {
                beside(task.into_pointer(), exception.into_pointer(), THROW)
            }
            Work::Done(target, future) => {
                beside(target.into_pointer(), future.into_pointer(), DONE)
            }
            Work::Unwatched(target, exception) => {
                beside(target.into_pointer(), exception.into_pointer(), UNWATCHED)
            }
            Work::Called(future, deferred) => {
                beside(future.into_pointer(), deferred.into_raw(), CALLED)
            }
        }
    }

    #[inline(always)]
    fn unpack(self) -> Work {
        let entry = ManuallyDrop::new(self);
        // SAFETY: the entry is not used again.
        unsafe { entry.read() }
    }

    /// What is packed, to be looked at.
    fn view(&self) -> ManuallyDrop<Work> {
        // SAFETY: what is read is not dropped, so that it stays the entry's.
        ManuallyDrop::new(unsafe { self.read() })
    }

    /// # Safety
    /// Only one of all that are read is dropped, and the entry is not.
    #[inline(always)]
    unsafe fn read(&self) -> Work {
        let object = self.0;
        // SAFETY: what stands under each number is what `pack` has put there, with its references.
        unsafe {
            match self.1.addr() {
                HANDLE => Work::Handle(Own::steal(object)),
                BEGIN => Work::Begin(Own::steal(object)),
                STEP => Work::Step(Own::steal(object)),
                WAKE => Work::Wake(Own::steal(object)),
                SLEEP => Work::Sleep(Own::steal(object)),
                FIRE => Work::Fire(Own::steal(object)),
                READABLE => Work::Readable(Own::steal(object)),
                WRITABLE => Work::Writable(Own::steal(object)),
                OPERATION => Work::Operation(Own::steal(object)),
                _ => self.read_two(),
            }
        }
    }

    /// # Safety
    /// As [`Entry::read`], and what to do is a tag.
    #[inline(always)]
    unsafe fn read_two(&self) -> Work {
        debug_assert!(self.1.addr() > ALONE);
        let object = self.0;
        // SAFETY: as above.
        unsafe {
            let other = Word::from_raw(NonNull::new_unchecked(self.1));
            match other.tag() {
                THROW => Work::Throw(Own::steal(object), Obj::steal(other.pointer().as_ptr())),
                DONE => Work::Done(Own::steal(object), Obj::steal(other.pointer().as_ptr())),
                UNWATCHED => {
                    Work::Unwatched(Own::steal(object), Obj::steal(other.pointer().as_ptr()))
                }
                _ => Work::Called(
                    Obj::steal(object.as_ptr()),
                    Small::from_raw(other.pointer()),
                ),
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: dropped once, with the entry.
        drop(unsafe { self.read() });
    }
}

/// First in, first out. Nothing in here runs Python code, except `clear`.
pub(crate) struct ReadyQueue(UnsafeCell<VecDeque<Entry>>);

impl ReadyQueue {
    pub(crate) const fn new() -> ReadyQueue {
        ReadyQueue(UnsafeCell::new(VecDeque::new()))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn queue(&self) -> &mut VecDeque<Entry> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    #[inline(always)]
    pub(crate) fn push(&self, work: Work) {
        self.queue().push_back(Entry::pack(work));
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<Work> {
        self.queue().pop_front().map(Entry::unpack)
    }

    /// Has the processor fetch the tasks which the sleeps from this place on wake, that are in its cache already.
    #[inline(never)]
    pub(crate) fn prefetch_sleepers(&self, from: usize) {
        for entry in self.queue().range(from..) {
            if let Work::Sleep(sleep) = &*entry.view() {
                sleep.wait.prefetch_waiter();
            }
        }
    }

    /// Takes the next piece of work if it is a handle that is accepted.
    #[inline(always)]
    pub(crate) fn pop_handle_if(
        &self,
        accepts: impl FnOnce(&Handle) -> bool,
    ) -> Option<Own<Handle>> {
        let next = self.queue().front()?;
        match &*next.view() {
            Work::Handle(handle) if accepts(handle) => {}
            _ => return None,
        }
        match self.pop()? {
            Work::Handle(handle) => Some(handle),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.queue().len()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue().is_empty()
    }

    /// The objects that Python code sees in `loop._ready`; callbacks without a handle get one.
    pub(crate) fn objects(&self, event_loop: &EventLoop) -> PyResult<Vec<Obj>> {
        let mut result = Ok(());
        let mut shown = VecDeque::with_capacity(self.len());
        for entry in std::mem::take(self.queue()) {
            let mut work = entry.unpack();
            if result.is_ok() {
                result = work.show(event_loop);
            }
            shown.push_back(Entry::pack(work));
        }
        // Making handles may have collected garbage, which may have scheduled something.
        shown.append(self.queue());
        *self.queue() = shown;
        result?;
        Ok(self
            .queue()
            .iter()
            .map(|entry| entry.view().object().own())
            .collect())
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for entry in self.queue().iter() {
            entry.view().traverse(visitor);
        }
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(self.queue());
        for entry in &dropped {
            match &*entry.view() {
                Work::Begin(task) => task.reveal(),
                Work::Handle(handle) => handle.reveal_if_held(),
                _ => {}
            }
        }
        drop(dropped);
    }
}
