//! A file into a socket, by the kernel alone.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr;

use crate::sys;

/// How many bytes a file has; 0 also for what is no file, as a pipe.
pub fn size(file: RawFd) -> io::Result<u64> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` has room for what the call stores.
    sys::check(unsafe { libc::fstat(file, status.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded and has filled it in.
    let status = unsafe { status.assume_init() };
    Ok(u64::try_from(status.st_size).unwrap_or(0))
}

/// Sends up to `count` bytes from `offset` on; returns how many, where zero is the end of the file. The position of
/// the file stays.
pub fn send(socket: RawFd, file: RawFd, offset: i64, count: usize) -> io::Result<usize> {
    let mut offset = offset;
    sys::retry(|| {
        // SAFETY: `offset` lives through the call.
        sys::check_len(unsafe { libc::sendfile(socket, file, ptr::from_mut(&mut offset), count) })
    })
}

/// Moves the position of a file there.
pub fn seek(file: RawFd, position: i64) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::lseek(file, position, libc::SEEK_SET) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
