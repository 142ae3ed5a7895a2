//! What the transports of one loop share: the read buffer, and the list of those that have bytes for the end of
//! the turn.

use super::channel::Channel;
use super::messages::Messages;
use crate::kit::{err, Native, Obj, PyResult, Visitor};
use crate::runtime::EventLoop;
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;

/// How much one read can take, in bytes. Only as much of it is touched as is received.
const READ_BUFFER: usize = 256 * 1024;
/// How much is decrypted at once, in bytes, where it is not right into its object.
const PLAIN_BUFFER: usize = 64 * 1024;
/// Up to which size the buffer to encrypt into is kept, in bytes.
const SEALED_SIZE: usize = 1024 * 1024;
/// How many spare write buffers are kept, …
const SPARES: usize = 32;
/// … and up to which size, in bytes.
const SPARE_SIZE: usize = 64 * 1024;
/// The size of a new write buffer, in bytes.
const NEW_SIZE: usize = 2048;

/// One in each loop.
pub(crate) struct Hub {
    buffer: UnsafeCell<Vec<MaybeUninit<u8>>>,
    /// What was decrypted.
    plain: UnsafeCell<Vec<MaybeUninit<u8>>>,
    /// What was encrypted and goes out at once.
    sealed: UnsafeCell<Vec<u8>>,
    spares: UnsafeCell<Vec<Vec<u8>>>,
    /// The objects in which programs get what is received.
    pub(crate) messages: Messages,
    /// Transports with bytes for the end of the turn. Empty between turns.
    flushing: UnsafeCell<Vec<Obj>>,
    /// Counts turns, and wraps around.
    turn: Cell<u32>,
    in_batch: Cell<bool>,
}

impl Hub {
    pub(crate) const fn new() -> Hub {
        Hub {
            buffer: UnsafeCell::new(Vec::new()),
            plain: UnsafeCell::new(Vec::new()),
            sealed: UnsafeCell::new(Vec::new()),
            spares: UnsafeCell::new(Vec::new()),
            messages: Messages::new(),
            flushing: UnsafeCell::new(Vec::new()),
            turn: Cell::new(0),
            in_batch: Cell::new(false),
        }
    }

    /// The buffer to read into. What is read must be taken out of it before Python code runs, which may come
    /// back here.
    #[allow(clippy::mut_from_ref, reason = "see the caller's promise")]
    #[inline]
    pub(crate) fn buffer(&self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the interpreter lock is held, and by the caller's promise there is no other borrow.
        let buffer = unsafe { &mut *self.buffer.get() };
        if buffer.is_empty() {
            buffer.resize(READ_BUFFER, MaybeUninit::uninit());
        }
        buffer
    }

    /// The buffer of [`Hub::buffer`], to keep while Python code may run; to be returned.
    #[inline]
    pub(crate) fn take_buffer(&self) -> Vec<MaybeUninit<u8>> {
        let _ = self.buffer();
        // SAFETY: the borrow ends with the expression.
        std::mem::take(unsafe { &mut *self.buffer.get() })
    }

    /// Takes the buffer back. If another was made meanwhile, one of them goes.
    #[inline]
    pub(crate) fn return_buffer(&self, buffer: Vec<MaybeUninit<u8>>) {
        // SAFETY: as above.
        unsafe { *self.buffer.get() = buffer };
    }

    /// The buffer to decrypt into, to keep while Python code may run; to be returned.
    #[inline]
    pub(crate) fn take_plain(&self) -> Vec<MaybeUninit<u8>> {
        // SAFETY: the borrow ends with the expression.
        let mut plain = std::mem::take(unsafe { &mut *self.plain.get() });
        if plain.is_empty() {
            plain.resize(PLAIN_BUFFER, MaybeUninit::uninit());
        }
        plain
    }

    /// Takes the buffer back. If another was made meanwhile, one of them goes.
    #[inline]
    pub(crate) fn return_plain(&self, buffer: Vec<MaybeUninit<u8>>) {
        // SAFETY: as above.
        unsafe { *self.plain.get() = buffer };
    }

    /// An empty buffer to encrypt into; to be returned as soon as what is in it was sent.
    #[inline]
    pub(crate) fn take_sealed(&self) -> Vec<u8> {
        // SAFETY: the borrow ends with the expression.
        let sealed = std::mem::take(unsafe { &mut *self.sealed.get() });
        if sealed.capacity() == 0 {
            return Vec::with_capacity(NEW_SIZE);
        }
        sealed
    }

    /// Takes the buffer back. Of two the larger one stays: it need not grow again.
    #[inline]
    pub(crate) fn return_sealed(&self, mut buffer: Vec<u8>) {
        // SAFETY: the borrow ends before anything else can run.
        let sealed = unsafe { &mut *self.sealed.get() };
        if buffer.capacity() > sealed.capacity() && buffer.capacity() <= SEALED_SIZE {
            buffer.clear();
            *sealed = buffer;
        }
    }

    /// An empty buffer for bytes that are to be written.
    pub(crate) fn spare(&self) -> Vec<u8> {
        // SAFETY: the borrow ends before anything else can run.
        let spare = unsafe { (*self.spares.get()).pop() };
        spare.unwrap_or_else(|| Vec::with_capacity(NEW_SIZE))
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&self, mut buffer: Vec<u8>) {
        // SAFETY: the borrow ends before anything else can run.
        let spares = unsafe { &mut *self.spares.get() };
        if spares.len() < SPARES && buffer.capacity() <= SPARE_SIZE {
            buffer.clear();
            spares.push(buffer);
        }
    }

    /// Which turn it is, while work runs; nothing between turns, when nobody would flush.
    #[inline]
    pub(crate) fn turn(&self) -> Option<u32> {
        self.in_batch.get().then(|| self.turn.get())
    }

    /// Has the transport flushed at the end of this turn.
    pub(crate) fn flush_later(&self, transport: &Channel) {
        // SAFETY: the borrow ends before anything else can run.
        unsafe { (*self.flushing.get()).push(transport.as_any().own()) }
    }

    #[inline]
    pub(crate) fn begin_batch(&self) {
        self.in_batch.set(true);
    }

    /// Ends the turn: what was held back goes out.
    #[inline]
    pub(crate) fn end_batch(&self) -> PyResult<()> {
        self.in_batch.set(false);
        self.turn.set(self.turn.get().wrapping_add(1));
        // SAFETY: the borrow ends with the expression.
        if unsafe { (*self.flushing.get()).is_empty() } {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&self) -> PyResult<()> {
        // SAFETY: the list is taken, so that flushing may add to a new one.
        let mut list = unsafe { std::mem::take(&mut *self.flushing.get()) };
        let mut result = Ok(());
        for transport in list.drain(..) {
            // SAFETY: only channels are put into the list.
            let channel = unsafe { transport.cast_unchecked::<Channel>() };
            let flushed = err::preserved(|| channel.turn_ended().map_err(err::take));
            if let (Err(exception), Ok(())) = (flushed, &result) {
                result = Err(err::restore(exception));
            }
        }
        // SAFETY: as above; the allocation is kept unless somebody was added meanwhile.
        unsafe {
            if (*self.flushing.get()).is_empty() {
                *self.flushing.get() = list;
            }
        }
        result
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        // SAFETY: visiting changes nothing.
        for transport in unsafe { (*self.flushing.get()).iter() } {
            visitor.object(transport);
        }
    }

    pub(crate) fn clear(&self) {
        // SAFETY: the borrow ends before anything is dropped.
        let dropped = unsafe { std::mem::take(&mut *self.flushing.get()) };
        drop(dropped);
        self.messages.clear();
    }
}

/// Ends a batch that has this result.
#[inline]
pub(crate) fn end_batch(event_loop: &EventLoop, result: PyResult<()>) -> PyResult<()> {
    match result {
        Ok(()) => event_loop.hub.end_batch(),
        Err(raised) => {
            let exception = err::take(raised);
            // What leaves the loop goes before what flushing has to say.
            if let Err(lost) = event_loop.hub.end_batch() {
                err::unraisable(lost, event_loop.as_any());
            }
            Err(err::restore(exception))
        }
    }
}
