//! What runs in a child between its birth and its program.
//!
//! Everything here may run while the child shares the memory of a parent with many threads: no
//! allocation, no lock, no panic, nothing but system calls. Only the caller's hook does more, and
//! for it the child is a copy.
#![allow(unsafe_code, reason = "system calls")]

use std::ffi::CString;
use std::os::fd::RawFd;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

use super::spawn::{Environment, Plan, PreExec, Step};

/// The exit status of a child that does not reach its program.
pub(super) const FAILED: libc::c_int = 255;

extern "C" {
    static environ: *const *const libc::c_char;
}

/// A step that did not work, with its `errno`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub step: Step,
    pub code: i32,
}

/// A plan with all that needs memory done beforehand.
pub(super) struct Orders<'a> {
    plan: &'a Plan,
    /// The arguments, ended by a null pointer.
    arguments: Vec<*const libc::c_char>,
    environment: Option<Vec<*const libc::c_char>>,
    /// The descriptors from 3 on that stay open, ascending.
    kept: Vec<RawFd>,
}

impl<'a> Orders<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let mut kept: Vec<RawFd> = plan.pass_fds.iter().copied().filter(|&fd| fd > 2).collect();
        kept.sort_unstable();
        Self {
            plan,
            arguments: pointers(&plan.arguments),
            environment: plan.environment.as_ref().map(Environment::pointers),
            kept,
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Gives every signal that has a handler its default effect, then lets signals in again.
pub(super) fn drop_signal_handlers(mask: &libc::sigset_t) {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: `action` is plain data that lives through the calls. They fail for the signals
        // that cannot have a handler, which is as well.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &mut action) == 0
                && action.sa_sigaction != libc::SIG_IGN
                && action.sa_sigaction != libc::SIG_DFL
            {
                set_default(signal);
            }
        }
    }
    // SAFETY: `mask` is a valid set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

fn set_default(signal: libc::c_int) {
    // SAFETY: `signal` has the default effect afterwards, for which no handler is needed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Carries the plan out, and returns only if that fails. `spare` stays open until then.
pub(super) fn run(
    orders: &Orders<'_>,
    spare: Option<RawFd>,
    pre_exec: Option<PreExec<'_>>,
) -> Failure {
    match prepare(orders, spare, pre_exec) {
        Ok(()) => execute(orders),
        Err(failure) => failure,
    }
}

fn prepare(
    orders: &Orders<'_>,
    spare: Option<RawFd>,
    pre_exec: Option<PreExec<'_>>,
) -> Result<(), Failure> {
    let plan = orders.plan;
    place_stdio(plan.stdio)?;
    for &fd in &plan.pass_fds {
        inherit(fd).map_err(|code| Failure {
            step: Step::PassFds,
            code,
        })?;
    }
    set_surroundings(plan)?;
    set_identity(plan)?;
    if let Some(hook) = pre_exec {
        run_hook(hook)?;
    }
    if plan.close_fds {
        close_others(&orders.kept, spare);
    }
    Ok(())
}

fn run_hook(hook: PreExec<'_>) -> Result<(), Failure> {
    // A panic that left this copy of the parent through the caller would make it a second parent.
    let code = match panic::catch_unwind(AssertUnwindSafe(hook)) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.raw_os_error().unwrap_or(0),
        Err(_) => 0,
    };
    Err(Failure {
        step: Step::PreExec,
        code,
    })
}

fn set_surroundings(plan: &Plan) -> Result<(), Failure> {
    if let Some(directory) = &plan.directory {
        // SAFETY: a string with a zero at its end.
        check(Step::Directory, unsafe { libc::chdir(directory.as_ptr()) })?;
    }
    if let Some(mask) = plan.umask {
        // SAFETY: no pointers are passed; it cannot fail.
        unsafe { libc::umask(mask) };
    }
    if plan.restore_signals {
        set_default(libc::SIGPIPE);
        set_default(libc::SIGXFSZ);
    }
    if plan.new_session {
        // SAFETY: no pointers are passed.
        check(Step::Session, unsafe { libc::setsid() })?;
    }
    if let Some(group) = plan.process_group {
        // SAFETY: no pointers are passed.
        check(Step::ProcessGroup, unsafe { libc::setpgid(0, group) })?;
    }
    Ok(())
}

/// By number: the C library's functions would ask the parent's other threads, which do not exist
/// here, to do the same.
fn set_identity(plan: &Plan) -> Result<(), Failure> {
    if let Some(groups) = &plan.extra_groups {
        // SAFETY: `groups` is valid for reads of its length.
        let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        check(Step::Groups, result as libc::c_int)?;
    }
    if let Some(group) = plan.group {
        // SAFETY: no pointers are passed.
        let result = unsafe { libc::syscall(libc::SYS_setregid, group, group) };
        check(Step::Group, result as libc::c_int)?;
    }
    if let Some(user) = plan.user {
        // SAFETY: no pointers are passed.
        let result = unsafe { libc::syscall(libc::SYS_setreuid, user, user) };
        check(Step::User, result as libc::c_int)?;
    }
    Ok(())
}

fn place_stdio(mut sources: [Option<RawFd>; 3]) -> Result<(), Failure> {
    // A source among the targets moves out of the way first, lest another one overwrites it.
    for (target, source) in (0..).zip(&mut sources) {
        if let Some(fd) = source {
            if *fd <= 2 && *fd != target {
                // SAFETY: no pointers are passed.
                *fd = check(Step::Stdio, unsafe {
                    libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 3)
                })?;
            }
        }
    }
    for (target, source) in (0..).zip(sources) {
        match source {
            Some(fd) if fd == target => {
                inherit(fd).map_err(|code| Failure {
                    step: Step::Stdio,
                    code,
                })?;
            }
            // SAFETY: no pointers are passed.
            Some(fd) => drop(check(Step::Stdio, unsafe { libc::dup2(fd, target) })?),
            None => {}
        }
    }
    Ok(())
}

/// Keeps a descriptor open in the program.
fn inherit(fd: RawFd) -> Result<(), i32> {
    // SAFETY: no pointers are passed.
    unsafe {
        match libc::fcntl(fd, libc::F_GETFD) {
            -1 => Err(errno()),
            flags => match libc::fcntl(fd, libc::F_SETFD, flags & !libc::FD_CLOEXEC) {
                -1 => Err(errno()),
                _ => Ok(()),
            },
        }
    }
}

/// Closes everything from 3 on but the `kept` descriptors, which ascend, and `spare`.
fn close_others(kept: &[RawFd], spare: Option<RawFd>) {
    let mut start: RawFd = 3;
    loop {
        let next_kept = kept.iter().copied().find(|&fd| fd >= start);
        let next = match (next_kept, spare.filter(|&fd| fd >= start)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let Some(next) = next else {
            return close_range(start, RawFd::MAX);
        };
        if next > start {
            close_range(start, next.wrapping_sub(1));
        }
        start = next.wrapping_add(1);
    }
}

/// Closes the descriptors from `first` to `last`, both included.
fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: no pointers are passed; nothing of this process is used through these descriptors any
    // more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        // A kernel before 5.9, or a sandbox that does not know the call: one by one.
        let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, libc::c_long::from(RawFd::MAX));
        for fd in first..=last.min(limit as RawFd) {
            libc::close(fd);
        }
    }
}

fn execute(orders: &Orders<'_>) -> Failure {
    let environment = match &orders.environment {
        Some(environment) => environment.as_ptr(),
        // SAFETY: a plain read of a pointer that the C library keeps valid; whoever changes the
        // environment meanwhile breaks every `execv` as well.
        None => unsafe { environ },
    };
    // The most telling error: that of a candidate which is there but cannot be run.
    let mut code = libc::ENOENT;
    let mut found = false;
    for path in &orders.plan.executables {
        // SAFETY: a string, and arrays of strings that a null pointer ends; all of them live.
        unsafe { libc::execve(path.as_ptr(), orders.arguments.as_ptr(), environment) };
        if !found {
            code = errno();
            found = code != libc::ENOENT && code != libc::ENOTDIR;
        }
    }
    Failure {
        step: Step::Exec,
        code,
    }
}

fn check(step: Step, result: libc::c_int) -> Result<libc::c_int, Failure> {
    if result == -1 {
        Err(Failure {
            step,
            code: errno(),
        })
    } else {
        Ok(result)
    }
}

fn errno() -> i32 {
    // SAFETY: the pointer to this thread's `errno` is always valid.
    unsafe { *libc::__errno_location() }
}
