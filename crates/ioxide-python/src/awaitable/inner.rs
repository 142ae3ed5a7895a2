//! What a native awaitable awaits in its turn, when that is not native: a coroutine driven from within another.

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
        self.0.set(iterator(awaited)?);
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
        if inner.attr_opt(intern!("throw"))?.is_none() {
            self.0.clear();
            return Err(err::raise_instance(exception));
        }
        self.note(send::throw(&inner, exception))
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

fn iterator(awaited: &Any) -> PyResult<Obj> {
    // SAFETY: alive.
    let resumable = unsafe {
        ffi::PyCoro_CheckExact(awaited.raw()) != 0 || ffi::PyGen_CheckExact(awaited.raw()) != 0
    };
    if resumable || super::is_native(awaited) {
        return Ok(awaited.own());
    }
    match awaited.attr_opt(intern!("__await__"))? {
        Some(method) => method.call0(),
        None => Err(raise!(
            err::type_error(),
            "object {} can't be used in 'await' expression",
            awaited.type_name()
        )),
    }
}
