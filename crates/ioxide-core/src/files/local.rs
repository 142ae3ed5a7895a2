//! Which directories are on file systems where a file in memory is opened without waiting for anybody.
//!
//! Opening a file of a network or user-space file system asks a server each time, cached or not. So a
//! directory counts as local only after a file in it was opened on a thread and its file system was
//! looked at; for a while, since something else may be mounted there.
#![allow(unsafe_code, reason = "system calls")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::sys;

/// How long a directory is believed to be what it was.
const BELIEVED: Duration = Duration::from_secs(5);
/// How many directories are remembered.
const MOST: usize = 256;

/// ext2 to ext4, XFS, Btrfs, F2FS, and overlays, which containers put on top of those.
const CACHED: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x794c_7630];
/// tmpfs and ramfs.
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// What is known of a file system by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It waits for a disk unless what is asked for is in memory.
    Cached,
    /// It is in memory, as the process itself is, and swapped out as that is.
    Memory,
    /// It may wait for anybody.
    Other,
}

/// The kind of file system that the descriptor is on.
pub fn kind_of(fd: &OwnedFd) -> io::Result<Kind> {
    // SAFETY: an all-zero statfs is a valid one, which the call fills in.
    let magic = unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        sys::check(libc::fstatfs(fd.as_raw_fd(), &mut stat))?;
        stat.f_type
    };
    #[allow(
        clippy::unnecessary_cast,
        reason = "its type differs between architectures"
    )]
    let magic = magic as i64;
    Ok(if CACHED.contains(&magic) {
        Kind::Cached
    } else if MEMORY.contains(&magic) {
        Kind::Memory
    } else {
        Kind::Other
    })
}

/// A directory's device and kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub device: u64,
    pub kind: Kind,
}

/// What is known of directories.
#[derive(Debug, Default)]
pub struct Directories {
    known: HashMap<Box<[u8]>, (Place, Instant)>,
}

impl Directories {
    /// What is known of the directory that the path names a file in.
    pub fn look_up(&self, path: &[u8], now: Instant) -> Option<Place> {
        let (place, since) = self.known.get(directory(path))?;
        (now.saturating_duration_since(*since) < BELIEVED).then_some(*place)
    }

    /// Notes what was found out by opening this path.
    pub fn note(&mut self, path: &[u8], place: Place, now: Instant) {
        if self.known.len() >= MOST {
            self.known
                .retain(|_, (_, since)| now.saturating_duration_since(*since) < BELIEVED);
            if self.known.len() >= MOST {
                self.known.clear();
            }
        }
        self.known.insert(directory(path).into(), (place, now));
    }
}

/// The path up to its last slash.
fn directory(path: &[u8]) -> &[u8] {
    let end = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
    &path[..end]
}
