//! What is decrypted goes to the program: as bytes, into its buffer, or into a reader of ours.

use super::transport::TlsTransport;
use crate::intern;
use crate::kit::buffer::Buffer;
use crate::kit::spare::SpareBytes;
use crate::kit::{err, value, Obj, PyResult, Raised};
use crate::streams::protocol::StreamReaderProtocol;
use crate::transport::feed::Feed;
use crate::transport::messages::{LONGEST, SHORTEST};
use crate::transport::read::offered_buffer;
use ioxide_core::tls::engine::{fill, End, Engine, Filled};
use ioxide_core::tls::machine::Delivered;
use std::mem::MaybeUninit;

/// How a delivery ends, with the exception taken so that what came before it can be delivered.
enum Outcome {
    More,
    Drained,
    Closed,
    Failed(Obj),
}

impl From<End<Raised>> for Outcome {
    #[inline]
    fn from(end: End<Raised>) -> Outcome {
        match end {
            End::Full => Outcome::More,
            End::Drained => Outcome::Drained,
            End::Closed => Outcome::Closed,
            End::Failed(raised) => Outcome::Failed(err::take(raised)),
        }
    }
}

impl TlsTransport {
    /// Decrypts what has arrived and delivers it, until nothing is left or the program wants no more.
    #[inline]
    pub(super) fn deliver_plain(&self) -> PyResult<Delivered> {
        while self.wants_more() {
            if self.engine.is_drained() {
                return Ok(Delivered::All);
            }
            let outcome = match self.feed.get() {
                Feed::Data => self.deliver_data()?,
                Feed::Buffered => self.deliver_into_protocol()?,
                Feed::Stream => self.deliver_to_stream()?,
                Feed::Tls => self.deliver_to_tls()?,
            };
            match outcome {
                Outcome::More => {}
                Outcome::Drained => return Ok(Delivered::All),
                Outcome::Closed => return Ok(Delivered::Closed),
                Outcome::Failed(exception) => return Err(err::restore(exception)),
            }
        }
        Ok(Delivered::Held)
    }

    /// Whether the program takes bytes: it may have paused, or ended the connection, in between.
    #[inline]
    fn wants_more(&self) -> bool {
        !self.machine.is_paused() && self.machine.is_flowing()
    }

    /// Decrypts into the loop's buffer; `f` takes what has come, and runs no Python code.
    #[inline]
    fn decrypt<R>(&self, f: impl FnOnce(&[u8]) -> R) -> PyResult<(Option<R>, Outcome)> {
        let mut taken = None;
        let mut outcome = Outcome::Drained;
        self.with_loop(|event_loop| {
            let mut space = event_loop.hub.take_plain();
            let Filled { count, end } = fill(&self.engine, &mut space[..]);
            outcome = end.into();
            if count > 0 {
                // SAFETY: the engine has initialised as many bytes as it counts.
                taken = Some(f(unsafe { space[..count].assume_init_ref() }));
            }
            event_loop.hub.return_plain(space);
            Ok(())
        })?;
        Ok((taken, outcome))
    }

    #[inline]
    fn deliver_data(&self) -> PyResult<Outcome> {
        let (message, outcome) = self.decrypt_message()?;
        if let Some(message) = message {
            let protocol = self.protocol.get_or_none();
            let told = protocol.method(intern!("data_received"), &[message.bytes()]);
            self.keep(message)?;
            told?;
        }
        Ok(outcome)
    }

    /// Decrypts into a bytes object, which is to be [kept](Self::keep) when it was given to the program.
    #[inline]
    fn decrypt_message(&self) -> PyResult<(Option<SpareBytes>, Outcome)> {
        let most = self.engine.readable_at_most();
        if most >= SHORTEST {
            return self.decrypt_in_place(most.min(LONGEST));
        }
        let (data, outcome) = self.decrypt(value::bytes)?;
        Ok((data.transpose()?.map(SpareBytes::fixed), outcome))
    }

    /// Decrypts right into a bytes object: at least half of it is used, since whoever keeps it keeps all of its memory.
    #[inline]
    fn decrypt_in_place(&self, most: usize) -> PyResult<(Option<SpareBytes>, Outcome)> {
        let mut outcome = Outcome::Drained;
        let message = self.with_loop(|event_loop| {
            // It is nobody's meanwhile, so that code which a failing read may run cannot come upon it.
            let messages = &event_loop.hub.messages;
            let mut spare = messages.with_room(most)?;
            let filled = spare.fill(|space| {
                let Filled { count, end } = fill(&self.engine, space);
                outcome = end.into();
                if count > 0 {
                    Ok(count)
                } else {
                    Err(())
                }
            });
            match filled {
                Ok(count) if count >= spare.room() / 2 => Ok(Some(spare)),
                Ok(_) => {
                    let copied = messages.copy(spare.bytes().bytes_content());
                    messages.keep(spare);
                    copied.map(Some)
                }
                Err(()) => {
                    messages.keep(spare);
                    Ok(None)
                }
            }
        })?;
        Ok((message, outcome))
    }

    /// The program has been given the message: when nobody has it any more, it becomes another one.
    #[inline]
    fn keep(&self, message: SpareBytes) -> PyResult<()> {
        self.with_loop(|event_loop| {
            event_loop.hub.messages.keep(message);
            Ok(())
        })
    }

    fn deliver_into_protocol(&self) -> PyResult<Outcome> {
        let protocol = self.protocol.get_or_none();
        let hint = value::int(self.engine.arrived() as i64)?;
        let offered = protocol.method(intern!("get_buffer"), &[&hint])?;
        let mut buffer: Buffer = offered_buffer(&offered)?;
        let Filled { count, end } = fill(&self.engine, buffer.space());
        let outcome = end.into();
        drop(buffer);
        if count > 0 {
            let number = value::int(count as i64)?;
            protocol.method(intern!("buffer_updated"), &[&number])?;
        }
        Ok(outcome)
    }

    /// Into the reader of a stream, or, if a stranger stands in its place, as for any protocol.
    #[inline]
    fn deliver_to_stream(&self) -> PyResult<Outcome> {
        let protocol = self.protocol.get_or_none();
        let reader = StreamReaderProtocol::untouched(&protocol)
            .and_then(StreamReaderProtocol::direct_reader);
        let Some(reader) = reader else {
            return self.deliver_data();
        };
        let most = self.engine.readable_at_most();
        let outcome = if most >= SHORTEST {
            let (message, outcome) = self.decrypt_in_place(most.min(LONGEST))?;
            if let Some(message) = message {
                let taken = reader.take_in_object(message.bytes());
                self.keep(message)?;
                taken?;
                reader.after_feeding()?;
            }
            outcome
        } else {
            let (taken, outcome) = self.decrypt(|bytes| reader.take_in(bytes))?;
            if let Some(taken) = taken {
                taken?;
                reader.after_feeding()?;
            }
            outcome
        };
        Ok(outcome)
    }

    /// Into another transport of this kind: TLS in TLS.
    fn deliver_to_tls(&self) -> PyResult<Outcome> {
        let protocol = self.protocol.get_or_none();
        let Some(inner) = protocol.exact::<TlsTransport>() else {
            return self.deliver_data();
        };
        let mut outcome = Outcome::Drained;
        self.with_loop(|event_loop| {
            let mut space: Vec<MaybeUninit<u8>> = event_loop.hub.take_plain();
            let Filled { count, end } = fill(&self.engine, &mut space[..]);
            outcome = end.into();
            // SAFETY: the engine has initialised as many bytes as it counts.
            let told = inner.arrived(unsafe { space[..count].assume_init_ref() });
            event_loop.hub.return_plain(space);
            told
        })?;
        Ok(outcome)
    }
}
