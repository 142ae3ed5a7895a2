//! `StreamReaderProtocol`: what connects a transport to a reader. Here: the object, what a transport tells it and
//! what a program sees of it. `factory` makes it; `client` is what it does for a server.

use super::draining::Draining;
use super::flow::Flow;
use super::reader::StreamReader;
use super::{field, flag};
use crate::future::{self, settle, FutureView};
use crate::kit::class::{FreeList, WeakList};
use crate::kit::{
    ffi, value, weak, Any, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Visitor,
};
use crate::runtime::target::Target;
use crate::runtime::EventLoop;
use crate::transport::channel::Channel;
use crate::{import, intern};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.StreamReaderProtocol`.
///
/// # Invariants
/// 1. The reader is held weakly, so that a connection whose reader and writer are forgotten does not keep them;
///    strongly only until the callback of a server has been given it.
/// 2. `closed` is made when somebody asks for it; `flow.lost` and `lost_with` say what it would hold.
/// 3. `client_transport` is held from the start of the client's task to its end.
#[repr(C)]
pub(crate) struct StreamReaderProtocol {
    pub(super) target: Target,
    pub(super) flow: Flow,
    pub(super) over_ssl: Cell<bool>,
    pub(super) reject_connection: Cell<bool>,
    pub(super) event_loop: ObjCell,
    pub(super) reader: ObjCell,
    pub(super) strong_reader: ObjCell,
    pub(super) client_connected: ObjCell,
    pub(super) transport: ObjCell,
    pub(super) task: ObjCell,
    pub(super) client_transport: ObjCell,
    pub(super) closed: ObjCell,
    pub(super) lost_with: ObjCell,
    /// Called with the exception when the connection is gone.
    pub(super) connection_lost_cb: ObjCell,
    pub(super) source_traceback: ObjCell,
    pub(super) dict: ObjCell,
    pub(super) weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for StreamReaderProtocol {
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
        self.flow.traverse(visitor);
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        self.flow.clear();
        ObjCell::clear_all(self.cells());
    }
}

// What a transport tells the protocol.
impl StreamReaderProtocol {
    /// The connection stands: a server's callback gets its reader and writer.
    pub(crate) fn connection_made(&self, transport: &Any) -> PyResult<()> {
        if self.reject_connection.get() {
            return self.reject(transport);
        }
        self.transport.set(transport.own());
        let reader = self.reader();
        if let Some(reader) = &reader {
            match StreamReader::untouched(reader) {
                Some(native) => native.set_transport(transport)?,
                None => drop(reader.method(intern!("set_transport"), &[transport])?),
            }
        }
        self.over_ssl.set(is_over_ssl(transport)?);
        let Some(client_connected) = self.client_connected.get() else {
            return Ok(());
        };
        let connected = self.client_connected(&client_connected, reader, transport);
        self.strong_reader.clear();
        connected
    }

    /// The protocol whose methods nobody has replaced, in a subclass or on the object itself.
    #[inline]
    pub(crate) fn untouched(object: &Any) -> Option<&StreamReaderProtocol> {
        object
            .exact::<StreamReaderProtocol>()
            .filter(|protocol| protocol.dict.is_empty())
    }

    /// The reader to put bytes into without a call, if its methods are its own too.
    #[inline]
    pub(crate) fn direct_reader(&self) -> Option<Own<StreamReader>> {
        StreamReader::untouched(&*self.reader()?).map(Native::own)
    }

    fn data_received(&self, data: &Any) -> PyResult<()> {
        let Some(reader) = self.reader() else {
            return Ok(());
        };
        match StreamReader::untouched(&reader) {
            Some(native) => native.feed_object(data),
            None => reader.method(intern!("feed_data"), &[data]).map(drop),
        }
    }

    /// Nothing more will come; true if the transport is to stay open for writing, as TLS cannot.
    pub(crate) fn eof_received(&self) -> PyResult<bool> {
        self.feed_eof()?;
        Ok(!self.over_ssl.get())
    }

    fn feed_eof(&self) -> PyResult<()> {
        let Some(reader) = self.reader() else {
            return Ok(());
        };
        match StreamReader::untouched(&reader) {
            Some(native) => native.feed_eof(),
            None => reader.method0(intern!("feed_eof")).map(drop),
        }
    }

    /// The connection is gone: everybody who waits for something of it is told.
    pub(crate) fn connection_lost(&self, exception: &Any) -> PyResult<()> {
        let exception = exception.some();
        match exception {
            None => self.feed_eof()?,
            Some(exception) => self.break_reader(exception)?,
        }
        drop(self.lost_with.replace(exception.map(Any::own)));
        if let Some(closed) = self.closed.get() {
            settle_closed(&closed, exception)?;
        }
        self.flow.lose(exception)?;
        self.reader.clear();
        self.task.clear();
        self.transport.clear();
        match self.connection_lost_cb.take() {
            Some(callback) => {
                let none = Obj::none();
                callback.call1(exception.unwrap_or(&none)).map(drop)
            }
            None => Ok(()),
        }
    }

    fn break_reader(&self, exception: &Any) -> PyResult<()> {
        let Some(reader) = self.reader() else {
            return Ok(());
        };
        match StreamReader::untouched(&reader) {
            Some(native) => native.set_exception(exception),
            None => reader
                .method(intern!("set_exception"), &[exception])
                .map(drop),
        }
    }

    fn pause_writing(&self) -> PyResult<()> {
        self.flow.pause()?;
        self.log("%r pauses writing")
    }

    fn resume_writing(&self) -> PyResult<()> {
        self.log("%r resumes writing")?;
        self.flow.resume()
    }

    /// A line in the log in debug mode.
    fn log(&self, line: &str) -> PyResult<()> {
        if !future::loop_debug(&self.event_loop.get_or_none())? {
            return Ok(());
        }
        import!("asyncio.log", "logger")?
            .method(intern!("debug"), &[&*value::str(line)?, self.as_any()])
            .map(drop)
    }

    fn replace_transport(&self, transport: &Any) -> PyResult<()> {
        self.transport.set(transport.own());
        self.over_ssl.set(is_over_ssl(transport)?);
        let Some(reader) = self.reader() else {
            return Ok(());
        };
        match StreamReader::untouched(&reader) {
            Some(native) => native.replace_transport(transport),
            None => reader
                .method(intern!("_replace_transport"), &[transport])
                .map(drop),
        }
    }
}

fn is_over_ssl(transport: &Any) -> PyResult<bool> {
    if Channel::untouched(transport).is_some() {
        return Ok(false);
    }
    let context = transport.method(intern!("get_extra_info"), &[intern!("sslcontext")])?;
    Ok(!context.is_none())
}

// What Python code sees.
impl StreamReaderProtocol {
    fn cells(&self) -> [&ObjCell; 11] {
        [
            &self.event_loop,
            &self.reader,
            &self.strong_reader,
            &self.client_connected,
            &self.transport,
            &self.task,
            &self.client_transport,
            &self.closed,
            &self.lost_with,
            &self.connection_lost_cb,
            &self.source_traceback,
        ]
    }

    /// The reader, if it is still there.
    #[inline]
    pub(super) fn reader(&self) -> Option<Obj> {
        weak::target(&*self.reader.get()?)
    }

    /// The future that is done when the connection is closed.
    fn closed(&self) -> PyResult<Obj> {
        if let Some(closed) = self.closed.get() {
            return Ok(closed);
        }
        let event_loop = self.event_loop.get_or_none();
        let closed = match EventLoop::exact(&event_loop) {
            Some(_) => future::Future::new(&event_loop)?.into_obj(),
            None => event_loop.method0(intern!("create_future"))?,
        };
        if self.flow.lost.get() {
            settle_closed(&closed, self.lost_with.get().as_deref())?;
        }
        self.closed.set(closed.clone());
        Ok(closed)
    }
}

/// Ends the future, unless somebody has. Nobody is told of an exception that nobody waits for: it has reached
/// the reader too.
fn settle_closed(closed: &Any, exception: Option<&Any>) -> PyResult<()> {
    if let Some(view) = FutureView::exact(closed) {
        if !view.base.is_pending() {
            return Ok(());
        }
        return match exception {
            None => settle::set_result(view, Obj::none()),
            Some(exception) => {
                settle::set_exception(view, exception)?;
                view.base.set_log_tb(false);
                Ok(())
            }
        };
    }
    if closed.method0(intern!("done"))?.truthy()? {
        return Ok(());
    }
    match exception {
        None => closed
            .method(intern!("set_result"), &[&Obj::none()])
            .map(drop),
        Some(exception) => {
            closed.method(intern!("set_exception"), &[exception])?;
            closed.method0(intern!("exception")).map(drop)
        }
    }
}

fn methods() -> Vec<ffi::PyMethodDef> {
    type This = StreamReaderProtocol;
    vec![
        crate::method!(given StreamReaderProtocol,
            "connection_made",
            "transport",
            This::connection_made,
            "The connection stands: client_connected_cb is called."
        ),
        crate::method!(given StreamReaderProtocol,
            "connection_lost",
            "exc",
            This::connection_lost,
            "The connection is gone, for the exception or None: reads and drain() end."
        ),
        crate::method!(given StreamReaderProtocol,
            "data_received",
            "data",
            This::data_received,
            "Bytes have arrived: the reader gets them."
        ),
        crate::method!(noargs StreamReaderProtocol, "eof_received", This::eof_received,
            "Nothing more will come; true keeps the transport open for writing, as TLS cannot be."),
        crate::method!(noargs StreamReaderProtocol, "pause_writing", This::pause_writing,
            "The transport has enough to send: drain() waits from now on."),
        crate::method!(noargs StreamReaderProtocol, "resume_writing", This::resume_writing,
            "The transport takes more: drain() goes on."),
        crate::method!(noargs StreamReaderProtocol, "_drain_helper", Draining::of_protocol,
            "Waits until the transport takes more."),
        crate::method!(given StreamReaderProtocol,
            "_get_close_waiter",
            "stream",
            |this: &This, _: &Any| this.closed(),
            "The future that is done when the connection is closed."
        ),
        crate::method!(given StreamReaderProtocol,
            "_replace_transport",
            "transport",
            This::replace_transport,
            "After TLS began."
        ),
    ]
}

fn properties() -> Vec<ffi::PyGetSetDef> {
    type This = StreamReaderProtocol;
    vec![
        crate::getter!(
            This,
            "_stream_reader",
            |this: &This| this.reader().unwrap_or_else(Obj::none),
            "The reader, if it is still there."
        ),
        crate::getter!(
            This,
            "_drain_waiters",
            |this: &This| value::list(this.flow.waiters().into_iter()),
            "Who waits for the transport."
        ),
        crate::getter!(
            This,
            "_closed",
            This::closed,
            |this: &This, value: Option<&Any>| super::assign(&this.closed, value),
            "The future that is done when the connection is closed."
        ),
        crate::getter!(
            This,
            "_paused",
            |this: &This| this.flow.paused.get(),
            |this: &This, value: Option<&Any>| super::assign_flag(&this.flow.paused, value),
            "Whether the transport has enough to send."
        ),
        crate::getter!(
            This,
            "_connection_lost",
            |this: &This| this.flow.lost.get(),
            |this: &This, value: Option<&Any>| super::assign_flag(&this.flow.lost, value),
            "Whether the connection is gone."
        ),
        flag!(
            This,
            "_over_ssl",
            over_ssl,
            "Whether the transport speaks TLS."
        ),
        flag!(
            This,
            "_reject_connection",
            reject_connection,
            "Whether a connection is refused."
        ),
        field!(This, "_loop", event_loop, "The loop."),
        field!(
            This,
            "_stream_reader_wr",
            reader,
            "The weak reference to the reader."
        ),
        field!(
            This,
            "_strong_reader",
            strong_reader,
            "The reader, until a client has it."
        ),
        field!(
            This,
            "_client_connected_cb",
            client_connected,
            "What a server calls."
        ),
        field!(
            This,
            "_connection_lost_cb",
            connection_lost_cb,
            "Called with the exception when the connection is gone."
        ),
        field!(This, "_transport", transport, "The transport."),
        field!(This, "_task", task, "The client's task."),
        field!(
            This,
            "_source_traceback",
            source_traceback,
            "Where the reader was made."
        ),
    ]
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<StreamReaderProtocol>(c"ioxide.StreamReaderProtocol")
        .base(import!("asyncio.protocols", "Protocol")?)
        .doc(c"StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None)\n--\n\nConnects a \
                transport to a StreamReader; see asyncio.StreamReaderProtocol.\n\nclient_connected_cb: called \
                with reader and writer once there is a connection; a coroutine that it returns runs as a task. \
                loop: by default the running one, or else the thread's current one.\n\nNot thread-safe: other \
                threads use it by loop.call_soon_threadsafe().")
        .constructible::<StreamReaderProtocol>()
        .dict(offset_of!(StreamReaderProtocol, dict))
        .weak(offset_of!(StreamReaderProtocol, weak))
        .coroutines(["_drain_helper"])
        .methods(methods())
        .getset(properties())
        .build(&CLASS)?;
    Ok(())
}
