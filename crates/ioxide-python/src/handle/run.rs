//! Running a handle's callback, and those that follow it in the same context.
//!
//! Entering and leaving a context is a tenth of what a callback costs that does little. Callbacks which were made under the same
//! variables run one after the other in the scratch (see [`crate::runtime::snapshot`]), so where they follow each
//! other in a batch, the scratch is entered once for all of them. What happens between two callbacks, outside of
//! any callback's context, then happens inside of it: so that is done only where nothing happens that a program could
//! tell, namely where no code of the program runs when the first handle is dropped.

use super::details::TUPLE;
use super::timer::TimerHandle;
use super::Handle;
use crate::kit::{context, err, value, Any, Native, Obj, Own, PyResult, Raised};
use crate::runtime::{report, EventLoop};
use crate::task::step;
use crate::{import, intern};

/// What is called, held while it is called: the handle may be called off meanwhile.
struct Call {
    callback: Obj,
    arguments: Option<Obj>,
    is_tuple: bool,
}

impl Call {
    #[inline(always)]
    fn of(handle: &Handle) -> Option<Call> {
        Some(Call {
            callback: handle.callback.get()?,
            arguments: handle.arguments.get(),
            is_tuple: handle.details.has(TUPLE),
        })
    }

    #[inline(always)]
    fn call(&self) -> PyResult<Obj> {
        match &self.arguments {
            None => self.callback.call0(),
            Some(arguments) if self.is_tuple => self.callback.call_slice(arguments.tuple_items()),
            Some(argument) => self.callback.call1(argument),
        }
    }

    /// Whether no code of the program runs when this and the handle are dropped.
    #[inline(always)]
    fn is_dropped_quietly(&self) -> bool {
        let arguments = match &self.arguments {
            None => &[][..],
            Some(arguments) if self.is_tuple => arguments.tuple_items(),
            Some(argument) => &[&**argument][..],
        };
        // The handle and this each hold the callback and a sole argument, and both may be the same; a tuple that dies
        // with them holds what is in it once.
        let dropped = match arguments {
            [] => 2,
            [_] => 4,
            several => several.len() as isize + 2,
        };
        let stays = |object: &Any| object.refcount() > dropped;
        let callback = &self.callback;
        (stays(callback) || dies_alone(callback, dropped - 1))
            && arguments
                .iter()
                .all(|argument| stays(argument) || argument.is_plain())
    }
}

/// Whether it is a bound method that holds its object and its function once each, which more than so many hold.
#[inline(always)]
fn dies_alone(callback: &Any, holders: isize) -> bool {
    callback.method_parts().is_some_and(|[object, function]| {
        object.raw() != function.raw()
            && object.refcount() > holders
            && function.refcount() > holders
    })
}

impl Own<Handle> {
    /// Runs the callback in its context, unless it was called off; reports what it raises. Goes on with the handles that
    /// are next in the ready queue, up to `left` of them, which it counts down, as long as they run in the same context.
    #[inline]
    pub(crate) fn run(mut self, event_loop: &EventLoop, left: &mut usize) -> PyResult<()> {
        let result = self.run_all(event_loop, left);
        self.reveal_if_held();
        result
    }

    /// When this returns, `self` is the one that was run last.
    #[inline(always)]
    fn run_all(&mut self, event_loop: &EventLoop, left: &mut usize) -> PyResult<()> {
        if self.is_cancelled() {
            return Ok(());
        }
        let (Some(mut call), Some(context)) = (Call::of(self), self.context.get()) else {
            return Ok(());
        };
        let result = if context.is_shared() {
            // If that fails the copy stays the handle's context, so that the exception handler sees what the
            // callback has set.
            let result = event_loop.run_in_copy(context.object(), |scratch| loop {
                let result = call.call()?;
                match self.next(&call, &result, scratch, event_loop, left) {
                    Some((next, its_call)) => {
                        call = its_call;
                        self.reveal_if_held();
                        *self = next;
                    }
                    None => break Ok(result),
                }
            });
            result.map_err(|(raised, used)| {
                if let Some(used) = used {
                    err::preserved(|| self.context.set(used));
                }
                raised
            })
        } else if context::is_context(context.object()) {
            context::within(context.object(), || call.call()).and_then(|result| result)
        } else {
            let arguments = self.arguments_tuple()?;
            run_in_duck(context.object(), &call.callback, arguments.tuple_items())
        };
        match result {
            Ok(_) => Ok(()),
            Err(raised) => self.failed(event_loop, raised),
        }
    }

    /// Takes the next handle from the queue, if it runs in the context that this one has been run in and the program cannot
    /// tell that nobody has left it in between.
    #[inline(always)]
    fn next(
        &self,
        call: &Call,
        result: &Any,
        scratch: &Any,
        event_loop: &EventLoop,
        left: &mut usize,
    ) -> Option<(Own<Handle>, Call)> {
        if *left == 0
            || !result.is_none()
            || !self.is_dropped_quietly()
            || !call.is_dropped_quietly()
            // We have it, and who is inside.
            || !context::is_held_only_by(2, scratch)
            || !context::is_current(scratch)
        {
            return None;
        }
        let next = event_loop
            .ready
            .pop_handle_if(|next| next.runs_in_copy_of(scratch))?;
        *left -= 1;
        let its_call = Call::of(&next)?;
        Some((next, its_call))
    }
}

impl Handle {
    /// Whether no code of the program runs when the caller's reference is dropped, but for what is called.
    #[inline(always)]
    fn is_dropped_quietly(&self) -> bool {
        let this = self.as_any();
        this.refcount() > 1
            || ((this.exact::<TimerHandle>().is_some() || this.exact::<Handle>().is_some())
                && self.weak.is_empty()
                && self.details.rare().is_none())
    }

    /// Whether the callback is to run in a context with the very same variables, which is to be nobody else's.
    #[inline(always)]
    fn runs_in_copy_of(&self, scratch: &Any) -> bool {
        // SAFETY: nothing runs while the context is borrowed.
        let context = unsafe { self.context.peek() };
        !self.is_cancelled()
            && context.is_some_and(|context| {
                context.is_shared() && context::is_same(context.object(), scratch)
            })
    }

    #[cold]
    fn failed(&self, event_loop: &EventLoop, raised: Raised) -> PyResult<()> {
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        self.report(event_loop, &exception)
    }

    /// Tells the exception handler what the callback has raised.
    pub(super) fn report(&self, event_loop: &EventLoop, exception: &Any) -> PyResult<()> {
        let message = format!("Exception in callback {}", self.callback_text()?);
        let source = self.source_traceback();
        let mut more: Vec<(&'static Any, &Any)> = vec![(intern!("handle"), self.as_any())];
        if let Some(source) = &source {
            more.push((intern!("source_traceback"), source));
        }
        report::exception(event_loop, &message, exception, &more)
    }

    /// The callback as it stands in reports: its name, arguments and where it was defined.
    fn callback_text(&self) -> PyResult<String> {
        let text = import!("asyncio.format_helpers", "_format_callback_source")?
            .call(&[&self.callback.get_or_none(), &*self.arguments_tuple()?])?;
        Ok(text.to_str()?.to_owned())
    }
}

/// A context that is no `contextvars.Context` (a test's, say) only needs a `run`.
#[cold]
pub(super) fn run_in_duck(context: &Any, callback: &Any, arguments: &[&Any]) -> PyResult<Obj> {
    let mut all = vec![callback];
    all.extend_from_slice(arguments);
    context.attr(intern!("run"))?.call_slice(&all)
}

/// `_run()`, for loops that are not ours.
pub(super) fn run_method(this: &Handle) -> PyResult<()> {
    let event_loop = this.event_loop.get_or_none();
    if let Some(native) = EventLoop::of(&event_loop) {
        return this.own().run(native, &mut 0);
    }
    let (callback, context) = (this.callback.get_or_none(), this.context()?);
    let arguments = this.arguments_tuple()?;
    let Err(raised) = run_in_duck(&context, &callback, arguments.tuple_items()) else {
        return Ok(());
    };
    let exception = err::take(raised);
    if step::leaves_loop(&exception) {
        return Err(err::restore(exception));
    }
    let message = value::str(&format!("Exception in callback {}", this.callback_text()?))?;
    let report = value::dict()?;
    report.dict_set(intern!("message"), &message)?;
    report.dict_set(intern!("exception"), &exception)?;
    report.dict_set(intern!("handle"), this.as_any())?;
    if let Some(source) = this.source_traceback() {
        report.dict_set(intern!("source_traceback"), &source)?;
    }
    event_loop
        .method(intern!("call_exception_handler"), &[&report])
        .map(drop)
}
