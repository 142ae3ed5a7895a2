//! Datagrams from and to addresses.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::address::RawAddress;
use crate::sys;

/// The most datagrams of one [`receive_batch`].
pub const BATCH: usize = 4;

/// One datagram of a batch: how many bytes at the start of its part of the buffer are initialised
/// now, and who sent them.
pub type Received = (usize, RawAddress);

/// Receives the datagrams that wait, up to `parts` of them (at most [`BATCH`]), each into its equal
/// part of the buffer. What does not fit into a part is lost. At least one, or `WouldBlock`.
///
/// A sender comes in the kernel's form, so that a caller who has decoded the same one before can
/// tell by a comparison.
pub fn receive_batch(
    fd: RawFd,
    buffer: &mut [MaybeUninit<u8>],
    parts: usize,
) -> io::Result<impl Iterator<Item = Received>> {
    let parts = parts.clamp(1, BATCH);
    let size = buffer.len() / parts;
    let mut senders = [const { RawAddress::empty() }; BATCH];
    // SAFETY: both are plain integers and pointers; all zero is a valid one of either.
    let mut vectors: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for (index, part) in buffer.chunks_exact_mut(size.max(1)).take(parts).enumerate() {
        vectors[index] = libc::iovec {
            iov_base: part.as_mut_ptr().cast(),
            iov_len: part.len(),
        };
        let header = &mut messages[index].msg_hdr;
        header.msg_name = senders[index].as_mut_ptr().0.cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut vectors[index];
        header.msg_iovlen = 1;
    }
    let flags = libc::MSG_DONTWAIT as _;
    let none = std::ptr::null_mut();
    let count = sys::retry(|| {
        // SAFETY: the first `parts` messages describe parts of the buffer and live addresses.
        let count = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), parts as _, flags, none) };
        sys::check(count)
    })?;
    let taken = messages.into_iter().zip(senders).take(count as usize);
    Ok(taken.map(|(message, mut sender)| {
        sender.set_len(message.msg_hdr.msg_namelen);
        (message.msg_len as usize, sender)
    }))
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
