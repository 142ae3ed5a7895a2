//! Whether a loop that has nothing to do asks the kernel on for a moment before it sleeps.
//!
//! To fall asleep and to be woken costs CPU time, on a virtual machine more than most of what one is woken for. Where
//! one message comes at a time, and soon, it is cheaper to ask again until it is there. How soon the next one comes
//! nobody knows; so a loop lingers not much longer than a sleep would cost, which it measures. What it has saved so is
//! its credit, and what it has lingered in vain it pays from that. Where nothing is left it sleeps at once the next
//! times, twice as often after each attempt that costs more than was saved: over a long time lingering costs nothing.
//!
//! A sleep that brings several events at once is shared by them, and worth its price: there nobody lingers.

use std::cell::Cell;
use std::io;

use super::{Driver, Events};
use crate::clock::Clock;

/// So many waits in turn must have brought one event each.
const STREAK: u8 = 4;
/// How many sleeps are measured before it is known what they cost.
const SAMPLES: u8 = 4;
/// The longest that anybody lingers, in nanoseconds, whatever a sleep costs.
pub const LONGEST: u64 = 30_000;
/// How many sleeps follow upon lingering in vain, at first …
const LEAST_PAUSE: u32 = 8;
/// … and at last.
const LONGEST_PAUSE: u32 = 4096;
/// The credit, at most, in lingerings: so many in turn may be in vain, after good times. Who has as much is forgiven
/// earlier losses.
const CREDIT: u64 = 4;

/// How to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// As long as it takes.
    Sleep,
    /// The same, and measure what that costs.
    Measure,
    /// No longer than so many nanoseconds, awake.
    Linger(u64),
}

/// What a loop has learned about its waits.
#[derive(Debug)]
pub struct Linger {
    /// How many waits in turn have brought one event.
    streak: Cell<u8>,
    samples: Cell<u8>,
    /// What a sleep costs, in nanoseconds of CPU time.
    cost: Cell<u64>,
    /// How many nanoseconds were saved, and have not been lost since.
    credit: Cell<u64>,
    /// How often to sleep before the next attempt.
    pause: Cell<u32>,
    next_pause: Cell<u32>,
    /// Counts gains, to measure a sleep from time to time.
    gains: Cell<u8>,
}

impl Default for Linger {
    fn default() -> Self {
        Self::new()
    }
}

impl Linger {
    pub const fn new() -> Self {
        Self {
            streak: Cell::new(0),
            samples: Cell::new(0),
            cost: Cell::new(0),
            credit: Cell::new(0),
            pause: Cell::new(0),
            next_pause: Cell::new(LEAST_PAUSE),
            gains: Cell::new(0),
        }
    }

    /// How to wait now. What comes of it is told with the other methods.
    pub fn plan(&self) -> Plan {
        if self.streak.get() < STREAK {
            return Plan::Sleep;
        }
        if self.pause.get() > 0 {
            self.pause.set(self.pause.get() - 1);
            return Plan::Sleep;
        }
        if self.samples.get() < SAMPLES {
            return Plan::Measure;
        }
        Plan::Linger(self.longest())
    }

    /// How long to linger. Answers to what was sent a moment ago come about when a sleep would have begun to pay: a
    /// quarter more catches most of them.
    fn longest(&self) -> u64 {
        let cost = self.cost.get();
        (cost + cost / 4).min(LONGEST)
    }

    /// A wait has ended; with one event, or otherwise.
    pub fn ended(&self, single: bool) {
        let streak = if single {
            self.streak.get().saturating_add(1)
        } else {
            0
        };
        self.streak.set(streak);
    }

    /// A sleep has taken so many nanoseconds of CPU time.
    pub fn measured(&self, cost: u64) {
        let cost = cost.min(LONGEST);
        let samples = self.samples.get();
        self.cost.set(if samples == 0 {
            cost
        } else {
            (self.cost.get() * 3 + cost) / 4
        });
        self.samples.set((samples + 1).min(SAMPLES));
    }

    /// Something came when the loop had lingered for so many nanoseconds.
    pub fn gained(&self, elapsed: u64) {
        let most = CREDIT * self.longest();
        let credit = (self.credit.get() + self.cost.get()).saturating_sub(elapsed);
        self.credit.set(credit.min(most));
        if credit >= most {
            self.next_pause.set(LEAST_PAUSE);
        }
        let gains = self.gains.get().wrapping_add(1);
        self.gains.set(gains);
        if gains == 0 {
            self.measure_again();
        }
    }

    /// Nothing came while the loop lingered.
    pub fn lost(&self) {
        if let Some(left) = self.credit.get().checked_sub(self.longest()) {
            self.credit.set(left);
            // The rest of this wait is slept.
            self.pause.set(1);
            return;
        }
        self.credit.set(0);
        let pause = self.next_pause.get();
        self.pause.set(pause);
        self.next_pause.set((pause * 2).min(LONGEST_PAUSE));
        self.measure_again();
    }

    /// Before the next attempt one sleep is measured again.
    fn measure_again(&self) {
        self.samples.set(SAMPLES - 1);
    }
}

/// Asks the driver until it has something to tell, or so many nanoseconds have passed; says how many events there are,
/// and how long it took.
pub fn linger(
    driver: &impl Driver,
    events: &mut Events,
    clock: &impl Clock,
    nanoseconds: u64,
) -> io::Result<(usize, u64)> {
    let begun = clock.now();
    loop {
        let count = driver.wait(events, Some(0))?;
        let elapsed = clock.now() - begun;
        if count > 0 || elapsed >= nanoseconds {
            return Ok((count, elapsed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;
    use crate::driver::simulated::Simulated;
    use crate::driver::Interest;
    use std::sync::Arc;

    /// One that knows that a sleep costs `cost`, and has seen single events.
    fn experienced(cost: u64) -> Linger {
        let linger = Linger::new();
        for _ in 0..STREAK {
            assert_eq!(linger.plan(), Plan::Sleep);
            linger.ended(true);
        }
        for _ in 0..SAMPLES {
            assert_eq!(linger.plan(), Plan::Measure);
            linger.measured(cost);
            linger.ended(true);
        }
        linger
    }

    fn sleeps_until_attempt(linger: &Linger) -> u32 {
        let mut sleeps = 0;
        loop {
            match linger.plan() {
                Plan::Linger(_) => return sleeps,
                Plan::Measure => linger.measured(1000),
                Plan::Sleep => {}
            }
            sleeps += 1;
        }
    }

    #[test]
    fn lingers_a_quarter_longer_than_a_sleep_costs() {
        assert_eq!(experienced(8000).plan(), Plan::Linger(10_000));
    }

    #[test]
    fn never_lingers_longer_than_the_bound() {
        assert_eq!(experienced(10 * LONGEST).plan(), Plan::Linger(LONGEST));
    }

    #[test]
    fn sleeps_where_several_events_come_at_once() {
        let linger = experienced(9000);
        linger.ended(false);
        assert_eq!(linger.plan(), Plan::Sleep);
    }

    #[test]
    fn sleeps_twice_as_often_after_each_loss() {
        let linger = experienced(1000);
        let mut expected = LEAST_PAUSE;
        for _ in 0..20 {
            linger.lost();
            // One more, which is measured.
            assert_eq!(sleeps_until_attempt(&linger), expected + 1);
            expected = (expected * 2).min(LONGEST_PAUSE);
        }
    }

    #[test]
    fn gains_in_turn_make_up_for_losses() {
        let linger = experienced(1000);
        for _ in 0..5 {
            linger.lost();
        }
        sleeps_until_attempt(&linger);
        while linger.credit.get() < CREDIT * linger.longest() {
            linger.gained(250);
        }
        for _ in 0..CREDIT {
            linger.lost();
            assert_eq!(sleeps_until_attempt(&linger), 1);
        }
        linger.lost();
        assert_eq!(sleeps_until_attempt(&linger), LEAST_PAUSE + 1);
    }

    #[test]
    fn lingers_on_where_it_saves_more_than_it_loses() {
        let linger = experienced(8000);
        let mut attempts = 0;
        for wait in 0..10_000 {
            match linger.plan() {
                Plan::Linger(_) if wait % 8 == 0 => linger.lost(),
                Plan::Linger(_) => linger.gained(5000),
                Plan::Measure => linger.measured(8000),
                Plan::Sleep => continue,
            }
            attempts += 1;
        }
        assert!(attempts > 8000, "{attempts}");
    }

    #[test]
    fn gives_up_where_it_loses_more_than_it_saves() {
        let linger = experienced(8000);
        let mut attempts = 0;
        for wait in 0..10_000 {
            match linger.plan() {
                Plan::Linger(_) if wait % 3 == 0 => linger.lost(),
                Plan::Linger(_) => linger.gained(7000),
                Plan::Measure => linger.measured(8000),
                Plan::Sleep => continue,
            }
            attempts += 1;
        }
        assert!(attempts < 100, "{attempts}");
    }

    #[test]
    fn a_message_that_comes_later_than_a_sleep_would_have_cost_saves_nothing() {
        let linger = experienced(8000);
        for _ in 0..100 {
            linger.gained(9000);
        }
        linger.lost();
        assert_eq!(sleeps_until_attempt(&linger), LEAST_PAUSE + 1);
    }

    #[test]
    fn the_cost_is_measured_now_and_then_while_lingering_pays() {
        let linger = experienced(8000);
        for _ in 0..2560 {
            match linger.plan() {
                Plan::Measure => linger.measured(4000),
                _ => linger.gained(1000),
            }
        }
        assert!(linger.cost.get() < 5000);
    }

    #[test]
    fn the_cost_follows_the_machine() {
        let linger = experienced(16_000);
        for _ in 0..20 {
            linger.lost();
            sleeps_until_attempt(&linger);
        }
        assert!(linger.cost.get() < 1100);
    }

    /// A clock that moves on whenever it is read.
    struct Running(Arc<Manual>);

    impl Clock for Running {
        fn now(&self) -> u64 {
            self.0.advance(100);
            self.0.now()
        }
    }

    fn simulated() -> (Running, Simulated) {
        let clock = Arc::new(Manual::new(0));
        (Running(Arc::clone(&clock)), Simulated::new(clock))
    }

    #[test]
    fn lingering_ends_when_its_time_is_over() -> io::Result<()> {
        let (clock, driver) = simulated();
        driver.add(3, 7, Interest::READABLE)?;
        driver.script(9000, 3, Interest::READABLE);
        let mut events = Events::with_capacity(4);
        let (count, elapsed) = linger(&driver, &mut events, &clock, 5000)?;
        assert_eq!(count, 0);
        assert!((5000..6000).contains(&elapsed));
        Ok(())
    }

    #[test]
    fn lingering_ends_with_the_first_event() -> io::Result<()> {
        let (clock, driver) = simulated();
        driver.add(3, 7, Interest::READABLE)?;
        driver.script(2000, 3, Interest::READABLE);
        let mut events = Events::with_capacity(4);
        let (count, elapsed) = linger(&driver, &mut events, &clock, 5000)?;
        assert_eq!(count, 1);
        assert!((1900..3000).contains(&elapsed));
        Ok(())
    }
}
