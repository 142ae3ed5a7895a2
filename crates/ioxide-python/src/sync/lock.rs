//! Lock: held by one at a time, given to those who wait in the order in which they came.

use super::bound::{loop_getter, loop_method, LoopBound};
use super::waiters::{self, WaitList, Wakes};
use super::{describe, entering, held, is_plain};
use crate::awaitable::again::Again;
use crate::awaitable::ready;
use crate::awaitable::{Awaitable, Flow, Wait};
use crate::kit::class::{Construct, FreeList, WeakList};
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult, Signature,
    Visitor,
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

impl Lock {
    /// A lock that is free.
    pub(super) fn new() -> PyResult<Own<Lock>> {
        Lock::empty().make()
    }

    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        is_plain(self.as_any(), &CLASS, &self.dict)
    }

    #[inline(always)]
    pub(super) fn locked(&self) -> bool {
        self.locked.get()
    }

    /// Takes the lock if it is free and nobody waits for it: who comes later never overtakes.
    #[inline]
    pub(super) fn try_acquire(&self) -> PyResult<bool> {
        let free = !self.locked.get() && self.waiters.all_cancelled()?;
        if free {
            self.locked.set(true);
        }
        Ok(free)
    }

    /// Lets the waiter stand in line.
    #[inline]
    pub(super) fn enlist(&self, waiter: &Any) -> PyResult<()> {
        self.bound.require(self.as_any())?;
        self.waiters.push(waiter);
        Ok(())
    }

    /// The waiter was woken and goes on: the lock is its.
    #[inline]
    pub(super) fn admit(&self, waiter: &Any) {
        self.waiters.remove(waiter);
        self.locked.set(true);
    }

    /// The waiter leaves with this exception. If it was its turn, it is the next one's.
    pub(super) fn dismiss(&self, waiter: &Any, exception: &Any) -> PyResult<()> {
        self.waiters.remove(waiter);
        if err::is_a(exception, errors::cancelled()?) && !self.locked.get() {
            self.waiters.wake_first()?;
        }
        Ok(())
    }

    /// Gives the lock back and wakes who is next.
    #[inline]
    pub(super) fn release(&self) -> PyResult<()> {
        if !self.locked.replace(false) {
            return Err(raise!(err::runtime_error(), "Lock is not acquired."));
        }
        self.waiters.wake_first()
    }

    fn acquire(&self) -> PyResult<Own<Acquire>> {
        Acquire::new(self, false)
    }

    /// `__aenter__`: a free lock is taken at once, which nobody can tell from taking it when awaited.
    pub(super) fn enter(&self) -> PyResult<Obj> {
        if !self.is_plain() {
            return entering::enter(self.as_any());
        }
        if self.try_acquire()? {
            return Ok(ready::nothing());
        }
        Ok(Acquire::new(self, true)?.into_obj())
    }

    /// `__aexit__`.
    pub(super) fn exit(&self) -> PyResult<Obj> {
        if !self.is_plain() {
            return entering::exit(self.as_any());
        }
        self.release()?;
        Ok(ready::nothing())
    }

    fn repr(&self) -> PyResult<Obj> {
        let state = if self.locked() { "locked" } else { "unlocked" };
        describe(self.as_any(), state, &self.waiters)
    }
}

/// `Lock.acquire()`.
#[repr(C)]
pub(super) struct Acquire {
    wait: Wait,
    /// Until this is over.
    lock: ObjCell,
    /// Whether `async with` awaits this, which wants `None`.
    entering: Cell<bool>,
}

static ACQUIRE: Class = Class::new();
static AGAIN: Again = Again::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Acquire {
    type Extra = ();

    fn class() -> &'static Class {
        &ACQUIRE
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.cell(&self.lock);
    }

    fn clear(&self) {
        self.wait.clear();
        self.lock.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        self.wait.was_awaited()
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Acquire {
    const NAME: &'static str = "Lock.acquire";

    fn start(&self) -> PyResult<Flow> {
        let lock = held::<Lock>(&self.lock)?;
        if lock.try_acquire()? {
            return Ok(self.over());
        }
        lock.enlist(self.as_any())?;
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        held::<Lock>(&self.lock)?.admit(self.as_any());
        Ok(self.over())
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        held::<Lock>(&self.lock)?.dismiss(self.as_any(), &exception)?;
        Err(err::restore(exception))
    }
}

impl Acquire {
    fn new(lock: &Lock, entering: bool) -> PyResult<Own<Acquire>> {
        if let Some(again) = AGAIN.take::<Acquire>() {
            again.lock.set(lock.as_any().own());
            again.entering.set(entering);
            return Ok(again);
        }
        let body = Acquire {
            wait: Wait::new(&Acquire::KIND),
            lock: ObjCell::new(lock.as_any().own()),
            entering: Cell::new(entering),
        };
        body.make()
    }

    fn over(&self) -> Flow {
        self.lock.clear();
        AGAIN.keep(self);
        Flow::Return(if self.entering.get() {
            Obj::none()
        } else {
            value::bool(true)
        })
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<Acquire>(c"ioxide.LockAcquire").build(&ACQUIRE)?;
    ClassSpec::new::<Lock>(c"ioxide.Lock")
        .doc(c"A lock that one task holds at a time; those who wait get it in their order.")
        .short_name()
        .constructible::<Lock>()
        .dict(offset_of!(Lock, dict))
        .weak(offset_of!(Lock, weak))
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(Lock, Lock::repr))
        .coroutines([("acquire", "(self)")])
        .methods([
            crate::method!(noargs Lock, "locked", Lock::locked, "Whether somebody holds the lock."),
            crate::method!(noargs Lock, "acquire", Lock::acquire,
                "Waits until the lock is free, takes it and returns True."),
            crate::method!(noargs Lock, "release", Lock::release,
                "Gives the lock back; RuntimeError if nobody holds it."),
            crate::method!(noargs Lock, "__aenter__", Lock::enter, "Acquires."),
            crate::method!(args Lock, "__aexit__",
                |this: &Lock, _: Args<'_>| this.exit(), "Releases."),
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
