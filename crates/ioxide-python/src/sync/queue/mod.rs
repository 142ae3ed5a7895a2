//! Queue, LifoQueue and PriorityQueue: what producers put and consumers get. Here: the object.
//!
//! A queue of exactly one of these classes, without attributes of its own, does everything natively. For any other
//! the methods that asyncio's code calls on `self` (`empty`, `full`, `_put`, `get_nowait` …) are called, so that
//! overriding them takes effect.

mod get;
mod join;
mod put;
mod store;
mod table;

use super::bound::LoopBound;
use super::event::Event;
use super::waiters::{WaitList, Waiters, Wakes};
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, value, Any, Args, Class, Head, Native, Obj, ObjCell, Own, PyResult, Raised, Signature,
    Visitor,
};
use crate::{import, intern, raise};
use std::cell::Cell;
use store::{Order, Store};

/// `ioxide.Queue`.
#[repr(C)]
pub(crate) struct Queue {
    head: Head,
    /// Whether the class is exactly one of ours.
    exact: Cell<bool>,
    is_shutdown: Cell<bool>,
    order: Order,
    /// How many items there may be, 0 for any number.
    limit: Cell<usize>,
    unfinished: Cell<i64>,
    store: Store,
    getters: WaitList,
    putters: WaitList,
    /// The argument, as it was given.
    maxsize: ObjCell,
    /// Set while nothing is unfinished; made when somebody asks for it.
    finished: ObjCell,
    bound: LoopBound,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();
static LIFO: Class = Class::new();
static PRIORITY: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it in `table`.
unsafe impl Native for Queue {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.store.traverse(visitor);
        self.getters.traverse(visitor);
        self.putters.traverse(visitor);
        visitor.cell(&self.maxsize);
        visitor.cell(&self.finished);
        self.bound.traverse(visitor);
    }

    fn clear(&self) {
        self.store.clear();
        self.getters.clear();
        self.putters.clear();
        self.maxsize.clear();
        self.finished.clear();
        self.bound.clear();
    }
}

impl Construct for Queue {
    fn empty() -> Queue {
        Queue::of(Order::Fifo)
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Queue.__init__", ["maxsize"], 0);
        let [maxsize] = args.bind(&SIGNATURE)?;
        let maxsize = maxsize.map_or_else(|| value::int(0), |maxsize| Ok(maxsize.own()))?;
        let class = self.as_any().type_raw();
        self.exact.set(
            [&CLASS, &LIFO, &PRIORITY]
                .iter()
                .any(|ours| ours.raw() == class),
        );
        self.set_maxsize(Some(&maxsize))?;
        self.getters.clear();
        self.putters.clear();
        self.unfinished.set(0);
        self.finished.clear();
        if self.is_plain() {
            self.store.reset(self.order)?;
        } else {
            self.as_any().method(intern!("_init"), &[&maxsize])?;
        }
        self.is_shutdown.set(false);
        Ok(())
    }
}

impl Queue {
    fn of(order: Order) -> Queue {
        Queue {
            head: Head::new(),
            exact: Cell::new(false),
            is_shutdown: Cell::new(false),
            order,
            limit: Cell::new(0),
            unfinished: Cell::new(0),
            store: Store::new(),
            getters: WaitList::new(Wakes::None),
            putters: WaitList::new(Wakes::None),
            maxsize: ObjCell::empty(),
            finished: ObjCell::empty(),
            bound: LoopBound::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    /// Whether nothing can be overridden.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.exact.get() && self.dict.is_empty()
    }

    fn set_maxsize(&self, maxsize: Option<&Any>) -> PyResult<()> {
        let Some(maxsize) = maxsize else {
            return Err(raise!(err::attribute_error(), "_maxsize"));
        };
        // A fraction counts as full when there are more items than it, so it is rounded up.
        let limit = maxsize.to_f64()?.ceil();
        self.limit.set(if limit > 0.0 { limit as usize } else { 0 });
        self.maxsize.set(maxsize.own());
        Ok(())
    }

    fn empty(&self) -> PyResult<bool> {
        self.store.is_empty()
    }

    fn qsize(&self) -> PyResult<usize> {
        self.store.len()
    }

    fn full(&self) -> PyResult<bool> {
        let limit = self.limit.get();
        if limit == 0 {
            return Ok(false);
        }
        if self.is_plain() {
            return Ok(self.store.len()? >= limit);
        }
        let size = self.as_any().method0(intern!("qsize"))?.to_i64()?;
        Ok(usize::try_from(size).is_ok_and(|size| size >= limit))
    }

    /// `self.empty()`.
    #[inline]
    fn ask_empty(&self) -> PyResult<bool> {
        if self.is_plain() {
            return self.store.is_empty();
        }
        self.as_any().method0(intern!("empty"))?.truthy()
    }

    /// `self.full()`.
    #[inline]
    fn ask_full(&self) -> PyResult<bool> {
        if self.is_plain() {
            return self.full();
        }
        self.as_any().method0(intern!("full"))?.truthy()
    }

    /// `self.put_nowait(item)`.
    #[inline]
    fn ask_put(&self, item: &Any) -> PyResult<Obj> {
        if self.is_plain() {
            return self.put_nowait(item).map(|()| Obj::none());
        }
        self.as_any().method(intern!("put_nowait"), &[item])
    }

    /// `self.get_nowait()`.
    #[inline]
    fn ask_get(&self) -> PyResult<Obj> {
        if self.is_plain() {
            return self.get_nowait();
        }
        self.as_any().method0(intern!("get_nowait"))
    }

    /// `self._get()`.
    #[inline]
    fn take(&self) -> PyResult<Obj> {
        if self.is_plain() {
            return self.store.take(self.order);
        }
        self.as_any().method0(intern!("_get"))
    }

    #[inline]
    fn put_nowait(&self, item: &Any) -> PyResult<()> {
        if self.is_shutdown.get() {
            return Err(shut_down());
        }
        if self.ask_full()? {
            return Err(raise_named(import!("asyncio.queues", "QueueFull")));
        }
        if self.is_plain() {
            self.store.put(item, self.order)?;
        } else {
            self.as_any().method(intern!("_put"), &[item])?;
        }
        self.unfinished.set(self.unfinished.get() + 1);
        if let Some(event) = self.made_event() {
            event.reset();
        }
        self.getters.release_next()
    }

    #[inline]
    fn get_nowait(&self) -> PyResult<Obj> {
        if self.ask_empty()? {
            if self.is_shutdown.get() {
                return Err(shut_down());
            }
            return Err(raise_named(import!("asyncio.queues", "QueueEmpty")));
        }
        let item = self.take()?;
        self.putters.release_next()?;
        Ok(item)
    }

    fn task_done(&self) -> PyResult<()> {
        if self.unfinished.get() <= 0 {
            return Err(raise!(
                err::value_error(),
                "task_done() called too many times"
            ));
        }
        self.unfinished.set(self.unfinished.get() - 1);
        self.note_if_finished()
    }

    fn note_if_finished(&self) -> PyResult<()> {
        match self.made_event() {
            Some(event) if self.unfinished.get() == 0 => event.set(),
            _ => Ok(()),
        }
    }

    /// The event of `join`, if anybody has asked for it.
    #[inline]
    fn made_event(&self) -> Option<Own<Event>> {
        self.finished.get()?.cast::<Event>().map(Native::own)
    }

    fn finished_event(&self) -> PyResult<Own<Event>> {
        if let Some(event) = self.made_event() {
            return Ok(event);
        }
        let event = Event::new(self.unfinished.get() == 0)?;
        self.finished.set(event.clone().into_obj());
        Ok(event)
    }

    fn shutdown(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Queue.shutdown", ["immediate"], 0);
        let [immediate] = args.bind(&SIGNATURE)?;
        self.is_shutdown.set(true);
        if immediate.map_or(Ok(false), Any::truthy)? {
            while !self.ask_empty()? {
                drop(self.take()?);
                if self.unfinished.get() > 0 {
                    self.unfinished.set(self.unfinished.get() - 1);
                }
            }
            self.note_if_finished()?;
        }
        self.getters.release_all()?;
        self.putters.release_all()
    }

    /// `_wakeup_next(waiters)`, for subclasses: ours, or a deque of futures.
    fn wakeup_next(&self, waiters: &Any) -> PyResult<()> {
        if let Some(ours) = waiters.exact::<Waiters>() {
            return ours.list().release_next();
        }
        while waiters.truthy()? {
            let waiter = waiters.method0(intern!("popleft"))?;
            if !waiter.method0(intern!("done"))?.truthy()? {
                return waiter
                    .method(intern!("set_result"), &[&Obj::none()])
                    .map(drop);
            }
        }
        Ok(())
    }

    fn format(&self) -> PyResult<String> {
        let mut text = format!("maxsize={}", self.maxsize.get_or_none().repr_text());
        if !self.store.is_empty()? {
            text += &format!(" _queue={}", self.store.snapshot()?.repr_text());
        }
        for (name, waiters) in [("_getters", &self.getters), ("_putters", &self.putters)] {
            if !waiters.is_empty() {
                text += &format!(" {name}[{}]", waiters.len());
            }
        }
        if self.unfinished.get() != 0 {
            text += &format!(" tasks={}", self.unfinished.get());
        }
        if self.is_shutdown.get() {
            text += " shutdown";
        }
        Ok(text)
    }

    /// `self._format()`.
    fn ask_format(&self) -> PyResult<String> {
        if self.is_plain() {
            return self.format();
        }
        let text = self.as_any().method0(intern!("_format"))?;
        Ok(text.to_str()?.to_owned())
    }

    fn repr(&self) -> PyResult<Obj> {
        let (name, format) = (self.as_any().type_name(), self.ask_format()?);
        value::str(&format!("<{name} at {:p} {format}>", self.as_any().raw()))
    }

    fn str(&self) -> PyResult<Obj> {
        let (name, format) = (self.as_any().type_name(), self.ask_format()?);
        value::str(&format!("<{name} {format}>"))
    }
}

fn shut_down() -> Raised {
    raise_named(import!("ioxide.exceptions", "QueueShutDown"))
}

fn raise_named(class: PyResult<&Any>) -> Raised {
    match class {
        Ok(class) => err::raise_bare(class),
        Err(raised) => raised,
    }
}

/// A queue that gives out the newest item first, or the least.
macro_rules! derived {
    ($name:ident, $class:ident, $order:expr) => {
        #[repr(C)]
        pub(crate) struct $name(Queue);

        // SAFETY: `repr(C)`, begins with the struct of its base, and the class is built from it in `table`.
        unsafe impl Native for $name {
            type Extra = ();

            fn class() -> &'static Class {
                &$class
            }

            fn traverse(&self, visitor: &mut Visitor) {
                self.0.traverse(visitor);
            }

            fn clear(&self) {
                self.0.clear();
            }
        }

        impl Construct for $name {
            fn empty() -> $name {
                $name(Queue::of($order))
            }

            fn init(&self, args: Args<'_>) -> PyResult<()> {
                self.0.init(args)
            }
        }
    };
}

derived!(LifoQueue, LIFO, Order::Lifo);
derived!(PriorityQueue, PRIORITY, Order::Priority);

pub(super) fn build() -> PyResult<()> {
    get::build()?;
    put::build()?;
    join::build()?;
    table::build()
}
