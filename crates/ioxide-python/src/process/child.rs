//! A child process: how it ends, told to its transport, and signals for it.

use crate::kit::{err, value, Any, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::io::{Side, Watcher};
use crate::runtime::target::{Target, Told};
use crate::runtime::EventLoop;
use crate::{import, intern, raise};
use ioxide_core::process::exit::{Child, Exit};

/// A child of this process.
#[repr(C)]
pub(crate) struct ChildProcess {
    target: Target,
    child: Child,
    /// Where its end is watched for, and whom it is told to; empty when nobody waits.
    event_loop: ObjCell,
    transport: ObjCell,
    /// The parent's ends of its pipes, by the child's numbers.
    pipes: [ObjCell; 3],
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
        for pipe in &self.pipes {
            visitor.cell(pipe);
        }
    }

    fn clear(&self) {
        self.event_loop.clear();
        self.transport.clear();
        for pipe in &self.pipes {
            pipe.clear();
        }
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
        let code = value::int(exit.returncode().into())?;
        transport
            .method(intern!("_process_exited"), &[&code])
            .map(drop)
    }
}

impl ChildProcess {
    pub(crate) fn of(child: Child) -> PyResult<Own<ChildProcess>> {
        ChildProcess::with_pipes(child, [const { ObjCell::empty() }; 3])
    }

    pub(crate) fn with_pipes(child: Child, pipes: [ObjCell; 3]) -> PyResult<Own<ChildProcess>> {
        ChildProcess {
            target: Target::new(&ChildProcess::KIND),
            child,
            event_loop: ObjCell::empty(),
            transport: ObjCell::empty(),
            pipes,
        }
        .make()
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
        self.child
            .send_signal(number)
            .map_err(|error| err::raise_os(&error))
    }

    /// `watch(loop, transport)`: calls `transport._process_exited(returncode)` once the process has ended.
    fn watch(&self, args: crate::kit::Args<'_>) -> PyResult<()> {
        let [event_loop, transport] = args.positional() else {
            return Err(crate::event_loop::missing("watch", "transport"));
        };
        let Some(native) = EventLoop::of(event_loop) else {
            return Err(raise!(err::type_error(), "a loop of ioxide is required"));
        };
        self.event_loop.set(event_loop.own());
        self.transport.set(transport.own());
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
            crate::method!(args ChildProcess, "watch", ChildProcess::watch,
                "Tells the transport when the process ends."),
            crate::method!(noargs ChildProcess, "fileno",
                |this: &ChildProcess| value::int(this.child.pidfd().into()),
                "A descriptor that is readable when the process has ended."),
        ])
        .getset([
            crate::getter!(
                ChildProcess,
                "pid",
                |this: &ChildProcess| value::int(this.child.pid().into()),
                "The process's number."
            ),
            crate::getter!(
                ChildProcess,
                "pipes",
                |this: &ChildProcess| value::tuple_of(this.pipes.iter().map(ObjCell::get_or_none)),
                "The parent's ends of its pipes, or None, by the child's numbers."
            ),
        ])
        .build(&CLASS)?;
    Ok(())
}
