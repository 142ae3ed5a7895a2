//! Barrier: lets tasks go on when a number of them has arrived.

use super::acquire::Acquired;
use super::bound::{loop_getter, loop_method, LoopBound};
use super::condition::waiting::ConditionWait;
use super::condition::Condition;
use super::lock::Lock;
use super::{plain_repr, waiters};
use crate::awaitable::inner::Inner;
use crate::awaitable::{ready, Awaitable, Flow, Waiting};
use crate::kit::class::{Construct, WeakList};
use crate::kit::send::Sent;
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult, Raised,
    Signature, Visitor,
};
use crate::{import, raise};
use std::cell::Cell;
use std::mem::offset_of;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Tasks arrive.
    Filling,
    /// All have arrived and leave; who comes now waits.
    Draining,
    /// As Draining, but those who were waiting leave with an error.
    Resetting,
    /// Nobody gets through.
    Broken,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Filling => "filling",
            State::Draining => "draining",
            State::Resetting => "resetting",
            State::Broken => "broken",
        }
    }
}

/// `ioxide.Barrier`.
#[repr(C)]
pub(crate) struct Barrier {
    head: Head,
    /// Notified whenever the state changes.
    condition: ObjCell,
    parties: Cell<i64>,
    /// How many are inside.
    count: Cell<i64>,
    state: Cell<State>,
    bound: LoopBound,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Barrier {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.condition);
        self.bound.traverse(visitor);
    }

    fn clear(&self) {
        self.condition.clear();
        self.bound.clear();
    }
}

impl Construct for Barrier {
    fn empty() -> Barrier {
        Barrier {
            head: Head::new(),
            condition: ObjCell::empty(),
            parties: Cell::new(0),
            count: Cell::new(0),
            state: Cell::new(State::Filling),
            bound: LoopBound::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Barrier.__init__", ["parties"], 1);
        let [parties] = args.bind(&SIGNATURE)?;
        let parties = parties.map_or(Ok(0), Any::to_i64)?;
        if parties < 1 {
            return Err(raise!(err::value_error(), "parties must be >= 1"));
        }
        self.condition.set(Condition::new()?.into_obj());
        self.parties.set(parties);
        self.count.set(0);
        self.state.set(State::Filling);
        Ok(())
    }
}

impl Barrier {
    fn condition(&self) -> PyResult<Own<Condition>> {
        match self
            .condition
            .get()
            .as_deref()
            .and_then(Any::exact::<Condition>)
        {
            Some(condition) => Ok(condition.own()),
            None => Err(raise!(err::attribute_error(), "_cond")),
        }
    }

    fn waiting(&self) -> i64 {
        match self.state.get() {
            State::Filling => self.count.get(),
            _ => 0,
        }
    }

    fn is_broken(&self) -> bool {
        self.state.get() == State::Broken
    }

    fn is_draining(&self) -> bool {
        matches!(self.state.get(), State::Draining | State::Resetting)
    }

    /// Somebody has left. The last one opens the barrier again for those who wait outside.
    fn depart(&self) -> PyResult<()> {
        self.count.set(self.count.get() - 1);
        if self.count.get() > 0 {
            return Ok(());
        }
        if self.is_draining() {
            self.state.set(State::Filling);
        }
        self.condition()?.notify_all()
    }

    fn change(&self, errand: Errand) -> PyResult<()> {
        match errand {
            Errand::Abort => self.state.set(State::Broken),
            _ if self.count.get() > 0 => self.state.set(State::Resetting),
            _ => self.state.set(State::Filling),
        }
        self.condition()?.notify_all()
    }

    fn call(&self, errand: Errand) -> PyResult<Own<BarrierCall>> {
        let body = BarrierCall::with(BarrierCallState {
            barrier: self.own(),
            errand,
            phase: Cell::new(Phase::Entering),
            index: Cell::new(0),
            inner: Inner::empty(),
        });
        body.make()
    }

    fn state_member(&self) -> PyResult<Obj> {
        let name = value::str(self.state.get().name())?;
        import!("asyncio.locks", "_BarrierState")?.call1(&name)
    }

    fn repr(&self) -> PyResult<Obj> {
        let plain = plain_repr(self.as_any())?;
        let inner = plain
            .to_str()?
            .trim_start_matches('<')
            .trim_end_matches('>');
        let state = self.state.get().name();
        if self.is_broken() {
            return value::str(&format!("<{inner} [{state}]>"));
        }
        let (waiting, parties) = (self.waiting(), self.parties.get());
        value::str(&format!("<{inner} [{state}, waiters:{waiting}/{parties}]>"))
    }
}

/// What a coroutine method of the barrier is to do once it has the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errand {
    Wait,
    Reset,
    Abort,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the condition's lock.
    Entering,
    /// Waits until those of the round before have left.
    Blocked,
    /// Waits for the others to arrive.
    Arrived,
}

/// `Barrier.wait()`, `reset()` and `abort()`: what happens between taking the condition's lock and giving it back.
type BarrierCall = Waiting<BarrierCallState>;

struct BarrierCallState {
    barrier: Own<Barrier>,
    errand: Errand,
    phase: Cell<Phase>,
    /// Which of the tasks of a round this is.
    index: Cell<i64>,
    /// Waiting for the condition.
    inner: Inner,
}

static CALL: Class = Class::new();

impl Awaitable for BarrierCall {
    const NAME: &'static str = "Barrier.wait";

    fn place() -> &'static Class {
        &CALL
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.object(self.barrier.as_obj());
        self.inner.traverse(visitor);
    }

    fn unlink(&self) {
        self.inner.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let lock = self.lock()?;
        if lock.try_acquire()? {
            return self.entered();
        }
        lock.enlist(self.as_any())?;
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        if self.phase.get() == Phase::Entering {
            self.lock()?.admit(self.as_any())?;
            return self.entered();
        }
        self.listened(self.inner.resume())
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        if self.phase.get() == Phase::Entering {
            self.lock()?
                .dismiss(self.as_any(), self.wait.is_woken(), &exception)?;
            return Err(err::restore(exception));
        }
        self.listened(self.inner.throw(&exception))
    }
}

impl BarrierCall {
    fn lock(&self) -> PyResult<Own<Lock>> {
        match self.barrier.condition()?.native_lock() {
            Some(lock) => Ok(lock),
            None => Err(raise!(
                err::runtime_error(),
                "the barrier's condition was changed"
            )),
        }
    }

    /// The lock is held.
    fn entered(&self) -> PyResult<Flow> {
        if self.errand == Errand::Wait {
            self.phase.set(Phase::Blocked);
            return self.proceed();
        }
        let changed = self.barrier.change(self.errand);
        self.leave(changed.map(|()| Obj::none()))
    }

    /// Waits for the condition.
    fn listen(&self) -> PyResult<Flow> {
        let condition = self.barrier.condition()?;
        let wait = ConditionWait::new(&condition, None)?;
        self.inner.begin(wait.as_obj())?;
        self.listened(self.inner.resume())
    }

    /// The waiting for the condition has come this far.
    fn listened(&self, sent: PyResult<Sent>) -> PyResult<Flow> {
        match sent {
            Ok(Sent::Yielded(object)) => Ok(Flow::Pass(object)),
            Ok(Sent::Returned(_)) => self.proceed(),
            Err(raised) => match self.phase.get() {
                Phase::Arrived => self.depart(Err(raised)),
                _ => self.leave(Err(raised)),
            },
        }
    }

    /// Goes as far as the barrier's state allows.
    fn proceed(&self) -> PyResult<Flow> {
        let barrier = &self.barrier;
        if self.phase.get() == Phase::Blocked {
            if barrier.is_draining() {
                return self.listen();
            }
            if barrier.is_broken() {
                return self.leave(Err(broken("Barrier aborted")));
            }
            self.arrive();
            if self.index.get() + 1 == barrier.parties.get() {
                barrier.state.set(State::Draining);
                let notified = barrier.condition().and_then(|c| c.notify_all());
                return self.depart(notified);
            }
        }
        match barrier.state.get() {
            State::Filling => self.listen(),
            State::Draining => self.depart(Ok(())),
            State::Broken | State::Resetting => {
                self.depart(Err(broken("Abort or reset of barrier")))
            }
        }
    }

    fn arrive(&self) {
        let index = self.barrier.count.get();
        self.index.set(index);
        self.barrier.count.set(index + 1);
        self.phase.set(Phase::Arrived);
    }

    /// Leaves after having arrived.
    fn depart(&self, result: PyResult<()>) -> PyResult<Flow> {
        let departed = kept(result, || self.barrier.depart());
        self.leave(departed.and_then(|()| value::int(self.index.get())))
    }

    /// Gives the lock back.
    fn leave(&self, result: PyResult<Obj>) -> PyResult<Flow> {
        kept(result, || self.lock()?.release()).map(Flow::Return)
    }
}

/// Does what must be done in any case; an error of its own replaces the one that is on its way.
fn kept<T>(result: PyResult<T>, last: impl FnOnce() -> PyResult<()>) -> PyResult<T> {
    match result {
        Ok(value) => last().map(|()| value),
        Err(raised) => {
            let exception = err::take(raised);
            last()?;
            Err(err::restore(exception))
        }
    }
}

fn broken(message: &str) -> Raised {
    match import!("asyncio.exceptions", "BrokenBarrierError") {
        Ok(class) => err::raise(class, message),
        Err(raised) => raised,
    }
}

pub(super) fn build() -> PyResult<()> {
    waiters::spec::<BarrierCall>(c"ioxide.BarrierCall").build(&CALL)?;
    ClassSpec::new::<Barrier>(c"ioxide.Barrier")
        .doc(c"Barrier(parties)\n--\n\nLets a fixed number of tasks wait for each other.\n\nparties: how many; \
                ValueError if less than one.\n\nNot thread-safe: other threads use it by \
                loop.call_soon_threadsafe().")
        .short_name()
        .constructible::<Barrier>()
        .dict(offset_of!(Barrier, dict))
        .weak(offset_of!(Barrier, weak))
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(Barrier, Barrier::repr))
        .coroutines(["wait", "reset", "abort"])
        .methods([
            crate::method!(noargs Barrier, "wait", |this: &Barrier| this.call(Errand::Wait),
                "Waits until all parties have called this; returns a number from 0 to parties - 1. \
                    BrokenBarrierError if it is reset or aborted."),
            crate::method!(noargs Barrier, "reset", |this: &Barrier| this.call(Errand::Reset),
                "Empties the barrier; those who wait get BrokenBarrierError."),
            crate::method!(noargs Barrier, "abort", |this: &Barrier| this.call(Errand::Abort),
                "Breaks the barrier; who waits or will wait gets BrokenBarrierError."),
            crate::method!(noargs Barrier, "__aenter__", |this: &Barrier| {
                this.as_any().method0(crate::intern!("wait"))
            }, "Waits."),
            crate::method!(args Barrier, "__aexit__",
                |_: &Barrier, _: Args<'_>| ready::nothing(), "Does nothing."),
            loop_method!(Barrier),
        ])
        .getset([
            crate::getter!(Barrier, "parties", |this: &Barrier| value::int(this.parties.get()),
                "How many have to arrive."),
            crate::getter!(Barrier, "n_waiting", |this: &Barrier| value::int(this.waiting()),
                "How many have arrived and wait."),
            crate::getter!(Barrier, "broken", Barrier::is_broken, "Whether nobody gets through."),
            crate::getter!(Barrier, "_cond", |this: &Barrier| {
                this.condition().map(Own::into_obj)
            }, "Notified at each change."),
            crate::getter!(Barrier, "_count", |this: &Barrier| value::int(this.count.get()),
                "How many are inside."),
            crate::getter!(Barrier, "_state", Barrier::state_member, "asyncio's name of the state."),
            loop_getter!(Barrier),
        ])
        .build(&CLASS)?;
    Ok(())
}
