//! Tokens resolve to what they were given for, or to nothing.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use ioxide_core::driver::RESERVED_TOKEN;
use ioxide_core::registry::Registry;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn stale_tokens_never_resolve(
        steps in prop::collection::vec((any::<bool>(), any::<usize>()), 1..200)
    ) {
        let mut registry = Registry::new();
        let mut live: Vec<u64> = Vec::new();
        let mut items: HashMap<u64, usize> = HashMap::new();
        let mut stale: Vec<u64> = Vec::new();
        for (number, (insert, pick)) in steps.into_iter().enumerate() {
            if insert || live.is_empty() {
                let token = registry.insert(number);
                prop_assert!(items.insert(token, number).is_none(), "a token was given twice");
                prop_assert_ne!(token, RESERVED_TOKEN);
                live.push(token);
            } else {
                let token = live.swap_remove(pick % live.len());
                prop_assert_eq!(registry.remove(token), Some(items[&token]));
                stale.push(token);
            }
            prop_assert_eq!(registry.len(), live.len());
            prop_assert_eq!(registry.iter().count(), live.len());
            for token in &live {
                prop_assert_eq!(registry.get(*token), Some(&items[token]));
            }
            for &token in &stale {
                prop_assert_eq!(registry.get_mut(token), None);
                prop_assert_eq!(registry.remove(token), None);
            }
        }
    }
}

#[test]
fn the_reserved_token_is_nobody() {
    let mut registry = Registry::new();
    registry.insert("one");
    assert_eq!(registry.get(RESERVED_TOKEN), None);
    assert_eq!(registry.remove(RESERVED_TOKEN), None);
}
