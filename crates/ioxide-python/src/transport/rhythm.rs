//! Whether what is written goes out at once, or waits for what else is written in the same turn.

use std::cell::Cell;

/// How often something writes in a turn. What has written the head and the body of a message apart will do so with
/// the next, and then both leave together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Once: the first write goes out at once.
    One,
    /// More than once: the first waits for the others.
    Several,
    /// More than once before, and only once so far in this turn.
    SeveralUntilNow,
}

/// When one connection writes.
pub(crate) struct Rhythm {
    /// The turn of the last write.
    turn: Cell<u32>,
    habit: Cell<Habit>,
}

impl Rhythm {
    pub(crate) const fn new() -> Rhythm {
        Rhythm {
            turn: Cell::new(u32::MAX),
            habit: Cell::new(Habit::One),
        }
    }

    /// Whether what is written now is to wait for the end of this turn: it is if something was written in it
    /// before, or more is likely to follow. Between turns (`None`) nobody would end the wait.
    #[inline]
    pub(crate) fn waits(&self, turn: Option<u32>) -> bool {
        let Some(turn) = turn else {
            return false;
        };
        if self.turn.replace(turn) == turn {
            self.habit.set(Habit::Several);
            return true;
        }
        if self.habit.get() == Habit::One {
            return false;
        }
        self.habit.set(Habit::SeveralUntilNow);
        true
    }

    /// A turn in which something waited has ended.
    #[inline]
    pub(crate) fn turn_ended(&self) {
        if self.habit.get() == Habit::SeveralUntilNow {
            self.habit.set(Habit::One);
        }
    }
}
