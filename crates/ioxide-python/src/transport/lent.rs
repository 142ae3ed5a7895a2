//! Small bytes objects that coroutines were given, and that become the next ones once nobody has them any more.
//!
//! What a callback was given can be looked at when it returns. A coroutine still has the last message when the next one
//! arrives, and so has each of those that take turns. So the objects are remembered in the order in which they were
//! given: the oldest is the first to be free.

use crate::kit::spare::SpareBytes;
use crate::kit::{value, Obj, PyResult};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::convert::Infallible;

/// How many are remembered: two for each of a hundred busy connections, and some.
const COUNT: usize = 256;
/// Of which lengths. Shorter ones the interpreter makes as quickly; of longer ones as many would be too much.
const LENGTHS: std::ops::RangeInclusive<usize> = 480..=2048;

/// The last small objects that one loop has given to its coroutines.
pub(crate) struct LentBytes(UnsafeCell<VecDeque<SpareBytes>>);

impl LentBytes {
    pub(crate) const fn new() -> LentBytes {
        LentBytes(UnsafeCell::new(VecDeque::new()))
    }

    /// A bytes object with a copy of the data.
    #[inline]
    pub(crate) fn bytes(&self, data: &[u8]) -> PyResult<Obj> {
        if !LENGTHS.contains(&data.len()) {
            return value::bytes(data);
        }
        // SAFETY: the interpreter lock is held, and nothing here runs Python code, which alone could come back: bytes
        // have no finalizer.
        let lent = unsafe { &mut *self.0.get() };
        if let Some(room) = lent.front_mut().and_then(|it| it.room_for(data.len())) {
            let Ok(bytes) = room.fill::<Infallible>(|space| {
                space.write_copy_of_slice(data);
                Ok(data.len())
            });
            lent.rotate_left(1);
            return Ok(bytes);
        }
        let made = value::bytes(data)?;
        if lent.len() >= COUNT || lent.front().is_some_and(SpareBytes::is_free) {
            // In use for long, or of another size.
            drop(lent.pop_front());
        }
        lent.push_back(SpareBytes::new(&made));
        Ok(made)
    }

    pub(crate) fn clear(&self) {
        // SAFETY: as above.
        let lent = unsafe { std::mem::take(&mut *self.0.get()) };
        drop(lent);
    }
}
