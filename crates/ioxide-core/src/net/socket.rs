//! Sockets from creation to connection: always non-blocking, always closed on exec.
#![allow(unsafe_code, reason = "system calls")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::address::{Address, RawAddress};
use crate::sys;

/// How a connection attempt has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a connection in progress must be waited for"]
pub enum Connect {
    /// Connected already, as Unix and some local connections are.
    Done,
    /// Connected or failed as soon as the socket is writable: see [`take_error`].
    InProgress,
}

/// A new socket. Fails with `EAFNOSUPPORT` for a family that this machine does not have.
pub fn create(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = sys::check(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the call has just returned this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Two connected Unix sockets.
pub fn pair(kind: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two descriptors.
    sys::check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call has just returned these descriptors, which nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Gives a socket its own address.
pub fn bind(fd: RawFd, address: &Address) -> io::Result<()> {
    let raw = address.encode()?;
    let (pointer, len) = raw.as_ptr();
    // SAFETY: `pointer` and `len` describe the live `raw`.
    sys::check(unsafe { libc::bind(fd, pointer, len) })?;
    Ok(())
}

/// Lets a socket be connected to, with up to `backlog` connections waiting to be accepted.
pub fn listen(fd: RawFd, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    sys::check(unsafe { libc::listen(fd, backlog) })?;
    Ok(())
}

/// Begins to connect. A Unix socket whose peer's backlog is full fails with `EAGAIN`, and does not
/// become writable when that changes: the attempt must be repeated.
pub fn connect(fd: RawFd, address: &Address) -> io::Result<Connect> {
    let raw = address.encode()?;
    let (pointer, len) = raw.as_ptr();
    // SAFETY: `pointer` and `len` describe the live `raw`.
    match sys::check(unsafe { libc::connect(fd, pointer, len) }) {
        Ok(_) => Ok(Connect::Done),
        // An interrupted attempt goes on by itself; to repeat the call would report EALREADY.
        Err(error) => match error.raw_os_error() {
            Some(libc::EINPROGRESS | libc::EINTR) => Ok(Connect::InProgress),
            _ => Err(error),
        },
    }
}

/// The error that a socket has pending, which is thereby cleared: how a connection attempt ended.
pub fn take_error(fd: RawFd) -> io::Result<()> {
    match option(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// A socket's own address.
pub fn local_address(fd: RawFd) -> io::Result<Address> {
    let mut raw = RawAddress::empty();
    let (pointer, len) = raw.as_mut_ptr();
    // SAFETY: `pointer` and `len` describe the live `raw`.
    sys::check(unsafe { libc::getsockname(fd, pointer, len) })?;
    Ok(raw.decode())
}

/// The address of the peer. Fails with `ENOTCONN` when there is none.
pub fn peer_address(fd: RawFd) -> io::Result<Address> {
    let mut raw = RawAddress::empty();
    let (pointer, len) = raw.as_mut_ptr();
    // SAFETY: `pointer` and `len` describe the live `raw`.
    sys::check(unsafe { libc::getpeername(fd, pointer, len) })?;
    Ok(raw.decode())
}

/// Closes one or both directions: `SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`.
pub fn shutdown(fd: RawFd, how: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    sys::check(unsafe { libc::shutdown(fd, how) })?;
    Ok(())
}

/// A socket option that is an integer.
pub fn option(fd: RawFd, level: i32, name: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` has room for `len` bytes, and both live through the call.
    sys::check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut len) })?;
    Ok(value)
}

/// Whether this is TCP itself: one stream of bytes without marks in it.
pub fn is_tcp(fd: RawFd) -> bool {
    option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL).is_ok_and(|known| known == libc::IPPROTO_TCP)
}

/// Sets a socket option that is an integer or a flag.
pub fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` has `len` bytes and lives through the call.
    sys::check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) })?;
    Ok(())
}

/// Lets a server take a port that connections of its predecessor still linger on.
pub fn set_reuse_address(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)
}

/// Lets several sockets share a port, with the kernel dealing out what arrives.
pub fn set_reuse_port(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

/// Sends small segments at once, instead of collecting them while others are on their way.
pub fn set_no_delay(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Probes a silent peer from time to time.
pub fn set_keep_alive(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)
}

/// Keeps an IPv6 socket from taking IPv4 as well.
pub fn set_v6_only(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)
}

/// Allows datagrams to broadcast addresses.
pub fn set_broadcast(fd: RawFd) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)
}

/// Makes a descriptor that was made elsewhere non-blocking, or blocking again.
pub fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let flags = sys::check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    let wanted = if nonblocking {
        flags | libc::O_NONBLOCK
    } else {
        flags & !libc::O_NONBLOCK
    };
    if wanted != flags {
        // SAFETY: no pointers are passed.
        sys::check(unsafe { libc::fcntl(fd, libc::F_SETFL, wanted) })?;
    }
    Ok(())
}
