//! The one list of those who wait, first in, first out, and the face that it shows to Python code.
//!
//! A waiter is a native awaitable, or anything like a future (`done`, `cancelled`, `set_result`) that Python code
//! has put there.

use crate::awaitable::{self, Awaitable};
use crate::kit::{
    err, ffi, value, Any, Class, ClassSpec, Head, Native, Obj, PyResult, Raw, Visitor,
};
use crate::{intern, raise};
use std::cell::UnsafeCell;
use std::collections::VecDeque;

/// What a future in the list gets as its result when it is woken.
#[derive(Clone, Copy)]
pub(crate) enum Wakes {
    True,
    False,
    None,
}

/// The list.
pub(crate) struct WaitList {
    list: UnsafeCell<VecDeque<Obj>>,
    wakes: Wakes,
}

impl WaitList {
    pub(crate) const fn new(wakes: Wakes) -> WaitList {
        WaitList {
            list: UnsafeCell::new(VecDeque::new()),
            wakes,
        }
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn list(&self) -> &mut VecDeque<Obj> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.list.get() }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.list().len()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    #[inline]
    pub(crate) fn push(&self, waiter: &Any) {
        self.list().push_back(waiter.own());
    }

    #[inline]
    fn pop(&self) -> Option<Obj> {
        self.list().pop_front()
    }

    #[inline]
    fn get(&self, index: usize) -> Option<Obj> {
        self.list().get(index).cloned()
    }

    /// Takes this very waiter out, wherever it stands; false if it is not there.
    #[inline]
    pub(crate) fn remove(&self, waiter: &Any) -> bool {
        let list = self.list();
        let found = match list.front() {
            Some(first) if first.is(waiter) => list.pop_front(),
            _ => list
                .iter()
                .position(|other| other.is(waiter))
                .and_then(|index| list.remove(index)),
        };
        found.is_some()
    }

    /// Whether nobody in the list still wants anything.
    #[inline]
    pub(crate) fn all_cancelled(&self) -> PyResult<bool> {
        let mut index = 0;
        while let Some(waiter) = self.get(index) {
            if !is_cancelled(&waiter)? {
                return Ok(false);
            }
            index += 1;
        }
        Ok(true)
    }

    /// Wakes the first, unless it is on its way already. It stays in the list.
    #[inline]
    pub(crate) fn wake_first(&self) -> PyResult<()> {
        match self.get(0) {
            Some(first) => self.wake(&first).map(drop),
            None => Ok(()),
        }
    }

    /// Wakes the first `count` of those who still wait; says how many there were. They stay in the list.
    #[inline]
    pub(crate) fn wake_some(&self, count: usize) -> PyResult<usize> {
        let (mut index, mut woken) = (0, 0);
        while woken < count {
            let Some(waiter) = self.get(index) else { break };
            woken += usize::from(self.wake(&waiter)?);
            index += 1;
        }
        Ok(woken)
    }

    /// Wakes the first who still waits, and takes out everybody up to it.
    #[inline]
    pub(crate) fn release_next(&self) -> PyResult<()> {
        while let Some(waiter) = self.pop() {
            if self.wake(&waiter)? {
                break;
            }
        }
        Ok(())
    }

    /// Wakes everybody, and takes them out.
    pub(crate) fn release_all(&self) -> PyResult<()> {
        while let Some(waiter) = self.pop() {
            self.wake(&waiter)?;
        }
        Ok(())
    }

    /// Wakes a waiter; false if it does not wait any more.
    #[inline]
    fn wake(&self, waiter: &Any) -> PyResult<bool> {
        if let Some(wait) = awaitable::wait_of(waiter) {
            return wait.wake_if_waiting();
        }
        if waiter.method0(intern!("done"))?.truthy()? {
            return Ok(false);
        }
        let result = match self.wakes {
            Wakes::True => value::bool(true),
            Wakes::False => value::bool(false),
            Wakes::None => Obj::none(),
        };
        waiter.method(intern!("set_result"), &[&result])?;
        Ok(true)
    }

    fn objects(&self) -> Vec<Obj> {
        self.list().iter().cloned().collect()
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for waiter in self.list().iter() {
            visitor.object(waiter);
        }
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(self.list());
        drop(dropped);
    }

    /// The list as Python code sees it: `_waiters`, `_getters`, `_putters`.
    ///
    /// # Safety
    /// The list is a field of `owner`.
    pub(crate) unsafe fn view(&self, owner: &Any) -> PyResult<Obj> {
        let view = Waiters {
            head: Head::new(),
            owner: owner.own(),
            list: self,
        };
        Ok(view.make()?.into_obj())
    }
}

fn is_cancelled(waiter: &Any) -> PyResult<bool> {
    match awaitable::wait_of(waiter) {
        Some(wait) => Ok(wait.is_cancelled()),
        None => waiter.method0(intern!("cancelled"))?.truthy(),
    }
}

/// The spec of an awaitable that stands in wait lists: Python code that takes it out may wake it as it would
/// wake a future.
pub(super) fn spec<T: Awaitable>(name: &'static std::ffi::CStr) -> ClassSpec {
    awaitable::spec::<T>(name).methods([
        crate::method!(onearg Waiters, "set_result", |this: &Waiters, _: &Any| -> PyResult<()> {
            match awaitable::wait_of(this.as_any()) {
                Some(wait) => wait.wake(),
                None => Ok(()),
            }
        }, "Wakes who waits."),
    ])
}

/// A wait list as Python code sees it, with the names of `collections.deque`.
#[repr(C)]
pub(crate) struct Waiters {
    head: Head,
    /// The primitive whose field the list is; not given up before the view dies.
    owner: Obj,
    list: *const WaitList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Waiters {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.owner);
    }
}

impl Waiters {
    pub(crate) fn list(&self) -> &WaitList {
        // SAFETY: a field of the owner, which is alive as long as the view and does not move.
        unsafe { &*self.list }
    }

    fn append(&self, waiter: &Any) {
        self.list().push(waiter);
    }

    fn popleft(&self) -> PyResult<Obj> {
        match self.list().pop() {
            Some(waiter) => Ok(waiter),
            None => Err(raise!(err::index_error(), "pop from an empty deque")),
        }
    }

    /// Comparing runs Python code: it works on a copy.
    fn remove(&self, waiter: &Any) -> PyResult<()> {
        for other in self.list().objects() {
            if other.equals(waiter)? && self.list().remove(&other) {
                return Ok(());
            }
        }
        Err(raise!(
            err::value_error(),
            "deque.remove(x): x not in deque"
        ))
    }

    fn iterate(&self) -> PyResult<Obj> {
        value::list(self.list().objects().into_iter())?.iter()
    }

    fn repr(&self) -> PyResult<Obj> {
        let list = value::list(self.list().objects().into_iter())?;
        value::str(&format!("deque({})", list.repr_text()))
    }
}

/// `sq_item`; the interpreter has added the length to a negative index.
unsafe extern "C" fn item(object: Raw, index: ffi::Py_ssize_t) -> Raw {
    // SAFETY: the interpreter passes an instance.
    let this = unsafe { Any::from_raw(object).cast_unchecked::<Waiters>() };
    crate::kit::class::guard(|| {
        let found = usize::try_from(index)
            .ok()
            .and_then(|index| this.list().get(index));
        found.ok_or_else(|| raise!(err::index_error(), "deque index out of range"))
    })
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<Waiters>(c"ioxide.Waiters")
        .doc(c"Those who wait, the first first.")
        .slot(ffi::Py_tp_repr, crate::unary!(Waiters, Waiters::repr))
        .slot(ffi::Py_tp_iter, crate::unary!(Waiters, Waiters::iterate))
        .slot(
            ffi::Py_sq_length,
            crate::length!(Waiters, |this: &Waiters| Ok(this.list().len())),
        )
        .slot(ffi::Py_sq_item, item as *mut std::ffi::c_void)
        .methods([
            crate::method!(onearg Waiters, "append", Waiters::append, "Adds one at the end."),
            crate::method!(noargs Waiters, "popleft", Waiters::popleft, "Takes out the first."),
            crate::method!(onearg Waiters, "remove", Waiters::remove, "Takes out this one."),
            crate::method!(noargs Waiters, "clear",
                |this: &Waiters| this.list().clear(), "Takes out all."),
        ])
        .build(&CLASS)?;
    Ok(())
}
