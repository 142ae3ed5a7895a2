//! `StreamReader`: what arrives, for coroutines that read it.

use super::operation::Operation;
use super::reading::Reading;
use super::storage::Storage;
use super::{field, flag, required, DEFAULT_LIMIT};
use crate::kit::buffer::Buffer;
use crate::kit::class::{Construct, FreeList, WeakList};
use crate::kit::{
    bytearray, err, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, Own,
    PyResult, Signature, Visitor,
};
use crate::{future, intern, raise};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.StreamReader`.
///
/// # Invariants
/// 1. `waiter` holds the read that is parked, from its parking until it is woken, fails or is cancelled.
/// 2. `paused` says that we have paused the transport; it is resumed when at most `limit` bytes are left, or
///    when somebody waits for more.
#[repr(C)]
pub(crate) struct StreamReader {
    head: Head,
    pub(super) storage: Storage,
    /// Bytes.
    pub(super) limit: Cell<usize>,
    pub(super) eof: Cell<bool>,
    paused: Cell<bool>,
    event_loop: ObjCell,
    waiter: ObjCell,
    pub(super) exception: ObjCell,
    transport: ObjCell,
    pub(super) source_traceback: ObjCell,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for StreamReader {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn freelist() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(64);
        Some(&LIST)
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }
}

impl Construct for StreamReader {
    fn empty() -> StreamReader {
        StreamReader {
            head: Head::new(),
            storage: Storage::new(),
            limit: Cell::new(DEFAULT_LIMIT),
            eof: Cell::new(false),
            paused: Cell::new(false),
            event_loop: ObjCell::empty(),
            waiter: ObjCell::empty(),
            exception: ObjCell::empty(),
            transport: ObjCell::empty(),
            source_traceback: ObjCell::empty(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<2> = Signature::new("StreamReader", ["limit", "loop"], 0);
        let [limit, event_loop] = args.bind(&SIGNATURE)?;
        if let Some(limit) = limit {
            self.set_limit(Some(limit))?;
        }
        let event_loop = match event_loop.and_then(Any::some) {
            Some(event_loop) => event_loop.own(),
            None => future::current_loop()?,
        };
        if future::loop_debug(&event_loop)? {
            self.source_traceback.set(future::extract_stack()?);
        }
        self.event_loop.set(event_loop);
        Ok(())
    }
}

impl StreamReader {
    /// `StreamReader(limit, loop)`.
    pub(crate) fn with(limit: Option<&Any>, event_loop: &Any) -> PyResult<Own<StreamReader>> {
        let reader = StreamReader {
            event_loop: ObjCell::new(event_loop.own()),
            ..StreamReader::empty()
        };
        if limit.is_some() {
            reader.set_limit(limit)?;
        }
        if future::loop_debug(event_loop)? {
            reader.source_traceback.set(future::extract_stack()?);
        }
        reader.make()
    }
}

// What a transport or a protocol tells the reader.
impl StreamReader {
    /// Takes in bytes that the caller keeps. Runs no Python code: [`after_feeding`](Self::after_feeding) does
    /// what may.
    pub(crate) fn take_in(&self, data: &[u8]) -> PyResult<()> {
        self.refuse_after_eof()?;
        self.storage.append(data)
    }

    /// Whether everything was read.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.storage.is_empty()
    }

    /// As [`take_in`](Self::take_in), of a bytes object, which an empty reader keeps as it is.
    pub(crate) fn take_in_object(&self, bytes: &Any) -> PyResult<()> {
        self.refuse_after_eof()?;
        self.storage.append_bytes(bytes)
    }

    /// The reader whose methods nobody has replaced, in a subclass or on the object itself.
    #[inline]
    pub(super) fn untouched(object: &Any) -> Option<&StreamReader> {
        object
            .exact::<StreamReader>()
            .filter(|reader| reader.dict.is_empty())
    }

    /// Takes in any object with bytes.
    pub(crate) fn feed_object(&self, data: &Any) -> PyResult<()> {
        self.refuse_after_eof()?;
        if !data.truthy()? {
            return Ok(());
        }
        if data.type_raw() == &raw mut ffi::PyBytes_Type {
            self.storage.append_bytes(data)?;
        } else {
            let view = Buffer::readable(data)?;
            self.storage.append(view.bytes())?;
        }
        self.after_feeding()
    }

    /// Nothing will come any more.
    pub(crate) fn feed_eof(&self) -> PyResult<()> {
        self.eof.set(true);
        self.wake_waiter()
    }

    /// Every read fails with the exception from now on, also the one that waits.
    pub(crate) fn set_exception(&self, exception: &Any) -> PyResult<()> {
        self.exception.set(exception.own());
        let Some(waiter) = self.waiter.take() else {
            return Ok(());
        };
        match waiter.exact::<Reading>() {
            Some(reading) => reading.fail(exception),
            None if is_cancelled(&waiter)? => Ok(()),
            None => waiter
                .method(intern!("set_exception"), &[exception])
                .map(drop),
        }
    }

    pub(crate) fn set_transport(&self, transport: &Any) -> PyResult<()> {
        if !self.transport.is_empty() {
            return Err(raise!(err::assertion_error(), "Transport already set"));
        }
        self.transport.set(transport.own());
        Ok(())
    }

    pub(crate) fn replace_transport(&self, transport: &Any) -> PyResult<()> {
        if self.transport.is_empty() {
            return Err(raise!(err::assertion_error(), "Transport not set"));
        }
        self.transport.set(transport.own());
        Ok(())
    }

    #[inline]
    fn refuse_after_eof(&self) -> PyResult<()> {
        if self.eof.get() {
            return Err(raise!(err::assertion_error(), "feed_data after feed_eof"));
        }
        Ok(())
    }

    /// Tells who waits that there is more, and holds the peer back if it is too much.
    pub(crate) fn after_feeding(&self) -> PyResult<()> {
        self.wake_waiter()?;
        let most = self.limit.get().saturating_mul(2);
        if self.paused.get() || self.transport.is_empty() || self.storage.len() <= most {
            return Ok(());
        }
        self.pause_transport()
    }

    /// Holds the peer back. A transport that cannot is not asked again: everything is buffered then.
    fn pause_transport(&self) -> PyResult<()> {
        let transport = self.transport.get_or_none();
        match transport.method0(intern!("pause_reading")) {
            Ok(_) => self.paused.set(true),
            Err(raised) if err::matches(err::not_implemented()) => {
                err::discard(raised);
                self.transport.clear();
            }
            Err(raised) => return Err(raised),
        }
        Ok(())
    }

    pub(super) fn wake_waiter(&self) -> PyResult<()> {
        let Some(waiter) = self.waiter.take() else {
            return Ok(());
        };
        match waiter.exact::<Reading>() {
            Some(reading) => reading.wake(),
            None if is_cancelled(&waiter)? => Ok(()),
            None => waiter
                .method(intern!("set_result"), &[&Obj::none()])
                .map(drop),
        }
    }
}

// What a read tells the reader.
impl StreamReader {
    /// Notes that `reading` waits for bytes; a paused transport is resumed, or both would wait for ever.
    pub(super) fn begin_waiting(&self, reading: &Reading) -> PyResult<()> {
        if !self.waiter.is_empty() {
            return Err(raise!(
                err::runtime_error(),
                "{}() called while another coroutine is already waiting for incoming data",
                reading.function()
            ));
        }
        if self.eof.get() {
            return Err(raise!(err::assertion_error(), "_wait_for_data after EOF"));
        }
        if self.paused.replace(false) {
            self.resume_transport()?;
        }
        self.waiter.set(reading.as_any().own());
        Ok(())
    }

    /// `reading` was cancelled.
    pub(super) fn end_waiting(&self, reading: &Reading) {
        if self.waiter.holds(reading.as_any()) {
            self.waiter.clear();
        }
    }

    /// To be called when bytes were consumed.
    #[inline]
    pub(super) fn maybe_resume_transport(&self) -> PyResult<()> {
        if self.paused.get() && self.storage.len() <= self.limit.get() {
            self.paused.set(false);
            return self.resume_transport();
        }
        Ok(())
    }

    fn resume_transport(&self) -> PyResult<()> {
        let transport = self.transport.get_or_none();
        transport.method0(intern!("resume_reading")).map(drop)
    }
}

fn is_cancelled(waiter: &Any) -> PyResult<bool> {
    waiter.method0(intern!("cancelled"))?.truthy()
}

// What Python code sees.
impl StreamReader {
    fn cells(&self) -> [&ObjCell; 5] {
        [
            &self.event_loop,
            &self.waiter,
            &self.exception,
            &self.transport,
            &self.source_traceback,
        ]
    }

    fn set_limit(&self, limit: Option<&Any>) -> PyResult<()> {
        let limit = clipped(required(limit)?)?;
        if limit <= 0 {
            return Err(raise!(err::value_error(), "Limit cannot be <= 0"));
        }
        self.limit.set(limit as usize);
        Ok(())
    }

    fn set_buffer(&self, content: Option<&Any>) -> PyResult<()> {
        let content = required(content)?;
        if content.is_bytearray() {
            self.storage.replace(content);
        } else {
            let view = Buffer::readable(content)?;
            self.storage.replace(&*bytearray::new(view.bytes())?);
        }
        Ok(())
    }

    fn repr(&self) -> PyResult<Obj> {
        let mut text = String::from("<StreamReader");
        let length = self.storage.len();
        if length > 0 {
            text += &format!(" {length} bytes");
        }
        if self.eof.get() {
            text += " eof";
        }
        if self.limit.get() != DEFAULT_LIMIT {
            text += &format!(" limit={}", self.limit.get());
        }
        for (name, cell) in [
            ("waiter", &self.waiter),
            ("exception", &self.exception),
            ("transport", &self.transport),
        ] {
            if let Some(object) = cell.get() {
                text += &format!(" {name}={}", object.repr_text());
            }
        }
        if self.paused.get() {
            text += " paused";
        }
        value::str(&(text + ">"))
    }

    fn read(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<1> = Signature::new("read", ["n"], 0);
        let [count] = args.bind(&SIGNATURE)?;
        let count = count.map_or(Ok(-1), clipped)?;
        Reading::begin(self, Operation::read(count))
    }

    fn read_exactly(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<1> = Signature::new("readexactly", ["n"], 1);
        let [count] = args.bind(&SIGNATURE)?;
        Reading::begin(self, Operation::Exactly(count.map_or(Ok(0), clipped)?))
    }

    fn read_line(&self) -> PyResult<Obj> {
        Reading::begin(self, Operation::line())
    }

    fn read_until(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<1> = Signature::new("readuntil", ["separator"], 0);
        let [separator] = args.bind(&SIGNATURE)?;
        let separator = match separator {
            Some(separator) => separator.own(),
            None => value::bytes(b"\n")?,
        };
        Reading::begin(self, Operation::until(separator))
    }

    fn wait_for_data(&self, args: Args<'_>) -> PyResult<Obj> {
        const SIGNATURE: Signature<1> = Signature::new("_wait_for_data", ["func_name"], 1);
        let [function] = args.bind(&SIGNATURE)?;
        let function = function.map_or(Ok(""), Any::to_str)?.to_owned();
        Reading::begin(self, Operation::data(function))
    }
}

/// An integer as far as it fits: no buffer is larger. Infinity, as a limit, is the largest.
fn clipped(number: &Any) -> PyResult<isize> {
    // SAFETY: alive; without an error class the value is clipped, and -1 with an error is an error.
    unsafe {
        if ffi::PyFloat_Check(number.raw()) != 0 {
            return Ok(number.to_f64()? as isize);
        }
        let clipped = ffi::PyNumber_AsSsize_t(number.raw(), std::ptr::null_mut());
        if clipped == -1 && err::is_set() {
            return Err(crate::kit::Raised);
        }
        Ok(clipped)
    }
}

fn methods() -> Vec<ffi::PyMethodDef> {
    vec![
        crate::method!(args StreamReader, "read", StreamReader::read,
            "read($self, n=-1)\n--\n\n\
                Reads up to n bytes as soon as there are any, b\"\" at EOF; if n is negative, the default, all \
                until EOF."),
        crate::method!(noargs StreamReader, "readline", StreamReader::read_line,
            "Reads a line with its newline; what there is at EOF; ValueError beyond the limit, and the line \
                is dropped."),
        crate::method!(args StreamReader, "readexactly", StreamReader::read_exactly,
            "readexactly($self, n)\n--\n\n\
                Reads n bytes; IncompleteReadError if EOF comes first, with what there was as its partial; \
                ValueError if n is negative."),
        crate::method!(args StreamReader, "readuntil", StreamReader::read_until,
            "readuntil($self, separator=b'\\n')\n--\n\n\
                Reads until the separator, or one of a tuple of them, has been read, b\"\\n\" by \
                default.\n\nIncompleteReadError if EOF comes first, with what there was as its partial; \
                LimitOverrunError beyond the limit, and the bytes are kept. ValueError for an empty separator."),
        crate::method!(given StreamReader,
            "feed_data",
            "data",
            StreamReader::feed_object,
            "Takes in bytes, as the protocol calls it; AssertionError after feed_eof()."
        ),
        crate::method!(noargs StreamReader, "feed_eof", StreamReader::feed_eof,
            "Nothing more will come: reads get what there is."),
        crate::method!(noargs StreamReader, "at_eof",
            |this: &StreamReader| this.eof.get() && this.storage.is_empty(),
            "Whether everything was read and nothing more will come."),
        crate::method!(noargs StreamReader, "exception",
            |this: &StreamReader| this.exception.get_or_none(), "The exception that reads raise, or None."),
        crate::method!(given StreamReader,
            "set_exception",
            "exc",
            StreamReader::set_exception,
            "Makes every read raise it, those that wait too."
        ),
        crate::method!(given StreamReader,
            "set_transport",
            "transport",
            StreamReader::set_transport,
            "What to pause while too much is unread, and to resume; AssertionError if there is one already."
        ),
        crate::method!(given StreamReader,
            "_replace_transport",
            "transport",
            StreamReader::replace_transport,
            "After TLS began."
        ),
        crate::method!(noargs StreamReader, "_wakeup_waiter", StreamReader::wake_waiter,
            "Lets the read that waits look again."),
        crate::method!(noargs StreamReader, "_maybe_resume_transport", StreamReader::maybe_resume_transport,
            "Resumes the transport if enough was read."),
        crate::method!(args StreamReader, "_wait_for_data", StreamReader::wait_for_data,
            "_wait_for_data($self, func_name)\n--\n\nWaits until something is fed."),
    ]
}

fn properties() -> Vec<ffi::PyGetSetDef> {
    vec![
        field!(StreamReader, "_loop", event_loop, "The loop."),
        field!(
            StreamReader,
            "_waiter",
            waiter,
            "The read that waits, or None."
        ),
        field!(
            StreamReader,
            "_exception",
            exception,
            "The exception that reads raise, or None."
        ),
        field!(
            StreamReader,
            "_transport",
            transport,
            "The transport, or None."
        ),
        field!(
            StreamReader,
            "_source_traceback",
            source_traceback,
            "Where the reader was made, in debug mode."
        ),
        flag!(StreamReader, "_eof", eof, "Whether nothing more will come."),
        flag!(
            StreamReader,
            "_paused",
            paused,
            "Whether the transport is paused."
        ),
        crate::getter!(
            StreamReader,
            "_limit",
            |this: &StreamReader| this.limit.get(),
            StreamReader::set_limit,
            "Bytes, at most, in a line."
        ),
        crate::getter!(
            StreamReader,
            "_buffer",
            |this: &StreamReader| this.storage.share(),
            StreamReader::set_buffer,
            "The bytearray of what was not read yet."
        ),
    ]
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<StreamReader>(c"ioxide.StreamReader")
        .doc(c"StreamReader(limit=65536, loop=None)\n--\n\nReads what a transport receives; see \
                asyncio.StreamReader.\n\nlimit: bytes; the longest line that is read, and half of what is kept \
                before the peer is held back; ValueError unless positive. loop: by default the running one, or \
                else the thread's current one. One read at a time: RuntimeError for a second that would have to \
                wait.\n\nNot thread-safe: other threads use it by loop.call_soon_threadsafe().")
        .constructible::<StreamReader>()
        .dict(offset_of!(StreamReader, dict))
        .weak(offset_of!(StreamReader, weak))
        .slot(
            ffi::Py_tp_repr,
            crate::unary!(StreamReader, StreamReader::repr),
        )
        .slot(
            ffi::Py_am_aiter,
            crate::unary!(StreamReader, |this: &StreamReader| this.as_any().own()),
        )
        .slot(
            ffi::Py_am_anext,
            crate::unary!(StreamReader, |this: &StreamReader| Reading::begin(
                this,
                Operation::next()
            )),
        )
        .coroutines(["read", "readline", "readexactly", "readuntil", "_wait_for_data"])
        .methods(methods())
        .getset(properties())
        .build(&CLASS)?;
    Ok(())
}
