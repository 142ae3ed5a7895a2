//! System calls as `io::Result`, repeated when a signal interrupts them.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// The result of a system call that reports failure as -1 and `errno`.
#[inline]
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// As [`check`], for calls that return a length.
#[inline]
pub fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call until a signal no longer interrupts it.
#[inline]
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result,
        }
    }
}

/// Reads into uninitialised memory; returns how many bytes at its start are initialised now, where
/// zero is the end of the file.
#[inline]
pub fn read(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    retry(|| {
        // SAFETY: `start` is valid for writes of `len` bytes.
        check_len(unsafe { libc::read(fd, start, len) })
    })
}

/// As [`read()`], into one place and then into another.
#[inline]
pub fn read_two(
    fd: RawFd,
    first: &mut [MaybeUninit<u8>],
    second: &mut [MaybeUninit<u8>],
) -> io::Result<usize> {
    let parts = [first, second].map(|part| libc::iovec {
        iov_base: part.as_mut_ptr().cast(),
        iov_len: part.len(),
    });
    retry(|| {
        // SAFETY: two places that are valid for writes of their lengths.
        check_len(unsafe { libc::readv(fd, parts.as_ptr(), 2) })
    })
}

/// Writes what the kernel will take and returns how many bytes that was. To a pipe without readers
/// it raises SIGPIPE, which Python ignores, and then fails with `EPIPE`.
#[inline]
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `bytes` is valid for reads of its length.
        check_len(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
    })
}

/// As [`write()`], from several buffers at once, of which at most `IOV_MAX` are looked at.
///
/// # Safety
/// Each of `buffers` must be valid for reads of its length.
#[inline]
pub unsafe fn writev(fd: RawFd, buffers: &[libc::iovec]) -> io::Result<usize> {
    let count = buffers.len().min(libc::UIO_MAXIOV as usize) as libc::c_int;
    retry(|| {
        // SAFETY: the caller promises valid buffers.
        check_len(unsafe { libc::writev(fd, buffers.as_ptr(), count) })
    })
}

/// Receives from a socket into uninitialised memory, without waiting; returns how many bytes at its
/// start are initialised now.
#[inline]
pub fn recv(fd: RawFd, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    retry(|| {
        // SAFETY: `start` is valid for writes of `len` bytes.
        check_len(unsafe { libc::recv(fd, start, len, libc::MSG_DONTWAIT) })
    })
}

/// As [`recv`], into one buffer and what does not fit into another, with one call, so that datagrams stay whole; returns
/// how many bytes at the start of both together are initialised now.
#[inline]
pub fn recv_two(
    fd: RawFd,
    first: &mut [MaybeUninit<u8>],
    second: &mut [MaybeUninit<u8>],
) -> io::Result<usize> {
    let vector = |buffer: &mut [MaybeUninit<u8>]| libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut vectors = [vector(first), vector(second)];
    // SAFETY: an all-zero msghdr is a valid one without address, data and control part.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len() as _;
    retry(|| {
        // SAFETY: both vectors are valid for writes of their lengths.
        check_len(unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) })
    })
}

/// How many bytes can be read from a socket or a pipe at once.
pub fn readable(fd: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request stores an integer.
    check(unsafe { libc::ioctl(fd, libc::FIONREAD, &mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Without waiting, and without a signal when the peer is gone.
const SEND: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Sends on a connected socket what the kernel will take. A peer that is gone is `EPIPE`, never a
/// SIGPIPE.
#[inline]
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let (start, len) = (bytes.as_ptr().cast(), bytes.len());
    retry(|| {
        // SAFETY: `start` is valid for reads of `len` bytes.
        check_len(unsafe { libc::send(fd, start, len, SEND) })
    })
}

/// As [`send`], from several buffers at once, of which at most `IOV_MAX` are looked at.
///
/// # Safety
/// Each of `buffers` must be valid for reads of its length.
#[inline]
pub unsafe fn send_vectored(fd: RawFd, buffers: &mut [libc::iovec]) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is a valid one without address, data and control part.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers.as_mut_ptr();
    message.msg_iovlen = buffers.len().min(libc::UIO_MAXIOV as usize) as _;
    retry(|| {
        // SAFETY: the caller promises valid buffers, and the call only reads the message.
        check_len(unsafe { libc::sendmsg(fd, &message, SEND) })
    })
}

/// Makes reading and writing never block, of a descriptor that has been opened just now: its other flags are known to
/// be unset.
pub fn set_fresh_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) }).map(drop)
}

/// Lets a pipe hold so many bytes. Fails with `EPERM` above what the user may have.
pub fn set_pipe_size(fd: RawFd, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    check(unsafe { libc::fcntl(fd, libc::F_SETPIPE_SZ, bytes) }).map(drop)
}

/// What kind of file a descriptor is of, and its permissions, as `fstat` has them.
pub fn file_mode(fd: RawFd) -> io::Result<libc::mode_t> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` has room for what the call stores.
    check(unsafe { libc::fstat(fd, status.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded and has filled it in.
    Ok(unsafe { status.assume_init() }.st_mode)
}

/// Closes a descriptor and reports what dropping it would hide (`EIO`, `ENOSPC` on some file
/// systems). Never repeated: Linux frees the number even if it is interrupted, and somebody else
/// may have it already.
pub fn close(fd: OwnedFd) -> io::Result<()> {
    // SAFETY: ownership was passed in and ends here.
    match check(unsafe { libc::close(fd.into_raw_fd()) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}
