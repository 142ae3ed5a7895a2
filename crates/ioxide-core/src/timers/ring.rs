//! A ring of buckets, each of about a millisecond: a crowd of timers of which none is near.
//!
//! A timer goes into its bucket as it comes, and is taken out by its place; a bucket is sorted once, when its time has
//! come and everything before it has left. So a timer in a crowd costs no more than one among few, and one that is
//! called off in time is never sorted.
//!
//! # Invariants
//! 1. Every entry belongs to the front bucket or to one of the `BUCKETS - 1` after it.
//! 2. The front bucket is sorted, the earliest last. Timers that leave it before their time leave a vacant entry,
//!    but never at its end.
//! 3. `occupied` tells which buckets are not empty, and `next` which of them is the first after the front.

use super::entry::{Entry, Slots};

/// A bucket is 2^20 ns wide, 1.05 ms, …
const WIDTH_BITS: u32 = 20;
/// … and all of them are 1.07 s.
const BUCKETS: usize = 1024;
/// Set in the position of an entry that is in a ring; then come the bucket and the index in it.
pub(super) const IN_RING: u32 = 1 << 31;
const INDEX_BITS: u32 = 31 - BUCKETS.trailing_zeros();
/// A bucket takes no more.
const MOST: usize = 1 << INDEX_BITS;
/// An empty bucket keeps room for so many entries, until no timer is left.
const KEEP_ENTRIES: usize = 8;

#[derive(Debug)]
pub(super) struct Ring {
    /// None until they are needed.
    buckets: Vec<Vec<Entry>>,
    occupied: [u64; BUCKETS / 64],
    /// The number of the bucket that is being emptied: all its entries' deadlines begin with it.
    front: u64,
    /// `NEVER` if all others are empty.
    next: u64,
    len: usize,
}

const NEVER: u64 = u64::MAX;

#[inline]
fn number(entry: Entry) -> u64 {
    entry.deadline() >> WIDTH_BITS
}

#[inline]
fn index(number: u64) -> usize {
    number as usize % BUCKETS
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self {
            buckets: Vec::new(),
            occupied: [0; BUCKETS / 64],
            front: 0,
            next: NEVER,
            len: 0,
        }
    }

    /// The number of timers.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Begins with the bucket of `first`, the earliest of all timers: only while the ring is empty.
    #[inline]
    pub(super) fn start_at(&mut self, first: Entry) {
        debug_assert_eq!(self.len, 0);
        self.front = number(first).wrapping_sub(1);
    }

    /// Takes the entry, if its deadline is after the front bucket and not too far; false for any other.
    #[inline]
    pub(super) fn insert<T>(&mut self, entry: Entry, slots: &mut Slots<T>) -> bool {
        let ahead = number(entry).wrapping_sub(self.front);
        // What is before the front is far ahead in this reckoning.
        if ahead == 0 || ahead >= BUCKETS as u64 {
            return false;
        }
        if self.buckets.is_empty() {
            self.buckets.resize_with(BUCKETS, Vec::new);
        }
        let bucket = index(number(entry));
        let entries = &mut self.buckets[bucket];
        if entries.len() == MOST {
            return false;
        }
        slots.place(entry.slot(), position(bucket, entries.len()));
        entries.push(entry);
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.next = self.next.min(number(entry));
        self.len += 1;
        true
    }

    /// Takes an entry out before its time.
    #[inline]
    pub(super) fn remove<T>(&mut self, position: u32, slots: &mut Slots<T>) {
        let bucket = ((position & !IN_RING) >> INDEX_BITS) as usize;
        let place = position as usize % MOST;
        self.len -= 1;
        let entries = &mut self.buckets[bucket];
        if bucket == index(self.front) {
            // Nothing in here changes its place.
            entries[place] = entries[place].vacant();
            self.tidy_front();
            return;
        }
        entries.swap_remove(place);
        if let Some(moved) = entries.get(place) {
            slots.place(moved.slot(), position);
        } else if entries.is_empty() {
            self.emptied(bucket);
        }
    }

    /// The earliest entry; none if that is certainly later than `now`, or than `other`.
    #[inline(always)]
    pub(super) fn first<T>(
        &mut self,
        now: u64,
        other: Option<Entry>,
        slots: &mut Slots<T>,
    ) -> Option<Entry> {
        if self.len == 0 {
            return None;
        }
        if let Some(first) = self.buckets[index(self.front)].last() {
            return Some(*first);
        }
        if self.next > now >> WIDTH_BITS || other.is_some_and(|other| self.next > number(other)) {
            return None;
        }
        self.open(slots)
    }

    /// Sorts the next bucket that is not empty, which is the front from now on.
    #[inline(never)]
    fn open<T>(&mut self, slots: &mut Slots<T>) -> Option<Entry> {
        self.front = self.next;
        self.next = self.next_occupied();
        let bucket = index(self.front);
        let entries = &mut self.buckets[bucket];
        entries.sort_unstable_by(|one, other| other.cmp(one));
        for (place, entry) in entries.iter().enumerate() {
            slots.place(entry.slot(), position(bucket, place));
        }
        entries.last().copied()
    }

    /// Takes out what [`first`](Self::first) gave.
    #[inline]
    pub(super) fn pop(&mut self) {
        self.buckets[index(self.front)].pop();
        self.len -= 1;
        self.tidy_front();
    }

    /// Takes all entries out, in no particular order.
    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        self.len = 0;
        self.next = NEVER;
        self.occupied = [0; BUCKETS / 64];
        std::mem::take(&mut self.buckets)
            .into_iter()
            .flatten()
            .filter(|entry| !entry.is_vacant())
            .collect()
    }

    /// Has the front bucket end with a timer, or be empty.
    #[inline]
    fn tidy_front(&mut self) {
        let bucket = index(self.front);
        let entries = &mut self.buckets[bucket];
        while entries.last().is_some_and(|entry| entry.is_vacant()) {
            entries.pop();
        }
        if entries.is_empty() {
            self.emptied(bucket);
        }
    }

    fn emptied(&mut self, bucket: usize) {
        self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        if self.buckets[bucket].capacity() > KEEP_ENTRIES {
            self.buckets[bucket] = Vec::new();
        }
        if bucket == index(self.next) {
            self.next = self.next_occupied();
        }
    }

    /// The number of the first bucket after the front that is not empty.
    fn next_occupied(&self) -> u64 {
        let begin = self.front.wrapping_add(1);
        let start = index(begin);
        let words = self.occupied.len();
        // The word of the start comes first for its upper bits, and again at last for the lower ones.
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                return begin + (bucket.wrapping_sub(start) % BUCKETS) as u64;
            }
        }
        NEVER
    }
}

#[inline]
fn position(bucket: usize, place: usize) -> u32 {
    IN_RING | (bucket as u32) << INDEX_BITS | place as u32
}
