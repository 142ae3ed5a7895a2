//! What a native awaitable awaits in its turn, when that is not native: a coroutine driven from within another.

use super::is_native;
use crate::kit::send::{self, Sent};
use crate::kit::{err, ffi, Any, Obj, ObjCell, PyResult, Visitor};
use crate::{intern, raise};

/// The iterator of what is awaited, or nothing when it is over.
pub(crate) struct Inner(ObjCell);

impl Inner {
    pub(crate) const fn empty() -> Inner {
        Inner(ObjCell::empty())
    }

    /// Begins to await the object, as the `await` expression does; nothing runs yet.
    pub(crate) fn begin(&self, awaited: &Any) -> PyResult<()> {
        self.0.set(iterator_of(awaited)?);
        Ok(())
    }

    /// Goes on. What is yielded belongs to the task: the awaitable passes it on ([`Flow::Pass`](super::Flow)).
    pub(crate) fn resume(&self) -> PyResult<Sent> {
        let Some(inner) = self.0.get() else {
            return Err(raise!(err::runtime_error(), "nothing is awaited"));
        };
        self.note(send::send_none(&inner))
    }

    /// Raises the exception where the inner one waits.
    pub(crate) fn throw(&self, exception: &Any) -> PyResult<Sent> {
        let Some(inner) = self.0.get() else {
            return Err(err::raise_instance(exception));
        };
        if err::is_a(exception, err::generator_exit()) {
            // The end of who awaits is the end of what is awaited, not something to be caught there.
            self.0.clear();
            if let Some(close) = inner.attr_opt(intern!("close"))? {
                close.call0()?;
            }
            return Err(err::raise_instance(exception));
        }
        if inner.attr_opt(intern!("throw"))?.is_none() {
            self.0.clear();
            return Err(err::raise_instance(exception));
        }
        self.note(send::throw(&inner, exception))
    }

    /// The iterator, while it is not over.
    pub(crate) fn iterator(&self) -> Option<Obj> {
        self.0.get()
    }

    fn note(&self, sent: PyResult<Sent>) -> PyResult<Sent> {
        match &sent {
            Ok(Sent::Yielded(_)) => {}
            Ok(Sent::Returned(_)) => self.0.clear(),
            Err(_) => err::preserved(|| self.0.clear()),
        }
        sent
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.0);
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

/// `CO_ITERABLE_COROUTINE`: a generator that `types.coroutine` has made awaitable.
const ITERABLE_COROUTINE: i64 = 0x100;

/// The iterator behind `await object`.
fn iterator_of(object: &Any) -> PyResult<Obj> {
    // SAFETY: alive.
    if unsafe { ffi::PyCoro_CheckExact(object.raw()) != 0 } {
        if !object.attr(intern!("cr_await"))?.is_none() {
            return Err(raise!(
                err::runtime_error(),
                "coroutine is being awaited already"
            ));
        }
        return Ok(object.own());
    }
    if is_native(object) || is_iterable_coroutine(object)? {
        return Ok(object.own());
    }
    iterator_by_slot(object)
}

/// Whether the object is a generator that can be awaited.
fn is_iterable_coroutine(object: &Any) -> PyResult<bool> {
    // SAFETY: alive.
    if unsafe { ffi::PyGen_CheckExact(object.raw()) == 0 } {
        return Ok(false);
    }
    let flags = object.attr(intern!("gi_code"))?.attr(intern!("co_flags"))?;
    Ok(flags.to_i64()? & ITERABLE_COROUTINE != 0)
}

/// What `__await__` returns.
fn iterator_by_slot(object: &Any) -> PyResult<Obj> {
    // SAFETY: a live object's type; the table of slots lives as long.
    let slot = unsafe {
        let methods = (*object.type_raw()).tp_as_async;
        if methods.is_null() {
            None
        } else {
            (*methods).am_await
        }
    };
    let Some(slot) = slot else {
        return Err(raise!(
            err::type_error(),
            "'{}' object can't be awaited",
            object.type_name()
        ));
    };
    // SAFETY: the slot of the object's own type; a new reference or null.
    let iterator = unsafe { Obj::steal_or_raised(slot(object.raw()))? };
    // SAFETY: alive.
    let is_coroutine = unsafe { ffi::PyCoro_CheckExact(iterator.raw()) != 0 };
    if is_coroutine || is_iterable_coroutine(&iterator)? {
        return Err(raise!(
            err::type_error(),
            "__await__() returned a coroutine"
        ));
    }
    // SAFETY: alive.
    if unsafe { ffi::PyIter_Check(iterator.raw()) == 0 } {
        return Err(raise!(
            err::type_error(),
            "__await__() returned non-iterator of type '{}'",
            iterator.type_name()
        ));
    }
    Ok(iterator)
}
