//! The two `ssl.MemoryBIO`s that making an `ssl.SSLObject` asks for.
//!
//! OpenSSL's own functions have no use for them (they read and write elsewhere), so that the same two serve one
//! connection of a loop after the other. Who has put something into one, or holds on to it, keeps it.

use crate::kit::{err, Any, Obj, ObjCell, PyResult, Raised, Visitor};
use crate::{import, intern};

/// The place for those of one loop.
pub(crate) struct SpareMemory {
    incoming: ObjCell,
    outgoing: ObjCell,
}

/// Encrypted bytes that have come, and those that are to go.
pub(super) struct Memory {
    pub(super) incoming: Obj,
    pub(super) outgoing: Obj,
}

impl SpareMemory {
    pub(crate) const fn new() -> SpareMemory {
        SpareMemory {
            incoming: ObjCell::empty(),
            outgoing: ObjCell::empty(),
        }
    }

    pub(super) fn take(&self) -> PyResult<Memory> {
        let one = |place: &ObjCell| match place.take() {
            Some(spare) => Ok(spare),
            None => import!("ssl", "MemoryBIO")?.call0(),
        };
        Ok(Memory {
            incoming: one(&self.incoming)?,
            outgoing: one(&self.outgoing)?,
        })
    }

    /// Takes them back, of a connection that does not need them.
    pub(super) fn keep(&self, memory: Memory) {
        for (place, memory) in [
            (&self.incoming, memory.incoming),
            (&self.outgoing, memory.outgoing),
        ] {
            if is_untouched(&memory) {
                place.set(memory);
            }
        }
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.incoming);
        visitor.cell(&self.outgoing);
    }

    pub(crate) fn clear(&self) {
        self.incoming.clear();
        self.outgoing.clear();
    }
}

/// Whether it is as new: nobody else has it, and nothing, not even an end, was written to it.
fn is_untouched(memory: &Obj) -> bool {
    memory.refcount() == 1 && pending(memory) == 0 && !is_ended(memory)
}

fn is_ended(memory: &Any) -> bool {
    let ended = memory.attr(intern!("eof")).and_then(|eof| eof.truthy());
    ended.unwrap_or_else(|raised| unreadable(raised, memory, true))
}

/// `memory.pending`, in bytes.
pub(super) fn pending(memory: &Any) -> usize {
    let count = memory
        .attr(intern!("pending"))
        .and_then(|count| count.to_i64());
    match count {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(raised) => unreadable(raised, memory, 0),
    }
}

#[cold]
fn unreadable<R>(raised: Raised, memory: &Any, instead: R) -> R {
    err::unraisable(raised, memory);
    instead
}
