//! System calls as `io::Result`, repeated when a signal interrupts them.
#![allow(unsafe_code, reason = "system calls")]

use std::io;

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
