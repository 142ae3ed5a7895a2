//! A coroutine around any awaitable, so that a task can run it.

use super::inner::Inner;
use super::{spec, Awaitable, Flow, Wait};
use crate::kit::send::Sent;
use crate::kit::{Any, Class, Native, Obj, ObjCell, PyResult, Visitor};

/// `async def _wrap_awaitable(awaitable): return await awaitable`.
#[repr(C)]
struct Wrapped {
    wait: Wait,
    object: ObjCell,
    inner: Inner,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Wrapped {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.cell(&self.object);
        self.inner.traverse(visitor);
    }

    fn clear(&self) {
        self.wait.clear();
        self.object.clear();
        self.inner.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }
}

fn flow(sent: Sent) -> Flow {
    match sent {
        Sent::Yielded(yielded) => Flow::Pass(yielded),
        Sent::Returned(value) => Flow::Return(value),
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Wrapped {
    const NAME: &'static str = "_wrap_awaitable";

    fn start(&self) -> PyResult<Flow> {
        let object = self.object.take().unwrap_or_else(Obj::none);
        self.inner.begin(&object)?;
        self.inner
            .iterator()
            .into_iter()
            .for_each(|inner| self.wait.set_delegate(inner));
        self.resume()
    }

    fn resume(&self) -> PyResult<Flow> {
        self.inner.resume().map(flow)
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.inner.throw(&exception).map(flow)
    }
}

/// A coroutine that awaits `object`.
pub(crate) fn wrap(object: &Any) -> PyResult<Obj> {
    let body = Wrapped {
        wait: Wait::new(&Wrapped::KIND),
        object: ObjCell::new(object.own()),
        inner: Inner::empty(),
    };
    Ok(body.make()?.into_obj())
}

pub(crate) fn build() -> PyResult<()> {
    spec::<Wrapped>(c"ioxide.WrappedAwaitable").build(&CLASS)?;
    Ok(())
}
