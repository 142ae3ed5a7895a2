//! Real children: what they inherit, how they fail to start, and how they end.
#![allow(clippy::unwrap_used)]

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use ioxide_core::process::exit::{Child, Exit};
use ioxide_core::process::spawn::{Environment, Plan, PreExec, SpawnError, Step};

fn string(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn strings(texts: &[&str]) -> Vec<CString> {
    texts.iter().map(|text| string(text)).collect()
}

fn shell(script: &str) -> Plan {
    Plan {
        executables: strings(&["/bin/sh"]),
        arguments: strings(&["sh", "-c", script]),
        restore_signals: true,
        close_fds: true,
        ..Plan::default()
    }
}

fn pipe() -> (File, OwnedFd) {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two descriptors, which are new and owned by nobody else.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    }
}

fn wait(child: &Child) -> Exit {
    let mut poll = libc::pollfd {
        fd: child.pidfd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd that lives through the call.
    let ready = unsafe { libc::poll(&mut poll, 1, 10_000) };
    assert_eq!(ready, 1, "the child has not ended in time");
    child.try_wait().unwrap().unwrap()
}

fn start(plan: &Plan) -> Child {
    plan.spawn(None).unwrap()
}

/// What a plan's program prints, and how it ends; by both ways of starting it.
fn output(mut plan: Plan) -> String {
    let mut outputs = ["sharing memory", "copying memory"].map(|way| {
        let (mut reader, writer) = pipe();
        plan.stdio[1] = Some(writer.as_raw_fd());
        let mut nothing = || Ok(());
        let hook: Option<PreExec<'_>> = if way == "copying memory" {
            Some(&mut nothing)
        } else {
            None
        };
        let child = plan.spawn(hook).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(wait(&child), Exit::Code(0), "{way}: {text}");
        text
    });
    assert_eq!(outputs[0], outputs[1]);
    std::mem::take(&mut outputs[0])
}

fn failure(result: Result<Child, SpawnError>) -> (Step, Option<i32>) {
    let error = result.err().unwrap();
    (error.step, error.error.raw_os_error())
}

#[test]
fn the_exit_status_is_decoded_and_kept() {
    let child = start(&shell("exit 7"));
    assert_eq!(wait(&child), Exit::Code(7));
    assert_eq!(
        child.try_wait().unwrap(),
        Some(Exit::Code(7)),
        "reaped once, known for ever"
    );
    assert_eq!(
        child.send_signal(0).unwrap_err().raw_os_error(),
        Some(libc::ESRCH)
    );
}

#[test]
fn a_running_child_is_signalled_through_its_descriptor() {
    let child = start(&shell("exec sleep 60"));
    assert_eq!(child.try_wait().unwrap(), None);
    child.send_signal(libc::SIGTERM).unwrap();
    let exit = wait(&child);
    assert_eq!(exit, Exit::Signal(libc::SIGTERM));
    assert_eq!(exit.returncode(), -libc::SIGTERM);
}

#[test]
fn a_status_taken_by_others_is_unknown() {
    let child = start(&shell("exit 3"));
    // SAFETY: a null status is allowed.
    let reaped = unsafe { libc::waitpid(child.pid(), std::ptr::null_mut(), 0) };
    assert_eq!(reaped, child.pid());
    assert_eq!(child.try_wait().unwrap(), Some(Exit::Unknown));
    assert_eq!(Exit::Unknown.returncode(), 255);
}

#[test]
fn the_surroundings_are_as_planned() {
    let plan = Plan {
        directory: Some(string("/usr")),
        umask: Some(0o027),
        environment: Some(strings(&["NAME=value with spaces"]).into_iter().collect()),
        new_session: true,
        ..shell(
            "pwd; umask; echo $NAME; cut -d' ' -f6 /proc/self/stat | grep -qx $$ && echo session",
        )
    };
    assert_eq!(output(plan), "/usr\n0027\nvalue with spaces\nsession\n");
}

#[test]
fn the_environment_is_inherited_unless_given() {
    let script = "echo ${PATH:+set} ${HOME:+set}";
    assert!(output(shell(script)).starts_with("set"));
    let empty = Plan {
        environment: Some(Environment::default()),
        ..shell("/usr/bin/env | grep -c ^HOME=; true")
    };
    assert_eq!(output(empty), "0\n");
}

#[test]
fn a_child_can_lead_a_process_group() {
    let plan = Plan {
        process_group: Some(0),
        ..shell("test $(cut -d' ' -f5 /proc/$$/stat) = $$ && echo leads")
    };
    assert_eq!(output(plan), "leads\n");
}

#[test]
fn stdio_may_be_crossed() {
    let (mut out, to_out) = pipe();
    let (mut err, to_err) = pipe();
    let inner = shell("echo out; echo err >&2");
    // The outer child has the ends of both pipes at 2 and 1, and its own child has them crossed.
    let plan = Plan {
        stdio: [None, Some(to_out.as_raw_fd()), Some(to_err.as_raw_fd())],
        ..shell("sh -c 'echo out; echo err >&2' 3>&1 1>&2 2>&3")
    };
    for (plan, swapped) in [
        (&plan, true),
        (
            &Plan {
                stdio: plan.stdio,
                ..inner
            },
            false,
        ),
    ] {
        assert_eq!(wait(&start(plan)), Exit::Code(0));
        let expected = if swapped {
            ("err\n", "out\n")
        } else {
            ("out\n", "err\n")
        };
        let read = |file: &mut File| {
            let mut buffer = [0; 16];
            let len = file.read(&mut buffer).unwrap();
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        };
        assert_eq!((read(&mut out).as_str(), read(&mut err).as_str()), expected);
    }
}

#[test]
fn standard_descriptors_can_change_places() {
    let plan = Plan {
        // Both are the parent's: each would overwrite the other's source if copied as it comes.
        stdio: [Some(1), None, Some(0)],
        ..shell("readlink /proc/$$/fd/0 /proc/$$/fd/2")
    };
    let link = |fd: RawFd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    let expected = format!("{}\n{}\n", link(1).display(), link(0).display());
    assert_eq!(output(plan), expected);
}

#[test]
fn only_passed_descriptors_are_inherited() {
    let (reader, writer) = pipe();
    // SAFETY: no pointers are passed; a copy that is not closed on exec.
    let leaked = unsafe { OwnedFd::from_raw_fd(libc::dup(writer.as_raw_fd())) };
    let script = |fd: RawFd| format!("test -e /proc/$$/fd/{fd} && echo open || echo closed");
    let with = |pass_fds: Vec<RawFd>, close_fds| {
        output(Plan {
            pass_fds,
            close_fds,
            ..shell(&script(leaked.as_raw_fd()))
        })
    };
    assert_eq!(with(vec![], true), "closed\n");
    assert_eq!(with(vec![reader.as_raw_fd()], true), "closed\n");
    assert_eq!(
        with(vec![leaked.as_raw_fd(), reader.as_raw_fd()], true),
        "open\n"
    );
    assert_eq!(with(vec![], false), "open\n");
    let passed = Plan {
        pass_fds: vec![writer.as_raw_fd()],
        ..shell(&script(writer.as_raw_fd()))
    };
    assert_eq!(output(passed), "open\n", "also one that is closed on exec");
}

#[test]
fn each_failure_names_its_step() {
    let missing = Plan {
        executables: strings(&["/nowhere/sh", "/nowhere/else"]),
        ..shell("")
    };
    assert_eq!(
        failure(missing.spawn(None)),
        (Step::Exec, Some(libc::ENOENT))
    );
    let telling = Plan {
        executables: strings(&["/nowhere", "/etc/passwd", "/none"]),
        ..shell("")
    };
    assert_eq!(
        failure(telling.spawn(None)),
        (Step::Exec, Some(libc::EACCES))
    );
    let directory = Plan {
        directory: Some(string("/nowhere")),
        ..shell("")
    };
    assert_eq!(
        failure(directory.spawn(None)),
        (Step::Directory, Some(libc::ENOENT))
    );
    let stdio = Plan {
        stdio: [Some(9_999), None, None],
        ..shell("")
    };
    assert_eq!(failure(stdio.spawn(None)), (Step::Stdio, Some(libc::EBADF)));
    let passed = Plan {
        pass_fds: vec![9_999],
        ..shell("")
    };
    assert_eq!(
        failure(passed.spawn(None)),
        (Step::PassFds, Some(libc::EBADF))
    );
    let group = Plan {
        process_group: Some(1),
        ..shell("")
    };
    assert_eq!(failure(group.spawn(None)).0, Step::ProcessGroup);
    let mut hook = || Err(io::Error::from_raw_os_error(libc::EXDEV));
    assert_eq!(
        failure(shell("").spawn(Some(&mut hook))),
        (Step::PreExec, Some(libc::EXDEV))
    );
    let mut panic = || std::panic::resume_unwind(Box::new("a bug in a hook"));
    assert_eq!(
        failure(shell("").spawn(Some(&mut panic))),
        (Step::PreExec, Some(0))
    );
    let mut fine = || Ok(());
    assert_eq!(
        failure(missing.spawn(Some(&mut fine))),
        (Step::Exec, Some(libc::ENOENT))
    );
}

#[test]
fn the_second_candidate_is_tried_when_the_first_is_missing() {
    let plan = Plan {
        executables: strings(&["/nowhere/sh", "/bin/sh"]),
        ..shell("echo found")
    };
    assert_eq!(output(plan), "found\n");
}

/// Everything that a plan may have much of. The start itself fails where the child needed too much of its stack.
fn long_plan(pass_fds: Vec<RawFd>) -> Plan {
    let mut executables = vec![string("/nowhere/sh"); 1000];
    executables.push(string("/bin/sh"));
    let mut arguments = strings(&["sh", "-c", "echo $# ${#LAST}; umask; pwd", "sh"]);
    arguments.extend(vec![string(&"x".repeat(100)); 5000]);
    let mut environment = Environment::with_room();
    for number in 0..3000 {
        environment.push(&string(&format!("NAME_{number}={}", "y".repeat(100))));
    }
    environment.push(&string(&format!("LAST={}", "z".repeat(60_000))));
    Plan {
        executables,
        arguments,
        environment: Some(environment),
        directory: Some(string(&format!("{}/usr", "/.".repeat(2000)))),
        umask: Some(0o77),
        new_session: true,
        pass_fds,
        ..shell("")
    }
}

#[test]
fn a_long_plan_needs_no_more_stack() {
    let (reader, _writer) = pipe();
    let copies: Vec<File> = (0..300).map(|_| reader.try_clone().unwrap()).collect();
    // Every second one, so that there are as many gaps to close.
    let pass_fds: Vec<RawFd> = copies.iter().step_by(2).map(AsRawFd::as_raw_fd).collect();
    assert_eq!(
        output(long_plan(pass_fds)),
        "5000 60000\n0077\n/usr\n",
        "in a thread of the usual size"
    );
}

#[test]
fn a_start_fits_into_a_thread_with_a_small_stack() {
    // The child's part, as much for who starts it, and what a failed assertion needs to say so.
    let small = std::thread::Builder::new().stack_size(48 * 1024);
    let plan = shell("exit 7");
    let exit = std::thread::scope(|scope| {
        let thread = small.spawn_scoped(scope, || start(&plan)).unwrap();
        wait(&thread.join().unwrap())
    });
    assert_eq!(exit, Exit::Code(7));
}

#[test]
fn a_failed_start_leaves_no_zombie_and_no_descriptor() {
    // In a table of its own: the threads of other tests open descriptors meanwhile.
    // SAFETY: takes integers only; this thread owns none of the descriptors that it leaves.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
    let descriptors = || std::fs::read_dir("/proc/thread-self/fd").unwrap().count();
    let plan = Plan {
        executables: strings(&["/nowhere"]),
        ..shell("")
    };
    let mut hook = || Ok(());
    let before = descriptors();
    for _ in 0..10 {
        assert!(plan.spawn(None).is_err());
        assert!(plan.spawn(Some(&mut hook)).is_err());
    }
    assert_eq!(descriptors(), before);
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "children of this thread alone");
}

#[test]
fn a_hook_runs_in_the_child_only() {
    let parent = std::process::id();
    let mut ran_here = false;
    let (mut reader, writer) = pipe();
    let fd = writer.as_raw_fd();
    let mut hook = || {
        ran_here = true;
        let text = if std::process::id() == parent {
            "parent"
        } else {
            "child"
        };
        // SAFETY: `text` is valid for reads of its length.
        unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
        Ok(())
    };
    let child = shell("true").spawn(Some(&mut hook)).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "child");
    assert_eq!(wait(&child), Exit::Code(0));
    assert!(!ran_here, "the child has a copy of the memory");
}

#[test]
fn ignored_signals_are_restored_on_request() {
    // Ignored by the Rust runtime as by Python's.
    let ignored = |restore_signals| {
        let script = "sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status";
        let text = output(Plan {
            restore_signals,
            ..shell(script)
        });
        u64::from_str_radix(text.trim(), 16).unwrap() & (1 << (libc::SIGPIPE - 1)) != 0
    };
    assert!(ignored(false));
    assert!(!ignored(true));
}

#[test]
fn the_parents_signal_mask_and_handlers_stay() {
    extern "C" fn handler(_: libc::c_int) {}
    let mask = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status
            .lines()
            .find(|line| line.starts_with("SigBlk"))
            .unwrap()
            .to_owned()
    };
    // SAFETY: the handler does nothing, which is safe at any time.
    unsafe { libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t) };
    let before = mask();
    let caught = output(shell(
        "sed -n 's/^SigCgt:[[:space:]]*//p' /proc/self/status",
    ));
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    assert_eq!(
        caught & (1 << (libc::SIGUSR2 - 1)),
        0,
        "the program has no handler"
    );
    assert_eq!(mask(), before);
    // SAFETY: the handler is as before.
    let now = unsafe { libc::signal(libc::SIGUSR2, libc::SIG_DFL) };
    assert_eq!(now, handler as *const () as libc::sighandler_t);
}

#[test]
fn an_identity_can_be_given_up() {
    // SAFETY: no pointers are passed.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    let plan = Plan {
        user: Some(65_534),
        group: Some(65_533),
        extra_groups: Some(vec![65_532]),
        ..shell("id -u; id -g; id -G")
    };
    assert_eq!(output(plan), "65534\n65533\n65533 65532\n");
}
