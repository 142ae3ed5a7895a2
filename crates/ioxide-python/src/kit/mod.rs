//! The fence around the C-API: the only place that knows how to talk to the interpreter.
//!
//! Everything outside of it speaks in these words:
//!
//! | word | meaning |
//! |---|---|
//! | [`Any`] | some Python object, borrowed (`&Any`) |
//! | [`Obj`] | some Python object, one reference owned |
//! | [`Own<T>`](Own) | the same, known to be of the native class `T` |
//! | [`ObjCell`] | a field of a native class that holds a reference or nothing |
//! | [`PyResult`] / [`Raised`] | `Err(Raised)` says "an exception is set in this thread", as NULL does in C |
//! | [`Args`] | the arguments of a vectorcall |
//! | [`Class`] | a heap type made at import |
//!
//! # The one precondition
//!
//! A thread that calls anything here holds the interpreter lock. [`Any`], [`Obj`] and native classes
//! are neither `Send` nor `Sync`; code that gives up the lock does it in [`gil::released`], whose
//! closure cannot name them. So a function outside of the kit that *has* an `&Any` may rely on the
//! lock, and needs no token to prove it.
//!
//! # Re-entrancy
//!
//! Every reference that is dropped may run a finalizer, and every call may run anything. Native classes
//! therefore keep their state in `Cell`s and `ObjCell`s, and no borrow of it is alive across such a point.

pub(crate) mod args;
pub(crate) mod audit;
pub(crate) mod buffer;
pub(crate) mod builder;
pub(crate) mod bytearray;
pub(crate) mod call;
pub(crate) mod class;
pub(crate) mod context;
pub(crate) mod err;
pub(crate) mod gil;
pub(crate) mod names;
pub(crate) mod obj;
pub(crate) mod path;
pub(crate) mod send;
pub(crate) mod small;
pub(crate) mod socket;
pub(crate) mod spare;
pub(crate) mod stop;
pub(crate) mod text;
pub(crate) mod value;
pub(crate) mod weak;
pub(crate) mod word;

pub(crate) use args::{Args, Signature};
pub(crate) use class::{Class, ClassSpec, Head, Native, Visitor};
pub(crate) use err::{PyResult, Raised};
pub(crate) use obj::{Any, Obj, ObjCell, Own};
pub(crate) use pyo3_ffi as ffi;
pub(crate) use small::Small;
pub(crate) use word::Word;

/// A raw reference as the C-API has it.
pub(crate) type Raw = *mut ffi::PyObject;
