//! The OpenSSL that CPython's `_ssl` is linked with: its functions, looked up in the library that is loaded
//! already, and where an `_ssl._SSLSocket` keeps its `SSL*`. A fence like the kit: nobody else calls OpenSSL.
//!
//! Nothing is guessed: OpenSSL itself says which `SSL*` it has made (by the callback for extra data), and that
//! pointer is looked for in the object that CPython has made at the same time. No word of the object is followed
//! before. Where a symbol is missing, the library is another one (LibreSSL, AWS-LC), or the pointer is not found,
//! the connection is driven through CPython's methods instead.

use crate::import;
use crate::intern;
use crate::kit::{err, ffi, Any, Args, Obj, PyResult, Signature};
use ioxide_core::tls::engine::{Read, Written};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_ulong, c_void, CStr, CString};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

/// OpenSSL's `SSL`, `BIO` and `BIO_METHOD`; never looked into.
pub(super) enum Ssl {}
pub(super) enum Bio {}
pub(super) enum BioMethod {}

pub(super) type BioRead = unsafe extern "C" fn(*mut Bio, *mut c_char, usize, *mut usize) -> c_int;
pub(super) type BioWrite =
    unsafe extern "C" fn(*mut Bio, *const c_char, usize, *mut usize) -> c_int;
pub(super) type BioCtrl = unsafe extern "C" fn(*mut Bio, c_int, c_long, *mut c_void) -> c_long;
pub(super) type BioDestroy = unsafe extern "C" fn(*mut Bio) -> c_int;
type NewExtra =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void, c_int, c_long, *mut c_void);

macro_rules! functions {
    ($($field:ident: $symbol:literal = fn($($argument:ty),* $(,)?) $(-> $result:ty)?;)*) => {
        /// The functions, each as OpenSSL declares it.
        #[derive(Clone, Copy)]
        pub(super) struct OpenSsl {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl OpenSsl {
            /// # Safety
            /// The handle is `dlopen`'s, of a library in which these names are OpenSSL's functions.
            unsafe fn load(handle: *mut c_void) -> Option<OpenSsl> {
                Some(OpenSsl {
                    $($field: {
                        const NAME: &CStr = $symbol;
                        // SAFETY: a function of this name has this type, by the caller's promise.
                        unsafe {
                            let found = libc::dlsym(handle, NAME.as_ptr());
                            if found.is_null() {
                                return None;
                            }
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(found)
                        }
                    },)*
                })
            }
        }
    };
}

functions! {
    version_num: c"OpenSSL_version_num" = fn() -> c_ulong;
    peek_error: c"ERR_peek_error" = fn() -> c_ulong;
    clear_errors: c"ERR_clear_error" = fn();
    get_new_index: c"CRYPTO_get_ex_new_index" =
        fn(c_int, c_long, *mut c_void, Option<NewExtra>, *mut c_void, *mut c_void) -> c_int;
    free_index: c"CRYPTO_free_ex_index" = fn(c_int, c_int) -> c_int;
    ssl_read: c"SSL_read_ex" = fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int;
    ssl_write: c"SSL_write_ex" = fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int;
    ssl_get_error: c"SSL_get_error" = fn(*const Ssl, c_int) -> c_int;
    ssl_pending: c"SSL_pending" = fn(*const Ssl) -> c_int;
    ssl_get_shutdown: c"SSL_get_shutdown" = fn(*const Ssl) -> c_int;
    ssl_set_bio: c"SSL_set_bio" = fn(*mut Ssl, *mut Bio, *mut Bio);
    bio_meth_new: c"BIO_meth_new" = fn(c_int, *const c_char) -> *mut BioMethod;
    bio_get_new_index: c"BIO_get_new_index" = fn() -> c_int;
    bio_meth_set_read: c"BIO_meth_set_read_ex" = fn(*mut BioMethod, Option<BioRead>) -> c_int;
    bio_meth_set_write: c"BIO_meth_set_write_ex" = fn(*mut BioMethod, Option<BioWrite>) -> c_int;
    bio_meth_set_ctrl: c"BIO_meth_set_ctrl" = fn(*mut BioMethod, Option<BioCtrl>) -> c_int;
    bio_meth_set_destroy: c"BIO_meth_set_destroy" = fn(*mut BioMethod, Option<BioDestroy>) -> c_int;
    bio_new: c"BIO_new" = fn(*const BioMethod) -> *mut Bio;
    bio_up_ref: c"BIO_up_ref" = fn(*mut Bio) -> c_int;
    bio_free: c"BIO_free" = fn(*mut Bio) -> c_int;
    bio_set_data: c"BIO_set_data" = fn(*mut Bio, *mut c_void);
    bio_get_data: c"BIO_get_data" = fn(*mut Bio) -> *mut c_void;
    bio_set_init: c"BIO_set_init" = fn(*mut Bio, c_int);
    bio_set_flags: c"BIO_set_flags" = fn(*mut Bio, c_int);
    bio_clear_flags: c"BIO_clear_flags" = fn(*mut Bio, c_int);
}

/// `CRYPTO_EX_INDEX_SSL`.
const INDEX_OF_SSL: c_int = 0;
/// `SSL_ERROR_WANT_READ`, `SSL_ERROR_WANT_WRITE` and `SSL_ERROR_ZERO_RETURN`.
pub(super) const WANT_READ: c_int = 2;
pub(super) const WANT_WRITE: c_int = 3;
pub(super) const ZERO_RETURN: c_int = 6;
/// `SSL_RECEIVED_SHUTDOWN`, alone.
pub(super) const RECEIVED_SHUTDOWN: c_int = 2;

/// The functions, and where the objects of `_ssl` have their pointer.
#[derive(Clone, Copy)]
pub(super) struct Native {
    pub(super) functions: &'static OpenSsl,
    /// Bytes from the start of an `_ssl._SSLSocket`.
    offset: usize,
}

/// Whether to drive natively what can be. Tests switch it off, to have the other way as well.
static ENABLED: AtomicBool = AtomicBool::new(true);

/// `_set_native_tls(on)`: for the connections that begin from now on.
pub(super) fn set_enabled(args: Args<'_>) -> PyResult<()> {
    const SIGNATURE: Signature<1> = Signature::new("_set_native_tls", ["on"], 1);
    let [on] = args.bind(&SIGNATURE)?;
    ENABLED.store(on.map_or(Ok(true), Any::truthy)?, Ordering::Relaxed);
    Ok(())
}

thread_local! {
    /// The `SSL*` that OpenSSL has made last on this thread, while a probe runs.
    static MADE: Cell<*mut c_void> = const { Cell::new(std::ptr::null_mut()) };
}

unsafe extern "C" fn note_new(
    parent: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
    _: c_int,
    _: c_long,
    _: *mut c_void,
) {
    MADE.set(parent);
}

/// Makes an `ssl.SSLObject` by `make`. The pointer to its `SSL` is known if it can be driven natively.
pub(super) fn make_object(
    make: impl FnOnce() -> PyResult<Obj>,
) -> PyResult<(Obj, Option<(Native, *mut Ssl)>)> {
    static NATIVE: OnceLock<Option<Native>> = OnceLock::new();
    if !ENABLED.load(Ordering::Relaxed) {
        return Ok((make()?, None));
    }
    if let Some(known) = NATIVE.get() {
        let made = make()?;
        let native = match known {
            Some(native) => pointer_of(&made, native.offset)?.map(|ssl| (*native, ssl)),
            None => None,
        };
        return Ok((made, native));
    }
    let Some(functions) = find()? else {
        let _ = NATIVE.set(None);
        return Ok((make()?, None));
    };
    // SAFETY: the index is given back below; the callback only stores a word of this thread.
    let index = unsafe {
        (functions.get_new_index)(
            INDEX_OF_SSL,
            0,
            std::ptr::null_mut(),
            Some(note_new),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    MADE.set(std::ptr::null_mut());
    let made = make();
    let pointer = MADE.replace(std::ptr::null_mut());
    if index >= 0 {
        // SAFETY: the index is the one from above. After this the callback is not called any more.
        unsafe { (functions.free_index)(INDEX_OF_SSL, index) };
    }
    let made = made?;
    if pointer.is_null() {
        // The context makes objects in another way; the next one may not.
        return Ok((made, None));
    }
    let Some(inner) = inner_object(&made)? else {
        return Ok((made, None));
    };
    let native = offset_of(&inner, pointer).map(|offset| Native { functions, offset });
    let native = *NATIVE.get_or_init(|| native);
    Ok((made, native.map(|native| (native, pointer.cast()))))
}

/// Where the object has this word.
fn offset_of(object: &Any, word: *mut c_void) -> Option<usize> {
    const WORD: usize = size_of::<*mut c_void>();
    // SAFETY: a live object of at least its type's basic size, of which whole words behind the head are read.
    unsafe {
        let size = (*object.type_raw()).tp_basicsize as usize;
        let first = size_of::<ffi::PyObject>();
        let start = object.raw().cast::<u8>().cast_const();
        (first..size.saturating_sub(WORD - 1))
            .step_by(WORD)
            .find(|offset| start.add(*offset).cast::<*mut c_void>().read() == word)
    }
}

/// The `_ssl._SSLSocket` of an `ssl.SSLObject`; nothing for a class of the program's, which may have methods of
/// its own.
fn inner_object(object: &Any) -> PyResult<Option<Obj>> {
    if !object.class().is(import!("ssl", "SSLObject")?) {
        return Ok(None);
    }
    let inner = object.attr(intern!("_sslobj"))?;
    Ok(inner
        .class()
        .is(import!("_ssl", "_SSLSocket")?)
        .then_some(inner))
}

fn pointer_of(object: &Any, offset: usize) -> PyResult<Option<*mut Ssl>> {
    let Some(inner) = inner_object(object)? else {
        return Ok(None);
    };
    // SAFETY: an object of the class in which the pointer was found at this offset.
    let pointer = unsafe { *inner.raw().cast::<u8>().add(offset).cast::<*mut Ssl>() };
    Ok((!pointer.is_null()).then_some(pointer))
}

/// The functions of the library that `_ssl` uses.
fn find() -> PyResult<Option<&'static OpenSsl>> {
    if std::env::var_os("IOXIDE_TLS").is_some_and(|engine| engine == "python") {
        return Ok(None);
    }
    let version = import!("ssl", "OPENSSL_VERSION")?;
    if !version.to_str()?.starts_with("OpenSSL ") {
        return Ok(None);
    }
    // Where `_ssl` is part of the program itself there is no file.
    let module = import!("_ssl", "")?;
    let file = module.attr_opt(intern!("__file__"))?;
    let path = match &file {
        Some(file) if file.is_str() => CString::new(file.to_str()?).ok(),
        _ => None,
    };
    let name = path.as_deref().map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: a library that is loaded already, or the program; it is never unloaded, since the module is not.
    let functions = unsafe {
        let handle = libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return Ok(None);
        }
        OpenSsl::load(handle)
    };
    let Some(functions) = functions else {
        return Ok(None);
    };
    // SAFETY: takes nothing.
    let number = unsafe { (functions.version_num)() };
    let expected = import!("_ssl", "OPENSSL_VERSION_NUMBER")?.to_i64()?;
    if i64::try_from(number) != Ok(expected) || err::is_set() {
        return Ok(None);
    }
    static FUNCTIONS: OnceLock<OpenSsl> = OnceLock::new();
    Ok(Some(FUNCTIONS.get_or_init(|| functions)))
}

impl Native {
    /// Has the connection read from the tape and write to it.
    pub(super) fn attach(&self, ssl: *mut Ssl, tape: &super::bio::Tape) {
        // SAFETY: both are alive; one reference is given away, which covers both directions.
        unsafe {
            let bio = tape.share();
            (self.functions.ssl_set_bio)(ssl, bio, bio);
        }
    }

    /// How many bytes are decrypted and wait.
    #[inline]
    pub(super) fn pending(&self, ssl: *mut Ssl) -> usize {
        // SAFETY: alive by the caller's promise.
        unsafe { (self.functions.ssl_pending)(ssl) }.max(0) as usize
    }

    /// Forgets the errors that others on this thread may have left in OpenSSL's list: they would be taken for ours.
    /// Clearing costs as much as a tenth of encrypting a small record, whether there is something to clear or not.
    #[inline]
    fn forget_errors(&self) {
        // SAFETY: neither takes anything.
        unsafe {
            if (self.functions.peek_error)() != 0 {
                (self.functions.clear_errors)();
            }
        }
    }

    /// Decrypts. Nothing is an error that the object's own method finds again, and tells of: OpenSSL's list of
    /// errors still has it.
    #[inline]
    pub(super) fn read(&self, ssl: *mut Ssl, space: &mut [MaybeUninit<u8>]) -> Option<Read> {
        let mut count = 0;
        // SAFETY: the object is alive by the caller's promise; the space has room for as many bytes as it says.
        unsafe {
            self.forget_errors();
            let space_start = space.as_mut_ptr().cast();
            let result = (self.functions.ssl_read)(ssl, space_start, space.len(), &mut count);
            if result == 1 {
                return Some(Read::Bytes(count));
            }
            match (self.functions.ssl_get_error)(ssl, result) {
                WANT_READ | WANT_WRITE => Some(Read::Blocked),
                ZERO_RETURN if (self.functions.ssl_get_shutdown)(ssl) == RECEIVED_SHUTDOWN => {
                    Some(Read::Closed)
                }
                _ => None,
            }
        }
    }

    /// Encrypts; as [`Native::read`].
    #[inline]
    pub(super) fn write(&self, ssl: *mut Ssl, data: &[u8]) -> Option<Written> {
        let mut count = 0;
        // SAFETY: the object is alive by the caller's promise.
        unsafe {
            self.forget_errors();
            let result =
                (self.functions.ssl_write)(ssl, data.as_ptr().cast(), data.len(), &mut count);
            if result == 1 {
                return Some(Written::Bytes(count));
            }
            match (self.functions.ssl_get_error)(ssl, result) {
                WANT_READ | WANT_WRITE => Some(Written::Blocked),
                _ => None,
            }
        }
    }
}
