//! What Python code sees of an encrypted transport.

use super::transport::TlsTransport;
use crate::kit::{ffi, value, Any, Args, ClassSpec, Native, Obj, ObjCell, PyResult, Signature};
use crate::transport::channel::base_class;
use crate::transport::feed::Feed;
use crate::{import, intern};
use std::mem::offset_of;

type This = TlsTransport;

impl TlsTransport {
    fn set_protocol(&self, protocol: &Any) -> PyResult<()> {
        let feed = Feed::of(protocol)?;
        self.protocol.set(protocol.own());
        self.feed.set(feed);
        Ok(())
    }

    pub(crate) fn is_closing(&self) -> PyResult<bool> {
        if self.machine.is_closed() {
            return Ok(true);
        }
        match self.below.get() {
            Some(below) => match Self::channel(&below) {
                Some(channel) => Ok(channel.is_closing()),
                None => below.method0(intern!("is_closing"))?.truthy(),
            },
            None => Ok(false),
        }
    }

    fn close(&self) -> PyResult<()> {
        self.machine.close(self)
    }

    fn force_close(&self, exception: &Any) -> PyResult<()> {
        self.flush_below()?;
        self.machine.abort();
        self.end_below(exception.some())
    }

    fn abort(&self) -> PyResult<()> {
        self.force_close(&Obj::none())
    }

    fn resume_reading(&self) -> PyResult<()> {
        self.machine.resume(self)
    }

    fn get_extra_info(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<2> = Signature::new("get_extra_info", ["name", "default"], 1);
        let [name, default] = args.bind(&SIGNATURE)?;
        let none = Obj::none();
        let (name, default) = (name.unwrap_or(&none), default.unwrap_or(&none));
        if name.is_str() {
            match name.to_str()? {
                "sslcontext" => return Ok(self.ssl_context.get_or_none()),
                "ssl_object" if self.established.get() => return Ok(self.engine.object()),
                "peercert" | "cipher" | "compression" if self.established.get() => {
                    return self.detail(name);
                }
                _ => {}
            }
        }
        match self.below.get() {
            Some(below) => below.method(intern!("get_extra_info"), &[name, default]),
            None => Ok(default.own()),
        }
    }

    /// What the object knows of the connection, asked for once.
    fn detail(&self, name: &Any) -> PyResult<Obj> {
        let details = match self.details.get() {
            Some(details) => details,
            None => {
                let details = value::dict()?;
                self.details.set(details.clone());
                details
            }
        };
        if let Some(known) = details.dict_get(name)? {
            return Ok(known);
        }
        let object = self.engine.object();
        let found = match name.to_str()? {
            "peercert" => object.method0(intern!("getpeercert"))?,
            _ => object.method0(name)?,
        };
        details.dict_set(name, &found)?;
        Ok(found)
    }

    fn write_buffer_size(&self) -> PyResult<usize> {
        self.flush_below()?;
        Ok(self.waiting())
    }

    fn set_write_buffer_limits(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> =
            Signature::new("set_write_buffer_limits", ["high", "low"], 0);
        let [high, low] = args.bind(&SIGNATURE)?;
        self.set_write_limits(high, low)
    }

    fn set_read_buffer_limits(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> =
            Signature::new("set_read_buffer_limits", ["high", "low"], 0);
        let [high, low] = args.bind(&SIGNATURE)?;
        self.set_read_limits(high, low)
    }

    fn write_buffer_limits(&self) -> PyResult<Obj> {
        let marks = self.marks.get();
        pair(marks.low(), marks.high())
    }

    fn read_buffer_limits(&self) -> PyResult<Obj> {
        let (high, low) = self.read_marks.get();
        pair(low, high)
    }

    fn data_received(&self, data: &Any) -> PyResult<()> {
        super::engine::with_bytes(data, |bytes| self.arrived(bytes))?
    }

    fn show(&self) -> PyResult<Obj> {
        let state = if self.machine.is_closed() {
            "closing "
        } else {
            ""
        };
        let below = match self.below.get() {
            Some(below) => below.repr_text(),
            None => "nothing".to_owned(),
        };
        value::str(&format!("<SSLTransport {state}over {below}>"))
    }
}

fn pair(first: usize, second: usize) -> PyResult<Obj> {
    value::tuple(&[&*value::int(first as i64)?, &*value::int(second as i64)?])
}

/// A property that is the content of a cell, or `None`.
macro_rules! cell {
    ($name:literal, $cell:ident, $doc:literal) => {
        crate::getter!(This, $name, |this: &This| cell(&this.$cell), $doc)
    };
}

fn cell(cell: &ObjCell) -> Obj {
    cell.get_or_none()
}

/// Of the program's transport.
fn transport_methods() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(args This, "get_extra_info", This::get_extra_info,
            "get_extra_info($self, name, default=None)\n--\n\nWhat is known of the connection under this \
                name, or the default: \"sslcontext\", \"ssl_object\", \"peercert\", \"cipher\", \"compression\", \
                and the names of the transport below."),
        crate::method!(given This, "set_protocol", "protocol", This::set_protocol,
            "Sets the protocol, which gets what arrives from now on."),
        crate::method!(noargs This, "get_protocol", |this: &This| cell(&this.protocol), "The protocol."),
        crate::method!(noargs This, "is_closing", This::is_closing,
            "Whether the transport is closing or closed."),
        crate::method!(noargs This, "close", This::close,
            "Closes the connection when what was written has been sent; then connection_lost(None) is called."),
        crate::method!(noargs This, "abort", This::abort,
            "Closes the connection at once; what waits is lost."),
        crate::method!(onearg This, "_force_close", This::force_close,
            "Closes the connection at once, for this reason."),
        crate::method!(noargs This, "is_reading", |this: &This| !this.machine.is_paused(),
            "Whether what arrives is delivered."),
        crate::method!(noargs This, "pause_reading", |this: &This| this.machine.pause(),
            "Delivers nothing until resume_reading(). A second call does nothing."),
        crate::method!(noargs This, "resume_reading", This::resume_reading,
            "Delivers again. Does nothing unless reading is paused."),
        crate::method!(given This, "write", "data", This::write,
            "Writes the bytes, without waiting: what cannot be sent yet is kept. \
            TypeError for what is not bytes-like."),
        crate::method!(given This, "writelines", "list_of_data", This::write_lines,
            "Writes several bytes-like objects, without waiting."),
        crate::method!(noargs This, "can_write_eof", |_: &This| false, "False: TLS has no half-closed connections."),
        crate::method!(noargs This, "write_eof", |_: &This| -> PyResult<()> {
                Err(crate::kit::err::raise_bare(crate::kit::err::not_implemented()))
            }, "Raises NotImplementedError."),
        crate::method!(noargs This, "get_write_buffer_size", This::write_buffer_size,
            "How many bytes wait to be sent."),
        crate::method!(noargs This, "get_write_buffer_limits", This::write_buffer_limits,
            "The low and the high mark of what waits to be sent, in bytes: 131072 and 524288 by default."),
        crate::method!(args This, "set_write_buffer_limits", This::set_write_buffer_limits,
            "set_write_buffer_limits($self, high=None, low=None)\n--\n\nSets the marks of what waits to be \
                sent, in bytes: above high the protocol's pause_writing() is called, at low \
                resume_writing().\n\nhigh: by default 524288, or four times low if that is given. low: by \
                default a quarter of high. ValueError unless high >= low >= 0."),
        crate::method!(noargs This, "get_read_buffer_size", |this: &This| this.engine.arrived(),
            "How many bytes wait to be decrypted."),
        crate::method!(noargs This, "get_read_buffer_limits", This::read_buffer_limits,
            "The low and the high mark of what waits to be decrypted, in bytes: 65536 and 262144 by default."),
        crate::method!(args This, "set_read_buffer_limits", This::set_read_buffer_limits,
            "set_read_buffer_limits($self, high=None, low=None)\n--\n\nSets the marks of what waits to be \
                decrypted, in bytes: above high the peer is held back, until it is low.\n\nhigh: by default \
                262144, or four times low if that is given. low: by default a quarter of high. ValueError unless \
                high >= low >= 0."),
    ]
}

/// Of the protocol of the transport below.
fn protocol_methods() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(onearg This, "connection_made", This::connection_made,
            "connection_made($self, transport, /)\n--\n\nThe transport below stands: the handshake begins."),
        crate::method!(onearg This, "data_received", This::data_received,
            "data_received($self, data, /)\n--\n\nEncrypted bytes have arrived."),
        crate::method!(noargs This, "eof_received", This::eof_received,
            "No more encrypted bytes will arrive."),
        crate::method!(onearg This, "connection_lost", This::connection_lost,
            "connection_lost($self, exc, /)\n--\n\nThe transport below is gone."),
        crate::method!(noargs This, "pause_writing", This::pause_writing,
            "The transport below takes no more for now."),
        crate::method!(noargs This, "resume_writing", This::resume_writing,
            "The transport below takes more."),
    ]
}

fn properties() -> Vec<ffi::PyGetSetDef> {
    fn itself(this: &This) -> Obj {
        this.as_any().own()
    }
    vec![
        cell!("_loop", event_loop, "The loop."),
        cell!("_transport", below, "The transport below."),
        cell!("_app_protocol", protocol, "The protocol."),
        cell!("_sslcontext", ssl_context, "The ssl.SSLContext."),
        cell!(
            "_context",
            context,
            "The contextvars.Context of the protocol's calls."
        ),
        crate::getter!(
            This,
            "_sslobj",
            |this: &This| this.engine.object(),
            "The ssl.SSLObject."
        ),
        crate::getter!(
            This,
            "_native",
            |this: &This| this.engine.is_native(),
            "Whether OpenSSL is driven natively."
        ),
        crate::getter!(
            This,
            "_ssl_protocol",
            itself,
            "This transport, which is the protocol too."
        ),
        crate::getter!(This, "_app_transport", itself, "This transport."),
        crate::getter!(
            This,
            "_closed",
            |this: &This| this.machine.is_closed(),
            "Whether it was closed."
        ),
        crate::getter!(
            This,
            "_app_reading_paused",
            |this: &This| this.machine.is_paused(),
            "Whether reading is paused."
        ),
        crate::getter!(
            This,
            "_protocol_paused",
            |this: &This| this.marks.get().paused(),
            "Whether the protocol is paused."
        ),
        crate::getter!(This, "_start_tls_compatible", |_: &This| true, "True."),
        crate::getter!(
            This,
            "_sendfile_compatible",
            |_: &This| import!("asyncio.constants", "_SendfileMode")?.attr(intern!("FALLBACK")),
            "How sendfile() is done."
        ),
    ]
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<TlsTransport>(c"ioxide.SSLTransport")
        .doc(c"The transport of an encrypted connection.\n\nAs asyncio.Transport: not thread-safe.")
        .base(&*base_class("Transport")?)
        .dict(offset_of!(TlsTransport, dict))
        .weak(offset_of!(TlsTransport, weak))
        .slot(ffi::Py_tp_repr, crate::unary!(This, This::show))
        .methods(transport_methods())
        .methods(protocol_methods())
        .getset(properties())
        .build(TlsTransport::place())?;
    Ok(())
}
