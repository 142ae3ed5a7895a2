//! What Python code sees of transports: the tables of methods and properties.

use super::base::Base;
use super::channel::Channel;
use super::closing;
use crate::import;
use crate::kit::{ffi, value, Any, Args, Obj, PyResult, Signature};

/// Of every transport.
pub(super) fn shared() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(args Base, "get_extra_info", get_extra_info,
            "get_extra_info($self, name, default=None)\n--\n\nWhat is known of the transport under this name, \
                or the default: \"socket\", \"sockname\" and \"peername\" of a socket, \"pipe\" of a pipe."),
        crate::method!(noargs Base, "is_closing", |this: &Base| this.closing.get(),
            "Whether the transport is closing or closed."),
        crate::method!(noargs Base, "get_protocol", |this: &Base| this.protocol.get_or_none(),
            "The protocol."),
        crate::method!(noargs Base, "close", closing::close,
            "Closes the transport when what waits has been written; then connection_lost(None) is called. \
                Nothing more is read."),
        crate::method!(noargs Base, "abort", closing::abort,
            "Closes the transport at once; what waits is lost. Soon connection_lost(None) is called."),
        crate::method!(noargs Base, "_release", closing::release_untold,
            "Closes the descriptor at once and tells nobody: of a loop that does not run any more."),
        crate::method!(onearg Base, "_force_close",
            |this: &Base, exception: &Any| closing::force(this, exception.some().map(Any::own)),
            "Closes the transport at once, for this reason."),
        crate::method!(args Base, "_fatal_error", fatal_error,
            "Tells of the exception and closes the transport."),
    ]
}

/// Of every transport that reads.
pub(super) fn pausing() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(noargs Base, "is_reading", Base::is_reading,
            "Whether what arrives is delivered."),
        crate::method!(noargs Base, "pause_reading", Base::pause_reading,
            "Delivers nothing until resume_reading(). A second call does nothing."),
    ]
}

/// Of every transport that reads a stream of bytes.
pub(super) fn reading() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(noargs Base, "resume_reading", Base::resume_reading,
            "Delivers again. Does nothing unless reading is paused."),
    ]
}

/// Of every transport of a stream of bytes.
pub(super) fn stream() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(given Channel, "set_protocol", "protocol", Channel::set_protocol,
            "Sets the protocol, which gets what arrives from now on."),
    ]
}

/// Of every transport that writes a stream of bytes.
pub(super) fn writing() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(given Channel, "write", "data", Channel::write,
            "Writes the bytes, without waiting: what the kernel does not take is \
                kept. TypeError for anything but bytes, bytearray and memoryview, RuntimeError after write_eof() \
                and during sendfile()."),
        crate::method!(given Channel, "writelines", "list_of_data", Channel::write_lines,
            "Writes several bytes-like objects, without waiting, as \
                write() of each."),
        crate::method!(noargs Channel, "can_write_eof", |_: &Channel| true,
            "True: what is written can end while what arrives is still read."),
        crate::method!(noargs Channel, "write_eof", Channel::write_eof,
            "Ends what is written, after what waits; what arrives is still read."),
    ]
}

/// Of every transport that writes.
pub(super) fn flow() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(noargs Base, "get_write_buffer_size", Base::write_buffer_size,
            "How many bytes wait to be written."),
        crate::method!(noargs Base, "get_write_buffer_limits", limits,
            "The low and the high mark of flow control, in bytes: 16384 and 65536 by default."),
        crate::method!(args Base, "set_write_buffer_limits", set_limits,
            "set_write_buffer_limits($self, high=None, low=None)\n--\n\nSets the marks of flow control, in \
                bytes: when more than high wait, the protocol's pause_writing() is called, and resume_writing() \
                when no more than low do.\n\nhigh: by default 65536, or four times low if that is given. low: by \
                default a quarter of high. ValueError unless high >= low >= 0."),
    ]
}

/// Of sockets only.
pub(super) fn socket() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(noargs Channel, "_make_empty_waiter", Channel::make_drained,
            "A future that is done when nothing waits to be written."),
        crate::method!(noargs Channel, "_reset_empty_waiter", Channel::reset_drained,
            "Allows to write again."),
    ]
}

/// Of every transport.
pub(super) fn shared_properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        crate::getter!(
            Base,
            "_loop",
            |this: &Base| this.event_loop.get_or_none(),
            "The loop."
        ),
        crate::getter!(
            Base,
            "_protocol",
            |this: &Base| this.protocol.get_or_none(),
            set_protocol_attribute,
            "The protocol."
        ),
        crate::getter!(
            Base,
            "_extra",
            Base::extra,
            set_extra,
            "What get_extra_info() knows."
        ),
        crate::getter!(
            Base,
            "_closing",
            |this: &Base| this.closing.get(),
            "Whether closing."
        ),
        crate::getter!(
            Base,
            "_paused",
            |this: &Base| this.paused.get(),
            "Whether reading is paused."
        ),
        crate::getter!(
            Base,
            "_conn_lost",
            |this: &Base| this.conn_lost.get() as usize,
            "How often somebody wrote to the lost connection, plus one."
        ),
        crate::getter!(
            Base,
            "_context",
            |this: &Base| this.context.get_or_none(),
            "The contextvars.Context of the protocol's calls."
        ),
        crate::getter!(
            Base,
            "_server",
            |this: &Base| this.server.get_or_none(),
            "The server."
        ),
        crate::getter!(
            Base,
            "_protocol_paused",
            |this: &Base| this.marks.get().paused(),
            "Whether the protocol is paused."
        ),
    ]
}

/// Of every socket.
pub(super) fn socket_properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        crate::getter!(Base, "_sock", sock, "The socket, None once it is closed."),
        crate::getter!(
            Base,
            "_sock_fd",
            |this: &Base| value::int(this.descriptor.number().into()),
            "The descriptor's number, -1 once it is closed."
        ),
    ]
}

/// Of stream sockets only.
pub(super) fn stream_socket_properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        crate::getter!(Base, "_start_tls_compatible", |_: &Base| true, "True."),
        crate::getter!(
            Base,
            "_sendfile_compatible",
            sendfile_mode,
            "How sendfile() is done."
        ),
    ]
}

fn get_extra_info(this: &Base, args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("get_extra_info", ["name", "default"], 1);
    let [name, default] = args.bind(&SIGNATURE)?;
    match name {
        Some(name) => this.extra_info(name, default),
        None => Ok(Obj::none()),
    }
}

fn fatal_error(this: &Base, args: Args<'_>) -> PyResult<()> {
    const SIGNATURE: Signature<2> = Signature::new("_fatal_error", ["exc", "message"], 1);
    let [exception, message] = args.bind(&SIGNATURE)?;
    let message = match message {
        Some(message) => message.to_str()?.to_owned(),
        None => "Fatal error on transport".to_owned(),
    };
    match exception {
        Some(exception) => closing::fatal_error(this, exception, &message),
        None => Ok(()),
    }
}

fn limits(this: &Base) -> PyResult<Obj> {
    let marks = this.marks.get();
    value::tuple(&[
        &*value::int(marks.low() as i64)?,
        &*value::int(marks.high() as i64)?,
    ])
}

fn set_limits(this: &Base, args: Args<'_>) -> PyResult<()> {
    const SIGNATURE: Signature<2> = Signature::new("set_write_buffer_limits", ["high", "low"], 0);
    let [high, low] = args.bind(&SIGNATURE)?;
    this.set_limits(high, low)
}

fn set_protocol_attribute(this: &Base, protocol: Option<&Any>) -> PyResult<()> {
    let protocol = protocol.map_or_else(Obj::none, Any::own);
    this.object()
        .method(crate::intern!("set_protocol"), &[&protocol])
        .map(drop)
}

fn set_extra(this: &Base, extra: Option<&Any>) -> PyResult<()> {
    drop(this.target.slot.replace(extra.map(Any::own)));
    Ok(())
}

fn sock(this: &Base) -> PyResult<Obj> {
    if this.over.get() {
        return Ok(Obj::none());
    }
    Ok(this.socket()?.unwrap_or_else(Obj::none))
}

fn sendfile_mode(_: &Base) -> PyResult<Obj> {
    import!("asyncio.constants", "_SendfileMode")?.attr(crate::intern!("TRY_NATIVE"))
}
