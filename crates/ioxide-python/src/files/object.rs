//! What the native parts of files have in common: the builtin's object below, and calls of it on threads in their
//! order.

use super::operation::Operation;
use super::strand::Strand;
use crate::executor::job::Call;
use crate::kit::class::Construct;
use crate::kit::{err, Any, Native, Obj, ObjCell, PyResult, Visitor};
use crate::raise;

/// The builtin's file, and how it is operated on.
#[repr(C)]
pub(super) struct Below {
    file: ObjCell,
    executor: ObjCell,
    strand: ObjCell,
}

impl Below {
    pub(super) const fn empty() -> Below {
        Below {
            file: ObjCell::empty(),
            executor: ObjCell::empty(),
            strand: ObjCell::empty(),
        }
    }

    pub(super) fn begin(&self, file: &Any, executor: &Any) -> PyResult<()> {
        self.file.set(file.own());
        self.executor.set(executor.own());
        self.strand.set(Strand::empty().make()?.into_obj());
        Ok(())
    }

    pub(super) fn file(&self) -> PyResult<Obj> {
        let file = self.file.get();
        file.ok_or_else(|| raise!(err::value_error(), "there is no file below"))
    }

    pub(super) fn file_or_none(&self) -> Obj {
        self.file.get_or_none()
    }

    pub(super) fn executor_or_none(&self) -> Obj {
        self.executor.get_or_none()
    }

    pub(super) fn strand_or_none(&self) -> Obj {
        self.strand.get_or_none()
    }

    /// Whether no thread operates on the file: only then may the loop's thread use it.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        // SAFETY: nothing runs while the borrow lives.
        let strand = unsafe { self.strand.peek() };
        strand
            .and_then(Any::exact::<Strand>)
            .is_some_and(|strand| !strand.is_busy())
    }

    /// Calls the function on a thread when it is this file's turn, once the result is awaited.
    pub(super) fn call(&self, function: &Any, arguments: &[&Any]) -> PyResult<Obj> {
        let call = Call::new(function, arguments)?;
        Operation::in_order(call, self.strand.get(), self.executor.get())
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells([&self.file, &self.executor, &self.strand]);
    }

    pub(super) fn clear(&self) {
        ObjCell::clear_all([&self.file, &self.executor, &self.strand]);
    }
}

/// The properties by which Python code finds what is below.
macro_rules! below {
    ($class:ty) => {
        [
            $crate::getter!(
                $class,
                "_file",
                |this: &$class| this.below.file_or_none(),
                "The builtin's file."
            ),
            $crate::getter!(
                $class,
                "_executor",
                |this: &$class| this.below.executor_or_none(),
                "Where it is operated on; None is the loop's default."
            ),
            $crate::getter!(
                $class,
                "_strand",
                |this: &$class| this.below.strand_or_none(),
                "The order of operations."
            ),
        ]
    };
}

pub(super) use below;
