//! `acquire()` and `async with` of what can be acquired: Lock and Semaphore.

use super::{entering, held, waiters};
use crate::awaitable::again::Again;
use crate::awaitable::{ready, Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{err, value, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};
use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;

/// What tasks acquire, in the order in which they came.
pub(super) trait Acquired: Native {
    const NAME: &'static str;

    /// Where the class of its [`Acquire`] lives; one per primitive.
    fn places() -> &'static Places;

    /// Whether nothing of it is overridden.
    fn is_plain(&self) -> bool;
    /// Takes it if it is free and nobody waits for it: who comes later never overtakes.
    fn try_acquire(&self) -> PyResult<bool>;
    /// Lets the waiter stand in line.
    fn enlist(&self, waiter: &Any) -> PyResult<()>;
    /// The waiter was woken and goes on, having acquired.
    fn admit(&self, waiter: &Any) -> PyResult<()>;
    /// The waiter leaves with this exception; `woken` says whether its turn had come.
    fn dismiss(&self, waiter: &Any, woken: bool, exception: &Any) -> PyResult<()>;
    /// Gives it back and wakes who is next.
    fn release(&self) -> PyResult<()>;
}

/// The class of one primitive's [`Acquire`], and its instances that are kept.
pub(super) struct Places {
    class: Class,
    again: Again,
    spare: FreeList,
}

impl Places {
    pub(super) const fn new() -> Places {
        Places {
            class: Class::new(),
            again: Again::new(),
            spare: FreeList::new(256),
        }
    }
}

/// `acquire()`.
pub(super) type Acquire<P> = Waiting<AcquireState<P>>;

pub(super) struct AcquireState<P> {
    /// The lock or semaphore, until this is over.
    primitive: ObjCell,
    /// Whether `async with` awaits this, which wants `None`.
    entering: Cell<bool>,
    of: PhantomData<P>,
}

impl<P: Acquired> Awaitable for Acquire<P> {
    const NAME: &'static str = P::NAME;

    #[inline(always)]
    fn place() -> &'static Class {
        &P::places().class
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        Some(&P::places().spare)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.primitive);
    }

    fn unlink(&self) {
        self.primitive.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let primitive = held::<P>(&self.primitive)?;
        if primitive.try_acquire()? {
            return Ok(self.over());
        }
        primitive.enlist(self.as_any())?;
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        held::<P>(&self.primitive)?.admit(self.as_any())?;
        Ok(self.over())
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        held::<P>(&self.primitive)?.dismiss(self.as_any(), self.wait.is_woken(), &exception)?;
        Err(err::restore(exception))
    }
}

impl<P: Acquired> Acquire<P> {
    #[inline(always)]
    fn of(primitive: &P, entering: bool) -> PyResult<Own<Acquire<P>>> {
        if let Some(again) = P::places().again.take::<Acquire<P>>() {
            again.primitive.set(primitive.as_any().own());
            again.entering.set(entering);
            return Ok(again);
        }
        let body = Acquire::with(AcquireState {
            primitive: ObjCell::new(primitive.as_any().own()),
            entering: Cell::new(entering),
            of: PhantomData,
        });
        body.make()
    }

    #[inline(always)]
    fn over(&self) -> Flow {
        self.primitive.clear();
        P::places().again.keep(self);
        Flow::Return(if self.entering.get() {
            Obj::none()
        } else {
            value::bool(true)
        })
    }
}

/// `acquire()`.
pub(super) fn acquire<P: Acquired>(primitive: &P) -> PyResult<Own<Acquire<P>>> {
    Acquire::of(primitive, false)
}

/// `__aenter__`: what is free is taken at once, which nobody can tell from taking it when awaited.
pub(super) fn enter<P: Acquired>(primitive: &P) -> PyResult<Obj> {
    if !primitive.is_plain() {
        return entering::enter(primitive.as_any());
    }
    if primitive.try_acquire()? {
        return Ok(ready::nothing());
    }
    Ok(Acquire::of(primitive, true)?.into_obj())
}

/// `__aexit__`.
pub(super) fn exit<P: Acquired>(primitive: &P) -> PyResult<Obj> {
    if !primitive.is_plain() {
        return entering::exit(primitive.as_any());
    }
    primitive.release()?;
    Ok(ready::nothing())
}

/// Makes the class.
pub(super) fn build<P: Acquired>(name: &'static CStr) -> PyResult<()> {
    waiters::spec::<Acquire<P>>(name).build(&P::places().class)?;
    Ok(())
}
