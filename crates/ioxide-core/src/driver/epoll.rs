//! Readiness from Linux's epoll, with timeouts in nanoseconds where the kernel has them.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Driver, Event, Events, Interest};
use crate::sys;

const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    /// Cleared when the kernel (before 5.11) or a sandbox refuses `epoll_pwait2`.
    nanoseconds: AtomicBool,
}

impl Epoll {
    /// A new instance, closed on exec. Fails when descriptors or memory run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = sys::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call has just returned this descriptor, which nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            fd,
            nanoseconds: AtomicBool::new(true),
        })
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: RawFd,
        event: Option<libc::epoll_event>,
    ) -> io::Result<()> {
        let mut event = event;
        let event = event.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: `event` is null, which EPOLL_CTL_DEL allows, or points to a live local.
        sys::check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, event) })?;
        Ok(())
    }

    fn wait_raw(
        &self,
        buffer: &mut [MaybeUninit<libc::epoll_event>],
        timeout_ns: Option<u64>,
    ) -> io::Result<usize> {
        let milliseconds = match timeout_ns {
            None => -1,
            Some(0) => 0,
            Some(ns) => {
                if self.nanoseconds.load(Ordering::Relaxed) {
                    match self.wait_ns(buffer, ns) {
                        Err(error) if is_refused(&error) => {
                            self.nanoseconds.store(false, Ordering::Relaxed);
                        }
                        result => return result,
                    }
                }
                // Rounded up: to wake before a timer is due would mean to spin until it is.
                libc::c_int::try_from(ns.div_ceil(NS_PER_MS)).unwrap_or(libc::c_int::MAX)
            }
        };
        let (start, len) = (buffer.as_mut_ptr().cast(), buffer.len() as libc::c_int);
        // SAFETY: `start` is valid for writes of `len` events, and the kernel initialises what it
        // counts.
        let count =
            sys::check(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), start, len, milliseconds) })?;
        Ok(count as usize)
    }

    fn wait_ns(&self, buffer: &mut [MaybeUninit<libc::epoll_event>], ns: u64) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: (ns / NS_PER_S) as libc::time_t,
            tv_nsec: (ns % NS_PER_S) as libc::c_long,
        };
        let (start, len) = (buffer.as_mut_ptr(), buffer.len() as libc::c_int);
        let no_mask = ptr::null::<libc::sigset_t>();
        // SAFETY: `start` is valid for writes of `len` events, `timeout` lives through the call,
        // and a null mask leaves the signals as they are. Called by number, since older C libraries
        // lack it.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                start,
                len,
                ptr::from_ref(&timeout),
                no_mask,
                0_usize,
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Driver for Epoll {
    fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, Some(request(token, interest)))
    }

    fn modify(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, Some(request(token, interest)))
    }

    fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, None)
    }

    fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize> {
        events.clear();
        let mut buffer = [const { MaybeUninit::<libc::epoll_event>::uninit() }; Events::MAX];
        let count = match self.wait_raw(&mut buffer[..events.capacity()], timeout_ns) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => 0,
            result => result?,
        };
        for raw in &buffer[..count] {
            // SAFETY: the kernel has initialised the first `count` events.
            events.push(report(unsafe { raw.assume_init() }));
        }
        Ok(count)
    }
}

/// What makes a read stop short of what there is.
const SPECIAL: libc::c_int = libc::EPOLLRDHUP | libc::EPOLLPRI;

fn request(token: u64, interest: Interest) -> libc::epoll_event {
    let mut events = 0;
    if interest.readable {
        events |= libc::EPOLLIN;
    }
    if interest.writable {
        events |= libc::EPOLLOUT;
    }
    if interest.edge {
        events |= libc::EPOLLET;
        if interest.readable {
            events |= SPECIAL;
        }
    }
    libc::epoll_event {
        events: events as u32,
        u64: token,
    }
}

fn report(raw: libc::epoll_event) -> Event {
    let bits = raw.events as libc::c_int;
    let ended = bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
    Event {
        token: raw.u64,
        readable: ended || bits & libc::EPOLLIN != 0,
        writable: ended || bits & libc::EPOLLOUT != 0,
        error: bits & libc::EPOLLERR != 0,
        hangup: bits & libc::EPOLLHUP != 0,
        special: ended || bits & SPECIAL != 0,
    }
}

/// Whether the call itself is not to be had: an old kernel, or a sandbox that does not know it.
fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
    )
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::{Duration, Instant};

    use super::{AtomicBool, Driver, Epoll, Events};

    #[test]
    fn without_nanoseconds_a_timeout_is_rounded_up() -> io::Result<()> {
        let driver = Epoll {
            nanoseconds: AtomicBool::new(false),
            ..Epoll::new()?
        };
        let start = Instant::now();
        assert_eq!(driver.wait(&mut Events::with_capacity(1), Some(1))?, 0);
        assert!(start.elapsed() >= Duration::from_millis(1));
        Ok(())
    }
}
