//! TLS: a transport that is the protocol of the one below it.
//!
//! ```text
//! below:  read path → arrived → engine (decrypts) → data_received, buffer_updated, or a reader of ours
//! above:  write → engine (encrypts) → the write path below
//! ```
//!
//! `core/tls/machine.rs` knows what follows from what; `host.rs` does it. The engine is the `ssl.SSLObject` that the
//! program's own context has made.
//!
//! # Invariants
//! 1. No operation of the engine begins while another runs, since an operation may call the program.
//! 2. Callbacks of the program run in the connection's context: whoever comes from the loop has entered it.
//! 3. Encrypted bytes are read where the transport below has received them; what is left when it returns is kept.
//! 4. A connection at rest holds no buffer of ours.

mod bio;
mod create;
mod deliver;
mod engine;
mod host;
mod methods;
mod openssl;
pub(crate) mod transport;
mod write;

use crate::kit::{ffi, Any, Native, PyResult};
use std::ffi::CStr;

pub(crate) use create::Settings;
pub(crate) use transport::TlsTransport;

pub(crate) fn build() -> PyResult<()> {
    methods::build()
}

pub(crate) fn classes() -> Vec<(&'static CStr, &'static Any)> {
    vec![(c"SSLTransport", TlsTransport::class().object())]
}

pub(crate) fn functions() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::function!(
            "_tls_transport",
            create::make,
            "Makes the transport of an encrypted connection, to be the protocol of the one below."
        ),
        crate::function!(
            "_set_native_tls",
            openssl::set_enabled,
            "Whether connections are driven by OpenSSL's functions where they can be, for tests."
        ),
    ]
}
