//! What happens to bytes between the descriptor and the program: search, queueing, flow control.

pub mod outgoing;
pub mod scan;
pub mod watermark;
