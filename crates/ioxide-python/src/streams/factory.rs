//! The making of stream protocols: as a program asks for one, for each kind of connection, and by a server, one for
//! each of its clients.

use super::flow::Flow;
use super::protocol::StreamReaderProtocol;
use super::reader::StreamReader;
use crate::kit::class::{self, Construct, WeakList};
use crate::kit::{
    ffi, weak, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult, Raw,
    Signature, Visitor,
};
use crate::runtime::target::{Target, Told};
use crate::{future, intern};
use std::cell::Cell;
use std::ffi::c_void;

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

/// `_StreamProtocols(loop, client_connected_cb, limit)`: called without arguments, it makes a protocol.
#[repr(C)]
pub(crate) struct StreamProtocols {
    head: Head,
    event_loop: ObjCell,
    client_connected: ObjCell,
    limit: ObjCell,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for StreamProtocols {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }
}

impl Construct for StreamProtocols {
    fn empty() -> StreamProtocols {
        StreamProtocols {
            head: Head::new(),
            event_loop: ObjCell::empty(),
            client_connected: ObjCell::empty(),
            limit: ObjCell::empty(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<3> = Signature::new(
            "_StreamProtocols",
            ["loop", "client_connected_cb", "limit"],
            3,
        );
        for (cell, given) in self.cells().into_iter().zip(args.bind(&SIGNATURE)?) {
            drop(cell.replace(given.map(Any::own)));
        }
        Ok(())
    }
}

impl StreamProtocols {
    fn cells(&self) -> [&ObjCell; 3] {
        [&self.event_loop, &self.client_connected, &self.limit]
    }

    /// A protocol with a reader of its own. Runs none of the program's code.
    pub(crate) fn protocol(&self) -> PyResult<Own<StreamReaderProtocol>> {
        let event_loop = self.event_loop.get_or_none();
        let limit = self.limit.get();
        let reader = StreamReader::with(limit.as_deref(), &event_loop)?;
        let client_connected = self.client_connected.get_or_none();
        StreamReaderProtocol::of_server(reader, &client_connected, &event_loop)
    }

    fn call(&self, args: Args<'_>) -> PyResult<Own<StreamReaderProtocol>> {
        const SIGNATURE: Signature<0> = Signature::new("_StreamProtocols", [], 0);
        args.bind(&SIGNATURE)?;
        self.protocol()
    }
}

unsafe extern "C" fn tp_call(object: Raw, args: Raw, kwargs: Raw) -> Raw {
    class::guard(|| {
        // SAFETY: as the interpreter calls it: an instance, a tuple, a dict or null.
        unsafe {
            let unpacked = crate::kit::args::Unpacked::new(args, kwargs)?;
            Any::from_raw(object)
                .cast_unchecked::<StreamProtocols>()
                .call(unpacked.args())
        }
    })
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<StreamProtocols>(c"ioxide._StreamProtocols")
        .doc(c"Makes the protocols of a stream server.")
        .constructible::<StreamProtocols>()
        .slot(ffi::Py_tp_call, tp_call as *mut c_void)
        .build(&CLASS)?;
    Ok(())
}
