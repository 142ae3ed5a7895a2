//! One read or write of a file object, as a native awaitable: over at once if the file's buffer has what it takes,
//! handed to a thread otherwise.

use super::reading::Reader;
use super::writing::Writer;
use crate::awaitable::again::Again;
use crate::awaitable::inner::Inner;
use crate::awaitable::{spec, Awaitable, Flow, Kind, Waiting};
use crate::kit::class::FreeList;
use crate::kit::send::Sent;
use crate::kit::{err, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::raise;
use std::cell::Cell;

/// What is asked of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The next line; at the end of the file `StopAsyncIteration`.
    Next,
    /// `readline(size)`.
    Line,
    /// `read(size)`.
    Read,
    /// `write(data)`.
    Write,
}

/// One read or write.
pub(super) type Serving = Waiting<ServingState>;

pub(super) struct ServingState {
    want: Cell<Want>,
    /// A [`Reader`], or a [`Writer`] for a write.
    file: ObjCell,
    argument: ObjCell,
    /// The operation on a thread.
    inner: Inner,
}

const KIND: Kind = Serving::KIND;
static SERVING: Kind = KIND;

static CLASS: Class = Class::new();
static AGAIN: Again = Again::new();

impl Awaitable for Serving {
    const NAME: &'static str = "files.operation";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(64);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.file);
        visitor.cell(&self.argument);
        self.inner.traverse(visitor);
    }

    fn unlink(&self) {
        self.file.clear();
        self.argument.clear();
        self.inner.clear();
    }

    #[inline]
    fn start(&self) -> PyResult<Flow> {
        let file = self.file()?;
        let (want, argument) = (self.want.get(), self.argument.get());
        let argument = argument.as_deref();
        let served = match want {
            // SAFETY: made for a file of this class.
            Want::Write => unsafe { file.cast_unchecked::<Writer>() }.serve(argument)?,
            // SAFETY: as above.
            _ => unsafe { file.cast_unchecked::<Reader>() }.serve(want, argument)?,
        };
        if let Some(served) = served {
            return Ok(self.over(served));
        }
        let operation = match want {
            // SAFETY: as above.
            Want::Write => unsafe { file.cast_unchecked::<Writer>() }.operation(argument)?,
            // SAFETY: as above.
            _ => unsafe { file.cast_unchecked::<Reader>() }.operation(want, argument)?,
        };
        self.inner.begin(&operation)?;
        self.follow(self.inner.resume())
    }

    fn resume(&self) -> PyResult<Flow> {
        self.follow(self.inner.resume())
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.follow(self.inner.throw(&exception))
    }
}

impl Serving {
    /// An operation, to be awaited. `file` is a [`Writer`] for a write, a [`Reader`] for anything else.
    #[inline]
    fn begin(want: Want, file: &Any, argument: Option<&Any>) -> PyResult<Obj> {
        let argument = argument.map(Any::own);
        if let Some(again) = AGAIN.take::<Serving>() {
            again.want.set(want);
            again.file.set(file.own());
            drop(again.argument.replace(argument));
            return Ok(again.into_obj());
        }
        let body = Serving::of_kind(
            &SERVING,
            ServingState {
                want: Cell::new(want),
                file: ObjCell::new(file.own()),
                argument: argument.map_or_else(ObjCell::empty, ObjCell::new),
                inner: Inner::empty(),
            },
        );
        body.make().map(Own::into_obj)
    }

    /// An operation on a file that is read.
    #[inline]
    pub(super) fn read(want: Want, file: &Reader, argument: Option<&Any>) -> PyResult<Obj> {
        debug_assert!(want != Want::Write);
        Serving::begin(want, file.as_any(), argument)
    }

    /// `write(data)`.
    #[inline]
    pub(super) fn write(file: &Writer, data: &Any) -> PyResult<Obj> {
        Serving::begin(Want::Write, file.as_any(), Some(data))
    }

    fn file(&self) -> PyResult<Obj> {
        let file = self.file.get();
        // Only the garbage collector takes it away.
        file.ok_or_else(|| raise!(err::runtime_error(), "the file is gone"))
    }

    #[inline]
    fn over(&self, value: Obj) -> Flow {
        self.file.clear();
        self.argument.clear();
        AGAIN.keep(self);
        Flow::Return(value)
    }

    fn follow(&self, sent: PyResult<Sent>) -> PyResult<Flow> {
        match sent? {
            Sent::Yielded(object) => Ok(Flow::Pass(object)),
            Sent::Returned(line) if self.want.get() == Want::Next && !line.truthy()? => {
                Err(err::raise_bare(err::stop_async_iteration()))
            }
            Sent::Returned(value) => Ok(self.over(value)),
        }
    }
}

pub(super) fn build() -> PyResult<()> {
    spec::<Serving>(c"ioxide.FileServing").build(&CLASS)?;
    Ok(())
}
