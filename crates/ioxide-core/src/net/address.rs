//! Socket addresses as the kernel has them and as a program reads them.
#![allow(unsafe_code, reason = "sockaddr is an untagged family of C structures")]

use std::ffi::CString;
use std::io;
use std::mem::{self, offset_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

const PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);
const PATH_MAX: usize = size_of::<libc::sockaddr_un>() - PATH_OFFSET;

/// The address of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    V4(SocketAddrV4),
    /// Flow information and scope are in host order, as in Python's address tuples.
    V6(SocketAddrV6),
    /// A Unix socket in the file system.
    UnixPath(Box<[u8]>),
    /// A Unix socket in Linux's abstract name space; without the leading zero byte.
    UnixAbstract(Box<[u8]>),
    /// A Unix socket without a name, or no address at all.
    Unnamed,
}

impl Address {
    /// The IP address and port `ip:port`, without flow information and scope.
    pub fn ip(ip: IpAddr, port: u16) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(SocketAddrV4::new(ip, port)),
            IpAddr::V6(ip) => Self::V6(SocketAddrV6::new(ip, port, 0, 0)),
        }
    }

    /// A host that is a number: `127.0.0.1`, `::1`, `fe80::1%eth0`, `fe80::1%2`. `None` for a name,
    /// also for a scope that is no interface of this machine.
    pub fn parse_numeric(host: &str, port: u16) -> Option<Self> {
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Some(Self::V4(SocketAddrV4::new(ip, port)));
        }
        let (ip, scope) = match host.split_once('%') {
            Some((ip, scope)) => (ip, parse_scope(scope)?),
            None => (host, 0),
        };
        let ip = ip.parse::<Ipv6Addr>().ok()?;
        Some(Self::V6(SocketAddrV6::new(ip, port, 0, scope)))
    }

    /// The address family, `AF_UNIX` for unnamed addresses.
    pub fn family(&self) -> libc::c_int {
        match self {
            Self::V4(_) => libc::AF_INET,
            Self::V6(_) => libc::AF_INET6,
            Self::UnixPath(_) | Self::UnixAbstract(_) | Self::Unnamed => libc::AF_UNIX,
        }
    }

    /// The kernel's form. Fails with `ENAMETOOLONG` for a Unix name that does not fit and with
    /// `EINVAL` for a path with a zero byte in it.
    pub fn encode(&self) -> io::Result<RawAddress> {
        match self {
            Self::V4(v4) => Ok(RawAddress::from_v4(v4)),
            Self::V6(v6) => Ok(RawAddress::from_v6(v6)),
            Self::UnixPath(path) if path.contains(&0) => {
                Err(io::Error::from_raw_os_error(libc::EINVAL))
            }
            // With the zero byte behind a path and before an abstract name.
            Self::UnixPath(path) => RawAddress::from_unix(path, 0, path.len() + 1),
            Self::UnixAbstract(name) => RawAddress::from_unix(name, 1, name.len() + 1),
            Self::Unnamed => RawAddress::from_unix(&[], 0, 0),
        }
    }
}

/// An address in the kernel's form. Comparing two is a cheap test for the same peer.
#[derive(Clone, Copy)]
pub struct RawAddress {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddress {
    /// Room for any address, empty for now.
    pub(crate) const fn empty() -> Self {
        // SAFETY: sockaddr_storage is plain integers; all zero is `AF_UNSPEC`.
        let storage = unsafe { mem::zeroed() };
        Self { storage, len: 0 }
    }

    /// Notes how long the address is that a call has stored.
    pub(crate) fn set_len(&mut self, len: libc::socklen_t) {
        self.len = len.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
    }

    /// For a call that reads an address.
    pub(crate) fn as_ptr(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.len)
    }

    /// For a call that stores an address and its length.
    pub(crate) fn as_mut_ptr(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        self.len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        ((&raw mut self.storage).cast(), &raw mut self.len)
    }

    /// The address family.
    pub fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.ss_family)
    }

    /// The program's form; families other than IP and Unix have none and are unnamed.
    pub fn decode(&self) -> Address {
        match self.family() {
            libc::AF_INET if self.holds::<libc::sockaddr_in>() => self.decode_v4(),
            libc::AF_INET6 if self.holds::<libc::sockaddr_in6>() => self.decode_v6(),
            libc::AF_UNIX => self.decode_unix(),
            _ => Address::Unnamed,
        }
    }

    fn holds<T>(&self) -> bool {
        self.len as usize >= size_of::<T>()
    }

    fn bytes(&self) -> &[u8] {
        let len = (self.len as usize).min(size_of::<libc::sockaddr_storage>());
        // SAFETY: `storage` is initialised, plain integers, and at least `len` bytes long.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), len) }
    }

    fn from_v4(v4: &SocketAddrV4) -> Self {
        let mut raw = Self::empty();
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: v4.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(v4.ip().octets()),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: sockaddr_storage is large and aligned enough for every address.
        unsafe {
            (&raw mut raw.storage)
                .cast::<libc::sockaddr_in>()
                .write(address)
        };
        raw.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        raw
    }

    fn from_v6(v6: &SocketAddrV6) -> Self {
        let mut raw = Self::empty();
        let address = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: v6.port().to_be(),
            sin6_flowinfo: v6.flowinfo().to_be(),
            sin6_addr: libc::in6_addr {
                s6_addr: v6.ip().octets(),
            },
            sin6_scope_id: v6.scope_id(),
        };
        // SAFETY: sockaddr_storage is large and aligned enough for every address.
        unsafe {
            (&raw mut raw.storage)
                .cast::<libc::sockaddr_in6>()
                .write(address)
        };
        raw.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        raw
    }

    /// `name` at `offset` of `sun_path`, of which `used` bytes count.
    fn from_unix(name: &[u8], offset: usize, used: usize) -> io::Result<Self> {
        if used > PATH_MAX {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let mut raw = Self::empty();
        raw.storage.ss_family = libc::AF_UNIX as libc::sa_family_t;
        // SAFETY: `offset + name.len() <= used <= PATH_MAX`, so the copy ends inside a sockaddr_un,
        // which is smaller than the storage.
        unsafe {
            let path = (&raw mut raw.storage)
                .cast::<u8>()
                .add(PATH_OFFSET + offset);
            path.copy_from_nonoverlapping(name.as_ptr(), name.len());
        }
        raw.len = (PATH_OFFSET + used) as libc::socklen_t;
        Ok(raw)
    }

    fn decode_v4(&self) -> Address {
        // SAFETY: the family says so, and the length was checked.
        let v4 = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
        let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
        Address::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)))
    }

    fn decode_v6(&self) -> Address {
        // SAFETY: the family says so, and the length was checked.
        let v6 = unsafe {
            (&raw const self.storage)
                .cast::<libc::sockaddr_in6>()
                .read()
        };
        let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
        let flowinfo = u32::from_be(v6.sin6_flowinfo);
        let port = u16::from_be(v6.sin6_port);
        Address::V6(SocketAddrV6::new(ip, port, flowinfo, v6.sin6_scope_id))
    }

    fn decode_unix(&self) -> Address {
        match self.bytes().get(PATH_OFFSET..) {
            None | Some([]) => Address::Unnamed,
            Some([0, name @ ..]) => Address::UnixAbstract(name.into()),
            Some(path) => {
                let end = memchr::memchr(0, path).unwrap_or(path.len());
                Address::UnixPath(path[..end].into())
            }
        }
    }
}

impl PartialEq for RawAddress {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for RawAddress {}

impl std::hash::Hash for RawAddress {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl std::fmt::Debug for RawAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.decode().fmt(formatter)
    }
}

fn parse_scope(scope: &str) -> Option<u32> {
    if !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_digit()) {
        return scope.parse().ok();
    }
    let name = CString::new(scope).ok()?;
    // SAFETY: `name` is a string with a zero at its end.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|&index| index != 0)
}
