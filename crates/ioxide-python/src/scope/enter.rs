//! What `__aenter__` of a scope returns: awaiting it enters.

use super::task_group::TaskGroup;
use super::timeout::Timeout;
use crate::awaitable::again::Again;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::kit::{Any, Class, Native, Obj, ObjCell, PyResult, Visitor};

/// Enters the scope in the task that awaits it, and returns the scope.
pub(crate) type Enter = Waiting<EnterState>;

pub(crate) struct EnterState {
    scope: ObjCell,
}

static CLASS: Class = Class::new();

static AGAIN: Again = Again::new();

impl Awaitable for Enter {
    const NAME: &'static str = "__aenter__";

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.scope);
    }

    fn unlink(&self) {
        self.scope.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let scope = self.scope.take().unwrap_or_else(Obj::none);
        if let Some(timeout) = scope.cast::<Timeout>() {
            timeout.enter()?;
        } else if let Some(group) = scope.cast::<TaskGroup>() {
            group.enter()?;
        }
        AGAIN.keep(self);
        Ok(Flow::Return(scope))
    }

    fn resume(&self) -> PyResult<Flow> {
        self.start()
    }
}

impl Enter {
    pub(crate) fn of(scope: &Any) -> PyResult<Obj> {
        if let Some(enter) = AGAIN.take::<Enter>() {
            enter.scope.set(scope.own());
            return Ok(enter.into_obj());
        }
        let body = Enter::with(EnterState {
            scope: ObjCell::new(scope.own()),
        });
        Ok(body.make()?.into_obj())
    }
}

pub(crate) fn build() -> PyResult<()> {
    spec::<Enter>(c"ioxide.ScopeEnter").build(&CLASS)?;
    Ok(())
}
