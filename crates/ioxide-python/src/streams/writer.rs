//! `StreamWriter`: a transport's writing side, with flow control that coroutines can await.

use super::closing::Closing;
use super::draining::Draining;
use super::field;
use super::reader::StreamReader;
use crate::kit::class::{Construct, FreeList, WeakList};
use crate::kit::{
    err, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult,
    Signature, Visitor,
};
use crate::tls::TlsTransport;
use crate::transport::channel::Channel;
use crate::{import, intern};
use std::mem::offset_of;

/// `ioxide.StreamWriter`.
#[repr(C)]
pub(crate) struct StreamWriter {
    head: Head,
    transport: ObjCell,
    protocol: ObjCell,
    reader: ObjCell,
    event_loop: ObjCell,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for StreamWriter {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(64);
        Some(&LIST)
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }

    fn finalize(&self) {
        if let Err(raised) = self.close_if_forgotten() {
            err::unraisable(raised, self.as_any());
        }
    }
}

impl Construct for StreamWriter {
    fn empty() -> StreamWriter {
        StreamWriter {
            head: Head::new(),
            transport: ObjCell::empty(),
            protocol: ObjCell::empty(),
            reader: ObjCell::empty(),
            event_loop: ObjCell::empty(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<4> = Signature::new(
            "StreamWriter",
            ["transport", "protocol", "reader", "loop"],
            4,
        );
        let given = args.bind(&SIGNATURE)?;
        let cells = [
            &self.transport,
            &self.protocol,
            &self.reader,
            &self.event_loop,
        ];
        for (cell, given) in cells.into_iter().zip(given) {
            drop(cell.replace(given.and_then(Any::some).map(Any::own)));
        }
        Ok(())
    }
}

impl StreamWriter {
    /// A writer to this transport.
    pub(crate) fn new(
        transport: &Any,
        protocol: &Any,
        reader: Option<Obj>,
        event_loop: Obj,
    ) -> PyResult<Own<StreamWriter>> {
        let body = StreamWriter {
            transport: ObjCell::new(transport.own()),
            protocol: ObjCell::new(protocol.own()),
            reader: reader.map_or_else(ObjCell::empty, ObjCell::new),
            event_loop: ObjCell::new(event_loop),
            ..StreamWriter::empty()
        };
        body.make()
    }

    fn cells(&self) -> [&ObjCell; 4] {
        [
            &self.transport,
            &self.protocol,
            &self.reader,
            &self.event_loop,
        ]
    }

    fn transport(&self) -> Obj {
        self.transport.get_or_none()
    }

    /// The exception that the reader was given, if there is a reader and it was.
    #[inline]
    pub(super) fn reader_exception(&self) -> PyResult<Option<Obj>> {
        let Some(reader) = self.reader.get() else {
            return Ok(None);
        };
        if let Some(native) = StreamReader::untouched(&reader) {
            return Ok(native.exception.get());
        }
        let exception = reader.method0(intern!("exception"))?;
        Ok(exception.some().map(Any::own))
    }

    #[inline]
    pub(super) fn is_closing(&self) -> PyResult<bool> {
        let transport = self.transport();
        match Channel::untouched(&transport) {
            Some(channel) => Ok(channel.is_closing()),
            None => match TlsTransport::untouched(&transport) {
                Some(tls) => tls.is_closing(),
                None => transport.method0(intern!("is_closing"))?.truthy(),
            },
        }
    }

    fn write(&self, data: &Any) -> PyResult<()> {
        let transport = self.transport();
        match Channel::untouched(&transport) {
            Some(channel) => channel.write(data),
            None => match TlsTransport::untouched(&transport) {
                Some(tls) => tls.write(data),
                None => transport.method(intern!("write"), &[data]).map(drop),
            },
        }
    }

    fn write_lines(&self, data: &Any) -> PyResult<()> {
        let transport = self.transport();
        match Channel::untouched(&transport) {
            Some(channel) => channel.write_lines(data),
            None => match TlsTransport::untouched(&transport) {
                Some(tls) => tls.write_lines(data),
                None => transport.method(intern!("writelines"), &[data]).map(drop),
            },
        }
    }

    fn get_extra_info(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<2> = Signature::new("get_extra_info", ["name", "default"], 1);
        let [name, default] = args.bind(&SIGNATURE)?;
        let none = Obj::none();
        let (name, default) = (name.unwrap_or(&none), default.unwrap_or(&none));
        self.transport()
            .method(intern!("get_extra_info"), &[name, default])
    }

    /// The sequence is Python's: an upgrade is rare, and awaits three things in turn.
    fn start_tls(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<4> = Signature::new(
            "start_tls",
            [
                "sslcontext",
                "server_hostname",
                "ssl_handshake_timeout",
                "ssl_shutdown_timeout",
            ],
            1,
        )
        .keyword_only_after(1);
        let none = Obj::none();
        let [context, hostname, handshake, shutdown] =
            args.bind(&SIGNATURE)?.map(|given| given.unwrap_or(&none));
        import!("ioxide._streams", "start_tls")?.call(&[
            self.as_any(),
            context,
            hostname,
            handshake,
            shutdown,
        ])
    }

    fn repr(&self) -> PyResult<Obj> {
        let mut text = format!(
            "<{} transport={}",
            self.as_any().type_name(),
            self.transport().repr_text()
        );
        if let Some(reader) = self.reader.get() {
            text += &format!(" reader={}", reader.repr_text());
        }
        value::str(&(text + ">"))
    }

    /// A writer that dies unclosed closes its transport and says so.
    fn close_if_forgotten(&self) -> PyResult<()> {
        if self.transport.is_empty() || self.is_closing()? {
            return Ok(());
        }
        let event_loop = self.event_loop.get_or_none();
        if event_loop.method0(intern!("is_closed"))?.truthy()? {
            return err::warn(err::resource_warning(), "loop is closed", 1);
        }
        let message = format!("unclosed {}", self.as_any().repr_text());
        self.as_any().method0(intern!("close"))?;
        err::warn_unclosed(self.as_any(), &message);
        Ok(())
    }
}

/// A method that the transport answers.
macro_rules! forwarded {
    ($name:literal, $doc:literal) => {
        crate::method!(noargs StreamWriter, $name,
            |this: &StreamWriter| this.transport().method0(intern!($name)), $doc)
    };
}

fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(given StreamWriter,
            "write",
            "data",
            StreamWriter::write,
            "Sends the bytes, or keeps them to be sent: drain() waits while they are too many. TypeError for what is not \
                bytes-like, RuntimeError after write_eof()."
        ),
        crate::method!(given StreamWriter,
            "writelines",
            "data",
            StreamWriter::write_lines,
            "Sends all bytes of an iterable of bytes-like objects, as write() of each."
        ),
        forwarded!(
            "write_eof",
            "Ends the sending side once everything is sent; NotImplementedError over TLS."
        ),
        forwarded!(
            "can_write_eof",
            "Whether the sending side can end alone: not over TLS."
        ),
        forwarded!(
            "close",
            "Closes the transport once everything is sent; wait_closed() waits for that."
        ),
        crate::method!(noargs StreamWriter, "is_closing", StreamWriter::is_closing,
            "Whether the transport is closed or about to be."),
        crate::method!(noargs StreamWriter, "wait_closed",
            |this: &StreamWriter| Closing::of(this, this.protocol.get_or_none()),
            "Waits until the connection is closed; raises what it was lost with."),
        crate::method!(noargs StreamWriter, "drain",
            |this: &StreamWriter| Draining::of_writer(this, this.protocol.get_or_none()),
            "Waits, if more than the high mark of flow control waits to be sent, until it is the low mark or \
                less; raises what the connection was lost with, or ConnectionResetError."),
        crate::method!(args StreamWriter, "get_extra_info", StreamWriter::get_extra_info,
            "get_extra_info($self, name, default=None)\n--\n\nWhat the transport knows under the name, as \
                \"peername\" or \"ssl_object\", or the default."),
        crate::method!(args StreamWriter, "start_tls", StreamWriter::start_tls,
            "start_tls($self, sslcontext, *, server_hostname=None, ssl_handshake_timeout=None, ssl_shutdown_timeout=None)\n--\n\n\
                Upgrades the connection to TLS, after drain(); on the server's side if a server made the \
                streams.\n\nsslcontext: TypeError for anything but an ssl.SSLContext. server_hostname: whose \
                certificate a client expects. The timeouts are in seconds, by default 60 for the handshake and \
                30 for the shutdown; ValueError unless positive. ssl.SSLError or ConnectionError if the \
                handshake fails, and the connection is closed."),
    ]
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<StreamWriter>(c"ioxide.StreamWriter")
        .doc(c"StreamWriter(transport, protocol, reader, loop)\n--\n\nWrites to a transport; see \
                asyncio.StreamWriter.\n\nOne that is forgotten unclosed closes its transport, with a \
                ResourceWarning.\n\nNot thread-safe: other threads use it by loop.call_soon_threadsafe().")
        .constructible::<StreamWriter>()
        .dict(offset_of!(StreamWriter, dict))
        .weak(offset_of!(StreamWriter, weak))
        .slot(
            ffi::Py_tp_repr,
            crate::unary!(StreamWriter, StreamWriter::repr),
        )
        .coroutines(["drain", "wait_closed", "start_tls"])
        .methods(methods())
        .getset([
            crate::getter!(
                StreamWriter,
                "transport",
                StreamWriter::transport,
                "The transport, for what a stream has no method for."
            ),
            field!(StreamWriter, "_transport", transport, "The transport."),
            field!(StreamWriter, "_protocol", protocol, "The protocol."),
            field!(StreamWriter, "_reader", reader, "The reader, or None."),
            field!(StreamWriter, "_loop", event_loop, "The loop."),
        ])
        .build(&CLASS)?;
    Ok(())
}
