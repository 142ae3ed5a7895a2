//! Which loop runs in this thread, and which task: kept where the interpreter keeps it.
//!
//! From 3.14 on both stand in the thread state, as strong references of the slot's own. Where exactly is found
//! once, by a probe with a recognisable object. On older versions the running task stands in the dict
//! `_asyncio._current_tasks`, and the running loop is asked of `_asyncio`.

use crate::kit::{err, ffi, Any, Obj, PyResult};
use crate::{import, raise};

#[cfg(Py_3_14)]
mod slots {
    //! The thread state's slots.

    use crate::kit::{err, ffi, value, Any, Obj, PyResult, Raw};
    use crate::layout::Node;
    use crate::{import, raise};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Words from the start of the thread state to the running loop; the running task follows it.
    static LOOP_WORD: AtomicUsize = AtomicUsize::new(0);
    /// Words from the start of the thread state to the head of the list of tasks.
    static LIST_WORD: AtomicUsize = AtomicUsize::new(0);
    /// How far the probe looks, in words: within the interpreter's thread state in all known versions.
    const FARTHEST: usize = 400;

    #[inline(always)]
    fn word(index: usize) -> *mut Raw {
        // SAFETY: the thread state of this thread, and a word in it that the probe has found.
        unsafe { ffi::PyThreadState_GetUnchecked().cast::<Raw>().add(index) }
    }

    #[inline(always)]
    pub(super) fn running_loop() -> *mut Raw {
        word(LOOP_WORD.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(super) fn running_task() -> *mut Raw {
        word(LOOP_WORD.load(Ordering::Relaxed) + 1)
    }

    /// The head of this thread's list of tasks.
    #[inline(always)]
    pub(crate) fn task_list() -> *mut Node {
        word(LIST_WORD.load(Ordering::Relaxed)).cast()
    }

    /// Finds the head of the list, which is the node in the thread state, from the node of a C task that this
    /// thread has just made.
    pub(crate) fn find_list(task: *mut Node) -> bool {
        // Tasks of a program that imports ioxide late may be on the list too.
        const MOST_TASKS: usize = 10_000_000;
        let state = word(0).cast::<Node>();
        let mut node = task;
        for _ in 0..MOST_TASKS {
            // SAFETY: the list is circular, and nothing runs while walking.
            node = unsafe { (*node).next };
            if node.is_null() {
                return false;
            }
            let distance = (node as usize).wrapping_sub(state as usize) / size_of::<Raw>();
            if distance < FARTHEST {
                LIST_WORD.store(distance, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Finds the slots by setting a loop and a task that can be recognised.
    pub(crate) fn find() -> PyResult<()> {
        let (marker, task) = (value::dict()?, value::dict()?);
        let set_loop = import!("_asyncio", "_set_running_loop")?;
        let before = import!("_asyncio", "_get_running_loop")?.call0()?;
        set_loop.call1(&marker)?;
        // SAFETY: words of this thread's own state, read only; the search ends at the first match.
        let found = unsafe {
            let state = ffi::PyThreadState_GetUnchecked().cast::<Raw>();
            (0..FARTHEST).find(|index| *state.add(*index) == marker.raw())
        };
        let swap = import!("_asyncio", "_swap_current_task")?;
        let old = swap.call(&[&marker, &task]);
        let agrees = found.is_some_and(|index| {
            // SAFETY: the word after the one found is within the thread state.
            unsafe {
                *ffi::PyThreadState_GetUnchecked()
                    .cast::<Raw>()
                    .add(index + 1)
                    == task.raw()
            }
        });
        if let Ok(old) = old {
            swap.call(&[&marker, &old])?;
        }
        set_loop.call1(&before)?;
        match found {
            Some(index) if agrees => {
                LOOP_WORD.store(index, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(raise!(
                err::import_error(),
                "ioxide does not find the running task in this Python's thread state; a newer ioxide may"
            )),
        }
    }

    /// What the slot holds, borrowed.
    #[inline(always)]
    pub(super) fn peek<'a>(slot: *mut Raw) -> Option<&'a Any> {
        // SAFETY: the slot holds a live object or null.
        unsafe { (!(*slot).is_null()).then(|| Any::from_raw(*slot)) }
    }

    /// Puts a new reference into the slot, gives back what was there.
    #[inline(always)]
    pub(super) fn replace(slot: *mut Raw, object: Option<&Any>) -> Option<Obj> {
        // SAFETY: the slot owns what it holds.
        unsafe {
            let old = *slot;
            *slot = object.map_or(std::ptr::null_mut(), |object| object.own().into_raw());
            (!old.is_null()).then(|| Obj::steal(old))
        }
    }
}

#[cfg(Py_3_14)]
pub(crate) use slots::{find, find_list, task_list};

/// The loop that runs in this thread.
#[cfg(Py_3_14)]
#[inline(always)]
pub(crate) fn running_loop() -> PyResult<Option<Obj>> {
    Ok(slots::peek(slots::running_loop())
        .filter(|found| !found.is_none())
        .map(Any::own))
}

#[cfg(not(Py_3_14))]
pub(crate) fn running_loop() -> PyResult<Option<Obj>> {
    let found = import!("_asyncio", "_get_running_loop")?.call0()?;
    Ok((!found.is_none()).then_some(found))
}

/// As [`running_loop`], or asyncio's error.
pub(crate) fn require_running_loop() -> PyResult<Obj> {
    match running_loop()? {
        Some(running) => Ok(running),
        None => Err(raise!(err::runtime_error(), "no running event loop")),
    }
}

pub(crate) fn set_running_loop(event_loop: Option<&Any>) -> PyResult<()> {
    // SAFETY: the singleton.
    let none = unsafe { Any::from_raw(ffi::Py_None()) };
    import!("_asyncio", "_set_running_loop")?.call1(event_loop.unwrap_or(none))?;
    Ok(())
}

#[cold]
fn refuse_entry(task: &Any, current: &Any) -> crate::kit::Raised {
    raise!(
        err::runtime_error(),
        "Cannot enter into task {} while another task {} is being executed.",
        task.repr_text(),
        current.repr_text()
    )
}

/// Makes `task` the running task of `event_loop`, which runs in this thread.
#[cfg(Py_3_14)]
#[inline(always)]
pub(crate) fn enter(_event_loop: &Any, task: &Any) -> PyResult<()> {
    let slot = slots::running_task();
    if let Some(current) = slots::peek(slot) {
        return Err(refuse_entry(task, current));
    }
    slots::replace(slot, Some(task));
    Ok(())
}

/// Ends what [`enter`] began. User code may have changed the slot in between: then it is left alone.
#[cfg(Py_3_14)]
#[inline(always)]
pub(crate) fn leave(_event_loop: &Any, task: &Any) {
    let slot = slots::running_task();
    if slots::peek(slot).is_some_and(|current| current.is(task)) {
        drop(slots::replace(slot, None));
    }
}

/// Sets the running task of `event_loop`, gives back the one before.
#[cfg(Py_3_14)]
pub(crate) fn swap(_event_loop: &Any, task: Option<&Any>) -> PyResult<Option<Obj>> {
    Ok(slots::replace(slots::running_task(), task))
}

/// The running task of `event_loop`.
#[cfg(Py_3_14)]
pub(crate) fn current_task(event_loop: &Any) -> PyResult<Option<Obj>> {
    if slots::peek(slots::running_loop()).is_some_and(|running| running.is(event_loop)) {
        return Ok(slots::peek(slots::running_task()).map(Any::own));
    }
    // The loop may run in another thread: the interpreter knows how to look there.
    let found = import!("_asyncio", "current_task")?.call1(event_loop)?;
    Ok((!found.is_none()).then_some(found))
}

/// The task that runs in this thread, with its loop, whichever they are.
#[cfg(Py_3_14)]
#[inline(always)]
pub(crate) fn running_task() -> PyResult<Option<Obj>> {
    Ok(slots::peek(slots::running_task()).map(Any::own))
}

#[cfg(not(Py_3_14))]
fn current_tasks() -> PyResult<&'static Any> {
    import!("_asyncio", "_current_tasks")
}

#[cfg(not(Py_3_14))]
pub(crate) fn enter(event_loop: &Any, task: &Any) -> PyResult<()> {
    if let Some(current) = current_tasks()?.dict_get(event_loop)? {
        return Err(refuse_entry(task, &current));
    }
    current_tasks()?.dict_set(event_loop, task)
}

#[cfg(not(Py_3_14))]
pub(crate) fn leave(event_loop: &Any, task: &Any) {
    err::preserved(|| {
        let Ok(tasks) = current_tasks() else { return };
        match tasks.dict_get(event_loop) {
            Ok(Some(current)) if current.is(task) => {
                // SAFETY: a dict and a live key, which is in it.
                if unsafe { ffi::PyDict_DelItem(tasks.raw(), event_loop.raw()) } != 0 {
                    err::unraisable(crate::kit::Raised, task);
                }
            }
            Ok(_) => {}
            Err(raised) => err::unraisable(raised, task),
        }
    });
}

#[cfg(not(Py_3_14))]
pub(crate) fn swap(event_loop: &Any, task: Option<&Any>) -> PyResult<Option<Obj>> {
    let tasks = current_tasks()?;
    let before = tasks.dict_get(event_loop)?;
    match task {
        Some(task) => tasks.dict_set(event_loop, task)?,
        None if before.is_some() => {
            // SAFETY: a dict and a live key, which is in it.
            crate::kit::value::check(unsafe {
                ffi::PyDict_DelItem(tasks.raw(), event_loop.raw())
            })?;
        }
        None => {}
    }
    Ok(before)
}

#[cfg(not(Py_3_14))]
pub(crate) fn current_task(event_loop: &Any) -> PyResult<Option<Obj>> {
    current_tasks()?.dict_get(event_loop)
}

#[cfg(not(Py_3_14))]
pub(crate) fn running_task() -> PyResult<Option<Obj>> {
    match running_loop()? {
        Some(running) => current_task(&running),
        None => Ok(None),
    }
}
