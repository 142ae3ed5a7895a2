//! The window of bytes that have arrived and were not read yet.

/// Bytes that grow at the end and are consumed at the front, each in amortised constant time per byte.
///
/// The window is always contiguous, so that it can be searched and copied out in one go.
#[derive(Debug, Default)]
pub struct Receive {
    bytes: Vec<u8>,
    /// What lies before was consumed.
    start: usize,
}

impl Receive {
    /// A window with these two parts, and room for nothing else.
    pub fn joined(first: &[u8], second: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(first.len() + second.len());
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        Self { bytes, start: 0 }
    }

    /// What was not consumed yet.
    #[inline]
    pub fn window(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The length of the window, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether everything was consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts bytes behind the window.
    pub fn append(&mut self, data: &[u8]) {
        let room = self.bytes.capacity() - self.bytes.len();
        // Moving the window to the front is paid for by the bytes that were consumed before it: there
        // are at least as many as are moved.
        if room < data.len() && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    /// Drops `count` bytes at the front, or all if there are fewer.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
    }
}
