//! Flow control: asyncio's marks, and one pause and one resumption in turn.
#![allow(clippy::unwrap_used)]

use ioxide_core::buffer::watermark::{InvalidMarks, Watermark};
use proptest::prelude::*;

fn marks(high: Option<usize>, low: Option<usize>) -> Result<(usize, usize), InvalidMarks> {
    let mut watermark = Watermark::default();
    watermark.set(high, low)?;
    Ok((watermark.high(), watermark.low()))
}

#[test]
fn missing_marks_follow_from_the_other() {
    let default = Watermark::default();
    assert_eq!((default.high(), default.low()), (65_536, 16_384));
    assert_eq!(marks(None, None), Ok((65_536, 16_384)));
    assert_eq!(marks(Some(1_000), None), Ok((1_000, 250)));
    assert_eq!(marks(None, Some(1_000)), Ok((4_000, 1_000)));
    assert_eq!(marks(Some(0), None), Ok((0, 0)));
    assert_eq!(marks(None, Some(usize::MAX)), Ok((usize::MAX, usize::MAX)));
}

#[test]
fn a_low_mark_above_the_high_one_changes_nothing() {
    let mut watermark = Watermark::default();
    assert_eq!(
        watermark.set(Some(1), Some(2)),
        Err(InvalidMarks { high: 1, low: 2 })
    );
    assert_eq!(watermark, Watermark::default());
}

#[test]
fn the_marks_themselves_are_not_passed() {
    let mut watermark = Watermark::default();
    watermark.set(Some(10), Some(4)).unwrap();
    assert!(!watermark.on_grow(10));
    assert!(watermark.on_grow(11));
    assert!(!watermark.on_grow(12), "told once");
    assert!(!watermark.on_shrink(5));
    assert!(watermark.on_shrink(4));
    assert!(!watermark.on_shrink(0), "told once");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pauses_and_resumptions_take_turns(
        high in 0..50_usize,
        low in 0..50_usize,
        lens in prop::collection::vec(0..80_usize, 1..100),
    ) {
        prop_assume!(low <= high);
        let mut watermark = Watermark::default();
        watermark.set(Some(high), Some(low)).unwrap();
        let (mut paused, mut before) = (false, 0);
        for len in lens {
            if len >= before {
                let pause = watermark.on_grow(len);
                prop_assert_eq!(pause, !paused && len > high);
                paused |= pause;
            } else {
                let resume = watermark.on_shrink(len);
                prop_assert_eq!(resume, paused && len <= low);
                paused &= !resume;
            }
            prop_assert_eq!(watermark.paused(), paused);
            before = len;
        }
    }
}
