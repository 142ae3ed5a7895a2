//! Native classes: heap types made at import, with their garbage collection and their trampolines.
//!
//! A native class is a `#[repr(C)]` struct that begins with [`Head`] and implements [`Native`]. Its fields
//! are `Cell`s, [`ObjCell`](super::ObjCell)s and plain Rust values; they are dropped when the object dies.

mod alloc;
mod coroutine;
mod slots;
mod spec;
mod trampoline;

use alloc::make_in;
pub(crate) use alloc::{extra, hide, is_hidden, reveal, FreeList};
pub(crate) use coroutine::build;
#[cfg(Py_3_13)]
pub(crate) use slots::{clear_managed_dict, visit_managed_dict};
pub(crate) use spec::ClassSpec;
pub(crate) use trampoline::{
    add_functions, bound_function, guard, method_def, only, panicked, status, Ret,
};

use super::{ffi, Any, Args, Obj, ObjCell, Own, PyResult, Raw};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What every object begins with: its reference count and its type. Never touched from here.
#[repr(C)]
pub(crate) struct Head(MaybeUninit<ffi::PyObject>);

impl Head {
    /// Stands in a value that is about to become an object; [`Class::make`] keeps the real one.
    pub(crate) const fn new() -> Head {
        Head(MaybeUninit::uninit())
    }
}

/// The list of weak references to an object, kept by the interpreter.
#[repr(transparent)]
pub(crate) struct WeakList(Cell<Raw>);

impl WeakList {
    pub(crate) const fn new() -> WeakList {
        WeakList(Cell::new(ptr::null_mut()))
    }

    /// Whether there is no weak reference to the object.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_null()
    }
}

/// A struct that is the body of Python objects of one class.
///
/// # Safety
/// The struct is `#[repr(C)]`, begins with [`Head`] (or with the struct of the base class), and `class()`
/// is built from it and from nothing else.
pub(crate) unsafe trait Native: Sized + 'static {
    fn class() -> &'static Class;

    /// State that stands behind the body, where the interpreter does not see it as part of the layout: so
    /// a class can add state and still be a second base of a class with a layout of its own. It begins where
    /// `tp_basicsize` of the object's type ends; see [`extra`].
    type Extra: Default;

    /// Shows every reference that the object owns to the garbage collector.
    fn traverse(&self, _visitor: &mut Visitor) {}

    /// Gives up the references that may be part of a cycle.
    fn clear(&self) {}

    /// Runs once, before the object dies, while it is still whole.
    fn finalize(&self) {}

    /// Whether [`Native::finalize`] would do nothing now, so that a dying object is spared the call.
    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        false
    }

    /// Where dead instances of exactly this class are kept for the next one to be made. Only for classes
    /// made and dropped many times a turn.
    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        None
    }

    /// Runs when nobody can reach the object any more, right before its fields are dropped.
    fn last_rites(&self) {}

    #[inline(always)]
    fn as_any(&self) -> &Any {
        // SAFETY: the struct is the body of an object.
        unsafe { Any::from_raw(ptr::from_ref(self).cast_mut().cast()) }
    }

    #[inline(always)]
    fn own(&self) -> Own<Self> {
        Own::of(self)
    }

    /// Makes an instance of exactly this class.
    fn make(self) -> PyResult<Own<Self>> {
        Self::class().make(self)
    }

    /// As [`Native::make`], hidden from the collector ([`hide`]).
    ///
    /// # Safety
    /// As for [`hide`].
    #[inline]
    unsafe fn make_hidden(self) -> PyResult<Own<Self>> {
        // SAFETY: by the caller's promise.
        unsafe { alloc::make_hidden(self) }
    }
}

/// A class that Python code may instantiate and derive from.
pub(crate) trait Construct: Native {
    /// The body before `__init__` has run.
    fn empty() -> Self;
    /// `__init__`; it may be called again, or not at all by a careless subclass.
    fn init(&self, args: Args<'_>) -> PyResult<()>;
}

/// The garbage collector's visit to the references of an object.
pub(crate) struct Visitor {
    visit: ffi::visitproc,
    argument: *mut c_void,
    stopped: c_int,
}

impl Visitor {
    pub(crate) fn cell(&mut self, cell: &ObjCell) {
        self.raw(cell.raw());
    }

    #[inline(always)]
    pub(crate) fn cells<'a>(&mut self, cells: impl IntoIterator<Item = &'a ObjCell>) {
        for cell in cells {
            self.cell(cell);
        }
    }

    pub(crate) fn object(&mut self, object: &Any) {
        self.raw(object.raw());
    }

    pub(crate) fn raw(&mut self, raw: Raw) {
        if self.stopped == 0 && !raw.is_null() {
            // SAFETY: the collector's own function and argument, on a live object.
            self.stopped = unsafe { (self.visit)(raw, self.argument) };
        }
    }
}

/// The place where a class lives once it is made.
pub(crate) struct Class {
    made: AtomicPtr<ffi::PyTypeObject>,
    /// Its `tp_new` and `tp_init` when it was made: a program may put its own methods in their place.
    new: AtomicPtr<c_void>,
    init: AtomicPtr<c_void>,
}

impl Class {
    pub(crate) const fn new() -> Class {
        Class {
            made: AtomicPtr::new(ptr::null_mut()),
            new: AtomicPtr::new(ptr::null_mut()),
            init: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut ffi::PyTypeObject {
        self.made.load(Ordering::Relaxed)
    }

    /// Whether instances are made and initialised as they were when the class was made.
    #[inline(always)]
    fn is_unpatched(&self) -> bool {
        let (new, init) = constructors(self.raw());
        new == self.new.load(Ordering::Relaxed) && init == self.init.load(Ordering::Relaxed)
    }

    pub(crate) fn object(&self) -> &'static Any {
        // SAFETY: classes are made before anything can ask for them, and never freed.
        unsafe { Any::from_raw(self.raw().cast()) }
    }

    #[inline]
    pub(crate) fn is_instance(&self, object: &Any) -> bool {
        let class = object.type_raw();
        // SAFETY: both are live types.
        class == self.raw() || unsafe { ffi::PyType_IsSubtype(class, self.raw()) != 0 }
    }

    /// Makes an instance with this body.
    pub(crate) fn make<T: Native>(&self, body: T) -> PyResult<Own<T>> {
        debug_assert!(ptr::eq(self, T::class()));
        // SAFETY: the class is `T`'s.
        unsafe { make_in(self.raw(), body) }
    }

    pub(crate) fn set(&self, class: Obj) {
        let class = class.into_raw().cast();
        let (new, init) = constructors(class);
        self.new.store(new, Ordering::Relaxed);
        self.init.store(init, Ordering::Relaxed);
        self.made.store(class, Ordering::Relaxed);
    }
}

/// `tp_new` and `tp_init` of a class of ours.
#[inline(always)]
fn constructors(class: *mut ffi::PyTypeObject) -> (*mut c_void, *mut c_void) {
    // SAFETY: classes are never freed once they are made.
    let (new, init) = unsafe { ((*class).tp_new, (*class).tp_init) };
    (
        new.map_or(ptr::null_mut(), |new| new as *mut c_void),
        init.map_or(ptr::null_mut(), |init| init as *mut c_void),
    )
}
