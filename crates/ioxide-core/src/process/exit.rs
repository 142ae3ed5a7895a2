//! How a child ends, and signals for it while it lives: by descriptor, so that neither is ever
//! mistaken about whose number it is.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys;

/// The exit status that is reported when the real one is lost.
const UNKNOWN_CODE: i32 = 255;

/// How a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Somebody else has taken its status, as a `waitpid(-1)` or an ignored SIGCHLD does.
    Unknown,
}

impl Exit {
    /// As `subprocess` has it: the status, or the signal's number negated; 255 if unknown.
    pub fn returncode(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => -number,
            Self::Unknown => UNKNOWN_CODE,
        }
    }
}

/// A child process. Its status is reaped once, by [`try_wait`](Self::try_wait); dropped before
/// that, the process goes on, and stays a zombie when it ends.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    exit: Mutex<Option<Exit>>,
}

impl Child {
    pub(super) fn new(pid: libc::pid_t, pidfd: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            exit: Mutex::new(None),
        }
    }

    /// The process's number, to be shown: another process may have it once this one is reaped.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that becomes readable when the process ends.
    pub fn pidfd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// How the process has ended, or `None` while it runs. Never blocks.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        // Under the lock: a second thread would find the status gone and take it for lost.
        let mut exit = self.lock();
        if exit.is_none() {
            *exit = reap(&self.pidfd)?;
        }
        Ok(*exit)
    }

    /// Sends a signal. Fails with `ESRCH` when the process is reaped.
    pub fn send_signal(&self, signal: i32) -> io::Result<()> {
        if self.lock().is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let info = ptr::null::<libc::siginfo_t>();
        // SAFETY: a null info is allowed, and means the same as with `kill`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                info,
                0,
            )
        };
        sys::check(result as libc::c_int).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Exit>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reap(pidfd: &OwnedFd) -> io::Result<Option<Exit>> {
    let info = match wait(pidfd, libc::WNOHANG) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Some(Exit::Unknown)),
        waited => waited?,
    };
    // SAFETY: the call has filled in the part for children, or left all of it zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match info.si_code {
        _ if pid == 0 => None,
        libc::CLD_EXITED => Some(Exit::Code(status)),
        _ => Some(Exit::Signal(status)),
    })
}

/// Reaps a process that has ended or is about to. If somebody else was faster, that is as well.
pub(super) fn bury(pidfd: &OwnedFd) {
    let _ = wait(pidfd, 0).is_ok();
}

fn wait(pidfd: &OwnedFd, flags: libc::c_int) -> io::Result<libc::siginfo_t> {
    // SAFETY: siginfo_t is plain data, for which all zero is valid and means that nothing happened.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = pidfd.as_raw_fd() as libc::id_t;
    sys::retry(|| {
        // SAFETY: `info` lives through the call.
        sys::check(unsafe { libc::waitid(libc::P_PIDFD, id, &mut info, libc::WEXITED | flags) })
    })?;
    Ok(info)
}
