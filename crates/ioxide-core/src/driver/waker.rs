//! A descriptor that ends a blocked `wait`, from any thread and from signal handlers.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::sys;

/// A non-blocking eventfd, readable from `wake` until `drain`.
///
/// A forked child shares it with its parent: it needs one of its own.
#[derive(Debug)]
pub struct Waker {
    fd: OwnedFd,
}

impl Waker {
    /// A waker that nobody has woken, closed on exec. Fails when descriptors run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = sys::check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the call has just returned this descriptor, which nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// The descriptor to wait on for reading.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Makes the descriptor readable. Async-signal-safe: no lock, no allocation, `errno` is kept.
    pub fn wake(&self) {
        let one = 1_u64;
        // SAFETY: `errno` is a valid thread-local; the write reads the eight bytes of a live local.
        // Its only failure is EAGAIN at a full counter, and then the descriptor is readable anyway.
        unsafe {
            let errno = libc::__errno_location();
            let saved = *errno;
            libc::write(
                self.fd.as_raw_fd(),
                std::ptr::from_ref(&one).cast(),
                size_of::<u64>(),
            );
            *errno = saved;
        }
    }

    /// Makes the descriptor unreadable again, and says whether it was readable.
    pub fn drain(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: the read writes at most the eight bytes of a live local.
        let read = unsafe {
            libc::read(
                self.fd.as_raw_fd(),
                std::ptr::from_mut(&mut count).cast(),
                size_of::<u64>(),
            )
        };
        read > 0
    }
}
