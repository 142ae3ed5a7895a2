//! What happens to bytes between the descriptor and the program: search, queueing, flow control.

pub mod outgoing;
pub mod receive;
pub mod scan;
pub mod sizes;
pub mod watermark;
