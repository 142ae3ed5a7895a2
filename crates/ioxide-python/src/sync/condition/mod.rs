//! Condition: waiting for a notification, with a lock given up meanwhile. Here: the object.
//!
//! The lock is nearly always our own and plain: then everything happens without a Python call. Any other lock is
//! used through its methods.

use super::acquire::{self, Acquired};
use super::bound::{loop_getter, loop_method, LoopBound};
use super::lock::Lock;
use super::waiters::{WaitList, Wakes};
use super::{describe, entering, is_plain};
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult, Signature, Visitor,
};
use crate::{intern, raise};
use std::mem::offset_of;

pub(super) mod waiting;

use waiting::ConditionWait;

/// `ioxide.Condition`.
#[repr(C)]
pub(crate) struct Condition {
    head: Head,
    lock: ObjCell,
    waiters: WaitList,
    bound: LoopBound,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Condition {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.lock);
        self.waiters.traverse(visitor);
        self.bound.traverse(visitor);
    }

    fn clear(&self) {
        self.lock.clear();
        self.waiters.clear();
        self.bound.clear();
    }
}

impl Construct for Condition {
    fn empty() -> Condition {
        Condition {
            head: Head::new(),
            lock: ObjCell::empty(),
            waiters: WaitList::new(Wakes::False),
            bound: LoopBound::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Condition.__init__", ["lock"], 0);
        let [lock] = args.bind(&SIGNATURE)?;
        self.waiters.clear();
        match lock.and_then(Any::some) {
            None => self.lock.set(Lock::new()?.into_obj()),
            Some(lock) => {
                // What is not a lock is refused here, not when it is first used.
                for name in [intern!("locked"), intern!("acquire"), intern!("release")] {
                    lock.attr(name)?;
                }
                self.lock.set(lock.own());
            }
        }
        Ok(())
    }
}

impl Condition {
    /// A condition with a lock of its own.
    pub(super) fn new() -> PyResult<Own<Condition>> {
        let condition = Condition::empty();
        condition.lock.set(Lock::new()?.into_obj());
        condition.make()
    }

    fn lock(&self) -> PyResult<Obj> {
        self.lock
            .get()
            .ok_or_else(|| raise!(err::attribute_error(), "_lock"))
    }

    /// The lock, if it is ours and neither it nor the condition is anything but plain.
    #[inline]
    pub(super) fn native_lock(&self) -> Option<Own<Lock>> {
        if !is_plain(self.as_any(), &CLASS, &self.dict) {
            return None;
        }
        // SAFETY: nothing runs while the borrow lives.
        let lock = unsafe { self.lock.peek() }?.exact::<Lock>()?;
        lock.is_plain().then(|| lock.own())
    }

    fn locked(&self) -> PyResult<Obj> {
        self.lock()?.method0(intern!("locked"))
    }

    fn acquire(&self) -> PyResult<Obj> {
        self.lock()?.method0(intern!("acquire"))
    }

    fn release(&self) -> PyResult<Obj> {
        self.lock()?.method0(intern!("release"))
    }

    fn is_locked(&self) -> PyResult<bool> {
        match self.native_lock() {
            Some(lock) => Ok(lock.locked()),
            None => self.as_any().method0(intern!("locked"))?.truthy(),
        }
    }

    fn let_go(&self) -> PyResult<()> {
        match self.native_lock() {
            Some(lock) => lock.release(),
            None => self.as_any().method0(intern!("release")).map(drop),
        }
    }

    /// `__aenter__`.
    fn enter(&self) -> PyResult<Obj> {
        match self.native_lock() {
            Some(lock) => acquire::enter(&*lock),
            None => entering::enter(self.as_any()),
        }
    }

    /// `__aexit__`.
    fn exit(&self) -> PyResult<Obj> {
        match self.native_lock() {
            Some(lock) => acquire::exit(&*lock),
            None => entering::exit(self.as_any()),
        }
    }

    /// Wakes `count` of those who wait. They go on when they have the lock again.
    fn notify_some(&self, count: usize) -> PyResult<()> {
        self.waiters.wake_some(count).map(drop)
    }

    fn notify_checked(&self, count: usize) -> PyResult<()> {
        if !self.is_locked()? {
            return Err(raise!(
                err::runtime_error(),
                "cannot notify on un-acquired lock"
            ));
        }
        self.notify_some(count)
    }

    fn notify(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Condition.notify", ["n"], 0);
        let [count] = args.bind(&SIGNATURE)?;
        let count = count.map_or(Ok(1), Any::to_i64)?;
        self.notify_checked(usize::try_from(count).unwrap_or(0))
    }

    pub(super) fn notify_all(&self) -> PyResult<()> {
        self.notify_checked(self.waiters.len())
    }

    fn wait(&self) -> PyResult<Own<ConditionWait>> {
        ConditionWait::new(self, None)
    }

    fn wait_for(&self, predicate: &Any) -> PyResult<Own<ConditionWait>> {
        ConditionWait::new(self, Some(predicate))
    }

    fn repr(&self) -> PyResult<Obj> {
        let state = if self.is_locked()? {
            "locked"
        } else {
            "unlocked"
        };
        describe(self.as_any(), state, &self.waiters)
    }
}

pub(super) fn build() -> PyResult<()> {
    waiting::build()?;
    ClassSpec::new::<Condition>(c"ioxide.Condition")
        .doc(c"Condition(lock=None)\n--\n\nLets tasks that hold a lock wait, without it, until another task \
                notifies them.\n\nlock: the Lock, by default a new one.\n\nNot thread-safe: other threads use it \
                by loop.call_soon_threadsafe().")
        .short_name()
        .constructible::<Condition>()
        .dict(offset_of!(Condition, dict))
        .weak(offset_of!(Condition, weak))
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(Condition, Condition::repr))
        .coroutines(["wait", "wait_for"])
        .methods([
            crate::method!(noargs Condition, "locked", Condition::locked, "The lock's locked()."),
            crate::method!(noargs Condition, "acquire", Condition::acquire, "The lock's acquire()."),
            crate::method!(noargs Condition, "release", Condition::release, "The lock's release()."),
            crate::method!(noargs Condition, "wait", Condition::wait,
                "Gives the lock up, waits to be notified, and returns True holding the lock again; RuntimeError \
                    without the lock."),
            crate::method!(given Condition, "wait_for", "predicate", Condition::wait_for,
                "Waits until predicate() is true, asked after each notification, and returns what it \
                    returned; RuntimeError without the lock."),
            crate::method!(args Condition, "notify", Condition::notify,
                "notify($self, n=1)\n--\n\nWakes n of those who wait; RuntimeError without the lock."),
            crate::method!(noargs Condition, "notify_all", Condition::notify_all,
                "Wakes all who wait; RuntimeError without the lock."),
            crate::method!(onearg Condition, "_notify", |this: &Condition, count: &Any| -> PyResult<()> {
                this.notify_some(usize::try_from(count.to_i64()?).unwrap_or(0))
            }, "As notify(), whoever holds the lock."),
            crate::method!(noargs Condition, "__aenter__", Condition::enter, "Acquires."),
            crate::method!(args Condition, "__aexit__",
                |this: &Condition, _: Args<'_>| this.exit(), "Releases."),
            loop_method!(Condition),
        ])
        .getset([
            crate::getter!(
                Condition,
                "_waiters",
                // SAFETY: the list is the condition's field.
                |this: &Condition| unsafe { this.waiters.view(this.as_any()) },
                "Those who wait."
            ),
            crate::getter!(Condition, "_lock", Condition::lock, "The lock."),
            loop_getter!(Condition),
        ])
        .build(&CLASS)?;
    Ok(())
}
