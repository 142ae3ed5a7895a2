//! Flow control: pausing and resuming the protocol at the marks, and what is written to nobody.

use super::base::Base;
use crate::kit::{err, value, Any, Obj, PyResult};
use crate::task::step;
use crate::{import, intern, raise};
use ioxide_core::buffer::watermark::DEFAULT_HIGH;

/// After so many writes to a lost connection they are logged.
const WRITES_UNTIL_WARNING: u32 = 5;

impl Base {
    /// More waits than before: above the high mark the protocol is paused.
    pub(super) fn grown(&self) -> PyResult<()> {
        let mut marks = self.marks.get();
        let pause = marks.on_grow(self.waiting());
        self.marks.set(marks);
        if !pause {
            return Ok(());
        }
        let told = match self.protocol.get() {
            Some(protocol) => protocol.method0(intern!("pause_writing")),
            None => Ok(Obj::none()),
        };
        self.flow_told(told, "pause_writing")
    }

    /// Less waits than before: at the low mark the protocol goes on.
    pub(super) fn shrunk(&self) -> PyResult<()> {
        let mut marks = self.marks.get();
        let resume = marks.on_shrink(self.waiting());
        self.marks.set(marks);
        if !resume {
            return Ok(());
        }
        let told = self.call(intern!("resume_writing"), &[]);
        self.flow_told(told, "resume_writing")
    }

    /// What a protocol raises when it is paused or resumed is told, and changes nothing.
    fn flow_told(&self, told: PyResult<Obj>, method: &str) -> PyResult<()> {
        let Err(raised) = told else { return Ok(()) };
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        let message = format!("protocol.{method}() failed");
        self.report(&message, &exception)
    }

    /// `set_write_buffer_limits(high, low)`, in bytes.
    pub(super) fn set_limits(&self, high: Option<&Any>, low: Option<&Any>) -> PyResult<()> {
        let (high, low) = limits(high, low, DEFAULT_HIGH)?;
        let mut marks = self.marks.get();
        let set = marks.set(Some(high), Some(low));
        debug_assert!(set.is_ok());
        self.marks.set(marks);
        self.flush()?;
        self.grown()
    }

    /// How many bytes the kernel has not taken.
    pub(super) fn write_buffer_size(&self) -> PyResult<usize> {
        self.flush()?;
        Ok(self.waiting())
    }

    /// Counts a write to a connection that is lost; says so from the fifth on.
    #[cold]
    pub(super) fn written_in_vain(&self, text: &str) -> PyResult<()> {
        let before = self.conn_lost.get();
        self.conn_lost.set(before.saturating_add(1));
        if before < WRITES_UNTIL_WARNING {
            return Ok(());
        }
        import!("asyncio.log", "logger")?
            .method(intern!("warning"), &[&*value::str(text)?])
            .map(drop)
    }
}

/// The marks that a program asks for, in bytes: without `high` it is four times `low`, or the default; without
/// `low` it is a quarter of `high`.
pub(crate) fn limits(
    high: Option<&Any>,
    low: Option<&Any>,
    default: usize,
) -> PyResult<(usize, usize)> {
    let high = high.and_then(Any::some).map(Any::to_i64).transpose()?;
    let low = low.and_then(Any::some).map(Any::to_i64).transpose()?;
    let high = high.unwrap_or_else(|| low.map_or(default as i64, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high.div_euclid(4));
    match (usize::try_from(high), usize::try_from(low)) {
        (Ok(high), Ok(low)) if high >= low => Ok((high, low)),
        _ => Err(raise!(
            err::value_error(),
            "high ({high}) must be >= low ({low}) must be >= 0"
        )),
    }
}
