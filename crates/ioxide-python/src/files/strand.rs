//! The operations of one file: one at a time, in the order in which they were awaited.

use super::operation::Operation;
use crate::kit::class::Construct;
use crate::kit::{Args, Class, ClassSpec, Head, Native, Own, PyResult, Signature, Visitor};
use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;

/// A queue whose head runs.
///
/// An operation that is under way keeps the others waiting until its thread is done with the file, also if
/// nobody waits for it any more. Used on the loop's thread.
#[repr(C)]
pub(crate) struct Strand {
    head: Head,
    is_busy: Cell<bool>,
    waiting: UnsafeCell<VecDeque<Own<Operation>>>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Strand {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        for operation in self.queue().iter() {
            visitor.object(operation.as_obj());
        }
    }

    fn clear(&self) {
        let dropped = std::mem::take(self.queue());
        drop(dropped);
    }
}

impl Construct for Strand {
    fn empty() -> Strand {
        Strand {
            head: Head::new(),
            is_busy: Cell::new(false),
            waiting: UnsafeCell::new(VecDeque::new()),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<0> = Signature::new("Strand", [], 0);
        args.bind(&SIGNATURE).map(drop)
    }
}

impl Strand {
    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    fn queue(&self) -> &mut VecDeque<Own<Operation>> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.waiting.get() }
    }

    /// Whether an operation is under way.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.get()
    }

    /// Whether the operation may begin at once; if not, it is its turn later.
    pub(crate) fn enter(&self, operation: &Operation) -> bool {
        if self.is_busy.replace(true) {
            self.queue().push_back(operation.own());
            return false;
        }
        true
    }

    /// The operation that ran is over: the next one's turn.
    pub(crate) fn leave(&self) -> PyResult<()> {
        while let Some(next) = self.queue().pop_front() {
            if next.begin_turn()? {
                return Ok(());
            }
        }
        self.is_busy.set(false);
        Ok(())
    }
}

pub(crate) fn class() -> &'static crate::kit::Any {
    CLASS.object()
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<Strand>(c"ioxide.FileStrand")
        .doc(c"Lets the operations of one file run one at a time.")
        .constructible::<Strand>()
        .getset([crate::getter!(
            Strand,
            "busy",
            Strand::is_busy,
            "Whether an operation is under way."
        )])
        .build(&CLASS)?;
    Ok(())
}
