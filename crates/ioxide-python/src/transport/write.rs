//! The write path: tried at once, unless more is likely to follow, or held back until the end of the turn, then
//! watched until it is writable.

use super::base::{fail, fulfil, os_error};
use super::channel::{Channel, Medium};
use super::feed::Feed;
use super::{closing, hub::Hub};
use crate::kit::buffer::Buffer;
use crate::kit::{err, Any, Obj, PyResult};
use crate::raise;
use crate::runtime::io::Side;
use crate::tls::TlsTransport;
use ioxide_core::net::socket;
use ioxide_core::sys;
use std::io;

/// Held back bytes above this size do not wait for the end of the turn.
pub(crate) const EARLY: usize = 64 * 1024;
/// Up to this size bytes are copied together when they wait; larger objects wait as they are.
const COPIED: usize = 4096;
/// How many buffers go out with one system call.
const BATCH: usize = 64;

/// Bytes that wait.
pub(crate) enum Chunk {
    /// A bytes object, which cannot change.
    Bytes(Obj),
    /// Copied from small ones, and from what might change.
    Copied(Vec<u8>),
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        match self {
            Chunk::Bytes(object) => object.bytes_content(),
            Chunk::Copied(bytes) => bytes,
        }
    }
}

impl Channel {
    /// `write(data)`.
    pub(crate) fn write(&self, data: &Any) -> PyResult<()> {
        if data.is_bytes() {
            return self.write_bytes(data.bytes_content(), Some(data), "write");
        }
        if !is_bytes_like(data) {
            return Err(raise!(
                err::type_error(),
                "data argument must be a bytes, bytearray, or memoryview object, not '{}'",
                data.type_name()
            ));
        }
        let view = Buffer::readable(data)?;
        self.write_bytes(view.bytes(), None, "write")
    }

    /// Writes bytes that belong to no object.
    #[inline]
    pub(crate) fn write_plain(&self, bytes: &[u8]) -> PyResult<()> {
        self.write_bytes(bytes, None, "write")
    }

    /// Writes the bytes, of `object` if that cannot change.
    fn write_bytes(&self, bytes: &[u8], object: Option<&Any>, method: &str) -> PyResult<()> {
        self.may_write(method)?;
        if bytes.is_empty() || self.is_lost()? {
            return Ok(());
        }
        if self.blocked.get() {
            self.hold(bytes, object);
            return self.base.grown();
        }
        if self.waits() {
            self.hold(bytes, object);
            return self.held_back();
        }
        if self.outgoing().is_empty() {
            return self.write_now(bytes, object);
        }
        self.hold(bytes, object);
        self.send_held_back()
    }

    /// `writelines(list)`.
    pub(crate) fn write_lines(&self, list: &Any) -> PyResult<()> {
        let items = list.collect()?;
        self.may_write("writelines")?;
        if items.is_empty() || self.is_lost()? {
            return Ok(());
        }
        for item in &items {
            if item.is_bytes() {
                self.hold(item.bytes_content(), Some(item));
            } else {
                let view = Buffer::readable(item)?;
                self.hold(view.bytes(), None);
            }
        }
        if self.outgoing().is_empty() {
            return Ok(());
        }
        if self.blocked.get() {
            return self.base.grown();
        }
        if self.waits() {
            return self.held_back();
        }
        self.send_held_back()
    }

    /// Refuses to write after the end, and while a file is sent.
    #[inline]
    fn may_write(&self, method: &str) -> PyResult<()> {
        if self.eof.get() {
            return Err(raise!(
                err::runtime_error(),
                "Cannot call {method}() after write_eof()"
            ));
        }
        if !self.drained.is_empty() {
            return Err(raise!(
                err::runtime_error(),
                "unable to {method}; sendfile is in progress"
            ));
        }
        Ok(())
    }

    /// Whether the connection is lost, which is logged if the program writes on and on.
    #[inline]
    fn is_lost(&self) -> PyResult<bool> {
        let (lost, text) = match self.medium {
            Medium::Socket => (false, "socket.send() raised exception."),
            _ => (
                self.base.closing.get(),
                "pipe closed by peer or os.write(pipe, data) raised exception.",
            ),
        };
        if self.base.conn_lost.get() == 0 && !lost {
            return Ok(false);
        }
        self.base.written_in_vain(text).map(|()| true)
    }

    /// Whether what is written now waits for the end of the turn.
    #[inline]
    fn waits(&self) -> bool {
        let turn = self.base.with_loop(|event_loop| {
            event_loop.polling.attend();
            Ok(event_loop.hub.turn())
        });
        self.rhythm.waits(turn.ok().flatten())
    }

    fn hub<R>(&self, f: impl FnOnce(&Hub) -> R) -> Option<R> {
        let found = self
            .base
            .with_loop(|event_loop| Ok(Some(f(&event_loop.hub))));
        found.ok().flatten()
    }

    #[inline]
    fn write_now(&self, bytes: &[u8], object: Option<&Any>) -> PyResult<()> {
        match self.send(bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(count) => self.keep_rest(&bytes[count..], object, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.keep_rest(bytes, object, 0)
            }
            Err(error) => self.failed(&error),
        }
    }

    #[inline]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.base.descriptor.usable()?;
        match self.medium {
            Medium::Socket => sys::send(fd, bytes),
            Medium::ReadPipe | Medium::WritePipe => sys::write(fd, bytes),
        }
    }

    /// The kernel has taken `written` bytes of the object and no more.
    fn keep_rest(&self, rest: &[u8], object: Option<&Any>, written: usize) -> PyResult<()> {
        match object {
            Some(object) => {
                let chunk = Chunk::Bytes(object.own());
                let empty = self.outgoing().push_rest(chunk, written);
                drop(empty);
            }
            None => {
                let empty = self.outgoing().push(Chunk::Copied(rest.to_vec()));
                drop(empty);
            }
        }
        self.block()?;
        self.base.grown()
    }

    /// Adds bytes to those that wait.
    fn hold(&self, bytes: &[u8], object: Option<&Any>) {
        if bytes.len() <= COPIED {
            let fits = |last: &mut Chunk| match last {
                Chunk::Copied(buffer) if buffer.len() + bytes.len() <= EARLY => {
                    buffer.extend_from_slice(bytes);
                    true
                }
                _ => false,
            };
            if self.outgoing().grow_last(bytes.len(), fits) {
                return;
            }
            let mut buffer = self.hub(Hub::spare).unwrap_or_default();
            buffer.extend_from_slice(bytes);
            let empty = self.outgoing().push(Chunk::Copied(buffer));
            drop(empty);
            return;
        }
        let chunk = match object {
            Some(object) => Chunk::Bytes(object.own()),
            None => Chunk::Copied(bytes.to_vec()),
        };
        let empty = self.outgoing().push(chunk);
        drop(empty);
    }

    /// Bytes wait for the end of the turn: not if they are many, and never as many as would pause the writer.
    fn held_back(&self) -> PyResult<()> {
        let waiting = self.outgoing().len();
        if waiting > EARLY || waiting > self.base.marks.get().high() {
            return self.send_held_back();
        }
        self.flush_later();
        Ok(())
    }

    /// Has [`Channel::flush_held_back`] called at the end of the turn.
    pub(crate) fn flush_later(&self) {
        if !self.listed.replace(true) {
            let listed = self.hub(|hub| hub.flush_later(self));
            debug_assert!(listed.is_some());
        }
    }

    /// The turn has ended: what waited for that goes out.
    pub(super) fn turn_ended(&self) -> PyResult<()> {
        if self.feed.get() == Feed::Tls {
            // Encrypting may tell the program to pause.
            return self.base.within(|| self.flush_held_back());
        }
        self.flush_held_back()
    }

    /// Sends what only waits for the end of the turn, here or to be encrypted above.
    pub(crate) fn flush_held_back(&self) -> PyResult<()> {
        self.listed.set(false);
        self.rhythm.turn_ended();
        if self.feed.get() == Feed::Tls && self.base.conn_lost.get() == 0 {
            self.encrypt_held_back()?;
        }
        if self.blocked.get() || self.base.conn_lost.get() > 0 || self.outgoing().is_empty() {
            return Ok(());
        }
        self.send_held_back()
    }

    fn encrypt_held_back(&self) -> PyResult<()> {
        let protocol = self.base.protocol.get_or_none();
        match protocol.exact::<TlsTransport>() {
            Some(tls) => tls.flush_held_back(),
            None => Ok(()),
        }
    }

    /// Sends what waits, and pauses the writer if the kernel does not take enough of it.
    fn send_held_back(&self) -> PyResult<()> {
        match self.send_waiting() {
            Ok(()) if self.outgoing().is_empty() => Ok(()),
            Ok(()) => {
                self.block()?;
                self.base.grown()
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Sends as much of what waits as the kernel takes.
    fn send_waiting(&self) -> io::Result<()> {
        loop {
            let offered = self.outgoing().slices().take(BATCH).map(<[u8]>::len).sum();
            let sent = match self.send_some() {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.advance(sent);
            if sent < offered || self.outgoing().is_empty() {
                return Ok(());
            }
        }
    }

    fn send_some(&self) -> io::Result<usize> {
        let outgoing = self.outgoing();
        if outgoing.buffers() == 1 {
            let first = outgoing.slices().next().unwrap_or_default();
            return self.send(first);
        }
        let fd = self.base.descriptor.usable()?;
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let mut vectors = [nothing; BATCH];
        let count = outgoing.iovecs(&mut vectors);
        // SAFETY: the vectors point into buffers of the queue, which does not change meanwhile.
        unsafe {
            match self.medium {
                Medium::Socket => sys::send_vectored(fd, &mut vectors[..count]),
                Medium::ReadPipe | Medium::WritePipe => sys::writev(fd, &vectors[..count]),
            }
        }
    }

    /// The kernel has taken so many bytes of the queue.
    fn advance(&self, count: usize) {
        let finished = self.outgoing().advance(count);
        for chunk in finished {
            if let Chunk::Copied(buffer) = chunk {
                let recycled = self.hub(|hub| hub.recycle(buffer));
                debug_assert!(recycled.is_some());
            }
        }
    }

    /// The kernel takes no more for now.
    fn block(&self) -> PyResult<()> {
        if self.blocked.replace(true) {
            return Ok(());
        }
        self.was_filled();
        self.base.watch(Side::Write)
    }

    #[cold]
    fn failed(&self, error: &io::Error) -> PyResult<()> {
        let exception = err::take(os_error(error));
        self.discard();
        if let Some(drained) = self.drained.take() {
            fail(&drained, &exception)?;
        }
        let message = format!("Fatal write error on {}", self.base.kind.what);
        closing::fatal_error(&self.base, &exception, &message)
    }

    /// The descriptor takes bytes again.
    pub(super) fn writable(&self) -> PyResult<()> {
        if self.base.over.get() || !self.blocked.get() {
            return Ok(());
        }
        if let Err(error) = self.send_waiting() {
            return self.failed(&error);
        }
        if self.outgoing().is_empty() {
            self.blocked.set(false);
            self.base.unwatch(Side::Write);
        }
        self.base.shrunk()?;
        // The protocol may have written more.
        if self.outgoing().is_empty() && self.base.conn_lost.get() == 0 {
            return self.emptied();
        }
        Ok(())
    }

    /// Nothing is left to write: whoever waited for that goes on.
    fn emptied(&self) -> PyResult<()> {
        if let Some(drained) = self.drained.get() {
            fulfil(&drained)?;
        }
        if self.base.closing.get() {
            self.base.conn_lost.set(1);
            let ended = closing::lost(&self.base);
            return self.refuse_drained(ended);
        }
        if self.eof.get() {
            return self.shut_down();
        }
        Ok(())
    }

    /// `write_eof()`.
    pub(super) fn write_eof(&self) -> PyResult<()> {
        if self.base.closing.get() || self.eof.get() {
            return Ok(());
        }
        if self.medium == Medium::WritePipe {
            return closing::close(&self.base);
        }
        self.flush_held_back()?;
        self.eof.set(true);
        if self.outgoing().is_empty() && self.base.conn_lost.get() == 0 {
            return self.shut_down();
        }
        Ok(())
    }

    /// Tells the peer that no more will come.
    fn shut_down(&self) -> PyResult<()> {
        let fd = self.base.descriptor.usable();
        fd.and_then(|fd| socket::shutdown(fd, libc::SHUT_WR))
            .map_err(|error| os_error(&error))
    }

    /// `_make_empty_waiter()`: a future that is done when nothing is left to write; until
    /// [`Channel::reset_drained`] nothing more may be written.
    pub(super) fn make_drained(&self) -> PyResult<Obj> {
        if !self.drained.is_empty() {
            return Err(raise!(err::runtime_error(), "Empty waiter is already set"));
        }
        self.flush_held_back()?;
        let event_loop = self.base.event_loop.get_or_none();
        let future = crate::future::Future::new(&event_loop)?.into_obj();
        self.drained.set(future.clone());
        if self.outgoing().is_empty() {
            fulfil(&future)?;
        }
        Ok(future)
    }

    pub(super) fn reset_drained(&self) {
        self.drained.clear();
    }
}

/// Whether `write` takes the object.
pub(crate) fn is_bytes_like(object: &Any) -> bool {
    use crate::kit::ffi;
    // SAFETY: alive.
    unsafe {
        ffi::PyByteArray_Check(object.raw()) != 0 || ffi::PyMemoryView_Check(object.raw()) != 0
    }
}
