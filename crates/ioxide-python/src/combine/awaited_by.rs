//! The call graph's two functions: who awaits a future.

use crate::kit::{Any, Args, PyResult, Signature};
use crate::layout;
use crate::task::awaited_by;

/// The future and the waiter, if both are of the kind that keeps such notes.
fn pair<'a>(function: &'static str, args: Args<'a>) -> PyResult<Option<(&'a Any, &'a Any)>> {
    let signature: Signature<2> = Signature::new(function, ["fut", "waiter"], 2).positional_only(2);
    let [future, waiter] = args.bind(&signature)?;
    let (Some(future), Some(waiter)) = (future, waiter) else {
        return Ok(None);
    };
    let class = layout::c_future()?;
    let both = future.is_instance(class)? && waiter.is_instance(class)?;
    Ok(both.then_some((future, waiter)))
}

/// `future_add_to_awaited_by(fut, waiter, /)`.
pub(crate) fn add(args: Args<'_>) -> PyResult<()> {
    match pair("future_add_to_awaited_by", args)? {
        Some((future, waiter)) => awaited_by::add(future, waiter),
        None => Ok(()),
    }
}

/// `future_discard_from_awaited_by(fut, waiter, /)`.
pub(crate) fn discard(args: Args<'_>) -> PyResult<()> {
    match pair("future_discard_from_awaited_by", args)? {
        Some((future, waiter)) => awaited_by::discard(future, waiter),
        None => Ok(()),
    }
}
