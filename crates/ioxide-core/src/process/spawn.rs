//! Starting a program: the plan, and the parent's side of carrying it out.
//!
//! The child normally borrows the parent's memory until it runs the program (the semantics of
//! vfork), so that the cost does not depend on how much memory the parent has. It is a copy of the
//! parent (fork) where something must run in it that has side effects on memory, or where it
//! changes its identity: memory must not be shared across privileges.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::child::{self, Failure, Orders};
use super::exit::{self, Child};
use super::stack::Stack;
use crate::sys;

/// What a hook in a forked child is: it runs there just before the program does.
pub type PreExec<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// Everything about a child, in the order in which the child sees to it.
#[derive(Debug, Default)]
pub struct Plan {
    /// What becomes descriptors 0, 1 and 2; `None` leaves the parent's.
    pub stdio: [Option<RawFd>; 3],
    /// Descriptors that the program inherits under their numbers.
    pub pass_fds: Vec<RawFd>,
    /// The working directory.
    pub directory: Option<CString>,
    pub umask: Option<libc::mode_t>,
    /// SIGPIPE and SIGXFSZ, which Python ignores, have their default effect again.
    pub restore_signals: bool,
    pub new_session: bool,
    /// The process group to join; 0 is a new one.
    pub process_group: Option<libc::pid_t>,
    pub extra_groups: Option<Vec<libc::gid_t>>,
    pub group: Option<libc::gid_t>,
    pub user: Option<libc::uid_t>,
    /// Closes every descriptor from 3 on that is not in `pass_fds`.
    pub close_fds: bool,
    /// Paths of the program, tried in order: one for each directory of a search path.
    pub executables: Vec<CString>,
    pub arguments: Vec<CString>,
    /// `NAME=value` each; `None` is the parent's environment.
    pub environment: Option<Environment>,
}

/// The environment of a program, in one piece: there are dozens of entries, and as a rule they are
/// copied for every child.
#[derive(Debug, Default)]
pub struct Environment {
    /// The entries, each with the zero at its end.
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Environment {
    /// An empty one with room for what most parents have.
    pub fn with_room() -> Self {
        Self {
            bytes: Vec::with_capacity(8192),
            starts: Vec::with_capacity(128),
        }
    }

    /// Adds `NAME=value`.
    pub fn push(&mut self, entry: &CStr) {
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(entry.to_bytes_with_nul());
    }

    /// As `execve` takes it: ended by a null pointer, and valid as long as nothing is added.
    pub(super) fn pointers(&self) -> Vec<*const libc::c_char> {
        let mut pointers = Vec::with_capacity(self.starts.len() + 1);
        let starts = self.starts.iter();
        pointers.extend(starts.map(|&start| self.bytes[start..].as_ptr().cast()));
        pointers.push(ptr::null());
        pointers
    }
}

impl<T: AsRef<CStr>> FromIterator<T> for Environment {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        let mut environment = Self::with_room();
        for entry in entries {
            environment.push(entry.as_ref());
        }
        environment
    }
}

/// What failed on the way to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// The process could not be made at all.
    Start,
    Stdio,
    PassFds,
    Directory,
    Session,
    ProcessGroup,
    Groups,
    Group,
    User,
    /// The caller's hook.
    PreExec,
    /// No candidate could be run.
    Exec,
}

/// Why there is no child. Nothing of it is left behind.
#[derive(Debug)]
pub struct SpawnError {
    pub step: Step,
    pub error: io::Error,
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}: {}", self.step, self.error)
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Failure> for SpawnError {
    fn from(failure: Failure) -> Self {
        Self {
            step: failure.step,
            error: io::Error::from_raw_os_error(failure.code),
        }
    }
}

impl SpawnError {
    fn start(error: io::Error) -> Self {
        Self {
            step: Step::Start,
            error,
        }
    }
}

impl Plan {
    /// Starts the program, and returns when it runs.
    ///
    /// `pre_exec` runs in a forked copy of the parent in which only the calling thread exists; in
    /// an interpreter's process it must first do what the interpreter needs after a fork.
    pub fn spawn(&self, pre_exec: Option<PreExec<'_>>) -> Result<Child, SpawnError> {
        let orders = Orders::new(self);
        match pre_exec {
            None if !self.changes_identity() => spawn_sharing_memory(&orders),
            pre_exec => spawn_copying_memory(&orders, pre_exec),
        }
    }

    fn changes_identity(&self) -> bool {
        self.user.is_some() || self.group.is_some() || self.extra_groups.is_some()
    }
}

/// What the child needs to know that shares the parent's memory, and where it leaves its failure.
struct Shared<'a> {
    orders: &'a Orders<'a>,
    signal_mask: libc::sigset_t,
    failure: Option<Failure>,
}

fn spawn_sharing_memory(orders: &Orders<'_>) -> Result<Child, SpawnError> {
    let mut stack = Stack::new();
    // A handler of the parent that ran in the child would change the parent's memory: no signal
    // until the child has none of them any more.
    let signals = BlockedSignals::new();
    let mut shared = Shared {
        orders,
        signal_mask: signals.previous,
        failure: None,
    };
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack is large enough, in nobody else's way, and used from its (aligned) end downwards;
    // CLONE_VFORK suspends this thread until the child runs another program or has ended, so that
    // the stack and `shared` outlive their use and are not touched by both at once.
    let pid = unsafe {
        libc::clone(
            enter_child,
            stack.top(),
            flags,
            ptr::from_mut(&mut shared).cast(),
            &raw mut pidfd,
        )
    };
    let pid = sys::check(pid).map_err(SpawnError::start);
    drop(signals);
    stack.verify();
    let pid = pid?;
    // SAFETY: the call has just returned this descriptor, which nobody else owns.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    // SAFETY: the child has written it through the pointer, which the compiler cannot see.
    let failure = unsafe { ptr::read_volatile(&shared.failure) };
    adopt(pid, pidfd, failure)
}

extern "C" fn enter_child(shared: *mut libc::c_void) -> libc::c_int {
    // SAFETY: this is the argument that was given to `clone`; the parent does not touch it
    // meanwhile.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    child::drop_signal_handlers(&shared.signal_mask);
    shared.failure = Some(child::run(shared.orders, None, None));
    // SAFETY: ends this process alone, without running anything of the parent's.
    unsafe { libc::_exit(child::FAILED) }
}

fn spawn_copying_memory(
    orders: &Orders<'_>,
    pre_exec: Option<PreExec<'_>>,
) -> Result<Child, SpawnError> {
    let (reports, report_to) = report_pipe().map_err(SpawnError::start)?;
    // A handler of the parent that ran in the child would write to the parent's wake-up descriptor.
    let signals = BlockedSignals::new();
    // SAFETY: the child runs nothing but what follows here, and never returns to the caller.
    let pid = sys::check(unsafe { libc::fork() }).map_err(SpawnError::start)?;
    if pid == 0 {
        child::drop_signal_handlers(&signals.previous);
        run_forked(orders, report_to.as_raw_fd(), pre_exec);
    }
    drop(signals);
    drop(report_to);
    let failure = read_report(&reports);
    adopt(pid, None, failure)
}

fn run_forked(orders: &Orders<'_>, report_to: RawFd, pre_exec: Option<PreExec<'_>>) -> ! {
    let failure = child::run(orders, Some(report_to), pre_exec);
    let report = [failure.step as i32, failure.code];
    // SAFETY: the write reads the eight bytes of a live local; nothing can be done if it fails.
    // Then this process ends without running anything of the parent's.
    unsafe {
        libc::write(report_to, report.as_ptr().cast(), size_of_val(&report));
        libc::_exit(child::FAILED)
    }
}

/// A pipe whose writing end is out of the way of the child's standard descriptors.
fn report_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    if writer.as_raw_fd() > 2 {
        return Ok((reader, writer));
    }
    // SAFETY: no pointers are passed; the result is a new descriptor, which nobody else owns.
    let writer = unsafe {
        let raised = sys::check(libc::fcntl(writer.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3))?;
        OwnedFd::from_raw_fd(raised)
    };
    Ok((reader, writer))
}

/// The failure that a child has reported, or `None` once its program runs.
fn read_report(reports: &OwnedFd) -> Option<Failure> {
    let mut report = [MaybeUninit::<u8>::uninit(); 8];
    match sys::read(reports.as_raw_fd(), &mut report) {
        Ok(8) => {
            // SAFETY: the read has initialised all eight bytes.
            let [step, code]: [i32; 2] = unsafe { mem::transmute(report) };
            Some(Failure {
                step: Step::from_code(step),
                code,
            })
        }
        _ => None,
    }
}

impl Step {
    fn from_code(code: i32) -> Self {
        let steps = [
            Self::Stdio,
            Self::PassFds,
            Self::Directory,
            Self::Session,
            Self::ProcessGroup,
            Self::Groups,
            Self::Group,
            Self::User,
            Self::PreExec,
            Self::Exec,
        ];
        steps
            .into_iter()
            .find(|step| *step as i32 == code)
            .unwrap_or(Self::Start)
    }
}

/// Makes a child of a process, or buries it if it has failed.
fn adopt(
    pid: libc::pid_t,
    pidfd: Option<OwnedFd>,
    failure: Option<Failure>,
) -> Result<Child, SpawnError> {
    match (pidfd.map_or_else(|| open_pidfd(pid), Ok), failure) {
        (Ok(pidfd), None) => Ok(Child::new(pid, pidfd)),
        (Ok(pidfd), Some(failure)) => {
            exit::bury(&pidfd);
            Err(failure.into())
        }
        (Err(error), failure) => {
            // With ESRCH somebody else has reaped it, and the number may be another's by now.
            if error.raw_os_error() != Some(libc::ESRCH) {
                kill_and_bury(pid);
            }
            Err(failure.map_or_else(|| SpawnError::start(error), SpawnError::from))
        }
    }
}

/// Ends a child that is not reaped, so that the number is its own.
fn kill_and_bury(pid: libc::pid_t) {
    // SAFETY: no pointers are passed.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let _ = sys::retry(|| {
        // SAFETY: a null status is allowed.
        sys::check(unsafe { libc::waitpid(pid, ptr::null_mut(), 0) })
    })
    .is_ok();
}

fn open_pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd)
        .map_err(io::Error::other)
        .and_then(sys::check)?;
    // SAFETY: the call has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Keeps all signals from the calling thread.
struct BlockedSignals {
    previous: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
        // SAFETY: the sets are plain integers, and live through the calls, which cannot fail then.
        unsafe {
            let mut all: libc::sigset_t = mem::zeroed();
            let mut previous: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut previous);
            Self { previous }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `previous` is what this thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.previous, ptr::null_mut()) };
    }
}
