//! `StreamWriter.drain()` and the protocol's `_drain_helper()`, as native awaitables.

use super::closing::flow;
use super::protocol::StreamReaderProtocol;
use super::raise_exception;
use super::writer::StreamWriter;
use crate::awaitable::inner::Inner;
use crate::awaitable::{spec, Awaitable, Flow, Kind, Waiting};
use crate::intern;
use crate::kit::class::FreeList;
use crate::kit::{err, Any, Class, Native, Obj, ObjCell, PyResult, Visitor};
use std::cell::Cell;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Has not begun.
    Fresh,
    /// Has given way to the loop, so that a closing transport can say that it is closed.
    GaveWay,
    /// Waits among the protocol's waiters.
    Parked,
    /// Waits for what the protocol's own `_drain_helper()` waits for.
    Delegated,
}

/// Waits until the transport takes more.
pub(super) type Draining = Waiting<DrainingState>;

pub(super) struct DrainingState {
    /// Nothing in a `_drain_helper()`.
    writer: ObjCell,
    protocol: ObjCell,
    /// What the connection was lost with while this waited.
    failure: ObjCell,
    /// The `_drain_helper()` of a protocol that is not ours.
    helper: Inner,
    phase: Cell<Phase>,
}

static CLASS: Class = Class::new();

impl Awaitable for Draining {
    const NAME: &'static str = "StreamWriter.drain";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(32);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.writer);
        visitor.cell(&self.protocol);
        visitor.cell(&self.failure);
        self.helper.traverse(visitor);
    }

    fn unlink(&self) {
        self.writer.clear();
        self.protocol.clear();
        self.failure.clear();
        self.helper.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let writer = self.writer.get();
        let Some(writer) = writer.as_deref().and_then(Any::cast::<StreamWriter>) else {
            return self.wait_for_protocol();
        };
        if let Some(exception) = writer.reader_exception()? {
            return Err(raise_exception(&exception));
        }
        if writer.is_closing()? {
            // Or code that writes and drains in a loop would never let the connection be lost.
            self.phase.set(Phase::GaveWay);
            return Ok(Flow::Yield);
        }
        self.wait_for_protocol()
    }

    fn resume(&self) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Fresh | Phase::GaveWay => self.wait_for_protocol(),
            Phase::Parked => match self.failure.take() {
                Some(exception) => Err(raise_exception(&exception)),
                None => Ok(Flow::Return(Obj::none())),
            },
            Phase::Delegated => self.helper.resume().map(flow),
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        if self.phase.get() == Phase::Delegated {
            return self.helper.throw(&exception).map(flow);
        }
        let protocol = self.protocol.get();
        if let Some(protocol) = protocol
            .as_deref()
            .and_then(Any::cast::<StreamReaderProtocol>)
        {
            protocol.flow.remove(self.as_any());
        }
        Err(err::raise_instance(&exception))
    }
}

impl Draining {
    /// `writer.drain()`.
    pub(super) fn of_writer(writer: &StreamWriter, protocol: Obj) -> PyResult<Obj> {
        Self::begin(
            &Draining::KIND,
            ObjCell::new(writer.as_any().own()),
            protocol,
        )
    }

    /// `protocol._drain_helper()`.
    pub(super) fn of_protocol(protocol: &StreamReaderProtocol) -> PyResult<Obj> {
        static KIND: Kind = Draining::KIND.named("FlowControlMixin._drain_helper");
        let protocol = protocol.as_any().own();
        Self::begin(&KIND, ObjCell::empty(), protocol)
    }

    fn begin(kind: &'static Kind, writer: ObjCell, protocol: Obj) -> PyResult<Obj> {
        let body = Draining::of_kind(
            kind,
            DrainingState {
                writer,
                protocol: ObjCell::new(protocol),
                failure: ObjCell::empty(),
                helper: Inner::empty(),
                phase: Cell::new(Phase::Fresh),
            },
        );
        Ok(body.make()?.into_obj())
    }

    /// Goes on in the next turn, or fails there.
    pub(super) fn release(&self, exception: Option<&Any>) -> PyResult<()> {
        if let Some(exception) = exception {
            self.failure.set(exception.own());
        }
        self.wait.wake()
    }

    fn wait_for_protocol(&self) -> PyResult<Flow> {
        let protocol = self.protocol.get_or_none();
        // A `_drain_helper()` that runs is our own, whatever class has inherited it.
        let native = if self.writer.is_empty() {
            protocol.cast::<StreamReaderProtocol>()
        } else {
            StreamReaderProtocol::untouched(&protocol)
        };
        let Some(native) = native else {
            let helper = protocol.method0(intern!("_drain_helper"))?;
            self.helper.begin(&helper)?;
            self.phase.set(Phase::Delegated);
            return self.resume();
        };
        if native.flow.is_open()? {
            return Ok(Flow::Return(Obj::none()));
        }
        native.flow.add(self.as_any());
        self.phase.set(Phase::Parked);
        Ok(Flow::Park)
    }
}

pub(super) fn build() -> PyResult<()> {
    spec::<Draining>(c"ioxide.StreamDraining").build(&CLASS)?;
    Ok(())
}
