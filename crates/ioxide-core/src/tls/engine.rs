//! What encrypts and decrypts, and the loops around it.

use std::mem::MaybeUninit;

/// How far an operation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Done,
    /// It needs more from the other end.
    Blocked,
}

/// What a read has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// What has arrived is not a whole record.
    Blocked,
    /// The other end has said that it will send no more (`close_notify`).
    Closed,
}

/// What a write has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// The protocol must hear from the other end before it goes on.
    Blocked,
}

/// How an operation fails.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The protocol is broken: the peer's doing, or a certificate's.
    Protocol(E),
    /// Something else went wrong, such as a callback of the program.
    Other(E),
}

impl<E> Failure<E> {
    pub fn into_inner(self) -> E {
        match self {
            Failure::Protocol(error) | Failure::Other(error) => error,
        }
    }
}

/// One end of an encrypted connection, with the bytes that have come and those that are to go.
///
/// An operation may run code of the program. Whoever calls makes sure that none begins while
/// another one runs.
pub trait Engine {
    type Error;

    fn handshake(&self) -> Result<Step, Failure<Self::Error>>;

    /// Decrypts into the space, which is not empty.
    fn read(&self, space: &mut [MaybeUninit<u8>]) -> Result<Read, Self::Error>;

    /// Encrypts the bytes, which are not none.
    fn write(&self, data: &[u8]) -> Result<Written, Self::Error>;

    /// Says that nothing more will come, and waits for the other end to say so.
    fn unwrap(&self) -> Result<Step, Failure<Self::Error>>;

    /// Whether a read would bring nothing: all that has arrived is used up.
    fn is_drained(&self) -> bool;
}

/// What [`fill`] has brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Filled<E> {
    /// Good bytes, whatever came after them.
    pub count: usize,
    pub end: End<E>,
}

/// Why [`fill`] has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End<E> {
    /// The space is full; there may be more.
    Full,
    /// Nothing is left.
    Drained,
    /// The other end will send no more.
    Closed,
    Failed(E),
}

/// Decrypts as many records as have arrived, or as fit.
#[inline]
pub fn fill<E: Engine + ?Sized>(engine: &E, space: &mut [MaybeUninit<u8>]) -> Filled<E::Error> {
    let mut count = 0;
    let end = loop {
        if count == space.len() {
            break End::Full;
        }
        if engine.is_drained() {
            break End::Drained;
        }
        match engine.read(&mut space[count..]) {
            Ok(Read::Bytes(more)) => count += more,
            Ok(Read::Blocked) => break End::Drained,
            Ok(Read::Closed) => break End::Closed,
            Err(error) => break End::Failed(error),
        }
    };
    Filled { count, end }
}
