//! The search for separators finds under every chunking what its definition says.

use ioxide_core::buffer::receive::Receive;
use ioxide_core::buffer::scan::{find, line_end, Scan, Scanner, Separators};

use super::Target;
use crate::corpus::Trace;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "scan",
    words: &[b"\r\n", b"\n", b"aa", b"aba", b"abab"],
    run,
};

/// Few different bytes, so that separators occur and overlap.
fn folded(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ab\r\n";
    bytes
        .iter()
        .map(|byte| match byte {
            b'a' | b'b' | b'\r' | b'\n' | 0xFF => *byte,
            byte => ALPHABET[usize::from(byte % 4)],
        })
        .collect()
}

/// The definition: the match that ends first; of those that end together, the shortest.
fn first_match(window: &[u8], separators: &[Vec<u8>]) -> Option<(usize, usize)> {
    (1..=window.len()).find_map(|end| {
        let len = separators
            .iter()
            .filter(|separator| window[..end].ends_with(separator))
            .map(Vec::len)
            .min()?;
        Some((end - len, end))
    })
}

fn run(input: &mut Input<'_>, trace: &mut Trace) {
    let separators: Vec<_> = (0..1 + input.below(4))
        .map(|_| {
            let len = 1 + input.below(6);
            folded(input.take(len))
        })
        .collect();
    let Ok(several) = Separators::several(separators.clone()) else {
        assert!(separators.iter().any(Vec::is_empty));
        return;
    };
    let longest = separators.iter().map(Vec::len).max().unwrap_or(0);
    trace.note(separators.len() as u64);
    // As a reader does: bytes arrive, a line is found, what it was found in is consumed.
    let mut received = Receive::default();
    let mut scanner = Scanner::new(several.clone());
    let mut arrived = 0;
    while !input.is_over() {
        let len = 1 + input.below(24);
        let chunk = folded(input.take(len));
        arrived += chunk.len();
        received.append(&chunk);
        loop {
            let window = received.window();
            assert_eq!(
                line_end(window),
                window.iter().position(|b| *b == b'\n').map(|at| at + 1)
            );
            let expected = first_match(window, &separators);
            match scanner.scan(window) {
                Scan::Found { start, end } => {
                    assert_eq!(Some((start, end)), expected);
                    assert!(find(window, &window[start..end]).is_some_and(|at| at <= start));
                    trace.note(0x100 + (end - start) as u64 * 8 + start.min(7) as u64);
                    received.consume(end);
                    arrived -= end;
                    scanner = Scanner::new(several.clone());
                }
                Scan::Missing { clear } => {
                    assert_eq!(expected, None);
                    assert!(clear <= (window.len() + 1).saturating_sub(longest));
                    trace.note(0x10000 + clear.min(7) as u64);
                    break;
                }
            }
        }
        assert_eq!(received.len(), arrived);
    }
}
