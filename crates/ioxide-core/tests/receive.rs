//! The receive window holds what a plain queue of bytes would hold.
#![allow(clippy::unwrap_used)]

use ioxide_core::buffer::receive::Receive;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Consume(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Append),
        (0..60_usize).prop_map(Step::Consume),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_window_is_what_was_appended_and_not_consumed(steps in steps()) {
        let mut window = Receive::default();
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                Step::Append(data) => {
                    window.append(&data);
                    model.extend(data);
                }
                Step::Consume(count) => {
                    window.consume(count);
                    model.drain(..count.min(model.len()));
                }
            }
            prop_assert_eq!(window.len(), model.len());
            prop_assert_eq!(window.is_empty(), model.is_empty());
            prop_assert_eq!(window.window(), &*model.make_contiguous());
        }
    }
}

#[test]
fn two_parts_are_joined_in_order() {
    let window = Receive::joined(b"left over, ", b"and new");
    assert_eq!(window.window(), b"left over, and new");
}

#[test]
fn a_stream_that_is_read_as_it_comes_does_not_grow_the_memory() {
    let mut window = Receive::joined(b"x", b"");
    let chunk = [7_u8; 1000];
    let mut highest = std::ptr::null();
    for round in 0..10_000 {
        window.append(&chunk);
        window.consume(1000);
        assert_eq!(window.len(), 1);
        if round == 100 {
            highest = window.window().as_ptr();
        }
    }
    let distance = window.window().as_ptr() as isize - highest as isize;
    assert!(
        distance.unsigned_abs() < 16_000,
        "the window wandered {distance} bytes"
    );
}
