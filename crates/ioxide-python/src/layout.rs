//! The structs behind `_asyncio.Future` and `_asyncio.Task`, version by version.
//!
//! Our classes derive from these and share their fields, so that the interpreter's own code (getters, `repr`,
//! the list of tasks, the remote debugger) sees the truth. [`verify`] compares the layout with a living C
//! task at import; a Python whose layout differs is refused with an `ImportError` rather than guessed at.

use crate::kit::{err, ffi, value, Any, Head, Obj, ObjCell, PyResult, Raised};
use crate::{import, intern, raise};
use std::cell::Cell;
use std::mem::{offset_of, size_of};

/// A future's state, with the numbers of the C code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum State {
    Pending = 0,
    Cancelled = 1,
    Finished = 2,
}

/// The fields of `_asyncio.Future`.
#[repr(C)]
pub(crate) struct FutureBase {
    head: Head,
    pub(crate) event_loop: ObjCell,
    /// The C code's own callbacks; ours never stand here, what is here is in the C code's form.
    pub(crate) c_callback0: ObjCell,
    pub(crate) c_context0: ObjCell,
    pub(crate) c_callbacks: ObjCell,
    pub(crate) exception: ObjCell,
    pub(crate) exception_tb: ObjCell,
    pub(crate) result: ObjCell,
    pub(crate) source_tb: ObjCell,
    pub(crate) cancel_msg: ObjCell,
    #[cfg(Py_3_13)]
    pub(crate) cancelled_exc: ObjCell,
    #[cfg(Py_3_14)]
    pub(crate) awaited_by: ObjCell,
    state: Cell<u32>,
    #[cfg(Py_3_14)]
    is_task: Cell<u8>,
    #[cfg(Py_3_14)]
    pub(crate) awaited_by_is_set: Cell<u8>,
    #[cfg(Py_3_14)]
    bits: Cell<u8>,
    #[cfg(all(Py_3_13, not(Py_3_14)))]
    bits: Cell<u32>,
    #[cfg(not(Py_3_13))]
    log_tb: Cell<i32>,
    #[cfg(not(Py_3_13))]
    blocking: Cell<i32>,
    #[cfg(not(Py_3_13))]
    pub(crate) dict: ObjCell,
    #[cfg(not(Py_3_13))]
    weaklist: Cell<crate::kit::Raw>,
    #[cfg(not(Py_3_13))]
    pub(crate) cancelled_exc: ObjCell,
}

/// The fields of `_asyncio.Task`.
#[repr(C)]
pub(crate) struct TaskBase {
    pub(crate) future: FutureBase,
    #[cfg(Py_3_13)]
    num_cancels: Cell<i32>,
    /// What is padding to the C code: see [`TaskBase::shares_context`].
    #[cfg(Py_3_13)]
    ours: Cell<u32>,
    pub(crate) fut_waiter: ObjCell,
    pub(crate) coro: ObjCell,
    pub(crate) name: ObjCell,
    pub(crate) context: ObjCell,
    #[cfg(not(Py_3_13))]
    must_cancel: Cell<i32>,
    #[cfg(not(Py_3_13))]
    log_destroy_pending: Cell<i32>,
    #[cfg(not(Py_3_13))]
    num_cancels: Cell<i32>,
    /// What is padding to the C code: see [`TaskBase::shares_context`].
    #[cfg(not(Py_3_13))]
    ours: Cell<u32>,
    /// Links in the interpreter's list of tasks (`llist_node`): next, previous.
    #[cfg(Py_3_14)]
    pub(crate) node: Cell<[*mut Node; 2]>,
    /// The thread whose list that is, for C tasks: ours leave it by themselves.
    #[cfg(all(Py_3_14, Py_GIL_DISABLED))]
    thread: Cell<usize>,
}

/// A node of the interpreter's doubly linked list of tasks.
#[repr(C)]
pub(crate) struct Node {
    pub(crate) next: *mut Node,
    pub(crate) prev: *mut Node,
}

#[cfg(Py_3_13)]
const LOG_TB: u32 = 1;
#[cfg(Py_3_13)]
const BLOCKING: u32 = 2;
#[cfg(Py_3_13)]
const MUST_CANCEL: u32 = 4;
#[cfg(Py_3_13)]
const LOG_DESTROY: u32 = 8;

macro_rules! future_flag {
    ($get:ident, $set:ident, $bit:ident, $field:ident) => {
        #[inline(always)]
        pub(crate) fn $get(&self) -> bool {
            #[cfg(Py_3_13)]
            return u32::from(self.bits.get()) & $bit != 0;
            #[cfg(not(Py_3_13))]
            return self.$field.get() != 0;
        }

        #[inline(always)]
        pub(crate) fn $set(&self, on: bool) {
            #[cfg(Py_3_13)]
            self.set_bit($bit, on);
            #[cfg(not(Py_3_13))]
            self.$field.set(on.into());
        }
    };
}

impl FutureBase {
    pub(crate) const fn empty() -> FutureBase {
        FutureBase {
            head: Head::new(),
            event_loop: ObjCell::empty(),
            c_callback0: ObjCell::empty(),
            c_context0: ObjCell::empty(),
            c_callbacks: ObjCell::empty(),
            exception: ObjCell::empty(),
            exception_tb: ObjCell::empty(),
            result: ObjCell::empty(),
            source_tb: ObjCell::empty(),
            cancel_msg: ObjCell::empty(),
            cancelled_exc: ObjCell::empty(),
            #[cfg(Py_3_14)]
            awaited_by: ObjCell::empty(),
            state: Cell::new(0),
            #[cfg(Py_3_14)]
            is_task: Cell::new(0),
            #[cfg(Py_3_14)]
            awaited_by_is_set: Cell::new(0),
            #[cfg(Py_3_13)]
            bits: Cell::new(0),
            #[cfg(not(Py_3_13))]
            log_tb: Cell::new(0),
            #[cfg(not(Py_3_13))]
            blocking: Cell::new(0),
            #[cfg(not(Py_3_13))]
            dict: ObjCell::empty(),
            #[cfg(not(Py_3_13))]
            weaklist: Cell::new(std::ptr::null_mut()),
        }
    }

    #[inline(always)]
    pub(crate) fn state(&self) -> State {
        match self.state.get() {
            0 => State::Pending,
            1 => State::Cancelled,
            _ => State::Finished,
        }
    }

    #[inline(always)]
    pub(crate) fn set_state(&self, state: State) {
        self.state.set(state as u32);
    }

    #[inline(always)]
    pub(crate) fn has_returned(&self) -> bool {
        self.state() == State::Finished && self.exception.is_empty()
    }

    #[inline]
    pub(crate) fn is_pending(&self) -> bool {
        self.state.get() == State::Pending as u32
    }

    #[cfg(Py_3_14)]
    #[inline(always)]
    fn set_bit(&self, bit: u32, on: bool) {
        let bits = self.bits.get();
        let bit = bit as u8;
        self.bits.set(if on { bits | bit } else { bits & !bit });
    }

    #[cfg(all(Py_3_13, not(Py_3_14)))]
    #[inline(always)]
    fn set_bit(&self, bit: u32, on: bool) {
        let bits = self.bits.get();
        self.bits.set(if on { bits | bit } else { bits & !bit });
    }

    future_flag!(log_tb, set_log_tb, LOG_TB, log_tb);
    future_flag!(blocking, set_blocking, BLOCKING, blocking);
}

macro_rules! task_flag {
    ($get:ident, $set:ident, $bit:ident, $field:ident) => {
        #[inline(always)]
        pub(crate) fn $get(&self) -> bool {
            #[cfg(Py_3_13)]
            return u32::from(self.future.bits.get()) & $bit != 0;
            #[cfg(not(Py_3_13))]
            return self.$field.get() != 0;
        }

        #[inline(always)]
        pub(crate) fn $set(&self, on: bool) {
            #[cfg(Py_3_13)]
            self.future.set_bit($bit, on);
            #[cfg(not(Py_3_13))]
            self.$field.set(on.into());
        }
    };
}

impl TaskBase {
    pub(crate) const fn empty() -> TaskBase {
        let future = FutureBase::empty();
        TaskBase {
            future,
            num_cancels: Cell::new(0),
            ours: Cell::new(0),
            fut_waiter: ObjCell::empty(),
            coro: ObjCell::empty(),
            name: ObjCell::empty(),
            context: ObjCell::empty(),
            #[cfg(not(Py_3_13))]
            must_cancel: Cell::new(0),
            #[cfg(not(Py_3_13))]
            log_destroy_pending: Cell::new(0),
            #[cfg(Py_3_14)]
            node: Cell::new([std::ptr::null_mut(); 2]),
            #[cfg(all(Py_3_14, Py_GIL_DISABLED))]
            thread: Cell::new(0),
        }
    }

    /// What tells the C code that this future is a task.
    #[inline(always)]
    pub(crate) fn mark_as_task(&self) {
        #[cfg(Py_3_14)]
        self.future.is_task.set(1);
    }

    /// Whether `context` is a snapshot that others hold too.
    #[inline(always)]
    pub(crate) fn shares_context(&self) -> bool {
        self.ours.get() != 0
    }

    #[inline(always)]
    pub(crate) fn set_shares_context(&self, shares: bool) {
        self.ours.set(shares.into());
    }

    #[inline(always)]
    pub(crate) fn num_cancels(&self) -> i32 {
        self.num_cancels.get()
    }

    #[inline(always)]
    pub(crate) fn set_num_cancels(&self, count: i32) {
        self.num_cancels.set(count);
    }

    task_flag!(must_cancel, set_must_cancel, MUST_CANCEL, must_cancel);
    task_flag!(
        log_destroy_pending,
        set_log_destroy_pending,
        LOG_DESTROY,
        log_destroy_pending
    );
}

/// `_asyncio.Future`, the base of our Future.
pub(crate) fn c_future() -> PyResult<&'static Any> {
    import!("_asyncio", "Future")
}

/// `_asyncio.Task`, the base of our Task.
pub(crate) fn c_task() -> PyResult<&'static Any> {
    import!("_asyncio", "Task")
}

/// Checks the structs above against the interpreter's, by size and by looking into a C task.
pub(crate) fn verify() -> PyResult<()> {
    let sizes = [
        (c_future()?, size_of::<FutureBase>()),
        (c_task()?, size_of::<TaskBase>()),
    ];
    for (class, expected) in sizes {
        // SAFETY: a live type object.
        let found = unsafe { (*class.raw().cast::<ffi::PyTypeObject>()).tp_basicsize };
        if found as usize != expected {
            return Err(unknown_layout(&format!(
                "{} is {found} bytes",
                class.repr_text()
            )));
        }
    }
    probe()
}

fn unknown_layout(what: &str) -> Raised {
    raise!(
        err::import_error(),
        "ioxide does not know this Python's asyncio.Task ({what}); a newer ioxide may"
    )
}

/// Makes a C task on a loop that schedules nothing and looks for its parts where they should be.
fn probe() -> PyResult<()> {
    let namespace = value::dict()?;
    let source = c"
class Loop:
    def get_debug(self): return False
    def is_running(self): return False
    def call_soon(self, *args, **kwargs): pass
    def call_exception_handler(self, context): pass
async def coroutine(): pass
loop, coro = Loop(), coroutine()
";
    // SAFETY: the source is a NUL-terminated program, the namespace a dict.
    unsafe {
        let builtins = Obj::steal_or_raised(ffi::PyImport_ImportModule(c"builtins".as_ptr()))?;
        namespace.dict_set(intern!("__builtins__"), &builtins)?;
        Obj::steal_or_raised(ffi::PyRun_String(
            source.as_ptr(),
            ffi::Py_file_input,
            namespace.raw(),
            namespace.raw(),
        ))?;
    }
    let part = |name: &'static Any| namespace.dict_get(name).map(Option::unwrap_or_else_none);
    let (event_loop, coro) = (part(intern!("loop"))?, part(intern!("coro"))?);
    let context = crate::kit::context::copy_current()?;
    let name = value::str("probe of ioxide")?;
    let task = c_task()?.call_with(
        &[&coro],
        &[
            (intern!("loop"), &event_loop),
            (intern!("name"), &name),
            (intern!("context"), &context),
        ],
    )?;
    let holds = |offset: usize, object: &Any| {
        // SAFETY: the offset is within a task, whose size was checked above.
        unsafe {
            *task
                .raw()
                .cast::<u8>()
                .add(offset)
                .cast::<crate::kit::Raw>()
                == object.raw()
        }
    };
    let known = holds(offset_of!(FutureBase, event_loop), &event_loop)
        && holds(offset_of!(TaskBase, coro), &coro)
        && holds(offset_of!(TaskBase, name), &name)
        && holds(offset_of!(TaskBase, context), &context);
    // SAFETY: sizes were checked above; the fields are read only.
    let base = unsafe { &*task.raw().cast::<TaskBase>() };
    let flags_known = base.log_destroy_pending() && !base.must_cancel() && base.num_cancels() == 0;
    task.set_attr(intern!("_log_destroy_pending"), &value::bool(false))?;
    let cleared = !base.log_destroy_pending();
    coro.method0(intern!("close"))?;
    #[cfg(Py_3_14)]
    if known && !crate::running::find_list(base.node.as_ptr().cast()) {
        return Err(unknown_layout("it is on no list"));
    }
    if known && flags_known && cleared {
        Ok(())
    } else {
        Err(unknown_layout("its fields are elsewhere"))
    }
}

/// `Option<Obj>` with `None` for nothing.
trait OrNone {
    fn unwrap_or_else_none(self) -> Obj;
}

impl OrNone for Option<Obj> {
    fn unwrap_or_else_none(self) -> Obj {
        self.unwrap_or_else(Obj::none)
    }
}
