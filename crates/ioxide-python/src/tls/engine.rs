//! An `ssl.SSLObject`, driven natively where OpenSSL's functions are at hand, and by its methods where not.
//!
//! Handshake, goodbye and every failure are the object's own methods in either case: callbacks of the context run
//! as CPython runs them, and exceptions are CPython's.

use super::bio::Tape;
use super::openssl::{self, Native, Ssl};
use crate::kit::buffer::Buffer;
use crate::kit::{err, value, Any, Obj, ObjCell, PyResult, Raised, Visitor};
use crate::{import, intern};
use ioxide_core::tls::engine::{Failure, Read, Step, Written};
use std::cell::Cell;
use std::mem::MaybeUninit;

/// How many bytes one read by a method asks for: what one record holds.
const RECORD: usize = 16 * 1024;

/// Who encrypts.
enum Driver {
    /// OpenSSL, called from here. The pointer is good as long as the object is held.
    Native {
        native: Native,
        ssl: *mut Ssl,
        tape: Tape,
    },
    /// The object's methods, between two `ssl.MemoryBIO`s.
    Methods {
        incoming: ObjCell,
        outgoing: ObjCell,
    },
}

/// One end of an encrypted connection.
pub(super) struct Engine {
    object: ObjCell,
    driver: Driver,
    /// An operation runs, which may call the program: no other begins.
    busy: Cell<bool>,
}

impl Engine {
    /// `context.wrap_bio(…)`, and what is needed to drive it.
    pub(super) fn new(
        context: &Any,
        server_side: bool,
        server_hostname: Option<&Any>,
    ) -> PyResult<Engine> {
        let memory = import!("ssl", "MemoryBIO")?;
        let (incoming, outgoing) = (memory.call0()?, memory.call0()?);
        let none = Obj::none();
        let (object, native) = openssl::make_object(|| {
            context.attr(intern!("wrap_bio"))?.call_with(
                &[&incoming, &outgoing],
                &[
                    (intern!("server_side"), &value::bool(server_side)),
                    (intern!("server_hostname"), server_hostname.unwrap_or(&none)),
                ],
            )
        })?;
        let driver = native.and_then(|(native, ssl)| {
            let tape = Tape::new(native.functions)?;
            native.attach(ssl, &tape);
            Some(Driver::Native { native, ssl, tape })
        });
        Ok(Engine {
            object: ObjCell::new(object),
            driver: driver.unwrap_or_else(|| Driver::Methods {
                incoming: ObjCell::new(incoming),
                outgoing: ObjCell::new(outgoing),
            }),
            busy: Cell::new(false),
        })
    }

    pub(super) fn object(&self) -> Obj {
        self.object.get_or_none()
    }

    pub(super) fn is_native(&self) -> bool {
        matches!(self.driver, Driver::Native { .. })
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.object);
        if let Driver::Methods { incoming, outgoing } = &self.driver {
            visitor.cell(incoming);
            visitor.cell(outgoing);
        }
    }

    pub(super) fn clear(&self) {
        self.object.clear();
        if let Driver::Methods { incoming, outgoing } = &self.driver {
            incoming.clear();
            outgoing.clear();
        }
    }

    /// Runs an operation, unless one runs already or the object is gone.
    #[inline]
    fn exclusive<R>(&self, blocked: R, f: impl FnOnce() -> R) -> R {
        struct Busy<'a>(&'a Cell<bool>);
        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        if self.object.is_empty() || self.busy.replace(true) {
            return blocked;
        }
        let busy = Busy(&self.busy);
        let result = f();
        drop(busy);
        result
    }

    // --- encrypted bytes

    /// Runs `f` with encrypted bytes that have arrived.
    #[inline]
    pub(super) fn with_arrived<R>(&self, data: &[u8], f: impl FnOnce() -> R) -> PyResult<R> {
        match &self.driver {
            Driver::Native { tape, .. } => Ok(tape.lend(data, f)),
            Driver::Methods { .. } => {
                self.keep(data)?;
                Ok(f())
            }
        }
    }

    /// Keeps encrypted bytes that have arrived.
    pub(super) fn keep(&self, data: &[u8]) -> PyResult<()> {
        match &self.driver {
            Driver::Native { tape, .. } => tape.keep(data),
            Driver::Methods { incoming, .. } => {
                let bytes = value::bytes(data)?;
                incoming.get_or_none().method(intern!("write"), &[&bytes])?;
            }
        }
        Ok(())
    }

    /// How many encrypted bytes have arrived and were not decrypted.
    #[inline]
    pub(super) fn arrived(&self) -> usize {
        match &self.driver {
            Driver::Native { tape, .. } => tape.pending(),
            Driver::Methods { incoming, .. } => pending(incoming),
        }
    }

    /// How many encrypted bytes wait to be sent.
    #[inline]
    pub(super) fn to_send(&self) -> usize {
        match &self.driver {
            Driver::Native { tape, .. } => tape.output_len(),
            Driver::Methods { outgoing, .. } => pending(outgoing),
        }
    }

    /// Takes what is to be sent.
    #[inline]
    pub(super) fn take_output(&self) -> PyResult<Vec<u8>> {
        match &self.driver {
            Driver::Native { tape, .. } => Ok(tape.take_output()),
            Driver::Methods { outgoing, .. } => {
                if pending(outgoing) == 0 {
                    return Ok(Vec::new());
                }
                let outgoing = outgoing.get_or_none();
                Ok(outgoing.method0(intern!("read"))?.bytes_content().to_vec())
            }
        }
    }

    /// Keeps what is to be sent in memory of its own; gives the room back that it was in, if it was lent.
    pub(super) fn keep_output(&self) -> Option<Vec<u8>> {
        match &self.driver {
            Driver::Native { tape, .. } => tape.keep_output(),
            Driver::Methods { .. } => None,
        }
    }

    /// Gives room for what is to be sent, if that is of use.
    #[inline]
    pub(super) fn give_room(&self, spare: impl FnOnce() -> Vec<u8>) {
        if let Driver::Native { tape, .. } = &self.driver {
            tape.give_room(spare);
        }
    }

    /// How many bytes can be read at most, without more from the other end.
    #[inline]
    pub(super) fn readable_at_most(&self) -> usize {
        match &self.driver {
            Driver::Native { .. } if self.object.is_empty() => 0,
            Driver::Native { native, ssl, tape } => tape.pending() + native.pending(*ssl),
            Driver::Methods { incoming, .. } => pending(incoming) + RECORD,
        }
    }

    // --- by methods

    fn step(&self, method: &'static Any) -> Result<Step, Failure<Raised>> {
        let called = self.object.get_or_none().method0(method);
        match called {
            Ok(_) => Ok(Step::Done),
            Err(raised) => match Complaint::of(raised) {
                Complaint::Blocked => Ok(Step::Blocked),
                Complaint::Protocol(raised) => Err(Failure::Protocol(raised)),
                Complaint::Other(raised) => Err(Failure::Other(raised)),
            },
        }
    }

    /// By the object's method; also what a failed native read ends with, since the object knows how to tell of it.
    #[cold]
    fn read_by_method(&self, space: &mut [MaybeUninit<u8>]) -> PyResult<Read> {
        let most = value::int(space.len().min(RECORD) as i64)?;
        match self.object.get_or_none().method(intern!("read"), &[&most]) {
            Ok(bytes) => {
                let bytes = bytes.bytes_content();
                if bytes.is_empty() {
                    return Ok(Read::Closed);
                }
                let count = bytes.len().min(space.len());
                for (slot, byte) in space.iter_mut().zip(bytes) {
                    slot.write(*byte);
                }
                Ok(Read::Bytes(count))
            }
            Err(raised) => match Complaint::of(raised) {
                Complaint::Blocked => Ok(Read::Blocked),
                Complaint::Protocol(raised) | Complaint::Other(raised) => Err(raised),
            },
        }
    }

    /// As [`Engine::read_by_method`], to write.
    #[cold]
    fn write_by_method(&self, data: &[u8]) -> PyResult<Written> {
        let bytes = value::bytes(data)?;
        match self
            .object
            .get_or_none()
            .method(intern!("write"), &[&bytes])
        {
            Ok(count) => Ok(Written::Bytes(count.to_i64()?.max(1) as usize)),
            Err(raised) => match Complaint::of(raised) {
                Complaint::Blocked => Ok(Written::Blocked),
                Complaint::Protocol(raised) | Complaint::Other(raised) => Err(raised),
            },
        }
    }
}

impl ioxide_core::tls::engine::Engine for Engine {
    type Error = Raised;

    fn handshake(&self) -> Result<Step, Failure<Raised>> {
        self.exclusive(Ok(Step::Blocked), || self.step(intern!("do_handshake")))
    }

    fn unwrap(&self) -> Result<Step, Failure<Raised>> {
        self.exclusive(Ok(Step::Blocked), || self.step(intern!("unwrap")))
    }

    #[inline]
    fn read(&self, space: &mut [MaybeUninit<u8>]) -> PyResult<Read> {
        self.exclusive(Ok(Read::Blocked), || {
            if let Driver::Native { native, ssl, .. } = &self.driver {
                if let Some(read) = native.read(*ssl, space) {
                    return Ok(read);
                }
            }
            self.read_by_method(space)
        })
    }

    #[inline]
    fn write(&self, data: &[u8]) -> PyResult<Written> {
        self.exclusive(Ok(Written::Blocked), || {
            if let Driver::Native { native, ssl, .. } = &self.driver {
                if let Some(written) = native.write(*ssl, data) {
                    return Ok(written);
                }
            }
            self.write_by_method(data)
        })
    }

    #[inline]
    fn is_drained(&self) -> bool {
        match &self.driver {
            Driver::Native { native, ssl, tape } => {
                tape.pending() == 0 && (self.object.is_empty() || native.pending(*ssl) == 0)
            }
            // What the object has decrypted and not given away it does not tell cheaply.
            Driver::Methods { .. } => self.object.is_empty(),
        }
    }
}

/// `bio.pending`.
fn pending(bio: &ObjCell) -> usize {
    let Some(bio) = bio.get() else { return 0 };
    let count = bio
        .attr(intern!("pending"))
        .and_then(|count| count.to_i64());
    match count {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(raised) => {
            err::unraisable(raised, &bio);
            0
        }
    }
}

/// What a method of the object has raised.
enum Complaint {
    /// It says "try again when more has come".
    Blocked,
    /// It is about the protocol.
    Protocol(Raised),
    Other(Raised),
}

impl Complaint {
    #[cold]
    fn of(raised: Raised) -> Complaint {
        // Out of the way, since the first import below may run code.
        let exception = err::take(raised);
        let is = |class: PyResult<&'static Any>| match class {
            Ok(class) => err::is_a(&exception, class),
            Err(raised) => {
                err::unraisable(raised, &exception);
                false
            }
        };
        if is(import!("ssl", "SSLWantReadError")) || is(import!("ssl", "SSLSyscallError")) {
            Complaint::Blocked
        } else if is(import!("ssl", "SSLError")) {
            Complaint::Protocol(err::restore(exception))
        } else {
            Complaint::Other(err::restore(exception))
        }
    }
}

/// The bytes of any object that has some, by `f`.
pub(super) fn with_bytes<R>(object: &Any, f: impl FnOnce(&[u8]) -> R) -> PyResult<R> {
    if object.is_bytes() {
        return Ok(f(object.bytes_content()));
    }
    let view = Buffer::readable(object)?;
    Ok(f(view.bytes()))
}
