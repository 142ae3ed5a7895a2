//! `StreamWriter.wait_closed()`, as a native awaitable: it waits for what the protocol says to wait for.

use super::writer::StreamWriter;
use crate::awaitable::inner::Inner;
use crate::awaitable::{spec, Awaitable, Flow, Wait};
use crate::intern;
use crate::kit::send::Sent;
use crate::kit::{Class, Native, Obj, ObjCell, PyResult, Visitor};

/// Waits until the connection is closed.
#[repr(C)]
pub(super) struct Closing {
    wait: Wait,
    writer: ObjCell,
    protocol: ObjCell,
    closed: Inner,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Wait`, and the class is built from it below.
unsafe impl Native for Closing {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        visitor.cell(&self.writer);
        visitor.cell(&self.protocol);
        self.closed.traverse(visitor);
    }

    fn clear(&self) {
        self.wait.clear();
        self.writer.clear();
        self.protocol.clear();
        self.closed.clear();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }
}

// SAFETY: begins with `Wait`.
unsafe impl Awaitable for Closing {
    const NAME: &'static str = "StreamWriter.wait_closed";

    fn start(&self) -> PyResult<Flow> {
        let (writer, protocol) = (self.writer.get_or_none(), self.protocol.get_or_none());
        let closed = protocol.method(intern!("_get_close_waiter"), &[&writer])?;
        self.closed.begin(&closed)?;
        self.resume()
    }

    fn resume(&self) -> PyResult<Flow> {
        self.closed.resume().map(flow)
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.closed.throw(&exception).map(flow)
    }
}

/// What was awaited says when, not what.
pub(super) fn flow(sent: Sent) -> Flow {
    match sent {
        Sent::Yielded(yielded) => Flow::Pass(yielded),
        Sent::Returned(_) => Flow::Return(Obj::none()),
    }
}

impl Closing {
    /// `writer.wait_closed()`.
    pub(super) fn of(writer: &StreamWriter, protocol: Obj) -> PyResult<Obj> {
        let body = Closing {
            wait: Wait::new(&Closing::KIND),
            writer: ObjCell::new(writer.as_any().own()),
            protocol: ObjCell::new(protocol),
            closed: Inner::empty(),
        };
        Ok(body.make()?.into_obj())
    }
}

pub(super) fn build() -> PyResult<()> {
    spec::<Closing>(c"ioxide.StreamClosing").build(&CLASS)?;
    Ok(())
}
