//! What `__aenter__` of a scope returns: awaiting it enters.

use super::task_group::TaskGroup;
use super::timeout::Timeout;
use crate::awaitable::again::Again;
use crate::awaitable::{spec, Awaitable, Flow, Wait};
use crate::kit::{Any, Class, Native, Obj, ObjCell, PyResult, Visitor};

/// Enters the scope in the task that awaits it, and returns the scope.
#[repr(C)]
pub(crate) struct Enter {
    wait: Wait,
    scope: ObjCell,
}

static CLASS: Class = Class::new();

static AGAIN: Again = Again::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Enter {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.cell(&self.scope);
    }

    fn clear(&self) {
        self.wait.clear();
        self.scope.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Enter {
    const NAME: &'static str = "__aenter__";

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
        let body = Enter {
            wait: Wait::new(&Enter::KIND),
            scope: ObjCell::new(scope.own()),
        };
        Ok(body.make()?.into_obj())
    }
}

pub(crate) fn build() -> PyResult<()> {
    spec::<Enter>(c"ioxide.ScopeEnter").build(&CLASS)?;
    Ok(())
}
