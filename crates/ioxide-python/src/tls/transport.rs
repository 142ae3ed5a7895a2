//! The transport of an encrypted connection: its state, and its place between two others.

use super::create::Settings;
use super::engine::Engine;
use crate::kit::class::WeakList;
use crate::kit::{context, err, value, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::target::{Target, Told};
use crate::runtime::timers::Timer;
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::transport::base::{fail, fulfil};
use crate::transport::channel::Channel;
use crate::transport::feed::Feed;
use crate::transport::rhythm::Rhythm;
use crate::transport::write::Chunk;
use crate::{import, intern, raise};
use ioxide_core::buffer::outgoing::Outgoing;
use ioxide_core::buffer::watermark::Watermark;
use ioxide_core::timers::TimerKey;
use ioxide_core::tls::machine::{Fault, Later, Limit, Machine};
use std::cell::{Cell, UnsafeCell};

/// Above how many bytes the program is told to pause writing, unless it says otherwise.
pub(super) const WRITE_HIGH: usize = 512 * 1024;
/// From how many undecrypted bytes on nothing more is read below, unless the program says otherwise.
pub(super) const READ_HIGH: usize = 256 * 1024;

/// `ioxide.SSLTransport`: the program's transport, and the protocol of the transport below.
#[repr(C)]
pub(crate) struct TlsTransport {
    target: Target,
    pub(super) dict: ObjCell,
    pub(super) weak: WeakList,
    pub(super) event_loop: ObjCell,
    pub(super) protocol: ObjCell,
    /// What the program's callbacks run in when they come from the loop.
    pub(super) context: ObjCell,
    /// The transport below, while there is one.
    pub(super) below: ObjCell,
    /// The future of one who waits for the handshake.
    pub(super) waiter: ObjCell,
    pub(super) ssl_context: ObjCell,
    /// What is known of the peer, once somebody has asked.
    pub(super) details: ObjCell,
    /// Seconds, as the program gave them.
    handshake_timeout: ObjCell,
    /// Seconds.
    shutdown_timeout: f64,
    pub(super) engine: Engine,
    pub(super) machine: Machine,
    pub(super) feed: Cell<Feed>,
    /// Bytes that were not encrypted yet. Never borrowed while an operation of the engine runs.
    backlog: UnsafeCell<Outgoing<Chunk>>,
    pub(super) rhythm: Rhythm,
    pub(super) marks: Cell<Watermark>,
    /// The marks of what waits to be decrypted, in bytes: high, low.
    pub(super) read_marks: Cell<(usize, usize)>,
    /// The transport below takes no more for now.
    pub(super) below_full: Cell<bool>,
    /// We have paused reading below.
    pub(super) below_paused: Cell<bool>,
    /// How often somebody wrote to the connection after it was over.
    pub(super) written_in_vain: Cell<u32>,
    timer: Cell<Option<(TimerKey, u64)>>,
    /// What was put off, in order: one for each time that this is fired.
    due: Cell<Vec<Later>>,
    pub(super) established: Cell<bool>,
    /// A server has accepted the connection: nobody waits for the handshake.
    accepted: bool,
    /// When the handshake began, in nanoseconds; for the log.
    pub(super) begun_at: Cell<u64>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it in `methods`.
unsafe impl Native for TlsTransport {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
        self.engine.traverse(visitor);
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
        self.engine.clear();
    }

    fn finalize(&self) {
        if self.machine.is_closed() {
            return;
        }
        self.machine.abort();
        let this = self.as_any();
        err::warn_unclosed(this, &format!("unclosed transport {}", this.repr_text()));
    }
}

// SAFETY: begins with `Target` made of its own kind.
unsafe impl Told for TlsTransport {
    /// Something that was put off is due, or the timer has gone off.
    fn fire(&self) -> PyResult<()> {
        match self.context.get() {
            Some(context) => context::within(&context, || self.fired())?,
            None => self.fired(),
        }
    }
}

impl TlsTransport {
    /// The class, for `methods` to build.
    pub(super) fn place() -> &'static Class {
        &CLASS
    }

    pub(super) fn create(
        event_loop: &EventLoop,
        protocol: &Any,
        settings: &Settings<'_>,
        engine: Engine,
    ) -> PyResult<Own<TlsTransport>> {
        let mut marks = Watermark::default();
        // A quarter is never above the whole.
        let set = marks.set(Some(WRITE_HIGH), None);
        debug_assert!(set.is_ok());
        let body = TlsTransport {
            target: Target::new(&TlsTransport::KIND),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
            event_loop: ObjCell::new(event_loop.as_any().own()),
            protocol: ObjCell::new(protocol.own()),
            context: ObjCell::empty(),
            below: ObjCell::empty(),
            waiter: ObjCell::empty(),
            ssl_context: ObjCell::new(settings.context.own()),
            details: ObjCell::empty(),
            handshake_timeout: ObjCell::new(settings.handshake_timeout.clone()),
            shutdown_timeout: settings.shutdown_timeout,
            engine,
            machine: Machine::new(settings.connected),
            feed: Cell::new(Feed::of(protocol)?),
            backlog: UnsafeCell::new(Outgoing::new()),
            rhythm: Rhythm::new(),
            marks: Cell::new(marks),
            read_marks: Cell::new((READ_HIGH, READ_HIGH / 4)),
            below_full: Cell::new(false),
            below_paused: Cell::new(false),
            written_in_vain: Cell::new(0),
            timer: Cell::new(None),
            due: Cell::new(Vec::new()),
            established: Cell::new(false),
            accepted: settings.accepted,
            begun_at: Cell::new(0),
        };
        body.make()
    }

    fn cells(&self) -> [&ObjCell; 9] {
        [
            &self.target.slot,
            &self.event_loop,
            &self.protocol,
            &self.context,
            &self.below,
            &self.waiter,
            &self.ssl_context,
            &self.details,
            &self.handshake_timeout,
        ]
    }

    /// Sets who is told of the end of the handshake, and the context of the program's callbacks.
    pub(crate) fn equip(&self, waiter: Option<&Any>, context: Option<&Any>) {
        if let Some(waiter) = waiter.and_then(Any::some) {
            self.waiter.set(waiter.own());
        }
        if let Some(context) = context.and_then(Any::some) {
            self.context.set(context.own());
        }
    }

    /// The transport whose methods nobody has replaced on the object.
    #[inline]
    pub(crate) fn untouched(object: &Any) -> Option<&TlsTransport> {
        object
            .exact::<TlsTransport>()
            .filter(|transport| transport.dict.is_empty())
    }

    /// The queue of what is to be encrypted. Nothing that may run Python code stands in its borrow.
    #[allow(clippy::mut_from_ref, reason = "see the caller's promise")]
    #[inline(always)]
    pub(super) fn backlog(&self) -> &mut Outgoing<Chunk> {
        // SAFETY: the interpreter lock is held, and by the caller's promise there is no other borrow.
        unsafe { &mut *self.backlog.get() }
    }

    /// Runs `f` with the loop, which the transport has until it is over.
    #[inline]
    pub(super) fn with_loop<R: Default>(
        &self,
        f: impl FnOnce(&EventLoop) -> PyResult<R>,
    ) -> PyResult<R> {
        match self.event_loop.get() {
            Some(object) => match EventLoop::of(&object) {
                Some(event_loop) => f(event_loop),
                None => Ok(R::default()),
            },
            None => Ok(R::default()),
        }
    }

    pub(super) fn is_debug(&self) -> bool {
        let debug = self.with_loop(|event_loop| Ok(event_loop.debug()));
        debug.unwrap_or_default()
    }

    /// A line in the log, in debug mode.
    pub(super) fn log(&self, format: &str) -> PyResult<()> {
        if !self.is_debug() {
            return Ok(());
        }
        import!("asyncio.log", "logger")?
            .method(intern!("debug"), &[&*value::str(format)?, self.as_any()])
            .map(drop)
    }

    // --- what the transport below tells

    /// The transport below stands: the handshake begins.
    pub(super) fn connection_made(&self, below: &Any) -> PyResult<()> {
        self.below.set(below.own());
        if self.context.is_empty() {
            self.context.set(match context_of(below) {
                Some(context) => context,
                None => context::copy_current()?,
            });
        }
        if self.is_debug() {
            self.log("%r starts SSL handshake")?;
            let now = self.with_loop(|event_loop| Ok(event_loop.clock.now()))?;
            self.begun_at.set(now);
        }
        self.machine.begin(self)
    }

    /// Encrypted bytes have arrived.
    #[inline]
    pub(crate) fn arrived(&self, data: &[u8]) -> PyResult<()> {
        // What was written before goes out whatever has arrived, which may be the end.
        self.flush_held_back()?;
        self.engine
            .with_arrived(data, || self.machine.received(self))?
    }

    /// Whether what arrives is delivered by calls of the program's code.
    #[inline]
    pub(crate) fn calls_program(&self) -> bool {
        use ioxide_core::tls::machine::Phase;
        self.feed.get() != Feed::Stream || self.machine.phase() != Phase::Open
    }

    pub(super) fn eof_received(&self) -> PyResult<bool> {
        self.log("%r received EOF")?;
        self.machine.ended(self)
    }

    /// The transport below is gone.
    pub(super) fn connection_lost(&self, exception: &Any) -> PyResult<()> {
        self.forget_output();
        let tell = self.machine.lost(self);
        self.below.clear();
        self.handshake_timeout.clear();
        let protocol = self.protocol.take();
        self.wake_waiter(exception.some())?;
        // Told at once: the transport below has put this off already.
        match protocol {
            Some(protocol) if tell => protocol
                .method(intern!("connection_lost"), &[exception])
                .map(drop),
            _ => Ok(()),
        }
    }

    pub(super) fn pause_writing(&self) {
        self.below_full.set(true);
    }

    pub(super) fn resume_writing(&self) -> PyResult<()> {
        self.below_full.set(false);
        ioxide_core::tls::machine::Host::send(self)
    }

    /// What was written and not sent is dropped.
    pub(super) fn forget_output(&self) {
        let given_up = self.backlog().clear();
        drop(given_up);
        let output = self.engine.take_output();
        if let Err(raised) = output.map(drop) {
            err::unraisable(raised, self.as_any());
        }
    }

    // --- who waits

    /// Tells who waits for the handshake how it went.
    pub(super) fn wake_waiter(&self, exception: Option<&Any>) -> PyResult<()> {
        match (self.waiter.take(), exception) {
            (Some(waiter), None) => fulfil(&waiter),
            (Some(waiter), Some(exception)) => fail(&waiter, exception),
            (None, Some(exception)) if self.accepted && self.is_debug() && !self.is_told() => self
                .report(
                    "Error on transport creation for incoming connection",
                    exception,
                ),
            (None, _) => Ok(()),
        }
    }

    /// Whether the program has been told of the connection.
    fn is_told(&self) -> bool {
        self.established.get()
    }

    /// Tells the exception handler.
    pub(super) fn report(&self, message: &str, exception: &Any) -> PyResult<()> {
        let below = self.below.get_or_none();
        self.with_loop(|event_loop| {
            let more = [
                (intern!("transport"), &*below),
                (intern!("protocol"), self.as_any()),
            ];
            crate::runtime::report::exception(event_loop, message, exception, &more)
        })
    }

    // --- time, and what is put off

    pub(super) fn put_off(&self, what: Later) -> PyResult<()> {
        self.with_loop(|event_loop| {
            event_loop.refuse_if_closed()?;
            let mut due = self.due.take();
            due.push(what);
            self.due.set(due);
            event_loop.push(Work::Fire(self.target()));
            Ok(())
        })
    }

    pub(super) fn set_timer(&self, limit: Limit) -> PyResult<()> {
        self.clear_timer();
        let seconds = match limit {
            Limit::Handshake => self.handshake_timeout.get_or_none().to_f64()?,
            Limit::Shutdown => self.shutdown_timeout,
        };
        self.with_loop(|event_loop| {
            let deadline = event_loop.deadline_after(seconds);
            let key = event_loop.add_timer(deadline, Timer::Target(self.target()));
            self.timer.set(Some((key, deadline)));
            Ok(())
        })
    }

    pub(super) fn has_timer(&self) -> bool {
        self.timer.get().is_some()
    }

    pub(super) fn clear_timer(&self) {
        if let Some((key, _)) = self.timer.take() {
            let removed = self.with_loop(|event_loop| {
                event_loop.remove_timer(key);
                Ok(())
            });
            debug_assert!(removed.is_ok());
        }
    }

    fn fired(&self) -> PyResult<()> {
        let mut due = self.due.take();
        if due.is_empty() {
            return self.timer_fired();
        }
        let what = due.remove(0);
        self.due.set(due);
        match what {
            Later::GoOn => self.machine.go_on(self),
            Later::CloseBelow => match self.below.get() {
                Some(below) => below.method0(intern!("close")).map(drop),
                None => Ok(()),
            },
        }
    }

    /// A timer that was called off after it had gone off is not due yet, or not set.
    fn timer_fired(&self) -> PyResult<()> {
        let Some((_, deadline)) = self.timer.get() else {
            return Ok(());
        };
        let now = self.with_loop(|event_loop| Ok(event_loop.clock.now()))?;
        if now < deadline {
            return Ok(());
        }
        self.timer.set(None);
        match self.machine.overdue() {
            None => Ok(()),
            Some(Limit::Shutdown) => {
                let error = raise!(err::timeout_error(), "SSL shutdown timed out");
                self.end_below(Some(&err::take(error)))
            }
            Some(Limit::Handshake) => {
                let seconds = self.handshake_timeout.get_or_none().repr_text();
                let error = raise!(
                    err::connection_aborted(),
                    "SSL handshake is taking longer than {seconds} seconds: \
                     aborting the connection"
                );
                self.end_by(error, Fault::Shutdown)
            }
        }
    }

    // --- the transport below

    /// What only waits for the end of the turn goes out now, here and below: it is to look sent.
    pub(super) fn flush_below(&self) -> PyResult<()> {
        self.flush_held_back()?;
        match self.below.get() {
            Some(below) => match Self::channel(&below) {
                Some(channel) => channel.flush_held_back(),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Closes the transport below at once.
    pub(super) fn end_below(&self, exception: Option<&Any>) -> PyResult<()> {
        let Some(below) = self.below.get() else {
            return Ok(());
        };
        let none = Obj::none();
        match below.attr_opt(intern!("_force_close"))? {
            Some(close) => close.call1(exception.unwrap_or(&none)).map(drop),
            // Not a transport of asyncio's kind: it cannot be told why.
            None => below.method0(intern!("abort")).map(drop),
        }
    }

    /// The stream socket below, if its methods are its own.
    #[inline]
    pub(super) fn channel(below: &Any) -> Option<&Channel> {
        Channel::untouched(below)
    }
}

/// The context of the callbacks of a transport of ours.
fn context_of(transport: &Any) -> Option<Obj> {
    if let Some(tls) = transport.exact::<TlsTransport>() {
        return tls.context.get();
    }
    crate::transport::channel::context_of(transport)
}
