//! A callback that is to run once, and the right to call it off.

pub(crate) mod deferred;
mod details;
mod run;
pub(crate) mod timer;

use crate::future;
use crate::import;
use crate::kit::class::Construct;
use crate::kit::class::{is_hidden, reveal, FreeList, WeakList};
use crate::kit::{
    context, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own, PyResult,
    Signature, Visitor,
};
use crate::runtime::snapshot::{Context, ContextCell};
use crate::runtime::EventLoop;
use details::{Details, CANCELLED, TUPLE};
use std::mem::{offset_of, size_of};

/// `ioxide.Handle`.
#[repr(C)]
pub(crate) struct Handle {
    head: Head,
    weak: WeakList,
    callback: ObjCell,
    /// One argument itself, or a tuple of them; see [`details::TUPLE`].
    arguments: ObjCell,
    context: ContextCell,
    pub(crate) event_loop: ObjCell,
    details: Details,
}

// A hundred thousand of them may wait.
const _: () = assert!(size_of::<Handle>() - size_of::<Head>() == 48);

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
        visitor.cells(self.cells());
        self.context.traverse(visitor);
        self.details.traverse(visitor);
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
        self.context.clear();
        self.details.clear();
    }
}

impl Construct for Handle {
    fn empty() -> Handle {
        Handle {
            head: Head::new(),
            weak: WeakList::new(),
            callback: ObjCell::empty(),
            arguments: ObjCell::empty(),
            context: ContextCell::empty(),
            event_loop: ObjCell::empty(),
            details: Details::new(),
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
    fn cells(&self) -> [&ObjCell; 3] {
        [&self.callback, &self.arguments, &self.event_loop]
    }

    /// A handle on a native loop, for its ready queue; the context defaults to a copy of the current one.
    #[inline]
    pub(crate) fn new(
        event_loop: &EventLoop,
        callback: &Any,
        arguments: &[&Any],
        context: Option<&Any>,
    ) -> PyResult<Own<Handle>> {
        let body = Handle::filled(event_loop, callback, arguments, context)?;
        // SAFETY: the ready queue, or who else keeps it, reveals it.
        let handle = unsafe { body.make_hidden() }?;
        if event_loop.debug() {
            handle.note_source()?;
        }
        Ok(handle)
    }

    #[inline(always)]
    fn filled(
        event_loop: &EventLoop,
        callback: &Any,
        arguments: &[&Any],
        context: Option<&Any>,
    ) -> PyResult<Handle> {
        let details = Details::new();
        let arguments = match arguments {
            [] => ObjCell::empty(),
            [one] => ObjCell::new(one.own()),
            several => {
                details.set(TUPLE, true);
                ObjCell::new(value::tuple(several)?)
            }
        };
        let context = match context.and_then(Any::some) {
            Some(context) => Context::given(context.own()),
            None => event_loop.capture()?,
        };
        Ok(Handle {
            head: Head::new(),
            weak: WeakList::new(),
            callback: ObjCell::new(callback.own()),
            arguments,
            context: ContextCell::new(context),
            event_loop: ObjCell::new(event_loop.as_any().own()),
            details,
        })
    }

    /// A handle on a native loop that runs in this context.
    pub(crate) fn within(
        event_loop: &EventLoop,
        callback: &Any,
        argument: &Any,
        context: Context,
    ) -> PyResult<Own<Handle>> {
        let handle = Handle::new(event_loop, callback, &[argument], Some(context.object()))?;
        handle.context.set(context);
        Ok(handle)
    }

    /// A handle that stays the same whatever becomes of it: for a descriptor's callback, which runs many times.
    pub(crate) fn lasting(
        event_loop: &EventLoop,
        callback: &Any,
        arguments: &[&Any],
    ) -> PyResult<Own<Handle>> {
        let handle = Handle::new(event_loop, callback, arguments, None)?;
        handle.reveal();
        Ok(handle)
    }

    /// Handles that wait are kept from the collector: the ready queue and the queue of timers answer for them, and a
    /// crowd of them is not looked at again and again while it grows. From here on the collector sees this one.
    #[inline(always)]
    pub(crate) fn reveal(&self) {
        // SAFETY: whole, and takes part in garbage collection.
        unsafe { reveal(self.as_any()) }
    }

    /// As [`Handle::reveal`], if somebody but the caller holds the handle: otherwise it is about to die.
    #[inline(always)]
    pub(crate) fn reveal_if_held(&self) {
        if self.as_any().refcount() > 1 {
            self.reveal();
        }
    }

    /// Shows the collector a handle that waits, and, if it is hidden and nobody else holds it, what it holds: so that
    /// a loop that is dropped with handles which never ran is garbage with all they hold.
    pub(crate) fn show_waiting(&self, visitor: &mut Visitor) {
        visitor.object(self.as_any());
        // SAFETY: takes part in garbage collection.
        if self.as_any().refcount() == 1 && unsafe { is_hidden(self.as_any()) } {
            self.traverse(visitor);
        }
    }

    #[cold]
    fn note_source(&self) -> PyResult<()> {
        let stack = future::extract_stack()?;
        self.details.rare_or_new().source_traceback.set(stack);
        Ok(())
    }

    fn source_traceback(&self) -> Option<Obj> {
        self.details.rare()?.source_traceback.get()
    }

    /// The context, for Python code: from now on it is this handle's own.
    fn context(&self) -> PyResult<Obj> {
        let Some(context) = self.context.get() else {
            return Ok(Obj::none());
        };
        let own = context.presentable()?;
        if context.is_shared() {
            self.context.set(Context::given(own.clone()));
        }
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
        self.details.set(TUPLE, true);
        self.context
            .set(Context::given(match context.and_then(Any::some) {
                Some(context) => context.own(),
                None => context::copy_current()?,
            }));
        self.event_loop.set(event_loop.own());
        if future::loop_debug(event_loop)? {
            self.note_source()?;
        }
        Ok(())
    }

    /// Calls the callback off.
    pub(crate) fn cancel(&self) -> PyResult<()> {
        if self.is_cancelled() {
            return Ok(());
        }
        self.details.set(CANCELLED, true);
        if let Some(event_loop) = self.event_loop.get() {
            if future::loop_debug(&event_loop)? {
                // `repr` goes on showing what the handle was for.
                let shown = self.as_any().repr();
                self.details.rare_or_new().shown.set(shown?);
            }
        }
        self.callback.clear();
        self.arguments.clear();
        self.details.set(TUPLE, false);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.details.has(CANCELLED)
    }

    /// The arguments as a tuple, `None` after cancellation.
    fn arguments_tuple(&self) -> PyResult<Obj> {
        match self.arguments.get() {
            Some(arguments) if self.details.has(TUPLE) => Ok(arguments),
            Some(argument) => value::tuple(&[&argument]),
            None if self.is_cancelled() => Ok(Obj::none()),
            None => value::tuple(&[]),
        }
    }

    fn shown(&self) -> Option<Obj> {
        self.details.rare()?.shown.get()
    }

    fn repr(&self) -> PyResult<Obj> {
        if let Some(shown) = self.shown() {
            return Ok(shown);
        }
        import!("ioxide._report", "handle_repr")?.call1(self.as_any())
    }
}

/// The methods and properties that Handle and TimerHandle share.
pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Handle>(c"ioxide.Handle")
        .doc(c"Handle(callback, args, loop, context=None)\n--\n\nA callback that will run soon, as call_soon() \
                returns it.\n\nAs asyncio.Handle: not thread-safe.")
        .constructible::<Handle>()
        .weak(offset_of!(Handle, weak))
        .slot(ffi::Py_tp_repr, crate::unary!(Handle, Handle::repr))
        .methods([
            crate::method!(noargs Handle, "cancel", Handle::cancel, "Calls the callback off."),
            crate::method!(noargs Handle, "cancelled", Handle::is_cancelled, "Whether it was called off."),
            crate::method!(noargs Handle, "get_context",
                Handle::context, "The contextvars.Context."),
            crate::method!(noargs Handle, "_run", run::run_method, "Runs the callback."),
        ])
        .getset([
            crate::getter!(Handle, "_callback", |this: &Handle| this.callback.get_or_none(), "The callback."),
            crate::getter!(Handle, "_args", Handle::arguments_tuple, "The arguments."),
            crate::getter!(Handle, "_context", Handle::context, "The context."),
            crate::getter!(Handle, "_loop", |this: &Handle| this.event_loop.get_or_none(), "The loop."),
            crate::getter!(Handle, "_cancelled", Handle::is_cancelled, "Whether it was called off."),
            crate::getter!(Handle, "_source_traceback",
                |this: &Handle| this.source_traceback().unwrap_or_else(Obj::none),
                    "Where it was made, in debug mode."),
            crate::getter!(Handle, "_repr", |this: &Handle| this.shown().unwrap_or_else(Obj::none),
                "What repr says."),
        ])
        .build(&CLASS)?;
    timer::build()
}
