//! References: borrowed, owned, typed, and as fields.

use super::class::Native;
use super::{ffi, Raw};
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};

/// Some Python object; only ever seen behind a reference.
///
/// The zero-sized `UnsafeCell` keeps the compiler from assuming anything about what lies behind, and the
/// raw pointer marker makes the type neither `Send` nor `Sync`.
#[repr(C)]
pub(crate) struct Any {
    opaque: UnsafeCell<[u8; 0]>,
    not_send: PhantomData<*mut u8>,
}

impl Any {
    /// # Safety
    /// `raw` points to a live object that stays alive for `'a`.
    #[inline(always)]
    pub(crate) unsafe fn from_raw<'a>(raw: Raw) -> &'a Any {
        // SAFETY: by the caller's promise; `Any` has no size, so nothing is read through the reference.
        unsafe { &*raw.cast::<Any>() }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> Raw {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// One more reference to the same object.
    #[inline(always)]
    pub(crate) fn own(&self) -> Obj {
        // SAFETY: `self` is alive.
        unsafe { Obj::from_borrowed(self.raw()) }
    }

    #[inline(always)]
    pub(crate) fn is(&self, other: &Any) -> bool {
        self.raw() == other.raw()
    }

    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        // SAFETY: the address of the singleton.
        self.raw() == unsafe { ffi::Py_None() }
    }

    /// `None` is nothing, anything else is itself.
    #[inline(always)]
    pub(crate) fn some(&self) -> Option<&Any> {
        if self.is_none() {
            None
        } else {
            Some(self)
        }
    }

    #[inline(always)]
    pub(crate) fn type_raw(&self) -> *mut ffi::PyTypeObject {
        // SAFETY: `self` is alive.
        unsafe { ffi::Py_TYPE(self.raw()) }
    }

    /// The object's type, as an object.
    pub(crate) fn class(&self) -> &Any {
        // SAFETY: an object keeps its type alive.
        unsafe { Any::from_raw(self.type_raw().cast()) }
    }

    /// Of a class: a number that no other class has, and that it loses when it is changed, or one that it derives from.
    /// 0 as long as nothing was looked up in it since, and for what is not a class.
    #[inline]
    pub(crate) fn version(&self) -> u32 {
        // SAFETY: alive; a class has the field.
        unsafe {
            if ffi::PyType_Check(self.raw()) == 0 {
                return 0;
            }
            (*self.raw().cast::<ffi::PyTypeObject>()).tp_version_tag
        }
    }

    /// The native object, if it is of exactly this class.
    #[inline(always)]
    pub(crate) fn exact<T: Native>(&self) -> Option<&T> {
        if self.type_raw() == T::class().raw() {
            // SAFETY: instances of the class have this layout.
            Some(unsafe { self.cast_unchecked() })
        } else {
            None
        }
    }

    /// The native object, if it is of this class or of one derived from it.
    #[inline]
    pub(crate) fn cast<T: Native>(&self) -> Option<&T> {
        if T::class().is_instance(self) {
            // SAFETY: a derived class begins with the layout of its base.
            Some(unsafe { self.cast_unchecked() })
        } else {
            None
        }
    }

    /// # Safety
    /// The object is an instance of `T`'s class.
    #[inline(always)]
    pub(crate) unsafe fn cast_unchecked<T: Native>(&self) -> &T {
        // SAFETY: by the caller's promise.
        unsafe { &*self.raw().cast::<T>() }
    }

    /// Has the processor fetch the object, with what the garbage collector keeps before it. Takes `T`'s word for how
    /// large it is.
    #[inline(always)]
    pub(crate) fn prefetch<T>(&self) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
            const COLLECTORS: usize = 16;
            const LINE: usize = 64;
            let start = self.raw().cast::<i8>().wrapping_sub(COLLECTORS);
            let last = COLLECTORS + size_of::<T>() - 1;
            // Each line that it may touch: objects are aligned to less.
            for offset in (0..last).step_by(LINE).chain([last]) {
                // SAFETY: a hint, whatever the address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset)) };
            }
        }
    }

    #[inline(always)]
    pub(crate) fn refcount(&self) -> isize {
        // SAFETY: `self` is alive.
        unsafe { ffi::Py_REFCNT(self.raw()) }
    }
}

/// An owned reference.
#[repr(transparent)]
pub(crate) struct Obj(NonNull<ffi::PyObject>);

impl Obj {
    /// # Safety
    /// `raw` is not null and carries a reference that nobody else will give back.
    #[inline(always)]
    pub(crate) unsafe fn steal(raw: Raw) -> Obj {
        // SAFETY: by the caller's promise.
        Obj(unsafe { NonNull::new_unchecked(raw) })
    }

    /// # Safety
    /// As [`Obj::steal`], but null means that an exception is set.
    #[inline(always)]
    pub(crate) unsafe fn steal_or_raised(raw: Raw) -> super::PyResult<Obj> {
        match NonNull::new(raw) {
            Some(object) => Ok(Obj(object)),
            None => Err(super::Raised),
        }
    }

    /// # Safety
    /// `raw` points to a live object.
    #[inline(always)]
    pub(crate) unsafe fn from_borrowed(raw: Raw) -> Obj {
        // SAFETY: by the caller's promise.
        unsafe {
            ffi::Py_INCREF(raw);
            Obj::steal(raw)
        }
    }

    #[inline(always)]
    pub(crate) fn none() -> Obj {
        // SAFETY: the singleton is always alive.
        unsafe { Obj::from_borrowed(ffi::Py_None()) }
    }

    #[inline(always)]
    pub(crate) fn into_raw(self) -> Raw {
        self.into_pointer().as_ptr()
    }

    /// As [`Obj::into_raw`].
    #[inline(always)]
    pub(crate) fn into_pointer(self) -> NonNull<ffi::PyObject> {
        let pointer = self.0;
        std::mem::forget(self);
        pointer
    }
}

impl Deref for Obj {
    type Target = Any;
    #[inline(always)]
    fn deref(&self) -> &Any {
        // SAFETY: the reference that is owned keeps it alive.
        unsafe { Any::from_raw(self.0.as_ptr()) }
    }
}

impl Clone for Obj {
    #[inline(always)]
    fn clone(&self) -> Obj {
        self.own()
    }
}

impl Drop for Obj {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the reference is ours to give back.
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) }
    }
}

/// An owned reference to an object of a native class.
#[repr(transparent)]
pub(crate) struct Own<T: Native>(Obj, PhantomData<T>);

impl<T: Native> Own<T> {
    /// # Safety
    /// The object is an instance of `T`'s class.
    #[inline(always)]
    pub(crate) unsafe fn from_obj(object: Obj) -> Own<T> {
        Own(object, PhantomData)
    }

    /// # Safety
    /// `pointer` carries a reference to an instance of `T`'s class that nobody else will give back.
    #[inline(always)]
    pub(crate) unsafe fn steal(pointer: NonNull<ffi::PyObject>) -> Own<T> {
        Own(Obj(pointer), PhantomData)
    }

    #[inline(always)]
    pub(crate) fn into_pointer(self) -> NonNull<ffi::PyObject> {
        self.0.into_pointer()
    }

    #[inline(always)]
    pub(crate) fn of(object: &T) -> Own<T> {
        Own(object.as_any().own(), PhantomData)
    }

    #[inline(always)]
    pub(crate) fn into_obj(self) -> Obj {
        self.0
    }

    #[inline(always)]
    pub(crate) fn as_obj(&self) -> &Obj {
        &self.0
    }
}

impl<T: Native> Deref for Own<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: by the promise made in `from_obj`.
        unsafe { self.0.cast_unchecked() }
    }
}

impl<T: Native> Clone for Own<T> {
    fn clone(&self) -> Self {
        Own(self.0.clone(), PhantomData)
    }
}

/// A field that owns a reference, or nothing. Null is nothing, so zeroed memory is a valid empty cell.
#[repr(transparent)]
pub(crate) struct ObjCell(Cell<Raw>);

impl ObjCell {
    pub(crate) const fn empty() -> ObjCell {
        ObjCell(Cell::new(ptr::null_mut()))
    }

    pub(crate) fn new(value: Obj) -> ObjCell {
        ObjCell(Cell::new(value.into_raw()))
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_null()
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> Raw {
        self.0.get()
    }

    /// A new reference to what is held.
    #[inline(always)]
    pub(crate) fn get(&self) -> Option<Obj> {
        let raw = self.0.get();
        if raw.is_null() {
            None
        } else {
            // SAFETY: what the cell owns is alive.
            Some(unsafe { Obj::from_borrowed(raw) })
        }
    }

    /// A new reference to what is held, or to `None`.
    #[inline(always)]
    pub(crate) fn get_or_none(&self) -> Obj {
        self.get().unwrap_or_else(Obj::none)
    }

    /// What is held, borrowed.
    ///
    /// # Safety
    /// The cell is not changed, and its owner not freed, while the borrow lives. Nothing that may run
    /// Python code stands in between.
    #[inline(always)]
    pub(crate) unsafe fn peek(&self) -> Option<&Any> {
        let raw = self.0.get();
        if raw.is_null() {
            None
        } else {
            // SAFETY: by the caller's promise.
            Some(unsafe { Any::from_raw(raw) })
        }
    }

    /// What is held, or `None`, borrowed.
    ///
    /// # Safety
    /// As [`ObjCell::peek`].
    #[inline(always)]
    pub(crate) unsafe fn peek_or_none(&self) -> &Any {
        // SAFETY: by the caller's promise; the singleton is always alive.
        unsafe { self.peek().unwrap_or_else(|| Any::from_raw(ffi::Py_None())) }
    }

    /// Whether this very object is held.
    #[inline(always)]
    pub(crate) fn holds(&self, object: &Any) -> bool {
        self.0.get() == object.raw()
    }

    #[inline(always)]
    pub(crate) fn take(&self) -> Option<Obj> {
        let raw = self.0.replace(ptr::null_mut());
        if raw.is_null() {
            None
        } else {
            // SAFETY: the cell owned it and no longer does.
            Some(unsafe { Obj::steal(raw) })
        }
    }

    #[inline(always)]
    pub(crate) fn replace(&self, value: Option<Obj>) -> Option<Obj> {
        let new = value.map_or(ptr::null_mut(), Obj::into_raw);
        let old = self.0.replace(new);
        if old.is_null() {
            None
        } else {
            // SAFETY: the cell owned it and no longer does.
            Some(unsafe { Obj::steal(old) })
        }
    }

    /// Sets the field; what was there is dropped after the new value stands.
    #[inline(always)]
    pub(crate) fn set(&self, value: Obj) {
        drop(self.replace(Some(value)));
    }

    #[inline(always)]
    pub(crate) fn clear(&self) {
        drop(self.take());
    }

    #[inline(always)]
    pub(crate) fn clear_all<'a>(cells: impl IntoIterator<Item = &'a ObjCell>) {
        for cell in cells {
            cell.clear();
        }
    }
}

impl Drop for ObjCell {
    #[inline(always)]
    fn drop(&mut self) {
        self.clear();
    }
}
