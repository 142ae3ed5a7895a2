//! What a child runs on that shares its parent's memory: a part of the starting thread's own stack, which nobody uses
//! meanwhile, and whose pages are there.
//!
//! The child's own frames are small, and do not grow with the plan: what is long is prepared by the parent. Its calls
//! go straight to the kernel; they are bound when the library is loaded, as binding one on the way would need
//! several KB to save registers in. Where assertions are on, each start verifies what that comes to.
#![allow(unsafe_code, reason = "a raw stack")]

use std::mem::MaybeUninit;

/// The kernel needs nothing of it. Threads may have as little as 32 KiB.
const BYTES: usize = 16 * 1024;

/// At least so much must be left over: twice what is used then fits.
const MARGIN: usize = BYTES / 2;

/// What unused bytes look like, where somebody looks.
const PAINT: u8 = 0xA5;

const IS_PAINTED: bool = cfg!(any(debug_assertions, test));

pub(super) struct Stack([MaybeUninit<u8>; BYTES]);

impl Stack {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self(if IS_PAINTED {
            [MaybeUninit::new(PAINT); BYTES]
        } else {
            [MaybeUninit::uninit(); BYTES]
        })
    }

    /// Its end, from which it is used downwards.
    #[inline(always)]
    pub(super) fn top(&mut self) -> *mut libc::c_void {
        let end = self.0.as_mut_ptr_range().end;
        // SAFETY: it is far longer than the few bytes by which the end is aligned.
        unsafe { end.sub(end.addr() % 16).cast() }
    }

    /// Fails where the child has come nearer to the bottom than it may.
    #[inline(always)]
    pub(super) fn verify(&self) {
        if IS_PAINTED {
            let unused = self.unused();
            assert!(
                unused >= MARGIN,
                "a child has left {unused} of its {BYTES} bytes of stack"
            );
        }
    }

    /// How many bytes at the bottom nobody has written to.
    fn unused(&self) -> usize {
        // The child has written them without the compiler's knowledge.
        let written = |byte: &MaybeUninit<u8>| {
            // SAFETY: alive, and painted in `new`.
            unsafe { std::ptr::from_ref(byte).cast::<u8>().read_volatile() != PAINT }
        };
        self.0.iter().position(written).unwrap_or(BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_counts_as_used_down_to_the_deepest() {
        let mut stack = Stack::new();
        assert!(stack.unused() == BYTES && stack.top().addr().is_multiple_of(16));
        stack.0[MARGIN].write(0);
        stack.0[BYTES - 1].write(0);
        assert_eq!(stack.unused(), MARGIN);
        stack.verify();
    }

    #[test]
    #[should_panic(expected = "bytes of stack")]
    fn a_deeper_use_fails() {
        let mut stack = Stack::new();
        stack.0[MARGIN - 1].write(0);
        stack.verify();
    }
}
