//! What Python code sees of the native loop: the tables of its methods and properties.

use super::BACKEND;
use crate::kit::{ffi, value, Any, Args, ClassSpec, Native, Obj, PyResult};
use crate::runtime::io::{self, Side};
use crate::runtime::{lifecycle, EventLoop};

fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(noargs EventLoop, "run_forever", lifecycle::run_forever,
            "Runs until stop() is called; RuntimeError if the loop is closed, or if this or another one runs in \
                this thread."),
        crate::method!(noargs EventLoop, "stop", EventLoop::stop,
            "Ends the loop after this turn, or after the next one if it does not run. Not thread-safe."),
        crate::method!(noargs EventLoop, "is_running", EventLoop::is_running,
            "Whether the loop runs."),
        crate::method!(noargs EventLoop, "is_closed", EventLoop::is_closed,
            "Whether the loop was closed."),
        crate::method!(noargs EventLoop, "_close", lifecycle::close,
            "Closes descriptors, drops what was scheduled."),
        crate::method!(noargs EventLoop, "time",
            |this: &EventLoop| this.clock.own_seconds(), "The loop's clock, in seconds."),
        crate::method!(leading EventLoop, "call_soon", ["callback"], EventLoop::call_soon,
            "call_soon($self, callback, *args, context=None)\n--\n\nCalls callback(*args) in the next \
                turn, in context or a copy of the current one; a Handle. RuntimeError if the loop is closed. \
                Not thread-safe."),
        crate::method!(leading EventLoop, "call_soon_threadsafe", ["callback"], EventLoop::call_soon_threadsafe,
            "call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nAs call_soon, from any \
                thread and from signal handlers; wakes the loop."),
        crate::method!(onearg EventLoop, "_add_callback_signalsafe",
            EventLoop::add_ready_handle, "Makes a Handle ready."),
        crate::method!(leading EventLoop, "call_later", ["delay", "callback"], EventLoop::call_later,
            "call_later($self, delay, callback, *args, context=None)\n--\n\nCalls callback(*args) after \
                delay seconds, in context or a copy of the current one; a TimerHandle. TypeError for a delay \
                of None. Not thread-safe."),
        crate::method!(leading EventLoop, "call_at", ["when", "callback"], EventLoop::call_at,
            "call_at($self, when, callback, *args, context=None)\n--\n\nCalls callback(*args) when time() \
                has reached when, in seconds; otherwise as call_later(). Not thread-safe."),
        crate::method!(noargs EventLoop, "create_future", EventLoop::create_future,
            "A pending Future of this loop."),
        crate::method!(leading EventLoop, "create_task", ["coro"], EventLoop::create_task,
            "create_task($self, coro, **kwargs)\n--\n\nA Task that runs the coroutine on this loop, or \
                what the task factory makes; the keywords are those of Task. RuntimeError if the loop is \
                closed. Not thread-safe."),
        crate::method!(given EventLoop, "set_task_factory", "factory", EventLoop::set_task_factory,
            "Sets the callable (loop, coro, **kwargs) that makes tasks, or None for Task; TypeError for \
                anything else."),
        crate::method!(noargs EventLoop, "get_task_factory",
            |this: &EventLoop| this.task_factory.get_or_none(), "The task factory, or None."),
        crate::method!(args EventLoop, "_add_reader",
            |this: &EventLoop, args: Args<'_>| this.add_callback(Side::Read, "add_reader", args),
            "Calls callback(*args) whenever fd is readable."),
        crate::method!(args EventLoop, "_add_writer",
            |this: &EventLoop, args: Args<'_>| this.add_callback(Side::Write, "add_writer", args),
            "Calls callback(*args) whenever fd is writable."),
        crate::method!(leading EventLoop, "add_reader", ["fd", "callback"],
            |this: &EventLoop, args: Args<'_>| -> PyResult<()> {
                this.add_callback(Side::Read, "add_reader", args).map(drop)
            },
            "add_reader($self, fd, callback, *args)\n--\n\nCalls callback(*args) whenever fd is readable. \
                RuntimeError for what is a transport's, ValueError for what is no descriptor."),
        crate::method!(leading EventLoop, "add_writer", ["fd", "callback"],
            |this: &EventLoop, args: Args<'_>| -> PyResult<()> {
                this.add_callback(Side::Write, "add_writer", args).map(drop)
            },
            "add_writer($self, fd, callback, *args)\n--\n\nCalls callback(*args) whenever fd is writable. \
                RuntimeError for what is a transport's, ValueError for what is no descriptor."),
        crate::method!(given EventLoop, "remove_reader", "fd",
            |this: &EventLoop, fd: &Any| io::remove_callback(this, Side::Read, fd),
            "Ends add_reader; False if there was none. RuntimeError for what is a transport's."),
        crate::method!(given EventLoop, "remove_writer", "fd",
            |this: &EventLoop, fd: &Any| io::remove_callback(this, Side::Write, fd),
            "Ends add_writer; False if there was none. RuntimeError for what is a transport's."),
        crate::method!(noargs EventLoop, "get_debug", EventLoop::debug,
            "Whether the loop is in debug mode."),
        crate::method!(given EventLoop, "set_debug", "enabled", EventLoop::debug_method,
            "Switches debug mode, which reports slow callbacks, calls from other threads and where things \
                were made."),
        crate::method!(onearg EventLoop, "_track_origins",
            |_: &EventLoop, on: &Any| lifecycle::track_origins(on.truthy()?),
            "Switches the tracking of coroutines' origins."),
        crate::method!(noargs EventLoop, "_refuse_if_running", lifecycle::refuse_if_running,
            "RuntimeError if this or another loop runs in this thread."),
        crate::method!(noargs EventLoop, "_check_closed", EventLoop::refuse_if_closed,
            "RuntimeError if the loop is closed."),
        crate::method!(onearg EventLoop, "_asyncgen_firstiter_hook", EventLoop::generator_begins,
            "Notes an asynchronous generator that is about to begin."),
        crate::method!(onearg EventLoop, "_forget_asyncgen",
            |this: &EventLoop, generator: &Any| this.generators.remove(generator),
            "Forgets an asynchronous generator that is being closed."),
        crate::method!(noargs EventLoop, "_shut_down_asyncgens",
            |this: &EventLoop| this.generators.shut_down(),
            "The asynchronous generators that live; whoever begins another is warned from now on."),
        crate::method!(noargs EventLoop, "_timers",
            |this: &EventLoop| value::list(this.timers.handles().into_iter()),
            "The timer handles that wait."),
    ]
}

fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        crate::getter!(
            EventLoop,
            "_ready",
            EventLoop::ready_objects,
            "What waits for its turn."
        ),
        crate::getter!(
            EventLoop,
            "backend",
            |_: &EventLoop| value::str(BACKEND),
            "What the loop waits with: 'epoll'."
        ),
        crate::getter!(
            EventLoop,
            "_debug",
            EventLoop::debug,
            "Whether in debug mode."
        ),
        crate::getter!(
            EventLoop,
            "_closed",
            EventLoop::is_closed,
            "Whether closed."
        ),
        crate::getter!(
            EventLoop,
            "_stopping",
            |this: &EventLoop| this.stopping.get(),
            "Whether stop() was called."
        ),
        crate::getter!(
            EventLoop,
            "_thread_id",
            |this: &EventLoop| match this.thread.get() {
                0 => Ok(Obj::none()),
                thread => value::int(thread as i64),
            },
            "The thread that runs the loop, or None."
        ),
        crate::getter!(
            EventLoop,
            "slow_callback_duration",
            |this: &EventLoop| this.slow_callback_duration.get(),
            EventLoop::set_slow_callback_duration,
            "Seconds, 0.1 at first; in debug mode a callback that takes longer is logged."
        ),
    ]
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<EventLoop>(c"ioxide.BaseLoop")
        .doc(c"BaseLoop(*, clock='monotonic', backend=None)\n--\n\nWhat is native of ioxide.EventLoop.")
        .constructible::<EventLoop>()
        .slot(
            ffi::Py_tp_setattro,
            crate::observed!(EventLoop, EventLoop::attribute_set),
        )
        .methods(methods())
        .methods(crate::executor::methods())
        .getset(crate::executor::getset())
        .coroutines(crate::transport::sock::COROUTINES)
        .coroutines(crate::transport::sendfile::COROUTINES)
        .methods(crate::transport::sock::loop_methods())
        .methods(crate::transport::sendfile::loop_methods())
        .getset(properties())
        .build(EventLoop::class())?;
    Ok(())
}
