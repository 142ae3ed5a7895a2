//! The inbox's protocol: in every order of its steps, and under threads.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::mpsc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ioxide_core::inbox::Inbox;

fn take<T: Send>(inbox: &Inbox<T>) -> Vec<T> {
    let mut out = VecDeque::new();
    inbox.take_into(&mut out);
    out.into()
}

#[test]
fn nobody_wakes_a_consumer_that_is_awake() {
    let inbox = Inbox::new();
    assert!(!inbox.push(1));
    assert!(!inbox.is_empty());
    assert!(!inbox.begin_sleep(), "something is queued");
    assert_eq!(take(&inbox), [1]);
    assert!(inbox.is_empty());
    assert!(!inbox.push(2));
}

#[test]
fn exactly_one_producer_wakes_a_sleeper() {
    let inbox = Inbox::new();
    assert!(inbox.begin_sleep());
    assert!(inbox.push(1));
    assert!(!inbox.push(2), "the wake-up is on its way");
    inbox.end_sleep();
    assert!(!inbox.push(3));
    assert!(
        !inbox.begin_sleep(),
        "what came during the sleep is not forgotten"
    );
    assert_eq!(take(&inbox), [1, 2, 3]);
    assert!(inbox.begin_sleep());
    assert!(inbox.push(4), "one wake-up for each sleep");
}

#[test]
fn a_sleep_that_ends_by_itself_needs_no_wake_up() {
    let inbox = Inbox::new();
    assert!(inbox.begin_sleep());
    inbox.end_sleep();
    assert!(inbox.is_empty());
    assert!(!inbox.push(1));
}

#[test]
fn items_are_added_behind_those_already_taken() {
    let inbox = Inbox::new();
    let _ = inbox.push(2);
    let _ = inbox.push(3);
    let mut out = VecDeque::from([1]);
    inbox.take_into(&mut out);
    assert_eq!(out, [1, 2, 3]);
}

/// The consumer sleeps without a timeout to rescue it: a lost wake-up fails the test after a while,
/// and a superfluous one is found by counting.
#[test]
fn no_wake_up_is_lost_or_doubled_between_threads() {
    const PRODUCERS: usize = 3;
    const ITEMS: usize = 4_000;
    let inbox = Arc::new(Inbox::new());
    let (waker, woken) = mpsc::channel();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (inbox, waker) = (Arc::clone(&inbox), waker.clone());
            thread::spawn(move || {
                let mut wakes = 0;
                for item in 0..ITEMS {
                    if inbox.push((producer, item)) {
                        wakes += 1;
                        waker.send(()).unwrap();
                    }
                    if item % 7 == 0 {
                        thread::yield_now();
                    }
                }
                wakes
            })
        })
        .collect();

    let (mut received, mut sleeps) = (0, 0);
    let mut next = [0; PRODUCERS];
    let mut batch = VecDeque::new();
    while received < PRODUCERS * ITEMS {
        if inbox.begin_sleep() {
            sleeps += 1;
            let wake_up = woken.recv_timeout(Duration::from_secs(10));
            assert!(wake_up.is_ok(), "a wake-up was lost");
            inbox.end_sleep();
        }
        inbox.take_into(&mut batch);
        for (producer, item) in batch.drain(..) {
            assert_eq!(item, next[producer], "a producer's items keep their order");
            next[producer] += 1;
            received += 1;
        }
    }
    let wakes: usize = producers
        .into_iter()
        .map(|producer| producer.join().unwrap())
        .sum();
    assert_eq!(wakes, sleeps);
    assert!(woken.try_recv().is_err());
}
