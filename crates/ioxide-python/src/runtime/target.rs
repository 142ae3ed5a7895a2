//! Native objects that are told things: that a future is done, a timer is due, a descriptor is ready.

use crate::kit::{Any, Class, Head, Native, Obj, ObjCell, Own, PyResult};

/// What a kind of target does when it is told; the default is nothing.
#[derive(Clone, Copy)]
pub(crate) struct TargetKind {
    /// A future it waits for is done.
    pub(crate) done: unsafe fn(&Any, &Any) -> PyResult<()>,
    /// Its timer is due.
    pub(crate) fire: unsafe fn(&Any) -> PyResult<()>,
    /// Its descriptor is readable.
    pub(crate) readable: unsafe fn(&Any) -> PyResult<()>,
    /// Its descriptor is writable.
    pub(crate) writable: unsafe fn(&Any) -> PyResult<()>,
    /// Its descriptor cannot be watched, with this exception.
    pub(crate) unwatched: unsafe fn(&Any, &Any) -> PyResult<()>,
}

impl TargetKind {
    /// Not told anything.
    pub(crate) const DEAF: TargetKind = {
        unsafe fn nobody(_: &Any) -> PyResult<()> {
            Ok(())
        }
        unsafe fn nothing(_: &Any, _: &Any) -> PyResult<()> {
            Ok(())
        }
        TargetKind {
            done: nothing,
            fire: nobody,
            readable: nobody,
            writable: nobody,
            unwatched: nothing,
        }
    };
}

/// The head of every target.
#[repr(C)]
pub(crate) struct Target {
    head: Head,
    /// Where asyncio's transport classes, from which ours derive, have their one slot. Unused elsewhere.
    pub(crate) slot: ObjCell,
    kind: &'static TargetKind,
}

// SAFETY: only used to read the head of objects that begin with it; no class is made of it.
unsafe impl Native for Target {
    type Extra = ();

    fn class() -> &'static Class {
        static NEVER: Class = Class::new();
        &NEVER
    }
}

/// A class of targets.
///
/// # Safety
/// As [`Native`], and the struct begins with [`Target`] made of [`Told::KIND`], or with the head of an awaitable
/// whose [`TOLD`](crate::awaitable::Awaitable::TOLD) is that.
pub(crate) unsafe trait Told: Native {
    fn done(&self, _future: &Any) -> PyResult<()> {
        Ok(())
    }
    fn fire(&self) -> PyResult<()> {
        Ok(())
    }
    fn readable(&self) -> PyResult<()> {
        Ok(())
    }
    fn writable(&self) -> PyResult<()> {
        Ok(())
    }
    fn unwatched(&self, _exception: &Any) -> PyResult<()> {
        Ok(())
    }

    const KIND: TargetKind = TargetKind {
        done: {
            unsafe fn done<T: Told>(object: &Any, future: &Any) -> PyResult<()> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.done(future)
            }
            done::<Self>
        },
        fire: {
            unsafe fn fire<T: Told>(object: &Any) -> PyResult<()> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.fire()
            }
            fire::<Self>
        },
        readable: {
            unsafe fn readable<T: Told>(object: &Any) -> PyResult<()> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.readable()
            }
            readable::<Self>
        },
        writable: {
            unsafe fn writable<T: Told>(object: &Any) -> PyResult<()> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.writable()
            }
            writable::<Self>
        },
        unwatched: {
            unsafe fn unwatched<T: Told>(object: &Any, exception: &Any) -> PyResult<()> {
                // SAFETY: the kind belongs to `T`'s class only.
                unsafe { object.cast_unchecked::<T>() }.unwatched(exception)
            }
            unwatched::<Self>
        },
    };

    /// The object as a target.
    fn target(&self) -> Own<Target> {
        // SAFETY: by the promise of the trait.
        unsafe { Own::from_obj(self.as_any().own()) }
    }
}

impl Target {
    pub(crate) const KIND_OFFSET: usize = std::mem::offset_of!(Target, kind);

    pub(crate) const fn new(kind: &'static TargetKind) -> Target {
        Target {
            head: Head::new(),
            slot: ObjCell::empty(),
            kind,
        }
    }

    #[inline]
    pub(crate) fn done(&self, future: &Any) -> PyResult<()> {
        // SAFETY: the kind is the one of this object's class.
        unsafe { (self.kind.done)(self.as_any(), future) }
    }

    #[inline]
    pub(crate) fn fire(&self) -> PyResult<()> {
        // SAFETY: as above.
        unsafe { (self.kind.fire)(self.as_any()) }
    }

    #[inline]
    pub(crate) fn readable(&self) -> PyResult<()> {
        // SAFETY: as above.
        unsafe { (self.kind.readable)(self.as_any()) }
    }

    #[inline]
    pub(crate) fn writable(&self) -> PyResult<()> {
        // SAFETY: as above.
        unsafe { (self.kind.writable)(self.as_any()) }
    }

    #[inline]
    pub(crate) fn unwatched(&self, exception: &Any) -> PyResult<()> {
        // SAFETY: as above.
        unsafe { (self.kind.unwatched)(self.as_any(), exception) }
    }

    /// The callable by which Python code, and loops that are not ours, tell the target that a future is
    /// done.
    pub(crate) fn callable(&self) -> PyResult<Obj> {
        static ENTRY: std::sync::OnceLock<Entry> = std::sync::OnceLock::new();
        let entry = ENTRY.get_or_init(|| {
            Entry(crate::method!(onearg Target, "_done_callback",
                |this: &Target, future: &Any| this.done(future), "The future is done."))
        });
        crate::kit::class::bound_function(&entry.0, self.as_any())
    }

    /// The callable by which loops that are not ours tell the target that its timer is due.
    pub(crate) fn fire_callable(&self) -> PyResult<Obj> {
        static ENTRY: std::sync::OnceLock<Entry> = std::sync::OnceLock::new();
        let entry = ENTRY.get_or_init(|| {
            Entry(crate::method!(noargs Target, "_fire", Target::fire, "The timer is due."))
        });
        crate::kit::class::bound_function(&entry.0, self.as_any())
    }
}

/// A method table entry, which the interpreter wants to live for ever.
struct Entry(crate::kit::ffi::PyMethodDef);

// SAFETY: the entry is never written to.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}
