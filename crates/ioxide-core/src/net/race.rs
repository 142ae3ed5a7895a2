//! The order in which several addresses of one host are tried (RFC 8305, section 4).

/// Reorders addresses so that families take turns, each in its given order, the first one's first.
///
/// The first family is tried `first_count` times before any other has its turn, as asyncio's
/// `interleave` argument says; zero counts as one.
pub fn interleave<T>(addresses: Vec<T>, family: impl Fn(&T) -> i32, first_count: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(addresses.len());
    let mut families: Vec<_> = group_by_family(addresses, family)
        .into_iter()
        .map(|(_, group)| group.into_iter())
        .collect();
    if let Some(first) = families.first_mut() {
        result.extend(first.by_ref().take(first_count.saturating_sub(1)));
    }
    loop {
        let before = result.len();
        result.extend(families.iter_mut().filter_map(Iterator::next));
        if result.len() == before {
            return result;
        }
    }
}

fn group_by_family<T>(addresses: Vec<T>, family: impl Fn(&T) -> i32) -> Vec<(i32, Vec<T>)> {
    let mut groups: Vec<(i32, Vec<T>)> = Vec::new();
    for address in addresses {
        let key = family(&address);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(address),
            None => groups.push((key, vec![address])),
        }
    }
    groups
}
