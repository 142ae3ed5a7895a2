//! Whether a loop that has nothing to do asks the kernel on for a moment before it sleeps.
//!
//! To fall asleep and to be woken costs CPU time, on a virtual machine more than most of what one is woken for. Where
//! one message comes at a time, and soon, it is cheaper to ask again until it is there. How soon the next one comes
//! nobody knows; so a loop lingers no longer than a sleep would cost, which it measures. What it gains it gains
//! surely, and what it loses is as much again as the sleep, at most. If it loses, it sleeps at once the next times,
//! twice as often after each loss.
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
/// After so many gains in turn, losses are forgotten.
const GAINS: u8 = 16;

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
    /// How often to sleep before the next attempt.
    pause: Cell<u32>,
    next_pause: Cell<u32>,
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
        Plan::Linger(self.cost.get())
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

    /// Something came while the loop lingered.
    pub fn gained(&self) {
        let gains = self.gains.get() + 1;
        self.gains.set(gains % GAINS);
        if gains == GAINS {
            self.next_pause.set(LEAST_PAUSE);
        }
    }

    /// Nothing came while the loop lingered.
    pub fn lost(&self) {
        let pause = self.next_pause.get();
        self.pause.set(pause);
        self.next_pause.set((pause * 2).min(LONGEST_PAUSE));
        self.gains.set(0);
        // Before the next attempt one sleep is measured again.
        self.samples.set(SAMPLES - 1);
    }
}

/// Asks the driver until it has something to tell, or so many nanoseconds have passed.
pub fn linger(
    driver: &impl Driver,
    events: &mut Events,
    clock: &impl Clock,
    nanoseconds: u64,
) -> io::Result<usize> {
    let end = clock.now() + nanoseconds;
    loop {
        let count = driver.wait(events, Some(0))?;
        if count > 0 || clock.now() >= end {
            return Ok(count);
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
    fn lingers_as_long_as_a_sleep_costs() {
        assert_eq!(experienced(9000).plan(), Plan::Linger(9000));
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
        for _ in 0..GAINS {
            linger.gained();
        }
        linger.lost();
        assert_eq!(sleeps_until_attempt(&linger), LEAST_PAUSE + 1);
    }

    #[test]
    fn the_cost_follows_the_machine() {
        let linger = experienced(16_000);
        for _ in 0..20 {
            linger.lost();
            sleeps_until_attempt(&linger);
        }
        assert!(matches!(linger.plan(), Plan::Linger(cost) if cost < 1100));
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
        assert_eq!(linger(&driver, &mut events, &clock, 5000)?, 0);
        assert!((5000..6000).contains(&clock.now()));
        Ok(())
    }

    #[test]
    fn lingering_ends_with_the_first_event() -> io::Result<()> {
        let (clock, driver) = simulated();
        driver.add(3, 7, Interest::READABLE)?;
        driver.script(2000, 3, Interest::READABLE);
        let mut events = Events::with_capacity(4);
        assert_eq!(linger(&driver, &mut events, &clock, 5000)?, 1);
        assert!((2000..3000).contains(&clock.now()));
        Ok(())
    }
}
