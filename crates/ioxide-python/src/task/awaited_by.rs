//! Who awaits a future, for call graphs and for the interpreter's remote inspection.

use crate::kit::{Any, PyResult};

#[cfg(Py_3_14)]
mod native {
    use crate::future::FutureView;
    use crate::kit::{value, Any, PyResult};

    /// As the C code has it: one waiter stands for itself, several stand in a set.
    pub(super) fn add(future: FutureView<'_>, waiter: &Any) -> PyResult<()> {
        let base = future.base;
        let Some(held) = base.awaited_by.get() else {
            base.awaited_by.set(waiter.own());
            return Ok(());
        };
        if base.awaited_by_is_set.get() != 0 {
            return held.set_add(waiter);
        }
        let set = value::set()?;
        set.set_add(&held)?;
        set.set_add(waiter)?;
        base.awaited_by.set(set);
        base.awaited_by_is_set.set(1);
        Ok(())
    }

    pub(super) fn discard(future: FutureView<'_>, waiter: &Any) -> PyResult<()> {
        let base = future.base;
        let Some(held) = base.awaited_by.get() else {
            return Ok(());
        };
        if base.awaited_by_is_set.get() != 0 {
            return held.set_discard(waiter);
        }
        if held.is(waiter) {
            base.awaited_by.clear();
        }
        Ok(())
    }
}

/// Notes that `waiter` awaits `future`. Anything but a native or C future is left alone.
#[inline]
pub(crate) fn add(future: &Any, waiter: &Any) -> PyResult<()> {
    #[cfg(Py_3_14)]
    return match crate::future::FutureView::of(future) {
        Some(view) => native::add(view, waiter),
        None => call("future_add_to_awaited_by", future, waiter),
    };
    #[cfg(not(Py_3_14))]
    {
        let _ = (future, waiter);
        Ok(())
    }
}

/// Takes the note back.
#[inline]
pub(crate) fn discard(future: &Any, waiter: &Any) -> PyResult<()> {
    #[cfg(Py_3_14)]
    return match crate::future::FutureView::of(future) {
        Some(view) => native::discard(view, waiter),
        None => call("future_discard_from_awaited_by", future, waiter),
    };
    #[cfg(not(Py_3_14))]
    {
        let _ = (future, waiter);
        Ok(())
    }
}

#[cfg(Py_3_14)]
#[cold]
fn call(name: &str, future: &Any, waiter: &Any) -> PyResult<()> {
    let waiter = waiter.own();
    crate::kit::names::import_now("_asyncio", name)?
        .call(&[future, &waiter])
        .map(drop)
}
