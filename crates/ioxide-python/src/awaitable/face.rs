//! A native awaitable as the interpreter and Python code see it: an iterator that looks like a coroutine.

use super::{Awaitable, State, Wait};
use crate::kit::send;
use crate::kit::{err, ffi, Any, Args, ClassSpec, Native, Obj, PyResult, Raw, Signature};
use std::ffi::c_void;

/// Whether the object is a native awaitable.
#[inline(always)]
pub(crate) fn is_native(object: &Any) -> bool {
    // SAFETY: a live object's type; comparing addresses of a function that only our classes have.
    unsafe {
        (*object.type_raw())
            .tp_iternext
            .is_some_and(|slot| slot as usize == next as *const () as usize)
    }
}

/// The head of a native awaitable, or nothing for any other object.
#[inline(always)]
pub(crate) fn wait_of(object: &Any) -> Option<&Wait> {
    // SAFETY: just checked.
    is_native(object).then(|| unsafe { object.cast_wait() })
}

unsafe extern "C" fn next(object: Raw) -> Raw {
    // SAFETY: this slot is only in classes of native awaitables.
    let wait = unsafe { Any::from_raw(object).cast_wait() };
    send::iternext(|| wait.advance())
}

unsafe extern "C" fn am_send(object: Raw, _value: Raw, result: *mut Raw) -> ffi::PySendResult {
    // SAFETY: as above; the interpreter passes a place for the result.
    unsafe {
        let wait = Any::from_raw(object).cast_wait();
        send::am_send(result, || wait.advance())
    }
}

fn throw_method(wait: &Wait, args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<3> =
        Signature::new("throw", ["type", "value", "traceback"], 1).positional_only(3);
    let [class, value, traceback] = args.bind(&SIGNATURE)?;
    if let (Some(thrown), None, None) = (class, value, traceback) {
        // SAFETY: alive.
        if unsafe { ffi::PyExceptionInstance_Check(thrown.raw()) != 0 } {
            return send::as_call(wait.throw(thrown.own()));
        }
    }
    let raised = crate::future::awaiting::raise_thrown(class, value, traceback)?;
    send::as_call(wait.throw(err::take(raised)))
}

/// The spec of an awaitable class, with all that makes it look like a coroutine.
pub(crate) fn spec<T: Awaitable>(name: &'static std::ffi::CStr) -> ClassSpec {
    ClassSpec::new::<T>(name)
        .slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as *mut c_void)
        .slot(ffi::Py_tp_iternext, next as *mut c_void)
        .slot(ffi::Py_am_await, ffi::PyObject_SelfIter as *mut c_void)
        .slot(ffi::Py_am_send, am_send as *mut c_void)
        .methods([
            crate::method!(onearg AnyAwaitable, "send",
                |this: &AnyAwaitable, _: &Any| send::as_call(this.0.advance()), "Resumes."),
            crate::method!(args AnyAwaitable, "throw",
                |this: &AnyAwaitable, args: Args<'_>| throw_method(&this.0, args),
                "Raises the exception where this waits."),
            crate::method!(noargs AnyAwaitable, "close",
                |this: &AnyAwaitable| this.0.close(), "Ends, as if by GeneratorExit."),
            crate::method!(noargs AnyAwaitable, "done",
                |this: &AnyAwaitable| !this.0.is_waiting(), "Whether nobody waits any more."),
            crate::method!(noargs AnyAwaitable, "cancelled",
                |this: &AnyAwaitable| this.0.is_cancelled(), "Whether the waiting was cancelled."),
        ])
        .getset([
            crate::getter!(
                AnyAwaitable,
                "__name__",
                |this: &AnyAwaitable| crate::kit::value::str(short_name(this.0.kind.name)),
                "The name."
            ),
            crate::getter!(
                AnyAwaitable,
                "__qualname__",
                |this: &AnyAwaitable| crate::kit::value::str(this.0.kind.name),
                "The qualified name."
            ),
            crate::getter!(
                AnyAwaitable,
                "cr_await",
                |this: &AnyAwaitable| this.0.awaited().unwrap_or_else(Obj::none),
                "What this awaits."
            ),
            crate::getter!(
                AnyAwaitable,
                "cr_suspended",
                |this: &AnyAwaitable| !matches!(this.0.state.get(), State::Fresh | State::Done),
                "Whether begun and not over."
            ),
            crate::getter!(
                AnyAwaitable,
                "cr_running",
                |_: &AnyAwaitable| false,
                "Never."
            ),
            crate::getter!(
                AnyAwaitable,
                "cr_frame",
                |_: &AnyAwaitable| Obj::none(),
                "None: native."
            ),
        ])
}

fn short_name(name: &'static str) -> &'static str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Some native awaitable, for the methods that all of them share.
#[repr(C)]
struct AnyAwaitable(Wait);

// SAFETY: only used to read the head of objects that begin with it; no class is made of it.
unsafe impl Native for AnyAwaitable {
    type Extra = ();

    fn class() -> &'static crate::kit::Class {
        static NEVER: crate::kit::Class = crate::kit::Class::new();
        &NEVER
    }
}
