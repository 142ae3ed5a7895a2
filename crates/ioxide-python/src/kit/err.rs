//! Exceptions: raising, taking, putting back, reporting.

use super::{ffi, value, Any, Obj};
use std::ptr;

/// An exception is set in this thread. The marker has no size: a `PyResult<Obj>` is one word, as in C.
#[derive(Clone, Copy, Debug)]
#[must_use = "an exception is set and must reach somebody"]
pub(crate) struct Raised;

pub(crate) type PyResult<T> = Result<T, Raised>;

/// Raises `class(message)`.
#[cold]
pub(crate) fn raise(class: &Any, message: &str) -> Raised {
    if let Ok(text) = value::str(message) {
        // SAFETY: both are alive.
        unsafe { ffi::PyErr_SetObject(class.raw(), text.raw()) };
    }
    Raised
}

/// Raises `class()`.
#[cold]
pub(crate) fn raise_bare(class: &Any) -> Raised {
    // SAFETY: alive.
    unsafe { ffi::PyErr_SetNone(class.raw()) };
    Raised
}

/// Raises an exception that exists already.
#[cold]
pub(crate) fn raise_instance(exception: &Any) -> Raised {
    // SAFETY: both are alive.
    unsafe { ffi::PyErr_SetObject(exception.class().raw(), exception.raw()) };
    Raised
}

/// Sets the exception as the current one, its traceback untouched and no context added.
pub(crate) fn restore(exception: Obj) -> Raised {
    #[cfg(Py_3_12)]
    // SAFETY: the reference is given away.
    unsafe {
        ffi::PyErr_SetRaisedException(exception.into_raw());
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: three references are given away; a missing traceback is null.
    unsafe {
        let traceback = ffi::PyException_GetTraceback(exception.raw());
        let class = exception.class().own().into_raw();
        ffi::PyErr_Restore(class, exception.into_raw(), traceback);
    }
    Raised
}

/// Takes the exception that is set, as an instance with its traceback. `SystemError` if there is none.
pub(crate) fn take(_: Raised) -> Obj {
    match take_any() {
        Some(exception) => exception,
        None => {
            let _ = raise(system_error(), "error return without exception set");
            take_any().unwrap_or_else(Obj::none)
        }
    }
}

/// Takes the exception that is set, if one is.
pub(crate) fn take_any() -> Option<Obj> {
    #[cfg(Py_3_12)]
    // SAFETY: the reference, if any, is ours.
    unsafe {
        let raw = ffi::PyErr_GetRaisedException();
        (!raw.is_null()).then(|| Obj::steal(raw))
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: fetch gives three references or nulls; normalising makes the value an instance.
    unsafe {
        let (mut class, mut instance, mut traceback) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        ffi::PyErr_Fetch(&mut class, &mut instance, &mut traceback);
        if class.is_null() {
            return None;
        }
        ffi::PyErr_NormalizeException(&mut class, &mut instance, &mut traceback);
        if !traceback.is_null() && !instance.is_null() {
            ffi::PyException_SetTraceback(instance, traceback);
        }
        ffi::Py_XDECREF(traceback);
        ffi::Py_XDECREF(class);
        (!instance.is_null()).then(|| Obj::steal(instance))
    }
}

/// Whether an exception is set.
#[inline(always)]
pub(crate) fn is_set() -> bool {
    // SAFETY: no precondition but the lock.
    unsafe { !ffi::PyErr_Occurred().is_null() }
}

/// Whether the exception that is set is of this class.
pub(crate) fn matches(class: &Any) -> bool {
    // SAFETY: an exception is set or the answer is no.
    unsafe { !ffi::PyErr_Occurred().is_null() && ffi::PyErr_ExceptionMatches(class.raw()) != 0 }
}

/// Forgets the exception that is set.
pub(crate) fn discard(_: Raised) {
    // SAFETY: no precondition but the lock.
    unsafe { ffi::PyErr_Clear() }
}

/// Runs `f` with whatever exception is set put aside, and puts it back afterwards.
pub(crate) fn preserved<R>(f: impl FnOnce() -> R) -> R {
    let pending = take_any();
    let result = f();
    if let Some(exception) = pending {
        let _ = restore(exception);
    }
    result
}

/// For exceptions that have nowhere to go: `sys.unraisablehook`.
pub(crate) fn unraisable(_: Raised, source: &Any) {
    // SAFETY: both are alive; an exception is set.
    unsafe { ffi::PyErr_WriteUnraisable(source.raw()) }
}

/// Whether `exception` is an instance of `class`.
pub(crate) fn is_a(exception: &Any, class: &Any) -> bool {
    // SAFETY: both are alive; exception classes have no `__instancecheck__` of their own here.
    unsafe { ffi::PyErr_GivenExceptionMatches(exception.raw(), class.raw()) != 0 }
}

/// Raises the `OSError` (or its subclass) of this errno, as the interpreter words it.
pub(crate) fn raise_os(error: &std::io::Error) -> Raised {
    let Some(code) = error.raw_os_error() else {
        return raise(os_error(), &error.to_string());
    };
    // SAFETY: errno is this thread's; the call only sets an exception.
    unsafe {
        *libc::__errno_location() = code;
        ffi::PyErr_SetFromErrno(ffi::PyExc_OSError);
    }
    Raised
}

/// As [`raise_os`], about the file of this name.
pub(crate) fn raise_os_named(error: &std::io::Error, name: &Any) -> Raised {
    let Some(code) = error.raw_os_error() else {
        return raise(os_error(), &error.to_string());
    };
    // SAFETY: errno is this thread's; the name is alive; the call only sets an exception.
    unsafe {
        *libc::__errno_location() = code;
        ffi::PyErr_SetFromErrnoWithFilenameObject(ffi::PyExc_OSError, name.raw());
    }
    Raised
}

/// A warning of this category; an error if warnings are errors.
pub(crate) fn warn(category: &Any, message: &str, stacklevel: isize) -> PyResult<()> {
    let text = value::c_string(message)?;
    // SAFETY: category and text are alive.
    match unsafe { ffi::PyErr_WarnEx(category.raw(), text.as_ptr(), stacklevel) } {
        0 => Ok(()),
        _ => Err(Raised),
    }
}

/// A `ResourceWarning` about an object that dies unclosed; an error in it goes to the unraisable hook.
pub(crate) fn warn_unclosed(source: &Any, message: &str) {
    preserved(|| {
        let Ok(text) = value::c_string(message) else {
            return;
        };
        // SAFETY: source is alive (being finalized), the format takes one string.
        let failed = unsafe {
            ffi::PyErr_ResourceWarning(source.raw(), 1, c"%s".as_ptr(), text.as_ptr()) != 0
        };
        if failed {
            unraisable(Raised, source);
        }
    });
}

macro_rules! exceptions {
    ($($name:ident = $static:ident),* $(,)?) => {
        $(
            #[allow(dead_code, reason = "the list is the interpreter's, not today's use of it")]
            #[inline(always)]
            pub(crate) fn $name() -> &'static Any {
                // SAFETY: the interpreter's exception classes are immortal for our purposes.
                unsafe { Any::from_raw(ffi::$static) }
            }
        )*
    };
}

exceptions! {
    base_exception = PyExc_BaseException,
    exception = PyExc_Exception,
    value_error = PyExc_ValueError,
    unicode_error = PyExc_UnicodeError,
    type_error = PyExc_TypeError,
    runtime_error = PyExc_RuntimeError,
    attribute_error = PyExc_AttributeError,
    index_error = PyExc_IndexError,
    key_error = PyExc_KeyError,
    system_error = PyExc_SystemError,
    system_exit = PyExc_SystemExit,
    keyboard_interrupt = PyExc_KeyboardInterrupt,
    stop_iteration = PyExc_StopIteration,
    stop_async_iteration = PyExc_StopAsyncIteration,
    generator_exit = PyExc_GeneratorExit,
    os_error = PyExc_OSError,
    timeout_error = PyExc_TimeoutError,
    connection_error = PyExc_ConnectionError,
    connection_reset = PyExc_ConnectionResetError,
    connection_aborted = PyExc_ConnectionAbortedError,
    broken_pipe = PyExc_BrokenPipeError,
    blocking_io = PyExc_BlockingIOError,
    interrupted = PyExc_InterruptedError,
    not_implemented = PyExc_NotImplementedError,
    process_lookup = PyExc_ProcessLookupError,
    overflow_error = PyExc_OverflowError,
    import_error = PyExc_ImportError,
    buffer_error = PyExc_BufferError,
    assertion_error = PyExc_AssertionError,
    resource_warning = PyExc_ResourceWarning,
    runtime_warning = PyExc_RuntimeWarning,
    deprecation_warning = PyExc_DeprecationWarning,
}

/// Raises with a formatted message: `raise!(err::value_error(), "no {x}")`.
#[macro_export]
macro_rules! raise {
    ($class:expr, $($format:tt)+) => {
        $crate::kit::err::raise($class, &format!($($format)+))
    };
}

#[cfg(Py_3_12)]
const _: fn() -> *mut u8 = ptr::null_mut; // the import is used on older versions only
