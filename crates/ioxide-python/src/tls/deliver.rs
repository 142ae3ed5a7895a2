//! What is decrypted goes to the program: as bytes, into its buffer, or into a reader of ours.

use super::transport::TlsTransport;
use crate::intern;
use crate::kit::buffer::Buffer;
use crate::kit::{err, value, Obj, PyResult, Raised};
use crate::streams::protocol::StreamReaderProtocol;
use crate::transport::feed::Feed;
use crate::transport::read::offered_buffer;
use ioxide_core::tls::engine::{fill, End, Engine, Filled};
use ioxide_core::tls::machine::Delivered;
use std::mem::MaybeUninit;

/// From this many bytes on they are decrypted right into a bytes object, which is cut to size then: cheaper than to
/// copy them.
const LARGE: usize = 4 * 1024;

/// The most bytes of one such object.
const LARGEST: usize = 256 * 1024;

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
        let most = self.engine.readable_at_most();
        let (data, outcome) = if most >= LARGE {
            self.decrypt_large(most.min(LARGEST))?
        } else {
            self.decrypt(value::bytes)?
        };
        if let Some(data) = data {
            let data = data?;
            let protocol = self.protocol.get_or_none();
            protocol.method(intern!("data_received"), &[&data])?;
        }
        Ok(outcome)
    }

    /// Decrypts right into a bytes object.
    fn decrypt_large(&self, most: usize) -> PyResult<(Option<PyResult<Obj>>, Outcome)> {
        let mut outcome = Outcome::Drained;
        let filled = value::bytes_filled(most, |space| {
            let Filled { count, end } = fill(&self.engine, space);
            outcome = end.into();
            if count > 0 {
                Ok(count)
            } else {
                Err(())
            }
        });
        match filled {
            Ok(Ok(data)) => Ok((Some(Ok(data)), outcome)),
            Ok(Err(())) => Ok((None, outcome)),
            Err(raised) => Err(raised),
        }
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
        let outcome = if most >= LARGE {
            let (data, outcome) = self.decrypt_large(most.min(LARGEST))?;
            if let Some(data) = data {
                reader.feed_object(&*data?)?;
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
