//! `loop._sock_sendfile_native()`: a file into a socket, by the kernel. What may be sent, and what is done where the
//! kernel cannot, is in `python/ioxide/sendfile.py`.

use super::create::native_loop;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::kit::{
    err, ffi, socket, value, Args, Class, Native, Obj, ObjCell, PyResult, Raised, Signature,
    Visitor,
};
use crate::runtime::io::{cancel, Side, Watcher};
use crate::runtime::target::{TargetKind, Told};
use crate::runtime::EventLoop;
use crate::{import, intern, raise};
use ioxide_core::net::sendfile as kernel;
use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;

/// The awaitable of a file that is sent.
pub(crate) type Sending = Waiting<SendingState>;

pub(crate) struct SendingState {
    event_loop: ObjCell,
    socket: ObjCell,
    file: ObjCell,
    /// Where it begins in the file.
    offset: i64,
    /// How many bytes to send; without, all that there are.
    count: Option<usize>,
    /// The file's descriptor.
    source: Cell<RawFd>,
    /// How much to ask the kernel for where there is no `count`.
    block: Cell<usize>,
    sent: Cell<usize>,
    /// The descriptor that is watched, -1 if none is.
    watched: Cell<RawFd>,
}

static CLASS: Class = Class::new();

// SAFETY: begins with `Wait`, whose kind begins with the `Told::KIND` given here.
unsafe impl Told for Sending {
    fn writable(&self) -> PyResult<()> {
        self.unwatch();
        self.wait.wake()
    }
}

impl Awaitable for Sending {
    const NAME: &'static str = "_sock_sendfile_native";
    const TOLD: TargetKind = <Sending as Told>::KIND;

    fn place() -> &'static Class {
        &CLASS
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn unlink(&self) {
        ObjCell::clear_all(self.cells());
    }

    fn start(&self) -> PyResult<Flow> {
        let size = self.open()?;
        self.block.set(usize::try_from(size).unwrap_or(usize::MAX));
        if self.count.is_none() && size == 0 {
            return value::int(0).map(Flow::Return);
        }
        self.go_on()
    }

    fn resume(&self) -> PyResult<Flow> {
        self.unwatch();
        self.go_on()
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.unwatch();
        // What was sent is gone: the position tells how much that was.
        let _ = self.place_file();
        Err(err::raise_instance(&exception))
    }
}

impl Sending {
    fn cells(&self) -> [&ObjCell; 3] {
        [&self.event_loop, &self.socket, &self.file]
    }

    /// Finds out the file's descriptor and its size.
    fn open(&self) -> PyResult<u64> {
        let number = match self.file.get_or_none().method0(intern!("fileno")) {
            Ok(number) => number.to_i64()?,
            Err(raised) => return Err(without_descriptor(raised)?),
        };
        let source = RawFd::try_from(number).unwrap_or(-1);
        self.source.set(source);
        kernel::size(source).map_err(|_| unavailable("not a regular file"))
    }

    /// Sends until all has gone or the kernel takes no more.
    fn go_on(&self) -> PyResult<Flow> {
        loop {
            let sent = self.sent.get();
            let block = match self.count {
                Some(count) if count == sent => return self.over(),
                Some(count) => count - sent,
                None => self.block.get(),
            };
            let to = RawFd::try_from(socket::descriptor(&self.socket.get_or_none())?);
            let to = to.unwrap_or(-1);
            match kernel::send(to, self.source.get(), self.position(), block) {
                Ok(0) => return self.over(),
                Ok(moved) => {
                    self.sent.set(sent + moved);
                    if moved < block {
                        return self.watch(to);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.watch(to),
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Where the rest begins.
    fn position(&self) -> i64 {
        let sent = i64::try_from(self.sent.get()).unwrap_or(i64::MAX);
        self.offset.saturating_add(sent)
    }

    fn over(&self) -> PyResult<Flow> {
        self.place_file().map_err(|error| err::raise_os(&error))?;
        value::int(self.sent.get() as i64).map(Flow::Return)
    }

    /// Leaves the file where what was sent ends, also where nothing was.
    fn place_file(&self) -> io::Result<()> {
        kernel::seek(self.source.get(), self.position())
    }

    /// What to raise: before the first byte another way may do, afterwards it is too late.
    #[cold]
    fn failed(&self, error: &io::Error) -> Raised {
        // A pipe has no position, and is read then.
        let _ = self.place_file();
        let cause = err::take(err::raise_os(error));
        let raised = match error.raw_os_error() {
            _ if self.sent.get() == 0 => unavailable("os.sendfile call failed"),
            Some(libc::ENOTCONN) => disconnected(),
            _ => return err::restore(cause),
        };
        let exception = err::take(raised);
        match exception.set_attr(intern!("__cause__"), &cause) {
            Ok(()) => err::restore(exception),
            Err(raised) => raised,
        }
    }

    fn watch(&self, fd: RawFd) -> PyResult<Flow> {
        let object = self.event_loop.get_or_none();
        let watcher = Watcher::Once(self.target());
        let before = native_loop(&object)?.watch(fd, Side::Write, watcher)?;
        self.watched.set(fd);
        cancel(before)?;
        Ok(Flow::Park)
    }

    fn unwatch(&self) {
        let fd = self.watched.replace(-1);
        if fd < 0 {
            return;
        }
        let object = self.event_loop.get_or_none();
        if let Some(event_loop) = EventLoop::of(&object) {
            event_loop.unwatch_own(fd, Side::Write, self.as_any());
        }
    }
}

/// What to raise for an object that has not told its descriptor.
#[cold]
fn without_descriptor(raised: Raised) -> PyResult<Raised> {
    let exception = err::take(raised);
    let has_none = err::is_a(&exception, err::attribute_error())
        || err::is_a(&exception, import!("io", "UnsupportedOperation")?);
    Ok(if has_none {
        unavailable("not a regular file")
    } else {
        err::restore(exception)
    })
}

/// Another way may do.
#[cold]
fn unavailable(message: &str) -> Raised {
    match import!("asyncio", "SendfileNotAvailableError") {
        Ok(class) => raise!(class, "{message}"),
        Err(raised) => raised,
    }
}

/// asyncio's, the same on every system.
#[cold]
fn disconnected() -> Raised {
    let made = value::int(libc::ENOTCONN.into())
        .and_then(|code| Ok((value::str("socket is not connected")?, code)))
        .and_then(|(text, code)| err::connection_error().call(&[&*text, &*code]));
    match made {
        Ok(exception) => err::restore(exception),
        Err(raised) => raised,
    }
}

/// `_sock_sendfile_native(sock, file, offset, count)`, with a count of None or more than zero.
fn sendfile(event_loop: &EventLoop, args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<4> = Signature::new(
        "_sock_sendfile_native",
        ["sock", "file", "offset", "count"],
        4,
    );
    let [Some(socket), Some(file), Some(offset), Some(count)] = args.bind(&SIGNATURE)? else {
        return Ok(Obj::none());
    };
    let count = match count.some() {
        Some(count) => usize::try_from(count.to_i64()?)
            .ok()
            .filter(|count| *count > 0),
        None => None,
    };
    let body = Sending::with(SendingState {
        event_loop: ObjCell::new(event_loop.object()),
        socket: ObjCell::new(socket.own()),
        file: ObjCell::new(file.own()),
        offset: offset.to_i64()?,
        count,
        source: Cell::new(-1),
        block: Cell::new(0),
        sent: Cell::new(0),
        watched: Cell::new(-1),
    });
    Ok(body.make()?.into_obj())
}

/// As asyncio's, it is a coroutine function.
pub(crate) const COROUTINES: [&str; 1] = ["_sock_sendfile_native"];

/// The loop's method.
pub(crate) fn loop_methods() -> [ffi::PyMethodDef; 1] {
    [
        crate::method!(args EventLoop, "_sock_sendfile_native", sendfile,
            "_sock_sendfile_native($self, sock, file, offset, count)\n--\n\n\
                Sends a file by the kernel; returns how many bytes. SendfileNotAvailableError if it cannot."),
    ]
}

pub(super) fn build() -> PyResult<()> {
    spec::<Sending>(c"ioxide.Sending").build(&CLASS)?;
    Ok(())
}
