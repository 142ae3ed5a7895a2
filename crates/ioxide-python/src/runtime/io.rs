//! Who is told when a descriptor is ready.

use super::edge::Edge;
use super::target::Target;
use super::work::Work;
use super::EventLoop;
use crate::handle::Handle;
use crate::intern;
use crate::kit::{err, Any, Native, Obj, Own, PyResult, Visitor};
use crate::raise;
use crate::transport::operation::SocketOperation;
use ioxide_core::driver::{Driver, Event, Interest};
use std::cell::UnsafeCell;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// One who waits for a descriptor.
#[derive(Clone)]
pub(crate) enum Watcher {
    /// `add_reader` and `add_writer`, with the object that was given if it was not a number: it may be closed before
    /// it is given again, to be watched no more.
    Callback(Own<Handle>, Option<Obj>),
    /// A transport or a server.
    Native(Own<Target>),
    /// As `Native`, to be told of one event.
    Once(Own<Target>),
    /// An operation on a socket.
    Operation(Own<SocketOperation>),
}

impl Watcher {
    /// The watcher as an object.
    fn object(&self) -> &Any {
        match self {
            Watcher::Callback(handle, _) => handle.as_obj(),
            Watcher::Native(target) | Watcher::Once(target) => target.as_obj(),
            Watcher::Operation(operation) => operation.as_obj(),
        }
    }

    /// Whether it is told again and again.
    pub(super) fn lasts(&self) -> bool {
        matches!(self, Watcher::Callback(..) | Watcher::Native(_))
    }

    /// What is to be done when the side is ready.
    pub(super) fn work(&self, side: Side) -> Work {
        match (self, side) {
            (Watcher::Callback(handle, _), _) => Work::Handle(handle.clone()),
            (Watcher::Native(target) | Watcher::Once(target), Side::Read) => {
                Work::Readable(target.clone())
            }
            (Watcher::Native(target) | Watcher::Once(target), Side::Write) => {
                Work::Writable(target.clone())
            }
            (Watcher::Operation(operation), _) => Work::Operation(operation.clone()),
        }
    }
}

#[derive(Default)]
pub(super) struct Entry {
    /// Makes the tokens of earlier registrations stale.
    generation: u32,
    pub(super) registered: Interest,
    /// Of a registration by the edge.
    pub(super) edge: Edge,
    /// Which collection of events was the last one when somebody began to watch.
    pub(super) since: u32,
    /// Nobody reads any more, of which the kernel is told if it reports something.
    left: bool,
    /// Stands in the list of those of which the kernel is told later: see [`super::late`].
    pub(super) late: bool,
    pub(super) reader: Option<Watcher>,
    pub(super) writer: Option<Watcher>,
    /// The transport that the descriptor belongs to. Borrowed: it leaves before it dies.
    owner: Option<NonNull<Target>>,
}

impl Entry {
    /// What those who watch want to be told of, as long as it lasts.
    pub(super) fn interest(&self) -> Interest {
        Interest {
            readable: self.reader.is_some(),
            writable: self.writer.is_some(),
            edge: false,
        }
    }

    pub(super) fn place(&mut self, side: Side) -> &mut Option<Watcher> {
        match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        }
    }
}

impl Entry {
    /// Whether the descriptor belongs to this transport.
    fn is_of(&self, target: &Any) -> bool {
        self.owner
            .is_some_and(|owner| std::ptr::eq(owner.as_ptr().cast(), target.raw()))
    }
}

/// Which side of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// The table of watched descriptors, by number.
pub(crate) struct Descriptors(UnsafeCell<Vec<Entry>>);

impl Descriptors {
    pub(crate) const fn new() -> Descriptors {
        Descriptors(UnsafeCell::new(Vec::new()))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn table(&self) -> &mut Vec<Entry> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "within the runtime; each use ends before anything else can run"
    )]
    #[inline(always)]
    pub(super) fn entry(&self, fd: RawFd) -> Option<&mut Entry> {
        self.table().get_mut(usize::try_from(fd).ok()?)
    }

    /// Sees to it that there is an entry for the descriptor; gives back its index.
    fn make_room(&self, fd: RawFd) -> PyResult<usize> {
        let index = usize::try_from(fd)
            .map_err(|_| raise!(err::value_error(), "Invalid file descriptor: {fd}"))?;
        if self.table().len() <= index {
            self.table().resize_with(index + 1, Entry::default);
        }
        Ok(index)
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for watcher in self
            .table()
            .iter()
            .flat_map(|entry| entry.reader.iter().chain(entry.writer.iter()))
        {
            visitor.object(watcher.object());
            if let Watcher::Callback(_, Some(file)) = watcher {
                visitor.object(file);
            }
        }
    }

    /// The number under which the object was given to `add_reader` or `add_writer`.
    fn number_of(&self, object: &Any) -> Option<RawFd> {
        let is_for = |watcher: &Option<Watcher>| matches!(watcher, Some(Watcher::Callback(_, Some(file))) if file.is(object));
        let mut entries = self.table().iter();
        let index = entries.position(|entry| is_for(&entry.reader) || is_for(&entry.writer))?;
        RawFd::try_from(index).ok()
    }

    pub(crate) fn clear(&self) {
        let dropped = std::mem::take(self.table());
        drop(dropped);
    }
}

fn token(fd: RawFd, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(fd.unsigned_abs())
}

impl EventLoop {
    /// Makes those ready who wait for what has happened.
    pub(crate) fn dispatch(&self, event: &Event) {
        let fd = (event.token & u64::from(u32::MAX)) as RawFd;
        let Some(entry) = self.descriptors.entry(fd) else {
            return;
        };
        if token(fd, entry.generation) != event.token {
            return;
        }
        if entry.registered.edge {
            return self.dispatch_edge(fd, event);
        }
        // What was collected before a callback of the program came may be over by now. The kernel will tell again if not.
        let outdated = entry.since == self.polling.collection();
        let tell = |watcher: &Option<Watcher>, side| match watcher {
            Some(Watcher::Callback(..)) if outdated => {}
            Some(watcher) => self.ready.push(watcher.work(side)),
            None => {}
        };
        let failed = event.error || event.hangup;
        if event.readable || failed {
            tell(&entry.reader, Side::Read);
        }
        if event.writable || failed {
            tell(&entry.writer, Side::Write);
        }
        if std::mem::take(&mut entry.left) {
            self.settle(fd);
        }
    }

    /// Watches one side of a descriptor; gives back who watched it before.
    pub(crate) fn watch(
        &self,
        fd: RawFd,
        side: Side,
        watcher: Watcher,
    ) -> PyResult<Option<Watcher>> {
        let index = self.descriptors.make_room(fd)?;
        let entry = &self.descriptors.table()[index];
        let interest = entry.interest_with(side, &watcher);
        self.register(fd, interest)?;
        let entry = &mut self.descriptors.table()[index];
        entry.since = self.polling.collection();
        Ok(entry.place(side).replace(watcher))
    }

    /// Stops watching one side; gives back who did.
    pub(crate) fn unwatch(&self, fd: RawFd, side: Side) -> Option<Watcher> {
        let entry = self.descriptors.entry(fd)?;
        let removed = entry.place(side).take()?;
        self.settle(fd);
        Some(removed)
    }

    /// As [`EventLoop::unwatch`], but only for `target`: the number may be another's by now.
    pub(crate) fn unwatch_own(&self, fd: RawFd, side: Side, target: &Any) {
        let watcher = self.watcher(fd, side);
        if watcher.is_some_and(|watcher| watcher.object().is(target)) {
            drop(self.unwatch(fd, side));
        }
    }

    /// As [`EventLoop::unwatch_own`], but leaves it to [`EventLoop::settle`] or [`EventLoop::retire`] to tell the kernel;
    /// one of them must follow, since the kernel goes on telling of the side as long as it is ready.
    pub(crate) fn ignore_own(&self, fd: RawFd, side: Side, target: &Any) {
        let Some(entry) = self.descriptors.entry(fd) else {
            return;
        };
        if entry.is_of(target) {
            entry.left = false;
        }
        let watcher = self.watcher(fd, side);
        if !watcher.is_some_and(|watcher| watcher.object().is(target)) {
            return;
        }
        drop(entry.place(side).take());
    }

    /// As [`EventLoop::ignore_own`] of the transport that reads, but the kernel is told as soon as it reports anything.
    pub(crate) fn leave(&self, fd: RawFd, target: &Any) {
        self.ignore_own(fd, Side::Read, target);
        if let Some(entry) = self.descriptors.entry(fd) {
            entry.left = entry.is_of(target) && entry.registered.readable;
        }
    }

    /// Has the kernel tell of what is still watched and of nothing else. A registration by the edge stays armed.
    pub(crate) fn settle(&self, fd: RawFd) {
        let Some(entry) = self.descriptors.entry(fd) else {
            return;
        };
        let interest = entry.interest();
        if interest != entry.registered && !entry.registered.edge {
            // The descriptor may have been closed already, which ends its registration.
            let _ = self.kernel_register(fd, interest);
        }
    }

    /// Nobody watches the descriptor any more, and it is about to be closed, by which the kernel forgets it, unless
    /// it is open elsewhere.
    pub(crate) fn retire(&self, fd: RawFd, is_sole: bool) {
        if !is_sole {
            return self.settle(fd);
        }
        if let Some(entry) = self.descriptors.entry(fd) {
            self.polling.counts(entry.registered, Interest::NONE);
            entry.registered = Interest::NONE;
            entry.left = false;
        }
    }

    /// Nobody is to watch the descriptor, which is about to be closed: operations on it try once more, and fail.
    pub(crate) fn evict(&self, fd: RawFd) {
        for side in [Side::Read, Side::Write] {
            if let Some(watcher @ (Watcher::Operation(_) | Watcher::Once(_))) =
                self.unwatch(fd, side)
            {
                self.push(watcher.work(side));
            }
        }
    }

    /// Notes that the descriptor belongs to a transport, which must [`EventLoop::release`] it before it dies.
    /// What watched the number before is stale.
    pub(crate) fn claim(&self, fd: RawFd, owner: &Target) -> PyResult<()> {
        drop(self.unwatch(fd, Side::Read));
        drop(self.unwatch(fd, Side::Write));
        self.settle(fd);
        let index = self.descriptors.make_room(fd)?;
        self.descriptors.table()[index].owner = Some(NonNull::from(owner));
        Ok(())
    }

    /// Ends [`EventLoop::claim`]; says whether the descriptor was still this transport's.
    pub(crate) fn release(&self, fd: RawFd, owner: &Target) -> bool {
        let Some(entry) = self.descriptors.entry(fd) else {
            return false;
        };
        let owned = entry.owner == Some(NonNull::from(owner));
        if owned {
            entry.owner = None;
        }
        owned
    }

    /// The transport that the descriptor belongs to.
    fn owner(&self, fd: RawFd) -> Option<Obj> {
        let owner = self.descriptors.entry(fd)?.owner?;
        // SAFETY: a transport gives its claim up before it dies.
        Some(unsafe { owner.as_ref() }.as_any().own())
    }

    /// Who watches this side of the descriptor.
    pub(crate) fn watcher(&self, fd: RawFd, side: Side) -> Option<Watcher> {
        let entry = self.descriptors.entry(fd)?;
        if side == Side::Read {
            entry.reader.clone()
        } else {
            entry.writer.clone()
        }
    }

    /// In a forked child: opens a driver of its own, since what it does to the parent's it does to the parent,
    /// and tells it what is watched.
    pub(crate) fn renew_after_fork(&self) -> io::Result<()> {
        if !self.polling.is_inherited() {
            return Ok(());
        }
        self.polling.open()?;
        self.polling.counts_anew();
        for fd in 0..self.descriptors.table().len() {
            let fd = fd as RawFd;
            let Some(entry) = self.descriptors.entry(fd) else {
                continue;
            };
            let edge = std::mem::take(&mut entry.registered).edge;
            let interest = Interest {
                edge,
                ..entry.interest()
            };
            if !interest.is_none() {
                // Whatever the child has closed by now is watched no more.
                let _ = self.kernel_register(fd, interest);
            }
        }
        Ok(())
    }

    fn register(&self, fd: RawFd, interest: Interest) -> PyResult<()> {
        self.refuse_if_closed()?;
        self.kernel_register(fd, interest)
            .map_err(|error| err::raise_os(&error))
    }

    /// Brings the kernel's registration in line with the interest.
    pub(super) fn kernel_register(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        self.renew_after_fork()?;
        self.polling.attend();
        let (Some(backend), Some(entry)) = (self.polling.backend()?, self.descriptors.entry(fd))
        else {
            return Ok(());
        };
        let driver = &backend.driver;
        entry.left = false;
        let result = if interest.is_none() {
            driver.delete(fd)
        } else if entry.registered.is_none() {
            add(driver, fd, entry, interest)
        } else if interest == entry.registered && !interest.edge {
            Ok(())
        } else {
            match driver.modify(fd, token(fd, entry.generation), interest) {
                // The number was closed and opened again behind our back.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    add(driver, fd, entry, interest)
                }
                result => result,
            }
        };
        let registered = if result.is_ok() {
            interest
        } else {
            Interest::NONE
        };
        self.polling.counts(entry.registered, registered);
        entry.registered = registered;
        result
    }
}

fn add(driver: &impl Driver, fd: RawFd, entry: &mut Entry, interest: Interest) -> io::Result<()> {
    entry.generation = entry.generation.wrapping_add(1);
    driver.add(fd, token(fd, entry.generation), interest)
}

/// The descriptor of an object: a number, or what has a `fileno()`.
pub(crate) fn descriptor(object: &Any) -> PyResult<RawFd> {
    let number = if object.is_int() {
        object.to_i64()?
    } else {
        match object.attr_opt(intern!("fileno"))? {
            Some(method) => {
                let number = method.call0()?;
                to_number(&number, object)?
            }
            None => return Err(invalid(object)),
        }
    };
    RawFd::try_from(number)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| raise!(err::value_error(), "Invalid file descriptor: {number}"))
}

fn to_number(result: &Any, object: &Any) -> PyResult<i64> {
    if result.is_int() {
        result.to_i64()
    } else {
        Err(invalid(object))
    }
}

fn invalid(object: &Any) -> crate::kit::Raised {
    raise!(
        err::value_error(),
        "Invalid file object: {}",
        object.repr_text()
    )
}

/// Cancels the handle that a watcher of Python code was.
pub(crate) fn cancel(watcher: Option<Watcher>) -> PyResult<bool> {
    match watcher {
        Some(Watcher::Callback(handle, _)) => {
            handle.cancel()?;
            Ok(true)
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

/// `add_reader` and `add_writer`: refuses descriptors that belong to a transport.
pub(crate) fn add_callback(
    event_loop: &EventLoop,
    side: Side,
    object: &Any,
    callback: &Any,
    arguments: &[&Any],
) -> PyResult<Obj> {
    let fd = descriptor(object)?;
    refuse_transport(event_loop, fd)?;
    event_loop.refuse_if_closed()?;
    let handle = Handle::lasting(event_loop, callback, arguments)?;
    let file = (!object.is_int()).then(|| object.own());
    let before = event_loop.watch(fd, side, Watcher::Callback(handle.clone(), file))?;
    cancel(before)?;
    Ok(handle.into_obj())
}

/// `remove_reader` and `remove_writer`: whether there was one. What has been closed meanwhile is known by the object.
pub(crate) fn remove_callback(event_loop: &EventLoop, side: Side, object: &Any) -> PyResult<bool> {
    let fd = match descriptor(object) {
        Ok(fd) => fd,
        Err(raised) => match event_loop.descriptors.number_of(object) {
            Some(fd) => {
                err::discard(raised);
                fd
            }
            None => return Err(raised),
        },
    };
    refuse_transport(event_loop, fd)?;
    if event_loop.is_closed() {
        return Ok(false);
    }
    cancel(event_loop.unwatch(fd, side))
}

/// Callbacks on a transport's descriptor would steal its bytes: an error, unless it is closing.
pub(crate) fn refuse_transport(event_loop: &EventLoop, fd: RawFd) -> PyResult<()> {
    let Some(owner) = event_loop.owner(fd) else {
        return Ok(());
    };
    if owner.method0(intern!("is_closing"))?.truthy()? {
        return Ok(());
    }
    Err(raise!(
        err::runtime_error(),
        "File descriptor {fd} is used by transport {}",
        owner.repr_text()
    ))
}
