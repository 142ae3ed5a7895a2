//! Files that `open()` made for writing only: small writes go into the builtin's buffer, which needs no thread as long
//! as it surely has room.

use super::object::{below, Below};
use super::serving::Serving;
use crate::intern;
use crate::kit::class::Construct;
use crate::kit::{
    err, ffi, Any, Args, Class, ClassSpec, Head, Native, Obj, PyResult, Signature, Visitor,
};
use std::cell::Cell;

/// What the builtin makes of a character, at most.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// The file is binary.
    Bytes,
    /// As many bytes for each byte of the text in UTF-8.
    Utf8(usize),
    /// As many bytes for each character.
    Character(usize),
}

/// A file that is written. The builtin's buffer belongs to the thread while one operates on the file, and to the
/// loop otherwise.
#[repr(C)]
pub(crate) struct Writer {
    head: Head,
    below: Below,
    /// Bytes that the buffer takes, at least, before it is written.
    room: Cell<usize>,
    capacity: Cell<usize>,
    weight: Cell<Weight>,
    /// Whether the position that the builtin tells depends on what is written already: that of a binary file which
    /// appends, away from its end. Then only what the builtin would write is written.
    tells_buffer: Cell<bool>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Writer {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.below.traverse(visitor);
    }

    fn clear(&self) {
        self.below.clear();
    }
}

impl Construct for Writer {
    fn empty() -> Writer {
        Writer {
            head: Head::new(),
            below: Below::empty(),
            room: Cell::new(0),
            capacity: Cell::new(0),
            weight: Cell::new(Weight::Bytes),
            tells_buffer: Cell::new(false),
        }
    }

    /// `(file, executor, capacity, per_byte, per_character)`: of the two weights one is 0, for text; both for bytes.
    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<5> = Signature::new(
            "FileWriter",
            ["file", "executor", "capacity", "per_byte", "per_character"],
            5,
        );
        let [Some(file), Some(executor), Some(capacity), Some(per_byte), Some(per_character)] =
            args.bind(&SIGNATURE)?
        else {
            return Ok(());
        };
        let number = |object: &Any| Ok(usize::try_from(object.to_i64()?).unwrap_or(0));
        self.below.begin(file, executor)?;
        self.weight
            .set(match (number(per_byte)?, number(per_character)?) {
                (0, 0) => Weight::Bytes,
                (0, weight) => Weight::Character(weight),
                (weight, _) => Weight::Utf8(weight),
            });
        self.capacity.set(number(capacity)?);
        self.room.set(self.capacity.get());
        Ok(())
    }
}

impl Writer {
    /// Writes into the buffer, if that surely has room and nobody operates on the file.
    #[inline]
    pub(super) fn serve(&self, data: Option<&Any>) -> PyResult<Option<Obj>> {
        let Some(data) = data.filter(|_| self.below.is_free()) else {
            return Ok(None);
        };
        let Some(left) = self
            .size_of(data)
            .and_then(|size| self.room.get().checked_sub(size))
        else {
            return Ok(None);
        };
        self.room.set(left);
        self.below
            .file()?
            .method(intern!("write"), &[data])
            .map(Some)
    }

    /// How many bytes the data come to at most; nothing for what is better looked at by the builtin.
    #[inline]
    fn size_of(&self, data: &Any) -> Option<usize> {
        let class = data.type_raw();
        if self.weight.get() == Weight::Bytes {
            return (class == &raw mut ffi::PyBytes_Type).then(|| data.bytes_content().len());
        }
        if class != &raw mut ffi::PyUnicode_Type {
            return None;
        }
        let size = match self.weight.get() {
            Weight::Bytes => return None,
            Weight::Utf8(weight) => data.to_str().map(|text| text.len().checked_mul(weight)),
            Weight::Character(weight) => data.text_len().map(|count| count.checked_mul(weight)),
        };
        match size {
            Ok(size) => size,
            Err(raised) => {
                // Half of a pair: no UTF-8.
                err::discard(raised);
                None
            }
        }
    }

    /// What writes the data and all that is in the buffer, on a thread.
    pub(super) fn operation(&self, data: Option<&Any>) -> PyResult<Obj> {
        let function = self.as_any().attr(intern!("_write"))?;
        match data {
            Some(data) => self.below.call(&function, &[data]),
            None => self.below.call(&function, &[]),
        }
    }

    /// `_write(data)`, on a thread: writes the buffer too, so that there is room again.
    fn write(&self, data: &Any) -> PyResult<Obj> {
        let file = self.below.file()?;
        let written = file.method(intern!("write"), &[data])?;
        if !self.tells_buffer.get() {
            file.method0(intern!("flush"))?;
            self.flushed();
        }
        Ok(written)
    }

    /// `_operate(name, *args)`, on a thread: a method of the builtin's file.
    fn operate(&self, args: Args<'_>) -> PyResult<Obj> {
        let [name, arguments @ ..] = args.positional() else {
            return Err(crate::event_loop::missing("_operate", "name"));
        };
        let result = self.below.file()?.attr(name)?.call_slice(arguments)?;
        match name.to_str()? {
            "flush" => self.flushed(),
            "writelines" => self.room.set(0),
            "seek" | "truncate" if self.weight.get() == Weight::Bytes => {
                let mode = self.below.file()?.attr(intern!("mode"))?;
                self.tells_buffer.set(mode.to_str()?.contains('a'));
            }
            _ => {}
        }
        Ok(result)
    }

    fn flushed(&self) {
        self.room.set(self.capacity.get());
        self.tells_buffer.set(false);
    }
}

pub(crate) fn class() -> &'static Any {
    CLASS.object()
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<Writer>(c"ioxide.BaseFileWriter")
        .doc(c"What is native of files that are written.")
        .constructible::<Writer>()
        .coroutines(["write"])
        .methods([
            crate::method!(onearg Writer, "write", Serving::write,
                "write($self, data, /)\n--\n\n\
                    Writes the data, to the buffer at first; how many characters or bytes they are."),
            crate::method!(onearg Writer, "_write", Writer::write, "On a thread: writes the data, and the buffer."),
            crate::method!(args Writer, "_operate", Writer::operate, "On a thread: a method of the file below."),
        ])
        .getset(below!(Writer))
        .build(&CLASS)?;
    Ok(())
}
