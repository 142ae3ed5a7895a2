//! `as_completed()`: awaitables in the order in which they are done.

use super::{add_edge, awaiter, child, ensure_future, remove_edge};
use crate::awaitable::{spec, Awaitable, Flow, Kind, State, Waiting};
use crate::future;
use crate::kit::send::{self, Sent};
use crate::kit::{
    err, ffi, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Signature,
    Visitor,
};
use crate::raise;
use crate::runtime::alarm::Alarm;
use crate::runtime::target::{Target, Told};
use crate::task;
use std::cell::Cell;
use std::collections::VecDeque;

/// References, first in, first out. Nothing in here runs Python code, except `clear`.
struct Fifo(Cell<VecDeque<Obj>>);

impl Fifo {
    const fn new() -> Fifo {
        Fifo(Cell::new(VecDeque::new()))
    }

    fn with<R>(&self, f: impl FnOnce(&mut VecDeque<Obj>) -> R) -> R {
        let mut queue = self.0.take();
        let result = f(&mut queue);
        self.0.set(queue);
        result
    }

    fn is_empty(&self) -> bool {
        self.with(|queue| queue.is_empty())
    }

    fn push(&self, object: Obj) {
        self.with(|queue| queue.push_back(object));
    }

    fn pop(&self) -> Option<Obj> {
        self.with(VecDeque::pop_front)
    }

    fn remove(&self, object: &Any) {
        let removed = self.with(|queue| {
            let at = queue.iter().position(|held| held.is(object))?;
            queue.remove(at)
        });
        drop(removed);
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.with(|queue| queue.iter().for_each(|held| visitor.object(held)));
    }

    fn clear(&self) {
        drop(self.0.take());
    }
}

/// The iterator that `as_completed()` returns, plain and asynchronous.
#[repr(C)]
struct AsCompleted {
    target: Target,
    /// The set of futures that are not done.
    todo: ObjCell,
    /// Those that are done and were not handed out; `None` for each that was not in time.
    done: Fifo,
    /// The [`NextDone`]s that wait.
    takers: Fifo,
    /// How many may still be asked for.
    left: Cell<usize>,
    awaiter: ObjCell,
    alarm: Alarm,
    /// The arguments, until they are looked at.
    given: ObjCell,
    timeout: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for AsCompleted {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.todo);
        visitor.cell(&self.given);
        visitor.cell(&self.timeout);
        visitor.cell(&self.awaiter);
        self.done.traverse(visitor);
        self.takers.traverse(visitor);
        self.alarm.traverse(visitor);
    }

    fn clear(&self) {
        self.todo.clear();
        self.given.clear();
        self.timeout.clear();
        self.awaiter.clear();
        self.done.clear();
        self.takers.clear();
        self.alarm.clear();
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for AsCompleted {
    fn done(&self, future: &Any) -> PyResult<()> {
        let Some(todo) = self.todo.get() else {
            return Ok(());
        };
        if todo.len()? == 0 {
            // The time was up before.
            return Ok(());
        }
        todo.set_discard(future)?;
        remove_edge(future, self.awaiter.get().as_deref())?;
        self.put(future.own())?;
        if self.alarm.is_armed() && todo.len()? == 0 {
            self.alarm.disarm()?;
        }
        Ok(())
    }

    fn fire(&self) -> PyResult<()> {
        if !self.alarm.goes_off() {
            return Ok(());
        }
        let late = match self.todo.replace(Some(value::set()?)) {
            Some(todo) => todo.collect()?,
            None => return Ok(()),
        };
        let (target, awaiter) = (self.target(), self.awaiter.get());
        for future in &late {
            child::unlisten(future, &target)?;
            remove_edge(future, awaiter.as_deref())?;
            self.put(Obj::none())?;
        }
        Ok(())
    }
}

impl AsCompleted {
    fn put(&self, future: Obj) -> PyResult<()> {
        self.done.push(future);
        self.wake_next()
    }

    /// Wakes the taker that has waited longest.
    fn wake_next(&self) -> PyResult<()> {
        while let Some(taker) = self.takers.pop() {
            match taker.exact::<NextDone>() {
                Some(taker) if taker.wait.is_waiting() => return taker.wait.wake(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes one of those that may be asked for; false if there is none.
    fn reserve(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    fn give_back(&self) {
        self.left.set(self.left.get() + 1);
    }

    fn anext(&self) -> PyResult<Obj> {
        self.begin()?;
        NextDone::of(self, false)
    }

    /// Looks at the arguments, once: when the iterator is made, or before 3.13, where this is a generator, when
    /// it is first asked.
    #[inline]
    fn begin(&self) -> PyResult<()> {
        match self.given.take() {
            Some(given) => self.begin_with(&given),
            None => Ok(()),
        }
    }

    fn begin_with(&self, given: &Any) -> PyResult<()> {
        if is_awaitable(given)? {
            return Err(raise!(
                err::type_error(),
                "expects an iterable of awaitables, not {}",
                given.type_name()
            ));
        }
        self.admit_all(given)?;
        match self.timeout.take() {
            Some(timeout) => self.arm(&timeout),
            None => Ok(()),
        }
    }

    /// The awaitables of the argument, each once, as futures.
    fn admit_all(&self, awaitables: &Any) -> PyResult<()> {
        let event_loop = future::current_loop()?;
        let target = self.target();
        let (todo, awaiter) = (value::set()?, awaiter()?);
        drop(self.awaiter.replace(awaiter.clone()));
        let given = value::tuple_from(&*value::set_of(awaitables)?)?;
        for awaitable in given.tuple_items() {
            todo.set_add(&*ensure_future::ensure(awaitable, Some(&event_loop))?)?;
        }
        let futures = value::tuple_from(&todo)?;
        for future in futures.tuple_items() {
            child::listen(future, &target)?;
            add_edge(future, awaiter.as_deref())?;
        }
        self.left.set(futures.tuple_items().len());
        self.todo.set(todo);
        Ok(())
    }

    fn arm(&self, timeout: &Any) -> PyResult<()> {
        if self.left.get() == 0 {
            return Ok(());
        }
        let event_loop = future::current_loop()?;
        self.alarm
            .after(&event_loop, timeout.to_f64()?, &self.target())
    }
}

static WAIT_FOR_ONE: Kind = NextDone::KIND;
static ANEXT: Kind = NextDone::KIND.named("_AsCompletedIterator.__anext__");

/// What one iteration yields: awaiting it waits for the next future that is done.
type NextDone = Waiting<NextDoneState>;

struct NextDoneState {
    source: ObjCell,
    /// Whether the result of the future is returned, as in plain iteration, or the future.
    resolve: bool,
}

static NEXT_CLASS: Class = Class::new();

impl Awaitable for NextDone {
    const NAME: &'static str = "_AsCompletedIterator._wait_for_one";

    fn place() -> &'static Class {
        &NEXT_CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.source);
    }

    fn unlink(&self) {
        self.source.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let held = self.source.get_or_none();
        if let Some(source) = held.exact::<AsCompleted>() {
            // In plain iteration the iterator has counted when it made this.
            if !self.resolve && !source.reserve() {
                let end = err::stop_async_iteration().call0()?;
                return Err(err::restore(end));
            }
        }
        self.resume()
    }

    fn resume(&self) -> PyResult<Flow> {
        let held = self.source.get_or_none();
        let Some(source) = held.exact::<AsCompleted>() else {
            return Ok(Flow::Return(Obj::none()));
        };
        let Some(future) = source.done.pop() else {
            source.takers.push(self.as_any().own());
            return Ok(Flow::Park);
        };
        if future.is_none() {
            return Err(err::restore(err::timeout_error().call0()?));
        }
        if self.resolve {
            return child::result(&future).map(Flow::Return);
        }
        Ok(Flow::Return(future))
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        let held = self.source.get_or_none();
        if let Some(source) = held.exact::<AsCompleted>() {
            source.takers.remove(self.as_any());
            if self.wait.state() == State::Woken && !source.done.is_empty() {
                // Woken for nothing: somebody else may have what is there.
                source.wake_next()?;
            }
            source.give_back();
        }
        Err(err::raise_instance(&exception))
    }
}

impl NextDone {
    fn of(source: &AsCompleted, resolve: bool) -> PyResult<Obj> {
        let body = NextDone::of_kind(
            if resolve { &WAIT_FOR_ONE } else { &ANEXT },
            NextDoneState {
                source: ObjCell::new(source.as_any().own()),
                resolve,
            },
        );
        Ok(body.make()?.into_obj())
    }
}

/// `as_completed(fs, *, timeout=None)`.
pub(crate) fn as_completed(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> =
        Signature::new("as_completed", ["fs", "timeout"], 1).keyword_only_after(1);
    let [given, timeout] = args.bind(&SIGNATURE)?;
    let made: Own<AsCompleted> = AsCompleted {
        target: Target::new(&<AsCompleted as Told>::KIND),
        todo: ObjCell::empty(),
        done: Fifo::new(),
        takers: Fifo::new(),
        left: Cell::new(0),
        awaiter: ObjCell::empty(),
        alarm: Alarm::new(),
        given: ObjCell::empty(),
        timeout: ObjCell::empty(),
    }
    .make()?;
    drop(made.given.replace(given.map(Any::own)));
    drop(
        made.timeout
            .replace(timeout.and_then(Any::some).map(Any::own)),
    );
    #[cfg(Py_3_13)]
    made.begin()?;
    Ok(made.into_obj())
}

/// Whether one awaitable was given where many are expected.
fn is_awaitable(given: &Any) -> PyResult<bool> {
    // SAFETY: alive.
    if unsafe {
        ffi::PyList_CheckExact(given.raw()) != 0 || ffi::PyAnySet_CheckExact(given.raw()) != 0
    } {
        return Ok(false);
    }
    Ok(task::is_coroutine(given)?
        || crate::import!("inspect", "isawaitable")?
            .call1(given)?
            .truthy()?)
}

unsafe extern "C" fn next(object: crate::kit::Raw) -> crate::kit::Raw {
    // SAFETY: the interpreter passes an instance.
    let this = unsafe { Any::from_raw(object).cast_unchecked::<AsCompleted>() };
    send::iternext(|| {
        this.begin()?;
        if !this.reserve() {
            return Ok(Sent::Returned(Obj::none()));
        }
        NextDone::of(this, true).map(Sent::Yielded)
    })
}

pub(crate) fn build() -> PyResult<()> {
    spec::<NextDone>(c"ioxide.NextDone").build(&NEXT_CLASS)?;
    let itself = ffi::PyObject_SelfIter as *mut std::ffi::c_void;
    ClassSpec::new::<AsCompleted>(c"ioxide._AsCompletedIterator")
        .doc(c"Awaitables in the order in which they are done.")
        .slot(ffi::Py_tp_iter, itself)
        .slot(ffi::Py_tp_iternext, next as *mut std::ffi::c_void)
        .slot(ffi::Py_am_aiter, itself)
        .slot(
            ffi::Py_am_anext,
            crate::unary!(AsCompleted, AsCompleted::anext),
        )
        .build(&CLASS)?;
    Ok(())
}
