//! A connection to an address that is a number: socket, attempt and transport in one awaitable.
//!
//! There is no socket object unless somebody asks for it, and no future. Names, sockets that a program brings and
//! encrypted connections take the longer way, in `python/ioxide/connect.py`. `open_connection()` comes here by itself,
//! and has its reader and writer from here.

use super::address;
use super::channel::SocketTransport;
use super::create::native_loop;
use super::descriptor::Descriptor;
use crate::awaitable::{spec, Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{
    audit, context, err, value, Any, Args, Class, Native, Obj, ObjCell, PyResult, Raised,
    Signature, Visitor,
};
use crate::runtime::io::{cancel, Side, Watcher};
use crate::runtime::target::{TargetKind, Told};
use crate::runtime::EventLoop;
use crate::streams::protocol::StreamReaderProtocol;
use crate::streams::reader::StreamReader;
use crate::streams::writer::StreamWriter;
use crate::{import, intern, running};
use ioxide_core::net::address::Address;
use ioxide_core::net::socket::{self, Connect};
use std::cell::{Cell, UnsafeCell};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The kernel tries.
    Connecting,
    /// It has tried in vain, with this error: the task gives way for a turn before it hears of it.
    Failed(i32),
    /// The protocol is about to be told.
    Made,
}

/// The awaitable of a connection.
pub(crate) type Connection = Waiting<ConnectionState>;

pub(crate) struct ConnectionState {
    event_loop: ObjCell,
    /// Makes the protocol, unless there is one already.
    factory: ObjCell,
    /// Of `open_connection()`, which gets a reader and a writer in place of transport and protocol.
    reader: ObjCell,
    /// The address as the program has given it.
    given: ObjCell,
    transport: ObjCell,
    protocol: ObjCell,
    address: Address,
    /// The socket until the transport has it. Never borrowed while Python code runs.
    descriptor: UnsafeCell<Option<Descriptor>>,
    stage: Cell<Stage>,
}

static CLASS: Class = Class::new();

// SAFETY: begins with `Wait`, whose kind begins with the `Told::KIND` given here.
unsafe impl Told for Connection {
    fn writable(&self) -> PyResult<()> {
        self.wait.wake()
    }
}

impl Awaitable for Connection {
    const NAME: &'static str = "create_connection";
    const TOLD: TargetKind = <Connection as Told>::KIND;

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(32);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
        // SAFETY: the borrow ends before anything else runs.
        if let Some(descriptor) = unsafe { &*self.descriptor.get() } {
            descriptor.traverse(visitor);
        }
    }

    fn unlink(&self) {
        ObjCell::clear_all(self.cells());
        drop(self.take_descriptor());
    }

    fn start(&self) -> PyResult<Flow> {
        let family = self.address.family();
        let fd = socket::create(family, libc::SOCK_STREAM, libc::IPPROTO_TCP)
            .map_err(|error| err::raise_os(&error))?;
        self.put_descriptor(Descriptor::owned(fd));
        self.closed_unless(self.begin())
    }

    fn resume(&self) -> PyResult<Flow> {
        let next = match self.stage.get() {
            Stage::Connecting => self.tried(),
            Stage::Failed(code) => Err(self.refused(code)),
            Stage::Made => return self.made().map(Flow::Return),
        };
        self.closed_unless(next)
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.unwatch()?;
        self.close();
        if let Some(transport) = self.transport.take() {
            transport.method0(intern!("close"))?;
        }
        Err(err::raise_instance(&exception))
    }
}

impl Connection {
    fn cells(&self) -> [&ObjCell; 6] {
        [
            &self.event_loop,
            &self.factory,
            &self.reader,
            &self.given,
            &self.transport,
            &self.protocol,
        ]
    }

    fn put_descriptor(&self, descriptor: Descriptor) {
        // SAFETY: nobody has a borrow: see the field.
        unsafe { *self.descriptor.get() = Some(descriptor) };
    }

    fn take_descriptor(&self) -> Option<Descriptor> {
        // SAFETY: as above.
        unsafe { (*self.descriptor.get()).take() }
    }

    fn fd(&self) -> i32 {
        // SAFETY: as above; the borrow ends with the expression.
        unsafe { (*self.descriptor.get()).as_ref() }.map_or(-1, Descriptor::number)
    }

    /// What the program gets of a connection that is made.
    fn made(&self) -> PyResult<Obj> {
        let transport = self.transport.take().unwrap_or_else(Obj::none);
        let protocol = self.protocol.take().unwrap_or_else(Obj::none);
        let Some(reader) = self.reader.take() else {
            return value::tuple(&[&transport, &protocol]);
        };
        let event_loop = self.event_loop.get_or_none();
        let writer = StreamWriter::new(&transport, &protocol, Some(reader.clone()), event_loop)?;
        value::tuple(&[&*reader, writer.as_any()])
    }

    /// The transport has told its protocol: the task goes on.
    pub(super) fn is_made(&self) -> PyResult<()> {
        self.wait.wake()
    }

    fn begin(&self) -> PyResult<Flow> {
        audit::connect(&|| self.socket_object(), &self.given.get_or_none())?;
        let fd = self.fd();
        let tried = socket::connect(fd, &self.address);
        // Whoever is to accept may be on this loop.
        native_loop(&self.event_loop.get_or_none())?
            .polling
            .attend();
        match tried {
            Ok(Connect::Done) => return self.connected(),
            Ok(Connect::InProgress) => {}
            Err(error) => return Err(err::raise_os(&error)),
        }
        // With a peer on this machine all is said by now, and to ask again costs less than to wait for the answer.
        match socket::connect(fd, &self.address) {
            Ok(Connect::Done) => self.connected(),
            Ok(Connect::InProgress) => self.watch(),
            Err(error) => match error.raw_os_error() {
                Some(libc::EISCONN) => self.connected(),
                Some(libc::EALREADY) => self.watch(),
                code => {
                    // Who tries again and again must not keep the others from running: perhaps the server is
                    // one of them.
                    self.stage.set(Stage::Failed(code.unwrap_or(libc::EIO)));
                    Ok(Flow::Yield)
                }
            },
        }
    }

    /// For audit hooks, which want to see the socket.
    #[cold]
    fn socket_object(&self) -> PyResult<Obj> {
        let Some(descriptor) = self.take_descriptor() else {
            return Ok(Obj::none());
        };
        let made = descriptor.socket();
        self.put_descriptor(descriptor);
        Ok(made?.unwrap_or_else(Obj::none))
    }

    fn watch(&self) -> PyResult<Flow> {
        let object = self.event_loop.get_or_none();
        let watcher = Watcher::Once(self.target());
        // Whoever has watched the number before has not heard that it was closed.
        let before = native_loop(&object)?.watch(self.fd(), Side::Write, watcher)?;
        cancel(before)?;
        Ok(Flow::Park)
    }

    fn unwatch(&self) -> PyResult<()> {
        let fd = self.fd();
        if fd >= 0 {
            let object = self.event_loop.get_or_none();
            native_loop(&object)?.unwatch_own(fd, Side::Write, self.as_any());
        }
        Ok(())
    }

    /// The attempt is over.
    fn tried(&self) -> PyResult<Flow> {
        self.unwatch()?;
        match socket::take_error(self.fd()) {
            Ok(()) => self.connected(),
            Err(error) => Err(self.refused(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    /// The error of an attempt that was under way, in asyncio's words.
    #[cold]
    fn refused(&self, code: i32) -> Raised {
        let text = format!(
            "Connect call failed {}",
            self.given.get_or_none().repr_text()
        );
        let made = value::str(&text).and_then(|text| {
            let code = value::int(code.into())?;
            err::os_error().call(&[&*code, &*text])
        });
        match made {
            Ok(exception) => err::restore(exception),
            Err(raised) => raised,
        }
    }

    /// Makes the transport, which will tell the protocol in the next turn.
    fn connected(&self) -> PyResult<Flow> {
        let protocol = match self.protocol.get() {
            Some(protocol) => protocol,
            None => self.factory.get_or_none().call0()?,
        };
        let object = self.event_loop.get_or_none();
        let event_loop = native_loop(&object)?;
        event_loop.refuse_if_closed()?;
        let Some(descriptor) = self.take_descriptor() else {
            return Err(err::raise_os(&io::Error::from_raw_os_error(libc::EBADF)));
        };
        let transport = SocketTransport::create(event_loop, &protocol, descriptor)?;
        let base = &transport.channel().base;
        base.learn_addresses(self.known_peer());
        base.set_no_delay();
        let context = context::copy_current()?;
        base.equip(Some(self.as_any()), Some(&context));
        base.schedule_begin()?;
        self.stage.set(Stage::Made);
        self.transport.set(transport.into_obj());
        self.protocol.set(protocol);
        Ok(Flow::Park)
    }

    /// The peer's address, unless the kernel has chosen it.
    fn known_peer(&self) -> Option<Address> {
        let is_chosen = match &self.address {
            Address::V4(v4) => v4.ip().is_unspecified(),
            Address::V6(v6) => v6.ip().is_unspecified(),
            _ => true,
        };
        (!is_chosen).then(|| self.address.clone())
    }

    fn close(&self) {
        if let Some(descriptor) = self.take_descriptor() {
            descriptor.close().unwrap_or_else(err::discard);
        }
    }

    fn closed_unless(&self, next: PyResult<Flow>) -> PyResult<Flow> {
        if next.is_err() {
            err::preserved(|| self.close());
        }
        next
    }
}

/// `_connection(loop, protocol_factory, host, port, family, proto)`: the awaitable; None if that is not an address
/// of this family which needs no lookup, or if the loop has a way of its own to connect.
pub(crate) fn connection(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<6> = Signature::new(
        "_connection",
        [
            "loop",
            "protocol_factory",
            "host",
            "port",
            "family",
            "proto",
        ],
        6,
    );
    let [Some(event_loop), Some(factory), Some(host), Some(port), Some(family), Some(proto)] =
        args.bind(&SIGNATURE)?
    else {
        return Ok(Obj::none());
    };
    let event_loop = native_loop(event_loop)?;
    let Some(address) = address_for(event_loop, host, port) else {
        return Ok(Obj::none());
    };
    let of_family = match family.to_i64()? as i32 {
        libc::AF_UNSPEC => true,
        family => family == address.family(),
    };
    let of_protocol = matches!(proto.to_i64()? as i32, 0 | libc::IPPROTO_TCP);
    if !of_family || !of_protocol {
        return Ok(Obj::none());
    }
    let parts = Parts {
        factory: ObjCell::new(factory.own()),
        reader: ObjCell::empty(),
        protocol: ObjCell::empty(),
    };
    let given = address::as_given(&address, host, port)?;
    make(event_loop, address, given, parts)
}

/// `_stream_connection(host, port, limit)`: the awaitable of a reader and a writer on the running loop; None where
/// `create_connection()` has to be asked. The caller has seen to it that `socket.socket` is the original.
pub(crate) fn stream_connection(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<3> =
        Signature::new("_stream_connection", ["host", "port", "limit"], 3);
    let [Some(host), Some(port), Some(limit)] = args.bind(&SIGNATURE)? else {
        return Ok(Obj::none());
    };
    let Some(running) = running::running_loop()? else {
        return Ok(Obj::none());
    };
    let object = &*running;
    let Some(event_loop) = EventLoop::of(object) else {
        return Ok(Obj::none());
    };
    if !connects_streams_itself(object)? {
        return Ok(Obj::none());
    }
    let Some(address) = address_for(event_loop, host, port) else {
        return Ok(Obj::none());
    };
    let reader = StreamReader::with(Some(limit), object)?;
    let protocol = StreamReaderProtocol::of_client(&reader, object)?;
    let parts = Parts {
        factory: ObjCell::empty(),
        reader: ObjCell::new(reader.into_obj()),
        protocol: ObjCell::new(protocol.into_obj()),
    };
    let given = address::as_given(&address, host, port)?;
    make(event_loop, address, given, parts)
}

/// Whether nobody has replaced what connects in the loop's class, or in the class of sockets. Python code finds that
/// out, and again when one of the classes has changed.
fn connects_streams_itself(event_loop: &Any) -> PyResult<bool> {
    static LOOPS: AtomicU32 = AtomicU32::new(0);
    static SOCKETS: AtomicU32 = AtomicU32::new(0);

    let class = event_loop.class();
    let sockets = import!("ioxide.connect", "_Socket")?;
    let is =
        |version: u32, known: &AtomicU32| version != 0 && version == known.load(Ordering::Relaxed);
    if is(class.version(), &LOOPS) && is(sockets.version(), &SOCKETS) {
        return Ok(true);
    }
    let check = import!("ioxide.connect", "connects_streams_itself")?;
    if !check.call1(class)?.truthy()? {
        return Ok(false);
    }
    LOOPS.store(class.version(), Ordering::Relaxed);
    SOCKETS.store(sockets.version(), Ordering::Relaxed);
    Ok(true)
}

/// The address, if it needs no lookup and nobody has replaced what connects on this loop.
fn address_for(event_loop: &EventLoop, host: &Any, port: &Any) -> Option<Address> {
    if event_loop.own_connecting.get() {
        return None;
    }
    address::of_host(host, port)
}

/// What a connection is made for.
struct Parts {
    factory: ObjCell,
    reader: ObjCell,
    protocol: ObjCell,
}

fn make(event_loop: &EventLoop, address: Address, given: Obj, parts: Parts) -> PyResult<Obj> {
    let body = Connection::with(ConnectionState {
        event_loop: ObjCell::new(event_loop.object()),
        factory: parts.factory,
        reader: parts.reader,
        given: ObjCell::new(given),
        transport: ObjCell::empty(),
        protocol: parts.protocol,
        address,
        descriptor: UnsafeCell::new(None),
        stage: Cell::new(Stage::Connecting),
    });
    Ok(body.make()?.into_obj())
}

/// `_is_numeric(address, family)`: whether an address tuple is one of this family and needs no lookup.
pub(crate) fn is_numeric(args: Args<'_>) -> PyResult<bool> {
    const SIGNATURE: Signature<2> = Signature::new("_is_numeric", ["address", "family"], 2);
    let [Some(given), Some(family)] = args.bind(&SIGNATURE)? else {
        return Ok(false);
    };
    Ok(address::numeric(given, family.to_i64()? as i32).is_some())
}

pub(super) fn build() -> PyResult<()> {
    spec::<Connection>(c"ioxide.Connection").build(&CLASS)?;
    Ok(())
}
