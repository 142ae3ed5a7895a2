//! What all transports have in common: their place in the loop, their protocol, and the order of its calls.

use super::connect::Connection;
use super::descriptor::Descriptor;
use super::{address, closing};
use crate::future::{settle, FutureView};
use crate::kit::class::WeakList;
use crate::kit::{
    context, err, value, Any, Class, Native, Obj, ObjCell, Own, PyResult, Raised, Visitor,
};
use crate::runtime::io::{Side, Watcher};
use crate::runtime::target::{Target, TargetKind};
use crate::runtime::EventLoop;
use crate::streams::protocol::StreamReaderProtocol;
use crate::{import, intern};
use ioxide_core::buffer::watermark::Watermark;
use ioxide_core::net::address::Address;
use ioxide_core::net::socket;
use std::cell::{Cell, UnsafeCell};

/// What distinguishes one kind of transport from another.
pub(crate) struct Kind {
    /// The name of the class, for `repr`.
    pub(crate) name: &'static str,
    /// As messages call it.
    pub(crate) what: &'static str,
    /// Under which key `get_extra_info` has the Python object.
    pub(crate) object_key: &'static str,
    /// How a file of it is opened, unless the object is a socket.
    pub(crate) file_mode: Option<&'static str>,
    /// How many bytes wait to be written.
    pub(crate) waiting: unsafe fn(&Any) -> usize,
    /// Sends what merely waits for the end of the turn.
    pub(crate) flush: unsafe fn(&Any) -> PyResult<()>,
    /// Forgets the bytes that wait.
    pub(crate) discard: unsafe fn(&Any),
    /// Whether this error is nobody's mistake, and only told in debug mode.
    pub(crate) expected: fn(&Any) -> bool,
}

/// The addresses of a socket.
pub(crate) struct Addresses {
    pub(crate) local: Option<Address>,
    pub(crate) peer: Option<Address>,
}

/// What every transport begins with.
#[repr(C)]
pub(crate) struct Base {
    pub(super) target: Target,
    pub(super) kind: &'static Kind,
    pub(super) dict: ObjCell,
    pub(super) weak: WeakList,
    pub(super) event_loop: ObjCell,
    pub(super) protocol: ObjCell,
    pub(super) context: ObjCell,
    pub(super) server: ObjCell,
    /// Where the server keeps this transport.
    pub(super) seat: Cell<usize>,
    /// The future, or the awaitable of ours, that is told when `connection_made` has been called.
    pub(super) waiter: ObjCell,
    /// What `connection_lost` will be told.
    pub(super) lost: ObjCell,
    pub(super) descriptor: Descriptor,
    /// For sockets that no Python object had before; others are asked when they are adopted.
    pub(super) addresses: UnsafeCell<Option<Box<Addresses>>>,
    pub(super) marks: Cell<Watermark>,
    /// How often somebody wrote after `connection_lost` was scheduled, plus one; 0 before.
    pub(super) conn_lost: Cell<u32>,
    pub(super) begun: Cell<bool>,
    pub(super) closing: Cell<bool>,
    pub(super) paused: Cell<bool>,
    /// The other end will send nothing more.
    pub(super) ended: Cell<bool>,
    /// `eof_received` is scheduled, ahead of `connection_lost`.
    pub(super) eof_due: Cell<bool>,
    /// `connection_lost` has been called.
    pub(super) over: Cell<bool>,
}

// SAFETY: only used to read the head of objects that begin with it; no class is made of it.
unsafe impl Native for Base {
    type Extra = ();

    fn class() -> &'static Class {
        static NEVER: Class = Class::new();
        &NEVER
    }
}

impl Base {
    pub(super) fn new(
        target: &'static TargetKind,
        kind: &'static Kind,
        event_loop: &EventLoop,
        protocol: &Any,
        descriptor: Descriptor,
    ) -> Base {
        Base {
            target: Target::new(target),
            kind,
            dict: ObjCell::empty(),
            weak: WeakList::new(),
            event_loop: ObjCell::new(event_loop.object()),
            protocol: ObjCell::new(protocol.own()),
            context: ObjCell::empty(),
            server: ObjCell::empty(),
            seat: Cell::new(0),
            waiter: ObjCell::empty(),
            lost: ObjCell::empty(),
            descriptor,
            addresses: UnsafeCell::new(None),
            marks: Cell::new(Watermark::default()),
            conn_lost: Cell::new(0),
            begun: Cell::new(false),
            closing: Cell::new(false),
            paused: Cell::new(false),
            ended: Cell::new(false),
            eof_due: Cell::new(false),
            over: Cell::new(false),
        }
    }

    fn cells(&self) -> [&ObjCell; 7] {
        [
            &self.target.slot,
            &self.event_loop,
            &self.protocol,
            &self.context,
            &self.server,
            &self.waiter,
            &self.lost,
        ]
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
        self.descriptor.traverse(visitor);
    }

    pub(super) fn clear(&self) {
        self.leave();
        super::server::detach(self);
        ObjCell::clear_all(self.cells());
        self.descriptor.clear();
    }

    pub(crate) fn object(&self) -> &Any {
        self.as_any()
    }

    /// Claims the descriptor, and schedules `connection_made`.
    pub(super) fn schedule_begin(&self) -> PyResult<()> {
        self.with_loop(|event_loop| {
            event_loop.refuse_if_closed()?;
            event_loop.claim(self.descriptor.number(), &self.target)?;
            event_loop.push(crate::runtime::work::Work::Fire(self.target_own()));
            Ok(())
        })
    }

    pub(super) fn target_own(&self) -> crate::kit::Own<Target> {
        // SAFETY: every transport begins with a target.
        unsafe { crate::kit::Own::from_obj(self.object().own()) }
    }

    /// Runs `f` with the loop, which a transport has until it is over.
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

    /// Runs `f` in the connection's context.
    #[inline]
    pub(super) fn within<R>(&self, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
        match self.context.get() {
            Some(context) => context::within(&context, f)?,
            None => f(),
        }
    }

    /// Calls a method of the protocol in the connection's context.
    #[inline]
    pub(super) fn call(&self, method: &Any, arguments: &[&Any]) -> PyResult<Obj> {
        self.within(|| self.tell(method, arguments))
    }

    /// As [`Base::call`], within the context already.
    #[inline]
    pub(super) fn tell(&self, method: &Any, arguments: &[&Any]) -> PyResult<Obj> {
        match self.protocol.get() {
            Some(protocol) => protocol.method(method, arguments),
            None => Ok(Obj::none()),
        }
    }

    /// The protocol, if it is of our streams and its methods are its own: no need to look them up.
    #[inline]
    pub(super) fn streams(&self) -> Option<Own<StreamReaderProtocol>> {
        StreamReaderProtocol::untouched(&*self.protocol.get()?).map(Native::own)
    }

    /// The scheduled work: first `connection_made`, at the end `connection_lost`.
    pub(super) fn fire(&self) -> PyResult<()> {
        if self.begun.replace(true) {
            if self.eof_due.replace(false) {
                return self.call(intern!("eof_received"), &[]).map(drop);
            }
            return closing::lost(self);
        }
        let made = match self.streams() {
            Some(streams) => self.within(|| streams.connection_made(self.object())),
            None => self
                .call(intern!("connection_made"), &[self.object()])
                .map(drop),
        };
        if let Err(raised) = made {
            let exception = err::take(raised);
            if let Err(second) = self.start() {
                err::unraisable(second, self.object());
            }
            return self.callback_failed("connection_made", exception);
        }
        self.start()
    }

    /// What follows `connection_made`, whether it failed or not.
    fn start(&self) -> PyResult<()> {
        self.watch_readable()?;
        match self.waiter.take() {
            Some(waiter) => match waiter.exact::<Connection>() {
                Some(connection) => connection.is_made(),
                None => fulfil(&waiter),
            },
            None => Ok(()),
        }
    }

    /// Whether bytes may be delivered.
    #[inline(always)]
    pub(super) fn is_reading(&self) -> bool {
        !self.closing.get() && !self.paused.get()
    }

    pub(super) fn watch_readable(&self) -> PyResult<()> {
        if !self.is_reading() || self.ended.get() || self.conn_lost.get() > 0 {
            return Ok(());
        }
        if !self.descriptor.is_sole() {
            return self.watch(Side::Read);
        }
        self.with_loop(|event_loop| {
            event_loop.watch_late(self.descriptor.number(), Side::Read, self.target_own())
        })
    }

    pub(super) fn watch(&self, side: Side) -> PyResult<()> {
        self.with_loop(|event_loop| {
            let watcher = Watcher::Native(self.target_own());
            let fd = self.descriptor.number();
            event_loop.watch(fd, side, watcher).map(drop)
        })
    }

    pub(super) fn unwatch(&self, side: Side) {
        let ignored = self.with_loop(|event_loop| {
            event_loop.unwatch_own(self.descriptor.number(), side, self.object());
            Ok(())
        });
        debug_assert!(ignored.is_ok());
    }

    /// Reads no more, since the connection ends. Of a descriptor that closing makes the kernel forget it is told only if
    /// that has to wait: see [`Base::settle`].
    pub(super) fn stop_reading(&self) {
        if !self.descriptor.is_sole() {
            return self.unwatch(Side::Read);
        }
        let ignored = self.with_loop(|event_loop| {
            event_loop.ignore_own(self.descriptor.number(), Side::Read, self.object());
            Ok(())
        });
        debug_assert!(ignored.is_ok());
    }

    /// Reads no more, since the other end has ended its side. Programs mostly close then, so where that makes the kernel
    /// forget the descriptor it is told only if it reports the end again before.
    pub(super) fn end_reading(&self) {
        if !self.descriptor.is_sole() {
            return self.unwatch(Side::Read);
        }
        let ignored = self.with_loop(|event_loop| {
            event_loop.leave(self.descriptor.number(), self.object());
            Ok(())
        });
        debug_assert!(ignored.is_ok());
    }

    /// Has the kernel tell of what is still watched and of nothing else.
    pub(super) fn settle(&self) {
        let ignored = self.with_loop(|event_loop| {
            event_loop.settle(self.descriptor.number());
            Ok(())
        });
        debug_assert!(ignored.is_ok());
    }

    /// The socket object, with which a program may do anything: the kernel must know what we do, and no more.
    pub(super) fn socket(&self) -> PyResult<Option<Obj>> {
        if self.closing.get() || self.ended.get() {
            if !self.over.get() {
                self.settle();
            }
        } else {
            self.with_loop(|event_loop| {
                event_loop.register_wanted(self.descriptor.number());
                Ok(())
            })?;
        }
        self.descriptor.socket()
    }

    pub(super) fn pause_reading(&self) -> PyResult<()> {
        if !self.is_reading() {
            return Ok(());
        }
        self.paused.set(true);
        self.unwatch(Side::Read);
        self.log("debug", "%r pauses reading")
    }

    pub(super) fn resume_reading(&self) -> PyResult<()> {
        if self.closing.get() || !self.paused.get() {
            return Ok(());
        }
        self.paused.set(false);
        self.watch_readable()?;
        self.log("debug", "%r resumes reading")
    }

    /// Logs a line about the transport, in debug mode.
    pub(super) fn log(&self, level: &str, format: &str) -> PyResult<()> {
        if !self.is_debug() {
            return Ok(());
        }
        let logger = import!("asyncio.log", "logger")?;
        let method = logger.attr(&*value::str(level)?)?;
        method
            .call(&[&*value::str(format)?, self.object()])
            .map(drop)
    }

    /// How many bytes wait that the kernel has not taken.
    pub(super) fn waiting(&self) -> usize {
        // SAFETY: the kind is the one of this object's class.
        unsafe { (self.kind.waiting)(self.object()) }
    }

    pub(super) fn flush(&self) -> PyResult<()> {
        // SAFETY: the kind is the one of this object's class.
        unsafe { (self.kind.flush)(self.object()) }
    }

    pub(super) fn discard(&self) {
        // SAFETY: the kind is the one of this object's class.
        unsafe { (self.kind.discard)(self.object()) }
    }

    /// Tells the exception handler of an error that is the program's. Fails only with what must leave the loop.
    pub(super) fn report(&self, message: &str, exception: &Any) -> PyResult<()> {
        let protocol = self.protocol.get_or_none();
        self.with_loop(|event_loop| {
            let more = [
                (intern!("transport"), self.object()),
                (intern!("protocol"), &*protocol),
            ];
            crate::runtime::report::exception(event_loop, message, exception, &more)
        })
    }

    /// Tells of a failed callback after which the connection goes on, or is over anyway.
    pub(super) fn callback_failed(&self, method: &str, exception: Obj) -> PyResult<()> {
        if crate::task::step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        let message = format!("Exception in callback protocol.{method}()");
        self.report(&message, &exception)
    }

    /// Asks the kernel for the addresses that are not known yet.
    pub(super) fn learn_addresses(&self, peer: Option<Address>) {
        let fd = self.descriptor.number();
        let addresses = Addresses {
            local: socket::local_address(fd).ok(),
            peer: peer.or_else(|| socket::peer_address(fd).ok()),
        };
        // SAFETY: nobody else has a borrow: the transport has not been shared, or no code runs in between.
        unsafe { *self.addresses.get() = Some(Box::new(addresses)) };
    }

    /// Small writes of an internet socket go out at once. Not having it costs time, never bytes.
    pub(super) fn set_no_delay(&self) {
        // SAFETY: the borrow ends with the expression.
        let local =
            unsafe { (*self.addresses.get()).as_deref() }.and_then(|known| known.local.as_ref());
        if matches!(local, Some(Address::V4(_) | Address::V6(_))) {
            let _ = socket::set_no_delay(self.descriptor.number()).is_ok();
        }
    }

    /// Sets who is told that the connection is made, and the context of the protocol's calls.
    pub(super) fn equip(&self, waiter: Option<&Any>, context: Option<&Any>) {
        if let Some(waiter) = waiter.and_then(Any::some) {
            self.waiter.set(waiter.own());
        }
        if let Some(context) = context.and_then(Any::some) {
            self.context.set(context.own());
        }
    }

    /// The addresses that are known: its own and the peer's.
    pub(super) fn known_addresses(&self) -> (Option<Address>, Option<Address>) {
        // SAFETY: set once at creation; cloning runs no other code.
        match unsafe { (*self.addresses.get()).as_deref() } {
            Some(known) => (known.local.clone(), known.peer.clone()),
            None => (None, None),
        }
    }

    fn address_of(&self, pick: impl FnOnce(&Addresses) -> Option<&Address>) -> PyResult<Obj> {
        // SAFETY: set once at creation; making the tuple does not come back here.
        let addresses = unsafe { (*self.addresses.get()).as_deref() };
        match addresses.and_then(pick) {
            Some(known) => address::to_python(known),
            None => Ok(Obj::none()),
        }
    }

    /// `get_extra_info(name, default)`.
    pub(super) fn extra_info(&self, name: &Any, default: Option<&Any>) -> PyResult<Obj> {
        let or_default = || default.map_or_else(Obj::none, Any::own);
        if self.target.slot.is_empty() && name.is_str() {
            match name.to_str()? {
                "peername" => return self.address_of(|known| known.peer.as_ref()),
                "sockname" => return self.address_of(|known| known.local.as_ref()),
                key if key != self.kind.object_key => return Ok(or_default()),
                _ => {}
            }
        }
        Ok(self.extra()?.dict_get(name)?.unwrap_or_else(or_default))
    }

    /// The dict `_extra`, made when somebody wants it whole.
    pub(super) fn extra(&self) -> PyResult<Obj> {
        if let Some(extra) = self.target.slot.get() {
            return Ok(extra);
        }
        let extra = value::dict()?;
        if self.kind.object_key == "socket" {
            extra.dict_set(
                intern!("sockname"),
                &*self.address_of(|known| known.local.as_ref())?,
            )?;
            extra.dict_set(
                intern!("peername"),
                &*self.address_of(|known| known.peer.as_ref())?,
            )?;
            if let Some(socket) = self.socket()? {
                let view = import!("asyncio.trsock", "TransportSocket")?.call1(&socket)?;
                extra.dict_set(intern!("socket"), &view)?;
            }
        } else if let Some(mode) = self.kind.file_mode {
            let mode = value::str(mode)?;
            extra.dict_set(intern!("pipe"), &*self.descriptor.file(&mode)?)?;
        }
        self.target.slot.set(extra.clone());
        Ok(extra)
    }

    /// `repr()`.
    pub(super) fn show(&self) -> PyResult<Obj> {
        let mut text = format!("<{}", self.kind.name);
        if self.over.get() {
            text.push_str(" closed");
        } else if self.closing.get() {
            text.push_str(" closing");
        }
        let fd = self.descriptor.number();
        text.push_str(&format!(" fd={fd}"));
        let watched = |side| {
            let watcher = self.with_loop(|event_loop| Ok(event_loop.watcher(fd, side).is_some()));
            watcher.unwrap_or_default()
        };
        let state = |side| if watched(side) { "polling" } else { "idle" };
        if !self.over.get() {
            let (read, write, waiting) = (state(Side::Read), state(Side::Write), self.waiting());
            text.push_str(&format!(" read={read} write=<{write}, bufsize={waiting}>"));
        }
        text.push('>');
        value::str(&text)
    }

    /// Gives up the claim on the descriptor, and the server's seat. Must come before the descriptor's number is
    /// forgotten.
    pub(super) fn leave(&self) {
        let ignored = self.with_loop(|event_loop| {
            let fd = self.descriptor.number();
            if event_loop.release(fd, &self.target) {
                event_loop.evict(fd);
                event_loop.retire(fd, self.descriptor.is_sole());
            }
            Ok(())
        });
        debug_assert!(ignored.is_ok());
    }

    /// Lets go of what the transport no longer needs once it is over.
    pub(super) fn drop_references(&self) {
        super::server::detach(self);
        for cell in [
            &self.protocol,
            &self.context,
            &self.waiter,
            &self.lost,
            &self.event_loop,
        ] {
            cell.clear();
        }
    }
}

/// Sets the result of a future to `None`, unless it is done.
pub(crate) fn fulfil(future: &Any) -> PyResult<()> {
    match FutureView::of(future) {
        Some(view) if view.base.is_pending() => settle::set_result(view, Obj::none()),
        Some(_) => Ok(()),
        None if future.method0(intern!("done"))?.truthy()? => Ok(()),
        None => future
            .method(intern!("set_result"), &[&Obj::none()])
            .map(drop),
    }
}

/// Fails a future, unless it is done.
pub(crate) fn fail(future: &Any, exception: &Any) -> PyResult<()> {
    match FutureView::of(future) {
        Some(view) if view.base.is_pending() => settle::set_exception(view, exception),
        Some(_) => Ok(()),
        None if future.method0(intern!("done"))?.truthy()? => Ok(()),
        None => future
            .method(intern!("set_exception"), &[exception])
            .map(drop),
    }
}

/// Whether the error is an `OSError`: the peer's or the network's doing.
pub(super) fn is_os_error(exception: &Any) -> bool {
    err::is_a(exception, err::os_error())
}

/// The exception of a failed system call.
pub(super) fn os_error(error: &std::io::Error) -> Raised {
    err::raise_os(error)
}
