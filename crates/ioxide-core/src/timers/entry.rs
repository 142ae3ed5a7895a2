//! What is sorted, and what it is sorted for.

use std::num::NonZeroU32;

const NO_SLOT: u32 = u32::MAX;

/// Names one timer of one queue, for as long as that timer is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerKey {
    pub(super) slot: u32,
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
pub(super) struct Entry(u128);

impl Entry {
    #[inline]
    pub(super) fn new(deadline: u64, sequence: u32, slot: u32) -> Self {
        Self((u128::from(deadline) << 64) | (u128::from(sequence) << 32) | u128::from(slot))
    }

    #[inline]
    pub(super) fn deadline(self) -> u64 {
        (self.0 >> 64) as u64
    }

    #[inline]
    pub(super) fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The same place in the order, for a timer that has left.
    #[inline]
    pub(super) fn vacant(self) -> Self {
        Self(self.0 | u128::from(NO_SLOT))
    }

    #[inline]
    pub(super) fn is_vacant(self) -> bool {
        self.slot() == NO_SLOT
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: NonZeroU32,
    /// Where the entry is while used, the next free slot while free.
    position: u32,
    item: Option<T>,
}

/// The items of all timers, each with the place of its entry.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    /// Where new slots start: above every generation of the slots that were given back.
    first_generation: NonZeroU32,
    /// The highest generation that any slot has reached.
    peak_generation: NonZeroU32,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NO_SLOT,
            first_generation: NonZeroU32::MIN,
            peak_generation: NonZeroU32::MIN,
        }
    }

    /// How many there are, used or free.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Where the timer's entry is, if it has not left.
    #[inline]
    pub(super) fn position(&self, key: TimerKey) -> Option<u32> {
        self.slots
            .get(key.slot as usize)
            .filter(|slot| slot.generation == key.generation)
            .map(|slot| slot.position)
    }

    /// Notes where a slot's entry is.
    #[inline]
    pub(super) fn place(&mut self, slot: u32, position: u32) {
        self.slots[slot as usize].position = position;
    }

    #[inline]
    pub(super) fn occupy(&mut self, item: T) -> TimerKey {
        let slot = self.free;
        if slot == NO_SLOT {
            return self.grow(item);
        }
        let state = &mut self.slots[slot as usize];
        self.free = state.position;
        state.item = Some(item);
        TimerKey {
            slot,
            generation: state.generation,
        }
    }

    #[inline]
    fn grow(&mut self, item: T) -> TimerKey {
        debug_assert!(
            self.slots.len() < NO_SLOT as usize,
            "slots are numbered in 32 bits"
        );
        let generation = self.first_generation;
        self.slots.push(Slot {
            generation,
            position: NO_SLOT,
            item: Some(item),
        });
        TimerKey {
            slot: (self.slots.len() - 1) as u32,
            generation,
        }
    }

    /// Frees the slot of an entry that has just left, and returns what it held.
    #[inline]
    pub(super) fn vacate(&mut self, slot: u32) -> Option<T> {
        let state = &mut self.slots[slot as usize];
        // The last generation is never handed out: a slot that reaches it is used no more.
        let next = state.generation.saturating_add(1);
        state.generation = next;
        if next < NonZeroU32::MAX {
            state.position = self.free;
            self.free = slot;
        }
        self.peak_generation = self.peak_generation.max(next);
        state.item.take()
    }

    /// The items, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    /// Gives the memory back, when none is used; false if generations would repeat then.
    pub(super) fn release(&mut self) -> bool {
        if self.peak_generation == NonZeroU32::MAX {
            return false;
        }
        self.first_generation = self.peak_generation;
        self.slots = Vec::new();
        self.free = NO_SLOT;
        true
    }
}
