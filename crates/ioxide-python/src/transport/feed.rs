//! How a protocol takes bytes: by which calls, found out once when it is set.

use crate::kit::{Any, PyResult};
use crate::streams::protocol::StreamReaderProtocol;
use crate::tls::TlsTransport;
use crate::{import, intern};

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
        Ok(
            if protocol.is_instance(buffered)? || only_takes_buffers(protocol)? {
                Feed::Buffered
            } else {
                Feed::Data
            },
        )
    }
}

/// Whether a protocol that does not say what it is has the methods of a buffered one only. asyncio would call the
/// `data_received` that it lacks; programs that were written for uvloop expect this.
fn only_takes_buffers(protocol: &Any) -> PyResult<bool> {
    Ok(protocol.attr_opt(intern!("data_received"))?.is_none()
        && protocol.attr_opt(intern!("get_buffer"))?.is_some())
}
