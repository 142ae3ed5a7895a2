//! Reading a whole file.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{memory, open, Identity};
use crate::sys;

/// How much is read at a time where the size is not known.
const PIECE: usize = 64 * 1024;

/// A file that is open for reading.
#[derive(Debug)]
pub struct Source {
    pub(super) fd: OwnedFd,
    pub(super) identity: Identity,
    /// Whether the open did not wait, as it would have for a FIFO without a writer.
    pub(super) hasty: bool,
}

impl Source {
    /// Opens a file, as the builtin does: a directory is `EISDIR`.
    pub fn open(path: &CStr) -> io::Result<Self> {
        let fd = open(path, libc::O_RDONLY)?;
        let identity = Identity::of(&fd)?;
        if identity.is_directory() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        Ok(Self {
            fd,
            identity,
            hasty: false,
        })
    }

    /// Kind, size and place, as they were when the file was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The descriptor, which the source keeps.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// How many bytes to make room for; 0 where there is no telling.
    pub fn expected(&self) -> usize {
        if self.identity.is_regular() {
            usize::try_from(self.identity.size).unwrap_or(0)
        } else {
            0
        }
    }

    /// Reads on from where the file stands until the room is full or the file is at its end. Returns how
    /// many bytes at the start of the room are initialised now, and what the file has beyond the room.
    pub fn read_to_end(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<(usize, Vec<u8>)> {
        let is_large = self.identity.is_regular() && room.len() >= memory::LARGE;
        let mut filled = 0;
        loop {
            if is_large {
                let space = &mut room[filled..];
                let ready = memory::make_ready(space);
                if ready < space.len() {
                    match sys::read(self.fd.as_raw_fd(), &mut space[..ready])? {
                        0 => return Ok((filled, Vec::new())),
                        count => filled += count,
                    }
                    continue;
                }
            }
            let mut beyond = [MaybeUninit::<u8>::uninit(); 512];
            let space = &mut room[filled..];
            let free = space.len();
            let count = sys::read_two(self.fd.as_raw_fd(), space, &mut beyond)?;
            if count > free {
                let over = &beyond[..count - free];
                // SAFETY: the call has initialised that many bytes.
                let start = over.iter().map(|byte| unsafe { byte.assume_init() });
                return Ok((filled + free, self.read_rest(start.collect())?));
            }
            filled += count;
            // A regular file gives less than was asked for at its end only, unless that is very much.
            let is_end = count == 0 || (self.identity.is_regular() && filled == room.len());
            if is_end {
                return Ok((filled, Vec::new()));
            }
        }
    }

    /// Reads on to the end of what has no known size.
    fn read_rest(&self, mut rest: Vec<u8>) -> io::Result<Vec<u8>> {
        loop {
            rest.reserve(PIECE);
            let count = sys::read(self.fd.as_raw_fd(), rest.spare_capacity_mut())?;
            if count == 0 {
                return Ok(rest);
            }
            // SAFETY: the call has initialised that many bytes of the spare capacity.
            unsafe { rest.set_len(rest.len() + count) };
        }
    }
}
