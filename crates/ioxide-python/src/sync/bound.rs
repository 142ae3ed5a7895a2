//! Which loop a primitive belongs to: the first on which somebody had to wait for it.

use crate::kit::{err, Any, Obj, ObjCell, PyResult, Visitor};
use crate::{raise, running};

/// The loop, or nothing as long as nobody has waited.
pub(crate) struct LoopBound(ObjCell);

impl LoopBound {
    pub(crate) const fn new() -> LoopBound {
        LoopBound(ObjCell::empty())
    }

    /// Binds `owner` to the running loop; an error if it is bound to another one, or none runs.
    #[inline]
    pub(crate) fn require(&self, owner: &Any) -> PyResult<Obj> {
        let running = running::require_running_loop()?;
        if self.0.is_empty() {
            self.0.set(running.clone());
        } else if !self.0.holds(&running) {
            return Err(raise!(
                err::runtime_error(),
                "{} is bound to a different event loop",
                owner.repr_text()
            ));
        }
        Ok(running)
    }

    /// The value of `_loop`.
    pub(crate) fn get(&self) -> Obj {
        self.0.get_or_none()
    }

    /// Sets `_loop`; deleting it unbinds.
    pub(crate) fn set(&self, event_loop: Option<&Any>) -> PyResult<()> {
        drop(self.0.replace(event_loop.and_then(Any::some).map(Any::own)));
        Ok(())
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.0);
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

/// `_loop`, for the table of a class with a field `bound`.
macro_rules! loop_getter {
    ($class:ty) => {
        $crate::getter!(
            $class,
            "_loop",
            |this: &$class| this.bound.get(),
            |this: &$class, event_loop: Option<&$crate::kit::Any>| this.bound.set(event_loop),
            "The loop that this is bound to, or None."
        )
    };
}

/// `_get_loop()`, for the table of a class with a field `bound`.
macro_rules! loop_method {
    ($class:ty) => {
        $crate::method!(noargs $class, "_get_loop",
            |this: &$class| this.bound.require($crate::kit::Native::as_any(this)),
            "The running loop, to which this is bound from now on.")
    };
}

pub(super) use {loop_getter, loop_method};
