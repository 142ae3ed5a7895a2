//! Accepting connections in batches, and telling a passing failure from one that needs patience.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::address::{Address, RawAddress};
use crate::sys;

/// Why a batch has ended.
#[derive(Debug)]
pub enum BatchEnd {
    /// Nobody waits any more.
    Drained,
    /// The batch is full; more may wait.
    Full,
    /// The callback wanted no more.
    Stopped,
    /// Descriptors or memory ran out. The listener stays readable, so the caller must stop waiting
    /// for it and come back after a while.
    OutOfResources(io::Error),
    /// The listener is of no use.
    Failed(io::Error),
}

/// What a failed accept means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody waits.
    WouldBlock,
    /// This one connection was lost before it was accepted; the next may be fine.
    Transient,
    /// Descriptors or memory have run out.
    OutOfResources,
    /// The listener is of no use.
    Fatal,
}

/// What an `errno` of accept means.
pub fn classify(code: i32) -> Failure {
    match code {
        libc::EAGAIN => Failure::WouldBlock,
        // Linux reports the new connection's own network errors here; EPERM is a firewall's no.
        libc::EINTR
        | libc::ECONNABORTED
        | libc::EPROTO
        | libc::EPERM
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::ENOPROTOOPT
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENONET
        | libc::ETIMEDOUT => Failure::Transient,
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Failure::OutOfResources,
        _ => Failure::Fatal,
    }
}

/// Accepts up to `max` connections and gives each, non-blocking and closed on exec, to `accepted`
/// with the address of its peer. The callback must stop the batch if it has closed the listener,
/// whose number may then be another's.
pub fn accept_batch(
    listener: RawFd,
    max: usize,
    mut accepted: impl FnMut(OwnedFd, Address) -> ControlFlow<()>,
) -> BatchEnd {
    for _ in 0..max {
        match accept(listener) {
            Ok((fd, address)) => {
                if accepted(fd, address).is_break() {
                    return BatchEnd::Stopped;
                }
            }
            Err(error) => match error.raw_os_error().map_or(Failure::Fatal, classify) {
                Failure::WouldBlock => return BatchEnd::Drained,
                Failure::Transient => {}
                Failure::OutOfResources => return BatchEnd::OutOfResources(error),
                Failure::Fatal => return BatchEnd::Failed(error),
            },
        }
    }
    BatchEnd::Full
}

/// Accepts one connection, non-blocking and closed on exec, with the address of its peer.
pub fn accept(listener: RawFd) -> io::Result<(OwnedFd, Address)> {
    let mut raw = RawAddress::empty();
    let (pointer, len) = raw.as_mut_ptr();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `pointer` and `len` describe the live `raw`.
    let fd = sys::check(unsafe { libc::accept4(listener, pointer, len, flags) })?;
    // SAFETY: the call has just returned this descriptor, which nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, raw.decode()))
}
