//! Values: strings, numbers, tuples, lists, dicts and bytes, in and out.

use super::{err, ffi, Any, Obj, PyResult, Raised};
use std::ffi::CString;
use std::mem::MaybeUninit;

pub(crate) fn str(text: &str) -> PyResult<Obj> {
    // SAFETY: valid UTF-8 of this length.
    unsafe {
        Obj::steal_or_raised(ffi::PyUnicode_FromStringAndSize(
            text.as_ptr().cast(),
            text.len() as ffi::Py_ssize_t,
        ))
    }
}

pub(crate) fn c_string(text: &str) -> PyResult<CString> {
    CString::new(text).map_err(|_| err::raise(err::value_error(), "embedded null character"))
}

pub(crate) fn bool(value: bool) -> Obj {
    // SAFETY: the singletons are always alive.
    unsafe {
        Obj::from_borrowed(if value {
            ffi::Py_True()
        } else {
            ffi::Py_False()
        })
    }
}

pub(crate) fn int(value: i64) -> PyResult<Obj> {
    // SAFETY: a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyLong_FromLongLong(value)) }
}

pub(crate) fn float(value: f64) -> PyResult<Obj> {
    // SAFETY: a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyFloat_FromDouble(value)) }
}

pub(crate) fn bytes(data: &[u8]) -> PyResult<Obj> {
    // SAFETY: the bytes are copied.
    unsafe {
        Obj::steal_or_raised(ffi::PyBytes_FromStringAndSize(
            data.as_ptr().cast(),
            data.len() as ffi::Py_ssize_t,
        ))
    }
}

/// A bytes object that `fill` writes: it is given room for `capacity` bytes and says how many it has
/// initialised. Whatever else it says is given back instead. `fill` runs no Python code.
pub(crate) fn bytes_filled<E>(
    capacity: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<usize, E>,
) -> PyResult<Result<Obj, E>> {
    extern "C" {
        fn _PyBytes_Resize(bytes: *mut super::Raw, size: ffi::Py_ssize_t) -> std::ffi::c_int;
    }
    // SAFETY: a new object that nobody else has seen, so it may be written to and resized. Resizing frees it
    // if it fails.
    unsafe {
        let made = Obj::steal_or_raised(ffi::PyBytes_FromStringAndSize(
            std::ptr::null(),
            capacity as ffi::Py_ssize_t,
        ))?;
        let start = ffi::PyBytes_AsString(made.raw()).cast::<MaybeUninit<u8>>();
        let count = match fill(std::slice::from_raw_parts_mut(start, capacity)) {
            Ok(count) => count.min(capacity),
            Err(other) => return Ok(Err(other)),
        };
        if count == capacity {
            return Ok(Ok(made));
        }
        let mut raw = made.into_raw();
        if _PyBytes_Resize(&mut raw, count as ffi::Py_ssize_t) != 0 {
            return Err(Raised);
        }
        Ok(Ok(Obj::steal(raw)))
    }
}

/// A bytes object of two parts.
pub(crate) fn bytes_joined(first: &[u8], second: &[u8]) -> PyResult<Obj> {
    let filled = bytes_filled(first.len() + second.len(), |room| {
        let (start, end) = room.split_at_mut(first.len());
        start.write_copy_of_slice(first);
        end.write_copy_of_slice(second);
        Ok::<_, std::convert::Infallible>(first.len() + second.len())
    })?;
    match filled {
        Ok(bytes) => Ok(bytes),
        Err(never) => match never {},
    }
}

/// A tuple of these objects.
pub(crate) fn tuple(items: &[&Any]) -> PyResult<Obj> {
    // SAFETY: every slot of the new tuple is filled with a new reference.
    unsafe {
        let made = Obj::steal_or_raised(ffi::PyTuple_New(items.len() as ffi::Py_ssize_t))?;
        for (index, item) in items.iter().enumerate() {
            ffi::PyTuple_SET_ITEM(made.raw(), index as ffi::Py_ssize_t, item.own().into_raw());
        }
        Ok(made)
    }
}

/// A new tuple that takes these references.
pub(crate) fn tuple_of(items: impl ExactSizeIterator<Item = Obj>) -> PyResult<Obj> {
    // SAFETY: every slot of the new tuple is filled; the iterator says exactly how many there are.
    unsafe {
        let made = Obj::steal_or_raised(ffi::PyTuple_New(items.len() as ffi::Py_ssize_t))?;
        for (index, item) in items.enumerate() {
            ffi::PyTuple_SET_ITEM(made.raw(), index as ffi::Py_ssize_t, item.into_raw());
        }
        Ok(made)
    }
}

/// `tuple(iterable)`.
pub(crate) fn tuple_from(iterable: &Any) -> PyResult<Obj> {
    // SAFETY: alive; a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PySequence_Tuple(iterable.raw())) }
}

/// `set(iterable)`.
pub(crate) fn set_of(iterable: &Any) -> PyResult<Obj> {
    // SAFETY: alive; a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PySet_New(iterable.raw())) }
}

/// A new list that takes these references.
pub(crate) fn list(items: impl ExactSizeIterator<Item = Obj>) -> PyResult<Obj> {
    // SAFETY: every slot of the new list is filled; the iterator says exactly how many there are.
    unsafe {
        let made = Obj::steal_or_raised(ffi::PyList_New(items.len() as ffi::Py_ssize_t))?;
        for (index, item) in items.enumerate() {
            ffi::PyList_SET_ITEM(made.raw(), index as ffi::Py_ssize_t, item.into_raw());
        }
        Ok(made)
    }
}

pub(crate) fn dict() -> PyResult<Obj> {
    // SAFETY: a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PyDict_New()) }
}

pub(crate) fn set() -> PyResult<Obj> {
    // SAFETY: a new reference or null.
    unsafe { Obj::steal_or_raised(ffi::PySet_New(std::ptr::null_mut())) }
}

impl Any {
    pub(crate) fn dict_set(&self, key: &Any, value: &Any) -> PyResult<()> {
        // SAFETY: all are alive; a non-dict is an error, not undefined.
        check(unsafe { ffi::PyDict_SetItem(self.raw(), key.raw(), value.raw()) })
    }

    /// Takes the key out of the dict, if it is there.
    pub(crate) fn dict_discard(&self, key: &Any) -> PyResult<()> {
        // SAFETY: both are alive; a non-dict is an error, not undefined.
        match check(unsafe { ffi::PyDict_DelItem(self.raw(), key.raw()) }) {
            Err(raised) if err::matches(err::key_error()) => {
                err::discard(raised);
                Ok(())
            }
            result => result,
        }
    }

    /// The value, if the dict has the key.
    pub(crate) fn dict_get(&self, key: &Any) -> PyResult<Option<Obj>> {
        // SAFETY: all are alive; the result is borrowed from the dict and owned at once.
        unsafe {
            let found = ffi::PyDict_GetItemWithError(self.raw(), key.raw());
            if !found.is_null() {
                return Ok(Some(Obj::from_borrowed(found)));
            }
        }
        if err::is_set() {
            Err(Raised)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn list_push(&self, item: &Any) -> PyResult<()> {
        // SAFETY: both are alive.
        check(unsafe { ffi::PyList_Append(self.raw(), item.raw()) })
    }

    pub(crate) fn set_add(&self, item: &Any) -> PyResult<()> {
        // SAFETY: both are alive.
        check(unsafe { ffi::PySet_Add(self.raw(), item.raw()) })
    }

    pub(crate) fn set_discard(&self, item: &Any) -> PyResult<()> {
        // SAFETY: both are alive.
        check(unsafe { ffi::PySet_Discard(self.raw(), item.raw()) }.min(0))
    }

    pub(crate) fn is_tuple(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyTuple_Check(self.raw()) != 0 }
    }

    pub(crate) fn is_str(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyUnicode_Check(self.raw()) != 0 }
    }

    pub(crate) fn is_bytes(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyBytes_Check(self.raw()) != 0 }
    }

    pub(crate) fn is_float(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyFloat_Check(self.raw()) != 0 }
    }

    /// Whether the object is of one of the commonest classes whose instances go without a trace.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let class = self.type_raw();
        let plain = [
            &raw mut ffi::PyLong_Type,
            &raw mut ffi::PyFloat_Type,
            &raw mut ffi::PyUnicode_Type,
            &raw mut ffi::PyBytes_Type,
        ];
        plain.contains(&class)
    }

    pub(crate) fn is_int(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyLong_Check(self.raw()) != 0 }
    }

    /// Whether this is a function or bound method in native code.
    pub(crate) fn is_builtin_function(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyCFunction_Check(self.raw()) != 0 }
    }

    pub(crate) fn is_callable(&self) -> bool {
        // SAFETY: alive.
        unsafe { ffi::PyCallable_Check(self.raw()) != 0 }
    }

    /// The items of a tuple.
    pub(crate) fn tuple_items(&self) -> &[&Any] {
        debug_assert!(self.is_tuple());
        // SAFETY: a tuple's items are a contiguous array of non-null pointers, as `&Any` is one; the
        // tuple is immutable and keeps them alive.
        unsafe {
            let size = ffi::PyTuple_GET_SIZE(self.raw()) as usize;
            let tuple = self.raw().cast::<ffi::PyTupleObject>();
            std::slice::from_raw_parts((&raw const (*tuple).ob_item).cast::<&Any>(), size)
        }
    }

    /// The text of a string; an error for anything else.
    pub(crate) fn to_str(&self) -> PyResult<&str> {
        let mut size = 0;
        // SAFETY: the string caches its UTF-8 form and keeps it as long as it lives.
        unsafe {
            let data = ffi::PyUnicode_AsUTF8AndSize(self.raw(), &mut size);
            if data.is_null() {
                return Err(Raised);
            }
            Ok(std::str::from_utf8_unchecked(std::slice::from_raw_parts(
                data.cast(),
                size as usize,
            )))
        }
    }

    /// The content of a bytes object.
    pub(crate) fn bytes_content(&self) -> &[u8] {
        debug_assert!(self.is_bytes());
        // SAFETY: bytes are immutable and live as long as the object.
        unsafe {
            std::slice::from_raw_parts(
                ffi::PyBytes_AsString(self.raw()).cast(),
                ffi::PyBytes_Size(self.raw()) as usize,
            )
        }
    }

    pub(crate) fn to_i64(&self) -> PyResult<i64> {
        // SAFETY: alive; -1 with an exception set is an error.
        let value = unsafe { ffi::PyLong_AsLongLong(self.raw()) };
        if value == -1 && err::is_set() {
            return Err(Raised);
        }
        Ok(value)
    }

    pub(crate) fn to_f64(&self) -> PyResult<f64> {
        // SAFETY: alive; -1.0 with an exception set is an error. Of an int the other function makes a float first.
        let value = unsafe {
            if ffi::PyLong_CheckExact(self.raw()) != 0 {
                ffi::PyLong_AsDouble(self.raw())
            } else {
                ffi::PyFloat_AsDouble(self.raw())
            }
        };
        if value == -1.0 && err::is_set() {
            return Err(Raised);
        }
        Ok(value)
    }

    pub(crate) fn truthy(&self) -> PyResult<bool> {
        // SAFETY: alive.
        match unsafe { ffi::PyObject_IsTrue(self.raw()) } {
            -1 => Err(Raised),
            answer => Ok(answer != 0),
        }
    }

    pub(crate) fn equals(&self, other: &Any) -> PyResult<bool> {
        // SAFETY: both alive.
        match unsafe { ffi::PyObject_RichCompareBool(self.raw(), other.raw(), ffi::Py_EQ) } {
            -1 => Err(Raised),
            answer => Ok(answer != 0),
        }
    }

    pub(crate) fn plus(&self, other: &Any) -> PyResult<Obj> {
        // SAFETY: both alive; a new reference or null.
        unsafe { Obj::steal_or_raised(ffi::PyNumber_Add(self.raw(), other.raw())) }
    }

    pub(crate) fn at_most(&self, other: &Any) -> PyResult<bool> {
        // SAFETY: both alive.
        match unsafe { ffi::PyObject_RichCompareBool(self.raw(), other.raw(), ffi::Py_LE) } {
            -1 => Err(Raised),
            answer => Ok(answer != 0),
        }
    }

    pub(crate) fn repr(&self) -> PyResult<Obj> {
        // SAFETY: alive.
        unsafe { Obj::steal_or_raised(ffi::PyObject_Repr(self.raw())) }
    }

    /// `str()` as Rust text, for messages; what has none is shown by its `repr()`.
    pub(crate) fn str_text(&self) -> String {
        // SAFETY: alive; a new reference or null.
        let text = unsafe { Obj::steal_or_raised(ffi::PyObject_Str(self.raw())) };
        match text.and_then(|text| text.to_str().map(str::to_owned)) {
            Ok(text) => text,
            Err(raised) => {
                err::discard(raised);
                self.repr_text()
            }
        }
    }

    /// `repr()` as Rust text, for messages; what cannot be shown is named by its type.
    pub(crate) fn repr_text(&self) -> String {
        match self.repr() {
            Ok(text) => match text.to_str() {
                Ok(text) => text.to_owned(),
                Err(raised) => {
                    err::discard(raised);
                    format!("<{} object>", self.type_name())
                }
            },
            Err(raised) => {
                err::discard(raised);
                format!("<{} object>", self.type_name())
            }
        }
    }

    /// The name of the object's type, without its module.
    pub(crate) fn type_name(&self) -> String {
        // SAFETY: a type's name is a NUL-terminated string that lives as long as the type.
        let full = unsafe { std::ffi::CStr::from_ptr((*self.type_raw()).tp_name) };
        let full = full.to_string_lossy();
        full.rsplit('.').next().unwrap_or_default().to_owned()
    }

    /// The name of the object's type with its module, as the interpreter's own messages have it.
    #[cfg(Py_3_15)]
    pub(crate) fn full_type_name(&self) -> PyResult<String> {
        // SAFETY: a live object's type; the result is a new reference or null.
        let name =
            unsafe { Obj::steal_or_raised(ffi::PyType_GetFullyQualifiedName(self.type_raw()))? };
        Ok(name.to_str()?.to_owned())
    }

    pub(crate) fn iter(&self) -> PyResult<Obj> {
        // SAFETY: alive.
        unsafe { Obj::steal_or_raised(ffi::PyObject_GetIter(self.raw())) }
    }

    /// The next item of an iterator, `None` at its end.
    pub(crate) fn next(&self) -> PyResult<Option<Obj>> {
        // SAFETY: an iterator; null without an exception is the end.
        let raw = unsafe { ffi::PyIter_Next(self.raw()) };
        if raw.is_null() {
            return if err::is_set() { Err(Raised) } else { Ok(None) };
        }
        // SAFETY: a new reference.
        Ok(Some(unsafe { Obj::steal(raw) }))
    }

    /// A list of everything that iterating yields.
    pub(crate) fn collect(&self) -> PyResult<Vec<Obj>> {
        let iterator = self.iter()?;
        let mut items = Vec::new();
        while let Some(item) = iterator.next()? {
            items.push(item);
        }
        Ok(items)
    }

    pub(crate) fn len(&self) -> PyResult<usize> {
        // SAFETY: alive.
        match unsafe { ffi::PyObject_Length(self.raw()) } {
            -1 => Err(Raised),
            length => Ok(length as usize),
        }
    }
}

/// Turns a C status (0, or -1 with an exception set) into a result.
#[inline(always)]
pub(crate) fn check(status: std::ffi::c_int) -> PyResult<()> {
    if status < 0 {
        Err(Raised)
    } else {
        Ok(())
    }
}
