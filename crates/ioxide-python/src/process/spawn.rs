//! From the arguments of `Popen` to a plan, and from a plan that failed to the exception that `Popen` raises.

use super::child::ChildProcess;
use super::transport::Ends;
use crate::kit::{err, ffi, gil, value, Any, Args, Native, Obj, Own, PyResult, Raised, Signature};
use crate::{import, intern, raise};
use ioxide_core::process::exit::Child;
use ioxide_core::process::spawn::{Environment, Plan, SpawnError, Step};
use std::ffi::{CStr, CString};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const NAMES: [&str; 16] = [
    "executables",
    "args",
    "env",
    "cwd",
    "stdio",
    "close_fds",
    "pass_fds",
    "restore_signals",
    "start_new_session",
    "process_group",
    "group",
    "extra_groups",
    "user",
    "umask",
    "preexec_fn",
    "shown",
];

/// `_spawn(...)`: starts a program. Numbers of which -1 means "none", and None, are as `Popen` passes them on;
/// `shown` is the pair of names by which errors call the program and the directory.
pub(crate) fn spawn(args: Args<'_>) -> PyResult<Own<ChildProcess>> {
    const SIGNATURE: Signature<16> = Signature::new("_spawn", NAMES, 16);
    let bound = args.bind(&SIGNATURE)?;
    let mut given = [err::type_error(); 16];
    for (place, argument) in given.iter_mut().zip(bound) {
        if let Some(argument) = argument {
            *place = argument;
        }
    }
    let [executables, arguments, env, cwd, stdio, close_fds, pass_fds, restore, session, rest @ ..] =
        given;
    let [process_group, group, extra_groups, user, umask, hook, shown] = rest;
    let plan = Plan {
        stdio: stdio_of(stdio)?,
        pass_fds: numbers(pass_fds)?,
        directory: cwd.some().map(c_string).transpose()?,
        umask: number::<i64>(umask)?.and_then(|mask| libc::mode_t::try_from(mask).ok()),
        restore_signals: restore.truthy()?,
        new_session: session.truthy()?,
        process_group: number(process_group)?.filter(|group| *group >= 0),
        extra_groups: extra_groups.some().map(numbers).transpose()?,
        group: number(group)?,
        user: number(user)?,
        close_fds: close_fds.truthy()?,
        executables: c_strings(executables)?,
        arguments: c_strings(arguments)?,
        environment: match (env.some(), hook.some()) {
            (Some(env), _) => Some(c_strings(env)?.into_iter().collect()),
            // The hook may change the child's environment, which is a copy by then.
            (None, Some(_)) => None,
            (None, None) => Some(own_environment()),
        },
    };
    let child = match hook.some() {
        Some(hook) => spawn_with_hook(&plan, hook),
        None => gil::released(|| plan.spawn(None)),
    };
    match child {
        Ok(child) => ChildProcess::of(child),
        Err(error) => match shown.tuple_items() {
            [program, directory] => Err(failed(&error, program, directory)),
            _ => Err(failed(&error, shown, shown)),
        },
    }
}

/// A program that is started as nearly all are: without other options than these.
pub(super) struct Simple<'a> {
    /// A tuple, or the shell's line.
    pub(super) args: &'a Any,
    pub(super) shell: bool,
    /// What is to be a pipe; the rest is inherited.
    pub(super) piped: Ends,
    pub(super) cwd: Option<&'a Any>,
    pub(super) env: Option<&'a Any>,
}

/// The parent's ends of a child's pipes, by the child's numbers.
pub(super) type ParentEnds = [Option<OwnedFd>; 3];

/// Starts a program.
pub(super) fn start(simple: &Simple<'_>) -> PyResult<(Own<ChildProcess>, ParentEnds)> {
    let argv = if simple.shell {
        vec![value::str(SHELL)?, value::str("-c")?, simple.args.own()]
    } else {
        simple.args.collect()?
    };
    let Some(program) = argv.first() else {
        return Err(crate::event_loop::missing("subprocess_exec", "program"));
    };
    let none = Obj::none();
    let (cwd, env) = (simple.cwd.unwrap_or(&none), simple.env.unwrap_or(&none));
    let listed = value::list(argv.iter().cloned())?;
    import!("sys", "audit")?.call(&[intern!("subprocess.Popen"), program, &listed, cwd, env])?;
    let pipes = Pipes::new(simple.piped)?;
    let plan = Plan {
        stdio: pipes.theirs(),
        directory: cwd.some().map(c_string).transpose()?,
        restore_signals: true,
        close_fds: true,
        executables: candidates(program, env)?,
        arguments: argv
            .iter()
            .map(|argument| c_string(argument))
            .collect::<PyResult<_>>()?,
        environment: match env.some() {
            Some(env) => {
                let entries = import!("ioxide._popen", "_environment")?.call1(env)?;
                Some(c_strings(&entries)?.into_iter().collect())
            }
            None => Some(own_environment()),
        },
        ..Plan::default()
    };
    match gil::released(|| plan.spawn(None)) {
        Ok(child) => Ok((ChildProcess::of(child)?, pipes.ours())),
        Err(error) => Err(failed(&error, program, cwd)),
    }
}

/// `subprocess._active`: the children that nobody has waited for. Asked of the module each time: when the interpreter
/// ends, the list and what is in it must be free to go.
pub(super) fn unreaped() -> PyResult<Option<Obj>> {
    let found = import!("ioxide._popen", "subprocess")?.attr_opt(intern!("_active"))?;
    Ok(found.filter(|list| !list.is_none()))
}

/// Reaps them, as whoever starts a child does.
pub(super) fn reap_others() -> PyResult<()> {
    match unreaped()? {
        Some(list) if list.len()? > 0 => import!("subprocess", "_cleanup")?.call0().map(drop),
        _ => Ok(()),
    }
}

/// The process of a Popen of ours.
pub(super) fn child_of(popen: &Any) -> PyResult<Own<ChildProcess>> {
    let child = popen.attr(intern!("_child"))?;
    match child.cast::<ChildProcess>() {
        Some(child) => Ok(child.own()),
        None => Err(raise!(err::type_error(), "a Popen of ioxide is required")),
    }
}

const SHELL: &str = "/bin/sh";

/// The pipes between the parent and a child, by the child's numbers.
struct Pipes([Option<(PipeReader, PipeWriter)>; 3]);

impl Pipes {
    fn new(wanted: Ends) -> PyResult<Pipes> {
        let mut pipes = Pipes([None, None, None]);
        for (fd, place) in pipes.0.iter_mut().enumerate() {
            if wanted.has(fd) {
                *place = Some(io::pipe().map_err(|error| err::raise_os(&error))?);
            }
        }
        Ok(pipes)
    }

    fn theirs(&self) -> [Option<RawFd>; 3] {
        let [stdin, stdout, stderr] = &self.0;
        [
            stdin.as_ref().map(|(reader, _)| reader.as_raw_fd()),
            stdout.as_ref().map(|(_, writer)| writer.as_raw_fd()),
            stderr.as_ref().map(|(_, writer)| writer.as_raw_fd()),
        ]
    }

    /// The parent's ends; the child's are closed.
    fn ours(self) -> ParentEnds {
        let [stdin, stdout, stderr] = self.0;
        [
            stdin.map(|(_, writer)| writer.into()),
            stdout.map(|(reader, _)| reader.into()),
            stderr.map(|(reader, _)| reader.into()),
        ]
    }
}

/// The paths under which the program may be found.
fn candidates(program: &Any, env: &Any) -> PyResult<Vec<CString>> {
    let path = c_string(program)?;
    if path.as_bytes().contains(&b'/') {
        return Ok(vec![path]);
    }
    c_strings(&*import!("ioxide._popen", "_candidates")?.call(&[program, env])?)
}

/// The hook is Python code: the child is forked, and is an interpreter before it is the program.
fn spawn_with_hook(plan: &Plan, hook: &Any) -> Result<Child, SpawnError> {
    let mut in_child = || {
        // SAFETY: the one thread of a forked child, which held the lock when it forked.
        unsafe { ffi::PyOS_AfterFork_Child() };
        match hook.call0() {
            Ok(_) => Ok(()),
            Err(raised) => {
                err::discard(raised);
                Err(io::Error::from_raw_os_error(0))
            }
        }
    };
    // SAFETY: the lock is held; before and after belong together.
    unsafe { ffi::PyOS_BeforeFork() };
    let child = plan.spawn(Some(&mut in_child));
    // SAFETY: as above. The child does not come back here.
    unsafe { ffi::PyOS_AfterFork_Parent() };
    child
}

/// What `Popen` raises when the program could not be started.
fn failed(failure: &SpawnError, program: &Any, directory: &Any) -> Raised {
    if failure.step == Step::PreExec {
        return match import!("subprocess", "SubprocessError") {
            Ok(class) => raise!(class, "Exception occurred in preexec_fn."),
            Err(raised) => raised,
        };
    }
    match failure.step {
        Step::Exec => raise_named(&failure.error, program),
        Step::Directory => raise_named(&failure.error, directory),
        _ => err::raise_os(&failure.error),
    }
}

/// `OSError(errno, text, filename)`, which the interpreter makes the right subclass of.
fn raise_named(error: &io::Error, name: &Any) -> Raised {
    let made = || {
        let code = error.raw_os_error().unwrap_or(0);
        let number = value::int(code.into())?;
        let text = import!("os", "strerror")?.call1(&number)?;
        err::os_error().call(&[&number, &text, name])
    };
    match made() {
        Ok(exception) => err::raise_instance(&exception),
        Err(raised) => raised,
    }
}

fn c_string(object: &Any) -> PyResult<CString> {
    let encoded = if object.is_bytes() {
        object.own()
    } else if object.is_str() {
        // SAFETY: a string; a new reference or null.
        unsafe { Obj::steal_or_raised(ffi::PyUnicode_EncodeFSDefault(object.raw()))? }
    } else {
        import!("os", "fsencode")?.call1(object)?
    };
    CString::new(encoded.bytes_content())
        .map_err(|_| raise!(err::value_error(), "embedded null byte"))
}

fn c_strings(objects: &Any) -> PyResult<Vec<CString>> {
    objects
        .collect()?
        .iter()
        .map(|object| c_string(object))
        .collect()
}

/// The parent's environment as it is now: nobody can change it while the lock is held, but later somebody may.
fn own_environment() -> Environment {
    extern "C" {
        static environ: *const *const libc::c_char;
    }
    let mut entries = Environment::with_room();
    // SAFETY: an array of strings that a null pointer ends, or null; see above.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            entries.push(CStr::from_ptr(*at));
            at = at.add(1);
        }
    }
    entries
}

/// The number, unless it is None.
fn number<T: TryFrom<i64>>(object: &Any) -> PyResult<Option<T>> {
    object.some().map(whole::<T>).transpose()
}

fn whole<T: TryFrom<i64>>(object: &Any) -> PyResult<T> {
    T::try_from(object.to_i64()?).map_err(|_| raise!(err::overflow_error(), "number out of range"))
}

fn numbers<T: TryFrom<i64>>(objects: &Any) -> PyResult<Vec<T>> {
    objects
        .collect()?
        .iter()
        .map(|object| whole(object))
        .collect()
}

fn stdio_of(objects: &Any) -> PyResult<[Option<RawFd>; 3]> {
    let mut stdio = [None; 3];
    for (place, object) in stdio.iter_mut().zip(objects.collect()?) {
        *place = Some(whole::<RawFd>(&object)?).filter(|fd| *fd >= 0);
    }
    Ok(stdio)
}
