//! From the interpreter's calling conventions to functions of ours.

use super::coroutine;
use super::Native;
use crate::kit::value::{self, check};
use crate::kit::{err, ffi, Any, Args, Obj, Own, PyResult, Raised, Raw, Signature};
use crate::raise;
use std::ffi::{c_char, c_int, CStr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;

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

/// Turns the result of a trampoline whose success is `None` into a C status.
pub(crate) fn status(result: Raw) -> c_int {
    if result.is_null() {
        return -1;
    }
    // SAFETY: the trampoline's own reference to `None`.
    unsafe { ffi::Py_DECREF(result) };
    0
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

/// The one argument of such a method.
#[inline]
pub(crate) fn only<'a>(args: Args<'a>, signature: &Signature<1>) -> PyResult<&'a Any> {
    if let ([only], false) = (args.positional(), args.has_keywords()) {
        return Ok(only);
    }
    let [only] = args.bind(signature)?;
    only.ok_or_else(|| raise!(err::type_error(), "an argument is missing"))
}

/// A method for a class's table. A doc that begins with the signature, as `"name($self, a, b=None)\n--\n\n…"`, is
/// taken apart by the interpreter; where there is at most one argument, it is put there here.
///
/// * `method!(noargs T, "name", f, "doc")`: `fn(&T) -> impl Ret`
/// * `method!(onearg T, "name", f, "doc")`: `fn(&T, &Any) -> impl Ret`
/// * `method!(given T, "name", "parameter", f, "doc")`: the same, and the argument may be given by its name
/// * `method!(leading T, "name", ["a", "b"], f, "doc")`: `fn(&T, Args) -> PyResult<_>`, where the first arguments
///   are positional even if the call gave them by these names
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
            concat!($name, "($self)\n--\n\n", $doc, "\0"),
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
    (given $class:ty, $name:literal, $parameter:literal, $f:expr, $doc:literal) => {
        $crate::method!(args $class, $name,
            |this: &$class, args: $crate::kit::Args<'_>| {
                const SIGNATURE: $crate::kit::Signature<1> =
                    $crate::kit::Signature::new($name, [$parameter], 1);
                $crate::kit::class::Ret::ret(($f)(this, $crate::kit::class::only(args, &SIGNATURE)?))
            }, concat!($name, "($self, ", $parameter, ")\n--\n\n", $doc))
    };
    (leading $class:ty, $name:literal, $leading:expr, $f:expr, $doc:literal) => {
        $crate::method!(args $class, $name,
            |this: &$class, args: $crate::kit::Args<'_>| {
                const LEADING: &[&str] = &$leading;
                if args.has_keywords() && args.positional().len() < LEADING.len() {
                    return args.leading(LEADING, |args| ($f)(this, args));
                }
                ($f)(this, args)
            }, $doc)
    };
    (args $class:ty, $name:literal, $f:expr, $doc:expr) => {{
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

/// `tp_setattro` that sets as usual and then tells which name was set or deleted: `observed!(T, f)` with
/// `fn(&T, name: &Any)`.
#[macro_export]
macro_rules! observed {
    ($class:ty, $f:expr) => {{
        unsafe extern "C" fn call(
            object: $crate::kit::Raw,
            name: $crate::kit::Raw,
            value: $crate::kit::Raw,
        ) -> std::ffi::c_int {
            // SAFETY: the interpreter passes an instance, a name, and a value or null.
            let (status, object, name) = unsafe {
                (
                    $crate::kit::ffi::PyObject_GenericSetAttr(object, name, value),
                    $crate::kit::Any::from_raw(object).cast_unchecked::<$class>(),
                    $crate::kit::Any::from_raw(name),
                )
            };
            if status == 0 {
                ($f)(object, name);
            }
            status
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

/// Adds built-in functions to a module, with `ioxide` as their `__module__`; those that `coroutines` names are
/// coroutine functions.
pub(crate) fn add_functions(
    module: &Any,
    functions: impl IntoIterator<Item = ffi::PyMethodDef>,
    coroutines: &[&str],
) -> PyResult<()> {
    let name = value::str("ioxide")?;
    for function in functions {
        let function = &*Box::leak(Box::new(function));
        // SAFETY: the entry lives for ever and is not written to.
        unsafe {
            let mut made = Obj::steal_or_raised(ffi::PyCFunction_NewEx(
                ptr::from_ref(function).cast_mut(),
                ptr::null_mut(),
                name.raw(),
            ))?;
            let called = CStr::from_ptr(function.ml_name).to_bytes();
            if coroutines.iter().any(|name| name.as_bytes() == called) {
                made = coroutine::function(function, made, &name)?;
            }
            check(ffi::PyModule_AddObjectRef(
                module.raw(),
                function.ml_name,
                made.raw(),
            ))?;
        }
    }
    Ok(())
}
