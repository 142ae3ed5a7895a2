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
pub struct Credit {
    balance: AtomicI64,
    /// What small pages take for as much, as far as known.
    fair: AtomicI64,
}

impl Credit {
    /// What small pages are taken to take before they were measured: what they do on the quickest machines.
    const FAIR: i64 = 300_000;
    /// Reading in small pages adds one of so many parts of what it takes: now and then it is tried again.
    const PATIENCE: i64 = 40;
    /// What was saved long ago does not pay for more than this.
    const MOST: i64 = 20_000_000;

    /// Of a process that has not tried yet, and may once.
    pub const fn new() -> Self {
        Self {
            balance: AtomicI64::new(0),
            fair: AtomicI64::new(Self::FAIR),
        }
    }

    /// Whether a huge page may be tried.
    pub fn allows(&self) -> bool {
        self.balance.load(Ordering::Relaxed) >= 0
    }

    /// A huge page has taken so many nanoseconds.
    pub fn took(&self, ns: u64) {
        let fair = self.fair.load(Ordering::Relaxed);
        self.add(fair.saturating_sub_unsigned(ns));
    }

    /// Small pages have taken so many nanoseconds for so many bytes.
    pub fn did_without(&self, bytes: usize, ns: u64) {
        let ns = i64::try_from(ns).unwrap_or(i64::MAX);
        self.add(ns / Self::PATIENCE);
        // Small pages may be slow to get as well; what they usually take is what counts.
        let fair = self.fair.load(Ordering::Relaxed);
        let as_much = ns.saturating_mul(HUGE_PAGE as i64) / bytes.max(1) as i64;
        let fair = (fair * 15 + as_much.min(fair * 2)) / 16;
        self.fair.store(fair.max(1), Ordering::Relaxed);
    }

    fn add(&self, ns: i64) {
        // Of two threads at once one may be forgotten, which changes nothing that matters.
        let balance = self.balance.load(Ordering::Relaxed).saturating_add(ns);
        self.balance
            .store(balance.min(Self::MOST), Ordering::Relaxed);
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
    let begun = ThreadTime.now();
    if first.is_multiple_of(HUGE_PAGE) && end - first >= HUGE_PAGE && CREDIT.allows() {
        advise(first, HUGE_PAGE, libc::MADV_HUGEPAGE);
        advise(first, HUGE_PAGE, libc::MADV_POPULATE_WRITE);
        CREDIT.took(ThreadTime.now() - begun);
        return first + HUGE_PAGE - start;
    }
    let boundary = (first + 1).next_multiple_of(HUGE_PAGE);
    let end = end.min(boundary).min(first + PIECE);
    advise(
        first,
        end.next_multiple_of(page) - first,
        libc::MADV_POPULATE_WRITE,
    );
    CREDIT.did_without(end - start, ThreadTime.now() - begun);
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
