//! `async with` on a lock whose `acquire` is not ours: awaits what it returns, and returns `None`.

use crate::awaitable::inner::Inner;
use crate::awaitable::{self, Awaitable, Flow, Waiting};
use crate::intern;
use crate::kit::send::Sent;
use crate::kit::{Any, Class, Native, Obj, PyResult, Visitor};

type Entering = Waiting<EnteringState>;

struct EnteringState {
    inner: Inner,
}

static CLASS: Class = Class::new();

impl Awaitable for Entering {
    const NAME: &'static str = "__aenter__";

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        self.inner.traverse(visitor);
    }

    fn unlink(&self) {
        self.inner.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        follow(self.inner.resume())
    }

    fn resume(&self) -> PyResult<Flow> {
        follow(self.inner.resume())
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        follow(self.inner.throw(&exception))
    }
}

fn follow(sent: PyResult<Sent>) -> PyResult<Flow> {
    Ok(match sent? {
        Sent::Yielded(object) => Flow::Pass(object),
        Sent::Returned(_) => Flow::Return(Obj::none()),
    })
}

/// `__aenter__`: awaits `lock.acquire()`.
pub(super) fn enter(lock: &Any) -> PyResult<Obj> {
    let inner = Inner::empty();
    inner.begin(&*lock.method0(intern!("acquire"))?)?;
    let body = Entering::with(EnteringState { inner });
    Ok(body.make()?.into_obj())
}

/// `__aexit__`: calls `lock.release()`.
pub(super) fn exit(lock: &Any) -> PyResult<Obj> {
    lock.method0(intern!("release"))?;
    Ok(awaitable::ready::nothing())
}

pub(super) fn build() -> PyResult<()> {
    awaitable::spec::<Entering>(c"ioxide.Entering").build(&CLASS)?;
    Ok(())
}
