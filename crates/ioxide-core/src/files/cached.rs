//! Reading and writing what the kernel has in memory, without ever waiting for a disk.
//!
//! `openat2` with `RESOLVE_CACHED` and `preadv2` with `RWF_NOWAIT` fail where they would have to wait.
//! Where they do not, a small file costs its system calls and no thread: what io_uring would do in its
//! submission, without the ring. The path must lead to a file system whose `open` itself does not wait
//! for anybody, which [`local`](super::local) keeps track of.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::local::Kind;
use super::read::Source;
use super::write::{Mode, Target};
use super::Identity;
use crate::sys;

/// The largest file that is read so: copying it takes about as long as handing it to a thread.
pub const MOST: usize = 64 * 1024;

/// Opens a file if that needs no waiting. `None`: open it where waiting is allowed, and see.
///
/// A symbolic link might lead to another file system: it is not followed.
pub fn open(path: &CStr) -> Option<Source> {
    let (fd, identity) = open_at_once(path, libc::O_RDONLY)?;
    Some(Source {
        fd,
        identity,
        hasty: true,
    })
}

/// As [`open`], for writing to a file that is there. Only for what is not a FIFO or a device is the
/// result as good as that of an ordinary open; [`Target::settle`] sees to those.
pub fn open_to_write(path: &CStr, mode: Mode) -> Option<Target> {
    let (fd, identity) = open_at_once(path, mode.flags())?;
    Some(Target { fd, identity })
}

fn open_at_once(path: &CStr, flags: libc::c_int) -> Option<(OwnedFd, Identity)> {
    // SAFETY: an all-zero open_how is a valid one.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    // A FIFO would wait for its other end.
    how.flags = (flags | libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
    how.resolve = libc::RESOLVE_CACHED | libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: a C string and a struct of the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    let fd = libc::c_int::try_from(result).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the call has just returned this descriptor, which nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let identity = Identity::of(&fd).ok()?;
    Some((fd, identity))
}

/// What reading without waiting came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole file: that many bytes.
    Whole,
    /// Not all of it is in memory, or it has changed: nothing counts as read.
    Partial,
    /// This file system always waits.
    Unsupported,
}

impl Source {
    /// Reads a regular file that is expected to fill `room` exactly, if that needs no waiting. The
    /// position of the descriptor stays where it is.
    pub fn read_cached(&self, room: &mut [MaybeUninit<u8>], kind: Kind) -> Outcome {
        let mut beyond = MaybeUninit::<u8>::uninit();
        let parts = [
            libc::iovec {
                iov_base: room.as_mut_ptr().cast(),
                iov_len: room.len(),
            },
            libc::iovec {
                iov_base: beyond.as_mut_ptr().cast(),
                iov_len: 1,
            },
        ];
        let fd = self.fd.as_raw_fd();
        // What is in memory for good knows no such flag.
        let flags = if kind == Kind::Memory {
            0
        } else {
            libc::RWF_NOWAIT
        };
        // SAFETY: two places that are valid for writes of their lengths.
        let result = sys::check_len(unsafe { libc::preadv2(fd, parts.as_ptr(), 2, 0, flags) });
        match result {
            Ok(count) if count == room.len() => Outcome::Whole,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Outcome::Unsupported,
            _ => Outcome::Partial,
        }
    }

    /// Makes a source that was opened here as good as one that was opened in the ordinary way.
    pub fn settle(self, path: &CStr) -> io::Result<Self> {
        if !self.hasty || self.identity.is_regular() {
            return Ok(self);
        }
        if !self.identity.is_fifo() {
            // A directory, which is an error, or a device, whose opening may mean something.
            return Self::open(path);
        }
        wait_again(&self.fd)?;
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live struct. Waits until a writer has come, as opening would.
        sys::retry(|| sys::check(unsafe { libc::poll(&mut poll, 1, -1) }))?;
        Ok(self)
    }
}

impl Target {
    /// Makes a target that was opened here as good as one that was opened in the ordinary way.
    pub fn settle(self) -> io::Result<Self> {
        if !self.identity.is_regular() {
            wait_again(&self.fd)?;
        }
        Ok(self)
    }
}

/// Takes back what `O_NONBLOCK` has changed.
fn wait_again(fd: &OwnedFd) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: no pointers are passed.
    unsafe {
        let flags = sys::check(libc::fcntl(fd, libc::F_GETFL))?;
        sys::check(libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK))?;
    }
    Ok(())
}
