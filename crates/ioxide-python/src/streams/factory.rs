//! What makes a server's stream protocols, one for each connection.

use super::protocol::StreamReaderProtocol;
use super::reader::StreamReader;
use crate::kit::class::{self, Construct};
use crate::kit::{
    ffi, Any, Args, Class, ClassSpec, Head, Native, ObjCell, Own, PyResult, Raw, Signature, Visitor,
};
use std::ffi::c_void;

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
