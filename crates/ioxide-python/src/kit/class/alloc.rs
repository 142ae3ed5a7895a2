//! Memory for instances: fresh, recycled, and with state behind the body.

use super::Native;
use crate::kit::{ffi, Any, Obj, Own, PyResult, Raw};
use std::cell::Cell;
use std::mem::{size_of, MaybeUninit};
use std::ptr;

/// Makes an instance of exactly `T`'s class that the collector does not see: see [`hide`].
///
/// # Safety
/// As for [`hide`].
#[inline]
pub(super) unsafe fn make_hidden<T: Native>(body: T) -> PyResult<Own<T>> {
    let class = T::class().raw();
    if let Some(raw) = T::freelist().and_then(FreeList::pop) {
        // SAFETY: the memory was an instance of exactly this class, and is nobody's now.
        return Ok(unsafe { revive(raw, body) });
    }
    // SAFETY: new memory of `T`'s size with its head set, which nobody else has seen.
    unsafe {
        let raw = if size_of::<T::Extra>() == 0 {
            ffi::PyObject_GC_New::<ffi::PyObject>(class)
        } else {
            alloc_with_extra(class, size_of::<T::Extra>())
        };
        let raw = Obj::steal_or_raised(raw)?.into_raw();
        let made = fill(raw, body);
        if size_of::<T::Extra>() != 0 {
            ptr::write(extra_place::<T::Extra>(raw), T::Extra::default());
        }
        Ok(made)
    }
}

/// Writes the body behind the head, which stays.
///
/// # Safety
/// `raw` is memory for an instance of `T`'s class with its head set, and nobody else has seen it.
#[inline(always)]
unsafe fn fill<T: Native>(raw: Raw, body: T) -> Own<T> {
    // SAFETY: by the caller's promise.
    unsafe {
        let head = ptr::read(raw.cast::<MaybeUninit<ffi::PyObject>>());
        ptr::write(raw.cast::<T>(), body);
        ptr::write(raw.cast::<MaybeUninit<ffi::PyObject>>(), head);
        Own::from_obj(Obj::steal(raw))
    }
}

/// Makes an instance of `class`, which is `T`'s or derived from it.
///
/// # Safety
/// Instances of `class` begin with the layout of `T`.
pub(crate) unsafe fn make_in<T: Native>(
    class: *mut ffi::PyTypeObject,
    body: T,
) -> PyResult<Own<T>> {
    if let Some(recycled) = T::freelist().filter(|_| class == T::class().raw()) {
        if let Some(raw) = recycled.pop() {
            // SAFETY: the memory was an instance of exactly this class, and is nobody's now; the collector may
            // look at it as soon as it is whole.
            return Ok(unsafe {
                let made = revive(raw, body);
                ffi::PyObject_GC_Track(raw.cast());
                made
            });
        }
    }
    // SAFETY: both allocations give zeroed memory of at least `T`'s size with its head set. The body is written
    // over it, but for the head, before anything else can see the object.
    unsafe {
        let raw = if size_of::<T::Extra>() == 0 {
            let alloc = (*class).tp_alloc.unwrap_or(ffi::PyType_GenericAlloc);
            alloc(class, 0)
        } else {
            alloc_with_extra(class, size_of::<T::Extra>())
        };
        let raw = Obj::steal_or_raised(raw)?.into_raw();
        let made = fill(raw, body);
        if size_of::<T::Extra>() != 0 {
            ptr::write(extra_place::<T::Extra>(raw), T::Extra::default());
            ffi::PyObject_GC_Track(raw.cast());
        }
        Ok(made)
    }
}

/// Makes an instance in memory from the free list, not yet tracked by the collector.
///
/// # Safety
/// `raw` is memory of a dead instance of exactly `T`'s class, which kept its reference to the type.
#[inline(always)]
unsafe fn revive<T: Native>(raw: Raw, body: T) -> Own<T> {
    extern "C" {
        fn _Py_NewReference(object: Raw);
    }
    // SAFETY: by the caller's promise.
    unsafe {
        let made = fill(raw, body);
        if size_of::<T::Extra>() != 0 {
            ptr::write(extra_place::<T::Extra>(raw), T::Extra::default());
        }
        _Py_NewReference(raw);
        made
    }
}

/// Takes an object off the collector's list, for as long as something that is on it answers for the object: the
/// collector's work grows with what it sees, and a crowd of objects that wait for their turn is seen many times.
///
/// # Safety
/// The object's class takes part in garbage collection. It goes back with [`reveal`] before it can be part of
/// garbage that its keeper does not show.
#[inline(always)]
pub(crate) unsafe fn hide(object: &Any) {
    // SAFETY: by the caller's promise; an object that is hidden already stays so.
    unsafe { ffi::PyObject_GC_UnTrack(object.raw().cast()) }
}

/// Undoes [`hide`].
///
/// # Safety
/// The object is whole.
#[inline(always)]
pub(crate) unsafe fn reveal(object: &Any) {
    // SAFETY: by the caller's promise; what takes no part in garbage collection is left alone.
    unsafe {
        if ffi::PyObject_IS_GC(object.raw()) != 0 && is_hidden(object) {
            ffi::PyObject_GC_Track(object.raw().cast());
        }
    }
}

/// Whether the object is off the collector's list.
///
/// # Safety
/// The object's class takes part in garbage collection.
#[inline(always)]
pub(crate) unsafe fn is_hidden(object: &Any) -> bool {
    // SAFETY: alive.
    #[cfg(Py_GIL_DISABLED)]
    return unsafe { ffi::PyObject_GC_IsTracked(object.raw()) == 0 };
    // SAFETY: the collector keeps two words before the object, of which the first links to the next one that it
    // sees, and is null for what it does not see.
    #[cfg(not(Py_GIL_DISABLED))]
    unsafe {
        *object.raw().cast::<[usize; 2]>().sub(1).cast::<usize>() == 0
    }
}

/// Dead instances of one class: none where the interpreter may do without its lock, which guards the list, and keeps
/// the collector's marks elsewhere.
pub(crate) struct FreeList {
    head: Cell<Raw>,
    length: Cell<usize>,
    most: usize,
}

// SAFETY: touched only by threads that hold the interpreter lock.
unsafe impl Sync for FreeList {}

impl FreeList {
    /// Keeps at most this many.
    pub(crate) const fn new(most: usize) -> FreeList {
        FreeList {
            head: Cell::new(ptr::null_mut()),
            length: Cell::new(0),
            most,
        }
    }

    #[inline(always)]
    fn pop(&self) -> Option<Raw> {
        let raw = self.head.get();
        if raw.is_null() {
            return None;
        }
        // SAFETY: a dead object's first word after its head links to the next.
        self.head.set(unsafe { *raw.add(1).cast::<Raw>() });
        self.length.set(self.length.get() - 1);
        Some(raw)
    }

    /// Keeps the memory; false if there is enough of it.
    ///
    /// # Safety
    /// `raw` is a dead, untracked instance of the list's class, larger than its head.
    #[inline(always)]
    pub(super) unsafe fn push(&self, raw: Raw) -> bool {
        if cfg!(Py_GIL_DISABLED) || self.length.get() >= self.most {
            return false;
        }
        // SAFETY: by the caller's promise. The collector's words before the object are cleared, so that the
        // next instance is not taken for one that was finalized.
        unsafe {
            *raw.cast::<[usize; 2]>().sub(1) = [0; 2];
            *raw.add(1).cast::<Raw>() = self.head.get();
        }
        self.head.set(raw);
        self.length.set(self.length.get() + 1);
        true
    }
}

/// Memory for an instance and what stands behind it, not yet tracked by the collector.
#[cfg(Py_3_12)]
unsafe fn alloc_with_extra(class: *mut ffi::PyTypeObject, size: usize) -> Raw {
    extern "C" {
        fn PyUnstable_Object_GC_NewWithExtraData(class: *mut ffi::PyTypeObject, size: usize)
            -> Raw;
    }
    // SAFETY: a live type with garbage collection.
    unsafe { PyUnstable_Object_GC_NewWithExtraData(class, size) }
}

/// Memory for an instance and what stands behind it, not yet tracked by the collector.
///
/// The interpreter has no call for that yet: the type is larger for the duration of the allocation. Until 3.11
/// an allocation may collect garbage, which must not look for the extra part of other instances meanwhile.
#[cfg(not(Py_3_12))]
unsafe fn alloc_with_extra(class: *mut ffi::PyTypeObject, size: usize) -> Raw {
    // SAFETY: a live type with garbage collection; the lock is held. The body after the head is zeroed, as
    // `tp_alloc` would.
    unsafe {
        let collects = ffi::PyGC_Disable() != 0;
        let basic = (*class).tp_basicsize;
        (*class).tp_basicsize = basic + size as ffi::Py_ssize_t;
        let raw = ffi::PyObject_GC_New::<ffi::PyObject>(class);
        (*class).tp_basicsize = basic;
        if collects {
            ffi::PyGC_Enable();
        }
        if !raw.is_null() {
            let head = size_of::<ffi::PyObject>();
            ptr::write_bytes(raw.cast::<u8>().add(head), 0, basic as usize + size - head);
        }
        raw
    }
}

/// Where the state behind an object's body begins.
#[inline(always)]
pub(super) unsafe fn extra_place<E>(object: Raw) -> *mut E {
    // SAFETY: the object was made with room for it; basic sizes are multiples of the alignment.
    unsafe {
        let basic = (*ffi::Py_TYPE(object)).tp_basicsize;
        object.cast::<u8>().offset(basic).cast()
    }
}

/// The state behind the body of an object.
///
/// # Safety
/// The object was made by a native class whose [`Native::Extra`] begins with `E`.
#[inline(always)]
pub(crate) unsafe fn extra<E>(object: &Any) -> &E {
    // SAFETY: by the caller's promise.
    unsafe { &*extra_place::<E>(object.raw()) }
}
