//! Pipes of children, made larger when they turn out to carry much.
//!
//! A pipe holds 64 KiB. A child that copies as fast as we do empties or fills it before the other side is awake: both
//! sleep and wake up once in 64 KiB, which takes longer than the copying. A user's pipes may hold so much altogether
//! (`/proc/sys/fs/pipe-user-pages-soft`), so that only those grow that were found full.

use super::channel::{Channel, Medium};
use ioxide_core::sys;

/// What a pipe holds unless it is changed, in bytes.
const USUAL: usize = 64 * 1024;

/// What it holds then: as much as one read takes.
const LARGE: libc::c_int = 256 * 1024;

impl Channel {
    /// So many bytes came in one read: a pipe that was full grows.
    #[inline]
    pub(super) fn was_read(&self, count: usize) {
        if count >= USUAL && self.may_grow.get() {
            self.grow();
        }
    }

    /// The pipe takes no more bytes, since it is full: it grows.
    #[inline]
    pub(super) fn was_filled(&self) {
        if self.medium == Medium::WritePipe && self.may_grow.get() {
            self.grow();
        }
    }

    /// Once, whether it works or not.
    #[cold]
    fn grow(&self) {
        self.may_grow.set(false);
        let fd = self.base.descriptor.usable();
        // It does as it is, if the user has too many of them.
        let _ = fd.and_then(|fd| sys::set_pipe_size(fd, LARGE)).is_ok();
    }
}
