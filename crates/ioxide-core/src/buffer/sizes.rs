//! Sizes of memory that is used again for contents of about one length: four to each doubling.

/// The smallest size, in bytes.
pub const SMALLEST: usize = 512;
/// How many sizes there are until twice the size.
const STEPS: usize = 4;

/// The number of the smallest size with room for so many bytes.
#[inline]
pub const fn class_of(capacity: usize) -> usize {
    if capacity <= SMALLEST {
        return 0;
    }
    let last = capacity - 1;
    let octave = (last / SMALLEST).ilog2() as usize;
    octave * STEPS + (last >> octave) / (SMALLEST / STEPS) - STEPS + 1
}

/// How many bytes the size of this number is.
#[inline]
pub const fn room_of(class: usize) -> usize {
    (SMALLEST / STEPS * (STEPS + class % STEPS)) << (class / STEPS)
}
