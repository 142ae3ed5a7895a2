//! Sockets: addresses, creation, connecting, accepting and datagrams. Never blocks.

pub mod accept;
pub mod address;
pub mod datagram;
pub mod socket;
