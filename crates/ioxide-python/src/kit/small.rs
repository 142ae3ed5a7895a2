//! A value in the interpreter's allocator, which is quicker than the system's for what is small and many.

use super::{ffi, PyResult, Raised};
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::ops::Deref;
use std::ptr::NonNull;

/// As a `Box`. Made and dropped with the interpreter lock held, so it is neither `Send` nor `Sync`.
#[repr(transparent)]
pub(crate) struct Small<T>(NonNull<T>, PhantomData<T>);

impl<T> Small<T> {
    /// Fails with `MemoryError`.
    #[inline]
    pub(crate) fn new(value: T) -> PyResult<Small<T>> {
        const { assert!(align_of::<T>() <= 8 && size_of::<T>() > 0) };
        // SAFETY: the lock is held; the memory is as large as a `T` and aligned as the allocator promises.
        unsafe {
            let Some(place) = NonNull::new(ffi::PyMem_Malloc(size_of::<T>()).cast::<T>()) else {
                ffi::PyErr_NoMemory();
                return Err(Raised);
            };
            place.write(value);
            Ok(Small(place, PhantomData))
        }
    }

    #[inline(always)]
    pub(crate) fn into_raw(self) -> NonNull<T> {
        let place = self.0;
        std::mem::forget(self);
        place
    }

    /// # Safety
    /// From `into_raw`, once.
    #[inline(always)]
    pub(crate) unsafe fn from_raw(place: NonNull<T>) -> Small<T> {
        Small(place, PhantomData)
    }
}

impl<T> Deref for Small<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: alive as long as this is.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Small<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: dropped once; the memory came from this allocator.
        unsafe {
            self.0.drop_in_place();
            ffi::PyMem_Free(self.0.as_ptr().cast());
        }
    }
}
