//! Numeric addresses are what the C library reads in them, and survive the kernel's form.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddrV6};

use ioxide_core::net::address::Address;

use super::Target;
use crate::corpus::Trace;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "address",
    words: &[
        b"::",
        b"127.0.0.1",
        b"%lo",
        b"%1",
        b"ffff:",
        b"::ffff:1.2.3.4",
        b".255",
        b"fe80::1%",
        b"0x7f",
        b"1.2.3.04",
        b":0:0:",
    ],
    run,
};

extern "C" {
    // POSIX; the libc crate does not declare it.
    fn inet_pton(
        family: libc::c_int,
        text: *const libc::c_char,
        address: *mut libc::c_void,
    ) -> libc::c_int;
}

/// What `inet_pton` reads in a text, in network order.
fn c_library<const N: usize>(family: libc::c_int, text: &str) -> Option<[u8; N]> {
    let text = CString::new(text).ok()?;
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: `text` ends with a zero, and an address of the family has N bytes.
    let read = unsafe { inet_pton(family, text.as_ptr(), bytes.as_mut_ptr().cast()) };
    // SAFETY: one means that the address was stored.
    (read == 1).then(|| unsafe { bytes.assume_init() })
}

fn run(input: &mut Input<'_>, trace: &mut Trace) {
    let port = u16::from_ne_bytes([input.byte(), input.byte()]);
    let kind = input.below(4);
    trace.note(kind as u64);
    let bytes = input.rest();
    match kind {
        0 => unix(Address::UnixPath(bytes.into()), bytes, trace),
        1 => unix(Address::UnixAbstract(bytes.into()), bytes, trace),
        2 => round_trip(&address_of(bytes, port)),
        _ => numeric(&String::from_utf8_lossy(bytes), port, trace),
    }
}

fn numeric(host: &str, port: u16, trace: &mut Trace) {
    for part in host.split(|c: char| !c.is_ascii_hexdigit()) {
        trace.note(16 + part.len().min(15) as u64);
    }
    let parsed = Address::parse_numeric(host, port);
    if let Some((ip, scope)) = host.split_once('%') {
        let number = scope.bytes().all(|byte| byte.is_ascii_digit()) && !scope.is_empty();
        match &parsed {
            Some(Address::V6(v6)) => {
                assert_eq!(
                    c_library(libc::AF_INET6, ip),
                    Some(v6.ip().octets()),
                    "{host:?}"
                );
                assert!(!number || scope.parse() == Ok(v6.scope_id()), "{host:?}");
            }
            Some(other) => panic!("{host:?} is {other:?}"),
            None => {}
        }
    } else {
        let v4 = c_library(libc::AF_INET, host);
        let v6 = c_library(libc::AF_INET6, host);
        match &parsed {
            Some(Address::V4(found)) => assert_eq!(v4, Some(found.ip().octets()), "{host:?}"),
            Some(Address::V6(found)) => assert_eq!(v6, Some(found.ip().octets()), "{host:?}"),
            Some(other) => panic!("{host:?} is {other:?}"),
            None => assert!(v4.is_none() && v6.is_none(), "{host:?} was not recognised"),
        }
    }
    trace.note(64 + u64::from(parsed.is_some()));
    if let Some(address) = parsed {
        round_trip(&address);
    }
}

fn address_of(bytes: &[u8], port: u16) -> Address {
    let mut all = [0; 24];
    let len = bytes.len().min(24);
    all[..len].copy_from_slice(&bytes[..len]);
    let mut octets = [0; 16];
    octets.copy_from_slice(&all[..16]);
    let number = |at: usize| u32::from_ne_bytes([all[at], all[at + 1], all[at + 2], all[at + 3]]);
    if len.is_multiple_of(2) {
        Address::ip(
            std::net::IpAddr::from([all[0], all[1], all[2], all[3]]),
            port,
        )
    } else {
        Address::V6(SocketAddrV6::new(
            Ipv6Addr::from(octets),
            port,
            number(16),
            number(20),
        ))
    }
}

fn round_trip(address: &Address) {
    match address.encode() {
        Ok(raw) => assert_eq!(&raw.decode(), address),
        Err(error) => panic!("{address:?} has no form: {error}"),
    }
}

fn unix(address: Address, name: &[u8], trace: &mut Trace) {
    match address.encode() {
        Ok(raw) if name.is_empty() && matches!(address, Address::UnixPath(_)) => {
            // An empty path has the form of an empty abstract name.
            assert_eq!(raw.decode(), Address::UnixAbstract(Box::default()));
        }
        Ok(raw) => assert_eq!(raw.decode(), address),
        Err(error) => {
            trace.note(error.raw_os_error().unwrap_or(0) as u64 + 128);
            assert!(
                name.len() > 100 || name.contains(&0),
                "{address:?}: {error}"
            );
        }
    }
}
