//! Child processes as objects: started without copying the parent, watched and signalled by descriptor.

pub(crate) mod child;
mod methods;
pub(crate) mod object;
mod pipes;
pub(crate) mod spawn;
mod starting;
pub(crate) mod transport;
mod waiting;

use crate::kit::{ffi, Any, Native, PyResult};
use std::ffi::CStr;

pub(crate) fn build() -> PyResult<()> {
    child::build()?;
    transport::build()?;
    waiting::build()?;
    object::build()?;
    starting::build()
}

pub(crate) fn classes() -> Vec<(&'static CStr, &'static Any)> {
    vec![
        (
            c"SubprocessTransport",
            transport::SubprocessTransport::class().object(),
        ),
        (c"BaseProcess", object::BaseProcess::class().object()),
        (
            c"BaseProcessStreams",
            object::BaseProcessStreams::class().object(),
        ),
    ]
}

pub(crate) fn functions() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::function!("_spawn", spawn::spawn, "Starts a program."),
        crate::function!(
            "_start_process",
            starting::start_process,
            "Starts a program, and connects it to a protocol."
        ),
        crate::function!(
            "create_subprocess_exec",
            starting::create_exec,
            "create_subprocess_exec(program, *args, stdin=None, stdout=None, stderr=None, limit=65536, \
                **kwds)\n--\n\nRun a program; the keywords are those of subprocess.Popen.\n\nReturn a Process, \
                whose streams are there for what is PIPE; None, the default, is the parent's. limit is that of \
                the readers, in bytes. OSError if the program cannot be started: FileNotFoundError names one \
                that is not there."
        ),
    ]
}

/// Which of the functions is a coroutine function.
pub(crate) const COROUTINE: &str = "create_subprocess_exec";
