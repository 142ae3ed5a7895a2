//! The loop's Python face: the methods that are hot or need the loop's insides.
//!
//! `ioxide.EventLoop`, in the façade, derives from this class and adds what only puts these together.

mod table;

pub(crate) use table::build;

use crate::combine::eager::EagerTaskFactory;
use crate::future::Future;
use crate::handle::timer::{to_when, TimerHandle};
use crate::handle::Handle;
use crate::kit::class::Construct;
use crate::kit::{err, ffi, value, Any, Args, Native, Obj, Own, PyResult, Signature};
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
