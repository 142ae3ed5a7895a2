//! A future's callback: what a handle would hold, without a handle until somebody looks at one.

use super::run::run_in_duck;
use super::Handle;
use crate::kit::{context, err, Any, Obj, PyResult, Raised, Visitor};
use crate::runtime::snapshot::Context;
use crate::runtime::EventLoop;
use crate::task::step;

/// A callback and the context to run it in. Its argument is the future that is done.
pub(crate) struct Deferred {
    pub(crate) callback: Obj,
    pub(crate) context: Context,
}

impl Deferred {
    /// Calls the callback with the future; reports what it raises.
    pub(crate) fn run(&self, event_loop: &EventLoop, future: &Any) -> PyResult<()> {
        let call = || self.callback.call1(future);
        let mut context = None;
        let result = if self.context.is_shared() {
            event_loop
                .run_in_copy(self.context.object(), |_| call())
                .map_err(|(raised, used)| {
                    context = used;
                    raised
                })
        } else if context::is_context(self.context.object()) {
            context::within(self.context.object(), call).and_then(|result| result)
        } else {
            run_in_duck(self.context.object(), &self.callback, &[future])
        };
        match result {
            Ok(_) => Ok(()),
            Err(raised) => self.failed(event_loop, future, raised, context),
        }
    }

    #[cold]
    fn failed(
        &self,
        event_loop: &EventLoop,
        future: &Any,
        raised: Raised,
        used: Option<Context>,
    ) -> PyResult<()> {
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        let handle = self.handle(event_loop, future)?;
        if let Some(context) = used {
            handle.context.set(context);
        }
        handle.report(event_loop, &exception)
    }

    /// The handle, for those who look: from now on it is what runs.
    pub(crate) fn handle(
        &self,
        event_loop: &EventLoop,
        future: &Any,
    ) -> PyResult<crate::kit::Own<Handle>> {
        Handle::within(event_loop, &self.callback, future, self.context.clone())
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.callback);
        visitor.object(self.context.object());
    }
}
