//! `wait()`: until the first of many futures is done, or the first that failed, or all.

use super::{add_edge, awaiter, child, remove_edge};
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::future::FutureView;
use crate::kit::{
    err, ffi, value, Any, Args, Class, Native, Obj, ObjCell, PyResult, Raised, Signature, Visitor,
};
use crate::runtime::alarm::Alarm;
use crate::runtime::target::{TargetKind, Told};
use crate::{intern, raise, running, task};
use std::cell::Cell;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    FirstCompleted,
    FirstException,
    AllCompleted,
}

impl Until {
    fn of(return_when: Option<&Any>) -> PyResult<Until> {
        let Some(given) = return_when else {
            return Ok(Until::AllCompleted);
        };
        for (name, until) in [
            (intern!("FIRST_COMPLETED"), Until::FirstCompleted),
            (intern!("FIRST_EXCEPTION"), Until::FirstException),
            (intern!("ALL_COMPLETED"), Until::AllCompleted),
        ] {
            if given.is(name) || given.equals(name)? {
                return Ok(until);
            }
        }
        Err(raise!(
            err::value_error(),
            "Invalid return_when value: {}",
            given.str_text()
        ))
    }
}

/// `wait(fs, timeout, return_when)`.
type WaitMany = Waiting<WaitManyState>;

struct WaitManyState {
    /// What was given; from the start on the futures as a set of our own, which becomes the set of those that
    /// are pending.
    futures: ObjCell,
    /// The same futures as a tuple.
    members: ObjCell,
    timeout: ObjCell,
    return_when: ObjCell,
    awaiter: ObjCell,
    until: Cell<Until>,
    unfinished: Cell<usize>,
    alarm: Alarm,
}

static CLASS: Class = Class::new();

impl WaitMany {
    fn cells(&self) -> [&ObjCell; 5] {
        [
            &self.futures,
            &self.members,
            &self.timeout,
            &self.return_when,
            &self.awaiter,
        ]
    }
}

// SAFETY: begins with `Wait`, whose kind begins with the `Told::KIND` given here.
unsafe impl Told for WaitMany {
    fn done(&self, future: &Any) -> PyResult<()> {
        self.unfinished.set(self.unfinished.get().saturating_sub(1));
        if self.is_enough(future)? {
            self.alarm.disarm()?;
            self.wait.wake()?;
        }
        remove_edge(future, self.awaiter.get().as_deref())
    }

    fn fire(&self) -> PyResult<()> {
        if self.alarm.goes_off() {
            self.wait.wake()?;
        }
        Ok(())
    }
}

impl Awaitable for WaitMany {
    const NAME: &'static str = "wait";
    const TOLD: TargetKind = <WaitMany as Told>::KIND;

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.alarm.traverse(visitor);
        self.cells().into_iter().for_each(|cell| visitor.cell(cell));
    }

    fn unlink(&self) {
        self.alarm.clear();
        self.cells().into_iter().for_each(ObjCell::clear);
    }

    fn start(&self) -> PyResult<Flow> {
        self.until.set(Until::AllCompleted);
        self.check_arguments()?;
        let event_loop = running::require_running_loop()?;
        let target = self.target();
        if let Some(timeout) = self.timeout.get() {
            self.alarm.after(&event_loop, timeout.to_f64()?, &target)?;
        }
        let awaiter = awaiter()?;
        drop(self.awaiter.replace(awaiter.clone()));
        let members = self.members.get_or_none();
        for future in members.tuple_items() {
            child::listen(future, &target)?;
            add_edge(future, awaiter.as_deref())?;
        }
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        self.stop_waiting()?;
        self.sort().map(Flow::Return)
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.stop_waiting()?;
        Err(err::raise_instance(&exception))
    }
}

impl WaitMany {
    fn check_arguments(&self) -> PyResult<()> {
        let given = self.futures.get_or_none();
        if is_one_awaitable(&given)? {
            return Err(raise!(
                err::type_error(),
                "expect a list of futures, not {}",
                given.type_name()
            ));
        }
        if !given.truthy()? {
            return Err(raise!(err::value_error(), "Set of Tasks/Futures is empty."));
        }
        self.until
            .set(Until::of(self.return_when.get().as_deref())?);
        let futures = value::set_of(&given)?;
        let members = value::tuple_from(&futures)?;
        for future in members.tuple_items() {
            if FutureView::exact(future).is_none() && task::is_coroutine(future)? {
                return Err(passed_coroutine());
            }
        }
        self.unfinished.set(members.tuple_items().len());
        self.futures.set(futures);
        self.members.set(members);
        Ok(())
    }

    /// Whether the waiting is over now that this future is done.
    fn is_enough(&self, future: &Any) -> PyResult<bool> {
        Ok(self.unfinished.get() == 0
            || match self.until.get() {
                Until::FirstCompleted => true,
                Until::FirstException => {
                    !child::is_cancelled(future)? && child::exception(future)?.is_some()
                }
                Until::AllCompleted => false,
            })
    }

    /// Leaves no trace in the futures and in the timers.
    fn stop_waiting(&self) -> PyResult<()> {
        self.alarm.disarm()?;
        let (target, awaiter) = (self.target(), self.awaiter.get());
        let members = self.members.get_or_none();
        for future in members.tuple_items() {
            child::unlisten(future, &target)?;
            remove_edge(future, awaiter.as_deref())?;
        }
        Ok(())
    }

    /// The sets of those that are done and of those that are not.
    fn sort(&self) -> PyResult<Obj> {
        let pending = self.futures.get_or_none();
        let members = self.members.get_or_none();
        let done = value::set()?;
        let mut any_pending = false;
        let mut finished = Vec::with_capacity(members.tuple_items().len());
        for future in members.tuple_items() {
            if child::is_done(future)? {
                finished.push(*future);
            } else {
                any_pending = true;
            }
        }
        if !any_pending {
            return value::tuple(&[&pending, &done]);
        }
        for future in finished {
            done.set_add(future)?;
            pending.set_discard(future)?;
        }
        value::tuple(&[&done, &pending])
    }
}

#[cold]
fn passed_coroutine() -> Raised {
    raise!(
        err::type_error(),
        "Passing coroutines is forbidden, use tasks explicitly."
    )
}

/// Whether one future or coroutine was given where many are expected.
fn is_one_awaitable(given: &Any) -> PyResult<bool> {
    // SAFETY: alive.
    if unsafe {
        ffi::PyAnySet_CheckExact(given.raw()) != 0 || ffi::PyList_CheckExact(given.raw()) != 0
    } {
        return Ok(false);
    }
    Ok(super::ensure_future::is_future(given)? || task::is_coroutine(given)?)
}

/// `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`.
pub(crate) fn wait(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<3> =
        Signature::new("wait", ["fs", "timeout", "return_when"], 1).keyword_only_after(1);
    let [futures, timeout, return_when] = args.bind(&SIGNATURE)?;
    let body = WaitMany::with(WaitManyState {
        futures: ObjCell::empty(),
        members: ObjCell::empty(),
        timeout: ObjCell::empty(),
        return_when: ObjCell::empty(),
        awaiter: ObjCell::empty(),
        until: Cell::new(Until::AllCompleted),
        unfinished: Cell::new(0),
        alarm: Alarm::new(),
    });
    drop(body.futures.replace(futures.map(Any::own)));
    drop(
        body.timeout
            .replace(timeout.and_then(Any::some).map(Any::own)),
    );
    drop(body.return_when.replace(return_when.map(Any::own)));
    Ok(body.make()?.into_obj())
}

pub(crate) fn build() -> PyResult<()> {
    spec::<WaitMany>(c"ioxide.Wait").build(&CLASS)?;
    Ok(())
}
