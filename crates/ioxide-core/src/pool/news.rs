//! For how long outcomes may be kept from those who wait for them, so that they are told of many at once.

use std::time::{Duration, Instant};

/// While work is brisk; counted from the first that is kept.
const KEPT: Duration = Duration::from_micros(200);

/// The news that a worker has not told.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct News {
    since: Option<Instant>,
}

impl News {
    /// Whether news, if there `is` any that may wait at all, waits for another job. Otherwise it is told now.
    pub(super) fn waits(&mut self, is: bool, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let waits = is && now.duration_since(since) < KEPT;
        if !waits {
            self.since = None;
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_waits_no_longer_however_much_comes_after_it() {
        let mut news = News::default();
        let begun = Instant::now();
        let after = |micros| begun + Duration::from_micros(micros);
        for micros in [0, 50, 100, 150, 199] {
            assert!(news.waits(true, after(micros)), "{micros}");
        }
        assert!(!news.waits(true, after(200)));
        assert!(news.waits(true, after(200)), "the next is counted anew");
        assert!(news.waits(true, after(399)));
        assert!(!news.waits(true, after(5_000)));
    }

    #[test]
    fn what_was_told_does_not_count_for_the_next() {
        let mut news = News::default();
        let begun = Instant::now();
        let after = |micros| begun + Duration::from_micros(micros);
        assert!(news.waits(true, after(0)));
        assert!(!news.waits(false, after(10)));
        assert!(news.waits(true, after(100)));
        assert!(news.waits(true, after(299)));
        assert!(!news.waits(true, after(300)));
    }
}
