//! The bytes objects that programs were given, and that become the next ones once nobody has them any more.
//!
//! Memory of these sizes is what an object costs most: the interpreter does not keep it at hand, and the C library
//! gives large pieces back to the system, so that every page of the next one is a fault.
//!
//! What a callback was given can be looked at when it returns: if it is free, it is at hand for the next message, still
//! in the processor's cache. A coroutine still has its last message when the next one arrives, and so has each of those
//! that take turns: what they have waits in a row, with others of about its size, the oldest at the front, which is the
//! first to be free.

use crate::kit::spare::SpareBytes;
use crate::kit::{value, PyResult};
use ioxide_core::buffer::sizes::{class_of, room_of};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::convert::Infallible;

/// The shortest objects that are used again: shorter ones the interpreter makes as quickly.
pub(crate) const SHORTEST: usize = 480;
/// The longest, which is the most that is received at once.
pub(crate) const LONGEST: usize = 256 * 1024;
/// How much memory may wait in all rows together, in bytes; what programs still have counts too.
const MOST: usize = 2 * 1024 * 1024;
/// So many may wait in a row without being needed.
const FEW: usize = 8;
/// Of as many new objects that find no place, one is let in for the oldest of its row; and of as many that are taken, one
/// is the occasion to look for such as are not needed.
const ONE_IN: usize = 4;

/// How many of the oldest are looked at: those that have them do not always take turns in the same order.
const AHEAD: usize = 4;

const CLASSES: usize = class_of(LONGEST) + 1;

/// The last messages that one loop has given to its programs.
pub(crate) struct Messages(UnsafeCell<Rows>);

struct Rows {
    /// The last one that nobody had any more when it was given back.
    at_hand: Option<SpareBytes>,
    /// One for each class, once there is anything to remember.
    rows: Vec<VecDeque<SpareBytes>>,
    /// How much memory is in them, in bytes.
    held: usize,
    taken: usize,
    refused: usize,
}

impl Messages {
    pub(crate) const fn new() -> Messages {
        Messages(UnsafeCell::new(Rows {
            at_hand: None,
            rows: Vec::new(),
            held: 0,
            taken: 0,
            refused: 0,
        }))
    }

    #[allow(clippy::mut_from_ref, reason = "private, and see below")]
    #[inline]
    fn rows(&self) -> &mut Rows {
        // SAFETY: the interpreter lock is held, and nothing here runs Python code, which alone could come back: bytes
        // have no finalizer. No method calls another while it has the borrow.
        unsafe { &mut *self.0.get() }
    }

    /// An object that nobody has, with room for so many bytes and up to a quarter more.
    #[inline]
    pub(crate) fn with_room(&self, capacity: usize) -> PyResult<SpareBytes> {
        let rows = self.rows();
        let suits = |spare: &mut SpareBytes| {
            (capacity..=capacity + capacity / 4 + 1).contains(&spare.room())
        };
        if let Some(spare) = rows.at_hand.take_if(suits) {
            return Ok(spare);
        }
        let class = class_of(capacity);
        match rows.take(class) {
            Some(spare) => Ok(spare),
            None => SpareBytes::with_room(room_of(class)),
        }
    }

    /// An object with a copy of the data, to be [kept](Self::keep) when it was given to the program.
    #[inline]
    pub(crate) fn copy(&self, data: &[u8]) -> PyResult<SpareBytes> {
        self.joined(data, &[])
    }

    /// As [`copy`](Self::copy), of two parts.
    #[inline]
    pub(crate) fn joined(&self, first: &[u8], second: &[u8]) -> PyResult<SpareBytes> {
        let len = first.len() + second.len();
        if !(SHORTEST..=LONGEST).contains(&len) {
            let bytes = if second.is_empty() {
                value::bytes(first)
            } else {
                value::bytes_joined(first, second)
            };
            return bytes.map(SpareBytes::fixed);
        }
        let mut spare = self.with_room(len)?;
        let Ok(_) = spare.fill::<Infallible>(|space| {
            let (start, end) = space[..len].split_at_mut(first.len());
            start.write_copy_of_slice(first);
            end.write_copy_of_slice(second);
            Ok(len)
        });
        Ok(spare)
    }

    /// Remembers an object of these methods, which the program has been given or which was not needed.
    #[inline]
    pub(crate) fn keep(&self, spare: SpareBytes) {
        let rows = self.rows();
        if spare.room() == 0 {
            return;
        }
        let spare = if spare.is_free() {
            let before = rows.at_hand.replace(spare);
            let Some(before) = before else { return };
            before
        } else {
            spare
        };
        rows.keep(spare);
    }

    pub(crate) fn clear(&self) {
        let rows = self.rows();
        rows.at_hand = None;
        rows.held = 0;
        rows.rows = Vec::new();
    }
}

impl Rows {
    /// The oldest object that nobody has, if it is one of the first. If there is none among them and half of the later
    /// ones are free, the first are forgotten.
    #[inline]
    fn take(&mut self, class: usize) -> Option<SpareBytes> {
        let row = self.rows.get_mut(class)?;
        let place = loop {
            if let Some(place) = row.iter().take(AHEAD).position(SpareBytes::is_free) {
                break place;
            }
            if !row.get(row.len() / 2)?.is_free() {
                return None;
            }
            row.pop_front();
            self.held -= room_of(class);
        };
        self.held -= room_of(class);
        let taken = row.remove(place);
        self.taken = self.taken.wrapping_add(1);
        if self.taken.is_multiple_of(ONE_IN) && row.len() > FEW && row[row.len() / 2].is_free() {
            // To go through more than are needed would be to use memory that is not in the processor's cache.
            row.pop_front();
            self.held -= room_of(class);
        }
        taken
    }

    /// Remembers an object, or drops it: bytes have no finalizer, so that no code runs.
    #[inline]
    fn keep(&mut self, spare: SpareBytes) {
        let room = spare.room();
        let class = class_of(room);
        if class >= CLASSES || (self.held + room > MOST && !self.give_way(class)) {
            return;
        }
        if self.rows.is_empty() {
            self.rows.resize_with(CLASSES, VecDeque::new);
        }
        self.held += room;
        if spare.is_free() {
            self.rows[class].push_front(spare);
        } else {
            self.rows[class].push_back(spare);
        }
    }

    /// Makes place for an object of a class; says whether there is any. What nobody has in other rows gives way first, then
    /// the row with the most memory. If that is the same one, what is in it will be free sooner: only what is never free
    /// has to leave one day.
    #[cold]
    fn give_way(&mut self, class: usize) -> bool {
        let mut refuses = true;
        while self.held + room_of(class) > MOST {
            let memory = |class: &usize| self.rows[*class].len() * room_of(*class);
            let unused = |other: &usize| {
                *other != class && self.rows[*other].front().is_some_and(SpareBytes::is_free)
            };
            let largest = (0..CLASSES).filter(unused).max_by_key(memory);
            let Some(largest) = largest.or_else(|| (0..CLASSES).max_by_key(memory)) else {
                return false;
            };
            if largest == class && refuses {
                self.refused += 1;
                if !self.refused.is_multiple_of(ONE_IN) {
                    return false;
                }
            }
            refuses = false;
            if self.rows[largest].pop_front().is_none() {
                return false;
            }
            self.held -= room_of(largest);
        }
        true
    }
}
