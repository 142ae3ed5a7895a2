//! Copying a file, in the kernel where it can.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::read::Source;
use super::write::{close, truncate, write_all};
use super::{open, Failure, Identity};
use crate::sys;

/// How much one call copies in the kernel: enough that calls do not count, little enough that a
/// process which is killed does not wait for long.
const IN_KERNEL: usize = 128 << 20;
/// The buffer where the kernel cannot do it alone.
const BUFFER: usize = 256 * 1024;

/// Why there is no copy.
#[derive(Debug)]
pub enum NotCopied {
    Source(Failure),
    Target(Failure),
    /// Source and target are one file.
    SameFile,
}

/// Copies the content of one file to another, which is made or replaced; returns how many bytes.
/// Memory is constant.
pub fn copy(from: &CStr, to: &CStr) -> Result<u64, NotCopied> {
    let source = Source::open(from).map_err(|error| NotCopied::Source(Failure::Open(error)))?;
    let target = open(to, libc::O_WRONLY | libc::O_CREAT)
        .map_err(|error| NotCopied::Target(Failure::Open(error)))?;
    let outcome = || -> io::Result<Option<u64>> {
        let there = Identity::of(&target)?;
        let here = source.identity();
        if (here.device, here.inode) == (there.device, there.inode) {
            return Ok(None);
        }
        if there.is_regular() && there.size > 0 {
            truncate(&target, 0)?;
        }
        transfer(&source, &target).map(Some)
    };
    match outcome() {
        Ok(Some(count)) => close(target)
            .map(|()| count)
            .map_err(|error| NotCopied::Target(Failure::Transfer(error))),
        Ok(None) => Err(NotCopied::SameFile),
        Err(error) => Err(NotCopied::Target(Failure::Transfer(error))),
    }
}

fn transfer(source: &Source, target: &OwnedFd) -> io::Result<u64> {
    let mut copied = 0;
    // Files that the kernel makes up, as those in /proc, say that they are empty: those are read.
    if source.expected() > 0 {
        for step in [copy_file_range, sendfile] {
            match repeat(step, source, target, &mut copied) {
                Ok(()) => break,
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    // What is left, if anything: the kernel's own ways end early where they are not at home.
    read_and_write(source, target, &mut copied)?;
    Ok(copied)
}

type Step = fn(&Source, &OwnedFd) -> io::Result<usize>;

fn repeat(step: Step, source: &Source, target: &OwnedFd, copied: &mut u64) -> io::Result<()> {
    loop {
        match step(source, target)? {
            0 => return Ok(()),
            count => *copied += count as u64,
        }
    }
}

/// These two files cannot be copied this way, whatever their content.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EXDEV
                | libc::EINVAL
                | libc::ENOSYS
                | libc::EOPNOTSUPP
                | libc::EPERM
                | libc::EBADF
                | libc::EOVERFLOW
        )
    )
}

fn copy_file_range(source: &Source, target: &OwnedFd) -> io::Result<usize> {
    let (from, to) = (source.fd.as_raw_fd(), target.as_raw_fd());
    let null = std::ptr::null_mut();
    sys::retry(|| {
        // SAFETY: without offsets the descriptors' own positions are used.
        sys::check_len(unsafe { libc::copy_file_range(from, null, to, null, IN_KERNEL, 0) })
    })
}

fn sendfile(source: &Source, target: &OwnedFd) -> io::Result<usize> {
    let (from, to) = (source.fd.as_raw_fd(), target.as_raw_fd());
    sys::retry(|| {
        // SAFETY: without an offset the source's own position is used.
        sys::check_len(unsafe { libc::sendfile(to, from, std::ptr::null_mut(), IN_KERNEL) })
    })
}

fn read_and_write(source: &Source, target: &OwnedFd, copied: &mut u64) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let count = sys::read(source.fd.as_raw_fd(), buffer.spare_capacity_mut())?;
        if count == 0 {
            return Ok(());
        }
        // SAFETY: the call has initialised that many bytes of the spare capacity.
        unsafe { buffer.set_len(count) };
        write_all(target, &buffer).map_err(|(error, _)| error)?;
        *copied += count as u64;
        buffer.clear();
    }
}
