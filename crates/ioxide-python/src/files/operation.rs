//! One operation, from the loop to a thread and back.
//!
//! # Where it runs
//! On the native pool of the running loop. Where the loop is not ours, or has been given another executor, that
//! loop's `run_in_executor` runs it: the same operation, one more future.
//!
//! # Cancelling
//! An operation that has not begun is never begun. One that is under way cannot be stopped: its thread finishes,
//! and the result is disposed of, as by closing the file that was opened for nobody.

use super::strand::Strand;
use super::whole::{Attempt, Prepared, Whole};
use crate::awaitable::{spec, Awaitable, Flow, Kind, Waiting};
use crate::executor::job::{Call, Job};
use crate::executor::Ticket;
use crate::kit::{err, Any, Args, Class, Native, Obj, ObjCell, Own, PyResult, Signature, Visitor};
use crate::runtime::target::{TargetKind, Told};
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::{intern, raise, running};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many turns an operation of a crowd waits for what the first one finds out about the directory.
const PATIENCE: u8 = 4;

/// What is to be done.
enum Plan {
    Whole(Whole),
    Prepared(Box<Prepared>),
    Call(Call),
    /// It is under way, or over.
    Taken,
}

/// How far an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    New,
    /// Other operations of the file come first.
    Queued,
    /// Given to a thread.
    Submitted,
    /// A thread has begun, or is done and the loop does not know yet.
    Begun,
    Over,
}

pub(crate) type Operation = Waiting<OperationState>;

pub(crate) struct OperationState {
    stage: Cell<Stage>,
    /// Nobody waits for the outcome any more.
    abandoned: Cell<bool>,
    /// How many more turns it waits for what others find out.
    patience: Cell<u8>,
    has_failed: Cell<bool>,
    /// It is done also if nobody waits for it any more: closing a file.
    always: Cell<bool>,
    plan: RefCell<Plan>,
    event_loop: ObjCell,
    /// The file's, if the operation is one of a file.
    strand: ObjCell,
    /// The executor to run in, if a program has chosen one.
    executor: ObjCell,
    /// Called with a result that nobody gets.
    dispose: ObjCell,
    outcome: ObjCell,
}

const KIND: Kind = Operation::KIND;
static CALL: Kind = KIND;
pub(super) static READ: Kind = KIND.named("files.read_bytes");
pub(super) static WRITE: Kind = KIND.named("files.write_bytes");
pub(super) static COPY: Kind = KIND.named("files.copy");

static CLASS: Class = Class::new();

impl Awaitable for Operation {
    const NAME: &'static str = "files.call";
    const TOLD: TargetKind = <Operation as Told>::KIND;

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        if let Ok(plan) = self.plan.try_borrow() {
            if let Plan::Call(call) = &*plan {
                call.traverse(visitor);
            }
        }
        visitor.cells(self.cells());
    }

    fn unlink(&self) {
        ObjCell::clear_all(self.cells());
    }

    fn start(&self) -> PyResult<Flow> {
        let event_loop = running::require_running_loop()?;
        self.event_loop.set(event_loop);
        self.prepare()?;
        if self.may_attempt() {
            return if is_time_to_give_way() {
                Ok(Flow::Yield)
            } else {
                self.attempt()
            };
        }
        if let Some(strand) = self.strand() {
            if !strand.enter(self) {
                self.stage.set(Stage::Queued);
                return Ok(Flow::Park);
            }
        }
        self.submit_or_leave()?;
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        match self.stage.get() {
            Stage::New => self.attempt(),
            Stage::Over => self.finish(),
            // Woken without an outcome: the executor has dropped it.
            _ => Err(err::raise_bare(crate::errors::cancelled()?)),
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.abandoned.set(true);
        if self.stage.get() == Stage::Over {
            self.dispose_of_outcome();
        }
        Err(err::raise_instance(&exception))
    }
}

// SAFETY: an awaitable whose `TOLD` this is.
unsafe impl Told for Operation {
    /// Back on the loop: the thread is done.
    fn fire(&self) -> PyResult<()> {
        self.stage.set(Stage::Over);
        let next = match self.strand() {
            Some(strand) => strand.leave(),
            None => Ok(()),
        };
        if self.abandoned.get() {
            self.dispose_of_outcome();
        } else {
            self.wait.wake()?;
        }
        next
    }
}

/// What is in memory is read and written without waiting; every so often the other tasks have their turn.
fn is_time_to_give_way() -> bool {
    const IN_A_ROW: u32 = 16;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed) % IN_A_ROW == IN_A_ROW - 1
}

impl Operation {
    fn make_with(kind: &'static Kind, plan: Plan) -> PyResult<Own<Operation>> {
        Operation::of_kind(
            kind,
            OperationState {
                stage: Cell::new(Stage::New),
                abandoned: Cell::new(false),
                patience: Cell::new(PATIENCE),
                has_failed: Cell::new(false),
                always: Cell::new(false),
                plan: RefCell::new(plan),
                event_loop: ObjCell::empty(),
                strand: ObjCell::empty(),
                executor: ObjCell::empty(),
                dispose: ObjCell::empty(),
                outcome: ObjCell::empty(),
            },
        )
        .make()
    }

    /// A whole operation, to be awaited.
    pub(super) fn whole(kind: &'static Kind, whole: Whole) -> PyResult<Obj> {
        Ok(Operation::make_with(kind, Plan::Whole(whole))?.into_obj())
    }

    /// A call in the order of the file's operations, to be awaited.
    pub(super) fn in_order(
        call: Call,
        strand: Option<Obj>,
        executor: Option<Obj>,
    ) -> PyResult<Obj> {
        let operation = Operation::make_with(&CALL, Plan::Call(call))?;
        drop(operation.strand.replace(strand));
        let executor = executor.filter(|executor| !executor.is_none());
        drop(operation.executor.replace(executor));
        Ok(operation.into_obj())
    }

    fn cells(&self) -> [&ObjCell; 5] {
        [
            &self.event_loop,
            &self.strand,
            &self.executor,
            &self.dispose,
            &self.outcome,
        ]
    }

    fn strand(&self) -> Option<Own<Strand>> {
        let strand = self.strand.get()?;
        strand.exact::<Strand>().map(Native::own)
    }

    /// Nobody waits for it, and it need not be done.
    fn is_pointless(&self) -> bool {
        self.abandoned.get() && !self.always.get()
    }

    fn prepare(&self) -> PyResult<()> {
        let plan = self.plan.replace(Plan::Taken);
        let prepared = match plan {
            Plan::Whole(whole) => Plan::Prepared(Box::new(whole.prepare()?)),
            plan => plan,
        };
        self.plan.replace(prepared);
        Ok(())
    }

    fn may_attempt(&self) -> bool {
        matches!(&*self.plan.borrow(), Plan::Prepared(prepared) if !matches!(**prepared, Prepared::Copy { .. }))
    }

    /// Does what needs no waiting; anything else is given to a thread.
    fn attempt(&self) -> PyResult<Flow> {
        let plan = self.plan.replace(Plan::Taken);
        let Plan::Prepared(mut prepared) = plan else {
            return Err(raise!(err::runtime_error(), "the operation is over"));
        };
        let patience = self.patience.get();
        match prepared.attempt(patience > 0)? {
            Attempt::Done(result) => {
                self.stage.set(Stage::Over);
                Ok(Flow::Return(result))
            }
            Attempt::Later => {
                self.patience.set(patience - 1);
                self.plan.replace(Plan::Prepared(prepared));
                Ok(Flow::Yield)
            }
            Attempt::Thread => {
                self.plan.replace(Plan::Prepared(prepared));
                self.submit()?;
                Ok(Flow::Park)
            }
        }
    }

    /// It is the operation's turn; false if nobody waits for it any more.
    pub(super) fn begin_turn(&self) -> PyResult<bool> {
        if self.is_pointless() {
            return Ok(false);
        }
        match self.submit() {
            Ok(()) => Ok(true),
            Err(raised) => {
                // It has failed in its turn: whoever awaits it is told, and the next one may try.
                self.keep_failure(err::take(raised));
                self.stage.set(Stage::Over);
                self.wait.wake()?;
                Ok(false)
            }
        }
    }

    /// As [`Operation::submit`], leaving the strand if that fails.
    fn submit_or_leave(&self) -> PyResult<()> {
        self.submit().inspect_err(|_| {
            err::preserved(|| {
                if let Some(strand) = self.strand() {
                    if let Err(raised) = strand.leave() {
                        err::unraisable(raised, self.as_any());
                    }
                }
            });
        })
    }

    /// Gives the operation to a thread.
    fn submit(&self) -> PyResult<()> {
        let Some(event_loop) = self.event_loop.get() else {
            return Err(raise!(err::runtime_error(), "no running event loop"));
        };
        let chosen = self.executor.get();
        if let Some(native) = EventLoop::of(&event_loop) {
            native.refuse_if_closed()?;
            let executor = match &chosen {
                Some(executor) => executor.clone(),
                None => native.default_executor()?,
            };
            if let Some(pool) = crate::executor::native(&executor)? {
                self.stage.set(Stage::Submitted);
                return pool.submit_from(native, Ticket::File(self.own()));
            }
        }
        self.submit_elsewhere(&event_loop, chosen.as_deref())
    }

    /// The loop's own method runs it, in an executor that is not ours.
    fn submit_elsewhere(&self, event_loop: &Any, executor: Option<&Any>) -> PyResult<()> {
        let run = self.as_any().attr(intern!("_run"))?;
        let none = Obj::none();
        // Before: the thread may have begun when the call returns.
        self.stage.set(Stage::Submitted);
        let future = event_loop.method(
            intern!("run_in_executor"),
            &[executor.unwrap_or(&none), &run],
        )?;
        let told = self.as_any().attr(intern!("_ended"))?;
        future
            .method(intern!("add_done_callback"), &[&told])
            .map(drop)
    }

    /// On a thread: does it, unless nobody waits for it any more.
    fn perform(&self) {
        self.stage.set(Stage::Begun);
        let plan = self.plan.replace(Plan::Taken);
        if self.is_pointless() {
            return;
        }
        let result = match plan {
            Plan::Prepared(prepared) => prepared.perform(),
            Plan::Call(call) => call.make(),
            Plan::Whole(_) | Plan::Taken => Err(raise!(err::runtime_error(), "nothing to do")),
        };
        match result {
            Ok(value) => self.outcome.set(value),
            Err(raised) => self.keep_failure(err::take(raised)),
        }
        if self.abandoned.get() {
            self.dispose_of_outcome_here();
        }
    }

    fn keep_failure(&self, exception: Obj) {
        self.has_failed.set(true);
        self.outcome.set(exception);
    }

    /// On a worker of our pool: does it. Who runs it must tell the loop that is returned.
    pub(crate) fn run(&self) -> Option<Obj> {
        self.perform();
        let event_loop = self.event_loop.get()?;
        let Some(native) = EventLoop::of(&event_loop).filter(|native| !native.is_closed()) else {
            // A loop that is closed has nobody left who waits; the next operation may be another loop's.
            self.dispose_of_outcome_here();
            if let Some(Err(raised)) = self.strand().map(|strand| strand.leave()) {
                err::unraisable(raised, self.as_any());
            }
            return None;
        };
        native.ready.push(Work::Fire(self.target()));
        let is_asleep = native.polling.is_asleep();
        is_asleep.then_some(event_loop)
    }

    /// The pool drops the operation, which nobody has begun.
    pub(crate) fn dropped(&self) {
        self.plan.replace(Plan::Taken);
        match crate::errors::cancelled().and_then(Any::call0) {
            Ok(exception) => self.keep_failure(exception),
            Err(raised) => err::discard(raised),
        }
        let Some(event_loop) = self.event_loop.get() else {
            return;
        };
        if let Some(native) = EventLoop::of(&event_loop).filter(|native| !native.is_closed()) {
            native.push(Work::Fire(self.target()));
        }
    }

    /// `_ended(future)`: an executor that is not ours is done with it, one way or the other.
    fn ended(&self, _future: &Any) -> PyResult<()> {
        if self.stage.get() == Stage::Submitted {
            self.dropped_elsewhere()?;
        }
        self.fire()
    }

    fn dropped_elsewhere(&self) -> PyResult<()> {
        self.plan.replace(Plan::Taken);
        self.keep_failure(crate::errors::cancelled()?.call0()?);
        Ok(())
    }

    /// The awaiting is over: the result, or the exception.
    fn finish(&self) -> PyResult<Flow> {
        let outcome = self.outcome.take().unwrap_or_else(Obj::none);
        if self.has_failed.get() {
            return Err(err::restore(outcome));
        }
        Ok(Flow::Return(outcome))
    }

    /// On the loop: has a thread dispose of what nobody gets.
    fn dispose_of_outcome(&self) {
        let (Some(outcome), Some(dispose)) = (self.outcome.take(), self.dispose.take()) else {
            return;
        };
        if self.has_failed.get() {
            return;
        }
        let Some(event_loop) = self.event_loop.get() else {
            return;
        };
        let disposal = || -> PyResult<()> {
            if let Some(native) = EventLoop::of(&event_loop) {
                let executor = native.default_executor()?;
                if let Some(pool) = crate::executor::native(&executor)? {
                    let call = Call::new(&dispose, &[&outcome])?;
                    return pool.submit(Ticket::Call(Job::detached(call)?));
                }
            }
            let arguments = [&*Obj::none(), &dispose, &outcome];
            event_loop
                .method(intern!("run_in_executor"), &arguments)
                .map(drop)
        };
        if let Err(raised) = disposal() {
            // No thread to be had: rather wait here than leave it open.
            err::discard(raised);
            report(dispose.call1(&outcome), self.as_any());
        }
    }

    /// The same, on a thread.
    fn dispose_of_outcome_here(&self) {
        let (Some(outcome), Some(dispose)) = (self.outcome.take(), self.dispose.take()) else {
            return;
        };
        if !self.has_failed.get() {
            report(dispose.call1(&outcome), self.as_any());
        }
    }
}

fn report(result: PyResult<Obj>, source: &Any) {
    if let Err(raised) = result {
        err::unraisable(raised, source);
    }
}

/// `_file_call(func, args, kwargs, strand, executor, dispose, always)`.
pub(super) fn call(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<7> = Signature::new(
        "_file_call",
        [
            "func", "args", "kwargs", "strand", "executor", "dispose", "always",
        ],
        2,
    );
    let [Some(func), Some(arguments), keywords, strand, executor, dispose, always] =
        args.bind(&SIGNATURE)?
    else {
        return Err(raise!(err::type_error(), "a function and its arguments"));
    };
    let call = Call::new(func, arguments.tuple_items())?;
    if let Some(keywords) = keywords.and_then(Any::some) {
        if keywords.len()? > 0 {
            call.keywords.set(keywords.own());
        }
    }
    let operation = Operation::make_with(&CALL, Plan::Call(call))?;
    operation.always.set(always.map_or(Ok(false), Any::truthy)?);
    for (cell, given) in [
        (&operation.strand, strand),
        (&operation.executor, executor),
        (&operation.dispose, dispose),
    ] {
        if let Some(given) = given.and_then(Any::some) {
            cell.set(given.own());
        }
    }
    Ok(operation.into_obj())
}

pub(super) fn build() -> PyResult<()> {
    spec::<Operation>(c"ioxide.FileOperation")
        .methods([
            crate::method!(noargs Operation, "_run", |this: &Operation| this.perform(),
                "Does it, on the thread of an executor."),
            crate::method!(onearg Operation, "_ended", Operation::ended,
                "The executor is done with it."),
        ])
        .build(&CLASS)?;
    Ok(())
}
