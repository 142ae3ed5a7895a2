//! Lock: held by one at a time, given to those who wait in the order in which they came.

use super::acquire::{self, Acquired, Places};
use super::bound::{loop_getter, loop_method, LoopBound};
use super::waiters::{WaitList, Wakes};
use super::{describe, is_plain};
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult, Signature, Visitor,
};
use crate::{errors, raise};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.Lock`.
#[repr(C)]
pub(crate) struct Lock {
    head: Head,
    locked: Cell<bool>,
    waiters: WaitList,
    bound: LoopBound,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Lock {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.waiters.traverse(visitor);
        self.bound.traverse(visitor);
    }

    fn clear(&self) {
        self.waiters.clear();
        self.bound.clear();
    }
}

impl Construct for Lock {
    fn empty() -> Lock {
        Lock {
            head: Head::new(),
            locked: Cell::new(false),
            waiters: WaitList::new(Wakes::True),
            bound: LoopBound::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<0> = Signature::new("Lock.__init__", [], 0);
        args.bind(&SIGNATURE)?;
        self.locked.set(false);
        self.waiters.clear();
        Ok(())
    }
}

impl Acquired for Lock {
    const NAME: &'static str = "Lock.acquire";

    #[inline(always)]
    fn places() -> &'static Places {
        static PLACES: Places = Places::new();
        &PLACES
    }

    #[inline(always)]
    fn is_plain(&self) -> bool {
        is_plain(self.as_any(), &CLASS, &self.dict)
    }

    #[inline]
    fn try_acquire(&self) -> PyResult<bool> {
        let free = !self.locked.get() && self.waiters.all_cancelled()?;
        if free {
            self.locked.set(true);
        }
        Ok(free)
    }

    #[inline]
    fn enlist(&self, waiter: &Any) -> PyResult<()> {
        self.bound.require(self.as_any())?;
        self.waiters.push(waiter);
        Ok(())
    }

    #[inline]
    fn admit(&self, waiter: &Any) -> PyResult<()> {
        self.waiters.remove(waiter);
        self.locked.set(true);
        Ok(())
    }

    /// If it was the waiter's turn, it is the next one's.
    fn dismiss(&self, waiter: &Any, _woken: bool, exception: &Any) -> PyResult<()> {
        self.waiters.remove(waiter);
        if err::is_a(exception, errors::cancelled()?) && !self.locked.get() {
            self.waiters.wake_first()?;
        }
        Ok(())
    }

    #[inline]
    fn release(&self) -> PyResult<()> {
        if !self.locked.replace(false) {
            return Err(raise!(err::runtime_error(), "Lock is not acquired."));
        }
        self.waiters.wake_first()
    }
}

impl Lock {
    /// A lock that is free.
    pub(super) fn new() -> PyResult<Own<Lock>> {
        Lock::empty().make()
    }

    #[inline(always)]
    pub(super) fn locked(&self) -> bool {
        self.locked.get()
    }

    fn repr(&self) -> PyResult<Obj> {
        let state = if self.locked() { "locked" } else { "unlocked" };
        describe(self.as_any(), state, &self.waiters)
    }
}

pub(super) fn build() -> PyResult<()> {
    acquire::build::<Lock>(c"ioxide.LockAcquire")?;
    ClassSpec::new::<Lock>(c"ioxide.Lock")
        .doc(c"Lock()\n--\n\nA lock that one task holds at a time; those who wait get it in their order.\n\nNot \
                thread-safe: other threads use it by loop.call_soon_threadsafe().")
        .short_name()
        .constructible::<Lock>()
        .dict(offset_of!(Lock, dict))
        .weak(offset_of!(Lock, weak))
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(Lock, Lock::repr))
        .coroutines(["acquire"])
        .methods([
            crate::method!(noargs Lock, "locked", Lock::locked, "Whether somebody holds the lock."),
            crate::method!(noargs Lock, "acquire", acquire::acquire::<Lock>,
                "Waits until the lock is free, takes it and returns True."),
            crate::method!(noargs Lock, "release", Lock::release,
                "Gives the lock back; RuntimeError if nobody holds it."),
            crate::method!(noargs Lock, "__aenter__", acquire::enter::<Lock>, "Acquires."),
            crate::method!(args Lock, "__aexit__",
                |this: &Lock, _: Args<'_>| acquire::exit(this), "Releases."),
            loop_method!(Lock),
        ])
        .getset([
            crate::getter!(
                Lock,
                "_waiters",
                // SAFETY: the list is the lock's field.
                |this: &Lock| unsafe { this.waiters.view(this.as_any()) },
                "Those who wait."
            ),
            crate::getter!(Lock, "_locked", Lock::locked, "As locked()."),
            loop_getter!(Lock),
        ])
        .build(&CLASS)?;
    Ok(())
}
