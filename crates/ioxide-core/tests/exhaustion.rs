//! Running out of descriptors; alone in its process, since the limit holds for all of it.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;

use ioxide_core::net::accept::{accept_batch, BatchEnd};
use ioxide_core::net::socket;

fn limit_descriptors(limit: u64) {
    let limit = libc::rlimit {
        rlim_cur: limit,
        rlim_max: 1024,
    };
    // SAFETY: `limit` lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

#[test]
fn a_listener_survives_that_descriptors_run_out() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket::set_nonblocking(listener.as_raw_fd(), true).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut accepted = Vec::new();
    let mut batch = || {
        accept_batch(listener.as_raw_fd(), 8, |fd, _| {
            accepted.push(fd);
            ControlFlow::Continue(())
        })
    };
    limit_descriptors(3);
    let refused = batch();
    limit_descriptors(1024);
    let end = batch();
    let BatchEnd::OutOfResources(error) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    assert!(matches!(end, BatchEnd::Drained), "{end:?}");
    assert_eq!(accepted.len(), 1, "the connection has waited");
}
