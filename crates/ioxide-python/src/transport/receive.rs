//! From the kernel into the bytes object that the program will get.
//!
//! How long the next message will be is guessed from the last ones, and room for a little more is offered to the kernel:
//! if it leaves some of that, nothing else waits. A guess that was too high costs a copy, and one that was too low
//! another call, which goes into the buffer that all connections share; so does what cannot be guessed.

use super::channel::{Channel, Medium};
use super::hub::Hub;
use super::messages::{LONGEST, SHORTEST};
use crate::kit::spare::SpareBytes;
use crate::kit::PyResult;
use ioxide_core::sys;
use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;

/// Where this much is expected, the kernel is asked how much there is: a wrong guess would cost more.
const LARGE: usize = 32 * 1024;

/// What a read has brought.
#[derive(Default)]
pub(super) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    #[default]
    Nothing,
    /// The other end will send no more.
    Eof,
    Failed(io::Error),
}

impl From<io::Result<usize>> for Received {
    #[inline]
    fn from(result: io::Result<usize>) -> Received {
        match result {
            Ok(0) => Received::Eof,
            Ok(count) => Received::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(error) => Received::Failed(error),
        }
    }
}

/// What was received as an object.
#[derive(Default)]
pub(super) struct Arrival {
    /// The message, if bytes have come.
    pub(super) message: Option<PyResult<SpareBytes>>,
    /// More may wait.
    pub(super) more: bool,
    /// What came in place of bytes, or a failure right after them.
    pub(super) silence: Received,
}

impl Arrival {
    #[inline]
    fn of(message: PyResult<SpareBytes>, more: bool) -> Arrival {
        Arrival {
            message: Some(message),
            more,
            silence: Received::Nothing,
        }
    }

    #[inline]
    fn silent(silence: Received) -> Arrival {
        Arrival {
            silence,
            ..Arrival::default()
        }
    }
}

/// What a connection has received before: the lengths of the last two messages. A short one may alternate with a long one.
pub(super) struct Habit {
    last: Cell<u32>,
    before: Cell<u32>,
}

/// What is known of the next message.
enum Foresight {
    Nothing,
    /// It has hardly more bytes.
    AtMost(usize),
    /// So many bytes wait.
    Waiting(usize),
}

impl Habit {
    pub(super) const fn new() -> Habit {
        Habit {
            last: Cell::new(0),
            before: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn was(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.before.set(self.last.replace(count));
    }

    #[inline]
    pub(super) fn last(&self) -> usize {
        self.last.get() as usize
    }

    #[inline]
    fn longer(&self) -> usize {
        self.last.get().max(self.before.get()) as usize
    }
}

impl Channel {
    #[inline]
    pub(super) fn receive(&self, space: &mut [MaybeUninit<u8>]) -> Received {
        let fd = self.base.descriptor.usable();
        let read = fd.and_then(|fd| match self.medium {
            Medium::Socket => sys::recv(fd, space),
            Medium::ReadPipe | Medium::WritePipe => {
                sys::read(fd, space).inspect(|count| self.was_read(*count))
            }
        });
        read.into()
    }

    /// Receives into an object, which is to be given back to [`Hub::messages`].
    #[inline]
    pub(super) fn receive_message(&self, hub: &Hub) -> Arrival {
        match self.foresee() {
            Foresight::AtMost(count) => self.receive_at_most(hub, count),
            Foresight::Waiting(count) => self.receive_waiting(hub, count),
            Foresight::Nothing => self.receive_anything(hub),
        }
    }

    #[inline]
    fn foresee(&self) -> Foresight {
        let expected = self.habit.longer();
        if expected < SHORTEST {
            return Foresight::Nothing;
        }
        if expected < LARGE {
            return Foresight::AtMost(expected);
        }
        let fd = self.base.descriptor.usable();
        match fd.and_then(sys::readable) {
            Ok(waiting) if waiting >= SHORTEST => Foresight::Waiting(waiting),
            _ => Foresight::Nothing,
        }
    }

    /// Of which nothing is known: by way of the shared buffer.
    #[inline]
    fn receive_anything(&self, hub: &Hub) -> Arrival {
        let space = hub.buffer();
        match self.receive(space) {
            Received::Bytes(count) => {
                self.habit.was(count);
                // SAFETY: the kernel has initialised as many bytes as it counts.
                let bytes = unsafe { space[..count].assume_init_ref() };
                Arrival::of(hub.messages.copy(bytes), count == space.len())
            }
            silence => Arrival::silent(silence),
        }
    }

    #[inline]
    fn receive_at_most(&self, hub: &Hub, expected: usize) -> Arrival {
        let mut spare = match hub.messages.with_room(expected + 1) {
            Ok(spare) => spare,
            Err(raised) => return Arrival::of(Err(raised), false),
        };
        match self.receive_into(&mut spare, usize::MAX) {
            Ok(count) if count == spare.room() => self.receive_rest(hub, spare),
            Ok(count) => {
                self.habit.was(count);
                if count >= spare.room() / 2 {
                    return Arrival::of(Ok(spare), false);
                }
                // Whoever keeps it would keep much more memory than it needs.
                let copied = hub.messages.copy(spare.bytes().bytes_content());
                hub.messages.keep(spare);
                Arrival::of(copied, false)
            }
            Err(silence) => {
                hub.messages.keep(spare);
                Arrival::silent(silence)
            }
        }
    }

    /// The message was longer than its room.
    #[cold]
    fn receive_rest(&self, hub: &Hub, start: SpareBytes) -> Arrival {
        let first = start.bytes().bytes_content();
        let space = &mut hub.buffer()[..LONGEST - first.len()];
        match self.receive(space) {
            Received::Bytes(count) => {
                self.habit.was(first.len() + count);
                // SAFETY: the kernel has initialised as many bytes as it counts.
                let rest = unsafe { space[..count].assume_init_ref() };
                let joined = hub.messages.joined(first, rest);
                let more = count == space.len();
                hub.messages.keep(start);
                Arrival::of(joined, more)
            }
            silence => {
                self.habit.was(first.len());
                Arrival {
                    // The end can be read again; a failure is told once.
                    more: matches!(silence, Received::Eof),
                    message: Some(Ok(start)),
                    silence: match silence {
                        Received::Failed(error) => Received::Failed(error),
                        _ => Received::Nothing,
                    },
                }
            }
        }
    }

    #[inline]
    fn receive_waiting(&self, hub: &Hub, waiting: usize) -> Arrival {
        let capacity = waiting.min(LONGEST);
        let mut spare = match hub.messages.with_room(capacity) {
            Ok(spare) => spare,
            Err(raised) => return Arrival::of(Err(raised), false),
        };
        match self.receive_into(&mut spare, capacity) {
            Ok(count) => {
                self.habit.was(count);
                Arrival::of(Ok(spare), waiting > count)
            }
            Err(silence) => {
                hub.messages.keep(spare);
                Arrival::silent(silence)
            }
        }
    }

    /// Receives at most `capacity` bytes into the room of an object.
    #[inline]
    fn receive_into(&self, spare: &mut SpareBytes, capacity: usize) -> Result<usize, Received> {
        spare.fill(|space| {
            let capacity = capacity.min(space.len());
            match self.receive(&mut space[..capacity]) {
                Received::Bytes(count) => Ok(count),
                silence => Err(silence),
            }
        })
    }
}
