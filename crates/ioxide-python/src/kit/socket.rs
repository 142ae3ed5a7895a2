//! The descriptor of a socket object, read out of its struct: to call `fileno()` costs more than the rest of what one
//! does before a system call.

use super::{ffi, Any, PyResult};
use crate::{import, intern};
use std::ffi::c_int;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering};

/// How the struct of `_socket.socket` begins.
#[repr(C)]
struct Socket {
    head: ffi::PyObject,
    descriptor: c_int,
    family: c_int,
    kind: c_int,
    protocol: c_int,
}

/// Whether a socket was found to be such a struct: compared once, with the first one.
static LAYOUT: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const KNOWN: u8 = 1;
const DIFFERENT: u8 = 2;

/// Whether this is exactly a `socket.socket`.
#[inline(always)]
pub(crate) fn is_plain(socket: &Any) -> PyResult<bool> {
    Ok(socket.class().is(import!("socket", "socket")?))
}

/// What `fileno()` says, -1 for a closed socket. Of anything but a `socket.socket`, subclasses included, it is asked.
#[inline(always)]
pub(crate) fn descriptor(socket: &Any) -> PyResult<RawFd> {
    if LAYOUT.load(Ordering::Relaxed) == KNOWN && is_plain(socket)? {
        // SAFETY: an instance of the very class, whose layout was compared.
        return Ok(unsafe { fields(socket) }[0]);
    }
    ask_descriptor(socket)
}

#[cold]
fn ask_descriptor(socket: &Any) -> PyResult<RawFd> {
    if LAYOUT.load(Ordering::Relaxed) == UNKNOWN && is_plain(socket)? {
        compare(socket)?;
    }
    let number = socket.method0(intern!("fileno"))?.to_i64()?;
    Ok(RawFd::try_from(number).unwrap_or(-1))
}

/// # Safety
/// An instance of `socket.socket`, which is at least as large as the struct.
#[inline]
unsafe fn fields(socket: &Any) -> [RawFd; 4] {
    // SAFETY: by the caller's promise; nothing writes meanwhile, as the interpreter lock is held.
    let socket = unsafe { &*socket.raw().cast::<Socket>() };
    [
        socket.descriptor,
        socket.family,
        socket.kind,
        socket.protocol,
    ]
}

#[cold]
fn compare(socket: &Any) -> PyResult<()> {
    let said = [
        socket.method0(intern!("fileno"))?,
        socket.attr(intern!("family"))?,
        socket.attr(intern!("type"))?,
        socket.attr(intern!("proto"))?,
    ];
    // SAFETY: a live object's type.
    let size = unsafe { (*socket.type_raw()).tp_basicsize };
    let mut known = usize::try_from(size).is_ok_and(|size| size >= size_of::<Socket>());
    if known {
        // SAFETY: an instance of this size at least.
        let found = unsafe { fields(socket) };
        for (said, found) in said.iter().zip(found) {
            known = known && said.to_i64()? == i64::from(found);
        }
    }
    let layout = if known { KNOWN } else { DIFFERENT };
    LAYOUT.store(layout, Ordering::Relaxed);
    Ok(())
}
