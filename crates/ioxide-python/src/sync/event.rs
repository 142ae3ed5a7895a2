//! Event: a flag that tasks wait for.

use super::bound::{loop_getter, loop_method, LoopBound};
use super::describe;
use super::waiters::{self, WaitList, Wakes};
use crate::awaitable::{Awaitable, Flow, Waiting};
use crate::kit::class::{Construct, FreeList, WeakList};
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult, Signature,
    Visitor,
};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.Event`.
#[repr(C)]
pub(crate) struct Event {
    head: Head,
    value: Cell<bool>,
    waiters: WaitList,
    bound: LoopBound,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Event {
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

impl Construct for Event {
    fn empty() -> Event {
        Event {
            head: Head::new(),
            value: Cell::new(false),
            waiters: WaitList::new(Wakes::True),
            bound: LoopBound::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<0> = Signature::new("Event.__init__", [], 0);
        args.bind(&SIGNATURE)?;
        self.value.set(false);
        self.waiters.clear();
        Ok(())
    }
}

impl Event {
    /// An event with its flag at `value`.
    pub(super) fn new(value: bool) -> PyResult<Own<Event>> {
        let event = Event::empty();
        event.value.set(value);
        event.make()
    }

    #[inline(always)]
    fn is_set(&self) -> bool {
        self.value.get()
    }

    /// Sets the flag and wakes everybody. They leave the list when they go on.
    pub(super) fn set(&self) -> PyResult<()> {
        if self.value.replace(true) {
            return Ok(());
        }
        self.waiters.wake_some(usize::MAX).map(drop)
    }

    pub(super) fn reset(&self) {
        self.value.set(false);
    }

    /// Lets the waiter stand in line; false if the flag is set, so that there is nothing to wait for.
    #[inline]
    pub(super) fn enlist(&self, waiter: &Any) -> PyResult<bool> {
        if self.value.get() {
            return Ok(false);
        }
        self.bound.require(self.as_any())?;
        self.waiters.push(waiter);
        Ok(true)
    }

    /// The waiter goes on, whether it was woken or not.
    #[inline]
    pub(super) fn leave(&self, waiter: &Any) {
        self.waiters.remove(waiter);
    }

    fn wait(&self) -> PyResult<Own<EventWait>> {
        let body = EventWait::with(EventWaitState { event: self.own() });
        body.make()
    }

    fn repr(&self) -> PyResult<Obj> {
        let state = if self.is_set() { "set" } else { "unset" };
        describe(self.as_any(), state, &self.waiters)
    }
}

/// `Event.wait()`.
type EventWait = Waiting<EventWaitState>;

struct EventWaitState {
    event: Own<Event>,
}

static WAIT: Class = Class::new();

impl Awaitable for EventWait {
    const NAME: &'static str = "Event.wait";

    fn place() -> &'static Class {
        &WAIT
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.object(self.event.as_obj());
    }

    fn start(&self) -> PyResult<Flow> {
        if self.event.enlist(self.as_any())? {
            return Ok(Flow::Park);
        }
        Ok(Flow::Return(value::bool(true)))
    }

    fn resume(&self) -> PyResult<Flow> {
        self.event.leave(self.as_any());
        Ok(Flow::Return(value::bool(true)))
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.event.leave(self.as_any());
        Err(err::restore(exception))
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<EventWait>(c"ioxide.EventWait").build(&WAIT)?;
    ClassSpec::new::<Event>(c"ioxide.Event")
        .doc(c"Event()\n--\n\nA flag that any number of tasks wait for; not set at first.\n\nNot thread-safe: \
                other threads use it by loop.call_soon_threadsafe().")
        .short_name()
        .constructible::<Event>()
        .dict(offset_of!(Event, dict))
        .weak(offset_of!(Event, weak))
        .slot(
            crate::kit::ffi::Py_tp_repr,
            crate::unary!(Event, Event::repr),
        )
        .coroutines(["wait"])
        .methods([
            crate::method!(noargs Event, "is_set", Event::is_set, "Whether the flag is set."),
            crate::method!(noargs Event, "set", Event::set, "Sets the flag and wakes everybody."),
            crate::method!(noargs Event, "clear", Event::reset,
                "Takes the flag back: who calls wait() from now on waits."),
            crate::method!(noargs Event, "wait", Event::wait,
                "Waits until the flag is set and returns True."),
            loop_method!(Event),
        ])
        .getset([
            crate::getter!(
                Event,
                "_waiters",
                // SAFETY: the list is the event's field.
                |this: &Event| unsafe { this.waiters.view(this.as_any()) },
                "Those who wait."
            ),
            crate::getter!(Event, "_value", Event::is_set, "As is_set()."),
            loop_getter!(Event),
        ])
        .build(&CLASS)?;
    Ok(())
}
