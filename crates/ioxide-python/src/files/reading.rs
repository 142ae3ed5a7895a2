//! Files that `open()` made for reading only: a thread per block, not per line.
//!
//! Nobody else uses the builtin's object below, so that it may be ahead of what the program has read. The block that
//! was read ahead is served on the loop's thread; whatever else is asked for first puts the builtin's object back to
//! where the program believes it to be, and is then its affair. So decoding stays the builtin's own.

use super::object::{below, Below};
use super::serving::{Serving, Want};
use crate::intern;
use crate::kit::class::Construct;
use crate::kit::{
    err, ffi, value, Any, Args, Class, ClassSpec, Head, Native, Obj, ObjCell, PyResult, Signature,
    Visitor,
};
use ioxide_core::buffer::scan;
use std::cell::Cell;

/// How much is read ahead at first.
const FIRST: usize = 8192;
/// How much is read to complete the last line of a block.
const LONG_LINE: i64 = 1 << 20;

/// What ends a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Feed,
    Return,
    ReturnFeed,
    /// Any of the three.
    Any,
}

/// A file that is read. The block belongs to the thread while one operates on the file, and to the loop otherwise.
#[repr(C)]
pub(crate) struct Reader {
    head: Head,
    below: Below,
    /// The block: bytes, or a string; empty if there is none.
    block: ObjCell,
    /// Characters or bytes of the block, and how many of them are consumed.
    length: Cell<usize>,
    at: Cell<usize>,
    /// Where the block begins, as the builtin tells it.
    mark: ObjCell,
    line_end: Cell<LineEnd>,
    is_text: Cell<bool>,
    /// Whether the builtin knows where it is. A text file that `readlines()` left in the midst of an iteration, by its
    /// hint or an error, does not, even when it says so after a `flush()`, until it is moved.
    tells: Cell<bool>,
    /// How much is read ahead the next time, and at most when a file is read on and on.
    size: Cell<usize>,
    most: Cell<usize>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Reader {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.below.traverse(visitor);
        visitor.cell(&self.block);
        visitor.cell(&self.mark);
    }

    fn clear(&self) {
        self.below.clear();
        self.drop_block();
        self.mark.clear();
    }
}

impl Construct for Reader {
    fn empty() -> Reader {
        Reader {
            head: Head::new(),
            below: Below::empty(),
            block: ObjCell::empty(),
            length: Cell::new(0),
            at: Cell::new(0),
            mark: ObjCell::empty(),
            line_end: Cell::new(LineEnd::Feed),
            is_text: Cell::new(false),
            tells: Cell::new(true),
            size: Cell::new(0),
            most: Cell::new(0),
        }
    }

    /// `(file, executor, most, newline, is_text)`.
    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<5> = Signature::new(
            "FileReader",
            ["file", "executor", "most", "newline", "is_text"],
            5,
        );
        let [Some(file), Some(executor), Some(most), Some(newline), Some(is_text)] =
            args.bind(&SIGNATURE)?
        else {
            return Ok(());
        };
        self.below.begin(file, executor)?;
        self.line_end.set(match newline.some() {
            None => LineEnd::Feed,
            Some(newline) => match newline.to_str()? {
                "" => LineEnd::Any,
                "\r" => LineEnd::Return,
                "\r\n" => LineEnd::ReturnFeed,
                _ => LineEnd::Feed,
            },
        });
        self.is_text.set(is_text.truthy()?);
        self.tells.set(true);
        self.drop_block();
        self.most.set(usize::try_from(most.to_i64()?).unwrap_or(0));
        self.size.set(FIRST.min(self.most.get()));
        Ok(())
    }
}

// On the loop's thread, while no other operates on the file.
impl Reader {
    /// What is asked for, if the block has it and nobody operates on the file.
    #[inline]
    pub(super) fn serve(&self, want: Want, size: Option<&Any>) -> PyResult<Option<Obj>> {
        if self.at.get() >= self.length.get() || !self.below.is_free() {
            return Ok(None);
        }
        let end = match want {
            Want::Next => self.end_of_line()?,
            Want::Line if size.is_none_or(|size| exact_int(size) == Some(-1)) => {
                self.end_of_line()?
            }
            Want::Read => self.end_of_piece(size),
            Want::Line | Want::Write => None,
        };
        end.map(|end| self.consume(end)).transpose()
    }

    fn end_of_piece(&self, size: Option<&Any>) -> Option<usize> {
        let size = usize::try_from(size.and_then(exact_int)?).ok()?;
        let end = self.at.get().checked_add(size)?;
        (size > 0 && end <= self.length.get()).then_some(end)
    }

    /// What serves a want that the block cannot, on a thread.
    pub(super) fn operation(&self, want: Want, size: Option<&Any>) -> PyResult<Obj> {
        let this = self.as_any();
        let function = match want {
            Want::Read => this.attr(intern!("_read"))?,
            _ => this.attr(intern!("_readline"))?,
        };
        match size {
            Some(size) => self.below.call(&function, &[size]),
            None => self.below.call(&function, &[]),
        }
    }

    /// Takes what stands before `end`.
    #[inline]
    fn consume(&self, end: usize) -> PyResult<Obj> {
        let taken = self.slice(end)?;
        self.at.set(end);
        Ok(taken)
    }

    /// A copy of what stands before `end` and is not consumed.
    #[inline]
    fn slice(&self, end: usize) -> PyResult<Obj> {
        let at = self.at.get();
        // SAFETY: strings and bytes are immutable, and copying runs no Python code.
        match unsafe { self.block.peek() } {
            Some(block) if self.is_text.get() => block.text_slice(at, end),
            Some(block) => value::bytes(&block.bytes_content()[at..end]),
            None => self.nothing(),
        }
    }

    /// Where the line ends that begins at `at`; nothing if its end is not in the block or cannot be told.
    #[inline]
    fn end_of_line(&self) -> PyResult<Option<usize>> {
        // SAFETY: nothing runs while the borrow lives.
        let Some(block) = (unsafe { self.block.peek() }) else {
            return Ok(None);
        };
        let (at, length) = (self.at.get(), self.length.get());
        if !self.is_text.get() {
            let end = scan::line_end(&block.bytes_content()[at..]);
            return Ok(end.map(|end| at + end));
        }
        Ok(match self.line_end.get() {
            LineEnd::Feed => block.text_find('\n', at, length)?.map(|found| found + 1),
            LineEnd::Return => block.text_find('\r', at, length)?.map(|found| found + 1),
            LineEnd::ReturnFeed => end_of_both(block, at, length)?,
            LineEnd::Any => {
                let feed = block.text_find('\n', at, length)?;
                match block.text_find('\r', at, feed.unwrap_or(length))? {
                    None => feed.map(|feed| feed + 1),
                    // The rest of the line's end may come.
                    Some(found) if found + 1 == length => None,
                    Some(found) if feed == Some(found + 1) => Some(found + 2),
                    Some(found) => Some(found + 1),
                }
            }
        })
    }

    /// `_position()`: where the program is in a binary file, if that is known without a thread.
    fn position(&self) -> PyResult<Obj> {
        match self.mark.get() {
            Some(mark) if self.at.get() < self.length.get() && self.below.is_free() => {
                mark.plus(&*value::int(self.at.get() as i64)?)
            }
            _ => Ok(Obj::none()),
        }
    }
}

/// Where a line ends that `\r\n` ends.
fn end_of_both(block: &Any, start: usize, length: usize) -> PyResult<Option<usize>> {
    let mut at = start;
    while let Some(found) = block.text_find('\r', at, length)? {
        at = found + 1;
        if block.text_find('\n', at, (at + 1).min(length))?.is_some() {
            return Ok(Some(at + 1));
        }
    }
    Ok(None)
}

/// The value of an `int` that is nothing else and not very large.
#[inline]
fn exact_int(object: &Any) -> Option<i64> {
    // SAFETY: alive.
    if unsafe { ffi::PyLong_CheckExact(object.raw()) } == 0 {
        return None;
    }
    match object.to_i64() {
        Ok(number) => Some(number),
        Err(raised) => {
            err::discard(raised);
            None
        }
    }
}

fn is_int(object: &Any) -> bool {
    // SAFETY: alive.
    unsafe { ffi::PyLong_CheckExact(object.raw()) != 0 }
}

// On the thread that operates on the file.
impl Reader {
    /// `_operate(name, *args)`: a method of the builtin's file.
    fn operate(&self, args: Args<'_>) -> PyResult<Obj> {
        let [name, arguments @ ..] = args.positional() else {
            return Err(crate::event_loop::missing("_operate", "name"));
        };
        self.operate_with(name, arguments)
    }

    fn operate_with(&self, name: &Any, arguments: &[&Any]) -> PyResult<Obj> {
        self.put_back()?;
        let iterates = self.is_text.get() && name.to_str()? == "readlines";
        if iterates {
            self.tells.set(false);
        }
        let result = self.below.file()?.attr(name)?.call_slice(arguments)?;
        // Iterating to the end of the file lets it know again.
        if (iterates && arguments.is_empty()) || name.to_str()? == "seek" {
            self.tells.set(true);
        }
        Ok(result)
    }

    fn drop_block(&self) {
        self.at.set(0);
        self.length.set(0);
        self.block.clear();
    }

    /// Has the file below stand where the program believes it to be.
    fn put_back(&self) -> PyResult<()> {
        let (at, is_ahead) = (self.at.get(), self.at.get() < self.length.get());
        self.drop_block();
        if !is_ahead {
            return Ok(());
        }
        self.size.set(FIRST.min(self.most.get()));
        let (file, mark) = (self.below.file()?, self.mark.get_or_none());
        let count = value::int(at as i64)?;
        if self.is_text.get() {
            file.method(intern!("seek"), &[&mark])?;
            if at > 0 {
                file.method(intern!("read"), &[&count])?;
            }
        } else {
            file.method(intern!("seek"), &[&*mark.plus(&count)?])?;
        }
        Ok(())
    }

    /// `_stop()`: nothing is read ahead any more, since somebody else may move the file below.
    fn stop(&self) -> PyResult<()> {
        self.put_back()?;
        self.most.set(0);
        Ok(())
    }

    /// Reads a block behind what is consumed; false if it is better not to.
    fn fill(&self, by_lines: bool) -> PyResult<bool> {
        let file = self.below.file()?;
        if self.most.get() == 0 || !self.tells.get() || file.attr(intern!("closed"))?.truthy()? {
            return Ok(false);
        }
        let mark = match file.method0(intern!("tell")) {
            Err(raised) if err::matches(err::os_error()) => {
                err::discard(raised);
                return Ok(false);
            }
            mark => mark?,
        };
        let block = match self.read_block(&file, by_lines) {
            Err(raised) if err::matches(err::unicode_error()) => {
                // The program is told when it comes to that point.
                err::discard(raised);
                file.method(intern!("seek"), &[&mark])?;
                return Ok(false);
            }
            block => block?,
        };
        self.length.set(block.len()?);
        self.at.set(0);
        self.block.set(block);
        self.mark.set(mark);
        self.size.set((self.size.get() * 2).min(self.most.get()));
        Ok(true)
    }

    fn read_block(&self, file: &Any, by_lines: bool) -> PyResult<Obj> {
        let size = value::int(self.size.get() as i64)?;
        let block = file.method(intern!("read"), &[&size])?;
        if !by_lines || block.len()? == 0 || self.ends_line(&block)? {
            return Ok(block);
        }
        let rest = file.method(intern!("readline"), &[&*value::int(LONG_LINE)?])?;
        block.plus(&rest)
    }

    fn ends_line(&self, block: &Any) -> PyResult<bool> {
        if !self.is_text.get() {
            return Ok(block.bytes_content().ends_with(b"\n"));
        }
        let length = block.text_len()?;
        let ends_with = |wanted, back: usize| {
            let at = length.saturating_sub(back);
            block.text_find(wanted, at, at + 1)
        };
        Ok(match self.line_end.get() {
            LineEnd::Feed | LineEnd::Any => ends_with('\n', 1)?.is_some(),
            LineEnd::Return => ends_with('\r', 1)?.is_some(),
            LineEnd::ReturnFeed => {
                length > 1 && ends_with('\r', 2)?.is_some() && ends_with('\n', 1)?.is_some()
            }
        })
    }

    /// The empty string, or no bytes.
    fn nothing(&self) -> PyResult<Obj> {
        if self.is_text.get() {
            value::str("")
        } else {
            value::bytes(b"")
        }
    }

    /// `_read(size=-1)`.
    fn read(&self, args: Args<'_>) -> PyResult<Obj> {
        let minus_one = value::int(-1)?;
        let size = args.positional().first().and_then(|size| size.some());
        let size = size.unwrap_or(&minus_one);
        if !is_int(size) {
            return self.operate_with(intern!("read"), &[size]);
        }
        // Too large a number is more than there is, or the builtin's to refuse.
        let count = exact_int(size).map_or(usize::MAX, |size| {
            usize::try_from(size).unwrap_or(usize::MAX)
        });
        let file = self.below.file()?;
        let (at, length) = (self.at.get(), self.length.get());
        if count <= length - at {
            if count == 0 {
                return file.method(intern!("read"), &[size]);
            }
            return self.consume(at + count);
        }
        if at == length {
            self.drop_block();
            if count >= self.size.get() || !self.fill(false)? {
                return file.method(intern!("read"), &[size]);
            }
            return self.consume(count.min(self.length.get()));
        }
        let rest = self.slice(length)?;
        let missing = if count == usize::MAX {
            size.own()
        } else {
            value::int((count - (length - at)) as i64)?
        };
        match file.method(intern!("read"), &[&missing]) {
            Err(raised) if err::matches(err::unicode_error()) => {
                err::discard(raised);
                self.operate_with(intern!("read"), &[size])
            }
            more => {
                let more = more?;
                self.drop_block();
                rest.plus(&more)
            }
        }
    }

    /// `_readline(size=-1)`.
    fn read_line(&self, args: Args<'_>) -> PyResult<Obj> {
        if let Some(size) = args.positional().first() {
            if exact_int(size).is_none_or(|size| size >= 0) {
                return self.operate_with(intern!("readline"), &[size]);
            }
        }
        if let Some(end) = self.end_of_line()? {
            return self.consume(end);
        }
        self.put_back()?;
        if !self.fill(true)? {
            return self.below.file()?.method0(intern!("readline"));
        }
        match self.end_of_line()? {
            Some(end) => self.consume(end),
            // The last line, if it has no end, or a very long one.
            None => self.operate_with(intern!("readline"), &[]),
        }
    }
}

/// The optional argument of `read` and `readline`.
fn size<'a>(args: &Args<'a>, signature: &Signature<1>) -> PyResult<Option<&'a Any>> {
    let [size] = args.bind(signature)?;
    Ok(size)
}

pub(crate) fn class() -> &'static Any {
    CLASS.object()
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<Reader>(c"ioxide.BaseFileReader")
        .doc(c"What is native of files that are read.")
        .constructible::<Reader>()
        .slot(
            ffi::Py_am_anext,
            crate::unary!(Reader, |this: &Reader| Serving::read(Want::Next, this, None)),
        )
        .coroutines(["read", "readline"])
        .methods([
            crate::method!(args Reader, "read", |this: &Reader, args: Args<'_>| {
                const SIGNATURE: Signature<1> = Signature::new("read", ["size"], 0).positional_only(1);
                Serving::read(Want::Read, this, size(&args, &SIGNATURE)?)
            }, "read($self, size=-1, /)\n--\n\n\
                Reads at most that many characters or bytes, up to the end with -1 or None."),
            crate::method!(args Reader, "readline", |this: &Reader, args: Args<'_>| {
                const SIGNATURE: Signature<1> =
                    Signature::new("readline", ["size"], 0).positional_only(1);
                Serving::read(Want::Line, this, size(&args, &SIGNATURE)?)
            }, "readline($self, size=-1, /)\n--\n\n\
                Reads up to the end of the line, of which at most that many characters or bytes."),
            crate::method!(args Reader, "_operate", Reader::operate, "On a thread: a method of the file below."),
            crate::method!(args Reader, "_read", Reader::read, "On a thread: read()."),
            crate::method!(args Reader, "_readline", Reader::read_line, "On a thread: readline()."),
            crate::method!(noargs Reader, "_put_back", Reader::put_back,
                "Has the file below stand where the program believes it to be."),
            crate::method!(noargs Reader, "_stop", Reader::stop, "Reads nothing ahead any more."),
            crate::method!(noargs Reader, "_position", Reader::position,
                "Where the program is, if that is known without a thread."),
        ])
        .getset(below!(Reader))
        .build(&CLASS)?;
    Ok(())
}
