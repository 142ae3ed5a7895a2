//! Making transports of what is connected already: sockets and pipes that Python code hands over.

use super::channel::{Channel, ReadPipeTransport, SocketTransport, WritePipeTransport};
use super::descriptor::Descriptor;
use super::server;
use crate::kit::{err, Any, Args, Obj, PyResult, Signature};
use crate::raise;
use crate::runtime::io::{descriptor, refuse_transport};
use crate::runtime::EventLoop;
use ioxide_core::sys;
use std::os::fd::RawFd;

/// The loop as ours; a `TypeError` for any other.
#[inline]
pub(crate) fn native_loop(object: &Any) -> PyResult<&EventLoop> {
    EventLoop::of(object).ok_or_else(|| {
        raise!(
            err::type_error(),
            "an ioxide loop is expected, got {}",
            object.repr_text()
        )
    })
}

/// `_socket_transport(loop, sock, protocol, waiter, server, context)`.
pub(crate) fn socket(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<6> = Signature::new(
        "_socket_transport",
        ["loop", "sock", "protocol", "waiter", "server", "context"],
        6,
    );
    let [Some(event_loop), Some(sock), Some(protocol), waiter, server, context] =
        args.bind(&SIGNATURE)?
    else {
        return Ok(Obj::none());
    };
    let event_loop = native_loop(event_loop)?;
    refuse_transport(event_loop, descriptor(sock)?)?;
    let transport = SocketTransport::create(event_loop, protocol, Descriptor::adopted(sock)?)?;
    let base = &transport.channel().base;
    base.learn_addresses(None);
    base.set_no_delay();
    base.equip(waiter, context);
    server::attach(server.and_then(Any::some), base)?;
    base.schedule_begin()?;
    Ok(transport.into_obj())
}

const PIPE_PARAMETERS: [&str; 6] = ["loop", "pipe", "protocol", "waiter", "context", "may_grow"];

/// `_read_pipe_transport(loop, pipe, protocol, waiter, context, may_grow=False)`.
pub(crate) fn read_pipe(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<6> = Signature::new("_read_pipe_transport", PIPE_PARAMETERS, 5);
    let [Some(event_loop), Some(pipe), Some(protocol), waiter, context, may_grow] =
        args.bind(&SIGNATURE)?
    else {
        return Ok(Obj::none());
    };
    if !kind_of(descriptor(pipe)?)?.is_pipe_like() {
        return Err(raise!(
            err::value_error(),
            "Pipe transport is for pipes/sockets only."
        ));
    }
    let event_loop = native_loop(event_loop)?;
    let transport = ReadPipeTransport::create(event_loop, protocol, Descriptor::adopted(pipe)?)?;
    let channel = transport.channel();
    channel
        .may_grow
        .set(may_grow.map_or(Ok(false), Any::truthy)?);
    begin_pipe(channel, waiter, context)?;
    Ok(transport.into_obj())
}

/// `_write_pipe_transport(loop, pipe, protocol, waiter, context, may_grow=False)`.
pub(crate) fn write_pipe(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<6> = Signature::new("_write_pipe_transport", PIPE_PARAMETERS, 5);
    let [Some(event_loop), Some(pipe), Some(protocol), waiter, context, may_grow] =
        args.bind(&SIGNATURE)?
    else {
        return Ok(Obj::none());
    };
    let kind = kind_of(descriptor(pipe)?)?;
    if !kind.is_pipe_like() {
        return Err(raise!(
            err::value_error(),
            "Pipe transport is only for pipes, sockets and character devices"
        ));
    }
    let event_loop = native_loop(event_loop)?;
    let transport = WritePipeTransport::create(event_loop, protocol, Descriptor::adopted(pipe)?)?;
    // That the other end is gone shows on the readable side, but for devices, which have input there.
    transport
        .channel()
        .base
        .paused
        .set(kind == FileKind::Device);
    let channel = transport.channel();
    channel
        .may_grow
        .set(may_grow.map_or(Ok(false), Any::truthy)?);
    begin_pipe(channel, waiter, context)?;
    Ok(transport.into_obj())
}

/// The transport of the reading end of a child's pipe.
pub(crate) fn child_output(
    event_loop: &EventLoop,
    protocol: &Any,
    end: Descriptor,
    may_grow: bool,
) -> PyResult<Obj> {
    let transport = ReadPipeTransport::create(event_loop, protocol, end)?;
    transport.channel().may_grow.set(may_grow);
    begin_fresh_pipe(transport.channel())?;
    Ok(transport.into_obj())
}

/// The transport of the writing end of a child's pipe.
pub(crate) fn child_input(
    event_loop: &EventLoop,
    protocol: &Any,
    end: Descriptor,
    may_grow: bool,
) -> PyResult<Obj> {
    let transport = WritePipeTransport::create(event_loop, protocol, end)?;
    transport.channel().may_grow.set(may_grow);
    begin_fresh_pipe(transport.channel())?;
    Ok(transport.into_obj())
}

fn begin_fresh_pipe(channel: &Channel) -> PyResult<()> {
    let fd = channel.base.descriptor.number();
    sys::set_fresh_nonblocking(fd).map_err(|error| err::raise_os(&error))?;
    channel.base.schedule_begin()
}

fn begin_pipe(channel: &Channel, waiter: Option<&Any>, context: Option<&Any>) -> PyResult<()> {
    let fd = channel.base.descriptor.number();
    ioxide_core::net::socket::set_nonblocking(fd, true).map_err(|error| err::raise_os(&error))?;
    channel.base.equip(waiter, context);
    channel.base.schedule_begin()
}

/// What a descriptor may be of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Pipe,
    Socket,
    Device,
    Other,
}

impl FileKind {
    fn is_pipe_like(self) -> bool {
        self != FileKind::Other
    }
}

fn kind_of(fd: RawFd) -> PyResult<FileKind> {
    let mode = sys::file_mode(fd).map_err(|error| err::raise_os(&error))?;
    Ok(match mode & libc::S_IFMT {
        libc::S_IFIFO => FileKind::Pipe,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::Device,
        _ => FileKind::Other,
    })
}
