//! The driver's contract, on the real backend and on the simulated one; and the waker.
#![allow(clippy::unwrap_used)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ioxide_core::clock::{Clock, Manual};
use ioxide_core::driver::epoll::Epoll;
use ioxide_core::driver::simulated::Simulated;
use ioxide_core::driver::waker::Waker;
use ioxide_core::driver::{Driver, Event, Events, Interest, RESERVED_TOKEN};

const MS: u64 = 1_000_000;

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn wait(driver: &impl Driver, timeout_ns: Option<u64>) -> Vec<Event> {
    let mut events = Events::with_capacity(16);
    let count = driver.wait(&mut events, timeout_ns).unwrap();
    assert_eq!(count, events.as_slice().len());
    events.as_slice().to_vec()
}

fn ready(token: u64, readable: bool, writable: bool) -> Event {
    Event {
        token,
        readable,
        writable,
        error: false,
        hangup: false,
        special: false,
    }
}

/// A driver with one descriptor that can be read from and written to.
fn check_contract(driver: &impl Driver, fd: i32) {
    assert_eq!(
        code(driver.modify(fd, 1, Interest::BOTH)),
        Some(libc::ENOENT)
    );
    assert_eq!(code(driver.delete(fd)), Some(libc::ENOENT));
    driver.add(fd, 1, Interest::READABLE).unwrap();
    assert_eq!(
        code(driver.add(fd, 2, Interest::READABLE)),
        Some(libc::EEXIST)
    );
    for _ in 0..2 {
        assert_eq!(
            wait(driver, Some(MS)),
            [ready(1, true, false)],
            "level-triggered"
        );
    }
    driver.modify(fd, 7, Interest::BOTH).unwrap();
    assert_eq!(wait(driver, Some(MS)), [ready(7, true, true)]);
    driver.modify(fd, 8, Interest::NONE).unwrap();
    assert_eq!(wait(driver, Some(0)), []);
    driver.modify(fd, 9, Interest::WRITABLE).unwrap();
    assert_eq!(wait(driver, None), [ready(9, false, true)]);
    for token in [10, 11] {
        driver.modify(fd, token, Interest::READABLE.edge()).unwrap();
        assert_eq!(wait(driver, Some(MS)), [ready(token, true, false)]);
        assert_eq!(wait(driver, Some(0)), [], "of changes only");
    }
    driver.delete(fd).unwrap();
    assert_eq!(wait(driver, Some(0)), []);
}

#[test]
fn epoll_meets_the_contract() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    io::Write::write_all(&mut &theirs, b"x").unwrap();
    check_contract(&Epoll::new().unwrap(), ours.as_raw_fd());
}

#[test]
fn the_simulation_meets_the_contract() {
    let driver = Simulated::new(Arc::new(Manual::default()));
    driver.script(0, 5, Interest::BOTH);
    check_contract(&driver, 5);
}

#[test]
fn epoll_reports_a_hang_up_on_both_sides() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let driver = Epoll::new().unwrap();
    driver.add(ours.as_raw_fd(), 3, Interest::READABLE).unwrap();
    drop(theirs);
    let event = wait(&driver, Some(MS))[0];
    assert!(event.hangup && event.readable && event.writable);
}

#[test]
fn epoll_reports_by_the_edge_what_is_new_and_not_what_is_left() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let driver = Epoll::new().unwrap();
    driver
        .add(ours.as_raw_fd(), 3, Interest::READABLE.edge())
        .unwrap();
    assert_eq!(wait(&driver, Some(0)), []);
    for _ in 0..2 {
        io::Write::write_all(&mut &theirs, b"x").unwrap();
        assert_eq!(wait(&driver, Some(MS)), [ready(3, true, false)]);
        assert_eq!(wait(&driver, Some(0)), []);
    }
    drop(theirs);
    let end = wait(&driver, Some(MS))[0];
    assert!(end.readable && end.special);
    assert_eq!(wait(&driver, Some(0)), []);
}

#[test]
fn epoll_says_by_the_edge_what_may_stand_behind_a_short_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    let driver = Epoll::new().unwrap();
    driver
        .add(ours.as_raw_fd(), 3, Interest::READABLE.edge())
        .unwrap();
    let special = |readable| Event {
        special: true,
        ..ready(3, readable, false)
    };
    // SAFETY: a live descriptor and one live byte.
    let sent = unsafe { libc::send(theirs.as_raw_fd(), b"!".as_ptr().cast(), 1, libc::MSG_OOB) };
    assert_eq!(sent, 1);
    assert!(wait(&driver, Some(MS))[0].special, "urgent data");
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(wait(&driver, Some(MS)), [special(true)], "the end");
}

#[test]
fn the_simulation_reports_by_the_edge_what_has_changed() {
    let clock = Arc::new(Manual::new(0));
    let driver = Simulated::new(Arc::clone(&clock));
    for at in [100, 200] {
        driver.script(at, 4, Interest::READABLE);
    }
    driver.add(4, 11, Interest::READABLE.edge()).unwrap();
    for at in [100, 200] {
        assert_eq!(wait(&driver, None), [ready(11, true, false)]);
        assert_eq!(clock.now(), at);
        assert_eq!(wait(&driver, Some(0)), []);
    }
}

#[test]
fn epoll_refuses_regular_files() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let driver = Epoll::new().unwrap();
    assert_eq!(
        code(driver.add(file.as_raw_fd(), 1, Interest::READABLE)),
        Some(libc::EPERM)
    );
}

#[test]
fn epoll_waits_in_less_than_milliseconds_and_never_too_short() {
    let driver = Epoll::new().unwrap();
    for timeout in [50_000, 300_000, 1_500_000] {
        let start = Instant::now();
        assert_eq!(wait(&driver, Some(timeout)), []);
        assert!(start.elapsed() >= Duration::from_nanos(timeout));
    }
}

#[test]
fn a_full_buffer_leaves_the_other_events_for_the_next_wait() {
    let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
    let driver = Epoll::new().unwrap();
    for (token, (ours, _)) in (0..).zip(&pairs) {
        driver
            .add(ours.as_raw_fd(), token, Interest::WRITABLE)
            .unwrap();
    }
    let mut events = Events::with_capacity(2);
    let mut seen = [false; 3];
    for _ in 0..3 {
        assert_eq!(driver.wait(&mut events, Some(MS)).unwrap(), 2);
        for event in &events {
            seen[event.token as usize] = true;
        }
    }
    assert_eq!(seen, [true; 3]);
}

#[test]
fn a_waker_ends_a_wait_from_another_thread() {
    let (driver, waker) = (Epoll::new().unwrap(), Arc::new(Waker::new().unwrap()));
    driver
        .add(waker.fd(), RESERVED_TOKEN, Interest::READABLE)
        .unwrap();
    let other = Arc::clone(&waker);
    let thread = thread::spawn(move || other.wake());
    assert_eq!(
        wait(&driver, Some(10_000 * MS)),
        [ready(RESERVED_TOKEN, true, false)]
    );
    thread.join().unwrap();
    waker.wake();
    assert!(waker.drain(), "many wake-ups are one");
    assert!(!waker.drain());
    assert_eq!(wait(&driver, Some(0)), []);
}

#[test]
fn the_simulation_moves_time_to_the_next_event_or_the_timeout() {
    let clock = Arc::new(Manual::new(100));
    let driver = Simulated::new(Arc::clone(&clock));
    driver.script(250, 4, Interest::READABLE);
    driver.script(300, 4, Interest::NONE);
    driver.script_hangup(400, 4, true);
    driver.add(4, 11, Interest::READABLE).unwrap();
    assert_eq!(driver.interest(4), Some(Interest::READABLE));

    assert_eq!(wait(&driver, Some(50)), []);
    assert_eq!(clock.now(), 150);
    assert_eq!(wait(&driver, None), [ready(11, true, false)]);
    assert_eq!(clock.now(), 250);
    clock.advance(60);
    assert_eq!(wait(&driver, Some(0)), [], "no longer ready");
    let end = Event {
        token: 11,
        readable: true,
        writable: true,
        error: true,
        hangup: true,
        special: true,
    };
    assert_eq!(wait(&driver, None), [end]);
    assert_eq!(clock.now(), 400);
}

#[test]
fn the_manual_clock_never_goes_back() {
    let clock = Manual::new(10);
    clock.advance_to(5);
    assert_eq!(clock.now(), 10);
}
