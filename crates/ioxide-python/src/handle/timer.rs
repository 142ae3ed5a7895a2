//! A callback that is to run at some time.

use super::details::INT;
use super::Handle;
use crate::kit::class::{Construct, FreeList};
use crate::kit::{
    err, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, Own, PyResult, Raw, Signature,
    Visitor,
};
use crate::runtime::clock::to_ns;
use crate::runtime::timers::Timer;
use crate::runtime::EventLoop;
use crate::{intern, raise};
use ioxide_core::timers::TimerKey;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::size_of;

/// `ioxide.TimerHandle`.
#[repr(C)]
pub(crate) struct TimerHandle {
    handle: Handle,
    /// Seconds on the loop's clock.
    when: Cell<f64>,
    /// The place among the timers, or where it was before the timer went off.
    key: Cell<Option<TimerKey>>,
}

const _: () = assert!(size_of::<TimerHandle>() - size_of::<Head>() == 64);

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with the base class's struct, and the class is built from it below.
unsafe impl Native for TimerHandle {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        true
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.handle.traverse(visitor);
    }

    fn clear(&self) {
        self.handle.clear();
    }
}

impl Construct for TimerHandle {
    fn empty() -> TimerHandle {
        TimerHandle {
            handle: Handle::empty(),
            when: Cell::new(0.0),
            key: Cell::new(None),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<5> = Signature::new(
            "TimerHandle",
            ["when", "callback", "args", "loop", "context"],
            4,
        );
        let [when, callback, arguments, event_loop, context] = args.bind(&SIGNATURE)?;
        let (Some(when), Some(callback), Some(arguments), Some(event_loop)) =
            (when, callback, arguments, event_loop)
        else {
            return Ok(());
        };
        self.when.set(when.to_f64()?);
        self.handle.details.set(INT, when.is_int());
        self.handle.set_up(event_loop, callback, arguments, context)
    }
}

impl TimerHandle {
    /// Schedules `callback(*arguments)` on a native loop.
    pub(crate) fn schedule(
        event_loop: &EventLoop,
        when: f64,
        callback: &Any,
        arguments: &[&Any],
        context: Option<&Any>,
    ) -> PyResult<Own<TimerHandle>> {
        let timer = TimerHandle {
            handle: Handle::filled(event_loop, callback, arguments, context)?,
            when: Cell::new(when),
            key: Cell::new(None),
        };
        // SAFETY: the queue of timers answers for it, and it is revealed when it leaves.
        let timer = unsafe { timer.make_hidden() }?;
        if event_loop.debug() {
            timer.handle.note_source()?;
        }
        let key = event_loop.add_timer(to_ns(when), Timer::Handle(timer.clone()));
        timer.key.set(Some(key));
        if event_loop.polling.is_asleep() {
            event_loop.polling.wake();
        }
        Ok(timer)
    }

    /// The same object as its base class has it.
    #[inline(always)]
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Seconds on the loop's clock, as they were given.
    fn when(&self) -> PyResult<Obj> {
        if self.handle.details.has(INT) {
            return value::int(self.when.get() as i64);
        }
        value::float(self.when.get())
    }

    /// Whether a loop has it among its timers.
    fn is_scheduled(&self) -> bool {
        if let Some(rare) = self.handle.details.rare() {
            if rare.scheduled.get() {
                return true;
            }
        }
        let event_loop = self.handle.event_loop.get_or_none();
        let native = EventLoop::of(&event_loop);
        native
            .zip(self.key.get())
            .is_some_and(|(native, key)| native.timers.contains(key))
    }

    /// For loops that are not ours.
    fn set_scheduled(&self, scheduled: Option<&Any>) -> PyResult<()> {
        let scheduled = scheduled.map_or(Ok(false), Any::truthy)?;
        self.handle.details.rare_or_new().scheduled.set(scheduled);
        Ok(())
    }

    fn cancel(&self) -> PyResult<()> {
        if !self.handle.is_cancelled() {
            let event_loop = self.handle.event_loop.get_or_none();
            match EventLoop::of(&event_loop) {
                Some(native) => {
                    if let Some(key) = self.key.take() {
                        native.remove_timer(key);
                        self.handle.reveal();
                    }
                }
                None => {
                    event_loop.method(intern!("_timer_handle_cancelled"), &[self.as_any()])?;
                }
            }
        }
        self.handle.cancel()
    }

    /// Equal timers are due at the same time and do the same.
    fn equals(&self, other: &TimerHandle) -> PyResult<bool> {
        Ok(self.when.get() == other.when.get()
            && self
                .handle
                .callback
                .get_or_none()
                .equals(&other.handle.callback.get_or_none())?
            && self
                .handle
                .arguments_tuple()?
                .equals(&*other.handle.arguments_tuple()?)?
            && self.handle.is_cancelled() == other.handle.is_cancelled())
    }

    fn compare(&self, other: &Any, operation: c_int) -> PyResult<Obj> {
        let Some(other) = other.cast::<TimerHandle>() else {
            // SAFETY: the singleton.
            return Ok(unsafe { Obj::from_borrowed(ffi::Py_NotImplemented()) });
        };
        let (mine, theirs) = (self.when.get(), other.when.get());
        let answer = match operation {
            ffi::Py_LT => mine < theirs,
            ffi::Py_LE => mine < theirs || self.equals(other)?,
            ffi::Py_GT => mine > theirs,
            ffi::Py_GE => mine > theirs || self.equals(other)?,
            ffi::Py_EQ => self.equals(other)?,
            _ => !self.equals(other)?,
        };
        Ok(value::bool(answer))
    }
}

impl Own<TimerHandle> {
    /// The same object as a handle.
    pub(crate) fn into_handle(self) -> Own<Handle> {
        // SAFETY: TimerHandle derives from Handle.
        unsafe { Own::from_obj(self.into_obj()) }
    }
}

unsafe extern "C" fn compare(object: Raw, other: Raw, operation: c_int) -> Raw {
    crate::kit::class::guard(|| {
        // SAFETY: the interpreter passes an instance and any object.
        unsafe {
            let this = Any::from_raw(object).cast_unchecked::<TimerHandle>();
            this.compare(Any::from_raw(other), operation)
        }
    })
}

unsafe extern "C" fn hash(object: Raw) -> ffi::Py_hash_t {
    // SAFETY: the interpreter passes an instance.
    let this = unsafe { Any::from_raw(object).cast_unchecked::<TimerHandle>() };
    // As `hash(when)`. SAFETY: a live float.
    value::float(this.when.get()).map_or(-1, |when| unsafe { ffi::PyObject_Hash(when.raw()) })
}

/// The time at which a call is wanted.
pub(crate) fn to_when(when: Option<&Any>, what: &str) -> PyResult<f64> {
    match when.and_then(Any::some) {
        Some(when) => when.to_f64(),
        None => Err(raise!(err::type_error(), "{what} cannot be None")),
    }
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<TimerHandle>(c"ioxide.TimerHandle")
        .base(Handle::class().object())
        .doc(c"TimerHandle(when, callback, args, loop, context=None)\n--\n\nA callback that will run at some \
                time, as call_later() and call_at() return it.\n\nAs asyncio.TimerHandle: not thread-safe.")
        .constructible::<TimerHandle>()
        .slot(ffi::Py_tp_richcompare, compare as *mut c_void)
        .slot(ffi::Py_tp_hash, hash as *mut c_void)
        .methods([
            crate::method!(noargs TimerHandle, "cancel", TimerHandle::cancel, "Calls the callback off."),
            crate::method!(noargs TimerHandle, "when",
                TimerHandle::when, "When, in seconds on the loop's clock."),
        ])
        .getset([
            crate::getter!(TimerHandle, "_when",
                TimerHandle::when, "When, in seconds on the loop's clock."),
            crate::getter!(TimerHandle, "_scheduled",
                TimerHandle::is_scheduled,
                TimerHandle::set_scheduled,
                "Whether it waits in the loop."),
        ])
        .build(&CLASS)?;
    Ok(())
}
