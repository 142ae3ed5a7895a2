//! Files: operations that run on a thread, each awaited without a future.
//!
//! An [`Operation`](operation::Operation) is either a whole operation of the core, done without the interpreter
//! lock, or any function. Operations on one file go through its [`Strand`](strand::Strand), one at a time.
//! What the objects of `open()` do without a thread is in [`reading`] and [`writing`], the rest of them in
//! `python/ioxide/files`.

mod object;
pub(crate) mod operation;
pub(crate) mod reading;
mod serving;
pub(crate) mod strand;
pub(crate) mod whole;
pub(crate) mod writing;

use crate::kit::{ffi, Any, Args, Obj, PyResult, Signature};
use ioxide_core::files::write::Mode;
use operation::{Operation, COPY, READ, WRITE};
use whole::Whole;

/// `read_bytes(path)`.
fn read_bytes(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> = Signature::new("read_bytes", ["path"], 1);
    let [path] = args.bind(&SIGNATURE)?;
    Operation::whole(&READ, Whole::read(path, None))
}

/// `_read_file(path, after)`: what `after` makes of the bytes.
fn read_file(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("_read_file", ["path", "after"], 2);
    let [path, after] = args.bind(&SIGNATURE)?;
    Operation::whole(&READ, Whole::read(path, after))
}

/// `write_bytes(path, data)`.
fn write_bytes(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("write_bytes", ["path", "data"], 2);
    let [path, data] = args.bind(&SIGNATURE)?;
    Operation::whole(&WRITE, Whole::write(path, data, Mode::Replace))
}

/// `_append_bytes(path, data)`.
fn append_bytes(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("append", ["path", "data"], 2);
    let [path, data] = args.bind(&SIGNATURE)?;
    Operation::whole(&WRITE, Whole::write(path, data, Mode::Append))
}

/// `copy(source, target)`.
fn copy(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("copy", ["source", "target"], 2);
    let [source, target] = args.bind(&SIGNATURE)?;
    Operation::whole(&COPY, Whole::copy(source, target))
}

/// `_read_cached(allowed)`: whether files in memory are read without a thread; what it was before.
fn read_cached(args: Args<'_>) -> PyResult<bool> {
    const SIGNATURE: Signature<1> = Signature::new("_read_cached", ["allowed"], 1);
    let [allowed] = args.bind(&SIGNATURE)?;
    Ok(whole::allow_cached(allowed.map_or(Ok(true), Any::truthy)?))
}

pub(crate) fn functions() -> [ffi::PyMethodDef; 7] {
    [
        crate::function!(
            "read_bytes",
            read_bytes,
            "read_bytes(path)\n--\n\nThe content of the file. OSError as of the builtin open().\n\nOf the \
                thread that runs the loop, as all of ioxide.files. Cancelled before it has begun, it is not \
                done."
        ),
        crate::function!("_read_file", read_file, "What a function makes of the content of a file."),
        crate::function!(
            "write_bytes",
            write_bytes,
            "write_bytes(path, data)\n--\n\nMakes the data, bytes-like, the content of the file, which is \
                made if there is none; how many bytes that are.\n\nWhat the file has is written over, and then \
                ended there: who reads meanwhile may see parts of both. OSError as of the builtin open(); \
                TypeError for what is not bytes-like."
        ),
        crate::function!("_append_bytes", append_bytes, "Adds the data at the end of the file."),
        crate::function!(
            "copy",
            copy,
            "copy(source, target)\n--\n\nMakes the content of one file that of another, in the kernel where it can and \
                without its mode and times; how many bytes that are. OSError as of the builtin open()."
        ),
        crate::function!("_read_cached", read_cached, "Allows reading without a thread."),
        crate::function!(
            "_file_call",
            operation::call,
            "_file_call(func, args, kwargs=None, strand=None, executor=None, dispose=None, always=False)\n--\n\nCalls the function on a thread."
        ),
    ]
}

pub(crate) fn build() -> PyResult<()> {
    operation::build()?;
    strand::build()?;
    serving::build()?;
    reading::build()?;
    writing::build()
}
