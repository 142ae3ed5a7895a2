//! Transports: what moves bytes between descriptors and protocols, on one read path and one write path.
//!
//! ```text
//! driver → Work::Readable → read → data_received, buffer_updated or a feed of ours
//! write  → tried at once → coalesced until the end of the turn → writable → watermark
//! ```
//!
//! # Callbacks
//! `connection_made → data_received* → eof_received? → connection_lost`, each once, none inside of another's
//! call but for those that answer a write (`pause_writing`). All run in the connection's own context.
//!
//! # Invariants
//! 1. A descriptor has one owner ([`descriptor::Descriptor`]), is unwatched before it is closed, and closed once.
//! 2. Whoever reads or writes makes sure that the number is still its own: a program may close a socket that it
//!    has handed over, and the number may be another connection's.
//! 3. Bytes that only wait for the end of the turn look sent: whoever asks, closes or shuts down flushes first.
//! 4. Nothing is delivered after `pause_reading`, `close` or `abort`, whatever was ready before.
//! 5. No borrow of the shared read buffer or of a queue of bytes is alive while Python code runs.

pub(crate) mod address;
pub(crate) mod base;
mod capacity;
pub(crate) mod channel;
pub(crate) mod closing;
pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod datagram;
pub(crate) mod descriptor;
pub(crate) mod feed;
pub(crate) mod flow;
pub(crate) mod hub;
pub(crate) mod listener;
pub(crate) mod messages;
pub(crate) mod methods;
pub(crate) mod operation;
pub(crate) mod read;
mod receive;
pub(crate) mod rhythm;
pub(crate) mod sendfile;
pub(crate) mod server;
pub(crate) mod sock;
pub(crate) mod write;

use crate::kit::{ffi, Any, Native, PyResult};
use std::ffi::CStr;

pub(crate) fn build() -> PyResult<()> {
    channel::build()?;
    datagram::build()?;
    operation::build()?;
    sendfile::build()?;
    connect::build()?;
    server::build()?;
    listener::build()
}

pub(crate) fn classes() -> Vec<(&'static CStr, &'static Any)> {
    vec![
        (
            c"SocketTransport",
            channel::SocketTransport::class().object(),
        ),
        (
            c"ReadPipeTransport",
            channel::ReadPipeTransport::class().object(),
        ),
        (
            c"WritePipeTransport",
            channel::WritePipeTransport::class().object(),
        ),
        (
            c"DatagramTransport",
            datagram::DatagramTransport::class().object(),
        ),
        (c"BaseServer", server::BaseServer::class().object()),
        (c"Listener", listener::Listener::class().object()),
    ]
}

pub(crate) fn functions() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::function!(
            "_socket_transport",
            create::socket,
            "Makes the transport of a connected socket."
        ),
        crate::function!(
            "_connection",
            connect::connection,
            "An awaitable that connects to an address which needs no lookup; None for others."
        ),
        crate::function!(
            "_stream_connection",
            connect::stream_connection,
            "As _connection, for open_connection(): of a reader and a writer."
        ),
        crate::function!(
            "_is_numeric",
            connect::is_numeric,
            "Whether an address tuple is one of this family and needs no lookup."
        ),
        crate::function!(
            "_read_pipe_transport",
            create::read_pipe,
            "Makes the transport of the reading end of a pipe."
        ),
        crate::function!(
            "_write_pipe_transport",
            create::write_pipe,
            "Makes the transport of the writing end of a pipe."
        ),
        crate::function!(
            "_datagram_transport",
            datagram::make,
            "Makes the transport of a datagram socket."
        ),
    ]
}
