//! Waking a parked task, from the ready queue or through a callable that Python code holds.

use super::{awaited_by, step, Task};
use crate::awaitable;
use crate::errors;
use crate::future::{settle, FutureView};
use crate::kit::class::{self, Construct};
use crate::kit::{
    err, ffi, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, PyResult, Signature, Visitor,
};
use crate::runtime::EventLoop;
use crate::{intern, raise};
use std::ffi::c_void;

/// The step after a wake-up: what the task waited for decides what is thrown.
#[inline]
pub(crate) fn wake(task: &Task, event_loop: &EventLoop) -> PyResult<()> {
    let thrown = thrown_by_waiter(task)?;
    step::step(task, event_loop, thrown)
}

#[inline]
fn thrown_by_waiter(task: &Task) -> PyResult<Option<Obj>> {
    let Some(waiter) = task.base.fut_waiter.take() else {
        return Ok(None);
    };
    if let Some(wait) = awaitable::wait_of(&waiter) {
        return wait.thrown();
    }
    if let Some(future) = FutureView::of(&waiter) {
        awaited_by::discard(&waiter, task.as_any())?;
        return settle::thrown(future);
    }
    Ok(None)
}

/// The wake-up by a callback: it runs in the task's context, and is told which future is done.
fn wake_in_context(task: &Task, future: &Any) -> PyResult<()> {
    awaited_by::discard(future, task.as_any())?;
    let thrown = match FutureView::exact(future) {
        Some(view) => settle::thrown(view)?,
        None => match future.method0(intern!("result")) {
            Ok(_) => None,
            Err(raised) => Some(err::take(raised)),
        },
    };
    step::step_in_context(task, &task.event_loop(), thrown)
}

static WAKEUP: std::sync::OnceLock<Entry> = std::sync::OnceLock::new();

/// A method table entry, which the interpreter wants to live for ever.
struct Entry(ffi::PyMethodDef);

// SAFETY: the entry is never written to.
unsafe impl Send for Entry {}
// SAFETY: the entry is never written to.
unsafe impl Sync for Entry {}

/// The callable that wakes the task: what stands in `future._callbacks`, with the task as `__self__`.
pub(crate) fn callable(task: &Task) -> PyResult<Obj> {
    let entry = WAKEUP.get_or_init(|| {
        Entry(crate::method!(onearg Task, "task_wakeup", wake_in_context, "Wakes the task."))
    });
    class::bound_function(&entry.0, task.as_any())
}

/// The callable that runs a step, for loops that are not ours.
#[repr(C)]
pub(crate) struct StepCall {
    head: Head,
    task: ObjCell,
    thrown: ObjCell,
}

static STEP_CALL: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for StepCall {
    type Extra = ();

    fn class() -> &'static Class {
        &STEP_CALL
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.task);
        visitor.cell(&self.thrown);
    }

    fn clear(&self) {
        self.task.clear();
        self.thrown.clear();
    }
}

impl Construct for StepCall {
    fn empty() -> StepCall {
        StepCall {
            head: Head::new(),
            task: ObjCell::empty(),
            thrown: ObjCell::empty(),
        }
    }

    fn init(&self, _args: Args<'_>) -> PyResult<()> {
        Ok(())
    }
}

impl StepCall {
    pub(crate) fn of(task: &Task, thrown: Option<Obj>) -> PyResult<Obj> {
        let call = StepCall::empty();
        call.task.set(task.as_any().own());
        drop(call.thrown.replace(thrown));
        Ok(call.make()?.into_obj())
    }

    fn call(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<0> = Signature::new("TaskStepMethWrapper", [], 0);
        args.bind(&SIGNATURE)?;
        let thrown = self.thrown.take();
        match self.task.get().as_deref().and_then(Any::cast::<Task>) {
            Some(task) => step::step_in_context(task, &task.event_loop(), thrown),
            None => Err(raise!(err::runtime_error(), "the step has no task")),
        }
    }
}

unsafe extern "C" fn tp_call(
    object: crate::kit::Raw,
    args: crate::kit::Raw,
    kwargs: crate::kit::Raw,
) -> crate::kit::Raw {
    class::guard(|| {
        // SAFETY: as the interpreter calls it: an instance, a tuple, a dict or null.
        unsafe {
            let unpacked = crate::kit::args::Unpacked::new(args, kwargs)?;
            Any::from_raw(object)
                .cast_unchecked::<StepCall>()
                .call(unpacked.args())
        }
    })
}

pub(crate) fn build() -> PyResult<()> {
    errors::cancelled()?;
    ClassSpec::new::<StepCall>(c"ioxide.TaskStepMethWrapper")
        .slot(ffi::Py_tp_call, tp_call as *mut c_void)
        .getset([
            crate::getter!(
                StepCall,
                "__self__",
                |this: &StepCall| this.task.get_or_none(),
                "The task."
            ),
            crate::getter!(
                StepCall,
                "__qualname__",
                |_: &StepCall| crate::kit::value::str("TaskStepMethWrapper"),
                "A name for reports."
            ),
            crate::getter!(
                StepCall,
                "__name__",
                |_: &StepCall| crate::kit::value::str("TaskStepMethWrapper"),
                "A name for reports."
            ),
        ])
        .build(&STEP_CALL)?;
    Ok(())
}
