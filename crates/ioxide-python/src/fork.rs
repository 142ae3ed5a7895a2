//! Which side of a fork this is: a number that changes in every forked child.

use crate::kit::{err, gil, PyResult};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between this process and the one that imported the module. What was made under another
/// number belongs to a parent: its threads do not exist here, its descriptors are shared.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    gil::forked();
}

/// Makes forks count, whoever forks. Once, at import.
pub(crate) fn count() -> PyResult<()> {
    // SAFETY: the handler is a function that lives as long as the process (an extension module is never
    // unloaded) and does nothing that a child of a process with threads may not do.
    match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
        0 => Ok(()),
        code => Err(err::raise_os(&io::Error::from_raw_os_error(code))),
    }
}
