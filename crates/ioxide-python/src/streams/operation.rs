//! What a read is to take from the reader, and whether there is enough of it.

use super::reader::StreamReader;
use super::reading::Reading;
use crate::awaitable::Kind;
use crate::kit::builder::BytesBuilder;
use crate::kit::bytearray::to_bytes;
use crate::kit::{err, ffi, value, Any, Obj, ObjCell, PyResult, Raised, Visitor};
use crate::{import, intern, raise};
use ioxide_core::buffer::scan::{line_end, Scan, Scanner, Separators, SeparatorsError};
use std::cell::Cell;

const TOO_LONG: &str = "Separator is found, but chunk is longer than limit";
const TOO_LONG_ALREADY: &str = "Separator is not found, and chunk exceed the limit";

/// What is to be read.
pub(super) enum Operation {
    /// `readline()`: the first so many bytes are known to have no newline.
    Line(Cell<usize>),
    /// `__anext__()`, the same but for the end.
    Next(Cell<usize>),
    /// `readuntil(separator)`
    Until(Until),
    /// `readexactly(n)`
    Exactly(isize),
    /// `read(n)` with a count
    Some(usize),
    /// `read()`: what was taken so far.
    All(Cell<BytesBuilder>),
    /// `_wait_for_data(function)`: over once something was fed since it began.
    Data { function: String, fed: Cell<bool> },
}

/// A search for separators; they are looked at when the read begins.
pub(super) struct Until {
    separator: ObjCell,
    scanner: Cell<Option<Box<Scanner<Separator>>>>,
}

/// A bytes object to be found.
struct Separator(Obj);

impl AsRef<[u8]> for Separator {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes_content()
    }
}

impl Operation {
    pub(super) const fn line() -> Operation {
        Operation::Line(Cell::new(0))
    }

    pub(super) const fn next() -> Operation {
        Operation::Next(Cell::new(0))
    }

    pub(super) fn until(separator: Obj) -> Operation {
        Operation::Until(Until {
            separator: ObjCell::new(separator),
            scanner: Cell::new(None),
        })
    }

    pub(super) const fn data(function: String) -> Operation {
        Operation::Data {
            function,
            fed: Cell::new(false),
        }
    }

    pub(super) fn read(count: isize) -> Operation {
        match usize::try_from(count) {
            Ok(count) => Operation::Some(count),
            Err(_) => Operation::All(Cell::default()),
        }
    }

    pub(super) fn kind(&self) -> &'static Kind {
        static LINE: Kind = Reading::KIND.named("StreamReader.readline");
        static NEXT: Kind = Reading::KIND.named("StreamReader.__anext__");
        static UNTIL: Kind = Reading::KIND.named("StreamReader.readuntil");
        static EXACTLY: Kind = Reading::KIND.named("StreamReader.readexactly");
        static READ: Kind = Reading::KIND.named("StreamReader.read");
        static DATA: Kind = Reading::KIND.named("StreamReader._wait_for_data");
        match self {
            Operation::Line(_) => &LINE,
            Operation::Next(_) => &NEXT,
            Operation::Until(_) => &UNTIL,
            Operation::Exactly(_) => &EXACTLY,
            Operation::Some(_) | Operation::All(_) => &READ,
            Operation::Data { .. } => &DATA,
        }
    }

    /// The function that asyncio's errors name.
    pub(super) fn function(&self) -> String {
        match self {
            Operation::Line(_) | Operation::Next(_) | Operation::Until(_) => "readuntil".to_owned(),
            Operation::Exactly(_) => "readexactly".to_owned(),
            Operation::Some(_) | Operation::All(_) => "read".to_owned(),
            Operation::Data { function, .. } => function.clone(),
        }
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        if let Operation::Until(until) = self {
            visitor.cell(&until.separator);
        }
    }

    /// Refuses what can never be read.
    pub(super) fn check(&self) -> PyResult<()> {
        match self {
            Operation::Until(until) => until.prepare(),
            Operation::Exactly(count) if *count < 0 => Err(raise!(
                err::value_error(),
                "readexactly size can not be less than zero"
            )),
            _ => Ok(()),
        }
    }

    /// Reads from what is there; nothing if more has to come first.
    pub(super) fn attempt(&self, reader: &StreamReader) -> PyResult<Option<Obj>> {
        match self {
            Operation::Line(clear) => line(reader, clear),
            Operation::Next(clear) => next_line(reader, clear),
            Operation::Until(until) => until.attempt(reader),
            Operation::Exactly(count) => exactly(reader, *count as usize),
            Operation::Some(count) => some(reader, *count),
            Operation::All(taken) => all(reader, taken),
            Operation::Data { fed, .. } => Ok(fed.replace(true).then(Obj::none)),
        }
    }
}

impl Until {
    /// Makes the scanner; `ValueError` for no separator or an empty one.
    fn prepare(&self) -> PyResult<()> {
        let given = self.separator.take().unwrap_or_else(Obj::none);
        let separators = if given.is_tuple() {
            let items: PyResult<Vec<Separator>> = given
                .tuple_items()
                .iter()
                .map(|item| Separator::of(item))
                .collect();
            Separators::several(items?)
        } else {
            Separators::one(Separator::of(&given)?)
        };
        let separators = separators.map_err(|error| match error {
            SeparatorsError::None => {
                raise!(
                    err::value_error(),
                    "Separator should contain at least one element"
                )
            }
            SeparatorsError::Empty => {
                raise!(
                    err::value_error(),
                    "Separator should be at least one-byte string"
                )
            }
        })?;
        self.scanner.set(Some(Box::new(Scanner::new(separators))));
        Ok(())
    }

    fn attempt(&self, reader: &StreamReader) -> PyResult<Option<Obj>> {
        let Some(mut scanner) = self.scanner.take() else {
            return Ok(None);
        };
        let found = reader.storage.with_window(|window| scanner.scan(window));
        self.scanner.set(Some(scanner));
        let limit = reader.limit.get();
        match found {
            Scan::Found { start, .. } if start > limit => Err(overrun(TOO_LONG, start)),
            Scan::Found { end, .. } => take(reader, end).map(Some),
            Scan::Missing { clear } if clear > limit => Err(overrun(TOO_LONG_ALREADY, clear)),
            Scan::Missing { .. } if reader.eof.get() => Err(incomplete(reader, None)),
            Scan::Missing { .. } => Ok(None),
        }
    }
}

impl Separator {
    fn of(object: &Any) -> PyResult<Separator> {
        if object.is_bytes() {
            return Ok(Separator(object.own()));
        }
        // SAFETY: alive.
        if unsafe { ffi::PyObject_CheckBuffer(object.raw()) } == 0 {
            return Err(raise!(
                err::type_error(),
                "a bytes-like object is required, not '{}'",
                object.type_name()
            ));
        }
        to_bytes(object).map(Separator)
    }
}

/// Takes `count` bytes, and lets the transport go on if that made room.
#[inline]
fn take(reader: &StreamReader, count: usize) -> PyResult<Obj> {
    let taken = reader.storage.take(count)?;
    reader.maybe_resume_transport()?;
    Ok(taken)
}

/// Takes everything.
fn take_all(reader: &StreamReader) -> PyResult<Obj> {
    reader.storage.take(usize::MAX)
}

fn line(reader: &StreamReader, clear: &Cell<usize>) -> PyResult<Option<Obj>> {
    let (end, length) = reader.storage.with_window(|window| {
        // A window that lost bytes is another window.
        let from = if clear.get() <= window.len() {
            clear.get()
        } else {
            0
        };
        (
            line_end(&window[from..]).map(|end| from + end),
            window.len(),
        )
    });
    let limit = reader.limit.get();
    match end {
        Some(end) if end - 1 > limit => Err(drop_line(reader, TOO_LONG, end - 1, end)),
        Some(end) => take(reader, end).map(Some),
        None if length > limit => Err(drop_line(reader, TOO_LONG_ALREADY, length, length)),
        None if reader.eof.get() => take_all(reader).map(Some),
        None => {
            clear.set(length);
            Ok(None)
        }
    }
}

fn next_line(reader: &StreamReader, clear: &Cell<usize>) -> PyResult<Option<Obj>> {
    let line = line(reader, clear)?;
    if line
        .as_ref()
        .is_some_and(|line| line.bytes_content().is_empty())
    {
        return Err(err::raise_instance(&*err::stop_async_iteration().call0()?));
    }
    Ok(line)
}

fn exactly(reader: &StreamReader, count: usize) -> PyResult<Option<Obj>> {
    if count == 0 {
        return value::bytes(b"").map(Some);
    }
    if reader.storage.len() >= count {
        return take(reader, count).map(Some);
    }
    if reader.eof.get() {
        return Err(incomplete(reader, Some(count)));
    }
    Ok(None)
}

fn some(reader: &StreamReader, count: usize) -> PyResult<Option<Obj>> {
    if count == 0 {
        return value::bytes(b"").map(Some);
    }
    if reader.storage.is_empty() && !reader.eof.get() {
        return Ok(None);
    }
    take(reader, count).map(Some)
}

/// Everything until EOF. What has come is taken at once, so that the transport does not pause.
fn all(reader: &StreamReader, taken: &Cell<BytesBuilder>) -> PyResult<Option<Obj>> {
    let mut joined = taken.take();
    let ended = reader.eof.get();
    if ended && joined.is_empty() {
        return take_all(reader).map(Some);
    }
    reader.storage.with_window(|window| joined.append(window))?;
    if ended {
        let whole = joined.finish()?;
        reader.storage.consume(usize::MAX)?;
        return Ok(Some(whole));
    }
    taken.set(joined);
    reader.storage.consume(usize::MAX)?;
    reader.maybe_resume_transport()?;
    Ok(None)
}

/// `IncompleteReadError(partial, expected)`; the reader is empty afterwards.
#[cold]
fn incomplete(reader: &StreamReader, expected: Option<usize>) -> Raised {
    let raise = || -> PyResult<Raised> {
        let partial = take_all(reader)?;
        let expected =
            expected.map_or_else(|| Ok(Obj::none()), |count| value::int(count as i64))?;
        let class = import!("asyncio.exceptions", "IncompleteReadError")?;
        Ok(err::raise_instance(&*class.call(&[&partial, &expected])?))
    };
    raise().unwrap_or_else(|raised| raised)
}

/// `LimitOverrunError(message, consumed)`; the reader keeps what it has.
#[cold]
fn overrun(message: &str, consumed: usize) -> Raised {
    let raise = || -> PyResult<Raised> {
        let class = import!("asyncio.exceptions", "LimitOverrunError")?;
        let exception = class.call(&[&*value::str(message)?, &*value::int(consumed as i64)?])?;
        Ok(err::raise_instance(&exception))
    };
    raise().unwrap_or_else(|raised| raised)
}

/// `readline()` drops a line that is too long, and raises `ValueError` because of the `LimitOverrunError`.
#[cold]
fn drop_line(reader: &StreamReader, message: &str, consumed: usize, dropped: usize) -> Raised {
    let raise = || -> PyResult<Raised> {
        reader.storage.consume(dropped)?;
        reader.maybe_resume_transport()?;
        let cause = err::take(overrun(message, consumed));
        let exception = err::value_error().call1(&*value::str(message)?)?;
        exception.set_attr(intern!("__context__"), &cause)?;
        Ok(err::raise_instance(&exception))
    };
    raise().unwrap_or_else(|raised| raised)
}
