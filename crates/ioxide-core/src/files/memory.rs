//! Making the memory ready that a large file is read into.
//!
//! Fresh memory is a page fault for each of its pages, which takes three times as long as copying what the page
//! is for. Huge pages are one fault for 512, but in a virtual machine whose host takes back free memory, and
//! finds it again in small pages only, one of them may take 5 ms instead of 0.1. Nothing tells before it is
//! touched. So each is timed, and what huge pages may cost is what they have saved ([`Credit`]).
#![allow(unsafe_code, reason = "system calls")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::OnceLock;

use crate::clock::{Clock, ThreadTime};

/// Rooms from this size on are made ready; for less it is not worth the calls.
pub(super) const LARGE: usize = 4 << 20;

const HUGE_PAGE: usize = 2 << 20;
/// How much is made ready at a time in small pages: it is still in the processor's cache when it is filled.
const PIECE: usize = 256 * 1024;

static CREDIT: Credit = Credit::new();

/// What huge pages have saved this process, in nanoseconds, less what they have cost.
#[derive(Debug)]
pub struct Credit(AtomicI64);

impl Credit {
    /// What small pages take for as much, at the least.
    const FAIR: i64 = 400_000;
    /// What reading as much in small pages adds: now and then it is tried again, at a few per cent.
    const PATIENCE: i64 = 20_000;
    /// No more than one disappointment.
    const MOST: i64 = 5_000_000;

    /// Of a process that has not tried yet, and may once.
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Whether a huge page may be tried.
    pub fn allows(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= 0
    }

    /// A huge page has taken so many nanoseconds.
    pub fn took(&self, ns: i64) {
        self.add(Self::FAIR.saturating_sub(ns));
    }

    /// So many bytes were made ready in small pages.
    pub fn did_without(&self, bytes: usize) {
        self.add(Self::PATIENCE * bytes.min(HUGE_PAGE) as i64 / HUGE_PAGE as i64);
    }

    fn add(&self, ns: i64) {
        // Of two threads at once one may be forgotten, which changes nothing that matters.
        let credit = self.0.load(Ordering::Relaxed).saturating_add(ns);
        self.0.store(credit.min(Self::MOST), Ordering::Relaxed);
    }
}

impl Default for Credit {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the first bytes of a large room ready to be filled; returns how many, at least one. What the kernel
/// refuses here it does while they are filled.
pub(super) fn make_ready(room: &mut [MaybeUninit<u8>]) -> usize {
    let page = page_size();
    let start = room.as_mut_ptr() as usize;
    let first = start / page * page;
    let end = start + room.len();
    // The first page may begin with the header of the object, which is in the way of nothing.
    if first.is_multiple_of(HUGE_PAGE) && end - first >= HUGE_PAGE && CREDIT.allows() {
        let begun = ThreadTime.now();
        advise(first, HUGE_PAGE, libc::MADV_HUGEPAGE);
        advise(first, HUGE_PAGE, libc::MADV_POPULATE_WRITE);
        CREDIT.took((ThreadTime.now() - begun) as i64);
        return first + HUGE_PAGE - start;
    }
    let boundary = (first + 1).next_multiple_of(HUGE_PAGE);
    let end = end.min(boundary).min(first + PIECE);
    advise(
        first,
        end.next_multiple_of(page) - first,
        libc::MADV_POPULATE_WRITE,
    );
    CREDIT.did_without(end - start);
    end - start
}

/// Whole pages that lie at least in part in memory of the caller's.
fn advise(first: usize, bytes: usize, advice: libc::c_int) {
    // SAFETY: neither of the two advices changes what the memory holds. Where it is refused, nothing was lost.
    unsafe { libc::madvise(first as *mut _, bytes, advice) };
}

fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        // SAFETY: no pointers are passed.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size)
            .ok()
            .filter(|size| *size > 0)
            .unwrap_or(4096)
    })
}
