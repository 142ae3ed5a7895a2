//! What is fuzzed: each file holds one part of the core against what it is defined by.

mod address;
mod scan;
mod tls;

use crate::corpus::Trace;
use crate::input::Input;

/// One part of the core, and how to find out whether it is wrong: then `run` panics.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Pieces that inputs are likely to need.
    pub words: &'static [&'static [u8]],
    pub run: fn(&mut Input<'_>, &mut Trace),
}

pub const TARGETS: &[Target] = &[scan::TARGET, address::TARGET, tls::TARGET];
