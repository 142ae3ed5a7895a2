//! Interned strings and imported objects, each made once and kept for the life of the process.

use super::{ffi, value, Any, Obj, PyResult};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A slot for an interned string; see [`intern!`](crate::intern).
pub(crate) struct Interned {
    text: &'static str,
    slot: AtomicPtr<ffi::PyObject>,
}

impl Interned {
    pub(crate) const fn new(text: &'static str) -> Interned {
        Interned {
            text,
            slot: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline(always)]
    pub(crate) fn get(&'static self) -> &'static Any {
        let raw = self.slot.load(Ordering::Relaxed);
        if raw.is_null() {
            self.make()
        } else {
            // SAFETY: the slot owns its string for ever.
            unsafe { Any::from_raw(raw) }
        }
    }

    #[cold]
    fn make(&'static self) -> &'static Any {
        // SAFETY: the text is UTF-8 of this length; the result is interned in place and leaked.
        unsafe {
            let mut raw = ffi::PyUnicode_FromStringAndSize(
                self.text.as_ptr().cast(),
                self.text.len() as ffi::Py_ssize_t,
            );
            if raw.is_null() {
                ffi::PyErr_Clear();
                return Any::from_raw(ffi::Py_None());
            }
            ffi::PyUnicode_InternInPlace(&mut raw);
            self.slot.store(raw, Ordering::Relaxed);
            Any::from_raw(raw)
        }
    }
}

/// The interned string: `intern!("cancel")` is a `&'static Any`.
#[macro_export]
macro_rules! intern {
    ($text:literal) => {{
        static SLOT: $crate::kit::names::Interned = $crate::kit::names::Interned::new($text);
        SLOT.get()
    }};
}

/// A slot for an imported object; see [`import!`](crate::import).
pub(crate) struct Imported {
    module: &'static str,
    name: &'static str,
    slot: AtomicPtr<ffi::PyObject>,
}

impl Imported {
    pub(crate) const fn new(module: &'static str, name: &'static str) -> Imported {
        Imported {
            module,
            name,
            slot: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline(always)]
    pub(crate) fn get(&'static self) -> PyResult<&'static Any> {
        let raw = self.slot.load(Ordering::Relaxed);
        if raw.is_null() {
            self.load()
        } else {
            // SAFETY: the slot owns its object for ever.
            Ok(unsafe { Any::from_raw(raw) })
        }
    }

    #[cold]
    fn load(&'static self) -> PyResult<&'static Any> {
        let object = import_now(self.module, self.name)?;
        let raw = object.into_raw();
        self.slot.store(raw, Ordering::Relaxed);
        // SAFETY: the slot owns its object for ever.
        Ok(unsafe { Any::from_raw(raw) })
    }
}

/// `module.name`, looked up now (so that a replaced attribute is seen); an empty name is the module itself.
pub(crate) fn import_now(module: &str, name: &str) -> PyResult<Obj> {
    let module_name = value::str(module)?;
    // SAFETY: the name is a string; the result is a new reference or null.
    let module = unsafe { Obj::steal_or_raised(ffi::PyImport_Import(module_name.raw()))? };
    if name.is_empty() {
        return Ok(module);
    }
    let name = value::str(name)?;
    module.attr(&name)
}

/// The object, imported at first use: `import!("logging", "getLogger")?`.
///
/// Only for what nobody replaces; what tests and frameworks patch is looked up each time.
#[macro_export]
macro_rules! import {
    ($module:literal, $name:literal) => {{
        static SLOT: $crate::kit::names::Imported =
            $crate::kit::names::Imported::new($module, $name);
        SLOT.get()
    }};
}
