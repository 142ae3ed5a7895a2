//! `TimerHeap` against a list that is sorted by (deadline, order of insertion).
#![allow(clippy::unwrap_used)]

use std::mem::size_of;

use ioxide_core::timers::{TimerHeap, TimerKey};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Insert(u64),
    Remove(usize),
    PopDue(u64),
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..20_u64).prop_map(Step::Insert),
        3 => any::<usize>().prop_map(Step::Remove),
        3 => (0..25_u64).prop_map(Step::PopDue),
        1 => Just(Step::Drain),
    ];
    prop::collection::vec(step, 1..200)
}

/// The obvious implementation: (deadline, sequence, key), always sorted.
#[derive(Default)]
struct Model {
    sorted: Vec<(u64, usize, TimerKey)>,
    gone: Vec<TimerKey>,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_heap_behaves_as_a_sorted_list(steps in steps()) {
        let mut heap = TimerHeap::new();
        let mut model = Model::default();
        for (sequence, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(deadline) => {
                    let key = heap.insert(deadline, sequence);
                    model.sorted.push((deadline, sequence, key));
                    model.sorted.sort_by_key(|&(deadline, sequence, _)| (deadline, sequence));
                }
                Step::Remove(pick) if !model.sorted.is_empty() => {
                    let (_, item, key) = model.sorted.remove(pick % model.sorted.len());
                    prop_assert!(heap.contains(key));
                    prop_assert_eq!(heap.remove(key), Some(item));
                    model.gone.push(key);
                }
                Step::Remove(_) => {}
                Step::PopDue(now) => {
                    let first = model.sorted.first().copied();
                    let due = first.filter(|&(deadline, _, _)| deadline <= now);
                    prop_assert_eq!(heap.pop_due(now), due.map(|(_, item, _)| item));
                    if let Some((_, _, key)) = due {
                        model.sorted.remove(0);
                        model.gone.push(key);
                    }
                }
                Step::Drain => {
                    let expected: Vec<_> = model.sorted.iter().map(|&(_, item, _)| item).collect();
                    prop_assert_eq!(heap.drain(), expected);
                    model.gone.extend(model.sorted.drain(..).map(|(_, _, key)| key));
                }
            }
            prop_assert_eq!(heap.len(), model.sorted.len());
            let first = model.sorted.first();
            prop_assert_eq!(heap.next_deadline(), first.map(|&(deadline, _, _)| deadline));
            let mut items: Vec<_> = heap.iter().copied().collect();
            items.sort_unstable();
            let mut expected: Vec<_> = model.sorted.iter().map(|&(_, item, _)| item).collect();
            expected.sort_unstable();
            prop_assert_eq!(items, expected);
            for &key in &model.gone {
                prop_assert!(!heap.contains(key));
                prop_assert_eq!(heap.remove(key), None);
            }
        }
    }
}

#[test]
fn keys_stay_stale_after_a_burst_gave_its_memory_back() {
    let mut heap = TimerHeap::new();
    let keys: Vec<_> = (0..5_000_u64).map(|n| heap.insert(n % 7, n)).collect();
    for &key in &keys {
        assert!(heap.remove(key).is_some());
    }
    let fresh: Vec<_> = (0..5_000_u64).map(|n| heap.insert(n, n)).collect();
    assert!(keys.iter().all(|&key| heap.remove(key).is_none()));
    assert!(fresh.iter().all(|&key| heap.contains(key)));
    assert_eq!(heap.drain(), (0..5_000).collect::<Vec<_>>());
    assert!(fresh.iter().all(|&key| !heap.contains(key)));
}

#[test]
fn items_are_dropped_when_their_timer_leaves_or_the_heap_does() {
    let item = std::rc::Rc::new(());
    let mut heap = TimerHeap::new();
    let key = heap.insert(1, item.clone());
    heap.insert(2, item.clone());
    heap.remove(key);
    assert_eq!(std::rc::Rc::strong_count(&item), 2);
    drop(heap);
    assert_eq!(std::rc::Rc::strong_count(&item), 1);
}

#[test]
fn key_is_the_same_after_it_was_a_number() {
    let mut heap = TimerHeap::default();
    assert_eq!(TimerKey::from_bits(0), None);
    for _ in 0..3 {
        let keys = [heap.insert(1, ()), heap.insert(1, ())];
        for key in keys {
            assert_ne!(key.to_bits(), 0);
            assert_eq!(TimerKey::from_bits(key.to_bits()), Some(key));
            heap.remove(key);
        }
    }
}

#[test]
fn keys_are_small() {
    assert_eq!(size_of::<TimerKey>(), 8);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
}
