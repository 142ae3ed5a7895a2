//! Sockets: addresses, creation, connecting, accepting, datagrams and files. Never blocks.

pub mod accept;
pub mod address;
pub mod datagram;
pub mod sendfile;
pub mod socket;
