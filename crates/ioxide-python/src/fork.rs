//! Which side of a fork this is: a number that changes in every forked child.

use crate::kit::{err, gil, PyResult};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between this process and the one that imported the module. What was made under another
/// number belongs to a parent: its threads do not exist here, its descriptors are shared.
#[inline(always)]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// How many forks this process or its parents have made or come from since the module was imported: descriptors that
/// were opened under another number may be open in another process too.
#[inline(always)]
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

extern "C" fn in_parent() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
    gil::forked();
}

/// Makes forks count, whoever forks. Once, at import.
pub(crate) fn count() -> PyResult<()> {
    // SAFETY: the handlers are functions that live as long as the process (an extension module is never
    // unloaded) and do nothing that a child of a process with threads may not do.
    match unsafe { libc::pthread_atfork(None, Some(in_parent), Some(in_child)) } {
        0 => Ok(()),
        code => Err(err::raise_os(&io::Error::from_raw_os_error(code))),
    }
}
