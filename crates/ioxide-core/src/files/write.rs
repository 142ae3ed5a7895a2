//! Writing a whole file.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{open, Identity};
use crate::sys;

/// How much of a large file is written at a time. The kernel keeps what one call brings in blocks of up to that
/// size. Small ones it has at hand; large ones may have to come from the host first: see [`memory`](super::memory).
const PIECE: usize = 256 * 1024;

/// What becomes of what the file had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is replaced.
    Replace,
    /// The bytes are added behind it.
    Append,
}

/// A file that is open for writing.
#[derive(Debug)]
pub struct Target {
    pub(super) fd: OwnedFd,
    pub(super) identity: Identity,
}

impl Target {
    /// Opens a file, or makes it. What it has stays for now.
    pub fn open(path: &CStr, mode: Mode) -> io::Result<Self> {
        let fd = open(path, mode.flags() | libc::O_CREAT)?;
        let identity = Identity::of(&fd)?;
        Ok(Self { fd, identity })
    }

    /// Kind, size and place, as they were when the file was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The descriptor, which the target keeps.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Writes all of the bytes and closes the file.
    ///
    /// A file that is replaced is written over, and shortened first if it is longer: to free its blocks
    /// only to allocate them again, as `O_TRUNC` does, costs ten times as much. What it holds in the end
    /// is the same, also when writing fails half-way: the bytes that were written, and nothing behind them.
    pub fn write(self, bytes: &[u8], mode: Mode) -> io::Result<usize> {
        match mode {
            // In one call: others may append to the same file, and what each adds stays together.
            Mode::Append => write_all(&self.fd, bytes).map_err(|(error, _)| error)?,
            Mode::Replace => self.replace(bytes)?,
        }
        close(self.fd)?;
        Ok(bytes.len())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let has_length = self.identity.is_regular();
        if has_length && self.identity.size > bytes.len() as u64 {
            truncate(&self.fd, bytes.len())?;
        }
        if !has_length {
            return write_all(&self.fd, bytes).map_err(|(error, _)| error);
        }
        let mut written = 0;
        for piece in bytes.chunks(PIECE) {
            if let Err((error, part)) = write_all(&self.fd, piece) {
                // The first error is the one to tell.
                let _ = truncate(&self.fd, written + part).is_ok();
                return Err(error);
            }
            written += piece.len();
        }
        Ok(())
    }
}

impl Mode {
    pub(super) fn flags(self) -> libc::c_int {
        match self {
            Mode::Replace => libc::O_WRONLY,
            Mode::Append => libc::O_WRONLY | libc::O_APPEND,
        }
    }
}

/// Writes all of the bytes, or says how many were written before the error.
pub(super) fn write_all(fd: &OwnedFd, bytes: &[u8]) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match sys::write(fd.as_raw_fd(), &bytes[written..]) {
            Ok(0) => return Err((io::Error::from_raw_os_error(libc::EIO), written)),
            Ok(count) => written += count,
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

pub(super) fn truncate(fd: &OwnedFd, length: usize) -> io::Result<()> {
    let length =
        libc::off_t::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: no pointers are passed.
    sys::retry(|| sys::check(unsafe { libc::ftruncate(fd.as_raw_fd(), length) })).map(drop)
}

/// Closes the descriptor and says what the file system could only say now, as some do about quotas.
pub(super) fn close(fd: OwnedFd) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is owned and given up here. It is gone even if the call fails.
    match sys::check(unsafe { libc::close(fd.into_raw_fd()) }) {
        Err(error) if error.raw_os_error() != Some(libc::EINTR) => Err(error),
        _ => Ok(()),
    }
}
