//! Streams: a reader and a writer for coroutines, and the protocol that connects them to a transport.
//!
//! The bytes go `transport → protocol → reader → whoever reads`. Where all of them are ours they do so without a
//! Python call; each also works with a stranger in its place (a mock, a subclass, the standard library's).

mod client;
mod closing;
mod draining;
pub(crate) mod factory;
mod flow;
mod operation;
pub(crate) mod protocol;
pub(crate) mod reader;
mod reading;
mod storage;
pub(crate) mod writer;

use crate::kit::{err, ffi, value, Any, ObjCell, PyResult, Raised};
use crate::{intern, raise};
use std::cell::Cell;

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
            |this: &$class, value: Option<&Any>| $crate::streams::assign_flag(&this.$field, value),
            $doc
        )
    };
}

pub(crate) use {field, flag};

/// Sets the field behind a property; `None` empties it.
pub(crate) fn assign(cell: &ObjCell, value: Option<&Any>) -> PyResult<()> {
    drop(cell.replace(required(value)?.some().map(Any::own)));
    Ok(())
}

/// As [`assign`], for a flag.
pub(crate) fn assign_flag(cell: &Cell<bool>, value: Option<&Any>) -> PyResult<()> {
    let value = required(value)?.truthy()?;
    cell.set(value);
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
    reader::build()?;
    draining::build()?;
    closing::build()?;
    writer::build()?;
    protocol::build()?;
    factory::build()
}
