//! Bytes that the kernel has not taken yet: a queue of whole buffers with progress inside the
//! first.

use std::collections::VecDeque;

/// A queue of buffers to be written in order.
///
/// Finished buffers are handed back rather than dropped here: dropping one may run foreign code,
/// which may come back to the same queue.
#[derive(Debug)]
pub struct Outgoing<B> {
    queue: VecDeque<B>,
    /// How much of the first buffer is written; less than its length.
    written: usize,
    len: usize,
}

impl<B: AsRef<[u8]>> Default for Outgoing<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: AsRef<[u8]>> Outgoing<B> {
    /// An empty queue; allocates nothing.
    pub const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            written: 0,
            len: 0,
        }
    }

    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many buffers wait.
    #[inline]
    pub fn buffers(&self) -> usize {
        self.queue.len()
    }

    /// Queues a buffer. One without bytes comes straight back, since there is nothing to write.
    #[inline]
    pub fn push(&mut self, buffer: B) -> Option<B> {
        let len = buffer.as_ref().len();
        if len == 0 {
            return Some(buffer);
        }
        self.len += len;
        self.queue.push_back(buffer);
        None
    }

    /// Adds `count` bytes to the last buffer, which `grow` does; `false`, with nothing done, if it
    /// refuses or there is no buffer.
    #[inline]
    pub fn grow_last(&mut self, count: usize, grow: impl FnOnce(&mut B) -> bool) -> bool {
        let grown = self.queue.back_mut().is_some_and(grow);
        if grown {
            self.len += count;
        }
        grown
    }

    /// As [`push`](Self::push), for a buffer whose first `written` bytes have gone out already.
    /// The queue must be empty.
    #[inline]
    pub fn push_rest(&mut self, buffer: B, written: usize) -> Option<B> {
        debug_assert!(
            self.is_empty(),
            "bytes went out before those that were queued first"
        );
        let len = buffer.as_ref().len();
        if written >= len {
            return Some(buffer);
        }
        self.written = written;
        self.len = len - written;
        self.queue.push_back(buffer);
        None
    }

    /// The unwritten bytes in order, as one slice per buffer.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = self.written;
        self.queue.iter().map(move |buffer| {
            let bytes = buffer.as_ref();
            &bytes[std::mem::take(&mut skip).min(bytes.len())..]
        })
    }

    /// Fills `iovecs` for a `writev` of the unwritten bytes and returns how many it filled. They
    /// are valid until the queue changes.
    pub fn iovecs(&self, iovecs: &mut [libc::iovec]) -> usize {
        let mut count = 0;
        for (slot, bytes) in iovecs.iter_mut().zip(self.slices()) {
            *slot = libc::iovec {
                iov_base: bytes.as_ptr().cast_mut().cast(),
                iov_len: bytes.len(),
            };
            count += 1;
        }
        count
    }

    /// The kernel has taken `count` bytes: hands back the buffers that are finished. They are to be
    /// dropped when the queue is no longer borrowed.
    #[must_use = "drop the finished buffers when the queue is no longer borrowed"]
    pub fn advance(&mut self, count: usize) -> Vec<B> {
        debug_assert!(
            count <= self.len,
            "the kernel takes no more than it was offered"
        );
        self.len = self.len.saturating_sub(count);
        self.written += count;
        let mut finished = 0;
        for buffer in &self.queue {
            let len = buffer.as_ref().len();
            if self.written < len {
                break;
            }
            self.written -= len;
            finished += 1;
        }
        if finished == self.queue.len() {
            self.written = 0;
        }
        self.queue.drain(..finished).collect()
    }

    /// The buffers, in order, of which none was written in part.
    pub fn into_buffers(self) -> impl Iterator<Item = B> {
        debug_assert!(self.written == 0, "what was written would be written twice");
        self.queue.into_iter()
    }

    /// Gives everything up: hands back all buffers, written or not.
    #[must_use = "drop the buffers when the queue is no longer borrowed"]
    pub fn clear(&mut self) -> VecDeque<B> {
        self.len = 0;
        self.written = 0;
        std::mem::take(&mut self.queue)
    }
}
