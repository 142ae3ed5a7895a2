//! Starting a process, as a native awaitable: the program runs when it is awaited, and its protocol has been told by
//! the time the awaiting coroutine goes on.

use super::object::BaseProcessStreams;
use super::pipes::{self, Source};
use super::spawn::{self, Simple};
use super::transport::{Ends, Parts, SubprocessTransport};
use super::waiting::Exit;
use crate::awaitable::inner::Inner;
use crate::awaitable::{spec, Awaitable, Flow, Kind, Waiting};
use crate::kit::send::Sent;
use crate::kit::{
    err, value, Any, Args, Class, Native, Obj, ObjCell, Own, PyResult, Signature, Visitor,
};
use crate::runtime::EventLoop;
use crate::{import, intern, raise, running};
use std::cell::Cell;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    /// Another function, which the program has a word in, does it all.
    Delegated,
    /// The pipes are being connected to a protocol of the program's.
    Connecting,
    /// Has given way, so that the protocol is told.
    GaveWay,
    /// Has failed: the process is killed, and its end awaited.
    Failing,
}

/// Starts a process.
type Starting = Waiting<StartingState>;

struct StartingState {
    /// Empty until it begins, for the streams of `create_subprocess_exec`.
    event_loop: ObjCell,
    protocol: ObjCell,
    /// What a line of the log calls it.
    what: ObjCell,
    /// A tuple, or the shell's line.
    args: ObjCell,
    shell: bool,
    stdio: [ObjCell; 3],
    /// The keywords, as a dict; empty if there are none.
    options: ObjCell,
    /// How many bytes the streams hold, if there are to be streams: the result is a Process then.
    limit: ObjCell,
    streams: bool,
    phase: Cell<Phase>,
    transport: ObjCell,
    failure: ObjCell,
    inner: Inner,
}

static CLASS: Class = Class::new();

impl Awaitable for Starting {
    const NAME: &'static str = "create_subprocess_exec";

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
        self.inner.traverse(visitor);
    }

    fn unlink(&self) {
        ObjCell::clear_all(self.cells());
        self.inner.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        if self.streams && !self.prepare_streams()? {
            self.phase.set(Phase::Delegated);
            self.inner.begin(&*self.delegate()?)?;
            return self.resume();
        }
        let event_loop = self.event_loop.get_or_none();
        let Some(native) = EventLoop::of(&event_loop) else {
            return Err(raise!(err::type_error(), "a loop of ioxide is required"));
        };
        if native.debug() {
            self.log_start()?;
        }
        let (transport, source) = self.launch(&event_loop)?;
        self.transport.set(transport.as_any().own());
        match self.connect(&transport, source) {
            Ok(flow) => Ok(flow),
            Err(raised) => self.fail(err::take(raised)),
        }
    }

    fn resume(&self) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Fresh | Phase::GaveWay => self.finish(),
            Phase::Delegated => Ok(match self.inner.resume()? {
                Sent::Yielded(yielded) => Flow::Pass(yielded),
                Sent::Returned(process) => Flow::Return(process),
            }),
            Phase::Connecting => {
                let sent = self.inner.resume();
                self.connecting(sent)
            }
            Phase::Failing => {
                let sent = self.inner.resume();
                self.failing(sent)
            }
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        match self.phase.get() {
            Phase::Fresh | Phase::GaveWay => self.fail(exception),
            Phase::Delegated => Ok(match self.inner.throw(&exception)? {
                Sent::Yielded(yielded) => Flow::Pass(yielded),
                Sent::Returned(process) => Flow::Return(process),
            }),
            Phase::Connecting => {
                let sent = self.inner.throw(&exception);
                self.connecting(sent)
            }
            Phase::Failing => {
                let sent = self.inner.throw(&exception);
                self.failing(sent)
            }
        }
    }
}

impl Starting {
    fn cells(&self) -> [&ObjCell; 11] {
        let [stdin, stdout, stderr] = &self.stdio;
        [
            &self.event_loop,
            &self.protocol,
            &self.what,
            &self.args,
            stdin,
            stdout,
            stderr,
            &self.options,
            &self.limit,
            &self.transport,
            &self.failure,
        ]
    }

    /// For `create_subprocess_exec`: finds the loop and makes the protocol. False if the loop's own way to start a
    /// process is not ours, or must look at the options first.
    fn prepare_streams(&self) -> PyResult<bool> {
        let event_loop = running::require_running_loop()?;
        self.event_loop.set(event_loop.clone());
        let own = import!("ioxide._processes", "OWN_EXEC")?;
        if !is_own_method(&event_loop, intern!("subprocess_exec"), own)? || !self.is_plain()? {
            return Ok(false);
        }
        let limit = self.limit.get_or_none();
        let class = import!("ioxide.subprocess", "SubprocessStreamProtocol")?;
        self.protocol.set(class.call(&[&limit, &event_loop])?);
        Ok(true)
    }

    /// The coroutine that starts the process by the loop's `subprocess_exec`.
    fn delegate(&self) -> PyResult<Obj> {
        let (event_loop, limit) = (self.event_loop.get_or_none(), self.limit.get_or_none());
        let options = match self.options.get() {
            Some(options) => options,
            None => value::dict()?,
        };
        import!("ioxide.subprocess", "_exec_by_loop")?.call(&[
            &event_loop,
            &limit,
            &self.args.get_or_none(),
            &*self.stdio_tuple()?,
            &options,
        ])
    }

    fn stdio_tuple(&self) -> PyResult<Obj> {
        value::tuple_of(self.stdio.iter().map(ObjCell::get_or_none))
    }

    /// Whether the options need no checks but those that starting makes.
    fn is_plain(&self) -> PyResult<bool> {
        let Some(options) = self.options.get() else {
            return Ok(true);
        };
        let known = usize::from(options.dict_get(intern!("cwd"))?.is_some())
            + usize::from(options.dict_get(intern!("env"))?.is_some());
        Ok(options.len()? == known)
    }

    fn option(&self, name: &Any) -> PyResult<Option<Obj>> {
        match self.options.get() {
            Some(options) => options.dict_get(name),
            None => Ok(None),
        }
    }

    #[cold]
    fn log_start(&self) -> PyResult<()> {
        let what = import!("ioxide._processes", "log_start")?.call(&[
            &self.what.get_or_none(),
            &self.args.get_or_none(),
            &*self.stdio_tuple()?,
        ])?;
        self.what.set(what);
        Ok(())
    }

    /// Starts the program.
    fn launch(&self, event_loop: &Any) -> PyResult<(Own<SubprocessTransport>, Source)> {
        let mut piped = Ends::NONE;
        let mut plain = self.is_plain()?;
        for (fd, place) in self.stdio.iter().enumerate() {
            let Some(place) = place.get() else { continue };
            if is_pipe(&place)? {
                piped = piped.with(fd);
            } else {
                plain = false;
            }
        }
        let protocol = self.protocol.get_or_none();
        // Our own protocol need not be told of what its streams know.
        let class = import!("ioxide.subprocess", "SubprocessStreamProtocol")?;
        let direct =
            protocol.class().is(class) && (piped.is_empty() || connects_itself(event_loop)?);
        let args = self.args.get_or_none();
        let (child, popen, source) = if plain {
            spawn::reap_others()?;
            let (cwd, env) = (self.option(intern!("cwd"))?, self.option(intern!("env"))?);
            let (child, ends) = spawn::start(&Simple {
                args: &args,
                shell: self.shell,
                piped,
                cwd: cwd.as_deref().and_then(Any::some),
                env: env.as_deref().and_then(Any::some),
            })?;
            (child, None, Source::Fresh(ends))
        } else {
            let popen = self.make_popen(&args)?;
            let child = spawn::child_of(&popen)?;
            let source = Source::of(&popen)?;
            (child, Some(popen), source)
        };
        let transport = SubprocessTransport::new(Parts {
            event_loop,
            protocol: &protocol,
            args: &args,
            child,
            popen,
            piped,
            direct,
        })?;
        Ok((transport, source))
    }

    fn make_popen(&self, args: &Any) -> PyResult<Obj> {
        let [stdin, stdout, stderr] = &self.stdio;
        let options = match self.options.get() {
            Some(options) => options,
            None => value::dict()?,
        };
        import!("ioxide._popen", "Popen")?.call_dict(
            &[
                args,
                &value::bool(self.shell),
                &stdin.get_or_none(),
                &stdout.get_or_none(),
                &stderr.get_or_none(),
            ],
            &options,
        )
    }

    /// Connects the pipes to the protocol.
    fn connect(&self, transport: &SubprocessTransport, source: Source) -> PyResult<Flow> {
        transport.log_created()?;
        let protocol = self.protocol.get_or_none();
        if transport.direct {
            if let Some(streams) = protocol.cast::<BaseProcessStreams>() {
                streams.transport.set(transport.as_any().own());
                pipes::open_streams(transport, streams, source)?;
            }
            return Ok(self.give_way());
        }
        let files = source.into_files()?;
        let connecting =
            import!("ioxide._processes", "connect_pipes")?.call(&[transport.as_any(), &files])?;
        self.inner.begin(&connecting)?;
        self.phase.set(Phase::Connecting);
        let sent = self.inner.resume();
        self.connecting(sent)
    }

    fn connecting(&self, sent: PyResult<Sent>) -> PyResult<Flow> {
        let begun = match sent {
            Ok(Sent::Yielded(yielded)) => return Ok(Flow::Pass(yielded)),
            Ok(Sent::Returned(_)) => match self.transport.get_or_none().cast() {
                Some(transport) => SubprocessTransport::begin(transport),
                None => Ok(()),
            },
            Err(raised) => Err(raised),
        };
        match begun {
            Ok(()) => Ok(self.give_way()),
            Err(raised) => self.fail(err::take(raised)),
        }
    }

    fn give_way(&self) -> Flow {
        self.phase.set(Phase::GaveWay);
        Flow::Yield
    }

    /// Ends the process before the exception goes on.
    fn fail(&self, exception: Obj) -> PyResult<Flow> {
        let transport = self.transport.get_or_none();
        let leaves = crate::task::step::leaves_loop(&exception);
        let Some(transport) = transport.cast::<SubprocessTransport>().filter(|_| !leaves) else {
            return Err(err::restore(exception));
        };
        self.phase.set(Phase::Failing);
        transport.close()?;
        if err::is_a(&exception, err::generator_exit()) {
            // Who is closed cannot wait.
            return Err(err::restore(exception));
        }
        self.failure.set(exception);
        self.inner.begin(&*Exit::of(transport)?)?;
        let sent = self.inner.resume();
        self.failing(sent)
    }

    fn failing(&self, sent: PyResult<Sent>) -> PyResult<Flow> {
        match sent? {
            Sent::Yielded(yielded) => Ok(Flow::Pass(yielded)),
            Sent::Returned(_) => Err(err::restore(self.failure.get_or_none())),
        }
    }

    fn finish(&self) -> PyResult<Flow> {
        let event_loop = self.event_loop.get_or_none();
        let (transport, protocol) = (self.transport.get_or_none(), self.protocol.get_or_none());
        if EventLoop::of(&event_loop).is_some_and(EventLoop::debug) {
            import!("asyncio.log", "logger")?.method(
                intern!("info"),
                &[intern!("%s: %r"), &self.what.get_or_none(), &transport],
            )?;
        }
        if !self.streams {
            return value::tuple(&[&transport, &protocol]).map(Flow::Return);
        }
        let class = import!("ioxide.subprocess", "Process")?;
        let process = class.call(&[&transport, &protocol, &event_loop]);
        process.map(Flow::Return)
    }
}

/// `subprocess.PIPE`.
fn is_pipe(place: &Any) -> PyResult<bool> {
    const PIPE: i64 = -1;
    Ok(place.is_int() && place.to_i64()? == PIPE)
}

/// Whether the loop connects pipes by the methods that we know.
fn connects_itself(event_loop: &Any) -> PyResult<bool> {
    let read = import!("ioxide._processes", "OWN_CONNECT_READ")?;
    let write = import!("ioxide._processes", "OWN_CONNECT_WRITE")?;
    Ok(
        is_own_method(event_loop, intern!("connect_read_pipe"), read)?
            && is_own_method(event_loop, intern!("connect_write_pipe"), write)?,
    )
}

/// Whether the object's method of this name is `function`, which nobody has replaced.
fn is_own_method(object: &Any, name: &Any, function: &Any) -> PyResult<bool> {
    let method = object.attr(name)?;
    let found = method.attr_opt(intern!("__func__"))?;
    Ok(found.is_some_and(|found| found.is(function)))
}

fn cell(given: Option<&Any>) -> ObjCell {
    match given.and_then(Any::some) {
        Some(given) => ObjCell::new(given.own()),
        None => ObjCell::empty(),
    }
}

/// `_start_process(loop, what, protocol, args, shell, stdio, options)`: the transport and the protocol.
pub(crate) fn start_process(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<7> = Signature::new(
        "_start_process",
        [
            "loop", "what", "protocol", "args", "shell", "stdio", "options",
        ],
        7,
    );
    static KIND: Kind = Starting::KIND.named("_start_process");
    let [Some(event_loop), what, Some(protocol), args, Some(shell), Some(stdio), Some(options)] =
        args.bind(&SIGNATURE)?
    else {
        return Ok(Obj::none());
    };
    let stdio = stdio.tuple_items();
    let some_options = options.truthy()?;
    let body = Starting::of_kind(
        &KIND,
        StartingState {
            event_loop: cell(Some(event_loop)),
            // Any object will do, also None.
            protocol: ObjCell::new(protocol.own()),
            what: cell(what),
            args: cell(args),
            shell: shell.truthy()?,
            stdio: std::array::from_fn(|fd| cell(stdio.get(fd).copied())),
            options: cell(some_options.then_some(options)),
            limit: ObjCell::empty(),
            streams: false,
            phase: Cell::new(Phase::Fresh),
            transport: ObjCell::empty(),
            failure: ObjCell::empty(),
            inner: Inner::empty(),
        },
    );
    Ok(body.make()?.into_obj())
}

/// `create_subprocess_exec(program, *args, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)`.
pub(crate) fn create_exec(args: Args<'_>) -> PyResult<Obj> {
    const LIMIT: i64 = 65536;
    let (mut program, mut limit) = (None, None);
    let mut stdio = [const { ObjCell::empty() }; 3];
    let mut options: Option<Obj> = None;
    for (name, given) in args.keywords() {
        match name.to_str()? {
            "stdin" => stdio[0] = cell(Some(given)),
            "stdout" => stdio[1] = cell(Some(given)),
            "stderr" => stdio[2] = cell(Some(given)),
            "limit" => limit = Some(given.own()),
            "program" => program = Some(given),
            _ => {
                let options = match &mut options {
                    Some(options) => options,
                    none => none.insert(value::dict()?),
                };
                options.dict_set(name, given)?;
            }
        }
    }
    let command = match (args.positional(), program) {
        ([], None) => {
            return Err(crate::event_loop::missing(
                "create_subprocess_exec",
                "program",
            ))
        }
        ([], Some(program)) => value::tuple(&[program])?,
        (_, Some(_)) => {
            return Err(raise!(
                err::type_error(),
                "create_subprocess_exec() got multiple values for argument 'program'"
            ))
        }
        (given, None) => value::tuple(given)?,
    };
    let limit = match limit {
        Some(limit) => limit,
        None => value::int(LIMIT)?,
    };
    let body = Starting::with(StartingState {
        event_loop: ObjCell::empty(),
        protocol: ObjCell::empty(),
        what: ObjCell::new(intern!("execute program").own()),
        args: ObjCell::new(command),
        shell: false,
        stdio,
        options: options.map_or_else(ObjCell::empty, ObjCell::new),
        limit: ObjCell::new(limit),
        streams: true,
        phase: Cell::new(Phase::Fresh),
        transport: ObjCell::empty(),
        failure: ObjCell::empty(),
        inner: Inner::empty(),
    });
    Ok(body.make()?.into_obj())
}

pub(super) fn build() -> PyResult<()> {
    spec::<Starting>(c"ioxide.ProcessStarting").build(&CLASS)?;
    Ok(())
}
