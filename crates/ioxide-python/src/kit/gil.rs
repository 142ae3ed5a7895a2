//! Giving up the interpreter lock, and taking it on a thread of our own.

use super::ffi;

/// Runs `f` without the interpreter lock. What `f` captures is `Send`, so it cannot touch Python objects.
#[inline]
pub(crate) fn released<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    struct Saved(*mut ffi::PyThreadState);
    impl Drop for Saved {
        fn drop(&mut self) {
            // SAFETY: the state that was saved on this thread, restored once (also when `f` panics).
            unsafe { ffi::PyEval_RestoreThread(self.0) }
        }
    }
    // SAFETY: this thread holds the lock.
    let saved = Saved(unsafe { ffi::PyEval_SaveThread() });
    let result = f();
    drop(saved);
    result
}

/// Runs `f` with the interpreter lock, on a thread that may not have met the interpreter before.
pub(crate) fn attached<R>(f: impl FnOnce() -> R) -> R {
    struct Ensured(ffi::PyGILState_STATE);
    impl Drop for Ensured {
        fn drop(&mut self) {
            // SAFETY: paired with the call below, on the same thread.
            unsafe { ffi::PyGILState_Release(self.0) }
        }
    }
    // SAFETY: the interpreter is initialised as long as our threads run.
    let ensured = Ensured(unsafe { ffi::PyGILState_Ensure() });
    let result = f();
    drop(ensured);
    result
}
