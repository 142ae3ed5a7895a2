//! `TimerQueue` against a list that is sorted by (deadline, order of insertion).
#![allow(clippy::unwrap_used)]

use std::mem::size_of;

use ioxide_core::timers::{TimerKey, TimerQueue};
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

/// Deadlines as those of a crowd: at once, within the same millisecond, within a second, later, never.
fn deadlines() -> impl Strategy<Value = u64> {
    const MS: u64 = 1_000_000;
    prop_oneof![
        1 => 0..5_u64,
        4 => 700 * MS..704 * MS,
        4 => (0..40_u64).prop_map(|n| n * 50 * MS),
        4 => 0..1500 * MS,
        1 => 0..60_000 * MS,
        1 => u64::MAX - 2..=u64::MAX,
    ]
}

fn steps_of_a_crowd() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => deadlines().prop_map(Step::Insert),
        15 => any::<usize>().prop_map(Step::Remove),
        15 => deadlines().prop_map(Step::PopDue),
        15 => Just(Step::PopDue(u64::MAX)),
        1 => Just(Step::Drain),
    ];
    let crowd = prop::collection::vec(deadlines().prop_map(Step::Insert), 60..300);
    (crowd, prop::collection::vec(step, 1..300)).prop_map(|(mut crowd, mut steps)| {
        crowd.append(&mut steps);
        crowd
    })
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
    fn few_timers_behave_as_a_sorted_list(steps in steps()) {
        run_beside_the_model(steps)?;
    }

    #[test]
    fn a_crowd_behaves_as_a_sorted_list(steps in steps_of_a_crowd()) {
        run_beside_the_model(steps)?;
    }
}

fn run_beside_the_model(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut queue = TimerQueue::new();
    let mut model = Model::default();
    for (sequence, step) in steps.into_iter().enumerate() {
        match step {
            Step::Insert(deadline) => {
                let key = queue.insert(deadline, sequence);
                model.sorted.push((deadline, sequence, key));
                model
                    .sorted
                    .sort_by_key(|&(deadline, sequence, _)| (deadline, sequence));
            }
            Step::Remove(pick) if !model.sorted.is_empty() => {
                let (_, item, key) = model.sorted.remove(pick % model.sorted.len());
                prop_assert!(queue.contains(key));
                prop_assert_eq!(queue.remove(key), Some(item));
                model.gone.push(key);
            }
            Step::Remove(_) => {}
            Step::PopDue(now) => {
                let is_due = model.sorted.first().is_some_and(|first| first.0 <= now);
                prop_assert_eq!(queue.is_due(now), is_due);
                let first = model.sorted.first().copied();
                let due = first.filter(|&(deadline, _, _)| deadline <= now);
                prop_assert_eq!(queue.pop_due(now), due.map(|(_, item, _)| item));
                if let Some((_, _, key)) = due {
                    model.sorted.remove(0);
                    model.gone.push(key);
                }
            }
            Step::Drain => {
                let expected: Vec<_> = model.sorted.iter().map(|&(_, item, _)| item).collect();
                prop_assert_eq!(queue.drain(), expected);
                model
                    .gone
                    .extend(model.sorted.drain(..).map(|(_, _, key)| key));
            }
        }
        prop_assert_eq!(queue.len(), model.sorted.len());
        // Not always, since looking for it sorts.
        if sequence % 4 == 0 {
            let first = model.sorted.first().map(|&(deadline, _, _)| deadline);
            prop_assert_eq!(queue.next_deadline(), first);
        }
        let mut items: Vec<_> = queue.iter().copied().collect();
        items.sort_unstable();
        let mut expected: Vec<_> = model.sorted.iter().map(|&(_, item, _)| item).collect();
        expected.sort_unstable();
        prop_assert_eq!(items, expected);
        for &key in &model.gone {
            prop_assert!(!queue.contains(key));
            prop_assert_eq!(queue.remove(key), None);
        }
    }
    Ok(())
}

#[test]
fn keys_stay_stale_after_a_burst_gave_its_memory_back() {
    let mut queue = TimerQueue::new();
    let keys: Vec<_> = (0..5_000_u64).map(|n| queue.insert(n % 7, n)).collect();
    for &key in &keys {
        assert!(queue.remove(key).is_some());
    }
    let fresh: Vec<_> = (0..5_000_u64).map(|n| queue.insert(n, n)).collect();
    assert!(keys.iter().all(|&key| queue.remove(key).is_none()));
    assert!(fresh.iter().all(|&key| queue.contains(key)));
    assert_eq!(queue.drain(), (0..5_000).collect::<Vec<_>>());
    assert!(fresh.iter().all(|&key| !queue.contains(key)));
}

#[test]
fn items_are_dropped_when_their_timer_leaves_or_the_queue_does() {
    let item = std::rc::Rc::new(());
    let mut queue = TimerQueue::new();
    let key = queue.insert(1, item.clone());
    queue.insert(2, item.clone());
    queue.remove(key);
    assert_eq!(std::rc::Rc::strong_count(&item), 2);
    drop(queue);
    assert_eq!(std::rc::Rc::strong_count(&item), 1);
}

#[test]
fn key_is_the_same_after_it_was_a_number() {
    let mut queue = TimerQueue::default();
    assert_eq!(TimerKey::from_bits(0), None);
    for _ in 0..3 {
        let keys = [queue.insert(1, ()), queue.insert(1, ())];
        for key in keys {
            assert_ne!(key.to_bits(), 0);
            assert_eq!(TimerKey::from_bits(key.to_bits()), Some(key));
            queue.remove(key);
        }
    }
}

#[test]
fn keys_are_small() {
    assert_eq!(size_of::<TimerKey>(), 8);
    assert_eq!(size_of::<Option<TimerKey>>(), 8);
}

#[test]
fn more_than_a_bucket_takes_at_one_time_stay_in_order() {
    const MANY: usize = (1 << 21) + 100;
    let mut queue = TimerQueue::new();
    for n in 0..100 {
        queue.insert(n, MANY);
    }
    let keys: Vec<_> = (0..MANY).map(|n| queue.insert(50_000_000, n)).collect();
    for _ in 0..100 {
        assert_eq!(queue.pop_due(99), Some(MANY));
    }
    assert_eq!(queue.remove(keys[0]), Some(0));
    assert_eq!(queue.remove(keys[MANY - 2]), Some(MANY - 2));
    assert_eq!(queue.pop_due(50_000_000), Some(1));
    assert_eq!(queue.remove(keys[2]), Some(2));
    assert_eq!(queue.remove(keys[MANY - 1]), Some(MANY - 1));
    assert_eq!(queue.pop_due(50_000_000), Some(3));
    assert!(queue.drain().into_iter().eq(4..MANY - 2));
    assert!(queue.is_empty());
}
