//! Tokens for things that the kernel reports on: a token of something removed never resolves again.

const NO_SLOT: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<T> {
    Used { generation: u32, item: T },
    Free { generation: u32, next: u32 },
}

/// A slab whose keys are 64-bit tokens: slot in the low half, generation in the high half.
///
/// A token is never [`RESERVED_TOKEN`](crate::driver::RESERVED_TOKEN).
#[derive(Debug)]
pub struct Registry<T> {
    slots: Vec<Slot<T>>,
    free: u32,
    len: usize,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Registry<T> {
    /// An empty registry; allocates nothing.
    pub const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NO_SLOT,
            len: 0,
        }
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item and returns its token.
    pub fn insert(&mut self, item: T) -> u64 {
        self.len += 1;
        let index = self.free;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            if let Slot::Free { generation, next } = *slot {
                self.free = next;
                *slot = Slot::Used { generation, item };
                return token(index, generation);
            }
        }
        debug_assert!(
            self.slots.len() < NO_SLOT as usize,
            "slots are numbered in 32 bits"
        );
        let index = self.slots.len() as u32;
        self.slots.push(Slot::Used {
            generation: 0,
            item,
        });
        token(index, 0)
    }

    /// The item of a token, unless it was removed.
    #[inline]
    pub fn get(&self, token: u64) -> Option<&T> {
        match self.slots.get(token as u32 as usize)? {
            Slot::Used { generation, item } if *generation == (token >> 32) as u32 => Some(item),
            _ => None,
        }
    }

    /// The item of a token for change, unless it was removed.
    #[inline]
    pub fn get_mut(&mut self, token: u64) -> Option<&mut T> {
        match self.slots.get_mut(token as u32 as usize)? {
            Slot::Used { generation, item } if *generation == (token >> 32) as u32 => Some(item),
            _ => None,
        }
    }

    /// Takes an item out; its token is stale from now on.
    pub fn remove(&mut self, token: u64) -> Option<T> {
        self.get(token)?;
        let index = token as u32;
        // The last generation is never handed out: a slot that reaches it is used no more.
        let generation = ((token >> 32) as u32).saturating_add(1);
        let retired = generation == u32::MAX;
        let next = if retired { NO_SLOT } else { self.free };
        let slot = self.slots.get_mut(index as usize)?;
        let Slot::Used { item, .. } = std::mem::replace(slot, Slot::Free { generation, next })
        else {
            return None;
        };
        if !retired {
            self.free = index;
        }
        self.len -= 1;
        Some(item)
    }

    /// The items with their tokens, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| match slot {
                Slot::Used { generation, item } => Some((token(index as u32, *generation), item)),
                Slot::Free { .. } => None,
            })
    }
}

fn token(slot: u32, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(slot)
}
