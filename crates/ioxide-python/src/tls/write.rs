//! What the program writes: encrypted at once, or kept until the handshake is done.

use super::engine::with_bytes;
use super::transport::TlsTransport;
use crate::kit::{err, value, Any, Native, PyResult};
use crate::task::step;
use crate::transport::flow;
use crate::transport::write::{is_bytes_like, Chunk, EARLY};
use crate::{import, intern, raise};
use ioxide_core::buffer::outgoing::Outgoing;
use ioxide_core::tls::engine::{Engine, Written};
use ioxide_core::tls::machine::Phase;

/// Larger objects wait as they are, unless they fit into the record of what waits already.
const COPIED: usize = 4096;
/// What one record holds.
const RECORD: usize = 16 * 1024;
/// After so many writes to a connection that is over they are logged.
const WRITES_UNTIL_WARNING: u32 = 5;

impl TlsTransport {
    /// `write(data)`.
    pub(crate) fn write(&self, data: &Any) -> PyResult<()> {
        if !data.is_bytes() && !is_bytes_like(data) {
            return Err(raise!(
                err::type_error(),
                "data: expecting a bytes-like instance, got {}",
                data.type_name()
            ));
        }
        with_bytes(data, |bytes| self.write_bytes(bytes, Some(data)))?
    }

    /// Writes the bytes, of `object` if there is one.
    pub(crate) fn write_bytes(&self, bytes: &[u8], object: Option<&Any>) -> PyResult<()> {
        if bytes.is_empty() || self.is_over()? {
            return Ok(());
        }
        if self.machine.phase() != Phase::Open {
            self.hold(bytes, object);
            return Ok(());
        }
        if self.waits() {
            self.hold(bytes, object);
            return self.held_back();
        }
        if !self.backlog().is_empty() {
            self.hold(bytes, object);
            return self.machine.written(self);
        }
        self.give_room();
        match self.encrypt_slice(bytes) {
            Ok(count) if count == bytes.len() => {}
            Ok(count) => self.hold(&bytes[count..], None),
            Err(raised) => return self.machine.broken(self, raised),
        }
        self.machine.written(self)
    }

    /// `writelines(list)`.
    pub(crate) fn write_lines(&self, list: &Any) -> PyResult<()> {
        let items = list.collect()?;
        if self.is_over()? {
            return Ok(());
        }
        for item in &items {
            with_bytes(item, |bytes| self.hold(bytes, Some(item)))?;
        }
        if self.machine.phase() == Phase::Open && self.waits() {
            return self.held_back();
        }
        self.machine.written(self)
    }

    /// Whether what is written now waits for the end of the turn, to be encrypted together with what else is
    /// written in it: a record has a cost of its own. Only a stream socket below would end the wait, and nothing
    /// waits here if that is full, for the program must be told at once.
    #[inline]
    fn waits(&self) -> bool {
        if self.below_full.get() {
            return false;
        }
        let turn = self.with_loop(|event_loop| Ok(event_loop.hub.turn()));
        if !self.rhythm.waits(turn.ok().flatten()) {
            return false;
        }
        // SAFETY: nothing runs while the borrow lives.
        unsafe { self.below.peek() }.is_some_and(|below| Self::channel(below).is_some())
    }

    /// Bytes wait for the end of the turn: not if they are many, and never as many as would pause the writer.
    fn held_back(&self) -> PyResult<()> {
        let waiting = self.backlog().len();
        if waiting > EARLY || waiting > self.marks.get().high() {
            return self.machine.written(self);
        }
        if let Some(below) = self.below.get() {
            if let Some(channel) = Self::channel(&below) {
                channel.flush_later();
            }
        }
        Ok(())
    }

    /// Encrypts and sends what only waits for the end of the turn.
    #[inline]
    pub(crate) fn flush_held_back(&self) -> PyResult<()> {
        self.rhythm.turn_ended();
        if self.backlog().is_empty() {
            return Ok(());
        }
        self.machine.written(self)
    }

    /// Whether writing is in vain, which is logged if the program goes on and on.
    #[inline]
    fn is_over(&self) -> PyResult<bool> {
        if self.machine.takes_writes() {
            return Ok(false);
        }
        let before = self.written_in_vain.get();
        self.written_in_vain.set(before.saturating_add(1));
        if before >= WRITES_UNTIL_WARNING {
            import!("asyncio.log", "logger")?.method(
                intern!("warning"),
                &[&*value::str("SSL connection is closed")?],
            )?;
        }
        Ok(true)
    }

    /// Adds bytes to those that wait to be encrypted. What fits into a record is copied together: that costs less
    /// than one more record.
    fn hold(&self, bytes: &[u8], object: Option<&Any>) {
        let fits = |last: &mut Chunk| match last {
            Chunk::Copied(buffer) if buffer.len() + bytes.len() <= RECORD => {
                buffer.extend_from_slice(bytes);
                true
            }
            _ => false,
        };
        if self.backlog().grow_last(bytes.len(), fits) {
            return;
        }
        let chunk = match object {
            Some(object) if bytes.len() > COPIED && object.is_bytes() => Chunk::Bytes(object.own()),
            _ => {
                let mut buffer = self.spare();
                buffer.extend_from_slice(bytes);
                Chunk::Copied(buffer)
            }
        };
        let empty = self.backlog().push(chunk);
        drop(empty);
    }

    /// Encrypts as many of the bytes as the engine takes.
    #[inline]
    fn encrypt_slice(&self, bytes: &[u8]) -> PyResult<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.engine.write(&bytes[done..])? {
                Written::Bytes(count) => done += count.min(bytes.len() - done),
                Written::Blocked => break,
            }
        }
        Ok(done)
    }

    /// Encrypts what waits for it.
    #[inline]
    pub(super) fn encrypt_backlog(&self) -> PyResult<()> {
        if self.backlog().is_empty() {
            return Ok(());
        }
        self.encrypt_some()
    }

    fn encrypt_some(&self) -> PyResult<()> {
        self.give_room();
        // An operation may run code that writes or ends the connection: the queue is taken out meanwhile.
        let mut taken = std::mem::replace(self.backlog(), Outgoing::new());
        let mut result = Ok(());
        while result.is_ok() && !taken.is_empty() {
            let first = taken.slices().next().unwrap_or_default();
            let offered = first.len();
            match self.encrypt_slice(first) {
                Ok(count) => {
                    self.recycle(taken.advance(count));
                    if count < offered {
                        break;
                    }
                }
                Err(raised) => result = Err(raised),
            }
        }
        if self.machine.is_flowing() && !taken.is_empty() {
            let newer = std::mem::replace(self.backlog(), taken);
            for chunk in newer.into_buffers() {
                let empty = self.backlog().push(chunk);
                drop(empty);
            }
        }
        result
    }

    /// A buffer of the loop's for what waits.
    fn spare(&self) -> Vec<u8> {
        let spare = self.with_loop(|event_loop| Ok(event_loop.hub.spare()));
        spare.unwrap_or_default()
    }

    /// Gives the loop its buffers back.
    fn recycle(&self, finished: Vec<Chunk>) {
        for chunk in finished {
            if let Chunk::Copied(buffer) = chunk {
                let returned = self.with_loop(|event_loop| {
                    event_loop.hub.recycle(buffer);
                    Ok(())
                });
                debug_assert!(returned.is_ok());
            }
        }
    }

    /// Room for what will be encrypted: the loop's, until it was sent.
    #[inline]
    pub(super) fn give_room(&self) {
        self.engine.give_room(|| {
            let room = self.with_loop(|event_loop| Ok(event_loop.hub.take_sealed()));
            room.unwrap_or_default()
        });
    }

    /// Gives what is encrypted to the transport below, unless that takes no more.
    #[inline]
    pub(super) fn send_output(&self) -> PyResult<()> {
        if self.below_full.get() {
            self.keep_output();
            return Ok(());
        }
        let output = self.engine.take_output()?;
        let sent = if output.is_empty() {
            Ok(())
        } else {
            self.write_below(&output)
        };
        self.return_room(output);
        sent
    }

    /// What must wait moves out of the loop's buffer.
    #[cold]
    fn keep_output(&self) {
        if let Some(room) = self.engine.keep_output() {
            self.return_room(room);
        }
    }

    #[inline]
    fn return_room(&self, room: Vec<u8>) {
        if room.capacity() == 0 {
            return;
        }
        let returned = self.with_loop(|event_loop| {
            event_loop.hub.return_sealed(room);
            Ok(())
        });
        debug_assert!(returned.is_ok());
    }

    #[inline]
    fn write_below(&self, output: &[u8]) -> PyResult<()> {
        let Some(below) = self.below.get() else {
            return Ok(());
        };
        if let Some(channel) = Self::channel(&below) {
            return channel.write_plain(output);
        }
        if let Some(tls) = TlsTransport::untouched(&below) {
            return tls.write_bytes(output, None);
        }
        below
            .method(intern!("write"), &[&*value::bytes(output)?])
            .map(drop)
    }

    /// How many bytes wait: here, and, if it takes no more for now, in the transport below. (asyncio does not count
    /// the latter, and lets one large write through however much that leaves there.)
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        let here = self.backlog().len() + self.engine.to_send();
        if self.below_full.get() {
            here + self.waiting_below()
        } else {
            here
        }
    }

    fn waiting_below(&self) -> usize {
        let Some(below) = self.below.get() else {
            return 0;
        };
        if let Some(channel) = Self::channel(&below) {
            return channel.waiting_bytes();
        }
        if let Some(tls) = TlsTransport::untouched(&below) {
            return tls.waiting();
        }
        // A stranger's number is good to have; without it there is its word that it is full.
        let told = below
            .method0(intern!("get_write_buffer_size"))
            .and_then(|size| size.to_i64());
        match told {
            Ok(size) => usize::try_from(size).unwrap_or(0),
            Err(raised) => {
                err::discard(raised);
                0
            }
        }
    }

    /// Tells the program to pause or to go on, as the marks say.
    #[inline]
    pub(super) fn update_marks(&self) -> PyResult<()> {
        let waiting = self.waiting();
        let mut marks = self.marks.get();
        let pause = marks.on_grow(waiting);
        let resume = !pause && marks.on_shrink(waiting);
        self.marks.set(marks);
        if pause {
            return self.tell_flow(intern!("pause_writing"), "pause_writing");
        }
        if resume {
            return self.tell_flow(intern!("resume_writing"), "resume_writing");
        }
        Ok(())
    }

    #[cold]
    fn tell_flow(&self, method: &'static Any, name: &str) -> PyResult<()> {
        let Some(protocol) = self.protocol.get() else {
            return Ok(());
        };
        let Err(raised) = protocol.method0(method) else {
            return Ok(());
        };
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        let message = format!("protocol.{name}() failed");
        self.with_loop(|event_loop| {
            let more = [
                (intern!("transport"), self.as_any()),
                (intern!("protocol"), self.as_any()),
            ];
            crate::runtime::report::exception(event_loop, &message, &exception, &more)
        })
    }

    /// `set_write_buffer_limits(high, low)`, in bytes.
    pub(super) fn set_write_limits(&self, high: Option<&Any>, low: Option<&Any>) -> PyResult<()> {
        let (high, low) = flow::limits(high, low, super::transport::WRITE_HIGH)?;
        let mut marks = self.marks.get();
        let set = marks.set(Some(high), Some(low));
        debug_assert!(set.is_ok());
        self.marks.set(marks);
        self.flush_below()?;
        self.update_marks()
    }

    /// `set_read_buffer_limits(high, low)`, in bytes.
    pub(super) fn set_read_limits(&self, high: Option<&Any>, low: Option<&Any>) -> PyResult<()> {
        let limits = flow::limits(high, low, super::transport::READ_HIGH)?;
        self.read_marks.set(limits);
        ioxide_core::tls::machine::Host::control_below(self)
    }
}
