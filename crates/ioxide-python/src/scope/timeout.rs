//! `timeout()`, `timeout_at()` and the scope that they return.

use super::enter::Enter;
use super::expiry::{Expiry, State};
use crate::awaitable::ready;
use crate::kit::class::{Construct, WeakList};
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, PyResult, Signature, Visitor,
};
use crate::runtime::alarm::Deadline;
use crate::runtime::target::{Target, Told};
use crate::{raise, running};
use std::cell::Cell;
use std::mem::offset_of;

/// `ioxide.Timeout(when)`.
#[repr(C)]
pub(crate) struct Timeout {
    target: Target,
    deadline: Cell<Option<Deadline>>,
    /// The deadline as it was given, if it was.
    given: ObjCell,
    expiry: Expiry,
    dict: ObjCell,
    weak: WeakList,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for Timeout {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.given);
        self.expiry.traverse(visitor);
    }

    fn clear(&self) {
        self.given.clear();
        self.expiry.clear();
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for Timeout {
    fn fire(&self) -> PyResult<()> {
        self.expiry.fire()
    }
}

impl Construct for Timeout {
    fn empty() -> Timeout {
        Timeout {
            target: Target::new(&Timeout::KIND),
            deadline: Cell::new(None),
            given: ObjCell::empty(),
            expiry: Expiry::new(),
            dict: ObjCell::empty(),
            weak: WeakList::new(),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("Timeout", ["when"], 1);
        let [when] = args.bind(&SIGNATURE)?;
        self.set_when(when.and_then(Any::some))
    }
}

impl Timeout {
    fn set_when(&self, when: Option<&Any>) -> PyResult<()> {
        let seconds = when.map(Any::to_f64).transpose()?;
        self.deadline.set(seconds.map(Deadline::at));
        drop(self.given.replace(when.map(Any::own)));
        Ok(())
    }

    fn when(&self) -> PyResult<Obj> {
        match (self.given.get(), self.deadline.get()) {
            (Some(given), _) => Ok(given),
            (None, Some(deadline)) => value::float(deadline.when),
            (None, None) => Ok(Obj::none()),
        }
    }

    fn reschedule(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<1> = Signature::new("reschedule", ["when"], 1);
        let [when] = args.bind(&SIGNATURE)?;
        match self.expiry.state() {
            State::Entered => {}
            State::Created => {
                return Err(raise!(err::runtime_error(), "Timeout has not been entered"))
            }
            state => {
                return Err(raise!(
                    err::runtime_error(),
                    "Cannot change state of {} Timeout",
                    state.word()
                ))
            }
        }
        self.set_when(when.and_then(Any::some))?;
        let event_loop = running::require_running_loop()?;
        self.expiry
            .reschedule(&event_loop, self.deadline.get(), || self.target())
    }

    fn expired(&self) -> bool {
        matches!(self.expiry.state(), State::Expiring | State::Expired)
    }

    fn repr(&self) -> PyResult<Obj> {
        let state = self.expiry.state();
        let mut text = format!("<Timeout [{}]", state.word());
        if state == State::Entered {
            let shown = match self.when()?.some() {
                None => "None".to_owned(),
                Some(when) => {
                    let round = crate::import!("builtins", "round")?;
                    round.call(&[when, &*value::int(3)?])?.repr_text()
                }
            };
            text.push_str(&format!(" when={shown}"));
        }
        text.push('>');
        value::str(&text)
    }

    /// What awaiting `__aenter__()` does.
    pub(crate) fn enter(&self) -> PyResult<()> {
        let event_loop = running::require_running_loop()?;
        self.expiry
            .enter(&event_loop, self.deadline.get(), || self.target())
    }

    fn aexit(&self, args: Args<'_>) -> PyResult<Obj> {
        let (class, exception) = super::exit_arguments(args)?;
        self.expiry.leave(exception.or(class))?;
        Ok(ready::nothing())
    }
}

/// `timeout(delay)`.
pub(crate) fn timeout(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> = Signature::new("timeout", ["delay"], 1);
    let [delay] = args.bind(&SIGNATURE)?;
    let event_loop = running::require_running_loop()?;
    let scope = Timeout::empty();
    if let Some(delay) = delay.and_then(Any::some) {
        let deadline = Deadline::after(&event_loop, delay)?;
        scope.deadline.set(Some(deadline));
    }
    Ok(scope.make()?.into_obj())
}

/// `timeout_at(when)`.
pub(crate) fn timeout_at(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<1> = Signature::new("timeout_at", ["when"], 1);
    let [when] = args.bind(&SIGNATURE)?;
    let scope = Timeout::empty();
    scope.set_when(when.and_then(Any::some))?;
    Ok(scope.make()?.into_obj())
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Timeout>(c"ioxide.Timeout")
        .doc(c"Timeout(when)\n--\n\nCancels what takes too long; made by timeout() and timeout_at().\n\nwhen: \
                the deadline in seconds on the loop's clock, None for none. The block that was cancelled ends \
                with TimeoutError.\n\nNot thread-safe.")
        .constructible::<Timeout>()
        .dict(offset_of!(Timeout, dict))
        .weak(offset_of!(Timeout, weak))
        .slot(
            crate::kit::ffi::Py_tp_repr,
            crate::unary!(Timeout, Timeout::repr),
        )
        .methods([
            crate::method!(noargs Timeout, "when", Timeout::when,
                "The deadline in seconds on the loop's clock, or None."),
            crate::method!(args Timeout, "reschedule", Timeout::reschedule,
                "reschedule($self, when)\n--\n\nMoves the deadline, in seconds on the loop's clock; None \
                    takes it away. RuntimeError outside of the block and once it has passed."),
            crate::method!(noargs Timeout, "expired", Timeout::expired,
                "Whether the deadline has passed while inside."),
            crate::method!(noargs Timeout, "__aenter__",
                |this: &Timeout| Enter::of(this.as_any()), "Enters; to be awaited in a task."),
            crate::method!(args Timeout, "__aexit__", Timeout::aexit,
                "Leaves; TimeoutError if the deadline has passed."),
        ])
        .getset([crate::getter!(
            Timeout,
            "_when",
            Timeout::when,
            "The deadline in seconds on the loop's clock, or None."
        )])
        .build(&CLASS)?;
    Ok(())
}
