//! What is entered and left with `async with`: groups of tasks, and timeouts.

pub(crate) mod enter;
pub(crate) mod expiry;
pub(crate) mod group_exit;
pub(crate) mod task_group;
pub(crate) mod timeout;

use crate::kit::{Any, Args, PyResult, Signature};

pub(crate) fn build() -> PyResult<()> {
    enter::build()?;
    timeout::build()?;
    task_group::build()?;
    group_exit::build()
}

/// The class and the exception of `__aexit__(exc_type, exc, tb)`, each if it is not `None`.
fn exit_arguments(args: Args<'_>) -> PyResult<(Option<&Any>, Option<&Any>)> {
    if let ([class, exception, _], false) = (args.positional(), args.has_keywords()) {
        return Ok((class.some(), exception.some()));
    }
    const SIGNATURE: Signature<3> =
        Signature::new("__aexit__", ["exc_type", "exc_val", "exc_tb"], 3);
    let [class, exception, _] = args.bind(&SIGNATURE)?;
    Ok((class.and_then(Any::some), exception.and_then(Any::some)))
}
