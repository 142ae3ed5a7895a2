//! The loop without its Python face: what is ready, what is due, what the kernel reports.
//!
//! # Invariants
//! 1. Work runs in [`turn`] only; everything else makes it ready.
//! 2. The state is touched by threads that hold the interpreter lock, and no borrow of it is alive while
//!    Python code runs.
//! 3. A loop that sleeps has said so before it gave up the lock; whoever adds work afterwards wakes it.

pub(crate) mod alarm;
pub(crate) mod clock;
mod edge;
pub(crate) mod generators;
pub(crate) mod io;
mod late;
pub(crate) mod lifecycle;
pub(crate) mod queue;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod snapshot;
pub(crate) mod target;
pub(crate) mod timers;
pub(crate) mod turn;
pub(crate) mod work;

use crate::executor::LoopExecutor;
use crate::kit::{err, Any, Class, Head, Native, Obj, ObjCell, PyResult, Visitor};
use crate::raise;
use crate::transport::hub::Hub;
use clock::LoopClock;
use io::Descriptors;
use queue::ReadyQueue;
use std::cell::Cell;
use std::sync::atomic::{AtomicPtr, Ordering};
use timers::Timers;
use turn::Polling;
use work::Work;

/// The body of every loop. `ioxide.EventLoop` derives from this class and from `AbstractEventLoop`.
#[repr(C)]
pub(crate) struct EventLoop {
    head: Head,
    pub(crate) ready: ReadyQueue,
    pub(crate) timers: Timers,
    pub(crate) clock: LoopClock,
    pub(crate) polling: Polling,
    pub(crate) descriptors: Descriptors,
    pub(crate) late: late::Late,
    pub(crate) snapshots: snapshot::Snapshots,
    /// What the loop's transports share.
    pub(crate) hub: Hub,
    pub(crate) stopping: Cell<bool>,
    closed: Cell<bool>,
    debug: Cell<bool>,
    /// Seconds, as the attribute of that name.
    pub(crate) slow_callback_duration: Cell<f64>,
    /// The thread that runs the loop, 0 if none does.
    pub(crate) thread: Cell<u64>,
    pub(crate) exception_handler: ObjCell,
    pub(crate) task_factory: ObjCell,
    /// Whether somebody has set a `create_task` on this very loop, which is then what makes its tasks.
    pub(crate) own_create_task: Cell<bool>,
    /// Whether somebody has set a `create_connection` or a `sock_connect` on this very loop.
    pub(crate) own_connecting: Cell<bool>,
    /// Whether the factory is of the newer kind, which takes `name=`.
    pub(crate) factory_takes_name: Cell<bool>,
    pub(crate) generators: generators::Generators,
    pub(crate) executor: LoopExecutor,
}

static CLASS: Class = Class::new();

/// The class of the façade, whose instances are nearly all loops there are.
static FACADE: AtomicPtr<crate::kit::ffi::PyTypeObject> = AtomicPtr::new(std::ptr::null_mut());

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it in `event_loop`.
unsafe impl Native for EventLoop {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.ready.traverse(visitor);
        self.timers.traverse(visitor);
        self.descriptors.traverse(visitor);
        self.snapshots.traverse(visitor);
        self.executor.traverse(visitor);
        self.hub.traverse(visitor);
        self.generators.traverse(visitor);
        visitor.cells([&self.exception_handler, &self.task_factory]);
    }

    fn clear(&self) {
        self.ready.clear();
        self.timers.clear();
        self.descriptors.clear();
        self.snapshots.clear();
        self.executor.clear();
        self.hub.clear();
        self.generators.clear();
        ObjCell::clear_all([&self.exception_handler, &self.task_factory]);
    }

    fn finalize(&self) {
        lifecycle::warn_if_open(self);
    }
}

impl EventLoop {
    pub(crate) fn empty() -> EventLoop {
        EventLoop {
            head: Head::new(),
            ready: ReadyQueue::new(),
            timers: Timers::new(),
            clock: LoopClock::monotonic(),
            polling: Polling::new(),
            descriptors: Descriptors::new(),
            late: late::Late::new(),
            snapshots: snapshot::Snapshots::new(),
            hub: Hub::new(),
            stopping: Cell::new(false),
            closed: Cell::new(false),
            debug: Cell::new(false),
            slow_callback_duration: Cell::new(0.1),
            thread: Cell::new(0),
            exception_handler: ObjCell::empty(),
            task_factory: ObjCell::empty(),
            own_create_task: Cell::new(false),
            own_connecting: Cell::new(false),
            factory_takes_name: Cell::new(true),
            generators: generators::Generators::default(),
            executor: LoopExecutor::new(),
        }
    }

    /// The native loop behind an object, or nothing for a loop that is not ours.
    #[inline(always)]
    pub(crate) fn of(object: &Any) -> Option<&EventLoop> {
        Self::exact(object).or_else(|| object.cast::<EventLoop>())
    }

    /// As [`EventLoop::of`], but only for exactly `ioxide.EventLoop`, whose methods nobody has overridden.
    #[inline(always)]
    pub(crate) fn exact(object: &Any) -> Option<&EventLoop> {
        if object.type_raw() == FACADE.load(Ordering::Relaxed) {
            // SAFETY: the façade derives from this class.
            return Some(unsafe { object.cast_unchecked() });
        }
        None
    }

    /// As [`EventLoop::exact`], if it makes its tasks by our own `create_task`.
    #[inline(always)]
    pub(crate) fn making_tasks(object: &Any) -> Option<&EventLoop> {
        Self::exact(object).filter(|native| !native.own_create_task.get())
    }

    /// Notes which class is the façade.
    pub(crate) fn set_facade(class: &Any) {
        FACADE.store(class.own().into_raw().cast(), Ordering::Relaxed);
    }

    /// Makes work ready, from the loop's own thread or from any other that holds the interpreter lock.
    #[inline(always)]
    pub(crate) fn push(&self, work: Work) {
        self.ready.push(work);
        if self.polling.is_asleep() {
            self.polling.wake();
        }
    }

    #[inline(always)]
    pub(crate) fn debug(&self) -> bool {
        self.debug.get()
    }

    pub(crate) fn set_debug(&self, debug: bool) {
        self.debug.set(debug);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.thread.get() != 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(crate) fn mark_closed(&self) {
        self.closed.set(true);
    }

    #[inline(always)]
    pub(crate) fn refuse_if_closed(&self) -> PyResult<()> {
        if self.closed.get() {
            return Err(raise!(err::runtime_error(), "Event loop is closed"));
        }
        Ok(())
    }

    /// In debug mode: refuses calls from a thread that does not run the loop.
    pub(crate) fn refuse_other_thread(&self) -> PyResult<()> {
        let runner = self.thread.get();
        if runner == 0 || runner == current_thread() {
            return Ok(());
        }
        Err(raise!(
            err::runtime_error(),
            "Non-thread-safe operation invoked on an event loop other than the current one"
        ))
    }

    /// The loop as an object.
    pub(crate) fn object(&self) -> Obj {
        self.as_any().own()
    }
}

/// The identity of this thread, never 0.
pub(crate) fn current_thread() -> u64 {
    // SAFETY: no precondition.
    unsafe { crate::kit::ffi::PyThread_get_thread_ident() as u64 }
}
