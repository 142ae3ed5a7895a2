//! Registrations of sockets for single operations: they stay armed, so that waiting again needs no system call.
//!
//! The kernel reports them by the edge: once for what arrives, not for what is left over. So it must be known when an
//! operation may wait without trying first, which would find nothing in the usual case of one message at a time.
//!
//! | [`Found`] | what is known of the side that reads | an operation that reads |
//! |---|---|---|
//! | Reported | it was reported, and may hold something | tries |
//! | Short | since then a read brought less than it could hold | waits if the socket is TCP, and nothing special was reported |
//! | Empty | since then a read found nothing; or the kernel was just asked, and reports what there is | waits |
//!
//! Whatever makes a socket readable later is an edge, which the next wait reports, so that waiting for it is safe. An
//! edge that finds nobody who waits is remembered as Reported. Where a short read says nothing: an end or urgent data
//! may follow (special), other protocols keep messages apart.
//!
//! The kernel forgets a socket that is closed, without a word to us, and its number is used again. So it is known by a
//! weak reference whose registration it is: for any other object, the kernel is asked again.
//!
//! The side that writes seldom waits; it is asked for each time.

use super::io::{Descriptors, Entry, Side, Watcher};
use super::EventLoop;
use crate::kit::{socket, weak, Any, Native, Obj, Own, PyResult};
use crate::transport::operation::SocketOperation;
use ioxide_core::driver::{Event, Interest};
use ioxide_core::net::socket::is_tcp;
use std::os::fd::RawFd;

/// What is known of the side that reads.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Found {
    #[default]
    Reported,
    Short,
    Empty,
}

/// What is known of a registration that stays armed.
#[derive(Default)]
pub(super) struct Edge {
    /// A weak reference to the socket object that it was made for.
    socket: Option<Obj>,
    found: Found,
    /// An end, an error or urgent data was reported.
    special: bool,
    /// Whether it is TCP, once that was asked.
    tcp: Option<bool>,
    /// How many bytes the last read brought.
    last: usize,
}

impl Edge {
    /// The kernel has just been asked, on behalf of this socket, and reports what there is.
    fn renew(&mut self, socket: Option<Obj>) {
        *self = Edge {
            socket,
            found: Found::Empty,
            special: false,
            tcp: None,
            last: self.last,
        };
    }

    #[inline]
    fn is_for(&self, socket: &Any) -> bool {
        let known = self.socket.as_deref();
        known.is_some_and(|known| weak::refers_to(known, socket))
    }

    /// Whether there is nothing to read that has been reported already.
    #[inline]
    fn is_empty(&mut self, fd: RawFd) -> bool {
        match self.found {
            Found::Empty => true,
            Found::Short => !self.special && *self.tcp.get_or_insert_with(|| is_tcp(fd)),
            Found::Reported => false,
        }
    }
}

impl Entry {
    /// Whether the kernel will report what arrives at this socket from now on.
    #[inline]
    fn is_armed_for(&self, socket: &Any) -> bool {
        self.registered.edge && self.registered.readable && self.edge.is_for(socket)
    }

    /// What to register when one more begins to watch: by the edge if each who does is told once.
    pub(super) fn interest_with(&self, side: Side, watcher: &Watcher) -> Interest {
        let mut interest = self.interest();
        match side {
            Side::Read => interest.readable = true,
            Side::Write => interest.writable = true,
        }
        let others = self.reader.iter().chain(&self.writer);
        interest.edge = !others.chain([watcher]).any(Watcher::lasts);
        // What is armed stays so.
        interest.readable |= interest.edge && self.registered.edge && self.registered.readable;
        interest
    }
}

impl Descriptors {
    /// A read has found nothing.
    pub(crate) fn found_nothing(&self, fd: RawFd) {
        self.found(fd, Found::Empty);
    }

    /// A read has brought so many bytes of those that were wanted. The end says nothing of what is left.
    #[inline]
    pub(crate) fn has_read(&self, fd: RawFd, count: usize, wanted: usize) {
        if let Some(entry) = self.entry(fd) {
            entry.edge.last = count;
            if (1..wanted).contains(&count) {
                entry.edge.found = Found::Short;
            }
        }
    }

    /// How many bytes the last read under this number brought, which is a guess at the next.
    #[inline]
    pub(crate) fn last_read(&self, fd: RawFd) -> usize {
        self.entry(fd).map_or(0, |entry| entry.edge.last)
    }

    // Which socket it was need not be asked: what was found matters only to the one that the registration is for, and
    // was then found by it.
    #[inline]
    fn found(&self, fd: RawFd, found: Found) {
        if let Some(entry) = self.entry(fd) {
            entry.edge.found = found;
        }
    }

    /// Whether an operation that reads from this socket had better wait without trying.
    #[inline]
    pub(crate) fn expects_nothing(&self, fd: RawFd, socket: &Any) -> bool {
        self.entry(fd)
            .is_some_and(|entry| entry.is_armed_for(socket) && entry.edge.is_empty(fd))
    }

    /// Whether an operation that has found nothing to read at this socket, or expects nothing, need not tell the kernel.
    #[inline]
    pub(crate) fn is_armed(&self, fd: RawFd, socket: &Any) -> bool {
        self.entry(fd)
            .is_some_and(|entry| entry.edge.found != Found::Reported && entry.is_armed_for(socket))
    }
}

impl EventLoop {
    /// An operation waits to read from a socket that [`Descriptors::is_armed`]. Gives back who waited before.
    #[inline]
    pub(crate) fn await_armed(
        &self,
        fd: RawFd,
        operation: Own<SocketOperation>,
    ) -> Option<Watcher> {
        self.polling.attend();
        let entry = self.descriptors.entry(fd)?;
        entry.reader.replace(Watcher::Operation(operation))
    }

    /// An operation waits for one side of its socket. Gives back who waited before.
    pub(crate) fn await_socket(
        &self,
        fd: RawFd,
        side: Side,
        socket: &Any,
        operation: Own<SocketOperation>,
    ) -> PyResult<Option<Watcher>> {
        // Of what is not exactly a socket, the kernel is asked each time.
        let is_plain = socket::is_plain(socket)?;
        let reference = is_plain.then(|| weak::reference(socket)).transpose()?;
        let before = self.watch(fd, side, Watcher::Operation(operation))?;
        if let Some(entry) = self.descriptors.entry(fd) {
            entry.edge.renew(reference);
        }
        Ok(before)
    }

    /// Passes on an event of a registration by the edge: who waits is told once. A side of which nobody wants to hear
    /// is reported no more if that goes on.
    pub(super) fn dispatch_edge(&self, fd: RawFd, event: &Event) {
        let Some(entry) = self.descriptors.entry(fd) else {
            return;
        };
        let registered = entry.registered;
        entry.edge.special |= event.special;
        let mut keep = Interest {
            writable: registered.writable && entry.writer.is_some(),
            ..registered
        };
        let (mut reader, mut writer) = (None, None);
        if event.readable {
            reader = entry.reader.take();
            let found = std::mem::take(&mut entry.edge.found);
            keep.readable &= reader.is_some() || found != Found::Reported;
        }
        if event.writable {
            writer = entry.writer.take();
        }
        if keep != registered {
            // A socket that is closed is not registered any more.
            let keep = if keep.is_none() { Interest::NONE } else { keep };
            let _ = self.kernel_register(fd, keep);
        }
        if let Some(reader) = reader {
            self.tell_once(reader, Side::Read);
        }
        if let Some(writer) = writer {
            self.tell_once(writer, Side::Write);
        }
    }

    fn tell_once(&self, watcher: Watcher, side: Side) {
        match watcher {
            // To drop the last reference might run code of the program, which has its place in the turn's work.
            Watcher::Operation(operation)
                if operation.as_any().refcount() > 1 && operation.wake_task() => {}
            watcher => self.ready.push(watcher.work(side)),
        }
    }
}
