//! How a class is described, and how it is made.

use super::coroutine;
use super::slots::{
    class_getitem, clear, construct, dealloc, finalize, initialize, instantiate, traverse,
};
use super::{Class, Construct, Native};
use crate::intern;
use crate::kit::{ffi, value, Any, Obj, PyResult};
use std::ffi::{c_int, c_void, CStr};
use std::mem::size_of;
use std::ptr;

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
    coroutines: Vec<&'static str>,
    /// What calling the class does, if that is to make an instance in our own way.
    call: Option<ffi::vectorcallfunc>,
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
            coroutines: Vec::new(),
            call: None,
        }
        .slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void)
        .slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void)
        .slot(ffi::Py_tp_clear, clear::<T> as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void)
    }

    /// Sets a slot; one that was set before is replaced.
    pub(crate) fn slot(mut self, slot: c_int, function: *mut c_void) -> ClassSpec {
        if matches!(slot, ffi::Py_tp_new | ffi::Py_tp_init) {
            self.call = None;
        }
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

    /// Which of the methods are coroutine functions.
    pub(crate) fn coroutines(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.coroutines.extend(names);
        self
    }

    /// Instances are called through the vectorcall function at this offset, and bind as functions do. The
    /// interpreter remembers where it found a method only if the method's own class cannot change.
    pub(super) fn callable(mut self, offset: usize) -> ClassSpec {
        self.flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL
            | ffi::Py_TPFLAGS_METHOD_DESCRIPTOR
            | ffi::Py_TPFLAGS_IMMUTABLETYPE;
        self.members
            .push(offset_member(c"__vectorcalloffset__", offset));
        self.slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void)
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
        let mut spec = self
            .subclassable()
            .slot(ffi::Py_tp_new, construct::<T> as *mut c_void)
            .slot(ffi::Py_tp_init, initialize::<T> as *mut c_void);
        spec.call = Some(instantiate::<T>);
        spec
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
        let methods = Box::leak(self.methods.into_boxed_slice());
        let getset = Box::leak(self.getset.into_boxed_slice()).as_mut_ptr();
        let members = Box::leak(self.members.into_boxed_slice()).as_mut_ptr();
        for (slot, table) in [
            (ffi::Py_tp_methods, methods.as_mut_ptr().cast::<c_void>()),
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
        coroutine::replace_methods(&made, methods, &self.coroutines)?;
        // SAFETY: a type that was just made and that nobody else knows; classes do not inherit this.
        unsafe { (*made.raw().cast::<ffi::PyTypeObject>()).tp_vectorcall = self.call };
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
