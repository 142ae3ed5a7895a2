//! Datagrams: each goes out at once or waits whole, and comes in with the address of its sender.

use super::base::{self, os_error, Base, Kind};
use super::channel;
use super::descriptor::Descriptor;
use super::write::is_bytes_like;
use super::{address, closing, create, methods};
use crate::kit::buffer::Buffer;
use crate::kit::spare::SpareBytes;
use crate::kit::{
    err, value, Any, Args, Class, Native, Obj, ObjCell, Own, PyResult, Signature, Visitor,
};
use crate::runtime::io::Side;
use crate::runtime::target::Told;
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::{intern, raise};
use ioxide_core::net::address::RawAddress;
use ioxide_core::net::datagram::{receive_batch, send_to, BATCH};
use ioxide_core::sys;
use std::cell::{Cell, UnsafeCell};
use std::collections::{HashMap, VecDeque};
use std::io;

/// How many batches are received before others have their turn.
const BATCHES: usize = 8;
/// How many peers are remembered.
const PEERS: usize = 256;
/// What a waiting datagram counts besides its bytes.
const HEADER: usize = 8;

/// `ioxide.DatagramTransport`.
#[repr(C)]
pub(crate) struct DatagramTransport {
    base: Base,
    /// Where everything is sent; others may not be named.
    address: ObjCell,
    queue: UnsafeCell<VecDeque<Datagram>>,
    /// Received, and not delivered because the protocol has paused.
    received: UnsafeCell<VecDeque<Received>>,
    /// The bytes in the queue, with their headers.
    size: Cell<usize>,
    connected: Cell<bool>,
    family: Cell<i32>,
    /// Whose datagram was given to the protocol last, in both forms: the answer goes there.
    peer_raw: Cell<Option<RawAddress>>,
    peer: ObjCell,
    /// Others who have sent, up to [`PEERS`], so that an address is made into an object once.
    peers: UnsafeCell<HashMap<RawAddress, Obj>>,
}

/// A datagram that waits.
struct Datagram {
    /// A bytes object.
    data: Obj,
    /// The receiver or the sender, or `None`.
    address: Obj,
}

/// A datagram that has arrived.
struct Received {
    data: SpareBytes,
    /// The sender in both forms.
    address: Obj,
    raw: RawAddress,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for DatagramTransport {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.base.traverse(visitor);
        visitor.cell(&self.address);
        visitor.cell(&self.peer);
        let receivers = self.queue().iter().map(|datagram| &datagram.address);
        let senders = self.received().iter().map(|datagram| &datagram.address);
        for address in receivers.chain(senders).chain(self.peers().values()) {
            visitor.object(address);
        }
    }

    fn clear(&self) {
        self.base.clear();
        self.address.clear();
        self.peer.clear();
        self.discard();
        let undelivered = std::mem::take(self.received());
        drop(undelivered);
        let forgotten = std::mem::take(self.peers());
        drop(forgotten);
    }

    fn finalize(&self) {
        closing::abandoned(&self.base);
    }
}

// SAFETY: begins with `Target`.
unsafe impl Told for DatagramTransport {
    fn fire(&self) -> PyResult<()> {
        self.base.fire()
    }

    fn readable(&self) -> PyResult<()> {
        self.deliver()?;
        for _ in 0..BATCHES {
            if !self.base.is_reading() || !self.receive()? {
                break;
            }
        }
        Ok(())
    }

    fn writable(&self) -> PyResult<()> {
        self.send_waiting()
    }
}

unsafe fn waiting(object: &Any) -> usize {
    // SAFETY: the kind below belongs to this class only.
    unsafe { object.cast_unchecked::<DatagramTransport>() }
        .size
        .get()
}

unsafe fn flush(_: &Any) -> PyResult<()> {
    // Nothing is held back.
    Ok(())
}

unsafe fn discard(object: &Any) {
    // SAFETY: as above.
    unsafe { object.cast_unchecked::<DatagramTransport>() }.discard();
}

static KIND: Kind = Kind {
    name: "DatagramTransport",
    what: "datagram transport",
    object_key: "socket",
    file_mode: None,
    waiting,
    flush,
    discard,
    expected: base::is_os_error,
};

impl DatagramTransport {
    /// What was received when the protocol paused. No Python code may run while it is borrowed.
    #[allow(clippy::mut_from_ref, reason = "see the caller's promise")]
    fn received(&self) -> &mut VecDeque<Received> {
        // SAFETY: the interpreter lock is held, and by the caller's promise there is no other borrow.
        unsafe { &mut *self.received.get() }
    }

    /// Who has sent. No Python code may run while it is borrowed.
    #[allow(clippy::mut_from_ref, reason = "see the caller's promise")]
    fn peers(&self) -> &mut HashMap<RawAddress, Obj> {
        // SAFETY: the interpreter lock is held, and by the caller's promise there is no other borrow.
        unsafe { &mut *self.peers.get() }
    }

    /// The queue of datagrams to send. No Python code may run while it is borrowed.
    #[allow(clippy::mut_from_ref, reason = "see the caller's promise")]
    fn queue(&self) -> &mut VecDeque<Datagram> {
        // SAFETY: the interpreter lock is held, and by the caller's promise there is no other borrow.
        unsafe { &mut *self.queue.get() }
    }

    fn discard(&self) {
        let given_up = std::mem::take(self.queue());
        self.size.set(0);
        if !given_up.is_empty() {
            self.base.unwatch(Side::Write);
        }
        drop(given_up);
    }

    /// Receives what waits, up to a batch; says whether there may be more.
    fn receive(&self) -> PyResult<bool> {
        // A Unix socket's datagrams may be as large as the buffer.
        let parts = if self.family.get() == libc::AF_UNIX {
            1
        } else {
            BATCH
        };
        let mut failed = None;
        let mut batch: [Option<(SpareBytes, RawAddress)>; BATCH] = [const { None }; BATCH];
        self.base.with_loop(|event_loop| {
            let space = event_loop.hub.buffer();
            let size = space.len() / parts;
            let fd = self.base.descriptor.usable();
            let received = match fd.and_then(|fd| receive_batch(fd, space, parts)) {
                Ok(received) => received,
                Err(error) => {
                    failed = Some(error);
                    return Ok(());
                }
            };
            let filled = received.zip(space.chunks_exact(size));
            for (place, ((length, sender), part)) in batch.iter_mut().zip(filled) {
                // SAFETY: the kernel has initialised as many bytes as it counts.
                let data = event_loop
                    .hub
                    .messages
                    .copy(unsafe { part[..length].assume_init_ref() })?;
                *place = Some((data, sender));
            }
            Ok(())
        })?;
        // The buffer is no longer in use: what follows may run Python code.
        let mut count = 0;
        for (data, raw) in batch.into_iter().flatten() {
            let address = self.sender(raw)?;
            self.received().push_back(Received { data, address, raw });
            count += 1;
        }
        self.deliver()?;
        match failed {
            Some(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Some(error) => self.error_received(&error).map(|()| false),
            None => Ok(count == parts),
        }
    }

    /// Gives what was received to the protocol, unless that has paused.
    fn deliver(&self) -> PyResult<()> {
        while self.base.is_reading() {
            let Some(Received { data, address, raw }) = self.received().pop_front() else {
                break;
            };
            if raw.family() != libc::AF_UNSPEC && !self.peer.holds(&address) {
                self.peer_raw.set(Some(raw));
                self.peer.set(address.clone());
            }
            self.base
                .call(intern!("datagram_received"), &[data.bytes(), &address])?;
            self.base.with_loop(|event_loop| {
                event_loop.hub.messages.keep(data);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn resume_reading(&self) -> PyResult<()> {
        self.base.resume_reading()?;
        if self.received().is_empty() {
            return Ok(());
        }
        self.base.with_loop(|event_loop| {
            event_loop.push(Work::Readable(self.target()));
            Ok(())
        })
    }

    /// The sender as Python has it.
    fn sender(&self, raw: RawAddress) -> PyResult<Obj> {
        if self.peer_raw.get() == Some(raw) {
            if let Some(peer) = self.peer.get() {
                return Ok(peer);
            }
        }
        if raw.family() == libc::AF_UNSPEC {
            return Ok(Obj::none());
        }
        if let Some(peer) = self.peers().get(&raw) {
            return Ok(peer.clone());
        }
        let peer = address::to_python(&raw.decode())?;
        let peers = self.peers();
        let forgotten = (peers.len() >= PEERS).then(|| std::mem::take(peers));
        peers.insert(raw, peer.clone());
        drop(forgotten);
        Ok(peer)
    }

    #[cold]
    fn error_received(&self, error: &io::Error) -> PyResult<()> {
        let exception = err::take(os_error(error));
        self.told_of(&exception)
    }

    fn told_of(&self, exception: &Any) -> PyResult<()> {
        self.base
            .call(intern!("error_received"), &[exception])
            .map(drop)
    }

    /// `sendto(data, addr=None)`.
    fn sendto(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> = Signature::new("sendto", ["data", "addr"], 1);
        let [Some(data), address] = args.bind(&SIGNATURE)? else {
            return Ok(());
        };
        if !data.is_bytes() && !is_bytes_like(data) {
            return Err(raise!(
                err::type_error(),
                "data argument must be a bytes-like object, not '{}'",
                data.type_name()
            ));
        }
        let address = self.receiver(address.and_then(Any::some))?;
        if self.base.over.get() || self.base.conn_lost.get() > 0 && !self.address.is_empty() {
            return self.base.written_in_vain("socket.send() raised exception.");
        }
        if self.queue().is_empty() {
            let sent = if data.is_bytes() {
                self.send(data.bytes_content(), data, &address)
            } else {
                self.send(Buffer::readable(data)?.bytes(), data, &address)
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(Failure::Blocked) => self.base.watch(Side::Write)?,
                Err(Failure::Os(exception)) => return self.told_of(&exception),
                Err(Failure::Other(exception)) => {
                    let message = "Fatal write error on datagram transport";
                    return closing::fatal(&self.base, err::restore(exception), message);
                }
            }
        }
        let data = if data.is_bytes() {
            data.own()
        } else {
            value::bytes(Buffer::readable(data)?.bytes())?
        };
        self.size
            .set(self.size.get() + data.bytes_content().len() + HEADER);
        self.queue().push_back(Datagram { data, address });
        self.base.grown()
    }

    /// Where a datagram goes: the one address of the transport, if it has one.
    fn receiver(&self, given: Option<&Any>) -> PyResult<Obj> {
        let Some(own) = self.address.get() else {
            return Ok(given.map_or_else(Obj::none, Any::own));
        };
        match given {
            Some(given) if !given.equals(&own)? => Err(raise!(
                err::value_error(),
                "Invalid address: must be None or {}",
                own.repr_text()
            )),
            _ => Ok(own),
        }
    }

    /// Sends the bytes, which are those of `data`.
    fn send(&self, bytes: &[u8], data: &Any, receiver: &Any) -> Result<(), Failure> {
        let fd = self.base.descriptor.usable().map_err(Failure::from)?;
        if self.connected.get() {
            return sys::send(fd, bytes).map(drop).map_err(Failure::from);
        }
        match self.raw_receiver(receiver) {
            Some(raw) => send_to(fd, bytes, &raw).map(drop).map_err(Failure::from),
            // A name, or nonsense: the socket object knows what to do or to say.
            None => self.send_by_object(data, receiver),
        }
    }

    /// The receiver in the kernel's form, if that takes no lookup.
    fn raw_receiver(&self, receiver: &Any) -> Option<RawAddress> {
        if self.peer.holds(receiver) {
            return self.peer_raw.get();
        }
        let numeric = address::numeric(receiver, self.family.get());
        numeric.and_then(|address| address.encode().ok())
    }

    #[cold]
    fn send_by_object(&self, data: &Any, receiver: &Any) -> Result<(), Failure> {
        let sent = self
            .base
            .descriptor
            .socket()
            .and_then(|socket| match socket {
                Some(socket) => socket.method(intern!("sendto"), &[data, receiver]),
                None => Ok(Obj::none()),
            });
        let Err(raised) = sent else { return Ok(()) };
        if err::matches(err::blocking_io()) || err::matches(err::interrupted()) {
            err::discard(raised);
            return Err(Failure::Blocked);
        }
        let exception = err::take(raised);
        Err(if base::is_os_error(&exception) {
            Failure::Os(exception)
        } else {
            Failure::Other(exception)
        })
    }

    /// The descriptor takes datagrams again.
    fn send_waiting(&self) -> PyResult<()> {
        while !self.base.over.get() {
            let Some(Datagram { data, address }) = self.queue().pop_front() else {
                break;
            };
            let size = data.bytes_content().len() + HEADER;
            match self.send(data.bytes_content(), &data, &address) {
                Ok(()) => self.size.set(self.size.get().saturating_sub(size)),
                Err(Failure::Blocked) => {
                    self.queue().push_front(Datagram { data, address });
                    break;
                }
                Err(Failure::Os(exception)) => {
                    self.size.set(self.size.get().saturating_sub(size));
                    self.told_of(&exception)?;
                }
                Err(Failure::Other(exception)) => {
                    let message = "Fatal write error on datagram transport";
                    return closing::fatal(&self.base, err::restore(exception), message);
                }
            }
        }
        self.base.shrunk()?;
        if !self.queue().is_empty() || self.base.conn_lost.get() > 0 {
            return Ok(());
        }
        self.base.unwatch(Side::Write);
        if self.base.closing.get() {
            self.base.conn_lost.set(1);
            return closing::lost(&self.base);
        }
        Ok(())
    }
}

/// Why a datagram was not sent.
enum Failure {
    /// The kernel takes none for now.
    Blocked,
    /// An `OSError`, which is the protocol's to know.
    Os(Obj),
    /// Any other exception.
    Other(Obj),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Failure::Blocked;
        }
        Failure::Os(err::take(os_error(&error)))
    }
}

/// `_datagram_transport(loop, sock, protocol, waiter, address, context)`.
pub(crate) fn make(args: Args<'_>) -> PyResult<Own<DatagramTransport>> {
    const SIGNATURE: Signature<6> = Signature::new(
        "_datagram_transport",
        ["loop", "sock", "protocol", "waiter", "address", "context"],
        6,
    );
    let [Some(event_loop), Some(sock), Some(protocol), waiter, address, context] =
        args.bind(&SIGNATURE)?
    else {
        return Err(raise!(
            err::type_error(),
            "_datagram_transport() needs a socket"
        ));
    };
    let event_loop: &EventLoop = create::native_loop(event_loop)?;
    crate::runtime::io::refuse_transport(event_loop, crate::runtime::io::descriptor(sock)?)?;
    let descriptor = Descriptor::adopted(sock)?;
    let transport = DatagramTransport {
        base: Base::new(
            &DatagramTransport::KIND,
            &KIND,
            event_loop,
            protocol,
            descriptor,
        ),
        address: ObjCell::empty(),
        queue: UnsafeCell::new(VecDeque::new()),
        received: UnsafeCell::new(VecDeque::new()),
        size: Cell::new(0),
        connected: Cell::new(false),
        family: Cell::new(libc::AF_UNSPEC),
        peer_raw: Cell::new(None),
        peer: ObjCell::empty(),
        peers: UnsafeCell::new(HashMap::new()),
    }
    .make()?;
    let base = &transport.base;
    base.learn_addresses(None);
    let (local, peer) = base.known_addresses();
    transport
        .family
        .set(local.map_or(libc::AF_UNSPEC, |local| local.family()));
    transport.connected.set(peer.is_some());
    if let Some(address) = address.and_then(Any::some) {
        transport.address.set(address.own());
    }
    base.equip(waiter, context);
    base.schedule_begin()?;
    Ok(transport)
}

pub(super) fn build() -> PyResult<()> {
    // As asyncio's, it is an instance of both classes.
    channel::spec::<DatagramTransport>(
        c"ioxide.DatagramTransport",
        &["Transport", "DatagramTransport"],
    )?
    .doc(c"The transport of a datagram socket.\n\nAs asyncio.DatagramTransport: not thread-safe.")
    .methods(methods::pausing())
    .methods(methods::flow())
    .methods([
        crate::method!(noargs DatagramTransport, "resume_reading", DatagramTransport::resume_reading,
                "Delivers again. Does nothing unless reading is paused."),
        crate::method!(args DatagramTransport, "sendto", DatagramTransport::sendto,
                "sendto($self, data, addr=None)\n--\n\nSends a datagram, without waiting: one that the kernel \
                    does not take is kept.\n\naddr: where to; None for the remote_addr of the endpoint, \
                    ValueError for another. TypeError for what is not bytes-like. An OSError goes to the \
                    protocol's error_received()."),
        crate::method!(given Base, "set_protocol", "protocol",
                |this: &Base, protocol: &Any| this.protocol.set(protocol.own()),
                "Sets the protocol, which gets what arrives from now \
                    on."),
    ])
    .getset(methods::socket_properties())
    .getset([crate::getter!(
        DatagramTransport,
        "_address",
        |this: &DatagramTransport| this.address.get_or_none(),
        "Where everything is sent, or None."
    )])
    .build(&CLASS)?;
    Ok(())
}
