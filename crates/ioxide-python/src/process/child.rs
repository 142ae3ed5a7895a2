//! A child process: how it ends, told to its transport, and signals for it.

use super::transport::SubprocessTransport;
use crate::kit::{err, value, Any, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::io::{Side, Watcher};
use crate::runtime::target::{Target, Told};
use crate::runtime::EventLoop;
use crate::{import, intern, raise};
use ioxide_core::process::exit::{Child, Exit};
use std::io;

/// A child of this process.
#[repr(C)]
pub(crate) struct ChildProcess {
    target: Target,
    child: Child,
    /// Where its end is watched for, and whom it is told to; empty when nobody waits.
    event_loop: ObjCell,
    transport: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with the head of a target, and the class is built from it below.
unsafe impl Native for ChildProcess {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.event_loop);
        visitor.cell(&self.transport);
    }

    fn clear(&self) {
        self.event_loop.clear();
        self.transport.clear();
    }
}

// SAFETY: begins with a target of its own kind.
unsafe impl Told for ChildProcess {
    /// The process has ended.
    fn readable(&self) -> PyResult<()> {
        let Some(exit) = self.try_wait()? else {
            return Ok(());
        };
        let (event_loop, transport) = (self.event_loop.take(), self.transport.take());
        if let Some(native) = event_loop.as_deref().and_then(EventLoop::of) {
            drop(native.unwatch(self.child.pidfd(), Side::Read));
        }
        let Some(transport) = transport else {
            return Ok(());
        };
        if exit == Exit::Unknown {
            let text = "child process pid %d exit status already read: \
                 will report returncode 255";
            import!("asyncio.log", "logger")?.method(
                intern!("warning"),
                &[&*value::str(text)?, &*value::int(self.child.pid().into())?],
            )?;
        }
        match transport.cast::<SubprocessTransport>() {
            Some(transport) => transport.process_exited(exit.returncode()),
            None => Ok(()),
        }
    }
}

impl ChildProcess {
    pub(crate) fn of(child: Child) -> PyResult<Own<ChildProcess>> {
        ChildProcess {
            target: Target::new(&ChildProcess::KIND),
            child,
            event_loop: ObjCell::empty(),
            transport: ObjCell::empty(),
        }
        .make()
    }

    /// The process's number.
    pub(super) fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Whether the process has ended, which the loop may not have seen yet.
    pub(super) fn has_ended(&self) -> PyResult<bool> {
        self.try_wait().map(|exit| exit.is_some())
    }

    /// Sends a signal. `ESRCH` once the process is reaped.
    pub(super) fn signal(&self, number: i32) -> io::Result<()> {
        self.child.send_signal(number)
    }

    fn try_wait(&self) -> PyResult<Option<Exit>> {
        self.child.try_wait().map_err(|error| err::raise_os(&error))
    }

    /// `poll()`: the status as `subprocess` has it, or None while the process runs.
    fn poll(&self) -> PyResult<Obj> {
        match self.try_wait()? {
            Some(exit) => value::int(exit.returncode().into()),
            None => Ok(Obj::none()),
        }
    }

    /// `send_signal(number)`: ProcessLookupError once the process is reaped.
    fn send_signal(&self, number: &Any) -> PyResult<()> {
        let number = i32::try_from(number.to_i64()?)
            .map_err(|_| raise!(err::overflow_error(), "signal number out of range"))?;
        self.signal(number).map_err(|error| err::raise_os(&error))
    }

    /// Tells the transport when the process ends.
    pub(super) fn watch(&self, event_loop: &Any, transport: &SubprocessTransport) -> PyResult<()> {
        let Some(native) = EventLoop::of(event_loop) else {
            return Err(raise!(err::type_error(), "a loop of ioxide is required"));
        };
        self.event_loop.set(event_loop.own());
        self.transport.set(transport.as_any().own());
        native
            .watch(
                self.child.pidfd(),
                Side::Read,
                Watcher::Native(self.target()),
            )
            .map(drop)
    }
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<ChildProcess>(c"ioxide.ChildProcess")
        .doc(c"A child process, known by a descriptor.")
        .methods([
            crate::method!(noargs ChildProcess, "poll", ChildProcess::poll,
                "The return code, None while the process runs."),
            crate::method!(onearg ChildProcess, "send_signal", ChildProcess::send_signal,
                "Sends a signal, never to another process."),
            crate::method!(noargs ChildProcess, "fileno",
                |this: &ChildProcess| value::int(this.child.pidfd().into()),
                "A descriptor that is readable when the process has ended."),
        ])
        .getset([crate::getter!(
            ChildProcess,
            "pid",
            |this: &ChildProcess| value::int(this.child.pid().into()),
            "The process's number."
        )])
        .build(&CLASS)?;
    Ok(())
}
