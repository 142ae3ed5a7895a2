//! What `Process` and the protocol of its streams have in fields; the façade derives the classes that programs see.

use super::transport::SubprocessTransport;
use super::waiting;
use crate::intern;
use crate::kit::class::Construct;
use crate::kit::{
    value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, PyResult, Signature, Visitor,
};
use crate::streams::{field, flag};
use std::cell::Cell;

/// The base of `ioxide.subprocess.Process`.
#[repr(C)]
pub(crate) struct BaseProcess {
    head: Head,
    transport: ObjCell,
    protocol: ObjCell,
    event_loop: ObjCell,
    stdin: ObjCell,
    stdout: ObjCell,
    stderr: ObjCell,
    pid: ObjCell,
}

static PROCESS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for BaseProcess {
    type Extra = ();

    fn class() -> &'static Class {
        &PROCESS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }
}

impl Construct for BaseProcess {
    fn empty() -> BaseProcess {
        BaseProcess {
            head: Head::new(),
            transport: ObjCell::empty(),
            protocol: ObjCell::empty(),
            event_loop: ObjCell::empty(),
            stdin: ObjCell::empty(),
            stdout: ObjCell::empty(),
            stderr: ObjCell::empty(),
            pid: ObjCell::empty(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<3> =
            Signature::new("Process.__init__", ["transport", "protocol", "loop"], 3);
        let [Some(transport), Some(protocol), Some(event_loop)] = args.bind(&SIGNATURE)? else {
            return Ok(());
        };
        self.transport.set(transport.own());
        self.protocol.set(protocol.own());
        self.event_loop.set(event_loop.own());
        match protocol.cast::<BaseProcessStreams>() {
            Some(streams) => {
                drop(self.stdin.replace(streams.stdin.get()));
                drop(self.stdout.replace(streams.stdout.get()));
                drop(self.stderr.replace(streams.stderr.get()));
            }
            None => {
                self.stdin.set(protocol.attr(intern!("stdin"))?);
                self.stdout.set(protocol.attr(intern!("stdout"))?);
                self.stderr.set(protocol.attr(intern!("stderr"))?);
            }
        }
        let pid = match transport.cast::<SubprocessTransport>() {
            Some(native) => native.pid()?,
            None => transport.method0(intern!("get_pid"))?,
        };
        self.pid.set(pid);
        Ok(())
    }
}

impl BaseProcess {
    fn cells(&self) -> [&ObjCell; 7] {
        [
            &self.transport,
            &self.protocol,
            &self.event_loop,
            &self.stdin,
            &self.stdout,
            &self.stderr,
            &self.pid,
        ]
    }

    fn repr(&self) -> PyResult<Obj> {
        let class = self.as_any().class().attr(intern!("__name__"))?;
        let pid = self.pid.get_or_none().repr_text();
        value::str(&format!("<{} {pid}>", class.str_text()))
    }

    fn returncode(&self) -> PyResult<Obj> {
        let transport = self.transport.get_or_none();
        match transport.cast::<SubprocessTransport>() {
            Some(native) => native.shown_returncode(),
            None => transport.method0(intern!("get_returncode")),
        }
    }

    fn wait(&self) -> PyResult<Obj> {
        waiting::wait_for(&self.transport.get_or_none())
    }

    fn send_signal(&self, signal: &Any) -> PyResult<()> {
        let transport = self.transport.get_or_none();
        transport
            .method(intern!("send_signal"), &[signal])
            .map(drop)
    }
}

/// The base of `ioxide.subprocess.SubprocessStreamProtocol`.
#[repr(C)]
pub(crate) struct BaseProcessStreams {
    head: Head,
    pub(super) limit: ObjCell,
    event_loop: ObjCell,
    pub(super) transport: ObjCell,
    pub(super) stdin: ObjCell,
    pub(super) stdout: ObjCell,
    pub(super) stderr: ObjCell,
    pub(super) exited: Cell<bool>,
    pub(super) lost: Cell<bool>,
}

static STREAMS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for BaseProcessStreams {
    type Extra = ();

    fn class() -> &'static Class {
        &STREAMS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }
}

impl Construct for BaseProcessStreams {
    fn empty() -> BaseProcessStreams {
        BaseProcessStreams {
            head: Head::new(),
            limit: ObjCell::empty(),
            event_loop: ObjCell::empty(),
            transport: ObjCell::empty(),
            stdin: ObjCell::empty(),
            stdout: ObjCell::empty(),
            stderr: ObjCell::empty(),
            exited: Cell::new(false),
            lost: Cell::new(false),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> =
            Signature::new("SubprocessStreamProtocol.__init__", ["limit", "loop"], 2);
        let given = args.bind(&SIGNATURE)?;
        for (cell, given) in [&self.limit, &self.event_loop].into_iter().zip(given) {
            drop(cell.replace(given.map(Any::own)));
        }
        Ok(())
    }
}

impl BaseProcessStreams {
    fn cells(&self) -> [&ObjCell; 6] {
        [
            &self.limit,
            &self.event_loop,
            &self.transport,
            &self.stdin,
            &self.stdout,
            &self.stderr,
        ]
    }
}

fn build_process() -> PyResult<()> {
    type This = BaseProcess;
    ClassSpec::new::<BaseProcess>(c"ioxide.BaseProcess")
        .doc(c"BaseProcess(transport, protocol, loop)\n--\n\nWhat a Process is without communicate().")
        .constructible::<BaseProcess>()
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(This, This::repr))
        .coroutines(["wait"])
        .methods([
            crate::method!(noargs This, "wait", This::wait,
                "Wait until the process has exited, and return its return code."),
            crate::method!(given This, "send_signal", "signal", This::send_signal,
                "Send a signal to the process, unless it has exited; ProcessLookupError once its pipes are \
                    closed too."),
            crate::method!(noargs This, "terminate",
                |this: &This| this.transport.get_or_none().method0(intern!("terminate")).map(drop),
                "Send SIGTERM to the process, as send_signal() does."),
            crate::method!(noargs This, "kill",
                |this: &This| this.transport.get_or_none().method0(intern!("kill")).map(drop),
                "Send SIGKILL to the process, as send_signal() does."),
        ])
        .getset([
            crate::getter!(
                This,
                "returncode",
                This::returncode,
                "The return code, None while the process runs."
            ),
            field!(This, "_transport", transport, "The transport."),
            field!(This, "_protocol", protocol, "The protocol."),
            field!(This, "_loop", event_loop, "The loop."),
            field!(This, "stdin", stdin, "The stream to its input, or None."),
            field!(This, "stdout", stdout, "The stream of its output, or None."),
            field!(This, "stderr", stderr, "The stream of its errors, or None."),
            field!(This, "pid", pid, "The process's number."),
        ])
        .build(&PROCESS)?;
    Ok(())
}

fn build_streams() -> PyResult<()> {
    type This = BaseProcessStreams;
    ClassSpec::new::<BaseProcessStreams>(c"ioxide.BaseProcessStreams")
        .doc(c"The fields of a SubprocessStreamProtocol.")
        .constructible::<BaseProcessStreams>()
        .getset([
            field!(This, "_limit", limit, "Bytes that a stream holds."),
            field!(This, "_loop", event_loop, "The loop."),
            field!(This, "_transport", transport, "The transport."),
            field!(This, "stdin", stdin, "The stream to its input, or None."),
            field!(This, "stdout", stdout, "The stream of its output, or None."),
            field!(This, "stderr", stderr, "The stream of its errors, or None."),
            flag!(
                This,
                "_process_exited",
                exited,
                "Whether the process has exited."
            ),
            flag!(
                This,
                "_connection_lost",
                lost,
                "Whether its input is closed."
            ),
        ])
        .build(&STREAMS)?;
    Ok(())
}

pub(super) fn build() -> PyResult<()> {
    build_process()?;
    build_streams()
}
