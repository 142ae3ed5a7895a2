//! What combines awaitables: `gather`, `wait`, `wait_for`, `as_completed`, `shield`, and what makes futures of
//! other things.
//!
//! Each is a native object that the futures tell when they are done ([`Target`](crate::runtime::target::Target)),
//! so no Python code runs for a child. Events come in the turns in which asyncio's own come: a child is done in
//! one turn, the combinator is told in the next, who awaits it goes on in the one after.

pub(crate) mod as_completed;
pub(crate) mod awaited_by;
pub(crate) mod chain;
pub(crate) mod child;
pub(crate) mod distinct;
pub(crate) mod eager;
pub(crate) mod ensure_future;
pub(crate) mod gather;
pub(crate) mod shield;
pub(crate) mod wait;
pub(crate) mod wait_for;

use crate::kit::{Any, Obj, PyResult};

/// The task for whose sake a future is awaited, where the interpreter keeps a graph of who awaits whom.
#[inline]
pub(crate) fn awaiter() -> PyResult<Option<Obj>> {
    #[cfg(Py_3_14)]
    return crate::running::running_task();
    #[cfg(not(Py_3_14))]
    Ok(None)
}

/// Notes that `awaiter`, if there is one, awaits `future`.
#[inline]
pub(crate) fn add_edge(future: &Any, awaiter: Option<&Any>) -> PyResult<()> {
    match awaiter {
        Some(awaiter) => crate::task::awaited_by::add(future, awaiter),
        None => Ok(()),
    }
}

/// Takes the note back.
#[inline]
pub(crate) fn remove_edge(future: &Any, awaiter: Option<&Any>) -> PyResult<()> {
    match awaiter {
        Some(awaiter) => crate::task::awaited_by::discard(future, awaiter),
        None => Ok(()),
    }
}

pub(crate) fn build() -> PyResult<()> {
    gather::build()?;
    wait::build()?;
    wait_for::build()?;
    as_completed::build()?;
    shield::build()?;
    chain::build()?;
    eager::build()
}
