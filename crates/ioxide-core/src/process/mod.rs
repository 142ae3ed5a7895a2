//! Child processes: started without copying the parent, known by a descriptor instead of a number.

mod child;
pub mod exit;
pub mod spawn;
mod stack;
