//! Weak references to objects of any class.

use super::{ffi, Any, Obj, PyResult, Raw};

/// `weakref.ref(object)`.
pub(crate) fn reference(object: &Any) -> PyResult<Obj> {
    // SAFETY: alive; an object that cannot be referenced so is an error.
    unsafe { Obj::steal_or_raised(ffi::PyWeakref_NewRef(object.raw(), std::ptr::null_mut())) }
}

/// What a `weakref.ref` refers to, if it still lives.
#[inline]
pub(crate) fn target(reference: &Any) -> Option<Obj> {
    #[cfg(Py_3_13)]
    {
        let mut found = std::ptr::null_mut();
        // SAFETY: alive; 1 says that a new reference was stored, an object that is no reference is -1.
        unsafe {
            match ffi::PyWeakref_GetRef(reference.raw(), &mut found) {
                1 => Some(Obj::steal(found)),
                0 => None,
                _ => {
                    ffi::PyErr_Clear();
                    None
                }
            }
        }
    }
    #[cfg(not(Py_3_13))]
    // SAFETY: alive; the result is borrowed and owned at once, null with an error for no reference.
    unsafe {
        let found = ffi::PyWeakref_GetObject(reference.raw());
        if found.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Any::from_raw(found).some().map(Any::own)
    }
}

/// Whether that is this very object, which is alive.
#[inline(always)]
pub(crate) fn refers_to(reference: &Any, object: &Any) -> bool {
    /// How a weak reference begins, since there are any.
    #[repr(C)]
    struct Reference {
        head: ffi::PyObject,
        object: Raw,
    }
    // SAFETY: no object that weak references are made of is smaller. If the field were another one, it would not hold
    // this object, and the answer would be no; that of a dead one is cleared.
    let known = unsafe { (*reference.raw().cast::<Reference>()).object };
    known == object.raw()
}
