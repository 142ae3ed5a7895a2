//! Lock, Event, Condition, Semaphore, Barrier and Queue: what tasks coordinate by. Here: what they share.
//!
//! Waiting needs no future: the awaitable itself stands in the primitive's [wait list](waiters) and the task is
//! parked on it. Who is put into a list when, who is taken out and who is woken follows asyncio to the letter,
//! so that the complete order of events is the same.
//!
//! # Invariants
//! 1. A waiter stays in the list of a Lock, Event, Condition or Semaphore until its own step has run; in the
//!    lists of a Queue until it is woken.
//! 2. Nothing of a list is borrowed while Python code runs: a foreign waiter's methods may change the list.

mod acquire;
mod barrier;
mod bound;
mod condition;
mod entering;
mod event;
mod lock;
mod queue;
mod semaphore;
mod waiters;

use crate::kit::{err, ffi, value, Any, Class, Native, Obj, ObjCell, Own, PyResult};
use crate::raise;
use std::ffi::CStr;
use waiters::WaitList;

/// Whether the object is exactly of this class and has no attributes of its own, so that nothing of it can be
/// overridden and its methods need not be looked up.
#[inline(always)]
fn is_plain(object: &Any, class: &Class, dict: &ObjCell) -> bool {
    object.type_raw() == class.raw() && dict.is_empty()
}

/// What an awaitable that may be used [again](crate::awaitable::again) belongs to, until it is over.
#[inline]
fn held<T: Native>(cell: &ObjCell) -> PyResult<Own<T>> {
    match cell.get() {
        // SAFETY: just checked.
        Some(owner) if T::class().is_instance(&owner) => Ok(unsafe { Own::from_obj(owner) }),
        _ => Err(raise!(
            err::runtime_error(),
            "cannot reuse already awaited coroutine"
        )),
    }
}

/// `<ioxide.Lock object at 0x… [locked, waiters:2]>`.
fn describe(object: &Any, state: &str, waiters: &WaitList) -> PyResult<Obj> {
    let plain = plain_repr(object)?;
    let inner = plain
        .to_str()?
        .trim_start_matches('<')
        .trim_end_matches('>');
    let text = match waiters.len() {
        0 => format!("<{inner} [{state}]>"),
        count => format!("<{inner} [{state}, waiters:{count}]>"),
    };
    value::str(&text)
}

/// `object.__repr__(self)`.
fn plain_repr(object: &Any) -> PyResult<Obj> {
    // SAFETY: the type of all objects is never freed; its `repr` takes any object.
    unsafe {
        match ffi::PyBaseObject_Type.tp_repr {
            Some(repr) => Obj::steal_or_raised(repr(object.raw())),
            None => object.repr(),
        }
    }
}

/// What the module exports.
pub(crate) fn classes() -> [(&'static CStr, &'static Any); 9] {
    [
        (c"Lock", lock::Lock::class().object()),
        (c"Event", event::Event::class().object()),
        (c"Condition", condition::Condition::class().object()),
        (c"Semaphore", semaphore::Semaphore::class().object()),
        (
            c"BoundedSemaphore",
            semaphore::BoundedSemaphore::class().object(),
        ),
        (c"Barrier", barrier::Barrier::class().object()),
        (c"Queue", queue::Queue::class().object()),
        (c"LifoQueue", queue::LifoQueue::class().object()),
        (c"PriorityQueue", queue::PriorityQueue::class().object()),
    ]
}

pub(crate) fn build() -> PyResult<()> {
    waiters::build()?;
    entering::build()?;
    lock::build()?;
    event::build()?;
    condition::build()?;
    semaphore::build()?;
    barrier::build()?;
    queue::build()
}
