//! How a protocol takes bytes: by which calls, found out once when it is set.

use crate::import;
use crate::kit::{Any, PyResult};
use crate::streams::protocol::StreamReaderProtocol;
use crate::tls::TlsTransport;

/// The way in which bytes reach a protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    /// `data_received(bytes)`.
    Data,
    /// `get_buffer(hint)` and `buffer_updated(count)`.
    Buffered,
    /// Into the reader of our own stream protocol, without a call.
    Stream,
    /// Encrypted, into the TLS transport above, without a call.
    Tls,
}

impl Feed {
    /// How this protocol takes its bytes.
    pub(crate) fn of(protocol: &Any) -> PyResult<Feed> {
        if protocol.exact::<StreamReaderProtocol>().is_some() {
            return Ok(Feed::Stream);
        }
        if protocol.exact::<TlsTransport>().is_some() {
            return Ok(Feed::Tls);
        }
        let buffered = import!("asyncio.protocols", "BufferedProtocol")?;
        Ok(if protocol.is_instance(buffered)? {
            Feed::Buffered
        } else {
            Feed::Data
        })
    }
}
