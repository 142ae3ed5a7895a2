//! The iterator behind `await future`.

use super::settle;
use super::view::FutureView;
use crate::kit::class::FreeList;
use crate::kit::send::{self, Sent};
use crate::kit::{
    err, ffi, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, PyResult, Raised, Raw,
    Signature, Visitor,
};
use crate::raise;
use std::ffi::c_void;

/// Yields the future once, then returns its result.
#[repr(C)]
pub(crate) struct FutureIter {
    head: Head,
    future: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for FutureIter {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        true
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.future);
    }

    fn clear(&self) {
        self.future.clear();
    }
}

impl FutureIter {
    /// The iterator of `future`, which is native.
    #[inline]
    pub(crate) fn of(future: &Any) -> PyResult<Obj> {
        let body = FutureIter {
            head: Head::new(),
            future: ObjCell::new(future.own()),
        };
        body.make().map(crate::kit::Own::into_obj)
    }

    /// What the future yields; `Ok(None)` when it is over, the result having been taken.
    fn advance(&self) -> PyResult<Sent> {
        let Some(future) = self.future.get() else {
            return Ok(Sent::Returned(Obj::none()));
        };
        let Some(view) = FutureView::of(&future) else {
            return Ok(Sent::Returned(Obj::none()));
        };
        if view.base.is_pending() {
            if view.base.blocking() {
                return Err(raise!(
                    err::runtime_error(),
                    "await wasn't used with future"
                ));
            }
            view.base.set_blocking(true);
            return Ok(Sent::Yielded(future));
        }
        self.future.clear();
        settle::result(view).map(Sent::Returned)
    }

    fn throw(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<3> =
            Signature::new("throw", ["type", "value", "traceback"], 1).positional_only(3);
        let [class, value, traceback] = args.bind(&SIGNATURE)?;
        self.future.clear();
        Err(raise_thrown(class, value, traceback)?)
    }

    fn close(&self) {
        self.future.clear();
    }
}

/// Sets the exception that the arguments of `throw()` name.
pub(crate) fn raise_thrown(
    class: Option<&Any>,
    value: Option<&Any>,
    traceback: Option<&Any>,
) -> PyResult<Raised> {
    let class = class.ok_or_else(|| raise!(err::type_error(), "throw() needs an exception"))?;
    if value.is_some() || traceback.is_some() {
        err::warn(
            err::deprecation_warning(),
            "the (type, exc, tb) signature of throw() is deprecated, \
             use the single-arg signature instead.",
            1,
        )?;
    }
    // SAFETY: alive.
    let is_instance = unsafe { ffi::PyExceptionInstance_Check(class.raw()) != 0 };
    let value = value.and_then(Any::some);
    let exception = match value {
        _ if is_instance && value.is_some() => {
            return Err(raise!(
                err::type_error(),
                "instance exception may not have a separate value"
            ))
        }
        _ if is_instance => class.own(),
        // SAFETY: alive.
        _ if unsafe { ffi::PyExceptionClass_Check(class.raw()) == 0 } => {
            return Err(raise!(
                err::type_error(),
                "exceptions must be classes deriving BaseException or instances of such a class"
            ))
        }
        Some(value) if value.is_instance(class)? => value.own(),
        Some(value) if value.is_tuple() => class.call_slice(value.tuple_items())?,
        Some(value) => class.call1(value)?,
        None => class.call0()?,
    };
    if let Some(traceback) = traceback.and_then(Any::some) {
        // SAFETY: an exception and an object that is checked to be a traceback.
        if unsafe { ffi::PyException_SetTraceback(exception.raw(), traceback.raw()) } < 0 {
            return Err(Raised);
        }
    }
    Ok(err::raise_instance(&exception))
}

unsafe extern "C" fn next(object: Raw) -> Raw {
    // SAFETY: the interpreter passes an instance.
    let this = unsafe { Any::from_raw(object).cast_unchecked::<FutureIter>() };
    send::iternext(|| this.advance())
}

unsafe extern "C" fn am_send(object: Raw, _value: Raw, result: *mut Raw) -> ffi::PySendResult {
    // SAFETY: the interpreter passes an instance and a place for the result.
    unsafe {
        let this = Any::from_raw(object).cast_unchecked::<FutureIter>();
        send::am_send(result, || this.advance())
    }
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<FutureIter>(c"ioxide.FutureIter")
        .slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as *mut c_void)
        .slot(ffi::Py_tp_iternext, next as *mut c_void)
        .slot(ffi::Py_am_send, am_send as *mut c_void)
        .methods([
            crate::method!(onearg FutureIter, "send", |this: &FutureIter, _: &Any| send::as_call(this.advance()), "Resumes."),
            crate::method!(args FutureIter, "throw", FutureIter::throw, "Raises the exception."),
            crate::method!(noargs FutureIter, "close", FutureIter::close, "Ends."),
        ])
        .build(&CLASS)?;
    Ok(())
}
