//! One read of a `StreamReader`, as a native awaitable: over at once, or parked until more is fed.

use super::operation::Operation;
use super::raise_exception;
use super::reader::StreamReader;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{err, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::raise;

/// One read.
pub(super) type Reading = Waiting<ReadingState>;

pub(super) struct ReadingState {
    reader: ObjCell,
    /// The exception that the reader was given while this waited.
    failure: ObjCell,
    operation: Operation,
}

static CLASS: Class = Class::new();

impl Awaitable for Reading {
    const NAME: &'static str = "StreamReader.read";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(128);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.reader);
        visitor.cell(&self.failure);
        self.operation.traverse(visitor);
    }

    fn unlink(&self) {
        self.reader.clear();
        self.failure.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let reader = self.reader()?;
        self.operation.check()?;
        if let Some(exception) = reader.exception.get() {
            return Err(raise_exception(&exception));
        }
        self.attempt(&reader)
    }

    fn resume(&self) -> PyResult<Flow> {
        if let Some(exception) = self.failure.take() {
            return Err(raise_exception(&exception));
        }
        self.attempt(&*self.reader()?)
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.reader()?.end_waiting(self);
        Err(err::raise_instance(&exception))
    }
}

impl Reading {
    /// A read, to be awaited.
    pub(super) fn begin(reader: &StreamReader, operation: Operation) -> PyResult<Obj> {
        let body = Reading::of_kind(
            operation.kind(),
            ReadingState {
                reader: ObjCell::new(reader.as_any().own()),
                failure: ObjCell::empty(),
                operation,
            },
        );
        Ok(body.make()?.into_obj())
    }

    /// Something was fed: the read looks again in the next turn.
    pub(super) fn wake(&self) -> PyResult<()> {
        self.wait.wake()
    }

    /// The read will raise the exception.
    pub(super) fn fail(&self, exception: &Any) -> PyResult<()> {
        self.failure.set(exception.own());
        self.wait.wake()
    }

    fn reader(&self) -> PyResult<Own<StreamReader>> {
        let reader = self.reader.get();
        match reader.as_deref().and_then(Any::cast::<StreamReader>) {
            Some(reader) => Ok(reader.own()),
            // Only the garbage collector takes it away.
            None => Err(raise!(err::runtime_error(), "the stream reader is gone")),
        }
    }

    #[inline]
    fn attempt(&self, reader: &StreamReader) -> PyResult<Flow> {
        match self.operation.attempt(reader)? {
            Some(value) => Ok(Flow::Return(value)),
            // The connection may have broken between the wake-up and now.
            None => match reader.exception.get() {
                Some(exception) => Err(raise_exception(&exception)),
                None => self.park(reader),
            },
        }
    }

    fn park(&self, reader: &StreamReader) -> PyResult<Flow> {
        reader.begin_waiting(self)?;
        Ok(Flow::Park)
    }

    /// The function that asyncio's errors name.
    pub(super) fn function(&self) -> String {
        self.operation.function()
    }
}

pub(super) fn build() -> PyResult<()> {
    spec::<Reading>(c"ioxide.StreamReading").build(&CLASS)?;
    Ok(())
}
