//! `StreamWriter.wait_closed()`, as a native awaitable: it waits for what the protocol says to wait for.

use super::writer::StreamWriter;
use crate::awaitable::inner::Inner;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::intern;
use crate::kit::class::FreeList;
use crate::kit::send::Sent;
use crate::kit::{Class, Native, Obj, ObjCell, PyResult, Visitor};

/// Waits until the connection is closed.
pub(super) type Closing = Waiting<ClosingState>;

pub(super) struct ClosingState {
    writer: ObjCell,
    protocol: ObjCell,
    closed: Inner,
}

static CLASS: Class = Class::new();

impl Awaitable for Closing {
    const NAME: &'static str = "StreamWriter.wait_closed";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(64);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.writer);
        visitor.cell(&self.protocol);
        self.closed.traverse(visitor);
    }

    fn unlink(&self) {
        self.writer.clear();
        self.protocol.clear();
        self.closed.clear();
    }

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
        let body = Closing::with(ClosingState {
            writer: ObjCell::new(writer.as_any().own()),
            protocol: ObjCell::new(protocol),
            closed: Inner::empty(),
        });
        Ok(body.make()?.into_obj())
    }
}

pub(super) fn build() -> PyResult<()> {
    spec::<Closing>(c"ioxide.StreamClosing").build(&CLASS)?;
    Ok(())
}
