//! `loop.sock_recv()` and its kin: one operation on a socket that belongs to the program.
//!
//! An operation is tried at once. If the kernel is not ready it is tried again when it is, by the task itself: so
//! one that is cancelled has taken nothing from the kernel that would be lost.

use super::create::native_loop;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::kit::buffer::Buffer;
use crate::kit::class::FreeList;
use crate::kit::spare::SpareBytes;
use crate::kit::{err, socket, value, Any, Class, Native, Obj, ObjCell, PyResult, Raised, Visitor};
use crate::runtime::io::{refuse_transport, Side};
use crate::runtime::EventLoop;
use crate::{import, intern, raise};
use ioxide_core::sys;
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::os::fd::RawFd;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Recv,
    RecvInto,
    RecvFrom,
    RecvFromInto,
    SendAll,
    SendTo,
    Accept,
    /// Nothing: only wait until the socket takes bytes.
    Writable,
}

impl Action {
    #[inline(always)]
    fn kind(self) -> &'static crate::awaitable::Kind {
        match self {
            Action::Recv => &RECV,
            Action::RecvInto => &RECV_INTO,
            Action::RecvFrom => &RECVFROM,
            Action::RecvFromInto => &RECVFROM_INTO,
            Action::SendAll => &SENDALL,
            Action::SendTo => &SENDTO,
            Action::Accept => &ACCEPT,
            Action::Writable => &WRITABLE,
        }
    }

    fn side(self) -> Side {
        match self {
            Action::SendAll | Action::SendTo | Action::Writable => Side::Write,
            _ => Side::Read,
        }
    }
}

/// Where so many bytes or more are expected, they are received into the object that the program gets: to copy them would
/// cost more than the longer call.
const DIRECT: usize = 4 * 1024;

/// The awaitable of an operation.
pub(crate) type SocketOperation = Waiting<SocketOperationState>;

pub(crate) struct SocketOperationState {
    event_loop: ObjCell,
    socket: ObjCell,
    /// The buffer to fill, or what is sent.
    data: ObjCell,
    /// The receiver of a datagram.
    address: ObjCell,
    /// What is sent, unless it is a bytes object, kept in place until all of it has gone.
    view: UnsafeCell<Option<Box<Buffer>>>,
    action: Action,
    /// How many bytes to take, or how many have gone.
    count: Cell<usize>,
    /// The descriptor that is watched, -1 if none is.
    watched: Cell<RawFd>,
}

static CLASS: Class = Class::new();

/// How an attempt ended.
enum Attempt {
    Done(Obj),
    /// The kernel is not ready.
    Blocked,
}

impl Awaitable for SocketOperation {
    const NAME: &'static str = "sock_recv";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(128);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn unlink(&self) {
        ObjCell::clear_all(self.cells());
        self.let_go();
    }

    fn start(&self) -> PyResult<Flow> {
        let socket = self.socket();
        let event_loop = self.event_loop()?;
        check(socket, event_loop)?;
        match self.action {
            Action::Writable => self.watch(),
            // With one message at a time, to try would be in vain.
            Action::Recv | Action::RecvInto
                if event_loop
                    .descriptors
                    .expects_nothing(number(socket)?, socket) =>
            {
                self.watch()
            }
            _ => self.go_on(),
        }
    }

    fn resume(&self) -> PyResult<Flow> {
        self.unwatch();
        if self.action == Action::Writable {
            return Ok(Flow::Return(Obj::none()));
        }
        self.go_on()
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.unwatch();
        self.let_go();
        Err(err::raise_instance(&exception))
    }
}

impl SocketOperation {
    fn cells(&self) -> [&ObjCell; 4] {
        [&self.event_loop, &self.socket, &self.data, &self.address]
    }

    /// The socket; None for what the collector has taken apart.
    fn socket(&self) -> &Any {
        held(&self.socket)
    }

    fn event_loop(&self) -> PyResult<&EventLoop> {
        native_loop(held(&self.event_loop))
    }

    /// The descriptor is ready, or gone: the task tries again.
    pub(crate) fn ready(&self) -> PyResult<()> {
        self.unwatch();
        self.wait.wake()
    }

    /// The descriptor is ready, and watched no more: the task goes on in this turn. False for a task that is not ours.
    #[inline]
    pub(crate) fn wake_task(&self) -> bool {
        self.watched.set(-1);
        self.wait.wake_task()
    }

    fn go_on(&self) -> PyResult<Flow> {
        match self.attempt() {
            Ok(Attempt::Done(result)) => {
                self.let_go();
                Ok(Flow::Return(result))
            }
            Ok(Attempt::Blocked) => self.watch(),
            Err(raised) => {
                err::preserved(|| self.let_go());
                Err(raised)
            }
        }
    }

    fn attempt(&self) -> PyResult<Attempt> {
        let socket = self.socket();
        match self.action {
            Action::Recv => self.recv(socket),
            Action::RecvInto => self.recv_into(socket),
            Action::SendAll => self.send(socket),
            Action::RecvFrom => {
                let count = value::int(self.count.get() as i64)?;
                self.ask(socket, intern!("recvfrom"), &[&count])
            }
            Action::RecvFromInto => {
                let count = value::int(self.count.get() as i64)?;
                let buffer = held(&self.data);
                self.ask(socket, intern!("recvfrom_into"), &[buffer, &count])
            }
            Action::SendTo => {
                let (data, address) = (held(&self.data), held(&self.address));
                self.ask(socket, intern!("sendto"), &[data, address])
            }
            Action::Accept => self.accept(socket),
            Action::Writable => Ok(Attempt::Done(Obj::none())),
        }
    }

    fn recv(&self, socket: &Any) -> PyResult<Attempt> {
        let fd = number(socket)?;
        let event_loop = self.event_loop()?;
        let space = event_loop.hub.buffer();
        let wanted = self.count.get();
        if wanted > space.len() {
            return self.ask(socket, intern!("recv"), &[&*value::int(wanted as i64)?]);
        }
        let expected = event_loop.descriptors.last_read(fd);
        if expected >= DIRECT && expected < wanted {
            return self.recv_foreseen(fd, event_loop, expected + 1);
        }
        match sys::recv(fd, &mut space[..wanted]) {
            Ok(count) => {
                event_loop.descriptors.has_read(fd, count, wanted);
                // SAFETY: the kernel has initialised as many bytes as it counts.
                let bytes = unsafe { space[..count].assume_init_ref() };
                let message = event_loop.hub.messages.copy(bytes)?;
                Ok(given(event_loop, message))
            }
            Err(error) => self.blocked_or_raised(fd, &error),
        }
    }

    /// Receives right into the object that the program gets, and what it has no room for into the shared buffer.
    fn recv_foreseen(&self, fd: RawFd, event_loop: &EventLoop, room: usize) -> PyResult<Attempt> {
        let wanted = self.count.get();
        let messages = &event_loop.hub.messages;
        let mut message = messages.with_room(room)?;
        let more = event_loop.hub.buffer();
        let mut total = 0;
        let received = message.fill(|space| {
            let room = wanted.min(space.len());
            let more = &mut more[..wanted - room];
            total = sys::recv_two(fd, &mut space[..room], more)?;
            Ok(total.min(room))
        });
        let count = match received {
            Ok(count) => count,
            Err(error) => {
                messages.keep(message);
                return self.blocked_or_raised(fd, &error);
            }
        };
        event_loop.descriptors.has_read(fd, total, wanted);
        if total == count && count >= message.room() / 2 {
            return Ok(given(event_loop, message));
        }
        // Longer, or so much shorter that whoever keeps it would keep much more memory than it needs.
        // SAFETY: the kernel has initialised as many bytes as it counts.
        let rest = unsafe { more[..total - count].assume_init_ref() };
        let copied = messages.joined(message.bytes().bytes_content(), rest);
        messages.keep(message);
        Ok(given(event_loop, copied?))
    }

    fn recv_into(&self, socket: &Any) -> PyResult<Attempt> {
        let fd = number(socket)?;
        let mut view = Buffer::writable(held(&self.data))?;
        match sys::recv(fd, view.space()) {
            Ok(count) => {
                self.event_loop()?
                    .descriptors
                    .has_read(fd, count, view.len());
                value::int(count as i64).map(Attempt::Done)
            }
            Err(error) => self.blocked_or_raised(fd, &error),
        }
    }

    /// Sends on until all has gone or the kernel takes no more.
    fn send(&self, socket: &Any) -> PyResult<Attempt> {
        let fd = number(socket)?;
        let data = held(&self.data);
        if !data.is_bytes() {
            self.hold_view(data)?;
        }
        loop {
            // SAFETY: the view is dropped only by `let_go`, and sending runs no Python code.
            let view = unsafe { (*self.view.get()).as_deref() };
            let bytes = view.map_or_else(|| data.bytes_content(), Buffer::bytes);
            let rest = &bytes[self.count.get()..];
            if rest.is_empty() && self.count.get() > 0 {
                return Ok(Attempt::Done(Obj::none()));
            }
            match sys::send(fd, rest) {
                Ok(sent) if sent == rest.len() => return Ok(Attempt::Done(Obj::none())),
                Ok(sent) => self.count.set(self.count.get() + sent),
                Err(error) => return self.blocked_or_raised(fd, &error),
            }
        }
    }

    /// Lets the socket object do it.
    fn ask(&self, socket: &Any, method: &Any, arguments: &[&Any]) -> PyResult<Attempt> {
        match socket.method(method, arguments) {
            Ok(result) => Ok(Attempt::Done(result)),
            Err(raised) => self.blocked_unless_failed(socket, raised),
        }
    }

    fn accept(&self, socket: &Any) -> PyResult<Attempt> {
        let pair = match socket.method0(intern!("accept")) {
            Ok(pair) => pair,
            Err(raised) => return self.blocked_unless_failed(socket, raised),
        };
        if let Some(connection) = pair
            .is_tuple()
            .then(|| pair.tuple_items().first())
            .flatten()
        {
            connection.method(intern!("setblocking"), &[&value::bool(false)])?;
        }
        Ok(Attempt::Done(pair))
    }

    fn blocked_unless_failed(&self, socket: &Any, raised: Raised) -> PyResult<Attempt> {
        if err::matches(err::blocking_io()) {
            err::discard(raised);
            self.has_found_nothing(number(socket)?)?;
            return Ok(Attempt::Blocked);
        }
        if err::matches(err::interrupted()) {
            err::discard(raised);
            return Ok(Attempt::Blocked);
        }
        Err(raised)
    }

    fn blocked_or_raised(&self, fd: RawFd, error: &io::Error) -> PyResult<Attempt> {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.has_found_nothing(fd)?;
            return Ok(Attempt::Blocked);
        }
        Err(err::raise_os(error))
    }

    fn has_found_nothing(&self, fd: RawFd) -> PyResult<()> {
        if self.action.side() == Side::Read {
            self.event_loop()?.descriptors.found_nothing(fd);
        }
        Ok(())
    }

    fn hold_view(&self, data: &Any) -> PyResult<()> {
        // SAFETY: the borrow ends with the expression.
        if unsafe { (*self.view.get()).is_some() } {
            return Ok(());
        }
        let view = Buffer::readable(data)?;
        // SAFETY: nobody else has a borrow: making the view has ended.
        unsafe { *self.view.get() = Some(Box::new(view)) };
        Ok(())
    }

    /// Lets the data go.
    fn let_go(&self) {
        // SAFETY: the borrow ends before anything is dropped.
        let view = unsafe { (*self.view.get()).take() };
        drop(view);
    }

    fn watch(&self) -> PyResult<Flow> {
        let socket = self.socket();
        let fd = number(socket)?;
        let event_loop = self.event_loop()?;
        let side = self.action.side();
        let before = if side == Side::Read && event_loop.descriptors.is_armed(fd, socket) {
            event_loop.await_armed(fd, self.own())
        } else {
            if self.action != Action::Writable {
                refuse_transport(event_loop, fd)?;
            }
            event_loop.await_socket(fd, side, socket, self.own())?
        };
        self.watched.set(fd);
        crate::runtime::io::cancel(before)?;
        Ok(Flow::Park)
    }

    fn unwatch(&self) {
        let fd = self.watched.replace(-1);
        if fd < 0 {
            return;
        }
        if let Ok(event_loop) = self.event_loop() {
            event_loop.unwatch_own(fd, self.action.side(), self.as_any());
        }
    }
}

/// The object that was received, as the program gets it.
#[inline]
fn given(event_loop: &EventLoop, message: SpareBytes) -> Attempt {
    let bytes = message.bytes().clone();
    event_loop.hub.messages.keep(message);
    Attempt::Done(bytes)
}

/// What a cell of an operation that somebody is using holds.
#[inline(always)]
fn held(cell: &ObjCell) -> &Any {
    // SAFETY: the cells are set when the operation is made, and cleared only by the collector when nobody can reach it.
    unsafe { cell.peek_or_none() }
}

/// Refuses sockets that belong to the ssl module, and in debug mode those that block.
fn check(socket: &Any, event_loop: &EventLoop) -> PyResult<()> {
    if !socket::is_plain(socket)? {
        import!("ioxide.connect", "refuse_tls_socket")?.call1(socket)?;
    }
    if event_loop.debug() {
        let timeout = socket.method0(intern!("gettimeout"))?;
        if !timeout.equals(&*value::int(0)?)? {
            return Err(raise!(
                err::value_error(),
                "the socket must be non-blocking"
            ));
        }
    }
    Ok(())
}

/// The number of a socket; `EBADF` for one that is closed.
#[inline]
fn number(socket: &Any) -> PyResult<RawFd> {
    match socket::descriptor(socket)? {
        fd if fd >= 0 => Ok(fd),
        _ => Err(err::raise_os(&io::Error::from_raw_os_error(libc::EBADF))),
    }
}

static RECV: crate::awaitable::Kind = SocketOperation::KIND;
static RECV_INTO: crate::awaitable::Kind = SocketOperation::KIND.named("sock_recv_into");
static RECVFROM: crate::awaitable::Kind = SocketOperation::KIND.named("sock_recvfrom");
static RECVFROM_INTO: crate::awaitable::Kind = SocketOperation::KIND.named("sock_recvfrom_into");
static SENDALL: crate::awaitable::Kind = SocketOperation::KIND.named("sock_sendall");
static SENDTO: crate::awaitable::Kind = SocketOperation::KIND.named("sock_sendto");
static ACCEPT: crate::awaitable::Kind = SocketOperation::KIND.named("sock_accept");
static WRITABLE: crate::awaitable::Kind = SocketOperation::KIND.named("_sock_writable");

/// What a method of the loop was asked for.
pub(super) struct Request<'a> {
    pub(super) action: Action,
    pub(super) socket: Option<&'a Any>,
    pub(super) data: Option<&'a Any>,
    pub(super) address: Option<&'a Any>,
    pub(super) count: usize,
}

/// The awaitable.
#[inline(always)]
pub(super) fn make(event_loop: &EventLoop, request: &Request<'_>) -> PyResult<Obj> {
    let cell =
        |object: Option<&Any>| object.map_or_else(ObjCell::empty, |any| ObjCell::new(any.own()));
    let operation = SocketOperation::of_kind(
        request.action.kind(),
        SocketOperationState {
            event_loop: ObjCell::new(event_loop.object()),
            socket: cell(request.socket),
            data: cell(request.data),
            address: cell(request.address),
            view: UnsafeCell::new(None),
            action: request.action,
            count: Cell::new(request.count),
            watched: Cell::new(-1),
        },
    );
    Ok(operation.make()?.into_obj())
}

pub(super) fn build() -> PyResult<()> {
    spec::<SocketOperation>(c"ioxide.SocketOperation").build(&CLASS)?;
    Ok(())
}
