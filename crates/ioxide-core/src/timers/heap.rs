//! A 4-ary heap whose entries carry their whole sort key, so that sifting touches one array and the slots' notes of
//! where things are, never the items.

use super::entry::{Entry, Slots};

const ARITY: usize = 4;

/// The entry at `i` is noted in its slot as being at `i`.
#[derive(Debug)]
pub(super) struct Heap {
    entries: Vec<Entry>,
}

impl Heap {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn first(&self) -> Option<Entry> {
        self.entries.first().copied()
    }

    #[inline]
    pub(super) fn insert<T>(&mut self, entry: Entry, slots: &mut Slots<T>) {
        let position = self.entries.len();
        self.entries.push(entry);
        self.sift_up(position, entry, slots);
    }

    #[inline]
    pub(super) fn remove<T>(&mut self, position: usize, slots: &mut Slots<T>) {
        let Some(last) = self.entries.pop() else {
            return;
        };
        if position < self.entries.len() {
            // The last entry most likely belongs near the bottom again: lead the hole down along
            // the smallest children without comparing, then let the entry rise from there.
            let hole = self.sink_hole(position, slots);
            self.sift_up(hole, last, slots);
        }
    }

    /// Takes all entries out, in no particular order.
    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Fills an empty heap.
    pub(super) fn fill<T>(&mut self, sorted: Vec<Entry>, slots: &mut Slots<T>) {
        // What is sorted is a heap.
        self.entries = sorted;
        for (position, entry) in self.entries.iter().enumerate() {
            slots.place(entry.slot(), position as u32);
        }
    }

    #[inline]
    fn place<T>(&mut self, position: usize, entry: Entry, slots: &mut Slots<T>) {
        self.entries[position] = entry;
        slots.place(entry.slot(), position as u32);
    }

    #[inline]
    fn sift_up<T>(&mut self, mut position: usize, entry: Entry, slots: &mut Slots<T>) {
        while position > 0 {
            let parent = (position - 1) / ARITY;
            let above = self.entries[parent];
            if entry > above {
                break;
            }
            self.place(position, above, slots);
            position = parent;
        }
        self.place(position, entry, slots);
    }

    /// Moves the hole at `position` down to a leaf and returns where it ended.
    #[inline]
    fn sink_hole<T>(&mut self, mut position: usize, slots: &mut Slots<T>) -> usize {
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
            self.place(position, least, slots);
            position = smallest;
        }
    }
}
