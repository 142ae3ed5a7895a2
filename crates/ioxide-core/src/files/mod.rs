//! Whole operations on files: each opens, works and closes in one go, on a thread that may block.
//!
//! # Contract
//! 1. The outcome is that of the builtin `open()` and one `read()` or `write()`: the same bytes, the
//!    same `errno`. [`Failure`] says whether opening failed, which names the file, or what came after.
//! 2. Calls are repeated when a signal interrupts them; what the kernel takes in parts is finished.
//! 3. No descriptor outlives the operation, and none is inherited by a child process.
//! 4. What [`cached`] can do without waiting has the same outcome as [`read`] and [`write`];
//!    where it cannot, it has changed nothing, or hands over what it has opened.

pub mod cached;
pub mod copy;
pub mod local;
pub mod memory;
pub mod read;
pub mod write;

use std::ffi::CStr;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::sys;

/// Where an operation failed.
#[derive(Debug)]
pub enum Failure {
    /// The file could not be opened.
    Open(io::Error),
    /// It was open, and reading or writing failed.
    Transfer(io::Error),
}

/// The permissions of a new file before the umask, as the builtin has them.
const NEW_FILE: libc::mode_t = 0o666;

/// Opens a file that a child process does not inherit.
#[allow(unsafe_code, reason = "a system call")]
fn open(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    let fd = sys::retry(|| {
        // SAFETY: a C string; the mode is an integer, as the flags may ask for.
        sys::check(unsafe { libc::open(path.as_ptr(), flags, libc::c_uint::from(NEW_FILE)) })
    })?;
    // SAFETY: the call has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What kind of file a descriptor is, its size and where it lives.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// Bytes; 0 for what has no size.
    pub size: u64,
    format: libc::mode_t,
}

impl Identity {
    /// Of an open descriptor.
    #[allow(unsafe_code, reason = "a system call")]
    pub fn of(fd: &OwnedFd) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        // SAFETY: an all-zero stat is a valid one, which the call fills in.
        let stat = unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            sys::check(libc::fstat(fd.as_raw_fd(), &mut stat))?;
            stat
        };
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            format: stat.st_mode & libc::S_IFMT,
        })
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.format == libc::S_IFREG
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.format == libc::S_IFDIR
    }

    /// Whether it is a FIFO.
    pub fn is_fifo(&self) -> bool {
        self.format == libc::S_IFIFO
    }
}
