//! What the interpreter calls in the life of an instance.

use super::alloc::{extra_place, is_hidden, make_in};
use super::{guard, status, Construct, Native, Visitor};
use crate::kit::args::Unpacked;
use crate::kit::{err, ffi, value, Any, Args, Obj, ObjCell, Own, PyResult, Raw};
use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;

pub(super) unsafe extern "C" fn traverse<T: Native>(
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

pub(super) unsafe extern "C" fn clear<T: Native>(object: Raw) -> c_int {
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

pub(super) unsafe extern "C" fn finalize<T: Native>(object: Raw) {
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

pub(super) unsafe extern "C" fn dealloc<T: Native>(object: Raw) {
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
        if !is_hidden(Any::from_raw(object)) {
            ffi::PyObject_GC_UnTrack(object.cast());
        }
        if may_have_weak_references::<T>(object) {
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

/// Whether somebody may hold the object weakly. Managed weak references have a negative offset.
#[inline(always)]
unsafe fn may_have_weak_references<T: Native>(object: Raw) -> bool {
    // SAFETY: the class is alive; at a positive offset the interpreter keeps a list or null.
    unsafe {
        let offset = (*T::class().raw()).tp_weaklistoffset;
        offset < 0
            || offset > 0
                && !object
                    .cast::<u8>()
                    .offset(offset)
                    .cast::<Raw>()
                    .read()
                    .is_null()
    }
}

pub(super) unsafe extern "C" fn construct<T: Construct>(
    class: *mut ffi::PyTypeObject,
    _args: Raw,
    _kwargs: Raw,
) -> Raw {
    // SAFETY: the class is `T`'s or derived from it.
    guard(|| unsafe { make_in(class, T::empty()).map(Own::into_obj) })
}

pub(super) unsafe extern "C" fn initialize<T: Construct>(
    object: Raw,
    args: Raw,
    kwargs: Raw,
) -> c_int {
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

/// What calling the class does: `tp_new` and `tp_init` without a tuple and a dict of the arguments.
pub(super) unsafe extern "C" fn instantiate<T: Construct>(
    class: Raw,
    stack: *const Raw,
    count: usize,
    names: Raw,
) -> Raw {
    guard(|| -> PyResult<Obj> {
        // SAFETY: the interpreter passes the class itself and a vectorcall's arguments.
        unsafe {
            let args = Args::from_vectorcall(stack, ffi::PyVectorcall_NARGS(count), names);
            if !T::class().is_unpatched() {
                return call_as_usual(class, args);
            }
            let made = make_in(class.cast(), T::empty())?;
            made.init(args)?;
            Ok(made.into_obj())
        }
    })
}

/// Calls a class as the interpreter calls one that has no say in it.
#[cold]
unsafe fn call_as_usual(class: Raw, args: Args<'_>) -> PyResult<Obj> {
    let positional = value::tuple(args.positional())?;
    let keywords = value::dict()?;
    for (name, given) in args.keywords() {
        keywords.dict_set(name, given)?;
    }
    // SAFETY: the class is alive, and what calls it is its own class's, with a tuple and a dict.
    unsafe {
        match (*ffi::Py_TYPE(class)).tp_call {
            Some(call) => Obj::steal_or_raised(call(class, positional.raw(), keywords.raw())),
            None => Err(err::raise(err::type_error(), "the class is not callable")),
        }
    }
}

pub(super) unsafe extern "C" fn class_getitem(class: Raw, item: Raw) -> Raw {
    // SAFETY: both are alive.
    unsafe { ffi::Py_GenericAlias(class, item) }
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
