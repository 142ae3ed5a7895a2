//! Entries that may die without a word: found by a key at once, and looked through only when there may be many dead.

use std::collections::HashMap;
use std::hash::Hash;

/// It is not looked through while it is shorter than this.
const SHORT: usize = 32;

/// Entries by what names each while it lives. A dead one's key may be given to another, which takes its place.
pub struct Register<K, T> {
    entries: HashMap<K, Entry<T>>,
    /// How many were ever entered, so that they have an order.
    entered: u64,
    /// At this length the dead are looked for.
    limit: usize,
}

struct Entry<T> {
    number: u64,
    value: T,
}

impl<K: Hash + Eq, T> Default for Register<K, T> {
    fn default() -> Self {
        Register {
            entries: HashMap::new(),
            entered: 0,
            limit: SHORT,
        }
    }
}

impl<K: Hash + Eq, T> Register<K, T> {
    /// Enters `value`; gives back the dead one that had its key.
    #[must_use = "dropping it may run anything"]
    pub fn enter(&mut self, key: K, value: T) -> Option<T> {
        let number = self.entered;
        self.entered += 1;
        let before = self.entries.insert(key, Entry { number, value });
        before.map(|entry| entry.value)
    }

    /// Takes out the entry of `key`, at a cost that does not grow with their number.
    #[must_use = "dropping it may run anything"]
    pub fn remove(&mut self, key: &K) -> Option<T> {
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// Whether it has grown so much that the dead should be taken out.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// Takes out the dead. The next time is when there are twice as many as live now, so that one entry is looked at
    /// a bounded number of times on the average.
    #[must_use = "dropping them may run anything"]
    pub fn take_dead(&mut self, mut is_live: impl FnMut(&T) -> bool) -> Vec<T> {
        let dead = self
            .entries
            .extract_if(|_, entry| !is_live(&entry.value))
            .map(|(_, entry)| entry.value)
            .collect();
        self.limit = SHORT.max(self.entries.len() * 2);
        dead
    }

    /// All entries, dead or alive, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|entry| &entry.value)
    }

    /// All entries, dead or alive, in the order in which they were entered.
    pub fn in_order(&self) -> impl Iterator<Item = &T> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_unstable_by_key(|entry| entry.number);
        entries.into_iter().map(|entry| &entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::hash::Hasher;
    use std::rc::Rc;

    /// A key that counts how often it is looked at.
    #[derive(Clone)]
    struct Counted(u64, Rc<Cell<usize>>);

    impl Counted {
        fn look(&self) -> u64 {
            self.1.set(self.1.get() + 1);
            self.0
        }
    }

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.look().hash(state);
        }
    }

    impl PartialEq for Counted {
        fn eq(&self, other: &Self) -> bool {
            self.look() == other.0
        }
    }

    impl Eq for Counted {}

    /// How often keys and entries are looked at when so many are entered, and removed in that order.
    fn looks(many: u64) -> usize {
        let count = Rc::new(Cell::new(0));
        let mut register = Register::default();
        for key in 0..many {
            assert!(register
                .enter(Counted(key, count.clone()), count.clone())
                .is_none());
            if register.is_crowded() {
                let dead = register.take_dead(|seen| {
                    seen.set(seen.get() + 1);
                    true
                });
                assert!(dead.is_empty());
            }
        }
        for key in 0..many {
            assert!(register.remove(&Counted(key, count.clone())).is_some());
        }
        assert_eq!(register.iter().count(), 0);
        count.get()
    }

    #[test]
    fn entering_and_removing_costs_the_same_among_many() {
        for many in [100, 1_000, 10_000] {
            let each = looks(many) as f64 / many as f64;
            assert!(each < 10.0, "{each} looks for each of {many}");
        }
    }

    #[test]
    fn the_dead_are_taken_out_before_they_are_many() {
        let mut register = Register::default();
        for key in 0..10_000 {
            assert!(register.enter(key, key % 100 == 0).is_none());
            if register.is_crowded() {
                assert!(register.take_dead(|live| *live).iter().all(|live| !live));
            }
        }
        assert!(register.iter().count() < 300);
        assert_eq!(register.iter().filter(|live| **live).count(), 100);
    }

    #[test]
    fn a_key_that_is_used_again_replaces_the_dead() {
        let mut register = Register::default();
        assert_eq!(register.enter(1, "dead"), None);
        assert_eq!(register.enter(1, "new"), Some("dead"));
        assert_eq!(register.remove(&1), Some("new"));
        assert_eq!(register.remove(&1), None);
    }

    #[test]
    fn the_order_is_that_of_entering() {
        let mut register = Register::default();
        for key in [5, 3, 9, 1] {
            assert_eq!(register.enter(key, key), None);
        }
        assert_eq!(register.remove(&3), Some(3));
        assert_eq!(register.in_order().copied().collect::<Vec<_>>(), [5, 9, 1]);
    }
}
