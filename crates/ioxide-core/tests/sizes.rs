//! Sizes of memory that is used again.

use ioxide_core::buffer::sizes::{class_of, room_of, SMALLEST};

#[test]
fn every_size_is_the_smallest_with_enough_room() {
    for capacity in 1..=300_000 {
        let class = class_of(capacity);
        assert!(room_of(class) >= capacity, "{capacity}");
        assert!(class == 0 || room_of(class - 1) < capacity, "{capacity}");
    }
}

#[test]
fn a_quarter_more_than_wanted_is_the_most() {
    for capacity in SMALLEST..=300_000 {
        let room = room_of(class_of(capacity));
        assert!(room * 4 < (capacity + 1) * 5, "{capacity}");
    }
}
