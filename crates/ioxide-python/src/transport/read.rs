//! The read path: from a readable descriptor to the protocol.

use super::base::os_error;
use super::channel::{Channel, Medium};
use super::closing;
use super::feed::Feed;
use super::receive::Received;
use crate::kit::buffer::Buffer;
use crate::kit::spare::SpareBytes;
use crate::kit::{err, value, Any, Obj, PyResult, Raised};
use crate::runtime::io::Side;
use crate::runtime::work::Work;
use crate::streams::protocol::StreamReaderProtocol;
use crate::streams::reader::StreamReader;
use crate::tls::TlsTransport;
use crate::{intern, raise};
use std::mem::MaybeUninit;

/// How often a transport reads when every read fills the buffer, before others have their turn.
const READS: usize = 4;

/// What became of a buffer that the protocol has offered.
enum Offered {
    /// The protocol was told; whether it was filled.
    Used(PyResult<Obj>, bool),
    Unused(Received),
    /// It cannot be written to.
    Unfit(Raised),
}

impl Channel {
    /// The descriptor is readable.
    pub(super) fn readable(&self) -> PyResult<()> {
        if self.medium == Medium::WritePipe {
            return self.reader_has_gone();
        }
        for _ in 0..READS {
            if !self.base.is_reading() || self.base.ended.get() {
                break;
            }
            let filled = match self.feed.get() {
                Feed::Data => self.read_data()?,
                Feed::Buffered => self.read_into_protocol()?,
                Feed::Stream => self.read_stream()?,
                Feed::Tls => self.read_tls()?,
            };
            if !filled {
                break;
            }
        }
        Ok(())
    }

    /// Reads bytes and delivers them; says whether there may be more.
    #[inline]
    fn read_data(&self) -> PyResult<bool> {
        let arrival = self
            .base
            .with_loop(|event_loop| Ok(self.receive_message(&event_loop.hub)))?;
        if let Some(message) = arrival.message {
            self.deliver(message)?;
        }
        match arrival.silence {
            Received::Nothing => Ok(arrival.more),
            silence => self.without_bytes(silence).map(|()| false),
        }
    }

    #[inline]
    fn deliver(&self, message: PyResult<SpareBytes>) -> PyResult<()> {
        let delivered = message.and_then(|message| {
            let told = self.base.call(intern!("data_received"), &[message.bytes()]);
            let kept = self.base.with_loop(|event_loop| {
                event_loop.hub.messages.keep(message);
                Ok(())
            });
            debug_assert!(kept.is_ok());
            told
        });
        self.delivered(delivered, "data_received")
    }

    /// Reads into the reader of a stream, or, if a stranger stands in its place, as for any protocol.
    #[inline]
    fn read_stream(&self) -> PyResult<bool> {
        let protocol = self.base.protocol.get_or_none();
        let reader = StreamReaderProtocol::untouched(&protocol)
            .and_then(StreamReaderProtocol::direct_reader);
        let Some(reader) = reader else {
            return self.read_data();
        };
        let (fed, silence) = self.receive_for(&reader)?;
        if !fed {
            return self.without_bytes(silence).map(|()| false);
        }
        // If the room was full, there may be more; but to join it with this costs more than another turn.
        self.delivered(reader.after_feeding(), "data_received")?;
        if !matches!(silence, Received::Nothing) {
            self.without_bytes(silence)?;
        }
        self.base.with_loop(|event_loop| {
            event_loop.polling.was_silent();
            event_loop.polling.has_brought(self.habit.last());
            Ok(false)
        })
    }

    /// Receives into the reader, which is told by the caller. Says whether there was anything, and what came in its place
    /// or behind it.
    #[inline]
    fn receive_for(&self, reader: &StreamReader) -> PyResult<(bool, Received)> {
        let mut taken = Ok(());
        let (fed, silence) = self.base.with_loop(|event_loop| {
            let hub = &event_loop.hub;
            if !reader.is_empty() {
                let space = hub.buffer();
                return Ok(match self.receive(space) {
                    Received::Bytes(count) => {
                        self.habit.was(count);
                        // SAFETY: the kernel has initialised as many bytes as it counts.
                        taken = reader.take_in(unsafe { space[..count].assume_init_ref() });
                        (true, Received::Nothing)
                    }
                    silence => (false, silence),
                });
            }
            let arrival = self.receive_message(hub);
            let fed = arrival.message.is_some();
            if let Some(message) = arrival.message {
                taken = message.and_then(|message| {
                    let taken = reader.take_in_object(message.bytes());
                    hub.messages.keep(message);
                    taken
                });
            }
            Ok((fed, arrival.silence))
        })?;
        self.delivered(taken, "data_received")?;
        Ok((fed, silence))
    }

    /// Reads into the buffer that the protocol offers; says whether that was filled. The connection's context is entered
    /// once for both of the protocol's methods; whatever else comes of it has to happen outside.
    fn read_into_protocol(&self) -> PyResult<bool> {
        let offered = self.base.within(|| {
            let hint = value::int(-1)?;
            let buffer = self.base.tell(intern!("get_buffer"), &[&hint])?;
            let (received, capacity) = match self.receive_offered(&buffer)? {
                Ok(received) => received,
                Err(raised) => return Ok(Offered::Unfit(raised)),
            };
            drop(buffer);
            let Received::Bytes(count) = received else {
                return Ok(Offered::Unused(received));
            };
            let told = value::int(count as i64)
                .and_then(|number| self.base.tell(intern!("buffer_updated"), &[&number]));
            Ok(Offered::Used(told, count == capacity))
        });
        match offered {
            Ok(Offered::Used(told, filled)) => {
                self.delivered(told, "buffer_updated").map(|()| filled)
            }
            Ok(Offered::Unused(received)) => self.without_bytes(received).map(|()| false),
            Ok(Offered::Unfit(raised)) => self.failed_read(raised).map(|()| false),
            Err(raised) => self.failed_call(raised, "get_buffer").map(|()| false),
        }
    }

    /// Receives into an object's buffer; says what, and how large that is. The error within is that of an object which
    /// cannot be written to, found when the bytes were to be received.
    #[inline]
    fn receive_offered(&self, offered: &Any) -> PyResult<Result<(Received, usize), Raised>> {
        let receive = |space: &mut [MaybeUninit<u8>]| (self.receive(space), space.len());
        if let Some(done) = offered.with_bytearray_space(receive) {
            return Ok(Ok(done));
        }
        match Buffer::writable(offered) {
            Ok(mut buffer) if buffer.len() > 0 => Ok(Ok(receive(buffer.space()))),
            Ok(_) => Err(empty_buffer()),
            Err(raised) => {
                err::discard(raised);
                if offered.len()? == 0 {
                    return Err(empty_buffer());
                }
                Ok(Err(raise!(
                    err::type_error(),
                    "recv_into() argument 1 must be read-write bytes-like object, not {}",
                    offered.type_name()
                )))
            }
        }
    }

    /// Reads encrypted bytes, which the TLS transport above decrypts where they are.
    #[inline]
    fn read_tls(&self) -> PyResult<bool> {
        let protocol = self.base.protocol.get_or_none();
        let Some(tls) = protocol.exact::<TlsTransport>() else {
            return self.read_data();
        };
        let mut told = Ok(());
        let mut capacity = 0;
        let received = self.base.with_loop(|event_loop| {
            // Taken out, since what is decrypted may reach code of the program while it is in use.
            let mut space = event_loop.hub.take_buffer();
            capacity = space.len();
            let received = self.receive(&mut space);
            if let Received::Bytes(count) = received {
                // SAFETY: the kernel has initialised as many bytes as it counts.
                let bytes = unsafe { space[..count].assume_init_ref() };
                told = if tls.calls_program() {
                    self.base.within(|| tls.arrived(bytes))
                } else {
                    tls.arrived(bytes)
                };
            }
            event_loop.hub.return_buffer(space);
            Ok(received)
        })?;
        match received {
            Received::Bytes(count) => {
                self.delivered(told, "buffer_updated")?;
                Ok(count == capacity)
            }
            received => self.without_bytes(received).map(|()| false),
        }
    }

    /// What a protocol raises when bytes reach it ends the connection.
    #[inline]
    fn delivered<T>(&self, result: PyResult<T>, method: &str) -> PyResult<()> {
        match result {
            Ok(_) => Ok(()),
            Err(raised) => self.failed_call(raised, method),
        }
    }

    #[cold]
    fn failed_call(&self, raised: Raised, method: &str) -> PyResult<()> {
        if self.medium == Medium::ReadPipe && method == "data_received" {
            // As asyncio: told as any callback's exception, and the pipe stays open.
            return Err(raised);
        }
        // What the protocol wrote before it failed still goes out.
        let flushed = err::preserved(|| self.base.flush().map_err(err::take));
        let message = format!("Fatal error: protocol.{method}() call failed.");
        closing::fatal(&self.base, raised, &message)?;
        flushed.map_err(err::restore)
    }

    #[cold]
    fn without_bytes(&self, received: Received) -> PyResult<()> {
        match received {
            Received::Bytes(_) | Received::Nothing => Ok(()),
            Received::Eof => self.end_of_stream(),
            Received::Failed(error) => self.failed_read(os_error(&error)),
        }
    }

    #[cold]
    fn failed_read(&self, raised: Raised) -> PyResult<()> {
        let message = format!("Fatal read error on {}", self.base.kind.what);
        closing::fatal(&self.base, raised, &message)
    }

    /// The other end will send no more.
    fn end_of_stream(&self) -> PyResult<()> {
        if self.medium == Medium::ReadPipe {
            return self.writer_has_gone();
        }
        self.base.log("debug", "%r received EOF")?;
        self.base.ended.set(true);
        let answer = match self.base.streams() {
            Some(streams) => self.base.within(|| streams.eof_received()),
            None => {
                let answer = self.base.call(intern!("eof_received"), &[]);
                answer.and_then(|answer| answer.truthy())
            }
        };
        match answer {
            Ok(true) => {
                // The program may still write; to watch on would report the end over and over.
                self.base.end_reading();
                Ok(())
            }
            Ok(false) => closing::close(&self.base),
            Err(raised) => self.failed_call(raised, "eof_received"),
        }
    }

    /// A pipe that is read: nobody has its other end.
    fn writer_has_gone(&self) -> PyResult<()> {
        self.base.log("info", "%r was closed by peer")?;
        self.base.ended.set(true);
        self.base.closing.set(true);
        self.base.conn_lost.set(1);
        self.base.unwatch(Side::Read);
        self.base.eof_due.set(true);
        self.base.with_loop(|event_loop| {
            event_loop.push(Work::Fire(self.base.target_own()));
            event_loop.push(Work::Fire(self.base.target_own()));
            Ok(())
        })
    }

    /// A pipe that is written to becomes readable when nobody reads it any more.
    fn reader_has_gone(&self) -> PyResult<()> {
        if self.base.conn_lost.get() > 0 {
            return Ok(());
        }
        self.base.log("info", "%r was closed by peer")?;
        let broken = (self.base.waiting() > 0)
            .then(|| err::broken_pipe().call0())
            .transpose()?;
        closing::force(&self.base, broken)
    }
}

/// The buffer that a protocol offers, which must have room.
pub(crate) fn offered_buffer(offered: &Any) -> PyResult<Buffer> {
    let buffer = Buffer::writable(offered)?;
    if buffer.len() == 0 {
        return Err(empty_buffer());
    }
    Ok(buffer)
}

#[cold]
fn empty_buffer() -> Raised {
    raise!(
        err::runtime_error(),
        "get_buffer() returned an empty buffer"
    )
}
