//! Timers in exact order: earliest deadline first, equal deadlines in the order of insertion.
//!
//! Few timers are in a heap. Where there are more, those that are due within about a second, but not at once, wait in
//! a ring of buckets instead, which costs the same however many there are. Removal is real: a cancelled timer leaves
//! nothing behind that lasts longer than its bucket, so there is no compaction and no memory that depends on how many
//! timers were cancelled.
//!
//! # Invariants
//! 1. A used slot notes where its entry is, in the heap or in the ring.
//! 2. A slot's generation changes whenever its timer leaves, so an old key never finds a new timer.
//! 3. A slot has an item exactly while an entry refers to it.
//! 4. `sequence` is above that of every entry: when there are no more numbers, all are given new ones.

mod entry;
mod heap;
mod ring;

pub use entry::TimerKey;
use entry::{Entry, Slots};
use heap::Heap;
use ring::{Ring, IN_RING};

/// With fewer timers in it the heap is better than the ring.
const FEW: usize = 64;
/// Above this many slots, a queue that runs empty gives its memory back.
const KEEP_SLOTS: usize = 1024;

/// A priority queue of timers with removal by key. Deadlines are nanoseconds of one [clock].
///
/// [clock]: crate::clock::Clock
#[derive(Debug)]
pub struct TimerQueue<T> {
    heap: Heap,
    ring: Ring,
    slots: Slots<T>,
    sequence: u32,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the earliest timer is.
enum First {
    Heap(Entry),
    Ring(Entry),
}

impl<T> TimerQueue<T> {
    /// An empty queue; allocates nothing.
    pub const fn new() -> Self {
        Self {
            heap: Heap::new(),
            ring: Ring::new(),
            slots: Slots::new(),
            sequence: 0,
        }
    }

    /// The number of timers.
    #[inline]
    pub fn len(&self) -> usize {
        self.heap.len() + self.ring.len()
    }

    /// Whether there is no timer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a timer; among equal deadlines it comes after those already there.
    #[inline]
    pub fn insert(&mut self, deadline: u64, item: T) -> TimerKey {
        if self.sequence == u32::MAX {
            self.number_anew();
        }
        let key = self.slots.occupy(item);
        let entry = Entry::new(deadline, self.sequence, key.slot);
        self.sequence += 1;
        if self.heap.len() < FEW || !self.insert_into_ring(entry) {
            self.heap.insert(entry, &mut self.slots);
        }
        key
    }

    fn insert_into_ring(&mut self, entry: Entry) -> bool {
        if self.ring.len() == 0 {
            if let Some(first) = self.heap.first() {
                self.ring.start_at(first);
            }
        }
        self.ring.insert(entry, &mut self.slots)
    }

    /// Takes a timer out before its time; `None` if it has left already.
    #[inline]
    pub fn remove(&mut self, key: TimerKey) -> Option<T> {
        let position = self.slots.position(key)?;
        if position & IN_RING == 0 {
            self.heap.remove(position as usize, &mut self.slots);
        } else {
            self.ring.remove(position, &mut self.slots);
        }
        let item = self.slots.vacate(key.slot);
        self.trim();
        item
    }

    /// Whether the timer is still in the queue.
    #[inline]
    pub fn contains(&self, key: TimerKey) -> bool {
        self.slots.position(key).is_some()
    }

    /// The earliest deadline.
    #[inline]
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.first(u64::MAX).map(|first| match first {
            First::Heap(entry) | First::Ring(entry) => entry.deadline(),
        })
    }

    /// Whether a timer has a deadline of `now` or earlier.
    #[inline]
    pub fn is_due(&mut self, now: u64) -> bool {
        match self.first(now) {
            Some(First::Heap(entry) | First::Ring(entry)) => entry.deadline() <= now,
            None => false,
        }
    }

    /// Takes the first timer if its deadline is `now` or earlier.
    #[inline]
    pub fn pop_due(&mut self, now: u64) -> Option<T> {
        let entry = match self.first(now)? {
            First::Heap(entry) | First::Ring(entry) if entry.deadline() > now => return None,
            First::Heap(entry) => {
                self.heap.remove(0, &mut self.slots);
                entry
            }
            First::Ring(entry) => {
                self.ring.pop();
                entry
            }
        };
        let item = self.slots.vacate(entry.slot());
        self.trim();
        item
    }

    /// Takes all timers out, in order.
    pub fn drain(&mut self) -> Vec<T> {
        let items = self
            .take_sorted()
            .into_iter()
            .filter_map(|entry| self.slots.vacate(entry.slot()))
            .collect();
        self.trim();
        items
    }

    /// The items, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter()
    }

    /// The earliest timer, or another one if the earliest is certainly later than `now`.
    #[inline]
    fn first(&mut self, now: u64) -> Option<First> {
        let heap = self.heap.first();
        match (heap, self.ring.first(now, heap, &mut self.slots)) {
            (Some(heap), Some(ring)) if heap < ring => Some(First::Heap(heap)),
            (_, Some(ring)) => Some(First::Ring(ring)),
            (heap, None) => heap.map(First::Heap),
        }
    }

    /// Takes all entries out, in order.
    fn take_sorted(&mut self) -> Vec<Entry> {
        let mut entries = self.heap.take_all();
        entries.append(&mut self.ring.take_all());
        entries.sort_unstable();
        entries
    }

    /// Gives the timers the numbers from zero on, in their order: after four thousand million insertions.
    #[cold]
    fn number_anew(&mut self) {
        self.sequence = 0;
        let mut entries = self.take_sorted();
        for entry in &mut entries {
            *entry = Entry::new(entry.deadline(), self.sequence, entry.slot());
            self.sequence += 1;
        }
        self.heap.fill(entries, &mut self.slots);
    }

    /// After a burst of timers, gives the memory back once the last of them has left.
    #[inline]
    fn trim(&mut self) {
        if self.slots.len() > KEEP_SLOTS && self.is_empty() {
            self.release_memory();
        }
    }

    #[cold]
    fn release_memory(&mut self) {
        if self.slots.release() {
            drop(self.take_sorted());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TimerQueue;

    #[test]
    fn order_and_keys_outlast_the_numbers_of_the_insertions() {
        let mut queue = TimerQueue::new();
        queue.sequence = u32::MAX - 3;
        let keys: Vec<_> = (0..9_u64).map(|n| queue.insert(n % 2, n)).collect();
        assert_eq!(queue.sequence, 9);
        assert_eq!(queue.remove(keys[2]), Some(2));
        assert_eq!(queue.remove(keys[7]), Some(7));
        assert_eq!(queue.drain(), [0, 4, 6, 8, 1, 3, 5]);
    }

    #[test]
    fn a_crowd_stays_in_order_when_the_numbers_run_out() {
        const MS: u64 = 1 << 20;
        let mut queue = TimerQueue::new();
        queue.sequence = u32::MAX - 400;
        let keys: Vec<_> = (0..1000_u64)
            .map(|n| queue.insert(n % 10 * MS, n))
            .collect();
        assert!(queue.sequence >= 1000 && queue.sequence < 2000);
        assert!(queue.ring.len() > 0, "the last of them are in the ring");
        assert_eq!(queue.remove(keys[1]), Some(1));
        assert_eq!(queue.remove(keys[999]), Some(999));
        let mut expected: Vec<_> = (0..999).filter(|n| *n != 1).collect();
        expected.sort_by_key(|n| n % 10);
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop_due(10 * MS)).collect();
        assert_eq!(popped, expected);
    }
}
