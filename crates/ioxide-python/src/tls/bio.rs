//! The two ends of an OpenSSL connection in memory: encrypted bytes are read from where they were received, and
//! written to where they are sent from. A fence like the kit.

use super::openssl::{Bio, BioMethod, OpenSsl};
use ioxide_core::buffer::receive::Receive;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::sync::OnceLock;

/// `BIO_TYPE_SOURCE_SINK`.
const SOURCE_SINK: c_int = 0x0400;
/// `BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY`.
const RETRY_READ: c_int = 0x01 | 0x08;
/// `BIO_CTRL_PENDING`, `BIO_CTRL_FLUSH` and `BIO_CTRL_WPENDING`.
const CTRL_PENDING: c_int = 10;
const CTRL_FLUSH: c_int = 11;
const CTRL_WPENDING: c_int = 13;

/// What a BIO holds. It belongs to the BIO, which may outlive the connection.
struct Ends {
    functions: &'static OpenSsl,
    /// What was received before and not read yet.
    kept: Receive,
    /// What comes after that: received just now, and the receiver's as long as [`Tape::lend`] runs.
    lent: *const u8,
    lent_len: usize,
    /// The flag that says "try again" is set.
    retry: bool,
    output: Vec<u8>,
    /// The output is in the loop's buffer.
    room_lent: bool,
}

/// One connection's BIO.
pub(super) struct Tape {
    bio: *mut Bio,
    ends: *mut Ends,
    functions: &'static OpenSsl,
}

impl Tape {
    /// Nothing if memory is short.
    pub(super) fn new(functions: &'static OpenSsl) -> Option<Tape> {
        let method = method(functions)?;
        // SAFETY: the method lives for ever. The data are freed by the BIO's end, in `destroy`.
        unsafe {
            let bio = (functions.bio_new)(method);
            if bio.is_null() {
                return None;
            }
            let ends = Box::into_raw(Box::new(Ends {
                functions,
                kept: Receive::default(),
                lent: std::ptr::null(),
                lent_len: 0,
                retry: false,
                output: Vec::new(),
                room_lent: false,
            }));
            (functions.bio_set_data)(bio, ends.cast());
            (functions.bio_set_init)(bio, 1);
            Some(Tape {
                bio,
                ends,
                functions,
            })
        }
    }

    /// One more reference, for OpenSSL to give back.
    pub(super) fn share(&self) -> *mut Bio {
        // SAFETY: alive.
        unsafe { (self.functions.bio_up_ref)(self.bio) };
        self.bio
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn ends(&self) -> &mut Ends {
        // SAFETY: our reference to the BIO keeps them. OpenSSL's callbacks borrow them for themselves, on this
        // thread, and return before anything else runs.
        unsafe { &mut *self.ends }
    }

    /// How many received bytes were not read yet.
    #[inline]
    pub(super) fn pending(&self) -> usize {
        let ends = self.ends();
        ends.kept.len() + ends.lent_len
    }

    /// Keeps a copy of received bytes.
    pub(super) fn keep(&self, data: &[u8]) {
        let ends = self.ends();
        ends.keep_lent();
        ends.kept.append(data);
    }

    /// Runs `f` with these bytes to be read; what is left of them afterwards is kept.
    #[inline]
    pub(super) fn lend<R>(&self, data: &[u8], f: impl FnOnce() -> R) -> R {
        /// Takes the bytes back, whatever `f` does.
        struct Loan<'a>(&'a Tape);
        impl Drop for Loan<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.ends().keep_lent();
            }
        }
        let ends = self.ends();
        if ends.lent_len > 0 || !ends.kept.is_empty() {
            self.keep(data);
            return f();
        }
        ends.lent = data.as_ptr();
        ends.lent_len = data.len();
        let loan = Loan(self);
        let result = f();
        drop(loan);
        result
    }

    /// How many encrypted bytes wait to be sent.
    #[inline]
    pub(super) fn output_len(&self) -> usize {
        self.ends().output.len()
    }

    /// Takes what is to be sent.
    #[inline]
    pub(super) fn take_output(&self) -> Vec<u8> {
        let ends = self.ends();
        ends.room_lent = false;
        std::mem::take(&mut ends.output)
    }

    /// Gives room for what is to be sent, unless there is some.
    #[inline]
    pub(super) fn give_room(&self, room: impl FnOnce() -> Vec<u8>) {
        let ends = self.ends();
        if ends.output.capacity() == 0 {
            ends.output = room();
            ends.room_lent = true;
        }
    }

    /// What is to be sent moves to memory of its own; the room that was given comes back.
    pub(super) fn keep_output(&self) -> Option<Vec<u8>> {
        let ends = self.ends();
        if !ends.room_lent {
            return None;
        }
        ends.room_lent = false;
        let own = ends.output.clone();
        Some(std::mem::replace(&mut ends.output, own))
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // SAFETY: gives back the reference of `new`.
        unsafe { (self.functions.bio_free)(self.bio) };
    }
}

impl Ends {
    /// What is left of a loan is copied, before its owner takes it back.
    #[inline]
    fn keep_lent(&mut self) {
        if self.lent_len > 0 {
            // SAFETY: the loan still runs.
            let rest = unsafe { std::slice::from_raw_parts(self.lent, self.lent_len) };
            self.kept.append(rest);
            self.lent_len = 0;
        } else if self.kept.is_empty() {
            // A connection at rest holds no memory.
            self.kept = Receive::default();
        }
        self.lent = std::ptr::null();
    }

    /// Takes as many bytes as there are room and bytes.
    #[inline]
    unsafe fn read(&mut self, space: *mut u8, room: usize) -> usize {
        // SAFETY: `space` has room for so many bytes; neither source overlaps it.
        unsafe {
            if !self.kept.is_empty() {
                let count = room.min(self.kept.len());
                std::ptr::copy_nonoverlapping(self.kept.window().as_ptr(), space, count);
                self.kept.consume(count);
                return count;
            }
            let count = room.min(self.lent_len);
            if count > 0 {
                std::ptr::copy_nonoverlapping(self.lent, space, count);
                self.lent = self.lent.add(count);
                self.lent_len -= count;
            }
            count
        }
    }
}

/// Where a BIO's data are. `None` while it is made.
unsafe fn ends_of<'a>(functions: &OpenSsl, bio: *mut Bio) -> Option<&'a mut Ends> {
    // SAFETY: the data are null or what `Tape::new` has stored.
    unsafe { (functions.bio_get_data)(bio).cast::<Ends>().as_mut() }
}

/// The functions are the same for all BIOs: there is one OpenSSL.
static SHARED: OnceLock<&'static OpenSsl> = OnceLock::new();

unsafe extern "C" fn read(
    bio: *mut Bio,
    space: *mut c_char,
    room: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: as OpenSSL calls it: room for so many bytes, and a place for their number.
    unsafe {
        *count = 0;
        let Some(ends) = SHARED.get().and_then(|functions| ends_of(functions, bio)) else {
            return 0;
        };
        let taken = ends.read(space.cast(), room);
        if taken == 0 {
            ends.retry = true;
            (ends.functions.bio_set_flags)(bio, RETRY_READ);
            return -1;
        }
        if ends.retry {
            ends.retry = false;
            (ends.functions.bio_clear_flags)(bio, RETRY_READ);
        }
        *count = taken;
        1
    }
}

unsafe extern "C" fn write(
    bio: *mut Bio,
    data: *const c_char,
    size: usize,
    count: *mut usize,
) -> c_int {
    // SAFETY: as OpenSSL calls it: so many bytes, and a place for their number.
    unsafe {
        *count = 0;
        let Some(ends) = SHARED.get().and_then(|functions| ends_of(functions, bio)) else {
            return 0;
        };
        if ends.retry {
            ends.retry = false;
            (ends.functions.bio_clear_flags)(bio, RETRY_READ);
        }
        let data = std::slice::from_raw_parts(data.cast::<u8>(), size);
        ends.output.extend_from_slice(data);
        *count = size;
        1
    }
}

unsafe extern "C" fn control(
    bio: *mut Bio,
    command: c_int,
    _argument: c_long,
    _pointer: *mut c_void,
) -> c_long {
    // SAFETY: one of our BIOs.
    let ends = unsafe { SHARED.get().and_then(|functions| ends_of(functions, bio)) };
    match (command, ends) {
        (CTRL_FLUSH, _) => 1,
        (CTRL_PENDING, Some(ends)) => (ends.kept.len() + ends.lent_len) as c_long,
        (CTRL_WPENDING, Some(ends)) => ends.output.len() as c_long,
        _ => 0,
    }
}

unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    // SAFETY: the last reference is gone; the data are what `Tape::new` has stored, or null.
    unsafe {
        let Some(functions) = SHARED.get() else {
            return 1;
        };
        let ends = (functions.bio_get_data)(bio).cast::<Ends>();
        if !ends.is_null() {
            (functions.bio_set_data)(bio, std::ptr::null_mut());
            drop(Box::from_raw(ends));
        }
    }
    1
}

/// The one method of all our BIOs.
fn method(functions: &'static OpenSsl) -> Option<*const BioMethod> {
    struct Method(*mut BioMethod);
    // SAFETY: not written to once it stands.
    unsafe impl Send for Method {}
    // SAFETY: as above.
    unsafe impl Sync for Method {}
    static METHOD: OnceLock<Option<Method>> = OnceLock::new();
    let made = METHOD.get_or_init(|| {
        SHARED.get_or_init(|| functions);
        // SAFETY: a new method, whose functions have the types that are asked for.
        unsafe {
            let kind = (functions.bio_get_new_index)();
            if kind < 0 {
                return None;
            }
            let made = (functions.bio_meth_new)(kind | SOURCE_SINK, c"ioxide".as_ptr());
            let whole = !made.is_null()
                && (functions.bio_meth_set_read)(made, Some(read)) == 1
                && (functions.bio_meth_set_write)(made, Some(write)) == 1
                && (functions.bio_meth_set_ctrl)(made, Some(control)) == 1
                && (functions.bio_meth_set_destroy)(made, Some(destroy)) == 1;
            whole.then_some(Method(made))
        }
    });
    made.as_ref().map(|method| method.0.cast_const())
}
