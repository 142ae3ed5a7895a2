//! Datagrams from and to addresses.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::address::RawAddress;
use crate::sys;

/// Receives one datagram into uninitialised memory: how many bytes at its start are initialised
/// now, and who sent them. What does not fit is lost.
///
/// The sender comes in the kernel's form, so that a caller who has decoded the same one before can
/// tell by a comparison.
pub fn receive_from(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<(usize, RawAddress)> {
    let mut sender = RawAddress::empty();
    let (start, capacity) = (buffer.as_mut_ptr().cast(), buffer.len());
    let len = sys::retry(|| {
        let (pointer, len) = sender.as_mut_ptr();
        // SAFETY: `start` is valid for writes of `capacity` bytes; `pointer` and `len` describe the
        // live `sender`.
        sys::check_len(unsafe { libc::recvfrom(fd, start, capacity, 0, pointer, len) })
    })?;
    Ok((len, sender))
}

/// Sends one datagram, whole or not at all. On a connected socket use [`sys::send`].
pub fn send_to(fd: RawFd, bytes: &[u8], receiver: &RawAddress) -> io::Result<usize> {
    let (start, count) = (bytes.as_ptr().cast(), bytes.len());
    let (pointer, len) = receiver.as_ptr();
    sys::retry(|| {
        // SAFETY: `start` is valid for reads of `count` bytes; `pointer` and `len` describe the
        // live `receiver`.
        sys::check_len(unsafe { libc::sendto(fd, start, count, libc::MSG_NOSIGNAL, pointer, len) })
    })
}
