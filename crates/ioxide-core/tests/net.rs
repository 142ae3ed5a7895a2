//! Addresses, sockets, accepting and datagrams on the loopback.
#![allow(clippy::unwrap_used)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ioxide_core::net::accept::{accept_batch, classify, BatchEnd, Failure};
use ioxide_core::net::address::Address;
use ioxide_core::net::datagram;
use ioxide_core::net::socket::{self, Connect};
use ioxide_core::sys;
use proptest::prelude::*;

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn loopback() -> Address {
    Address::ip(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

fn bound(kind: i32, address: &Address) -> (OwnedFd, Address) {
    let fd = socket::create(address.family(), kind, 0).unwrap();
    socket::bind(fd.as_raw_fd(), address).unwrap();
    let address = socket::local_address(fd.as_raw_fd()).unwrap();
    (fd, address)
}

fn listener() -> (OwnedFd, Address) {
    let (fd, address) = bound(libc::SOCK_STREAM, &loopback());
    socket::listen(fd.as_raw_fd(), 16).unwrap();
    (fd, address)
}

fn connected(address: &Address) -> OwnedFd {
    let fd = socket::create(address.family(), libc::SOCK_STREAM, 0).unwrap();
    let _ = socket::connect(fd.as_raw_fd(), address).unwrap();
    fd
}

fn received(read: impl FnOnce(&mut [MaybeUninit<u8>]) -> usize) -> Vec<u8> {
    let mut buffer = [MaybeUninit::new(0_u8); 64];
    let len = read(&mut buffer);
    // SAFETY: every byte was initialised above.
    buffer[..len]
        .iter()
        .map(|byte| unsafe { byte.assume_init() })
        .collect()
}

fn flag(fd: RawFd, command: i32, bit: i32) -> bool {
    // SAFETY: no pointers are passed.
    let flags = unsafe { libc::fcntl(fd, command) };
    flags & bit != 0
}

fn is_quiet_and_private(fd: RawFd) -> bool {
    flag(fd, libc::F_GETFL, libc::O_NONBLOCK) && flag(fd, libc::F_GETFD, libc::FD_CLOEXEC)
}

fn addresses() -> impl Strategy<Value = Address> {
    let v4 = any::<(u32, u16)>()
        .prop_map(|(ip, port)| Address::V4(SocketAddrV4::new(Ipv4Addr::from(ip), port)));
    let v6 = any::<(u128, u16, u32, u32)>().prop_map(|(ip, port, flow, scope)| {
        Address::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope))
    });
    let path =
        prop::collection::vec(1..=255_u8, 1..=107).prop_map(|path| Address::UnixPath(path.into()));
    let name = prop::collection::vec(any::<u8>(), 0..=107)
        .prop_map(|name| Address::UnixAbstract(name.into()));
    prop_oneof![v4, v6, path, name, Just(Address::Unnamed)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn addresses_survive_the_kernels_form(address in addresses()) {
        let raw = address.encode().unwrap();
        prop_assert_eq!(raw.family(), address.family());
        prop_assert_eq!(&raw.decode(), &address);
        prop_assert_eq!(raw, address.encode().unwrap());
    }

    #[test]
    fn parsing_a_host_never_fails_badly(host in "[0-9a-f:.%lo]{0,24}") {
        let _ = Address::parse_numeric(&host, 1);
    }
}

#[test]
fn unix_names_that_do_not_fit_are_refused() {
    let path = |len| Address::UnixPath(vec![b'a'; len].into());
    assert!(path(107).encode().is_ok());
    assert_eq!(code(path(108).encode()), Some(libc::ENAMETOOLONG));
    let name = Address::UnixAbstract(vec![b'a'; 108].into());
    assert_eq!(code(name.encode()), Some(libc::ENAMETOOLONG));
    let zero = Address::UnixPath((*b"a\0b").into());
    assert_eq!(code(zero.encode()), Some(libc::EINVAL));
}

#[test]
fn numbers_are_hosts_and_names_are_not() {
    let parse = |host| Address::parse_numeric(host, 80);
    let v6 = |text: &str, scope| {
        Some(Address::V6(SocketAddrV6::new(
            text.parse().unwrap(),
            80,
            0,
            scope,
        )))
    };
    assert_eq!(
        parse("127.0.0.1"),
        Some(Address::ip(Ipv4Addr::LOCALHOST.into(), 80))
    );
    assert_eq!(parse("::1"), v6("::1", 0));
    assert_eq!(parse("fe80::1%7"), v6("fe80::1", 7));
    assert_eq!(parse("fe80::1%lo"), v6("fe80::1", 1));
    for name in [
        "",
        "localhost",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.4%lo",
        "1.2.3.4%0",
        "::1%",
        "::1%nowhere",
        "::1%\0",
        "[::1]",
    ] {
        assert_eq!(parse(name), None, "{name:?}");
    }
}

#[test]
fn every_descriptor_is_non_blocking_and_closed_on_exec() {
    let (listener, address) = listener();
    let client = connected(&address);
    let mut accepted = None;
    let end = accept_batch(listener.as_raw_fd(), 1, |fd, _| {
        accepted = Some(fd);
        ControlFlow::Continue(())
    });
    assert!(matches!(end, BatchEnd::Full));
    let (left, right) = socket::pair(libc::SOCK_STREAM).unwrap();
    for fd in [listener, client, accepted.unwrap(), left, right] {
        assert!(is_quiet_and_private(fd.as_raw_fd()));
    }
}

#[test]
fn a_batch_ends_when_it_is_full_stopped_or_drained() {
    let (listener, address) = listener();
    let clients: Vec<_> = (0..4).map(|_| connected(&address)).collect();
    let mut peers = Vec::new();
    let mut batch = |max, stop_at: usize| {
        accept_batch(listener.as_raw_fd(), max, |_, peer| {
            peers.push(peer);
            if peers.len() == stop_at {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    };
    assert!(matches!(batch(2, 0), BatchEnd::Full));
    assert!(matches!(batch(9, 3), BatchEnd::Stopped));
    assert!(matches!(batch(9, 0), BatchEnd::Drained));
    let locals: Vec<_> = clients
        .iter()
        .map(|fd| socket::local_address(fd.as_raw_fd()).unwrap())
        .collect();
    assert_eq!(peers, locals);
}

#[test]
fn a_useless_listener_ends_the_batch_at_once() {
    let (fd, _) = bound(libc::SOCK_DGRAM, &loopback());
    let end = accept_batch(fd.as_raw_fd(), 5, |_, _| ControlFlow::Continue(()));
    assert!(
        matches!(end, BatchEnd::Failed(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP))
    );
}

#[test]
fn failures_of_accept_are_told_apart() {
    assert_eq!(classify(libc::EAGAIN), Failure::WouldBlock);
    assert_eq!(classify(libc::ECONNABORTED), Failure::Transient);
    assert_eq!(classify(libc::EPERM), Failure::Transient);
    for exhausted in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(classify(exhausted), Failure::OutOfResources);
    }
    assert_eq!(classify(libc::EBADF), Failure::Fatal);
}

#[test]
fn a_refused_connection_is_found_by_its_error() {
    let (closed, address) = bound(libc::SOCK_STREAM, &loopback());
    let fd = socket::create(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap();
    // Bound but not listening: the loopback refuses, at once or soon.
    match socket::connect(fd.as_raw_fd(), &address) {
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED)),
        Ok(started) => {
            assert_eq!(started, Connect::InProgress);
            assert_eq!(
                code(socket::take_error(fd.as_raw_fd())),
                Some(libc::ECONNREFUSED)
            );
            assert_eq!(code(socket::take_error(fd.as_raw_fd())), None, "taken");
        }
    }
    assert_eq!(
        code(socket::peer_address(closed.as_raw_fd())),
        Some(libc::ENOTCONN)
    );
}

#[test]
fn unix_sockets_connect_at_once_by_abstract_name() {
    let name = format!("ioxide-core-{}", std::process::id());
    let address = Address::UnixAbstract(name.as_bytes().into());
    let (fd, local) = bound(libc::SOCK_STREAM, &address);
    assert_eq!(local, address);
    socket::listen(fd.as_raw_fd(), 1).unwrap();
    let client = socket::create(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
    assert_eq!(
        socket::connect(client.as_raw_fd(), &address).unwrap(),
        Connect::Done
    );
    assert_eq!(socket::peer_address(client.as_raw_fd()).unwrap(), address);
    assert_eq!(
        socket::local_address(client.as_raw_fd()).unwrap(),
        Address::Unnamed
    );
}

#[test]
fn datagrams_arrive_with_their_sender() {
    let (one, one_address) = bound(libc::SOCK_DGRAM, &loopback());
    let (two, two_address) = bound(libc::SOCK_DGRAM, &loopback());
    let receiver = two_address.encode().unwrap();
    for text in [&b"hello"[..], b"", b"again"] {
        let sent = datagram::send_to(one.as_raw_fd(), text, &receiver).unwrap();
        assert_eq!(sent, text.len());
    }
    let mut buffer = [MaybeUninit::uninit(); 32];
    let batch = datagram::receive_batch(two.as_raw_fd(), &mut buffer, 4).unwrap();
    let batch: Vec<_> = batch.collect();
    let texts: Vec<&[u8]> = batch
        .iter()
        .zip(buffer.chunks_exact(8))
        // SAFETY: the kernel has initialised as many bytes as it counts.
        .map(|((len, _), part)| unsafe { part[..*len].assume_init_ref() })
        .collect();
    assert_eq!(texts, [&b"hello"[..], b"", b"again"]);
    let sender = one_address.encode().unwrap();
    assert!(batch.iter().all(|(_, from)| *from == sender));
    let again = datagram::receive_batch(two.as_raw_fd(), &mut buffer, 4).map(|_| ());
    assert_eq!(code(again), Some(libc::EAGAIN));
}

#[test]
fn streams_carry_bytes_and_report_a_peer_that_is_gone() {
    let (left, right) = socket::pair(libc::SOCK_STREAM).unwrap();
    assert_eq!(sys::send(left.as_raw_fd(), b"ab").unwrap(), 2);
    assert_eq!(sys::write(left.as_raw_fd(), b"cd").unwrap(), 2);
    assert_eq!(
        received(|buffer| sys::recv(right.as_raw_fd(), &mut buffer[..3]).unwrap()),
        b"abc"
    );
    assert_eq!(
        received(|buffer| sys::read(right.as_raw_fd(), buffer).unwrap()),
        b"d"
    );
    socket::shutdown(right.as_raw_fd(), libc::SHUT_WR).unwrap();
    assert_eq!(
        received(|buffer| sys::recv(left.as_raw_fd(), buffer).unwrap()),
        b""
    );
    sys::close(right).unwrap();
    assert_eq!(code(sys::send(left.as_raw_fd(), b"x")), Some(libc::EPIPE));
}

#[test]
fn several_buffers_leave_in_one_call() {
    let (left, right) = socket::pair(libc::SOCK_STREAM).unwrap();
    let parts = [&b"ab"[..], b"cde"];
    let mut iovecs = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    // SAFETY: the parts live as long as the test.
    unsafe {
        assert_eq!(sys::writev(left.as_raw_fd(), &iovecs).unwrap(), 5);
        assert_eq!(
            sys::send_vectored(left.as_raw_fd(), &mut iovecs).unwrap(),
            5
        );
    }
    assert_eq!(
        received(|buffer| sys::recv(right.as_raw_fd(), buffer).unwrap()),
        b"abcdeabcde"
    );
}

#[test]
fn options_are_set() {
    let (fd, _) = listener();
    let fd = fd.as_raw_fd();
    socket::set_reuse_address(fd).unwrap();
    socket::set_reuse_port(fd).unwrap();
    socket::set_no_delay(fd).unwrap();
    socket::set_keep_alive(fd).unwrap();
    let options = [
        (libc::SOL_SOCKET, libc::SO_REUSEADDR),
        (libc::SOL_SOCKET, libc::SO_REUSEPORT),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    ];
    for (level, name) in options {
        assert_ne!(socket::option(fd, level, name).unwrap(), 0);
    }
    socket::set_nonblocking(fd, false).unwrap();
    assert!(!flag(fd, libc::F_GETFL, libc::O_NONBLOCK));
    let (datagrams, _) = bound(libc::SOCK_DGRAM, &loopback());
    socket::set_broadcast(datagrams.as_raw_fd()).unwrap();
    assert_eq!(
        socket::option(datagrams.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST).unwrap(),
        1
    );
}
