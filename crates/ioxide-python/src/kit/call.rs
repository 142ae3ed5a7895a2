//! Calling, and reading and setting attributes.

#[cfg(not(Py_3_13))]
use super::err;
use super::value::check;
use super::{ffi, Any, Obj, PyResult, Raised, Raw};
use std::ffi::CStr;
use std::{iter, ptr};

extern "C" {
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Self(method: Raw) -> Raw;
    fn PyMethod_Function(method: Raw) -> Raw;
}

impl Any {
    /// The object and the function of a bound method to which there are no weak references.
    #[inline(always)]
    pub(crate) fn method_parts(&self) -> Option<[&Any; 2]> {
        // SAFETY: the class is that of methods, whose list of weak references stands where their type says, and whose
        // parts live as long as they do.
        unsafe {
            if self.type_raw() != &raw mut PyMethod_Type {
                return None;
            }
            let offset = (*self.type_raw()).tp_weaklistoffset;
            let weak = *self.raw().byte_offset(offset).cast::<Raw>();
            weak.is_null().then(|| {
                let method = self.raw();
                [
                    Any::from_raw(PyMethod_Self(method)),
                    Any::from_raw(PyMethod_Function(method)),
                ]
            })
        }
    }

    #[inline]
    pub(crate) fn attr(&self, name: &Any) -> PyResult<Obj> {
        // SAFETY: both are alive.
        unsafe { Obj::steal_or_raised(ffi::PyObject_GetAttr(self.raw(), name.raw())) }
    }

    /// The attribute, or nothing where there is none (any other error stands).
    pub(crate) fn attr_opt(&self, name: &Any) -> PyResult<Option<Obj>> {
        #[cfg(Py_3_13)]
        {
            let mut found: Raw = ptr::null_mut();
            // SAFETY: both are alive; the result is a new reference or null.
            match unsafe { ffi::PyObject_GetOptionalAttr(self.raw(), name.raw(), &mut found) } {
                -1 => Err(Raised),
                0 => Ok(None),
                // SAFETY: 1 says that a new reference was stored.
                _ => Ok(Some(unsafe { Obj::steal(found) })),
            }
        }
        #[cfg(not(Py_3_13))]
        match self.attr(name) {
            Ok(found) => Ok(Some(found)),
            Err(raised) if err::matches(err::attribute_error()) => {
                err::discard(raised);
                Ok(None)
            }
            Err(raised) => Err(raised),
        }
    }

    pub(crate) fn set_attr(&self, name: &Any, value: &Any) -> PyResult<()> {
        // SAFETY: all are alive.
        check(unsafe { ffi::PyObject_SetAttr(self.raw(), name.raw(), value.raw()) })
    }

    #[inline]
    pub(crate) fn call0(&self) -> PyResult<Obj> {
        // SAFETY: alive.
        unsafe { Obj::steal_or_raised(ffi::PyObject_CallNoArgs(self.raw())) }
    }

    #[inline]
    pub(crate) fn call1(&self, argument: &Any) -> PyResult<Obj> {
        self.call(&[argument])
    }

    /// Calls with positional arguments (at most seven).
    #[inline]
    pub(crate) fn call(&self, arguments: &[&Any]) -> PyResult<Obj> {
        const MOST: usize = 7;
        debug_assert!(arguments.len() <= MOST);
        let count = arguments.len().min(MOST);
        let mut stack: [Raw; MOST + 1] = [ptr::null_mut(); MOST + 1];
        for (slot, argument) in stack[1..].iter_mut().zip(arguments) {
            *slot = argument.raw();
        }
        // SAFETY: `count` live objects follow the first slot, which the callee may use for `self`.
        unsafe {
            Obj::steal_or_raised(ffi::PyObject_Vectorcall(
                self.raw(),
                stack.as_ptr().add(1),
                count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                ptr::null_mut(),
            ))
        }
    }

    /// Calls with the objects of a slice, however many.
    pub(crate) fn call_slice(&self, arguments: &[&Any]) -> PyResult<Obj> {
        // SAFETY: `&Any` is a pointer to a live object; without the offset flag nothing is written.
        unsafe {
            Obj::steal_or_raised(ffi::PyObject_Vectorcall(
                self.raw(),
                arguments.as_ptr().cast(),
                arguments.len(),
                ptr::null_mut(),
            ))
        }
    }

    /// Calls with positional arguments and a dict of keywords.
    pub(crate) fn call_dict(&self, arguments: &[&Any], keywords: &Any) -> PyResult<Obj> {
        // SAFETY: as `call_slice`; the keywords are a dict.
        unsafe {
            Obj::steal_or_raised(ffi::PyObject_VectorcallDict(
                self.raw(),
                arguments.as_ptr().cast(),
                arguments.len(),
                keywords.raw(),
            ))
        }
    }

    /// Calls with positional arguments and keywords.
    pub(crate) fn call_with(
        &self,
        arguments: &[&Any],
        keywords: &[(&'static Any, &Any)],
    ) -> PyResult<Obj> {
        let names = super::value::tuple_of(keywords.iter().map(|(name, _)| name.own()))?;
        let values = keywords.iter().map(|(_, value)| *value);
        // The first slot is spare, for a callee that puts itself before its arguments.
        let mut stack: Vec<Raw> = iter::once(ptr::null_mut())
            .chain(arguments.iter().copied().chain(values).map(Any::raw))
            .collect();
        // SAFETY: live objects follow the first slot: the arguments, and a value for each of the names.
        unsafe {
            Obj::steal_or_raised(ffi::PyObject_Vectorcall(
                self.raw(),
                stack.as_mut_ptr().add(1).cast_const(),
                arguments.len() | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                names.raw(),
            ))
        }
    }

    #[inline]
    pub(crate) fn method0(&self, name: &Any) -> PyResult<Obj> {
        self.method(name, &[])
    }

    /// `self.name(*arguments)` without making a bound method (at most six arguments).
    #[inline]
    pub(crate) fn method(&self, name: &Any, arguments: &[&Any]) -> PyResult<Obj> {
        const MOST: usize = 6;
        debug_assert!(arguments.len() <= MOST);
        let count = arguments.len().min(MOST);
        let mut stack: [Raw; MOST + 2] = [ptr::null_mut(); MOST + 2];
        stack[1] = self.raw();
        for (slot, argument) in stack[2..].iter_mut().zip(arguments) {
            *slot = argument.raw();
        }
        // SAFETY: `self` and `count` live objects follow the first, spare, slot.
        unsafe {
            Obj::steal_or_raised(ffi::PyObject_VectorcallMethod(
                name.raw(),
                stack.as_ptr().add(1),
                (count + 1) | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
                ptr::null_mut(),
            ))
        }
    }

    pub(crate) fn is_instance(&self, class: &Any) -> PyResult<bool> {
        // SAFETY: both are alive.
        match unsafe { ffi::PyObject_IsInstance(self.raw(), class.raw()) } {
            -1 => Err(Raised),
            answer => Ok(answer != 0),
        }
    }
}

/// Runs what may call itself again without Python in between: `RecursionError` where the stack would end.
#[inline]
pub(crate) fn recursive<T>(what: &CStr, run: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // SAFETY: a C string that is alive; paired with the leave below.
    if unsafe { ffi::Py_EnterRecursiveCall(what.as_ptr()) } != 0 {
        return Err(Raised);
    }
    let result = run();
    // SAFETY: entered above.
    unsafe { ffi::Py_LeaveRecursiveCall() };
    result
}
