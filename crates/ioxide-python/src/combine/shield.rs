//! `shield()`: waiting for a future without passing cancellation on to it.

use super::{add_edge, awaiter, child, ensure_future, remove_edge};
use crate::future::{settle, FutureView};
use crate::kit::{Any, Args, Class, ClassSpec, Native, Obj, ObjCell, PyResult, Signature, Visitor};
use crate::runtime::target::{Target, Told};
use crate::task::{cancel, suspend};
use crate::{import, intern};

/// Told by the inner future, whose outcome it copies, and by the outer, which then wants none any more.
#[repr(C)]
struct Shield {
    target: Target,
    inner: ObjCell,
    outer: ObjCell,
    awaiter: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for Shield {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.inner);
        visitor.cell(&self.outer);
        visitor.cell(&self.awaiter);
    }

    fn clear(&self) {
        self.inner.clear();
        self.outer.clear();
        self.awaiter.clear();
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for Shield {
    fn done(&self, future: &Any) -> PyResult<()> {
        let (Some(inner), Some(outer)) = (self.inner.get(), self.outer.get()) else {
            return Ok(());
        };
        if future.is(&inner) {
            remove_edge(&inner, self.awaiter.get().as_deref())?;
            return copy(&inner, &outer);
        }
        if child::is_done(&inner)? {
            return Ok(());
        }
        child::unlisten(&inner, &self.target())?;
        remove_edge(&inner, self.awaiter.get().as_deref())?;
        report_failure_of(&inner)
    }
}

/// Some releases of 3.14 (3.14.7 is one, 3.14.10 is not) report what fails after its shields were cancelled, by a
/// function that the others have not: there the future itself reports it, unless somebody retrieves the exception.
fn report_failure_of(inner: &Any) -> PyResult<()> {
    let Some(report) = import!("asyncio", "tasks")?.attr_opt(intern!("_log_on_exception"))? else {
        return Ok(());
    };
    // Once, however many shields there were.
    inner.method(intern!("remove_done_callback"), &[&report])?;
    inner
        .method(intern!("add_done_callback"), &[&report])
        .map(drop)
}

/// Gives the outer future the inner one's outcome, unless it was cancelled.
fn copy(inner: &Any, outer: &Any) -> PyResult<()> {
    if child::is_cancelled(outer)? {
        return Ok(());
    }
    if child::is_cancelled(inner)? {
        return cancel::cancel_any(outer, None).map(drop);
    }
    match (child::exception(inner)?, FutureView::exact(outer)) {
        (Some(exception), Some(view)) => settle::set_exception(view, &exception),
        (None, Some(view)) => settle::set_result(view, child::result(inner)?),
        (Some(exception), None) => outer
            .method(intern!("set_exception"), &[&exception])
            .map(drop),
        (None, None) => {
            let result = child::result(inner)?;
            outer.method(intern!("set_result"), &[&result]).map(drop)
        }
    }
}

/// `shield(arg)`.
pub(crate) fn shield(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> = Signature::new("shield", ["arg"], 1);
    let [argument] = args.bind(&SIGNATURE)?;
    let Some(argument) = argument else {
        return Ok(Obj::none());
    };
    let inner = ensure_future::ensure(argument, None)?;
    if child::is_done(&inner)? {
        return Ok(inner);
    }
    let event_loop = suspend::loop_of(&inner)?;
    let outer = ensure_future::create_future(&event_loop)?;
    let shield = Shield {
        target: Target::new(&Shield::KIND),
        inner: ObjCell::new(inner.clone()),
        outer: ObjCell::new(outer.clone()),
        awaiter: ObjCell::empty(),
    }
    .make()?;
    let awaiter = awaiter()?;
    add_edge(&inner, awaiter.as_deref())?;
    drop(shield.awaiter.replace(awaiter));
    let target = shield.target();
    child::listen(&inner, &target)?;
    child::listen(&outer, &target)?;
    Ok(outer)
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Shield>(c"ioxide._Shield").build(&CLASS)?;
    Ok(())
}
