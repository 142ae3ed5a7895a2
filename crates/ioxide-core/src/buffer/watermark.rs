//! Flow control in two states: paused above the high mark, running again at the low mark.

/// The high mark where the program sets none, in bytes.
pub const DEFAULT_HIGH: usize = 64 * 1024;

/// The marks, and on which side of them the writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    high: usize,
    low: usize,
    paused: bool,
}

/// The low mark would be above the high one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidMarks {
    pub high: usize,
    pub low: usize,
}

impl Default for Watermark {
    fn default() -> Self {
        Self {
            high: DEFAULT_HIGH,
            low: DEFAULT_HIGH / 4,
            paused: false,
        }
    }
}

impl Watermark {
    /// Above how many waiting bytes the writer is paused.
    pub fn high(&self) -> usize {
        self.high
    }

    /// Down to how many waiting bytes a paused writer stays paused.
    pub fn low(&self) -> usize {
        self.low
    }

    /// Whether the writer is paused.
    #[inline]
    pub fn paused(&self) -> bool {
        self.paused
    }

    /// Sets the marks as asyncio does: without `high` it is four times `low`, or 64 KiB; without
    /// `low` it is a quarter of `high`. Follow it with [`on_grow`](Self::on_grow).
    pub fn set(&mut self, high: Option<usize>, low: Option<usize>) -> Result<(), InvalidMarks> {
        let high = high.unwrap_or_else(|| low.map_or(DEFAULT_HIGH, |low| low.saturating_mul(4)));
        let low = low.unwrap_or(high / 4);
        if low > high {
            return Err(InvalidMarks { high, low });
        }
        self.high = high;
        self.low = low;
        Ok(())
    }

    /// `len` bytes wait, more than before: `true` if the writer must be told to pause, now and
    /// once.
    #[inline]
    #[must_use = "the writer must be told"]
    pub fn on_grow(&mut self, len: usize) -> bool {
        let pause = !self.paused && len > self.high;
        self.paused |= pause;
        pause
    }

    /// `len` bytes wait, fewer than before: `true` if the writer must be told to go on, now and
    /// once.
    #[inline]
    #[must_use = "the writer must be told"]
    pub fn on_shrink(&mut self, len: usize) -> bool {
        let resume = self.paused && len <= self.low;
        self.paused &= !resume;
        resume
    }
}
