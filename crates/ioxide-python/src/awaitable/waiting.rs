//! What the classes of native awaitables have in common, so that each says only what it does.

use super::{Flow, Kind, Wait};
use crate::kit::class::FreeList;
use crate::kit::{err, Any, Class, Native, Obj, PyResult, Visitor};
use crate::runtime::target::TargetKind;
use std::ops::Deref;

/// A native awaitable: the head, and behind it the state of one kind, to which it dereferences.
#[repr(C)]
pub(crate) struct Waiting<S> {
    pub(crate) wait: Wait,
    state: S,
}

impl<S> Deref for Waiting<S> {
    type Target = S;

    #[inline(always)]
    fn deref(&self) -> &S {
        &self.state
    }
}

/// A struct that begins with [`Wait`].
///
/// # Safety
/// It does, and is `#[repr(C)]`.
pub(crate) unsafe trait BeginsWithWait {}

// SAFETY: as its definition says.
unsafe impl<S> BeginsWithWait for Waiting<S> {}

/// A class of native awaitables: implemented for [`Waiting`] with the state of a kind.
pub(crate) trait Awaitable: BeginsWithWait + Native {
    const NAME: &'static str;
    /// What it does when it is told things, for an awaitable that is a target.
    const TOLD: TargetKind = TargetKind::DEAF;

    /// The place of the class; one per kind, built by [`spec`](super::spec).
    fn place() -> &'static Class;

    /// As [`Native::freelist`].
    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        None
    }

    /// Shows the references of the state to the garbage collector.
    fn visit(&self, _visitor: &mut Visitor) {}

    /// Gives up those that may be part of a cycle.
    fn unlink(&self) {}

    fn start(&self) -> PyResult<Flow>;
    fn resume(&self) -> PyResult<Flow>;
    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        Err(err::raise_instance(&exception))
    }
}

// SAFETY: `repr(C)`, begins with `Wait`, which begins with the head of an object; the class is built from it.
unsafe impl<S: 'static> Native for Waiting<S>
where
    Waiting<S>: Awaitable,
{
    type Extra = ();

    #[inline(always)]
    fn class() -> &'static Class {
        Self::place()
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        Self::spare()
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.wait.traverse(visitor);
        self.visit(visitor);
    }

    fn clear(&self) {
        self.wait.clear();
        self.unlink();
    }

    fn finalize(&self) {
        self.wait.warn_if_never_awaited();
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        self.wait.was_awaited()
    }
}

impl<S: 'static> Waiting<S>
where
    Waiting<S>: Awaitable,
{
    pub(crate) const KIND: Kind = Kind {
        told: Self::TOLD,
        name: Self::NAME,
        start: {
            unsafe fn start<T: Awaitable>(object: &Any) -> PyResult<Flow> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.start()
            }
            start::<Self>
        },
        resume: {
            unsafe fn resume<T: Awaitable>(object: &Any) -> PyResult<Flow> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.resume()
            }
            resume::<Self>
        },
        throw: {
            unsafe fn throw<T: Awaitable>(object: &Any, exception: Obj) -> PyResult<Flow> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.throw(exception)
            }
            throw::<Self>
        },
    };

    /// One that nobody has awaited yet; it becomes an object by [`Native::make`].
    #[inline(always)]
    pub(crate) fn with(state: S) -> Waiting<S> {
        Waiting::of_kind(&Self::KIND, state)
    }

    /// The same for a class that serves several functions: `kind` is [`Waiting::KIND`] under another name.
    #[inline(always)]
    pub(crate) fn of_kind(kind: &'static Kind, state: S) -> Waiting<S> {
        Waiting {
            wait: Wait::new(kind),
            state,
        }
    }
}
