//! The extension module `ioxide._ioxide`: its table of contents and nothing else.

mod awaitable;
mod combine;
mod errors;
mod event_loop;
mod executor;
mod files;
mod fork;
mod future;
mod handle;
mod kit;
mod layout;
mod process;
mod running;
mod runtime;
mod scope;
mod streams;
mod sync;
mod task;
mod tls;
mod transport;

use kit::value::{self, check};
use kit::{ffi, Any, Native, PyResult, Raw};
use std::ffi::{c_int, c_void, CStr};

/// Makes every class; bases before what derives from them.
fn build_classes() -> PyResult<()> {
    layout::verify()?;
    kit::context::find()?;
    kit::class::build()?;
    kit::stop::build()?;
    future::build()?;
    task::build()?;
    handle::build()?;
    awaitable::ready::build()?;
    awaitable::sleep::build()?;
    streams::build()?;
    sync::build()?;
    fork::count()?;
    executor::build()?;
    files::build()?;
    transport::build()?;
    tls::build()?;
    combine::build()?;
    scope::build()?;
    process::build()?;
    event_loop::build()
}

fn classes() -> Vec<(&'static CStr, &'static Any)> {
    let mut all = vec![
        (c"Future", future::Future::class().object()),
        (c"Task", task::Task::class().object()),
        (c"Handle", handle::Handle::class().object()),
        (c"TimerHandle", handle::timer::TimerHandle::class().object()),
        (
            c"StreamWriter",
            streams::writer::StreamWriter::class().object(),
        ),
        (
            c"_StreamProtocols",
            streams::factory::StreamProtocols::class().object(),
        ),
        (
            c"StreamReaderProtocol",
            streams::protocol::StreamReaderProtocol::class().object(),
        ),
        (
            c"StreamReader",
            streams::reader::StreamReader::class().object(),
        ),
        (c"BaseLoop", runtime::EventLoop::class().object()),
        (
            c"BaseThreadPool",
            executor::pool::ThreadPool::class().object(),
        ),
        (c"TaskGroup", scope::task_group::TaskGroup::class().object()),
        (c"Timeout", scope::timeout::Timeout::class().object()),
        (c"FileStrand", files::strand::class()),
        (c"BaseFileReader", files::reading::class()),
        (c"BaseFileWriter", files::writing::class()),
        (
            c"_GatheringFuture",
            combine::gather::Gathering::class().object(),
        ),
    ];
    all.extend(sync::classes());
    all.extend(transport::classes());
    all.extend(tls::classes());
    all.extend(process::classes());
    all
}

fn functions() -> Vec<ffi::PyMethodDef> {
    use kit::Args;
    use task::registry;
    let mut all = vec![
        function!(
            "sleep",
            awaitable::sleep::sleep,
            "sleep(delay, result=None)\n--\n\nCompletes after delay seconds, with result; ValueError for NaN."
        ),
        function!(
            "current_task",
            registry::current_task,
            "current_task(loop=None)\n--\n\nThe running task of the loop, by default of the running one, or \
                None. RuntimeError if neither is there."
        ),
        function!(
            "all_tasks",
            registry::all_tasks,
            "all_tasks(loop=None)\n--\n\nThe set of the tasks of the loop, by default of the running one, \
                that are not done. RuntimeError if neither is there."
        ),
        function!(
            "_native_tasks",
            registry::native_tasks,
            "Our tasks, where no C list has them."
        ),
        function!(
            "_register_task",
            registry::register_any,
            "_register_task(task)\n--\n\nMakes all_tasks() see the task."
        ),
        function!(
            "_unregister_task",
            registry::unregister_any,
            "_unregister_task(task)\n--\n\nUndoes _register_task."
        ),
        function!(
            "_enter_task",
            |args: Args<'_>| registry::forward("_enter_task", args),
            "_enter_task(loop, task)\n--\n\nMakes the task the running one."
        ),
        function!(
            "_leave_task",
            |args: Args<'_>| registry::forward("_leave_task", args),
            "_leave_task(loop, task)\n--\n\nUndoes _enter_task."
        ),
        function!(
            "_swap_current_task",
            |args: Args<'_>| registry::forward("_swap_current_task", args),
            "_swap_current_task(loop, task)\n--\n\nSets the running task, returns the one before."
        ),
        function!(
            "_join_workers",
            |_: Args<'_>| executor::at_exit::join_all(),
            "Runs what is queued for threads, and waits for them."
        ),
        function!(
            "create_task",
            combine::ensure_future::create_task,
            "create_task(coro, **kwargs)\n--\n\nA task of the running loop that runs the coroutine, with the \
                arguments of loop.create_task(). RuntimeError without a running loop."
        ),
        function!(
            "ensure_future",
            combine::ensure_future::ensure_future,
            "ensure_future(coro_or_future, *, loop=None)\n--\n\nThe future itself, or a task that awaits the \
                object. TypeError for what is neither, ValueError for a future of another loop."
        ),
        function!(
            "gather",
            combine::gather::gather,
            "gather(*coros_or_futures, return_exceptions=False)\n--\n\nA future of the list of results, in \
                the order of the arguments.\n\nThe first exception is raised and the others go on, unless \
                return_exceptions: then exceptions are among the results. Cancelling the future cancels all."
        ),
        function!(
            "shield",
            combine::shield::shield,
            "shield(arg)\n--\n\nA future with the outcome of arg, whose cancellation does not reach arg. Keep \
                a reference to arg."
        ),
        function!(
            "wait",
            combine::wait::wait,
            "wait(fs, *, timeout=None, return_when='ALL_COMPLETED')\n--\n\nWaits for the futures; the sets of \
                those that are done and those that are not.\n\ntimeout: seconds, None for no limit; nothing is \
                cancelled or raised when they are over. return_when: FIRST_COMPLETED, FIRST_EXCEPTION or \
                ALL_COMPLETED; ValueError for anything else, and without futures. TypeError for coroutines."
        ),
        function!(
            "wait_for",
            combine::wait_for::wait_for,
            "wait_for(fut, timeout)\n--\n\nThe result of fut; after timeout seconds (None for no limit) fut \
                is cancelled, and TimeoutError raised."
        ),
        function!(
            "as_completed",
            combine::as_completed::as_completed,
            "as_completed(fs, *, timeout=None)\n--\n\nAn iterator, plain and asynchronous, over the \
                awaitables in the order in which they are done.\n\ntimeout: seconds, None for no limit; what is \
                not done by then raises TimeoutError. TypeError for a single future or coroutine."
        ),
        function!(
            "wrap_future",
            combine::chain::wrap_future,
            "wrap_future(future, *, loop=None)\n--\n\nA future of the loop, by default of the running one, \
                with the outcome of a concurrent.futures.Future."
        ),
        function!(
            "run_coroutine_threadsafe",
            combine::chain::run_coroutine_threadsafe,
            "run_coroutine_threadsafe(coro, loop)\n--\n\nRuns the coroutine on the loop of another thread; a \
                concurrent.futures.Future. To be called in any thread but the loop's. TypeError for what is no \
                coroutine."
        ),
        function!(
            "create_eager_task_factory",
            combine::eager::create_eager_task_factory,
            "create_eager_task_factory(custom_task_constructor)\n--\n\nA task factory, for \
                loop.set_task_factory(), whose tasks begin at once; the constructor takes the arguments of Task."
        ),
        function!(
            "future_add_to_awaited_by",
            combine::awaited_by::add,
            "future_add_to_awaited_by(fut, waiter, /)\n--\n\nNotes that waiter awaits fut, for call graphs."
        ),
        function!(
            "future_discard_from_awaited_by",
            combine::awaited_by::discard,
            "future_discard_from_awaited_by(fut, waiter, /)\n--\n\nTakes the note back."
        ),
        function!(
            "timeout",
            scope::timeout::timeout,
            "timeout(delay)\n--\n\nA scope, for async with, that is cancelled after delay seconds and ends \
                with TimeoutError; None for no limit. RuntimeError without a running loop."
        ),
        function!(
            "timeout_at",
            scope::timeout::timeout_at,
            "timeout_at(when)\n--\n\nAs timeout(), when the loop's clock has reached when, in seconds."
        ),
        function!(
            "_set_facade",
            event_loop::set_facade,
            "Names the class of the loops."
        ),
    ];
    all.extend(files::functions());
    all.extend(transport::functions());
    all.extend(tls::functions());
    all.extend(process::functions());
    all
}

/// Which of the functions are coroutine functions.
const COROUTINES: [&str; 4] = ["sleep", "wait", "wait_for", process::COROUTINE];

/// Classes and interned names are made once and kept for the life of the process, for one interpreter.
fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: the lock is held, so that there is a current interpreter.
    let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    if id == 0 {
        return Ok(());
    }
    Err(raise!(
        kit::err::import_error(),
        "ioxide works in the main interpreter only, not in subinterpreters"
    ))
}

/// The interpreter lock guards what is native. A free-threaded interpreter turns it on for the import, and keeps it
/// on, since this module does not say that it can do without; unless it was told never to.
#[cfg(Py_GIL_DISABLED)]
fn require_lock() -> PyResult<()> {
    if import!("sys", "_is_gil_enabled")?.call0()?.truthy()? {
        return Ok(());
    }
    Err(raise!(
        kit::err::import_error(),
        "ioxide needs the interpreter lock: start Python without PYTHON_GIL=0 and -X gil=0"
    ))
}

fn fill(module: &Any) -> PyResult<()> {
    refuse_subinterpreters()?;
    #[cfg(Py_GIL_DISABLED)]
    require_lock()?;
    build_classes()?;
    for (name, class) in classes() {
        // SAFETY: the module and the class are alive, the name is a C string.
        check(unsafe { ffi::PyModule_AddObjectRef(module.raw(), name.as_ptr(), class.raw()) })?;
    }
    kit::class::add_functions(module, functions(), &COROUTINES)?;
    let version = value::str(env!("CARGO_PKG_VERSION"))?;
    // SAFETY: as above.
    check(unsafe {
        ffi::PyModule_AddObjectRef(module.raw(), c"__version__".as_ptr(), version.raw())
    })
}

unsafe extern "C" fn execute(module: Raw) -> c_int {
    // SAFETY: the interpreter passes the module that it has made.
    let module = unsafe { Any::from_raw(module) };
    kit::class::status(kit::class::guard(|| fill(module)))
}

struct Definition<T>(std::cell::UnsafeCell<T>);

// SAFETY: only the interpreter touches it, at import.
unsafe impl<T> Sync for Definition<T> {}

static SLOTS: Definition<[ffi::PyModuleDef_Slot; 2]> = Definition(std::cell::UnsafeCell::new([
    ffi::PyModuleDef_Slot {
        slot: ffi::Py_mod_exec,
        value: execute as *mut c_void,
    },
    ffi::PyModuleDef_Slot {
        slot: 0,
        value: std::ptr::null_mut(),
    },
]));

static MODULE: Definition<ffi::PyModuleDef> =
    Definition(std::cell::UnsafeCell::new(ffi::PyModuleDef {
        m_base: ffi::PyModuleDef_HEAD_INIT,
        m_name: c"_ioxide".as_ptr(),
        m_doc: c"What is native of ioxide.".as_ptr(),
        m_size: 0,
        m_methods: std::ptr::null_mut(),
        m_slots: SLOTS.0.get().cast(),
        m_traverse: None,
        m_clear: None,
        m_free: None,
    }));

/// What `import ioxide._ioxide` calls.
///
/// # Safety
/// Called by the interpreter, with its lock held.
#[no_mangle]
pub unsafe extern "C" fn PyInit__ioxide() -> *mut ffi::PyObject {
    // SAFETY: the definition lives for ever.
    unsafe { ffi::PyModuleDef_Init(MODULE.0.get()) }
}
