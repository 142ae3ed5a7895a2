//! The `StopIteration` by which an iterator returns a value to the interpreter, with its memory used again.
//!
//! `await` takes the result of anything but a coroutine out of a `StopIteration`, which it drops at once. Making
//! one costs more than most of what is awaited. Ours are of a subclass whose last instance is kept when it dies:
//! without its value, so nothing lives longer for it.

use super::{err, ffi, Obj, PyResult, Raised, Raw};
use std::ffi::c_void;
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The subclass, once it is made and known to have the layout that we write to.
static CLASS: AtomicPtr<ffi::PyTypeObject> = AtomicPtr::new(ptr::null_mut());

/// A dead instance: nobody refers to it, its fields are empty.
static SPARE: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

/// Whether there may be a spare at all: without the interpreter lock two threads could take the same.
const RECYCLES: bool = !cfg!(Py_GIL_DISABLED);

/// Sets `StopIteration(value)`.
#[inline]
pub(crate) fn set(value: Obj) -> Raised {
    let class = CLASS.load(Ordering::Relaxed);
    if class.is_null() {
        return super::send::stop_iteration(value);
    }
    // SAFETY: the class is made; see `instance`.
    match unsafe { instance(class) } {
        Ok(exception) => {
            let fields = exception.raw().cast::<ffi::PyStopIterationObject>();
            // SAFETY: the layout was verified; a new instance has no value yet.
            unsafe { (*fields).value = value.into_raw() };
            err::restore(exception)
        }
        Err(raised) => raised,
    }
}

/// An instance without a value.
///
/// # Safety
/// `class` is ours.
#[inline]
unsafe fn instance(class: *mut ffi::PyTypeObject) -> PyResult<Obj> {
    let spare = SPARE.load(Ordering::Relaxed);
    // SAFETY: the spare is memory of an instance, with empty fields and out of the collector's lists; a new one
    // is zeroed. No arguments are an empty tuple, which methods of exceptions rely on.
    unsafe {
        let raw = if spare.is_null() {
            ffi::PyType_GenericAlloc(class, 0)
        } else {
            SPARE.store(ptr::null_mut(), Ordering::Relaxed);
            let raw = ffi::PyObject_Init(spare, class);
            ffi::PyObject_GC_Track(raw.cast());
            raw
        };
        let made = Obj::steal_or_raised(raw)?;
        let arguments = Obj::steal_or_raised(ffi::PyTuple_New(0))?;
        let fields = made.raw().cast::<ffi::PyStopIterationObject>();
        (*fields).args = arguments.into_raw();
        Ok(made)
    }
}

unsafe extern "C" fn dealloc(object: Raw) {
    // SAFETY: the last reference is gone; the base class's `tp_clear` empties every field. Dropping what was in
    // them may run anything, also this for another instance, but the spare is only set afterwards.
    unsafe {
        let class = ffi::Py_TYPE(object);
        ffi::PyObject_GC_UnTrack(object.cast());
        if let Some(clear) = (*ffi::PyExc_StopIteration.cast::<ffi::PyTypeObject>()).tp_clear {
            clear(object);
        }
        if RECYCLES && SPARE.load(Ordering::Relaxed).is_null() {
            SPARE.store(object, Ordering::Relaxed);
        } else {
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

/// Makes the class, if `StopIteration` has the layout that we know; otherwise plain instances are used.
pub(crate) fn build() -> PyResult<()> {
    if !is_layout_known()? {
        return Ok(());
    }
    let mut slots = [
        ffi::PyType_Slot {
            slot: ffi::Py_tp_dealloc,
            pfunc: dealloc as *mut c_void,
        },
        ffi::PyType_Slot {
            slot: 0,
            pfunc: ptr::null_mut(),
        },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"ioxide.StopIteration".as_ptr(),
        basicsize: 0,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the spec lives through the call; size, collection and all other slots are the base's.
    let class = unsafe {
        Obj::steal_or_raised(ffi::PyType_FromSpecWithBases(
            &mut spec,
            ffi::PyExc_StopIteration,
        ))?
    };
    CLASS.store(class.into_raw().cast(), Ordering::Relaxed);
    Ok(())
}

/// Whether a `StopIteration` holds its value and its arguments where we would write them.
fn is_layout_known() -> PyResult<bool> {
    let value = super::value::dict()?;
    let made = err::stop_iteration().call1(&value)?;
    let arguments = made.attr(crate::intern!("args"))?;
    let fields = made.raw().cast::<ffi::PyStopIterationObject>();
    // SAFETY: an instance of at least this size, if the interpreter says so.
    unsafe {
        let size = (*made.type_raw()).tp_basicsize as usize;
        Ok(size == size_of::<ffi::PyStopIterationObject>()
            && (*fields).value == value.raw()
            && (*fields).args == arguments.raw())
    }
}
