//! Native classes: heap types made at import, with their garbage collection and their trampolines.
//!
//! A native class is a `#[repr(C)]` struct that begins with [`Head`] and implements [`Native`]. Its fields
//! are `Cell`s, [`ObjCell`](super::ObjCell)s and plain Rust values; they are dropped when the object dies.

use super::args::Unpacked;
use super::value::check;
use super::{err, ffi, value, Any, Args, Obj, ObjCell, Own, PyResult, Raised, Raw};
use crate::intern;
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void, CStr};
use std::mem::{size_of, MaybeUninit};
use std::panic::{catch_unwind, AssertUnwindSafe};
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
pub(crate) struct Class(AtomicPtr<ffi::PyTypeObject>);

impl Class {
    pub(crate) const fn new() -> Class {
        Class(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut ffi::PyTypeObject {
        self.0.load(Ordering::Relaxed)
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
        self.0.store(class.into_raw().cast(), Ordering::Relaxed);
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
            // SAFETY: the memory was an instance of exactly this class, and is nobody's now.
            return Ok(unsafe { revive(raw, body) });
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
        let head = ptr::read(raw.cast::<MaybeUninit<ffi::PyObject>>());
        ptr::write(raw.cast::<T>(), body);
        ptr::write(raw.cast::<MaybeUninit<ffi::PyObject>>(), head);
        if size_of::<T::Extra>() != 0 {
            ptr::write(extra_place::<T::Extra>(raw), T::Extra::default());
            ffi::PyObject_GC_Track(raw.cast());
        }
        Ok(Own::from_obj(Obj::steal(raw)))
    }
}

/// Makes an instance in memory from the free list.
///
/// # Safety
/// `raw` is memory of a dead instance of exactly `T`'s class, which kept its reference to the type.
#[inline(always)]
unsafe fn revive<T: Native>(raw: Raw, body: T) -> Own<T> {
    extern "C" {
        fn _Py_NewReference(object: Raw);
    }
    // SAFETY: by the caller's promise; the body is whole before the collector may look at it.
    unsafe {
        let head = ptr::read(raw.cast::<MaybeUninit<ffi::PyObject>>());
        ptr::write(raw.cast::<T>(), body);
        ptr::write(raw.cast::<MaybeUninit<ffi::PyObject>>(), head);
        if size_of::<T::Extra>() != 0 {
            ptr::write(extra_place::<T::Extra>(raw), T::Extra::default());
        }
        _Py_NewReference(raw);
        ffi::PyObject_GC_Track(raw.cast());
        Own::from_obj(Obj::steal(raw))
    }
}

/// Dead instances of one class. Only for interpreters with a lock, which guards it.
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
    unsafe fn push(&self, raw: Raw) -> bool {
        if self.length.get() >= self.most {
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
unsafe fn extra_place<E>(object: Raw) -> *mut E {
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

// ---------------------------------------------------------------------------------------------------
// Making classes

/// How a class is to be made.
pub(crate) struct ClassSpec {
    name: &'static CStr,
    size: usize,
    flags: std::ffi::c_ulong,
    slots: Vec<ffi::PyType_Slot>,
    methods: Vec<ffi::PyMethodDef>,
    getset: Vec<ffi::PyGetSetDef>,
    members: Vec<ffi::PyMemberDef>,
    bases: Vec<Obj>,
    short_name: bool,
}

impl ClassSpec {
    /// A class of this name (`ioxide.Name`) whose instances have the body `T`.
    pub(crate) fn new<T: Native>(name: &'static CStr) -> ClassSpec {
        ClassSpec {
            name,
            size: size_of::<T>(),
            flags: ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_HAVE_GC,
            slots: Vec::new(),
            methods: Vec::new(),
            getset: Vec::new(),
            members: Vec::new(),
            bases: Vec::new(),
            short_name: false,
        }
        .slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void)
        .slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void)
        .slot(ffi::Py_tp_clear, clear::<T> as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void)
    }

    /// Sets a slot; one that was set before is replaced.
    pub(crate) fn slot(mut self, slot: c_int, function: *mut c_void) -> ClassSpec {
        self.slots.retain(|set| set.slot != slot);
        self.slots.push(ffi::PyType_Slot {
            slot,
            pfunc: function,
        });
        self
    }

    pub(crate) fn doc(self, text: &'static CStr) -> ClassSpec {
        self.slot(ffi::Py_tp_doc, text.as_ptr() as *mut c_void)
    }

    /// Adds a base; of several, one has the layout that the struct begins with, the others add none.
    pub(crate) fn base(mut self, base: &Any) -> ClassSpec {
        self.bases.push(base.own());
        self
    }

    pub(crate) fn methods(mut self, methods: impl IntoIterator<Item = ffi::PyMethodDef>) -> Self {
        self.methods.extend(methods);
        self
    }

    pub(crate) fn getset(mut self, getset: impl IntoIterator<Item = ffi::PyGetSetDef>) -> Self {
        self.getset.extend(getset);
        self
    }

    /// Messages of the interpreter name the class without its module, as they name a class of Python code.
    pub(crate) fn short_name(mut self) -> ClassSpec {
        self.short_name = true;
        self
    }

    /// Python code may derive from the class.
    pub(crate) fn subclassable(mut self) -> ClassSpec {
        self.flags |= ffi::Py_TPFLAGS_BASETYPE;
        self
    }

    /// Python code may instantiate the class, and derive from it.
    pub(crate) fn constructible<T: Construct>(self) -> ClassSpec {
        self.subclassable()
            .slot(ffi::Py_tp_new, construct::<T> as *mut c_void)
            .slot(ffi::Py_tp_init, initialize::<T> as *mut c_void)
    }

    /// `Class[item]` works, as it does for asyncio's generic classes.
    pub(crate) fn generic(mut self) -> ClassSpec {
        self.methods.push(ffi::PyMethodDef {
            ml_name: c"__class_getitem__".as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunction: class_getitem,
            },
            ml_flags: ffi::METH_O | ffi::METH_CLASS,
            ml_doc: c"See PEP 585".as_ptr(),
        });
        self
    }

    /// Instances have a `__dict__`, in the `ObjCell` at this offset.
    pub(crate) fn dict(mut self, offset: usize) -> ClassSpec {
        self.members.push(offset_member(c"__dictoffset__", offset));
        self.getset.push(ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(ffi::PyObject_GenericGetDict),
            set: Some(ffi::PyObject_GenericSetDict),
            doc: ptr::null(),
            closure: ptr::null_mut(),
        });
        self
    }

    /// Instances can be weakly referenced, through the [`WeakList`] at this offset.
    pub(crate) fn weak(mut self, offset: usize) -> ClassSpec {
        self.members
            .push(offset_member(c"__weaklistoffset__", offset));
        self
    }

    /// Makes the class and puts it into its place.
    pub(crate) fn build(mut self, place: &'static Class) -> PyResult<&'static Any> {
        if !self.slots.iter().any(|set| set.slot == ffi::Py_tp_new) {
            self.flags |= ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
        }
        self.methods.push(zeroed());
        self.getset.push(zeroed());
        self.members.push(zeroed());
        // Tables of methods, properties and members are read as long as the class lives: for ever.
        let methods = Box::leak(self.methods.into_boxed_slice()).as_mut_ptr();
        let getset = Box::leak(self.getset.into_boxed_slice()).as_mut_ptr();
        let members = Box::leak(self.members.into_boxed_slice()).as_mut_ptr();
        for (slot, table) in [
            (ffi::Py_tp_methods, methods.cast::<c_void>()),
            (ffi::Py_tp_getset, getset.cast()),
            (ffi::Py_tp_members, members.cast()),
        ] {
            self.slots.push(ffi::PyType_Slot { slot, pfunc: table });
        }
        self.slots.push(zeroed());
        let mut spec = ffi::PyType_Spec {
            name: self.name.as_ptr(),
            basicsize: self.size as c_int,
            itemsize: 0,
            flags: self.flags as std::ffi::c_uint,
            slots: self.slots.as_mut_ptr(),
        };
        let bases: Vec<&Any> = self.bases.iter().map(|base| &**base).collect();
        let bases = if bases.is_empty() {
            None
        } else {
            Some(value::tuple(&bases)?)
        };
        let bases = bases.as_deref().map_or(ptr::null_mut(), Any::raw);
        // SAFETY: the spec is whole and lives through the call; the tables live for ever.
        let made =
            unsafe { Obj::steal_or_raised(ffi::PyType_FromSpecWithBases(&mut spec, bases))? };
        if self.short_name {
            let name = made.attr(intern!("__qualname__"))?;
            made.set_attr(intern!("__name__"), &name)?;
        }
        place.set(made);
        Ok(place.object())
    }
}

fn offset_member(name: &'static CStr, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    }
}

/// The sentinel that ends the interpreter's tables.
fn zeroed<T>() -> T {
    // SAFETY: only used for the C tables above, whose end is all zeroes.
    unsafe { std::mem::zeroed() }
}

// ---------------------------------------------------------------------------------------------------
// What the interpreter calls

unsafe extern "C" fn traverse<T: Native>(
    object: Raw,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    let mut visitor = Visitor {
        visit,
        argument,
        stopped: 0,
    };
    // SAFETY: the interpreter passes an instance.
    unsafe {
        visitor.raw(ffi::Py_TYPE(object).cast());
        let dict = dict_cell::<T>(object);
        if !dict.is_null() {
            visitor.cell(&*dict);
        }
        Any::from_raw(object)
            .cast_unchecked::<T>()
            .traverse(&mut visitor);
    }
    visitor.stopped
}

unsafe extern "C" fn clear<T: Native>(object: Raw) -> c_int {
    // SAFETY: the interpreter passes an instance.
    unsafe {
        let dict = dict_cell::<T>(object);
        if !dict.is_null() {
            (*dict).clear();
        }
        Any::from_raw(object).cast_unchecked::<T>().clear();
    }
    0
}

/// The `ObjCell` that our own class declared for the dict, or null. A dict that a Python subclass added
/// is that class's affair.
unsafe fn dict_cell<T: Native>(object: Raw) -> *mut ObjCell {
    // SAFETY: the class is alive; the offset was given by `ClassSpec::dict`.
    unsafe {
        let offset = (*T::class().raw()).tp_dictoffset;
        if offset <= 0 || offset as usize >= size_of::<T>() {
            return ptr::null_mut();
        }
        object.cast::<u8>().offset(offset).cast()
    }
}

unsafe extern "C" fn finalize<T: Native>(object: Raw) {
    // SAFETY: the interpreter passes an instance; finalizers leave the raised exception as it was.
    unsafe {
        let body = Any::from_raw(object).cast_unchecked::<T>();
        err::preserved(|| {
            status(guard(|| -> PyResult<()> {
                body.finalize();
                Ok(())
            }));
        });
    }
}

unsafe extern "C" fn dealloc<T: Native>(object: Raw) {
    // SAFETY: the last reference is gone. The finalizer may bring the object back; after it, nobody else
    // can reach the object. The body is dropped once, then the memory is freed, then the type released.
    unsafe {
        let skip = Any::from_raw(object)
            .cast_unchecked::<T>()
            .may_skip_finalizer();
        if !skip && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        let class = ffi::Py_TYPE(object);
        ffi::PyObject_GC_UnTrack(object.cast());
        // Managed weak references have a negative offset.
        if (*T::class().raw()).tp_weaklistoffset != 0 {
            ffi::PyObject_ClearWeakRefs(object);
        }
        let dict = dict_cell::<T>(object);
        if !dict.is_null() {
            (*dict).clear();
        }
        Any::from_raw(object).cast_unchecked::<T>().last_rites();
        ptr::drop_in_place(object.cast::<T>());
        if size_of::<T::Extra>() != 0 {
            ptr::drop_in_place(extra_place::<T::Extra>(object));
        }
        if let Some(list) = T::freelist().filter(|_| class == T::class().raw()) {
            if list.push(object) {
                return;
            }
        }
        let free = (*class).tp_free.unwrap_or(ffi::PyObject_GC_Del);
        free(object.cast());
        ffi::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn construct<T: Construct>(
    class: *mut ffi::PyTypeObject,
    _args: Raw,
    _kwargs: Raw,
) -> Raw {
    // SAFETY: the class is `T`'s or derived from it.
    guard(|| unsafe { make_in(class, T::empty()).map(Own::into_obj) })
}

unsafe extern "C" fn initialize<T: Construct>(object: Raw, args: Raw, kwargs: Raw) -> c_int {
    let result = guard(|| {
        // SAFETY: the interpreter passes a tuple and a dict or null, and an instance.
        unsafe {
            let unpacked = Unpacked::new(args, kwargs)?;
            Any::from_raw(object)
                .cast_unchecked::<T>()
                .init(unpacked.args())
        }
    });
    status(result)
}

unsafe extern "C" fn class_getitem(class: Raw, item: Raw) -> Raw {
    // SAFETY: both are alive.
    unsafe { ffi::Py_GenericAlias(class, item) }
}

/// Turns the result of a trampoline whose success is `None` into a C status.
pub(crate) fn status(result: Raw) -> c_int {
    if result.is_null() {
        return -1;
    }
    // SAFETY: the trampoline's own reference to `None`.
    unsafe { ffi::Py_DECREF(result) };
    0
}

/// Visits the dict that the interpreter keeps before the object, where a base class asked for one.
#[cfg(Py_3_13)]
pub(crate) fn visit_managed_dict(object: &Any, visitor: &mut Visitor) {
    extern "C" {
        fn PyObject_VisitManagedDict(
            object: Raw,
            visit: ffi::visitproc,
            argument: *mut c_void,
        ) -> c_int;
    }
    if visitor.stopped == 0 {
        // SAFETY: a live object; the collector's own function and argument.
        visitor.stopped =
            unsafe { PyObject_VisitManagedDict(object.raw(), visitor.visit, visitor.argument) };
    }
}

/// Clears such a dict.
#[cfg(Py_3_13)]
pub(crate) fn clear_managed_dict(object: &Any) {
    extern "C" {
        fn PyObject_ClearManagedDict(object: Raw);
    }
    // SAFETY: a live object.
    unsafe { PyObject_ClearManagedDict(object.raw()) }
}

// ---------------------------------------------------------------------------------------------------
// Trampolines

/// What a method may return.
pub(crate) trait Ret {
    fn ret(self) -> PyResult<Obj>;
}

impl Ret for PyResult<Obj> {
    #[inline(always)]
    fn ret(self) -> PyResult<Obj> {
        self
    }
}

impl Ret for Obj {
    fn ret(self) -> PyResult<Obj> {
        Ok(self)
    }
}

impl Ret for PyResult<()> {
    #[inline(always)]
    fn ret(self) -> PyResult<Obj> {
        self.map(|()| Obj::none())
    }
}

impl Ret for () {
    fn ret(self) -> PyResult<Obj> {
        Ok(Obj::none())
    }
}

impl Ret for PyResult<bool> {
    fn ret(self) -> PyResult<Obj> {
        self.map(value::bool)
    }
}

impl Ret for bool {
    fn ret(self) -> PyResult<Obj> {
        Ok(value::bool(self))
    }
}

impl Ret for f64 {
    fn ret(self) -> PyResult<Obj> {
        value::float(self)
    }
}

impl Ret for usize {
    fn ret(self) -> PyResult<Obj> {
        value::int(self as i64)
    }
}

impl Ret for PyResult<usize> {
    fn ret(self) -> PyResult<Obj> {
        self?.ret()
    }
}

impl<T: Native> Ret for PyResult<Own<T>> {
    #[inline(always)]
    fn ret(self) -> PyResult<Obj> {
        self.map(Own::into_obj)
    }
}

/// Runs `f` at the boundary: a panic becomes a `SystemError`, never more.
#[inline(always)]
pub(crate) fn guard<R: Ret>(f: impl FnOnce() -> R) -> Raw {
    match catch_unwind(AssertUnwindSafe(|| f().ret())) {
        Ok(Ok(object)) => object.into_raw(),
        Ok(Err(Raised)) => ptr::null_mut(),
        Err(payload) => {
            panicked(&*payload);
            ptr::null_mut()
        }
    }
}

#[cold]
pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let _ = err::raise(
        err::system_error(),
        &format!("ioxide: internal error: {text}; please report it with a traceback"),
    );
}

/// A method for a class's table.
///
/// * `method!(noargs T, "name", f, "doc")`: `fn(&T) -> impl Ret`
/// * `method!(onearg T, "name", f, "doc")`: `fn(&T, &Any) -> impl Ret`
/// * `method!(args T, "name", f, "doc")`: `fn(&T, Args) -> impl Ret`, positional and keywords
#[macro_export]
macro_rules! method {
    (noargs $class:ty, $name:literal, $f:expr, $doc:literal) => {{
        unsafe extern "C" fn call(
            object: $crate::kit::Raw,
            _: $crate::kit::Raw,
        ) -> $crate::kit::Raw {
            // SAFETY: the interpreter has checked that the object is an instance.
            let object = unsafe { $crate::kit::Any::from_raw(object).cast_unchecked::<$class>() };
            $crate::kit::class::guard(|| ($f)(object))
        }
        $crate::kit::class::method_def(
            concat!($name, "\0"),
            $crate::kit::ffi::PyMethodDefPointer { PyCFunction: call },
            $crate::kit::ffi::METH_NOARGS,
            concat!($doc, "\0"),
        )
    }};
    (onearg $class:ty, $name:literal, $f:expr, $doc:literal) => {{
        unsafe extern "C" fn call(
            object: $crate::kit::Raw,
            argument: $crate::kit::Raw,
        ) -> $crate::kit::Raw {
            // SAFETY: the interpreter has checked that the object is an instance; both are alive.
            let (object, argument) = unsafe {
                (
                    $crate::kit::Any::from_raw(object).cast_unchecked::<$class>(),
                    $crate::kit::Any::from_raw(argument),
                )
            };
            $crate::kit::class::guard(|| ($f)(object, argument))
        }
        $crate::kit::class::method_def(
            concat!($name, "\0"),
            $crate::kit::ffi::PyMethodDefPointer { PyCFunction: call },
            $crate::kit::ffi::METH_O,
            concat!($doc, "\0"),
        )
    }};
    (args $class:ty, $name:literal, $f:expr, $doc:literal) => {{
        unsafe extern "C" fn call(
            object: $crate::kit::Raw,
            stack: *const $crate::kit::Raw,
            count: $crate::kit::ffi::Py_ssize_t,
            names: $crate::kit::Raw,
        ) -> $crate::kit::Raw {
            // SAFETY: as the interpreter calls it: an instance, and a vectorcall's arguments.
            let (object, args) = unsafe {
                (
                    $crate::kit::Any::from_raw(object).cast_unchecked::<$class>(),
                    $crate::kit::Args::from_vectorcall(stack, count, names),
                )
            };
            $crate::kit::class::guard(|| ($f)(object, args))
        }
        $crate::kit::class::method_def(
            concat!($name, "\0"),
            $crate::kit::ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: call,
            },
            $crate::kit::ffi::METH_FASTCALL | $crate::kit::ffi::METH_KEYWORDS,
            concat!($doc, "\0"),
        )
    }};
}

/// A function of the module: `function!("name", f, "doc")` with `fn(Args) -> impl Ret`.
#[macro_export]
macro_rules! function {
    ($name:literal, $f:expr, $doc:literal) => {{
        unsafe extern "C" fn call(
            _: $crate::kit::Raw,
            stack: *const $crate::kit::Raw,
            count: $crate::kit::ffi::Py_ssize_t,
            names: $crate::kit::Raw,
        ) -> $crate::kit::Raw {
            // SAFETY: as the interpreter calls it: a vectorcall's arguments.
            let args = unsafe { $crate::kit::Args::from_vectorcall(stack, count, names) };
            $crate::kit::class::guard(|| ($f)(args))
        }
        $crate::kit::class::method_def(
            concat!($name, "\0"),
            $crate::kit::ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: call,
            },
            $crate::kit::ffi::METH_FASTCALL | $crate::kit::ffi::METH_KEYWORDS,
            concat!($doc, "\0"),
        )
    }};
}

/// A property: `getter!(T, "name", get, "doc")` with `fn(&T) -> impl Ret`, and, where it can be set,
/// `getter!(T, "name", get, set, "doc")` with `fn(&T, Option<&Any>) -> PyResult<()>` (`None` deletes).
#[macro_export]
macro_rules! getter {
    (@get $class:ty, $get:expr) => {{
        unsafe extern "C" fn get(
            object: $crate::kit::Raw,
            _: *mut std::ffi::c_void,
        ) -> $crate::kit::Raw {
            // SAFETY: the interpreter has checked that the object is an instance.
            let object = unsafe { $crate::kit::Any::from_raw(object).cast_unchecked::<$class>() };
            $crate::kit::class::guard(|| ($get)(object))
        }
        get
    }};
    ($class:ty, $name:literal, $get:expr, $doc:literal) => {
        $crate::kit::ffi::PyGetSetDef {
            name: concat!($name, "\0").as_ptr().cast(),
            get: Some($crate::getter!(@get $class, $get)),
            set: None,
            doc: concat!($doc, "\0").as_ptr().cast(),
            closure: std::ptr::null_mut(),
        }
    };
    ($class:ty, $name:literal, $get:expr, $set:expr, $doc:literal) => {{
        unsafe extern "C" fn set(
            object: $crate::kit::Raw,
            value: $crate::kit::Raw,
            _: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            // SAFETY: the interpreter has checked that the object is an instance; null deletes.
            let (object, value) = unsafe {
                (
                    $crate::kit::Any::from_raw(object).cast_unchecked::<$class>(),
                    (!value.is_null()).then(|| $crate::kit::Any::from_raw(value)),
                )
            };
            $crate::kit::class::status($crate::kit::class::guard(|| ($set)(object, value)))
        }
        $crate::kit::ffi::PyGetSetDef {
            name: concat!($name, "\0").as_ptr().cast(),
            get: Some($crate::getter!(@get $class, $get)),
            set: Some(set),
            doc: concat!($doc, "\0").as_ptr().cast(),
            closure: std::ptr::null_mut(),
        }
    }};
}

/// A slot that takes the object alone and returns an object: `unary!(T, f)` with `fn(&T) -> impl Ret`
/// (`tp_repr`, `tp_iter`, `am_await`, `am_aiter`, `am_anext`).
#[macro_export]
macro_rules! unary {
    ($class:ty, $f:expr) => {{
        unsafe extern "C" fn call(object: $crate::kit::Raw) -> $crate::kit::Raw {
            // SAFETY: the interpreter passes an instance.
            let object = unsafe { $crate::kit::Any::from_raw(object).cast_unchecked::<$class>() };
            $crate::kit::class::guard(|| ($f)(object))
        }
        call as *mut std::ffi::c_void
    }};
}

/// A slot that returns a length: `length!(T, f)` with `fn(&T) -> PyResult<usize>` (`sq_length`).
#[macro_export]
macro_rules! length {
    ($class:ty, $f:expr) => {{
        unsafe extern "C" fn call(object: $crate::kit::Raw) -> $crate::kit::ffi::Py_ssize_t {
            // SAFETY: the interpreter passes an instance.
            let object = unsafe { $crate::kit::Any::from_raw(object).cast_unchecked::<$class>() };
            let length: $crate::kit::PyResult<usize> = ($f)(object);
            length.map_or(-1, |length| length as $crate::kit::ffi::Py_ssize_t)
        }
        call as *mut std::ffi::c_void
    }};
}

pub(crate) fn method_def(
    name: &'static str,
    function: ffi::PyMethodDefPointer,
    flags: c_int,
    doc: &'static str,
) -> ffi::PyMethodDef {
    debug_assert!(name.ends_with('\0') && doc.ends_with('\0'));
    ffi::PyMethodDef {
        ml_name: name.as_ptr().cast::<c_char>(),
        ml_meth: function,
        ml_flags: flags,
        ml_doc: doc.as_ptr().cast::<c_char>(),
    }
}

/// A built-in function bound to `owner` (its `__self__`), from a table entry that lives for ever.
pub(crate) fn bound_function(method: &'static ffi::PyMethodDef, owner: &Any) -> PyResult<Obj> {
    // SAFETY: the entry lives for ever and is not written to.
    unsafe {
        Obj::steal_or_raised(ffi::PyCFunction_NewEx(
            ptr::from_ref(method).cast_mut(),
            owner.raw(),
            ptr::null_mut(),
        ))
    }
}

/// Adds built-in functions to a module, with `ioxide` as their `__module__`.
pub(crate) fn add_functions(
    module: &Any,
    functions: impl IntoIterator<Item = ffi::PyMethodDef>,
) -> PyResult<()> {
    let name = value::str("ioxide")?;
    for function in functions {
        let function = Box::leak(Box::new(function));
        // SAFETY: the entry lives for ever.
        unsafe {
            let made = Obj::steal_or_raised(ffi::PyCFunction_NewEx(
                function,
                ptr::null_mut(),
                name.raw(),
            ))?;
            check(ffi::PyModule_AddObjectRef(
                module.raw(),
                function.ml_name,
                made.raw(),
            ))?;
        }
    }
    Ok(())
}
