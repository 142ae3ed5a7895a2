//! What a dying future still has to say: an exception that nobody retrieved.

use super::FutureView;
use crate::kit::{err, value, Any, Obj, PyResult};
use crate::{intern, kit};

/// Reports the exception, if nobody has looked at it, to the loop's exception handler.
pub(crate) fn report_unretrieved(future: FutureView<'_>) {
    let base = future.base;
    if !base.log_tb() {
        return;
    }
    base.set_log_tb(false);
    let (Some(exception), Some(event_loop)) = (base.exception.get(), base.event_loop.get()) else {
        return;
    };
    let message = format!(
        "{} exception was never retrieved",
        future.object.type_name()
    );
    let report = || -> PyResult<()> {
        let context = context_of(&message, future.object, intern!("future"))?;
        context.dict_set(intern!("exception"), &exception)?;
        if let Some(source) = base.source_tb.get() {
            context.dict_set(intern!("source_traceback"), &source)?;
        }
        event_loop.method(intern!("call_exception_handler"), &[&context])?;
        Ok(())
    };
    if let Err(raised) = report() {
        err::unraisable(raised, future.object);
    }
}

/// The beginning of a context for the exception handler.
pub(crate) fn context_of(message: &str, object: &Any, key: &Any) -> PyResult<Obj> {
    let context = value::dict()?;
    context.dict_set(intern!("message"), &*kit::value::str(message)?)?;
    context.dict_set(key, object)?;
    Ok(context)
}
