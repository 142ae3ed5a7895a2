//! `SubprocessTransport`: a child process, its pipes, and the protocol that is told about them.
//!
//! The protocol's `connection_made` comes first, whatever has happened by then, and `connection_lost` last: when the
//! process has exited and all pipes are closed. With the protocol of our own streams most of that is known without
//! being told: such a transport is *direct*, and its pipes have the protocols of streams.

use super::child::ChildProcess;
use super::methods;
use super::object::BaseProcessStreams;
use super::spawn;
use super::waiting::Waiters;
use crate::kit::class::WeakList;
use crate::kit::{err, value, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::target::{Target, TargetKind};
use crate::runtime::EventLoop;
use crate::{import, intern};
use std::cell::Cell;

/// One bit for each of the child's standard descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends(u8);

impl Ends {
    pub(super) const NONE: Ends = Ends(0);
    const OUTPUTS: Ends = Ends(0b110);

    pub(super) fn with(self, fd: usize) -> Ends {
        Ends(self.0 | 1 << fd)
    }

    pub(super) fn has(self, fd: usize) -> bool {
        self.0 >> fd & 1 != 0
    }

    fn without(self, others: Ends) -> Ends {
        Ends(self.0 & !others.0)
    }

    fn and(self, others: Ends) -> Ends {
        Ends(self.0 & others.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// `ioxide.SubprocessTransport`.
///
/// # Invariants
/// 1. `event_loop` and `protocol` are there until everything is over and told.
/// 2. `returncode` is set once, when the loop has seen the process end; waiters are woken then.
/// 3. `closed` is false only while there is something to close.
#[repr(C)]
pub(crate) struct SubprocessTransport {
    target: Target,
    pub(super) dict: ObjCell,
    pub(super) weak: WeakList,
    pub(super) event_loop: ObjCell,
    pub(super) protocol: ObjCell,
    pub(super) args: ObjCell,
    child: Own<ChildProcess>,
    /// The process as a Popen, for those who look.
    popen: ObjCell,
    /// The transports of the pipes, by the child's numbers.
    pub(super) pipes: [ObjCell; 3],
    /// Which pipes there are, and which of them are closed.
    piped: Ends,
    lost: Cell<Ends>,
    pub(super) returncode: Cell<Option<i32>>,
    pub(super) waiters: Waiters,
    /// What the protocol is to be told after `connection_made`, as a list of tuples, until that was called.
    pending: ObjCell,
    pub(super) closed: Cell<bool>,
    pub(super) direct: bool,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for SubprocessTransport {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
        for pipe in &self.pipes {
            visitor.cell(pipe);
        }
        visitor.object(self.child.as_any());
        self.waiters.traverse(visitor);
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
        for pipe in &self.pipes {
            pipe.clear();
        }
        self.waiters.clear();
    }

    fn finalize(&self) {
        if self.closed.get() {
            return;
        }
        err::warn_unclosed(
            self.as_any(),
            &format!("unclosed transport {}", self.as_any().repr_text()),
        );
        if let Err(raised) = self.close() {
            err::unraisable(raised, self.as_any());
        }
    }

    fn may_skip_finalizer(&self) -> bool {
        self.closed.get()
    }
}

/// Known from the first process on: when the interpreter ends, nothing can be imported any more.
fn popen_class() -> PyResult<&'static Any> {
    import!("ioxide._popen", "Popen")
}

/// What a transport is made of.
pub(super) struct Parts<'a> {
    pub(super) event_loop: &'a Any,
    pub(super) protocol: &'a Any,
    pub(super) args: &'a Any,
    pub(super) child: Own<ChildProcess>,
    pub(super) popen: Option<Obj>,
    pub(super) piped: Ends,
    pub(super) direct: bool,
}

impl SubprocessTransport {
    /// The transport of a process that has just been started.
    pub(super) fn new(parts: Parts<'_>) -> PyResult<Own<SubprocessTransport>> {
        popen_class()?;
        let popen = parts.popen.map_or_else(ObjCell::empty, ObjCell::new);
        let pending = if parts.direct {
            ObjCell::empty()
        } else {
            ObjCell::new(value::list(std::iter::empty())?)
        };
        let made = SubprocessTransport {
            target: Target::new(&TargetKind::DEAF),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
            event_loop: ObjCell::new(parts.event_loop.own()),
            protocol: ObjCell::new(parts.protocol.own()),
            args: ObjCell::new(parts.args.own()),
            child: parts.child,
            popen,
            pipes: [const { ObjCell::empty() }; 3],
            piped: parts.piped,
            lost: Cell::new(Ends::NONE),
            returncode: Cell::new(None),
            waiters: Waiters::new(),
            pending,
            closed: Cell::new(false),
            direct: parts.direct,
        };
        let made = made.make()?;
        made.child.watch(parts.event_loop, &made)?;
        Ok(made)
    }

    fn cells(&self) -> [&ObjCell; 7] {
        [
            &self.target.slot,
            &self.dict,
            &self.event_loop,
            &self.protocol,
            &self.args,
            &self.popen,
            &self.pending,
        ]
    }

    /// The dict `_extra`.
    pub(super) fn extra(&self) -> PyResult<Obj> {
        if let Some(extra) = self.target.slot.get() {
            return Ok(extra);
        }
        let extra = value::dict()?;
        self.target.slot.set(extra.clone());
        Ok(extra)
    }

    pub(super) fn set_extra(&self, extra: Option<&Any>) -> PyResult<()> {
        drop(self.target.slot.replace(extra.map(Any::own)));
        Ok(())
    }

    pub(super) fn pid(&self) -> PyResult<Obj> {
        value::int(self.child.pid().into())
    }

    pub(super) fn shown_returncode(&self) -> PyResult<Obj> {
        match self.returncode.get() {
            Some(code) => value::int(code.into()),
            None => Ok(Obj::none()),
        }
    }

    fn is_debug(&self) -> bool {
        let event_loop = self.event_loop.get();
        let native = event_loop.as_deref().and_then(EventLoop::of);
        native.is_some_and(EventLoop::debug)
    }

    /// The process as a `subprocess.Popen`: made for those who look, which most programs never do.
    pub(super) fn popen(&self) -> PyResult<Obj> {
        if let Some(popen) = self.popen.get() {
            return Ok(popen);
        }
        let mut files = Vec::with_capacity(3);
        for pipe in &self.pipes {
            files.push(match pipe.get() {
                Some(pipe) => pipe.method(intern!("get_extra_info"), &[intern!("pipe")])?,
                None => Obj::none(),
            });
        }
        let files = value::tuple_of(files.into_iter())?;
        let popen = popen_class()?.method(
            intern!("of"),
            &[
                self.child.as_any(),
                &self.args.get_or_none(),
                &*self.shown_returncode()?,
                &files,
            ],
        )?;
        self.popen.set(popen.clone());
        Ok(popen)
    }

    /// `close()`: closes the pipes, and kills the process if it still runs.
    pub(super) fn close(&self) -> PyResult<()> {
        if self.closed.replace(true) {
            return Ok(());
        }
        let event_loop = self.event_loop.get();
        let native = event_loop.as_deref().and_then(EventLoop::of);
        // Without its loop a pipe closes when it is dropped.
        if native.is_some_and(|native| !native.is_closed()) {
            for pipe in &self.pipes {
                if let Some(pipe) = pipe.get() {
                    pipe.method0(intern!("close"))?;
                }
            }
        }
        if self.returncode.get().is_some() || self.protocol.is_empty() || self.child.has_ended()? {
            return Ok(());
        }
        self.kill_at_close()?;
        if native.is_some_and(EventLoop::is_closed) {
            // Whoever starts the next child reaps this one.
            if let Some(unreaped) = spawn::unreaped()? {
                unreaped.method(intern!("append"), &[&*self.popen()?])?;
            }
        }
        Ok(())
    }

    #[cold]
    fn kill_at_close(&self) -> PyResult<()> {
        if self.is_debug() {
            self.log("warning", "Close running child process: kill %r", None)?;
        }
        match self.child.signal(libc::SIGKILL) {
            // It is gone, or another user's by now.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EPERM)) => Ok(()),
            Err(error) => Err(err::raise_os(&error)),
            Ok(()) => Ok(()),
        }
    }

    /// Logs a line about the transport.
    fn log(&self, level: &str, format: &str, more: Option<&Any>) -> PyResult<()> {
        let format = value::str(format)?;
        let mut arguments: Vec<&Any> = vec![&format, self.as_any()];
        arguments.extend(more);
        let logger = import!("asyncio.log", "logger")?;
        let method = logger.attr(&*value::str(level)?)?;
        method.call_slice(&arguments).map(drop)
    }

    /// In debug mode, says that there is a process.
    pub(super) fn log_created(&self) -> PyResult<()> {
        if !self.is_debug() {
            return Ok(());
        }
        let args = self.args.get_or_none();
        let program = match args.is_tuple().then(|| args.tuple_items()) {
            Some([program, ..]) => program,
            _ => &*args,
        };
        import!("asyncio.log", "logger")?
            .method(
                intern!("debug"),
                &[
                    intern!("process %r created: pid %s"),
                    program,
                    &*self.pid()?,
                ],
            )
            .map(drop)
    }

    /// Sends a signal, unless the process has exited; `ProcessLookupError` after the end.
    pub(super) fn send(&self, signal: i32) -> PyResult<()> {
        if self.protocol.is_empty() {
            return Err(err::raise_bare(err::process_lookup()));
        }
        if self.returncode.get().is_some() {
            return Ok(());
        }
        match self.child.signal(signal) {
            // As a Popen has it.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            sent => sent.map_err(|error| err::raise_os(&error)),
        }
    }

    /// The process has ended.
    pub(super) fn process_exited(&self, code: i32) -> PyResult<()> {
        if self.is_debug() {
            let code = value::int(code.into())?;
            self.log("info", "%r exited with return code %r", Some(&code))?;
        }
        self.returncode.set(Some(code));
        if let Some(popen) = self.popen.get() {
            popen.set_attr(intern!("returncode"), &*value::int(code.into())?)?;
        }
        let protocol = self.protocol.get_or_none();
        if !self.direct {
            self.tell(&*protocol.attr(intern!("process_exited"))?, &[])?;
        } else if let Some(streams) = protocol.cast::<BaseProcessStreams>() {
            streams.exited.set(true);
        }
        // Those who wait for the process need not wait for its pipes, which a grandchild may hold.
        self.waiters.wake()?;
        if !self.direct {
            self.finish_if_over()
        } else if self.piped.is_empty() {
            self.closed.set(true);
            self.forget();
            Ok(())
        } else {
            self.finish_streams()
        }
    }
}

// With a protocol of the program's.
impl SubprocessTransport {
    /// The transport of a pipe, once it is connected.
    pub(super) fn set_pipe(&self, fd: usize, pipe: &Any) {
        if let Some(place) = self.pipes.get(fd) {
            place.set(pipe.own());
        }
    }

    /// Begins to tell the protocol; what has happened so far is told of afterwards.
    pub(super) fn begin(&self) -> PyResult<()> {
        let pending = self.pending.take();
        let event_loop = self.event_loop.get_or_none();
        let made = self
            .protocol
            .get_or_none()
            .attr(intern!("connection_made"))?;
        event_loop.method(intern!("call_soon"), &[&made, self.as_any()])?;
        let call_soon = event_loop.attr(intern!("call_soon"))?;
        for call in pending.as_deref().map_or(Ok(Vec::new()), Any::collect)? {
            call_soon.call_slice(call.tuple_items())?;
        }
        Ok(())
    }

    /// Calls back in the next turn, or after `connection_made`.
    pub(super) fn tell(&self, callback: &Any, arguments: &[&Any]) -> PyResult<()> {
        let mut call = vec![callback];
        call.extend(arguments);
        match self.pending.get() {
            Some(pending) => pending.list_push(&*value::tuple(&call)?),
            None => {
                let event_loop = self.event_loop.get_or_none();
                let call_soon = event_loop.attr(intern!("call_soon"))?;
                call_soon.call_slice(&call).map(drop)
            }
        }
    }

    /// A pipe is closed.
    pub(super) fn pipe_lost(&self, fd: &Any, exception: &Any) -> PyResult<()> {
        if let Ok(fd @ 0..=2) = usize::try_from(fd.to_i64()?) {
            self.lost.set(self.lost.get().with(fd));
        }
        let told = self
            .protocol
            .get_or_none()
            .attr(intern!("pipe_connection_lost"))?;
        self.tell(&told, &[fd, exception])?;
        self.finish_if_over()
    }

    fn finish_if_over(&self) -> PyResult<()> {
        if self.returncode.get().is_none() || !self.piped.without(self.lost.get()).is_empty() {
            return Ok(());
        }
        let last = self.as_any().attr(intern!("_call_connection_lost"))?;
        self.tell(&last, &[])
    }

    /// The last call.
    pub(super) fn connection_lost(&self) -> PyResult<()> {
        let protocol = self.protocol.get_or_none();
        let told = protocol.method(intern!("connection_lost"), &[&Obj::none()]);
        err::preserved(|| {
            self.event_loop.clear();
            self.protocol.clear();
        });
        told.map(drop)
    }
}

// With the protocol of our own streams.
impl SubprocessTransport {
    /// A pipe is closed; its stream has been told.
    pub(super) fn stream_lost(&self, fd: usize) -> PyResult<()> {
        self.lost.set(self.lost.get().with(fd));
        if fd == 0 {
            let protocol = self.protocol.get_or_none();
            if let Some(streams) = protocol.cast::<BaseProcessStreams>() {
                if let Some(stdin) = streams.stdin.get() {
                    stdin.method0(intern!("close"))?;
                }
                streams.lost.set(true);
            }
        }
        match self.returncode.get() {
            Some(_) => self.finish_streams(),
            None => Ok(()),
        }
    }

    /// The process has exited: without output to come, nothing else is of use, either.
    fn finish_streams(&self) -> PyResult<()> {
        let open = self.piped.without(self.lost.get());
        if open.and(Ends::OUTPUTS).is_empty() {
            self.close()?;
        }
        if open.is_empty() {
            self.forget();
        }
        Ok(())
    }

    /// Everything is over, for our own protocol as well.
    fn forget(&self) {
        let protocol = self.protocol.take();
        if let Some(streams) = protocol
            .as_deref()
            .and_then(Any::cast::<BaseProcessStreams>)
        {
            streams.lost.set(true);
            streams.transport.clear();
        }
        self.event_loop.clear();
    }
}

pub(super) fn build() -> PyResult<()> {
    methods::build(&CLASS)
}
