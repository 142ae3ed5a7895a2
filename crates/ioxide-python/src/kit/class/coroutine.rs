//! Built-in coroutine functions: what `inspect.iscoroutinefunction` knows as such, and costs no Python frame.
//!
//! Programs ask it before they decide whether to await: web frameworks for handlers and background jobs,
//! `unittest.mock` for what `patch("asyncio.sleep")` or `create_autospec(StreamWriter)` must make. A built-in
//! function has no `__code__`, which is what is looked at; an object of this class has one, made when it is
//! first asked for, from the signature at the head of its doc.

use super::{guard, Class, ClassSpec, Head, Native, Visitor};
use crate::kit::value;
use crate::kit::{ffi, Any, Obj, ObjCell, Own, PyResult, Raw};
use crate::{getter, import, intern, method, raise, unary};
use std::ffi::{c_void, CStr};
use std::mem::offset_of;
use std::ptr;

/// A coroutine function of the module, or of a class: as `def` would make it, it binds to instances.
#[repr(C)]
struct CoroutineFunction {
    head: Head,
    vectorcall: ffi::vectorcallfunc,
    /// How the method is called, found once.
    entry: Entry,
    /// The class whose instances the first argument must be one of; null for a function of the module.
    class: *mut ffi::PyTypeObject,
    /// The ordinary built-in, which knows what to say of wrong arguments.
    plain: Obj,
    /// Its name and its parameters, as `get` and `($self)`.
    name: &'static str,
    parameters: &'static str,
    module: Obj,
    /// An `async def` of the same signature, with an empty body.
    likeness: ObjCell,
}

#[derive(Clone, Copy)]
enum Entry {
    NoArguments(ffi::PyCFunction),
    Arguments(ffi::PyCFunctionFastWithKeywords),
    /// Through the built-in.
    Other,
}

impl Entry {
    fn of(method: &ffi::PyMethodDef) -> Entry {
        // SAFETY: the flags say which member of the union is the one.
        unsafe {
            match method.ml_flags {
                ffi::METH_NOARGS => Entry::NoArguments(method.ml_meth.PyCFunction),
                flags if flags == ffi::METH_FASTCALL | ffi::METH_KEYWORDS => {
                    Entry::Arguments(method.ml_meth.PyCFunctionFastWithKeywords)
                }
                _ => Entry::Other,
            }
        }
    }
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for CoroutineFunction {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.plain);
        visitor.object(&self.module);
        visitor.cell(&self.likeness);
    }

    fn clear(&self) {
        self.likeness.clear();
    }
}

/// The call of a function of the module.
unsafe extern "C" fn call_function(
    callable: Raw,
    stack: *const Raw,
    count: usize,
    names: Raw,
) -> Raw {
    // SAFETY: the interpreter passes an instance of this class, and a vectorcall's arguments.
    unsafe {
        let this = Any::from_raw(callable).cast_unchecked::<CoroutineFunction>();
        match this.entry {
            Entry::Arguments(function) => {
                let count = ffi::PyVectorcall_NARGS(count);
                function(ptr::null_mut(), stack, count, names)
            }
            _ => ffi::PyObject_Vectorcall(this.plain.raw(), stack, count, names),
        }
    }
}

/// The call of a method, whose first argument is the instance.
unsafe extern "C" fn call_method(
    callable: Raw,
    stack: *const Raw,
    count: usize,
    names: Raw,
) -> Raw {
    // SAFETY: the interpreter passes an instance of this class, and a vectorcall's arguments; the first of them
    // is known to be an instance of the method's class where it is passed on.
    unsafe {
        let this = Any::from_raw(callable).cast_unchecked::<CoroutineFunction>();
        let given = ffi::PyVectorcall_NARGS(count);
        if given > 0 {
            let object = *stack;
            let class = ffi::Py_TYPE(object);
            // Most are of the class itself or, as loops, of one derived from it: no need to look further then.
            if class == this.class
                || (*class).tp_base == this.class
                || ffi::PyType_IsSubtype(class, this.class) != 0
            {
                match this.entry {
                    Entry::NoArguments(function) if given == 1 && names.is_null() => {
                        return function(object, ptr::null_mut());
                    }
                    Entry::Arguments(function) => {
                        return function(object, stack.add(1), given - 1, names);
                    }
                    _ => {}
                }
            }
        }
        ffi::PyObject_Vectorcall(this.plain.raw(), stack, count, names)
    }
}

/// `__get__`: a bound method, as a function of Python code gives.
unsafe extern "C" fn bind(callable: Raw, object: Raw, _: Raw) -> Raw {
    extern "C" {
        fn PyMethod_New(function: Raw, object: Raw) -> Raw;
    }
    guard(|| {
        // SAFETY: both are alive; null stands for access on the class.
        unsafe {
            if object.is_null() || object == ffi::Py_None() {
                return Ok(Any::from_raw(callable).own());
            }
            Obj::steal_or_raised(PyMethod_New(callable, object))
        }
    })
}

impl CoroutineFunction {
    fn likeness(&self) -> PyResult<Obj> {
        if let Some(made) = self.likeness.get() {
            return Ok(made);
        }
        let (name, parameters) = (self.name, self.parameters.replace("$self", "self"));
        let namespace = value::dict()?;
        namespace.dict_set(intern!("__name__"), &self.module)?;
        let source = value::str(&format!("async def {name}{parameters}: pass"))?;
        import!("builtins", "exec")?.call(&[&source, &namespace])?;
        match namespace.dict_get(&*value::str(name)?)? {
            Some(made) => {
                self.likeness.set(made.clone());
                Ok(made)
            }
            None => Err(raise!(
                crate::kit::err::system_error(),
                "ioxide: no function in its own definition"
            )),
        }
    }

    fn name(&self) -> PyResult<Obj> {
        value::str(self.name)
    }

    fn qualified_name(&self) -> PyResult<Obj> {
        self.plain.attr(intern!("__qualname__"))
    }

    fn repr(&self) -> PyResult<Obj> {
        value::str(&format!(
            "<coroutine function {}.{}>",
            self.module.str_text(),
            self.qualified_name()?.str_text()
        ))
    }
}

/// What an `async def` of the same signature has under this name.
macro_rules! likeness_getter {
    ($name:literal) => {
        getter!(
            CoroutineFunction,
            $name,
            |this: &CoroutineFunction| this.likeness()?.attr(intern!($name)),
            "As of an `async def` of the same signature."
        )
    };
}

/// Makes the class of these functions. Called before any is made.
pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<CoroutineFunction>(c"ioxide.coroutine_function")
        .callable(offset_of!(CoroutineFunction, vectorcall))
        .slot(ffi::Py_tp_descr_get, bind as *mut c_void)
        .slot(
            ffi::Py_tp_repr,
            unary!(CoroutineFunction, CoroutineFunction::repr),
        )
        .methods([method!(
            noargs CoroutineFunction,
            "__reduce__",
            CoroutineFunction::qualified_name,
            "Pickled by name."
        )])
        .getset([
            getter!(
                CoroutineFunction,
                "__name__",
                CoroutineFunction::name,
                "The name."
            ),
            getter!(
                CoroutineFunction,
                "__qualname__",
                CoroutineFunction::qualified_name,
                "The name, with that of the class."
            ),
            getter!(
                CoroutineFunction,
                "__module__",
                |this: &CoroutineFunction| this.module.clone(),
                "The module."
            ),
            getter!(
                CoroutineFunction,
                "__doc__",
                |this: &CoroutineFunction| this.plain.attr(intern!("__doc__")),
                "What it does."
            ),
            likeness_getter!("__code__"),
            likeness_getter!("__defaults__"),
            likeness_getter!("__kwdefaults__"),
            likeness_getter!("__annotations__"),
        ])
        .build(&CLASS)?;
    Ok(())
}

/// The name and the parameters that a doc begins with.
fn signature(method: &ffi::PyMethodDef) -> Option<(&'static str, &'static str)> {
    // SAFETY: names and docs of methods are C strings that live for ever.
    let (name, doc) = unsafe {
        (
            CStr::from_ptr(method.ml_name),
            CStr::from_ptr(method.ml_doc),
        )
    };
    let (name, doc) = (name.to_str().ok()?, doc.to_str().ok()?);
    let (head, _) = doc.split_once("\n--\n\n")?;
    Some((name, head.strip_prefix(name)?))
}

fn make(
    method: &ffi::PyMethodDef,
    class: *mut ffi::PyTypeObject,
    plain: Obj,
    module: Obj,
) -> PyResult<Own<CoroutineFunction>> {
    let Some((name, parameters)) = signature(method) else {
        return Err(raise!(
            crate::kit::err::system_error(),
            "ioxide: {} has no signature",
            plain.repr_text()
        ));
    };
    CoroutineFunction {
        head: Head::new(),
        vectorcall: if class.is_null() {
            call_function
        } else {
            call_method
        },
        entry: Entry::of(method),
        class,
        plain,
        name,
        parameters,
        module,
        likeness: ObjCell::empty(),
    }
    .make()
}

/// A coroutine function of the module, in the place of the built-in `plain` made from `method`.
pub(crate) fn function(method: &ffi::PyMethodDef, plain: Obj, module: &Any) -> PyResult<Obj> {
    make(method, ptr::null_mut(), plain, module.own()).map(Own::into_obj)
}

/// Puts coroutine functions into the place of the class's methods of these names.
pub(crate) fn replace_methods(
    class: &Any,
    methods: &[ffi::PyMethodDef],
    names: &[&str],
) -> PyResult<()> {
    let module = value::str("ioxide")?;
    for name in names {
        let method = methods.iter().find(|method| {
            // SAFETY: names of methods are C strings that live for ever; the last entry has none.
            !method.ml_name.is_null()
                && unsafe { CStr::from_ptr(method.ml_name) }.to_bytes() == name.as_bytes()
        });
        let Some(method) = method else {
            return Err(raise!(
                crate::kit::err::system_error(),
                "ioxide: {} has no method {}",
                class.repr_text(),
                name
            ));
        };
        let name = value::str(name)?;
        let plain = class.attr(&name)?;
        let made = make(method, class.raw().cast(), plain, module.clone())?;
        class.set_attr(&name, made.as_any())?;
    }
    Ok(())
}
