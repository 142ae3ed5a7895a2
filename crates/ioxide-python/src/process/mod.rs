//! Child processes as objects: started without copying the parent, watched and signalled by descriptor.

pub(crate) mod child;
pub(crate) mod spawn;

use crate::kit::PyResult;

pub(crate) fn build() -> PyResult<()> {
    child::build()
}
