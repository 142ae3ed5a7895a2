//! The loop's Python face: the methods that are hot or need the loop's insides.
//!
//! `ioxide.EventLoop`, in the façade, derives from this class and adds what only puts these together.

use crate::combine::eager::EagerTaskFactory;
use crate::future::Future;
use crate::handle::timer::{to_when, TimerHandle};
use crate::handle::Handle;
use crate::kit::class::Construct;
use crate::kit::{err, ffi, value, Any, Args, ClassSpec, Native, Obj, Own, PyResult, Signature};
use crate::runtime::io::{self, Side};
use crate::runtime::work::Work;
use crate::runtime::{lifecycle, EventLoop};
use crate::task::{self, Task};
use crate::{import, intern, raise};

impl Construct for EventLoop {
    fn empty() -> EventLoop {
        EventLoop::empty()
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<3> =
            Signature::new("EventLoop", ["clock", "backend", "_late"], 0).keyword_only_after(0);
        let [clock, backend, late] = args.bind(&SIGNATURE)?;
        check_backend(backend.and_then(Any::some))?;
        match clock.and_then(Any::some).map(Any::to_str).transpose()? {
            None | Some("monotonic") => {}
            Some("virtual") => self.clock.make_virtual(),
            Some(other) => {
                return Err(raise!(
                    err::value_error(),
                    "clock must be 'monotonic' or 'virtual', not {other:?}"
                ))
            }
        }
        let debug = import!("asyncio.coroutines", "_is_debug_mode")?
            .call0()?
            .truthy()?;
        self.set_debug(debug);
        let late = late.map_or(Ok(false), Any::truthy)?;
        if EventLoop::exact(self.as_any()).is_none() {
            // A subclass may have a `time()` of its own, which the first turn finds out.
            self.clock.ask();
        }
        lifecycle::open(self, late)
    }
}

/// What every loop waits with.
const BACKEND: &str = "epoll";

/// Refuses a backend that there has never been. One that is not to be had here is replaced silently: `loop.backend`
/// tells.
fn check_backend(given: Option<&Any>) -> PyResult<()> {
    const KNOWN: [&str; 2] = [BACKEND, "io_uring"];
    let (origin, name) = match given {
        Some(name) => ("backend", name.to_str()?.to_owned()),
        None => match std::env::var_os("IOXIDE_BACKEND") {
            Some(name) if !name.is_empty() => {
                ("IOXIDE_BACKEND", name.to_string_lossy().into_owned())
            }
            _ => return Ok(()),
        },
    };
    if KNOWN.contains(&name.as_str()) {
        return Ok(());
    }
    Err(raise!(
        err::value_error(),
        "{origin} must be 'epoll' or 'io_uring', not {name:?}"
    ))
}

/// `context=` of a scheduling method, wherever it stands among the keywords.
#[inline(always)]
fn only_context<'a>(function: &str, args: Args<'a>) -> PyResult<Option<&'a Any>> {
    // As a rule it is the only one, and its name the very string that the interpreter has for all of this name.
    if let Some((name, value)) = args.sole_keyword() {
        if name.raw() == intern!("context").raw() {
            return Ok(Some(value));
        }
    }
    context_among(function, args)
}

#[cold]
fn context_among<'a>(function: &str, args: Args<'a>) -> PyResult<Option<&'a Any>> {
    let mut context = None;
    for (name, value) in args.keywords() {
        match name.to_str()? {
            "context" => context = Some(value),
            other => {
                return Err(raise!(
                    err::type_error(),
                    "{function}() got an unexpected keyword argument '{other}'"
                ))
            }
        }
    }
    Ok(context)
}

/// Whether the factory is the one that begins our own tasks at once, which needs no call.
fn makes_eager_tasks(factory: &Any) -> bool {
    factory
        .exact::<EagerTaskFactory>()
        .is_some_and(EagerTaskFactory::makes_native_tasks)
}

pub(crate) fn missing(function: &str, name: &str) -> crate::kit::Raised {
    raise!(
        err::type_error(),
        "{function}() missing 1 required positional argument: '{name}'"
    )
}

impl EventLoop {
    #[inline]
    fn call_soon(&self, args: Args<'_>) -> PyResult<Own<Handle>> {
        if self.debug() {
            self.refuse_other_thread()?;
        }
        let handle = self.schedule("call_soon", args)?;
        self.push(Work::Handle(handle.clone()));
        Ok(handle)
    }

    fn call_soon_threadsafe(&self, args: Args<'_>) -> PyResult<Own<Handle>> {
        let handle = self.schedule("call_soon_threadsafe", args)?;
        self.push(Work::Handle(handle.clone()));
        Ok(handle)
    }

    fn add_ready_handle(&self, handle: &Any) -> PyResult<()> {
        let Some(handle) = handle.cast::<Handle>() else {
            return Err(raise!(
                err::type_error(),
                "a Handle is required, not {}",
                handle.type_name()
            ));
        };
        self.push(Work::Handle(handle.own()));
        Ok(())
    }

    #[inline]
    fn schedule(&self, function: &'static str, args: Args<'_>) -> PyResult<Own<Handle>> {
        self.refuse_if_closed()?;
        let context = if args.has_keywords() {
            only_context(function, args)?
        } else {
            None
        };
        let [callback, arguments @ ..] = args.positional() else {
            return Err(missing(function, "callback"));
        };
        if self.debug() {
            self.check_callback(callback, function)?;
        }
        Handle::new(self, callback, arguments, context)
    }

    /// In debug mode: refuses what cannot be a callback.
    pub(crate) fn check_callback(&self, callback: &Any, function: &str) -> PyResult<()> {
        let is_coroutine = task::is_coroutine(callback)?
            || import!("inspect", "iscoroutinefunction")?
                .call1(callback)?
                .truthy()?;
        if is_coroutine {
            return Err(raise!(
                err::type_error(),
                "coroutines cannot be used with {function}()"
            ));
        }
        if !callback.is_callable() {
            return Err(raise!(
                err::type_error(),
                "a callable object was expected by {function}(), got {}",
                callback.repr_text()
            ));
        }
        Ok(())
    }

    fn call_later(&self, args: Args<'_>) -> PyResult<Own<TimerHandle>> {
        let [delay, rest @ ..] = args.positional() else {
            return Err(missing("call_later", "delay"));
        };
        if delay.is_none() {
            return Err(raise!(err::type_error(), "delay must not be None"));
        }
        let delay = to_when(Some(delay), "delay")?;
        if self.clock.asks() {
            self.ask_for_time()?;
        }
        self.schedule_at("call_later", self.clock.seconds() + delay, rest, args)
    }

    fn call_at(&self, args: Args<'_>) -> PyResult<Own<TimerHandle>> {
        let [when, rest @ ..] = args.positional() else {
            return Err(missing("call_at", "when"));
        };
        let when = to_when(Some(when), "when")?;
        self.schedule_at("call_at", when, rest, args)
    }

    fn schedule_at(
        &self,
        function: &'static str,
        when: f64,
        rest: &[&Any],
        args: Args<'_>,
    ) -> PyResult<Own<TimerHandle>> {
        self.refuse_if_closed()?;
        let context = if args.has_keywords() {
            only_context(function, args)?
        } else {
            None
        };
        let [callback, arguments @ ..] = rest else {
            return Err(missing(function, "callback"));
        };
        if self.debug() {
            self.refuse_other_thread()?;
            self.check_callback(callback, function)?;
        }
        TimerHandle::schedule(self, when, callback, arguments, context)
    }

    fn create_future(&self) -> PyResult<Own<Future>> {
        Future::new(self.as_any())
    }

    /// Frameworks replace `loop.create_task` on an instance, and expect that every task is made by theirs; tests
    /// replace `loop.time`, and expect that timers go by it, or what connects, to see with what it is called.
    fn attribute_set(&self, name: &Any) {
        if name.is(intern!("create_task")) {
            self.own_create_task.set(true);
        } else if name.is(intern!("create_connection")) || name.is(intern!("sock_connect")) {
            self.own_connecting.set(true);
        } else if name.is(intern!("time")) {
            self.clock.ask();
        }
    }

    /// `create_task(coro, *, name, context, eager_start, **kwargs)`, through the factory if there is one.
    pub(crate) fn create_task(&self, args: Args<'_>) -> PyResult<Obj> {
        let [coro, ..] = args.positional() else {
            return Err(missing("create_task", "coro"));
        };
        self.refuse_if_closed()?;
        if args.positional().len() > 1 {
            return Err(raise!(
                err::type_error(),
                "create_task() takes 1 positional argument but {} were given",
                args.positional().len()
            ));
        }
        let factory = self.task_factory.get();
        let eagerly = factory.as_deref().is_some_and(makes_eager_tasks);
        if let Some(factory) = factory.filter(|_| !eagerly) {
            return self.create_task_by(&factory, coro, args);
        }
        const SIGNATURE: Signature<4> =
            Signature::new("create_task", ["coro", "name", "context", "eager_start"], 1)
                .keyword_only_after(1);
        let [_, name, context, eager] = args.bind(&SIGNATURE)?;
        let eager = eager.map_or(Ok(eagerly), Any::truthy)?;
        let (name, context) = (name.and_then(Any::some), context.and_then(Any::some));
        Ok(Task::spawn(self, coro, name, context, eager)?.into_obj())
    }

    /// Whether there is no task factory, so that tasks are ours.
    #[cfg(not(Py_3_12))]
    pub(crate) fn makes_plain_tasks(&self) -> bool {
        self.task_factory.get().is_none()
    }

    /// `create_task(coro)`.
    #[inline]
    pub(crate) fn spawn(&self, coro: &Any) -> PyResult<Obj> {
        self.refuse_if_closed()?;
        let eager = match self.task_factory.get() {
            None => false,
            Some(factory) if makes_eager_tasks(&factory) => true,
            Some(factory) => return factory.call(&[self.as_any(), coro]),
        };
        Ok(Task::spawn(self, coro, None, None, eager)?.into_obj())
    }

    /// `factory(loop, coro, **kwargs)`. What was not given is not passed, and a name is set afterwards where the
    /// factory is of the older kind, which takes none.
    fn create_task_by(&self, factory: &Any, coro: &Any, args: Args<'_>) -> PyResult<Obj> {
        let keywords = value::dict()?;
        let mut name = None;
        for (key, value) in args.keywords() {
            // Before 3.14 asyncio's own callers pass None for what they were not given.
            if cfg!(not(Py_3_14)) && value.is_none() {
                continue;
            }
            if !self.factory_takes_name.get() && key.to_str()? == "name" {
                name = value.some();
            } else {
                keywords.dict_set(key, value)?;
            }
        }
        let task = factory.call_dict(&[self.as_any(), coro], &keywords)?;
        if let Some(name) = name {
            task.method(intern!("set_name"), &[name])?;
        }
        Ok(task)
    }

    fn set_task_factory(&self, factory: &Any) -> PyResult<()> {
        if !factory.is_none() && !factory.is_callable() {
            return Err(raise!(
                err::type_error(),
                "task factory must be a callable or None"
            ));
        }
        if let Some(factory) = factory.some() {
            let takes = import!("ioxide._factories", "takes_name")?
                .call1(factory)?
                .truthy()?;
            self.factory_takes_name.set(takes);
        }
        drop(self.task_factory.replace(factory.some().map(Any::own)));
        Ok(())
    }

    fn stop(&self) {
        self.stopping.set(true);
        // A loop that is asleep, stopped from another thread, looks again.
        if self.polling.is_asleep() {
            self.polling.wake();
        }
    }

    fn add_callback(&self, side: Side, function: &str, args: Args<'_>) -> PyResult<Obj> {
        let [fd, callback, arguments @ ..] = args.positional() else {
            return Err(missing(function, "callback"));
        };
        io::add_callback(self, side, fd, callback, arguments)
    }

    /// `loop._ready`: what waits for its turn, for those who look.
    fn ready_objects(&self) -> PyResult<Obj> {
        value::list(self.ready.objects(self)?.into_iter())
    }

    fn set_slow_callback_duration(&self, duration: Option<&Any>) -> PyResult<()> {
        match duration {
            Some(duration) => {
                self.slow_callback_duration.set(duration.to_f64()?);
                Ok(())
            }
            None => Err(raise!(err::attribute_error(), "cannot delete attribute")),
        }
    }

    fn debug_method(&self, enabled: &Any) -> PyResult<()> {
        let enabled = enabled.truthy()?;
        self.set_debug(enabled);
        if !self.is_running() {
            return Ok(());
        }
        // Takes effect on the loop's own thread.
        let track = self.as_any().attr(intern!("_track_origins"))?;
        let call = self.as_any().attr(intern!("call_soon_threadsafe"))?;
        call.call(&[&track, &value::bool(enabled)]).map(drop)
    }
}

impl EventLoop {
    fn generator_begins(&self, generator: &Any) -> PyResult<()> {
        if self.generators.are_shut_down() {
            self.as_any()
                .method(intern!("_warn_of_late_asyncgen"), &[generator])?;
        }
        self.generators.add(generator)
    }
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<EventLoop>(c"ioxide.BaseLoop")
        .doc(c"BaseLoop(*, clock='monotonic', backend=None)\n--\n\nWhat is native of ioxide.EventLoop.")
        .constructible::<EventLoop>()
        .slot(
            ffi::Py_tp_setattro,
            crate::observed!(EventLoop, EventLoop::attribute_set),
        )
        .methods([
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
        ])
        .methods(crate::executor::methods())
        .getset(crate::executor::getset())
        .coroutines(crate::transport::sock::COROUTINES)
        .coroutines(crate::transport::sendfile::COROUTINES)
        .methods(crate::transport::sock::loop_methods())
        .methods(crate::transport::sendfile::loop_methods())
        .getset([
            crate::getter!(EventLoop, "_ready", EventLoop::ready_objects, "What waits for its turn."),
            crate::getter!(EventLoop, "backend", |_: &EventLoop| value::str(BACKEND),
                "What the loop waits with: 'epoll'."),
            crate::getter!(EventLoop, "_debug", EventLoop::debug, "Whether in debug mode."),
            crate::getter!(EventLoop, "_closed", EventLoop::is_closed, "Whether closed."),
            crate::getter!(EventLoop, "_stopping",
                |this: &EventLoop| this.stopping.get(), "Whether stop() was called."),
            crate::getter!(EventLoop, "_thread_id",
                |this: &EventLoop| match this.thread.get() {
                    0 => Ok(Obj::none()),
                    thread => value::int(thread as i64),
                }, "The thread that runs the loop, or None."),
            crate::getter!(EventLoop, "slow_callback_duration",
                |this: &EventLoop| this.slow_callback_duration.get(),
                EventLoop::set_slow_callback_duration,
                "Seconds, 0.1 at first; in debug mode a callback that takes longer is logged."),
        ])
        .build(EventLoop::class())?;
    Ok(())
}

/// `_set_facade(cls)`: tells the native code which class nearly all loops are of.
pub(crate) fn set_facade(args: Args<'_>) -> PyResult<()> {
    const SIGNATURE: Signature<1> = Signature::new("_set_facade", ["cls"], 1);
    let [class] = args.bind(&SIGNATURE)?;
    let Some(class) = class else { return Ok(()) };
    // SAFETY: both are types if the check holds.
    let derives = unsafe {
        ffi::PyType_Check(class.raw()) != 0
            && ffi::PyType_IsSubtype(class.raw().cast(), EventLoop::class().raw()) != 0
    };
    if !derives {
        return Err(raise!(
            err::type_error(),
            "the façade must derive from BaseLoop"
        ));
    }
    EventLoop::set_facade(class);
    Ok(())
}
