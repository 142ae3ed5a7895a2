//! A callback that is to run once, and the right to call it off.

pub(crate) mod timer;

use crate::future;
use crate::kit::class::Construct;
use crate::kit::class::{FreeList, WeakList};
use crate::kit::{
    context, err, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own,
    PyResult, Raised, Signature, Visitor,
};
use crate::runtime::snapshot::Context;
use crate::runtime::{report, EventLoop};
use crate::task::step;
use crate::{import, intern};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.Handle`.
#[repr(C)]
pub(crate) struct Handle {
    head: Head,
    weak: WeakList,
    callback: ObjCell,
    /// One argument itself, or a tuple of them; see `shape`.
    arguments: ObjCell,
    /// The context to run in, or a snapshot to run in a copy of; see `shares`.
    context: ObjCell,
    pub(crate) event_loop: ObjCell,
    /// In debug mode, after cancellation: what `repr` said before.
    shown: ObjCell,
    source_traceback: ObjCell,
    shape: Cell<Shape>,
    cancelled: Cell<bool>,
    /// Whether `context` is a snapshot that others hold too.
    shares: Cell<bool>,
}

/// How the arguments are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    None,
    One,
    Tuple,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Handle {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn may_skip_finalizer(&self) -> bool {
        true
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(1024);
        Some(&LIST)
    }

    fn traverse(&self, visitor: &mut Visitor) {
        for cell in self.cells() {
            visitor.cell(cell);
        }
    }

    fn clear(&self) {
        for cell in self.cells() {
            cell.clear();
        }
    }
}

impl Construct for Handle {
    fn empty() -> Handle {
        Handle {
            head: Head::new(),
            weak: WeakList::new(),
            callback: ObjCell::empty(),
            arguments: ObjCell::empty(),
            context: ObjCell::empty(),
            event_loop: ObjCell::empty(),
            shown: ObjCell::empty(),
            source_traceback: ObjCell::empty(),
            shape: Cell::new(Shape::None),
            cancelled: Cell::new(false),
            shares: Cell::new(false),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<4> =
            Signature::new("Handle", ["callback", "args", "loop", "context"], 3);
        let [callback, arguments, event_loop, context] = args.bind(&SIGNATURE)?;
        let (Some(callback), Some(arguments), Some(event_loop)) = (callback, arguments, event_loop)
        else {
            return Ok(());
        };
        self.set_up(event_loop, callback, arguments, context)
    }
}

impl Handle {
    fn cells(&self) -> [&ObjCell; 6] {
        [
            &self.callback,
            &self.arguments,
            &self.context,
            &self.event_loop,
            &self.shown,
            &self.source_traceback,
        ]
    }

    /// A handle on a native loop; the context defaults to a copy of the current one.
    #[inline]
    pub(crate) fn new(
        event_loop: &EventLoop,
        callback: &Any,
        arguments: &[&Any],
        context: Option<&Any>,
    ) -> PyResult<Own<Handle>> {
        let handle = Handle::empty();
        handle.fill(event_loop, callback, arguments, context)?;
        let handle = handle.make()?;
        if event_loop.debug() {
            handle.source_traceback.set(future::extract_stack()?);
        }
        Ok(handle)
    }

    #[inline]
    pub(crate) fn fill(
        &self,
        event_loop: &EventLoop,
        callback: &Any,
        arguments: &[&Any],
        context: Option<&Any>,
    ) -> PyResult<()> {
        self.callback.set(callback.own());
        match arguments {
            [] => {}
            [one] => {
                self.arguments.set(one.own());
                self.shape.set(Shape::One);
            }
            several => {
                self.arguments.set(value::tuple(several)?);
                self.shape.set(Shape::Tuple);
            }
        }
        match context.and_then(Any::some) {
            Some(context) => self.context.set(context.own()),
            None => self.set_context(event_loop.capture()?),
        }
        self.event_loop.set(event_loop.as_any().own());
        Ok(())
    }

    /// A handle on a native loop that runs in this context.
    pub(crate) fn within(
        event_loop: &EventLoop,
        callback: &Any,
        arguments: &[&Any],
        context: Context,
    ) -> PyResult<Own<Handle>> {
        let handle = Handle::new(event_loop, callback, arguments, Some(context.object()))?;
        handle.set_context(context);
        Ok(handle)
    }

    #[inline]
    fn set_context(&self, context: Context) {
        self.shares.set(matches!(context, Context::Shared(_)));
        let (Context::Given(object) | Context::Shared(object)) = context;
        self.context.set(object);
    }

    /// The context, for Python code: from now on it is this handle's own.
    fn context(&self) -> PyResult<Obj> {
        let context = self.context.get_or_none();
        if !self.shares.get() {
            return Ok(context);
        }
        let own = context::copy(&context)?;
        self.set_context(Context::Given(own.clone()));
        Ok(own)
    }

    /// `__init__`, on any loop.
    fn set_up(
        &self,
        event_loop: &Any,
        callback: &Any,
        arguments: &Any,
        context: Option<&Any>,
    ) -> PyResult<()> {
        let arguments = import!("builtins", "tuple")?.call1(arguments)?;
        self.callback.set(callback.own());
        self.arguments.set(arguments);
        self.shape.set(Shape::Tuple);
        self.context.set(match context.and_then(Any::some) {
            Some(context) => context.own(),
            None => context::copy_current()?,
        });
        self.event_loop.set(event_loop.own());
        if future::loop_debug(event_loop)? {
            self.source_traceback.set(future::extract_stack()?);
        }
        Ok(())
    }

    /// Runs the callback in its context, unless it was called off; reports what it raises.
    #[inline]
    pub(crate) fn run(&self, event_loop: &EventLoop) -> PyResult<()> {
        if self.cancelled.get() {
            return Ok(());
        }
        let (Some(callback), Some(context)) = (self.callback.get(), self.context.get()) else {
            return Ok(());
        };
        let arguments = self.arguments.get();
        let call = || match (self.shape.get(), &arguments) {
            (Shape::One, Some(argument)) => callback.call1(argument),
            (Shape::Tuple, Some(arguments)) => callback.call_slice(arguments.tuple_items()),
            _ => callback.call0(),
        };
        let result = if self.shares.get() {
            self.run_in_copy(event_loop, &context, call)
        } else if context::is_context(&context) {
            context::within(&context, call).and_then(|result| result)
        } else {
            self.run_in_duck(&context, &callback)
        };
        match result {
            Ok(_) => Ok(()),
            Err(raised) => self.failed(event_loop, raised),
        }
    }

    /// Runs in a copy of the snapshot. If that fails the copy stays the handle's context, so that the exception
    /// handler sees what the callback has set.
    #[inline]
    fn run_in_copy(
        &self,
        event_loop: &EventLoop,
        snapshot: &Any,
        call: impl FnOnce() -> PyResult<Obj>,
    ) -> PyResult<Obj> {
        let scratch = event_loop.scratch(snapshot)?;
        let result = context::within(&scratch, call).and_then(|result| result);
        match &result {
            Ok(_) => event_loop.keep_scratch(scratch),
            Err(_) => err::preserved(|| self.set_context(Context::Given(scratch))),
        }
        result
    }

    /// A context that is no `contextvars.Context` (a test's, say) only needs a `run`.
    #[cold]
    fn run_in_duck(&self, context: &Any, callback: &Any) -> PyResult<Obj> {
        let arguments = self.arguments_tuple()?;
        let mut all = vec![callback];
        all.extend_from_slice(arguments.tuple_items());
        context.attr(intern!("run"))?.call_slice(&all)
    }

    #[cold]
    fn failed(&self, event_loop: &EventLoop, raised: Raised) -> PyResult<()> {
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        let message = format!("Exception in callback {}", self.callback_text()?);
        let source = self.source_traceback.get();
        let mut more: Vec<(&'static Any, &Any)> = vec![(intern!("handle"), self.as_any())];
        if let Some(source) = &source {
            more.push((intern!("source_traceback"), source));
        }
        report::exception(event_loop, &message, &exception, &more)
    }

    /// The callback as it stands in reports: its name, arguments and where it was defined.
    fn callback_text(&self) -> PyResult<String> {
        let text = import!("asyncio.format_helpers", "_format_callback_source")?
            .call(&[&self.callback.get_or_none(), &*self.arguments_tuple()?])?;
        Ok(text.to_str()?.to_owned())
    }

    /// Calls the callback off.
    pub(crate) fn cancel(&self) -> PyResult<()> {
        if self.cancelled.replace(true) {
            return Ok(());
        }
        if let Some(event_loop) = self.event_loop.get() {
            if future::loop_debug(&event_loop)? {
                // `repr` goes on showing what the handle was for.
                let shown = self.as_any().repr();
                self.shown.set(shown?);
            }
        }
        self.callback.clear();
        self.arguments.clear();
        self.shape.set(Shape::None);
        Ok(())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// The arguments as a tuple, `None` after cancellation.
    fn arguments_tuple(&self) -> PyResult<Obj> {
        match (self.shape.get(), self.arguments.get()) {
            (Shape::One, Some(argument)) => value::tuple(&[&argument]),
            (Shape::Tuple, Some(arguments)) => Ok(arguments),
            _ if self.cancelled.get() => Ok(Obj::none()),
            _ => value::tuple(&[]),
        }
    }

    fn repr(&self) -> PyResult<Obj> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown);
        }
        import!("ioxide._report", "handle_repr")?.call1(self.as_any())
    }
}

/// The methods and properties that Handle and TimerHandle share.
pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Handle>(c"ioxide.Handle")
        .doc(c"A callback that will run soon.\n\nAs asyncio.Handle.")
        .constructible::<Handle>()
        .weak(offset_of!(Handle, weak))
        .slot(ffi::Py_tp_repr, crate::unary!(Handle, Handle::repr))
        .methods([
            crate::method!(noargs Handle, "cancel", Handle::cancel, "Calls the callback off."),
            crate::method!(noargs Handle, "cancelled", Handle::is_cancelled, "Whether it was called off."),
            crate::method!(noargs Handle, "get_context",
                Handle::context, "The contextvars.Context."),
            crate::method!(noargs Handle, "_run", run_method, "Runs the callback."),
        ])
        .getset([
            crate::getter!(Handle, "_callback", |this: &Handle| this.callback.get_or_none(), "The callback."),
            crate::getter!(Handle, "_args", Handle::arguments_tuple, "The arguments."),
            crate::getter!(Handle, "_context", Handle::context, "The context."),
            crate::getter!(Handle, "_loop", |this: &Handle| this.event_loop.get_or_none(), "The loop."),
            crate::getter!(Handle, "_cancelled", Handle::is_cancelled, "Whether it was called off."),
            crate::getter!(Handle, "_source_traceback",
                |this: &Handle| this.source_traceback.get_or_none(), "Where it was made, in debug mode."),
            crate::getter!(Handle, "_repr", |this: &Handle| this.shown.get_or_none(), "What repr says."),
        ])
        .build(&CLASS)?;
    timer::build()
}

/// `_run()`, for loops that are not ours.
fn run_method(this: &Handle) -> PyResult<()> {
    let event_loop = this.event_loop.get_or_none();
    if let Some(native) = EventLoop::of(&event_loop) {
        return this.run(native);
    }
    let (callback, context) = (this.callback.get_or_none(), this.context()?);
    let Err(raised) = this.run_in_duck(&context, &callback) else {
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
    if let Some(source) = this.source_traceback.get() {
        report.dict_set(intern!("source_traceback"), &source)?;
    }
    event_loop
        .method(intern!("call_exception_handler"), &[&report])
        .map(drop)
}
