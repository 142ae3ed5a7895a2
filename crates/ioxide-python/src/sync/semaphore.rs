//! Semaphore and BoundedSemaphore: a counter that tasks wait to be above zero.

use super::acquire::{self, Acquired, Places};
use super::bound::{loop_getter, loop_method, LoopBound};
use super::waiters::{WaitList, Wakes};
use super::{describe, is_plain};
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, PyResult, Signature,
    Visitor,
};
use crate::{errors, raise};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.Semaphore`.
#[repr(C)]
pub(crate) struct Semaphore {
    head: Head,
    value: Cell<i64>,
    waiters: WaitList,
    bound: LoopBound,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Semaphore {
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

/// A whole number, as which a float is rounded away from zero: asyncio takes any number, and distributed passes half
/// the limit of descriptors. Infinity is as good as the largest one.
fn count(value: &Any) -> PyResult<i64> {
    if value.is_float() {
        let number = value.to_f64()?;
        return Ok((number.abs().ceil() * number.signum()) as i64);
    }
    value.to_i64()
}

/// The argument of both classes.
fn initial_value(args: Args<'_>, function: &'static str) -> PyResult<i64> {
    let [value] = args.bind(&Signature::new(function, ["value"], 0))?;
    let value = value.map_or(Ok(1), count)?;
    if value < 0 {
        return Err(raise!(
            err::value_error(),
            "Semaphore initial value must be >= 0"
        ));
    }
    Ok(value)
}

impl Construct for Semaphore {
    fn empty() -> Semaphore {
        Semaphore {
            head: Head::new(),
            value: Cell::new(1),
            waiters: WaitList::new(Wakes::True),
            bound: LoopBound::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        self.value.set(initial_value(args, "Semaphore.__init__")?);
        self.waiters.clear();
        Ok(())
    }
}

impl Acquired for Semaphore {
    const NAME: &'static str = "Semaphore.acquire";

    #[inline(always)]
    fn places() -> &'static Places {
        static PLACES: Places = Places::new();
        &PLACES
    }

    #[inline(always)]
    fn is_plain(&self) -> bool {
        is_plain(self.as_any(), &CLASS, &self.dict) || is_plain(self.as_any(), &BOUNDED, &self.dict)
    }

    #[inline]
    fn try_acquire(&self) -> PyResult<bool> {
        let free = !self.locked()?;
        if free {
            self.value.set(self.value.get() - 1);
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
        self.wake_as_many_as_allowed()
    }

    /// What was given to a waiter that is cancelled goes back.
    fn dismiss(&self, waiter: &Any, woken: bool, exception: &Any) -> PyResult<()> {
        self.waiters.remove(waiter);
        if woken && err::is_a(exception, errors::cancelled()?) {
            self.value.set(self.value.get().saturating_add(1));
        }
        self.wake_as_many_as_allowed()
    }

    fn release(&self) -> PyResult<()> {
        if let Some(bounded) = self.as_any().cast::<BoundedSemaphore>() {
            if self.value.get() >= bounded.most.get() {
                return Err(raise!(
                    err::value_error(),
                    "BoundedSemaphore released too many times"
                ));
            }
        }
        self.value.set(self.value.get().saturating_add(1));
        self.wake_next().map(drop)
    }
}

impl Semaphore {
    /// Whether who comes now has to wait, be it only because others wait already.
    #[inline]
    fn locked(&self) -> PyResult<bool> {
        Ok(self.value.get() == 0 || !self.waiters.all_cancelled()?)
    }

    /// Gives one to the first who still waits; it is counted as taken from now on.
    #[inline]
    fn wake_next(&self) -> PyResult<bool> {
        let woken = self.waiters.wake_some(1)? == 1;
        if woken {
            self.value.set(self.value.get() - 1);
        }
        Ok(woken)
    }

    /// Gives away what is left: those who came while others were on their way had to stand in line.
    #[inline]
    fn wake_as_many_as_allowed(&self) -> PyResult<()> {
        while self.value.get() > 0 && self.wake_next()? {}
        Ok(())
    }

    fn repr(&self) -> PyResult<Obj> {
        let state = if self.locked()? {
            "locked".to_owned()
        } else {
            format!("unlocked, value:{}", self.value.get())
        };
        describe(self.as_any(), &state, &self.waiters)
    }

    fn get_value(&self) -> PyResult<Obj> {
        value::int(self.value.get())
    }

    fn set_value(&self, value: Option<&Any>) -> PyResult<()> {
        let Some(value) = value else {
            return Err(raise!(err::attribute_error(), "_value"));
        };
        self.value.set(value.to_i64()?);
        Ok(())
    }
}

/// `ioxide.BoundedSemaphore`.
#[repr(C)]
pub(crate) struct BoundedSemaphore {
    base: Semaphore,
    /// The initial value, above which no release goes.
    most: Cell<i64>,
}

static BOUNDED: Class = Class::new();

// SAFETY: `repr(C)`, begins with the struct of its base, and the class is built from it below.
unsafe impl Native for BoundedSemaphore {
    type Extra = ();

    fn class() -> &'static Class {
        &BOUNDED
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.base.traverse(visitor);
    }

    fn clear(&self) {
        self.base.clear();
    }
}

impl Construct for BoundedSemaphore {
    fn empty() -> BoundedSemaphore {
        BoundedSemaphore {
            base: Semaphore::empty(),
            most: Cell::new(1),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        let value = initial_value(args, "BoundedSemaphore.__init__")?;
        self.base.value.set(value);
        self.base.waiters.clear();
        self.most.set(value);
        Ok(())
    }
}

pub(super) fn build() -> PyResult<()> {
    acquire::build::<Semaphore>(c"ioxide.SemaphoreAcquire")?;
    let semaphore = ClassSpec::new::<Semaphore>(c"ioxide.Semaphore")
        .doc(c"Semaphore(value=1)\n--\n\nA counter: acquire() takes one and waits while there is none, \
                release() puts one back.\n\nvalue: how many there are at first, 1 by default; ValueError if \
                negative.\n\nNot thread-safe: other threads use it by loop.call_soon_threadsafe().")
        .short_name()
        .constructible::<Semaphore>()
        .dict(offset_of!(Semaphore, dict))
        .weak(offset_of!(Semaphore, weak))
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(Semaphore, Semaphore::repr))
        .coroutines(["acquire"])
        .methods([
            crate::method!(noargs Semaphore, "locked", Semaphore::locked,
                "Whether acquire() would have to wait."),
            crate::method!(noargs Semaphore, "acquire", acquire::acquire::<Semaphore>,
                "Waits until the counter is above zero, takes one and returns True."),
            crate::method!(noargs Semaphore, "release", Semaphore::release,
                "Puts one back and wakes who is next; ValueError if a BoundedSemaphore had all."),
            crate::method!(noargs Semaphore, "__aenter__", acquire::enter::<Semaphore>, "Acquires."),
            crate::method!(args Semaphore, "__aexit__",
                |this: &Semaphore, _: Args<'_>| acquire::exit(this), "Releases."),
            loop_method!(Semaphore),
        ])
        .getset([
            crate::getter!(
                Semaphore,
                "_waiters",
                // SAFETY: the list is the semaphore's field.
                |this: &Semaphore| unsafe { this.waiters.view(this.as_any()) },
                "Those who wait."
            ),
            crate::getter!(
                Semaphore,
                "_value",
                Semaphore::get_value,
                Semaphore::set_value,
                "The counter."
            ),
            loop_getter!(Semaphore),
        ])
        .build(&CLASS)?;
    ClassSpec::new::<BoundedSemaphore>(c"ioxide.BoundedSemaphore")
        .doc(c"BoundedSemaphore(value=1)\n--\n\nA semaphore that refuses, with ValueError, to be released above \
                its initial value.")
        .base(semaphore)
        .short_name()
        .constructible::<BoundedSemaphore>()
        .getset([crate::getter!(
            BoundedSemaphore,
            "_bound_value",
            |this: &BoundedSemaphore| value::int(this.most.get()),
            "The initial value."
        )])
        .build(&BOUNDED)?;
    Ok(())
}
