//! The list of all tasks: the interpreter's own from 3.14 on, one of ours before.

use super::Task;
use crate::import;
#[cfg(not(Py_3_14))]
use crate::intern;
#[cfg(Py_GIL_DISABLED)]
use crate::kit::ffi;
#[cfg(any(Py_GIL_DISABLED, not(Py_3_14)))]
use crate::kit::Native;
use crate::kit::{value, Any, Args, Obj, PyResult, Signature};
use crate::layout::Node;
use crate::running;
use std::ptr;

#[cfg(Py_3_14)]
fn node_of(task: &Task) -> *mut Node {
    task.base.node.as_ptr().cast()
}

/// A task's place in our own list: the node, and the task to which it belongs.
#[cfg(not(Py_3_14))]
#[repr(C)]
pub(crate) struct Links {
    node: std::cell::UnsafeCell<Node>,
    task: std::cell::Cell<*const Task>,
}

#[cfg(not(Py_3_14))]
impl Default for Links {
    fn default() -> Links {
        Links {
            node: std::cell::UnsafeCell::new(Node {
                next: ptr::null_mut(),
                prev: ptr::null_mut(),
            }),
            task: std::cell::Cell::new(ptr::null()),
        }
    }
}

#[cfg(not(Py_3_14))]
fn node_of(task: &Task) -> *mut Node {
    // SAFETY: every task has its links behind it.
    let extra = unsafe { crate::kit::class::extra::<super::TaskExtra>(task.as_any()) };
    extra.links.task.set(task);
    extra.links.node.get()
}

/// Links the node in before `head`, which is the end of the list.
///
/// # Safety
/// `head` is a list's head, `node` is in no list.
unsafe fn link(head: *mut Node, node: *mut Node) {
    // SAFETY: a list's pointers are all live.
    unsafe {
        (*node).prev = (*head).prev;
        (*node).next = head;
        (*(*head).prev).next = node;
        (*head).prev = node;
    }
}

/// Takes the node out of its list, if it is in one.
fn unlink(node: *mut Node) {
    // SAFETY: a node's neighbours are live: each takes itself out before it dies.
    unsafe {
        if (*node).next.is_null() {
            return;
        }
        (*(*node).prev).next = (*node).next;
        (*(*node).next).prev = (*node).prev;
        (*node).next = ptr::null_mut();
        (*node).prev = ptr::null_mut();
    }
}

#[cfg(not(Py_3_14))]
mod own {
    //! The list for interpreters that keep tasks in a `WeakSet`, which would cost more than the task.

    use super::{Node, Obj, PyResult};
    use crate::kit::{names, Native};
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Head(UnsafeCell<Node>);

    // SAFETY: only touched by threads that hold the interpreter lock.
    unsafe impl Sync for Head {}

    static HEAD: Head = Head(UnsafeCell::new(Node {
        next: std::ptr::null_mut(),
        prev: std::ptr::null_mut(),
    }));
    static CHAINED: AtomicBool = AtomicBool::new(false);

    pub(super) fn head() -> *mut Node {
        HEAD.0.get()
    }

    pub(super) fn reset() {
        // SAFETY: the head is ours.
        unsafe {
            (*head()).next = head();
            (*head()).prev = head();
        }
    }

    /// Makes `asyncio.all_tasks()` see the list too, from the first task on.
    pub(super) fn chain_once() -> PyResult<()> {
        if CHAINED.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        names::import_now("ioxide._all_tasks", "chain")?
            .call0()
            .map(drop)
    }

    pub(super) fn tasks() -> Vec<Obj> {
        let mut tasks = Vec::new();
        // SAFETY: the nodes are live tasks' own; nothing runs while walking.
        unsafe {
            let mut node = (*head()).next;
            while node != head() {
                // The node is the first field of the links.
                let task = (*node.cast::<super::Links>()).task.get();
                tasks.push((*task).as_any().own());
                node = (*node).next;
            }
        }
        tasks
    }
}

/// Prepares the list, at import.
pub(crate) fn prepare() -> PyResult<()> {
    #[cfg(not(Py_3_14))]
    own::reset();
    #[cfg(Py_3_14)]
    running::find()?;
    Ok(())
}

/// Puts the task on the list, if it is not there.
#[inline]
pub(crate) fn register(task: &Task, _event_loop: &Any) -> PyResult<()> {
    #[cfg(Py_3_14)]
    let head = running::task_list();
    #[cfg(not(Py_3_14))]
    let head = {
        own::chain_once()?;
        own::head()
    };
    let node = node_of(task);
    // SAFETY: the head is a list's; a node without a successor is in no list.
    unsafe {
        if (*node).next.is_null() && task.base.future.is_pending() {
            // So that who walks the list in another thread may take a reference.
            #[cfg(Py_GIL_DISABLED)]
            ffi::PyUnstable_EnableTryIncRef(task.as_any().raw());
            link(head, node);
        }
    }
    Ok(())
}

/// Takes a dying task off the list.
pub(crate) fn unregister(task: &Task) {
    unlink(node_of(task));
}

/// Takes a task that is done off the list.
#[inline]
pub(crate) fn retire(task: &Task) {
    unlink(node_of(task));
}

/// `current_task(loop=None)`.
pub(crate) fn current_task(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> = Signature::new("current_task", ["loop"], 0);
    let [event_loop] = args.bind(&SIGNATURE)?;
    let event_loop = match event_loop.and_then(Any::some) {
        Some(event_loop) => event_loop.own(),
        None => running::require_running_loop()?,
    };
    Ok(running::current_task(&event_loop)?.unwrap_or_else(Obj::none))
}

/// `all_tasks(loop=None)`: the set of tasks that are not done.
pub(crate) fn all_tasks(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> = Signature::new("all_tasks", ["loop"], 0);
    let [event_loop] = args.bind(&SIGNATURE)?;
    let event_loop = match event_loop.and_then(Any::some) {
        Some(event_loop) => event_loop.own(),
        None => running::require_running_loop()?,
    };
    #[cfg(Py_3_14)]
    return import!("_asyncio", "all_tasks")?.call1(&event_loop);
    #[cfg(not(Py_3_14))]
    {
        let found = value::set()?;
        let mut candidates = own::tasks();
        candidates.extend(foreign_tasks()?);
        for task in candidates {
            let its_loop = super::suspend::loop_of(&task)?;
            if its_loop.is(&event_loop) && !task.method0(intern!("done"))?.truthy()? {
                found.set_add(&task)?;
            }
        }
        Ok(found)
    }
}

/// The tasks that the standard library keeps in its weak sets.
#[cfg(not(Py_3_14))]
fn foreign_tasks() -> PyResult<Vec<Obj>> {
    let names: &[&str] = if cfg!(Py_3_12) {
        &["_scheduled_tasks", "_eager_tasks"]
    } else {
        &["_all_tasks"]
    };
    let mut tasks = Vec::new();
    for name in names {
        let set = crate::kit::names::import_now("_asyncio", name)?;
        tasks.extend(import!("builtins", "list")?.call1(&set)?.collect()?);
    }
    Ok(tasks)
}

/// Our own tasks, for the chain into the standard library's set.
pub(crate) fn native_tasks(_args: Args<'_>) -> PyResult<Obj> {
    #[cfg(Py_3_14)]
    return value::list(std::iter::empty());
    #[cfg(not(Py_3_14))]
    value::list(own::tasks().into_iter())
}

fn one_task(function: &'static str, args: Args<'_>) -> PyResult<Obj> {
    let signature: Signature<1> = Signature::new(function, ["task"], 1);
    let [task] = args.bind(&signature)?;
    Ok(task.map_or_else(Obj::none, Any::own))
}

/// `_register_task(task)`, for third-party task classes.
pub(crate) fn register_any(args: Args<'_>) -> PyResult<()> {
    let task = one_task("_register_task", args)?;
    match task.cast::<Task>() {
        Some(native) => register(native, &native.event_loop()),
        None => import!("_asyncio", "_register_task")?
            .call1(&task)
            .map(drop),
    }
}

/// `_unregister_task(task)`.
pub(crate) fn unregister_any(args: Args<'_>) -> PyResult<()> {
    let task = one_task("_unregister_task", args)?;
    match task.cast::<Task>() {
        Some(native) => {
            unregister(native);
            Ok(())
        }
        None => import!("_asyncio", "_unregister_task")?
            .call1(&task)
            .map(drop),
    }
}

/// `_enter_task(loop, task)`, `_leave_task(loop, task)` and `_swap_current_task(loop, task)` mean the
/// interpreter's own slot, so they are its own functions under our name.
pub(crate) fn forward(name: &'static str, args: Args<'_>) -> PyResult<Obj> {
    let signature: Signature<2> = Signature::new(name, ["loop", "task"], 2);
    let [event_loop, task] = args.bind(&signature)?;
    let (event_loop, task) = (
        event_loop.map_or_else(Obj::none, Any::own),
        task.map_or_else(Obj::none, Any::own),
    );
    crate::kit::names::import_now("_asyncio", name)?.call(&[&event_loop, &task])
}
