//! The outgoing queue gives every byte once and in order, whatever the kernel takes at a time.
use std::slice;

use ioxide_core::buffer::outgoing::Outgoing;
use proptest::prelude::*;

/// Takes up to `limit` bytes through at most `count` iovecs, as `writev` would.
fn take(queue: &Outgoing<Vec<u8>>, count: usize, limit: usize) -> Vec<u8> {
    let empty = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut iovecs = vec![empty; count];
    let filled = queue.iovecs(&mut iovecs);
    assert_eq!(filled, count.min(queue.buffers()));
    let mut taken: Vec<u8> = Vec::new();
    for iovec in &iovecs[..filled] {
        assert!(iovec.iov_len > 0, "nothing empty is offered to the kernel");
        // SAFETY: the queue has not changed since it filled the iovecs.
        taken.extend(unsafe { slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len) });
    }
    taken.truncate(limit);
    taken
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_byte_leaves_once_and_in_order(
        steps in prop::collection::vec(
            (prop::option::of(0..6_usize), 1..4_usize, 0..12_usize),
            1..60,
        )
    ) {
        let mut queue = Outgoing::new();
        let (mut expected, mut written) = (Vec::new(), Vec::new());
        let (mut pushed, mut released) = (0, 0);
        let mut next = 0_u8;
        for (push, count, limit) in steps {
            if let Some(len) = push {
                let buffer: Vec<u8> = (0..len as u8).map(|n| next.wrapping_add(n)).collect();
                next = next.wrapping_add(len as u8);
                expected.extend(&buffer);
                match queue.push(buffer) {
                    Some(empty) => prop_assert!(empty.is_empty()),
                    None => pushed += 1,
                }
            }
            let taken = take(&queue, count, limit);
            released += queue.advance(taken.len()).len();
            written.extend(taken);
            prop_assert_eq!(queue.len(), expected.len() - written.len());
            prop_assert_eq!(queue.is_empty(), queue.buffers() == 0);
            prop_assert_eq!(queue.buffers(), pushed - released, "given back at once");
        }
        written.extend(take(&queue, queue.buffers(), usize::MAX));
        prop_assert_eq!(written, expected);
    }
}

#[test]
fn a_buffer_begun_elsewhere_goes_on_where_it_was() {
    let mut queue = Outgoing::new();
    assert_eq!(queue.push_rest(b"done".to_vec(), 4), Some(b"done".to_vec()));
    assert_eq!(queue.push_rest(b"abcdef".to_vec(), 2), None);
    assert_eq!(queue.push(b"gh".to_vec()), None);
    assert_eq!(queue.len(), 6);
    assert_eq!(queue.slices().collect::<Vec<_>>().concat(), b"cdefgh");
    assert_eq!(queue.advance(5), [b"abcdef".to_vec()]);
    assert_eq!(queue.slices().collect::<Vec<_>>(), [b"h"]);
}

#[test]
fn clearing_gives_everything_back() {
    let mut queue = Outgoing::new();
    for bytes in [b"ab", b"cd"] {
        assert!(queue.push(bytes.to_vec()).is_none());
    }
    assert!(queue.advance(1).is_empty());
    assert_eq!(queue.clear(), [b"ab", b"cd"]);
    assert!(queue.is_empty());
    assert!(queue.push(b"ef".to_vec()).is_none());
    assert_eq!(queue.slices().collect::<Vec<_>>(), [b"ef"]);
}
