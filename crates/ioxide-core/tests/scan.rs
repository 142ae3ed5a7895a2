//! The scanner finds under every chunking what a search of the whole would find.
#![allow(clippy::unwrap_used)]

use ioxide_core::buffer::scan::{find, line_end, Scan, Scanner, Separators, SeparatorsError};
use proptest::prelude::*;

/// The definition: the match that ends first; of those that end together, the shortest.
fn first_match(bytes: &[u8], separators: &[Vec<u8>]) -> Option<(usize, usize)> {
    (1..=bytes.len()).find_map(|end| {
        let suffix = |separator: &&Vec<u8>| bytes[..end].ends_with(separator);
        let len = separators.iter().filter(suffix).map(Vec::len).min()?;
        Some((end - len, end))
    })
}

fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), len)
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
    fn the_same_is_found_under_every_chunking(
        data in bytes(0..60),
        separators in prop::collection::vec(bytes(1..5), 1..4),
        cuts in prop::collection::vec(0..60_usize, 0..8),
    ) {
        let several = Separators::several(separators.clone()).unwrap();
        let mut scanner = Scanner::new(several);
        let longest = separators.iter().map(Vec::len).max().unwrap();
        let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut < data.len()).collect();
        cuts.push(data.len());
        cuts.sort_unstable();
        for cut in cuts {
            let window = &data[..cut];
            match (scanner.scan(window), first_match(window, &separators)) {
                (Scan::Found { start, end }, expected) => {
                    prop_assert_eq!(Some((start, end)), expected);
                    return Ok(());
                }
                (Scan::Missing { clear }, expected) => {
                    prop_assert_eq!(expected, None);
                    prop_assert!(clear <= (window.len() + 1).saturating_sub(longest));
                }
            }
        }
    }

    #[test]
    fn one_separator_is_a_list_of_one(data in bytes(0..40), separator in bytes(1..4)) {
        let mut one = Scanner::new(Separators::one(&separator).unwrap());
        let mut several = Scanner::new(Separators::several(vec![&separator]).unwrap());
        prop_assert_eq!(one.scan(&data), several.scan(&data));
    }

    #[test]
    fn find_is_the_first_place(data in bytes(0..40), needle in bytes(1..4)) {
        let expected = data.windows(needle.len()).position(|window| window == needle);
        prop_assert_eq!(find(&data, &needle), expected);
    }
}

#[test]
fn what_was_scanned_is_not_scanned_again() {
    let mut scanner = Scanner::new(Separators::one(b"\r\n").unwrap());
    assert_eq!(scanner.scan(b"abc\r"), Scan::Missing { clear: 3 });
    // A separator in the part that is known to have none stays unseen.
    assert_eq!(scanner.scan(b"\r\nc\r"), Scan::Missing { clear: 3 });
    assert_eq!(scanner.scan(b"\r\nc\r\n"), Scan::Found { start: 3, end: 5 });
}

#[test]
fn a_window_that_lost_bytes_is_scanned_from_its_start() {
    let mut scanner = Scanner::new(Separators::one(b"\n").unwrap());
    assert_eq!(scanner.scan(b"abcdef"), Scan::Missing { clear: 6 });
    assert_eq!(scanner.scan(b"a\n"), Scan::Found { start: 1, end: 2 });
}

#[test]
fn the_shorter_of_two_that_end_together_is_the_match() {
    for separators in [[&b"\r\n"[..], b"\n"], [b"\n", b"\r\n"]] {
        let mut scanner = Scanner::new(Separators::several(separators.to_vec()).unwrap());
        assert_eq!(scanner.scan(b"ab\r\n"), Scan::Found { start: 3, end: 4 });
    }
}

#[test]
fn useless_separators_are_refused() {
    assert_eq!(Separators::one(b"").err(), Some(SeparatorsError::Empty));
    assert_eq!(
        Separators::<&[u8]>::several(vec![]).err(),
        Some(SeparatorsError::None)
    );
    assert_eq!(
        Separators::several(vec![&b"x"[..], b""]).err(),
        Some(SeparatorsError::Empty)
    );
}

#[test]
fn a_line_ends_behind_its_line_feed() {
    assert_eq!(line_end(b"ab\ncd\n"), Some(3));
    assert_eq!(line_end(b"ab"), None);
    assert_eq!(line_end(b""), None);
}
