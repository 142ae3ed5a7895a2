//! Timers in exact order: earliest deadline first, equal deadlines in the order of insertion.
//!
//! A 4-ary heap whose entries carry their whole sort key, so that sifting touches one array and the
//! small position table, never the items. Removal is real: a cancelled timer leaves nothing behind,
//! so there is no compaction and no memory that depends on how many timers were cancelled.
//!
//! # Invariants
//! 1. `slots[entries[i].slot()].position == i` for every `i`.
//! 2. A slot's generation changes whenever its timer leaves, so an old key never finds a new timer.
//! 3. `items[slot]` is `Some` exactly while an entry refers to `slot`.
//! 4. `sequence` is above that of every entry: when there are no more numbers, all are given new ones.

use std::num::NonZeroU32;

const ARITY: usize = 4;
const NO_SLOT: u32 = u32::MAX;
/// Above this many slots, a heap that runs empty gives its memory back.
const KEEP_SLOTS: usize = 1024;

/// Names one timer of one heap, for as long as that timer is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerKey {
    slot: u32,
    generation: NonZeroU32,
}

impl TimerKey {
    /// The key as a number other than zero.
    #[inline]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation.get()) << 32 | u64::from(self.slot)
    }

    /// The key of a number that [`to_bits`](Self::to_bits) gave; none for zero.
    #[inline]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let generation = NonZeroU32::new((bits >> 32) as u32)?;
        let slot = bits as u32;
        Some(Self { slot, generation })
    }
}

/// From the top: 64 bits of deadline, 32 of sequence, 32 of slot. So entries compare as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

impl Entry {
    #[inline]
    fn new(deadline: u64, sequence: u32, slot: u32) -> Self {
        Self((u128::from(deadline) << 64) | (u128::from(sequence) << 32) | u128::from(slot))
    }

    #[inline]
    fn deadline(self) -> u64 {
        (self.0 >> 64) as u64
    }

    #[inline]
    fn slot(self) -> u32 {
        self.0 as u32
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    generation: NonZeroU32,
    /// Index into `entries` while used, the next free slot while free.
    position: u32,
}

/// A priority queue of timers with removal by key. Deadlines are nanoseconds of one [clock].
///
/// [clock]: crate::clock::Clock
#[derive(Debug)]
pub struct TimerHeap<T> {
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    items: Vec<Option<T>>,
    free: u32,
    sequence: u32,
    /// Where new slots start: above every generation of the slots that were given back.
    first_generation: NonZeroU32,
    /// The highest generation that any slot has reached.
    peak_generation: NonZeroU32,
}

impl<T> Default for TimerHeap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TimerHeap<T> {
    /// An empty heap; allocates nothing.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            slots: Vec::new(),
            items: Vec::new(),
            free: NO_SLOT,
            sequence: 0,
            first_generation: NonZeroU32::MIN,
            peak_generation: NonZeroU32::MIN,
        }
    }

    /// The number of timers.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no timer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a timer; among equal deadlines it comes after those already there.
    #[inline]
    pub fn insert(&mut self, deadline: u64, item: T) -> TimerKey {
        if self.sequence == u32::MAX {
            self.number_anew();
        }
        let slot = self.occupy(item);
        let entry = Entry::new(deadline, self.sequence, slot);
        self.sequence += 1;
        let position = self.entries.len();
        self.entries.push(entry);
        self.sift_up(position, entry);
        TimerKey {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    /// Takes a timer out before its time; `None` if it has left already.
    #[inline]
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        if !self.contains(key) {
            return None;
        }
        let position = self.slots[key.slot as usize].position as usize;
        self.take(position, key.slot)
    }

    /// Whether the timer is still in the heap.
    #[inline]
    pub fn contains(&self, key: TimerKey) -> bool {
        self.slots
            .get(key.slot as usize)
            .is_some_and(|s| s.generation == key.generation)
    }

    /// The earliest deadline.
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.deadline())
    }

    /// Takes the first timer if its deadline is `now` or earlier.
    #[inline]
    pub fn pop_due(&mut self, now: u64) -> Option<T> {
        let first = *self.entries.first()?;
        if first.deadline() > now {
            return None;
        }
        self.take(0, first.slot())
    }

    /// Takes all timers out, in order.
    pub fn drain(&mut self) -> Vec<T> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable();
        let items = entries
            .into_iter()
            .filter_map(|entry| self.vacate(entry.slot()))
            .collect();
        self.trim();
        items
    }

    /// The items, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
    }

    /// Gives the timers the numbers from zero on, in their order: after four thousand million insertions.
    #[cold]
    fn number_anew(&mut self) {
        self.entries.sort_unstable();
        self.sequence = 0;
        for position in 0..self.entries.len() {
            let old = self.entries[position];
            let entry = Entry::new(old.deadline(), self.sequence, old.slot());
            self.sequence += 1;
            // What is sorted is a heap.
            self.place(position, entry);
        }
    }

    #[inline]
    fn take(&mut self, position: usize, slot: u32) -> Option<T> {
        self.remove_entry(position);
        let item = self.vacate(slot);
        self.trim();
        item
    }

    #[inline]
    fn occupy(&mut self, item: T) -> u32 {
        let slot = self.free;
        if slot == NO_SLOT {
            debug_assert!(
                self.slots.len() < NO_SLOT as usize,
                "slots are numbered in 32 bits"
            );
            self.slots.push(Slot {
                generation: self.first_generation,
                position: NO_SLOT,
            });
            self.items.push(Some(item));
            (self.slots.len() - 1) as u32
        } else {
            self.free = self.slots[slot as usize].position;
            self.items[slot as usize] = Some(item);
            slot
        }
    }

    /// Frees the slot of an entry that has just left, and returns what it held.
    #[inline]
    fn vacate(&mut self, slot: u32) -> Option<T> {
        let state = &mut self.slots[slot as usize];
        // The last generation is never handed out: a slot that reaches it is used no more.
        let next = state.generation.saturating_add(1);
        state.generation = next;
        if next < NonZeroU32::MAX {
            state.position = self.free;
            self.free = slot;
        }
        self.peak_generation = self.peak_generation.max(next);
        self.items[slot as usize].take()
    }

    /// After a burst of timers, gives the memory back once the last of them has left.
    #[inline]
    fn trim(&mut self) {
        if self.entries.is_empty() && self.slots.len() > KEEP_SLOTS {
            self.release_memory();
        }
    }

    #[cold]
    fn release_memory(&mut self) {
        if self.peak_generation < NonZeroU32::MAX {
            self.first_generation = self.peak_generation;
            self.entries = Vec::new();
            self.slots = Vec::new();
            self.items = Vec::new();
            self.free = NO_SLOT;
        }
    }

    #[inline]
    fn place(&mut self, position: usize, entry: Entry) {
        self.entries[position] = entry;
        self.slots[entry.slot() as usize].position = position as u32;
    }

    #[inline]
    fn remove_entry(&mut self, position: usize) {
        let Some(last) = self.entries.pop() else {
            return;
        };
        if position < self.entries.len() {
            // The last entry most likely belongs near the bottom again: lead the hole down along
            // the smallest children without comparing, then let the entry rise from there.
            let hole = self.sink_hole(position);
            self.sift_up(hole, last);
        }
    }

    #[inline]
    fn sift_up(&mut self, mut position: usize, entry: Entry) {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            let above = self.entries[parent];
            if entry > above {
                break;
            }
            self.place(position, above);
            position = parent;
        }
        self.place(position, entry);
    }

    /// Moves the hole at `position` down to a leaf and returns where it ended.
    #[inline]
    fn sink_hole(&mut self, mut position: usize) -> usize {
        loop {
            let first = position * ARITY + 1;
            let end = (first + ARITY).min(self.entries.len());
            let Some(children) = self.entries.get(first..end).filter(|c| !c.is_empty()) else {
                return position;
            };
            let mut smallest = first;
            let mut least = children[0];
            for (offset, child) in children.iter().enumerate().skip(1) {
                if *child < least {
                    smallest = first + offset;
                    least = *child;
                }
            }
            self.place(position, least);
            position = smallest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimerHeap;

    #[test]
    fn order_and_keys_outlast_the_numbers_of_the_insertions() {
        let mut heap = TimerHeap::new();
        heap.sequence = u32::MAX - 3;
        let keys: Vec<_> = (0..9_u64).map(|n| heap.insert(n % 2, n)).collect();
        assert_eq!(heap.sequence, 9);
        assert_eq!(heap.remove(keys[2]), Some(2));
        assert_eq!(heap.remove(keys[7]), Some(7));
        assert_eq!(heap.drain(), [0, 4, 6, 8, 1, 3, 5]);
    }
}
