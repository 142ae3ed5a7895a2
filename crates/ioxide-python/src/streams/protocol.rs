//! `StreamReaderProtocol`: what connects a transport to a reader, and a server's clients to its callback.

use super::draining::Draining;
use super::flow::Flow;
use super::reader::StreamReader;
use super::writer::StreamWriter;
use super::{field, flag, report};
use crate::future::{self, settle, FutureView};
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, ffi, value, weak, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult,
    Signature, Visitor,
};
use crate::runtime::target::{Target, Told};
use crate::runtime::EventLoop;
use crate::task;
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
    target: Target,
    pub(super) flow: Flow,
    over_ssl: Cell<bool>,
    reject_connection: Cell<bool>,
    event_loop: ObjCell,
    reader: ObjCell,
    strong_reader: ObjCell,
    client_connected: ObjCell,
    transport: ObjCell,
    task: ObjCell,
    client_transport: ObjCell,
    closed: ObjCell,
    lost_with: ObjCell,
    /// Called with the exception when the connection is gone.
    connection_lost_cb: ObjCell,
    source_traceback: ObjCell,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for StreamReaderProtocol {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
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

// SAFETY: begins with `Target` made of its own kind.
unsafe impl Told for StreamReaderProtocol {
    /// The client's task is over.
    fn done(&self, task: &Any) -> PyResult<()> {
        let transport = self.client_transport.take().unwrap_or_else(Obj::none);
        if FutureView::exact(task).is_some_and(|view| view.base.has_returned()) {
            return Ok(());
        }
        if task.method0(intern!("cancelled"))?.truthy()? {
            return close(&transport);
        }
        let exception = task.method0(intern!("exception"))?;
        if exception.is_none() {
            return Ok(());
        }
        self.client_failed(&exception, &transport)
    }
}

impl Construct for StreamReaderProtocol {
    fn empty() -> StreamReaderProtocol {
        StreamReaderProtocol {
            target: Target::new(&StreamReaderProtocol::KIND),
            flow: Flow::new(),
            over_ssl: Cell::new(false),
            reject_connection: Cell::new(false),
            event_loop: ObjCell::empty(),
            reader: ObjCell::empty(),
            strong_reader: ObjCell::empty(),
            client_connected: ObjCell::empty(),
            transport: ObjCell::empty(),
            task: ObjCell::empty(),
            client_transport: ObjCell::empty(),
            closed: ObjCell::empty(),
            lost_with: ObjCell::empty(),
            connection_lost_cb: ObjCell::empty(),
            source_traceback: ObjCell::empty(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<3> = Signature::new(
            "StreamReaderProtocol",
            ["stream_reader", "client_connected_cb", "loop"],
            1,
        );
        let [reader, client_connected, event_loop] = args
            .bind(&SIGNATURE)?
            .map(|given| given.and_then(Any::some));
        let event_loop = match event_loop {
            Some(event_loop) => event_loop.own(),
            None => future::current_loop()?,
        };
        self.event_loop.set(event_loop);
        if let Some(reader) = reader {
            self.reader.set(weak::reference(reader)?);
            self.source_traceback.set(source_of(reader)?);
        }
        if let Some(client_connected) = client_connected {
            self.client_connected.set(client_connected.own());
            drop(self.strong_reader.replace(reader.map(Any::own)));
        }
        Ok(())
    }
}

impl StreamReaderProtocol {
    /// `StreamReaderProtocol(reader, loop=loop)`.
    pub(crate) fn of_client(
        reader: &StreamReader,
        event_loop: &Any,
    ) -> PyResult<Own<StreamReaderProtocol>> {
        let body = StreamReaderProtocol {
            event_loop: ObjCell::new(event_loop.own()),
            reader: ObjCell::new(weak::reference(reader.as_any())?),
            source_traceback: ObjCell::new(reader.source_traceback.get_or_none()),
            ..StreamReaderProtocol::empty()
        };
        body.make()
    }

    /// `StreamReaderProtocol(reader, client_connected_cb, loop=loop)`.
    pub(crate) fn of_server(
        reader: Own<StreamReader>,
        client_connected: &Any,
        event_loop: &Any,
    ) -> PyResult<Own<StreamReaderProtocol>> {
        let made = StreamReaderProtocol::of_client(&reader, event_loop)?;
        if let Some(client_connected) = client_connected.some() {
            made.client_connected.set(client_connected.own());
            made.strong_reader.set(reader.into_obj());
        }
        Ok(made)
    }

    /// The protocol of one end of a child's pipe; `lost` is called when that is closed.
    pub(crate) fn of_pipe(
        reader: Option<&StreamReader>,
        event_loop: &Any,
        lost: Obj,
    ) -> PyResult<Own<StreamReaderProtocol>> {
        let mut body = StreamReaderProtocol {
            event_loop: ObjCell::new(event_loop.own()),
            connection_lost_cb: ObjCell::new(lost),
            ..StreamReaderProtocol::empty()
        };
        if let Some(reader) = reader {
            body.reader = ObjCell::new(weak::reference(reader.as_any())?);
            body.source_traceback = ObjCell::new(reader.source_traceback.get_or_none());
        }
        body.make()
    }
}

/// Where a reader was made.
fn source_of(reader: &Any) -> PyResult<Obj> {
    match StreamReader::untouched(reader) {
        Some(native) => Ok(native.source_traceback.get_or_none()),
        None => reader.attr(intern!("_source_traceback")),
    }
}

fn close(transport: &Any) -> PyResult<()> {
    transport.method0(intern!("close")).map(drop)
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

// A server's client.
impl StreamReaderProtocol {
    #[cold]
    fn reject(&self, transport: &Any) -> PyResult<()> {
        let message = value::str(
            "An open stream was garbage collected prior to establishing network connection; \
             call \"stream.close()\" explicitly.",
        )?;
        let mut entries = vec![(intern!("message"), &*message)];
        let source = self.source_traceback.get();
        if let Some(source) = &source {
            entries.push((intern!("source_traceback"), source));
        }
        report(&self.event_loop.get_or_none(), &entries)?;
        transport.method0(intern!("abort")).map(drop)
    }

    fn client_connected(
        &self,
        client_connected: &Any,
        reader: Option<Obj>,
        transport: &Any,
    ) -> PyResult<()> {
        let event_loop = self.event_loop.get_or_none();
        let reader_or_none = reader.clone().unwrap_or_else(Obj::none);
        let writer = StreamWriter::new(transport, self.as_any(), reader, event_loop)?;
        match client_connected.call(&[&reader_or_none, writer.as_any()]) {
            Ok(result) if task::is_coroutine(&result)? => self.run_client(&result, transport),
            Ok(_) => Ok(()),
            Err(raised) if err::matches(err::exception()) => {
                let exception = err::take(raised);
                self.client_failed(&exception, transport)
            }
            Err(raised) => Err(raised),
        }
    }

    /// Runs the client's coroutine in a task, and watches over it.
    fn run_client(&self, coroutine: &Any, transport: &Any) -> PyResult<()> {
        let event_loop = self.event_loop.get_or_none();
        let task = crate::combine::ensure_future::spawn(&event_loop, coroutine)?;
        self.task.set(task.clone());
        self.client_transport.set(transport.own());
        let target = self.target();
        match FutureView::exact(&task) {
            Some(view) => future::waiters::add_target(view, &target),
            None => task
                .method(intern!("add_done_callback"), &[&*target.callable()?])
                .map(drop),
        }
    }

    #[cold]
    fn client_failed(&self, exception: &Any, transport: &Any) -> PyResult<()> {
        let message = value::str("Unhandled exception in client_connected_cb")?;
        report(
            &self.event_loop.get_or_none(),
            &[
                (intern!("message"), &message),
                (intern!("exception"), exception),
                (intern!("transport"), transport),
            ],
        )?;
        close(transport)
    }
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
    fn reader(&self) -> Option<Obj> {
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
            "The connection stands."
        ),
        crate::method!(given StreamReaderProtocol,
            "connection_lost",
            "exc",
            This::connection_lost,
            "The connection is gone."
        ),
        crate::method!(given StreamReaderProtocol,
            "data_received",
            "data",
            This::data_received,
            "Bytes have arrived."
        ),
        crate::method!(noargs StreamReaderProtocol, "eof_received", This::eof_received,
            "Nothing more will come; true keeps the transport open."),
        crate::method!(noargs StreamReaderProtocol, "pause_writing", This::pause_writing,
            "The transport has enough to send."),
        crate::method!(noargs StreamReaderProtocol, "resume_writing", This::resume_writing,
            "The transport takes more."),
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
        .doc(c"Connects a transport to a StreamReader; see asyncio.StreamReaderProtocol.")
        .constructible::<StreamReaderProtocol>()
        .dict(offset_of!(StreamReaderProtocol, dict))
        .weak(offset_of!(StreamReaderProtocol, weak))
        .coroutines([("_drain_helper", "(self)")])
        .methods(methods())
        .getset(properties())
        .build(&CLASS)?;
    Ok(())
}
