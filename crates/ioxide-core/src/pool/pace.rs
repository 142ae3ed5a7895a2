//! How work gets on, and who is best left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::Seat;

/// How long a job takes at most that counts as short: about as long as handing over a lock.
const SHORT: Duration = Duration::from_micros(30);
/// What looks short by the work that it does must not take longer than so many times that.
const PATIENCE: u32 = 10;
/// After how many short jobs in a row work is brisk, at first …
const ROW: u32 = 16;
/// … and at last, if that has been a mistake again and again.
const LONGEST_ROW: u32 = 4096;
/// With how much trust work begins to be brisk, …
const TRUST: u32 = 16;
/// … how much there can be, …
const MOST_TRUST: u32 = 64;
/// … and with how much less it is not any more.
const LEAST_TRUST: u32 = 8;
/// How often a watcher looks whether anything has moved.
pub(super) const TICK: Duration = Duration::from_micros(100);

/// What a job has taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) time: Duration,
    /// Of the processor. Only while work is not brisk.
    pub(super) work: Option<Duration>,
    /// Whether the lock was in other hands in the meantime, so that part of the time may have gone in waiting for it.
    pub(super) was_shared: bool,
}

/// How work gets on.
pub(super) struct Pace {
    mood: Mood,
    /// How many short jobs in a row it takes for work to be brisk.
    row: u32,
    /// Jobs in a row that came soon after another, up to [`ROW`].
    flow: u32,
    /// When the last job was taken.
    last: Option<Instant>,
    /// How often a worker has looked for a job.
    pub(super) looks: u64,
    /// Who took the last job and still runs it, and since when.
    front: Option<(Arc<Seat>, Instant)>,
    /// Who watches whether anything moves.
    pub(super) watcher: Option<Arc<Seat>>,
    /// Whether news is kept that nobody but the watcher might tell.
    pub(super) has_news: bool,
}

#[derive(Debug, Clone, Copy)]
enum Mood {
    /// Jobs may block. So many in a row have been short.
    Wary(u32),
    /// Jobs are short, and this is how far to trust in it.
    Brisk(u32),
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            mood: Mood::Wary(0),
            row: ROW,
            flow: 0,
            last: None,
            looks: 0,
            front: None,
            watcher: None,
            has_news: false,
        }
    }

    /// A job is over.
    ///
    /// Where threads fight over the lock no job is short by the clock, and there is no telling who would have been
    /// without the others. So what counts at first is the work; once it is left to one thread, the time shows.
    pub(super) fn took(&mut self, spent: Spent) {
        self.mood = match (self.mood, spent.work) {
            (Mood::Wary(short), Some(work)) => {
                if work >= SHORT || spent.time >= SHORT * PATIENCE {
                    Mood::Wary(0)
                } else if short + 1 < self.row {
                    Mood::Wary(short + 1)
                } else {
                    Mood::Brisk(TRUST)
                }
            }
            // It was taken in another mood.
            (Mood::Wary(short), None) => Mood::Wary(short),
            (Mood::Brisk(trust), _) => {
                let trust = if spent.time < SHORT {
                    (trust + 1).min(MOST_TRUST)
                } else if spent.was_shared {
                    trust - 1
                } else {
                    trust / 2
                };
                if trust == MOST_TRUST {
                    self.row = ROW;
                }
                if trust < LEAST_TRUST {
                    self.grow_wary();
                    return;
                }
                Mood::Brisk(trust)
            }
        };
    }

    fn grow_wary(&mut self) {
        self.mood = Mood::Wary(0);
        self.row = (self.row * 2).min(LONGEST_ROW);
    }

    /// Nothing has moved.
    pub(super) fn falter(&mut self) {
        if self.is_brisk() {
            self.grow_wary();
        }
        self.flow = 0;
        self.watcher = None;
    }

    pub(super) fn is_brisk(&self) -> bool {
        matches!(self.mood, Mood::Brisk(_))
    }

    /// `seat` takes a job.
    pub(super) fn goes_on(&mut self, seat: &Arc<Seat>, now: Instant) {
        let is_soon = self
            .last
            .replace(now)
            .is_some_and(|last| now.duration_since(last) < TICK);
        self.flow = if is_soon {
            (self.flow + 1).min(ROW)
        } else {
            self.flow / 2
        };
        match &mut self.front {
            Some((front, since)) if Arc::ptr_eq(front, seat) => *since = now,
            front => *front = Some((Arc::clone(seat), now)),
        }
    }

    /// `seat` has no job any more.
    pub(super) fn rests(&mut self, seat: &Arc<Seat>) {
        if self.is_front(seat) {
            self.front = None;
        }
    }

    fn is_front(&self, seat: &Arc<Seat>) -> bool {
        matches!(&self.front, Some((front, _)) if Arc::ptr_eq(front, seat))
    }

    /// Whether short jobs come so often that it is worth to have somebody watch also when none is queued.
    pub(super) fn is_flowing(&self) -> bool {
        self.is_brisk() && self.flow >= ROW / 2
    }

    /// Whether somebody gets on so well that others would only be in the way.
    pub(super) fn is_covered(&self) -> bool {
        self.is_brisk()
            && self
                .front
                .as_ref()
                .is_some_and(|(_, since)| since.elapsed() < TICK)
    }

    /// Whether somebody else than `seat` does.
    pub(super) fn is_covered_without(&self, seat: &Arc<Seat>) -> bool {
        !self.is_front(seat) && self.is_covered()
    }

    /// Whether news may wait for another job: it is likely to be short, and if it is not, somebody notices.
    pub(super) fn may_keep_news(&self) -> bool {
        self.is_brisk() && self.watcher.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(time: u64, work: Option<u64>, was_shared: bool) -> Spent {
        Spent {
            time: Duration::from_micros(time),
            work: work.map(Duration::from_micros),
            was_shared,
        }
    }

    /// How many such jobs it takes until work is brisk.
    fn until_brisk(pace: &mut Pace, spent: Spent) -> u32 {
        (0..100_000)
            .find(|_| {
                let is_brisk = pace.is_brisk();
                pace.took(spent);
                is_brisk
            })
            .unwrap_or(u32::MAX)
    }

    #[test]
    fn jobs_that_were_fought_over_count_by_their_work() {
        let mut pace = Pace::new();
        assert_eq!(until_brisk(&mut pace, job(200, Some(10), true)), ROW);
    }

    #[test]
    fn jobs_that_work_or_sleep_are_never_brisk() {
        for spent in [job(35, Some(35), false), job(400, Some(1), false)] {
            assert_eq!(until_brisk(&mut Pace::new(), spent), u32::MAX);
        }
    }

    #[test]
    fn news_is_kept_only_while_jobs_are_short_and_somebody_watches() {
        let mut pace = Pace::new();
        pace.watcher = Some(Arc::new(Seat::of_this_thread()));
        assert!(!pace.may_keep_news());
        until_brisk(&mut pace, job(5, Some(5), false));
        assert!(pace.may_keep_news());
        let watcher = pace.watcher.take();
        assert!(!pace.may_keep_news());
        pace.watcher = watcher;
        while pace.is_brisk() {
            pace.took(job(300, None, false));
        }
        assert!(!pace.may_keep_news());
    }

    /// As calls over a network do: their work alone tells nothing.
    #[test]
    fn jobs_that_block_shortly_are_found_out_and_tried_less_and_less() {
        for (was_shared, most) in [(false, 2), (true, TRUST)] {
            let mut pace = Pace::new();
            let mut row = ROW;
            for _ in 0..20 {
                assert_eq!(until_brisk(&mut pace, job(80, Some(5), true)), row);
                let mut tried = 1;
                while pace.is_brisk() {
                    pace.took(job(80, None, was_shared));
                    tried += 1;
                }
                assert!(tried <= most, "{tried}");
                row = (row * 2).min(LONGEST_ROW);
            }
            assert_eq!(row, LONGEST_ROW);
        }
    }

    #[test]
    fn work_that_stays_brisk_is_trusted_again() {
        let mut pace = Pace::new();
        for _ in 0..5 {
            until_brisk(&mut pace, job(20, Some(20), false));
            pace.falter();
        }
        assert_eq!(until_brisk(&mut pace, job(20, Some(20), false)), ROW << 5);
        for _ in 0..MOST_TRUST {
            pace.took(job(20, None, false));
        }
        // Now and then a long one changes nothing.
        pace.took(job(500, None, false));
        assert!(pace.is_brisk());
        pace.falter();
        assert_eq!(until_brisk(&mut pace, job(20, Some(20), false)), ROW * 2);
    }
}
