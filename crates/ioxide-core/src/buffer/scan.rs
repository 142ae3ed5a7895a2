//! Search for separators in a window of bytes that grows at its end, without scanning twice.
//!
//! The rules are those of `asyncio.StreamReader.readuntil`: with several separators the match that
//! *ends* first wins, and of those that end together the one that starts last.

use memchr::memmem;

/// What a read ends with: one or more non-empty separators.
#[derive(Debug, Clone)]
pub struct Separators<S> {
    /// Shortest first: of two that end at the same place the shorter is the match.
    sorted: Many<S>,
    shortest: usize,
    longest: usize,
}

#[derive(Debug, Clone)]
enum Many<S> {
    One([S; 1]),
    Several(Vec<S>),
}

/// Why separators were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeparatorsError {
    /// There is none at all.
    None,
    /// One of them has no bytes.
    Empty,
}

impl<S: AsRef<[u8]>> Separators<S> {
    /// A single separator; allocates nothing.
    pub fn one(separator: S) -> Result<Self, SeparatorsError> {
        let len = separator.as_ref().len();
        if len == 0 {
            return Err(SeparatorsError::Empty);
        }
        Ok(Self {
            sorted: Many::One([separator]),
            shortest: len,
            longest: len,
        })
    }

    /// Several separators, each of which ends the read.
    pub fn several(mut separators: Vec<S>) -> Result<Self, SeparatorsError> {
        separators.sort_by_key(|separator| separator.as_ref().len());
        let len = |separator: Option<&S>| separator.map(|separator| separator.as_ref().len());
        let longest = len(separators.last()).ok_or(SeparatorsError::None)?;
        let shortest = len(separators.first()).unwrap_or(longest);
        if shortest == 0 {
            return Err(SeparatorsError::Empty);
        }
        Ok(Self {
            sorted: Many::Several(separators),
            shortest,
            longest,
        })
    }

    fn as_slice(&self) -> &[S] {
        match &self.sorted {
            Many::One(one) => one,
            Many::Several(several) => several,
        }
    }
}

/// What a scan has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A separator at `start..end` of the window.
    Found { start: usize, end: usize },
    /// None yet. It is certain that none starts in the first `clear` bytes, so that `clear` beyond
    /// the reader's limit is a line too long.
    Missing { clear: usize },
}

/// One search that goes on as bytes arrive.
#[derive(Debug, Clone)]
pub struct Scanner<S> {
    separators: Separators<S>,
    clear: usize,
}

impl<S: AsRef<[u8]>> Scanner<S> {
    /// A search that has seen nothing yet.
    pub fn new(separators: Separators<S>) -> Self {
        Self {
            separators,
            clear: 0,
        }
    }

    /// Looks at a window that begins where the last one did and has at least its bytes.
    pub fn scan(&mut self, window: &[u8]) -> Scan {
        // A window that lost bytes is another window.
        let from = if self.clear <= window.len() {
            self.clear
        } else {
            0
        };
        if window.len() - from >= self.separators.shortest {
            if let Some((start, end)) = self.first_match(window, from) {
                return Scan::Found { start, end };
            }
            // The tail may be the beginning of a separator.
            self.clear = (window.len() + 1).saturating_sub(self.separators.longest);
        }
        Scan::Missing { clear: self.clear }
    }

    fn first_match(&self, window: &[u8], from: usize) -> Option<(usize, usize)> {
        let mut best = None;
        let mut end_limit = window.len();
        for separator in self.separators.as_slice() {
            let separator = separator.as_ref();
            // Only a match that ends earlier than the best one counts.
            let Some(haystack) = window.get(from..end_limit) else {
                break;
            };
            if let Some(offset) = find(haystack, separator) {
                let start = from + offset;
                let end = start + separator.len();
                best = Some((start, end));
                end_limit = end - 1;
            }
        }
        best
    }
}

/// Where the first line of `window` ends, its `\n` included.
#[inline]
pub fn line_end(window: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', window).map(|index| index + 1)
}

/// Where `needle` first starts in `haystack`.
#[inline]
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [byte] => memchr::memchr(*byte, haystack),
        _ => memmem::find(haystack, needle),
    }
}
