//! asyncio's own exception classes, which ours are.

use crate::import;
use crate::kit::{Any, PyResult};

pub(crate) fn cancelled() -> PyResult<&'static Any> {
    import!("asyncio.exceptions", "CancelledError")
}

pub(crate) fn invalid_state() -> PyResult<&'static Any> {
    import!("asyncio.exceptions", "InvalidStateError")
}
