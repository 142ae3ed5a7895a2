//! Streams: a reader and a writer for coroutines, and the protocol that connects them to a transport.
//!
//! The bytes go `transport → protocol → reader → whoever reads`. Where all of them are ours they do so without a
//! Python call; each also works with a stranger in its place (a mock, a subclass, the standard library's).

mod operation;
pub(crate) mod reader;
mod reading;
mod storage;

use crate::kit::{err, ffi, value, Any, Obj, ObjCell, PyResult, Raised};
use crate::runtime::EventLoop;
use crate::{intern, raise};

/// Bytes: a reader's limit unless told otherwise; twice as many hold the peer back.
const DEFAULT_LIMIT: usize = 1 << 16;

/// A property that shows an [`ObjCell`], `None` where it is empty, and that can be set.
macro_rules! field {
    ($class:ty, $name:literal, $field:ident, $doc:literal) => {
        $crate::getter!(
            $class,
            $name,
            |this: &$class| this.$field.get_or_none(),
            |this: &$class, value: Option<&Any>| $crate::streams::assign(&this.$field, value),
            $doc
        )
    };
}

/// A property that shows a `Cell<bool>` and that can be set.
macro_rules! flag {
    ($class:ty, $name:literal, $field:ident, $doc:literal) => {
        $crate::getter!(
            $class,
            $name,
            |this: &$class| this.$field.get(),
            |this: &$class, value: Option<&Any>| -> PyResult<()> {
                let value = $crate::streams::required(value)?.truthy()?;
                this.$field.set(value);
                Ok(())
            },
            $doc
        )
    };
}

use {field, flag};

/// Sets the field behind a property; `None` empties it.
fn assign(cell: &ObjCell, value: Option<&Any>) -> PyResult<()> {
    drop(cell.replace(required(value)?.some().map(Any::own)));
    Ok(())
}

/// The value that a property is set to.
fn required(value: Option<&Any>) -> PyResult<&Any> {
    value.ok_or_else(|| raise!(err::attribute_error(), "cannot delete attribute"))
}

/// `raise exception`, which may be a class.
fn raise_exception(exception: &Any) -> Raised {
    // SAFETY: alive; a class is raised as it is, and made into an instance by the interpreter.
    unsafe {
        if ffi::PyExceptionClass_Check(exception.raw()) != 0 {
            ffi::PyErr_SetNone(exception.raw());
            return Raised;
        }
    }
    err::raise_instance(exception)
}

/// The loop given, or the current one.
fn loop_or_current(given: Option<&Any>) -> PyResult<Obj> {
    match given.and_then(Any::some) {
        Some(event_loop) => Ok(event_loop.own()),
        None => crate::kit::names::import_now("asyncio.events", "get_event_loop")?.call0(),
    }
}

fn is_debugging(event_loop: &Any) -> PyResult<bool> {
    match EventLoop::exact(event_loop) {
        Some(native) => Ok(native.debug()),
        None => event_loop.method0(intern!("get_debug"))?.truthy(),
    }
}

/// Tells the loop's exception handler.
fn report(event_loop: &Any, entries: &[(&'static Any, &Any)]) -> PyResult<()> {
    let context = value::dict()?;
    for (key, entry) in entries {
        context.dict_set(key, entry)?;
    }
    event_loop
        .method(intern!("call_exception_handler"), &[&context])
        .map(drop)
}

pub(crate) fn build() -> PyResult<()> {
    reading::build()?;
    reader::build()
}
