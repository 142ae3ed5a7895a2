//! How work gets on, and who is best left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::source::Seat;

/// How long a job takes at most that counts as short: about as long as handing over a lock.
const SHORT: Duration = Duration::from_micros(30);
/// After how many short jobs in a row work is brisk.
const ROW: u32 = 16;
/// A long job halves the row, which is counted up to here: one now and then changes nothing.
const LONGEST_ROW: u32 = 64;
/// How often a watcher looks whether anything has moved.
pub(super) const TICK: Duration = Duration::from_micros(100);
/// How long news may be kept while work is brisk.
const KEPT: Duration = Duration::from_micros(200);

/// How work gets on.
#[derive(Default)]
pub(super) struct Pace {
    /// Short jobs in a row, up to [`LONGEST_ROW`].
    row: u32,
    /// Jobs in a row that came soon after another.
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

impl Pace {
    /// A job is over.
    pub(super) fn took(&mut self, time: Duration) {
        self.row = if time < SHORT {
            (self.row + 1).min(LONGEST_ROW)
        } else {
            self.row / 2
        };
    }

    /// Nothing has moved.
    pub(super) fn falter(&mut self) {
        self.row = 0;
        self.flow = 0;
        self.watcher = None;
    }

    /// `seat` takes a job.
    pub(super) fn goes_on(&mut self, seat: &Arc<Seat>, now: Instant) {
        let is_soon = self
            .last
            .replace(now)
            .is_some_and(|last| now.duration_since(last) < TICK);
        self.flow = if is_soon {
            (self.flow + 1).min(LONGEST_ROW)
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
        self.row >= ROW && self.flow >= ROW
    }

    /// Whether somebody gets on so well that others would only be in the way.
    pub(super) fn is_covered(&self) -> bool {
        self.row >= ROW
            && self
                .front
                .as_ref()
                .is_some_and(|(_, since)| since.elapsed() < TICK)
    }

    /// Whether somebody else than `seat` does.
    pub(super) fn is_covered_without(&self, seat: &Arc<Seat>) -> bool {
        !self.is_front(seat) && self.is_covered()
    }

    /// Whether news from `since` may wait for another job.
    pub(super) fn may_keep_news(&self, since: Instant, now: Instant) -> bool {
        self.row >= ROW && self.watcher.is_some() && now.duration_since(since) < KEPT
    }
}
