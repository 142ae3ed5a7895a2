//! `sleep()`: a task parked on the timer heap.

use super::{spec, Awaitable, Flow, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{err, Any, Args, Class, Native, Obj, ObjCell, PyResult, Signature, Visitor};
use crate::runtime::timers::Timer;
use crate::runtime::EventLoop;
use crate::{intern, raise, running};
use ioxide_core::timers::TimerKey;
use std::cell::Cell;

/// `ioxide.sleep(delay, result)`.
pub(crate) type Sleep = Waiting<SleepState>;

pub(crate) struct SleepState {
    /// Until it begins, the seconds; then the key of the timer in the heap, as bits, or 0.
    when: Cell<u64>,
    result: ObjCell,
    /// The loop whose heap holds the timer, or the foreign loop's handle.
    timer: ObjCell,
}

static CLASS: Class = Class::new();

impl Awaitable for Sleep {
    const NAME: &'static str = "sleep";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(256);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.result);
        visitor.cell(&self.timer);
    }

    fn unlink(&self) {
        self.result.clear();
        self.timer.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        let delay = f64::from_bits(self.when.take());
        if delay.is_nan() {
            return Err(raise!(
                err::value_error(),
                "Invalid delay: NaN (not a number)"
            ));
        }
        if delay <= 0.0 {
            return Ok(Flow::Yield);
        }
        let event_loop = running::require_running_loop()?;
        match EventLoop::of(&event_loop) {
            Some(native) => {
                let deadline = native.deadline_after(delay);
                let timer = native.add_timer(deadline, Timer::Sleep(self.own()));
                self.when.set(timer.to_bits());
                self.timer.set(event_loop.clone());
            }
            None => {
                let delay = crate::kit::value::float(delay)?;
                let wake = self.as_any().attr(intern!("_fire"))?;
                let handle = event_loop.method(intern!("call_later"), &[&delay, &wake])?;
                self.timer.set(handle);
            }
        }
        Ok(Flow::Park)
    }

    fn resume(&self) -> PyResult<Flow> {
        self.timer.clear();
        Ok(Flow::Return(self.result.take().unwrap_or_else(Obj::none)))
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        self.cancel_timer()?;
        Err(err::restore(exception))
    }
}

impl Sleep {
    /// The timer has gone off: the waiter is woken, unless it is gone.
    pub(crate) fn fire(&self) -> PyResult<()> {
        self.when.set(0);
        self.wait.wake()
    }

    fn cancel_timer(&self) -> PyResult<()> {
        let Some(owner) = self.timer.take() else {
            return Ok(());
        };
        if let Some(native) = EventLoop::of(&owner) {
            if let Some(key) = TimerKey::from_bits(self.when.take()) {
                native.remove_timer(key);
            }
            return Ok(());
        }
        owner.method0(intern!("cancel")).map(drop)
    }
}

/// The delay as a number. asyncio's first use of it is `delay <= 0`: that is where a wrong type fails.
fn seconds(delay: &Any) -> PyResult<f64> {
    delay.to_f64().or_else(|raised| {
        let reason = err::take(raised);
        delay.at_most(&*crate::kit::value::int(0)?)?;
        Err(err::restore(reason))
    })
}

/// `sleep(delay, result=None)`.
pub(crate) fn sleep(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<2> = Signature::new("sleep", ["delay", "result"], 1);
    let [delay, result] = args.bind(&SIGNATURE)?;
    let delay = match delay {
        Some(delay) => seconds(delay)?,
        None => 0.0,
    };
    let body = Sleep::with(SleepState {
        when: Cell::new(delay.to_bits()),
        result: ObjCell::empty(),
        timer: ObjCell::empty(),
    });
    if let Some(result) = result.and_then(Any::some) {
        body.result.set(result.own());
    }
    Ok(body.make()?.into_obj())
}

pub(crate) fn build() -> PyResult<()> {
    spec::<Sleep>(c"ioxide.Sleep")
        .methods([crate::method!(noargs Sleep, "_fire", Sleep::fire, "The timer has gone off.")])
        .build(&CLASS)?;
    Ok(())
}
