//! The names by which Python code knows a queue.

use super::super::bound::{loop_getter, loop_method};
use super::{LifoQueue, PriorityQueue, Queue, CLASS, LIFO, PRIORITY};
use crate::kit::{err, ffi, value, Any, ClassSpec, Native, Own, PyResult};
use crate::{getter, method, raise};
use std::mem::offset_of;

fn methods() -> [ffi::PyMethodDef; 16] {
    [
        method!(noargs Queue, "qsize", Queue::qsize, "How many items there are."),
        method!(noargs Queue, "empty", Queue::empty, "Whether there is no item."),
        method!(noargs Queue, "full", Queue::full, "Whether there are maxsize items."),
        method!(given Queue, "put", "item", Queue::put, "Waits for room and puts the item; QueueShutDown after \
            shutdown()."),
        method!(given Queue, "put_nowait", "item", Queue::put_nowait,
            "Puts the item; QueueFull if there is no room, QueueShutDown after shutdown()."),
        method!(noargs Queue, "get", Queue::get, "Waits for an item, takes and returns it; QueueShutDown if there is \
            none and none will come."),
        method!(noargs Queue, "get_nowait", Queue::get_nowait,
            "Takes and returns an item; QueueEmpty if there is none, QueueShutDown if none will come."),
        method!(noargs Queue, "task_done", Queue::task_done,
            "Says that the work on an item is done, for join(); ValueError if that was said of all already."),
        method!(noargs Queue, "join", Queue::join,
            "Waits until task_done() was called for every item that was put."),
        method!(args Queue, "shutdown", Queue::shutdown,
            "shutdown($self, immediate=False)\n--\n\nEnds put() with QueueShutDown, and get() once the queue \
                is empty; with immediate=True the queue is emptied first."),
        method!(onearg Queue, "_init", |this: &Queue, _: &Any| this.store.reset(this.order),
            "Makes the store; may be overridden."),
        method!(noargs Queue, "_get", |this: &Queue| this.store.take(this.order),
            "Takes an item out of the store; may be overridden."),
        method!(onearg Queue, "_put",
            |this: &Queue, item: &Any| this.store.put(item, this.order),
            "Puts an item into the store; may be overridden."),
        method!(onearg Queue, "_wakeup_next", Queue::wakeup_next,
            "Wakes the first who still waits."),
        method!(noargs Queue, "_format", |this: &Queue| value::str(&this.format()?),
            "What repr() says about the state."),
        loop_method!(Queue),
    ]
}

fn properties() -> [ffi::PyGetSetDef; 9] {
    [
        getter!(
            Queue,
            "maxsize",
            |this: &Queue| this.maxsize.get_or_none(),
            "How many items there may be; 0 or less for any number."
        ),
        getter!(
            Queue,
            "_maxsize",
            |this: &Queue| this.maxsize.get_or_none(),
            Queue::set_maxsize,
            "As maxsize."
        ),
        getter!(
            Queue,
            "_queue",
            |this: &Queue| this.store.as_object(),
            set_items,
            "The store: a deque or a list."
        ),
        getter!(
            Queue,
            "_getters",
            // SAFETY: the list is the queue's field.
            |this: &Queue| unsafe { this.getters.view(this.as_any()) },
            "Those who wait for an item."
        ),
        getter!(
            Queue,
            "_putters",
            // SAFETY: the list is the queue's field.
            |this: &Queue| unsafe { this.putters.view(this.as_any()) },
            "Those who wait for room."
        ),
        getter!(
            Queue,
            "_unfinished_tasks",
            |this: &Queue| value::int(this.unfinished.get()),
            set_unfinished,
            "How often task_done() has to be called."
        ),
        getter!(
            Queue,
            "_finished",
            |this: &Queue| this.finished_event().map(Own::into_obj),
            "The event for which join() waits."
        ),
        getter!(
            Queue,
            "_is_shutdown",
            |this: &Queue| this.is_shutdown.get(),
            "Whether shutdown() was called."
        ),
        loop_getter!(Queue),
    ]
}

fn set_items(this: &Queue, items: Option<&Any>) -> PyResult<()> {
    let Some(items) = items else {
        return Err(raise!(err::attribute_error(), "_queue"));
    };
    this.store.set(items.own());
    Ok(())
}

fn set_unfinished(this: &Queue, count: Option<&Any>) -> PyResult<()> {
    let Some(count) = count else {
        return Err(raise!(err::attribute_error(), "_unfinished_tasks"));
    };
    this.unfinished.set(count.to_i64()?);
    Ok(())
}

pub(super) fn build() -> PyResult<()> {
    let queue = ClassSpec::new::<Queue>(c"ioxide.Queue")
        .doc(c"Queue(maxsize=0)\n--\n\nItems that producers put and consumers get, the oldest \
                first.\n\nmaxsize: how many there may be; 0 or less, the default, for any number.\n\nNot \
                thread-safe: other threads use it by loop.call_soon_threadsafe().")
        .short_name()
        .constructible::<Queue>()
        .dict(offset_of!(Queue, dict))
        .weak(offset_of!(Queue, weak))
        .generic()
        .slot(ffi::Py_tp_repr, crate::unary!(Queue, Queue::repr))
        .slot(ffi::Py_tp_str, crate::unary!(Queue, Queue::str))
        .coroutines(["put", "get", "join"])
        .methods(methods())
        .getset(properties())
        .build(&CLASS)?;
    ClassSpec::new::<LifoQueue>(c"ioxide.LifoQueue")
        .doc(c"LifoQueue(maxsize=0)\n--\n\nA queue that gives out the newest item first.")
        .base(queue)
        .short_name()
        .constructible::<LifoQueue>()
        .build(&LIFO)?;
    ClassSpec::new::<PriorityQueue>(c"ioxide.PriorityQueue")
        .doc(c"PriorityQueue(maxsize=0)\n--\n\nA queue that gives out the least item first.")
        .base(queue)
        .short_name()
        .constructible::<PriorityQueue>()
        .build(&PRIORITY)?;
    Ok(())
}
