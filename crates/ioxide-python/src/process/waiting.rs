//! Waiting for the end of a process, as a native awaitable.

use super::transport::SubprocessTransport;
use crate::awaitable::{spec, Awaitable, Flow, Kind, Waiting};
use crate::kit::class::FreeList;
use crate::kit::{err, value, Any, Class, Native, Obj, ObjCell, Own, PyResult, Visitor};

/// Waits for the return code.
pub(super) type Exit = Waiting<ExitState>;

pub(super) struct ExitState {
    transport: ObjCell,
}

static CLASS: Class = Class::new();

impl Awaitable for Exit {
    const NAME: &'static str = "Process.wait";

    fn place() -> &'static Class {
        &CLASS
    }

    #[inline(always)]
    fn spare() -> Option<&'static FreeList> {
        static LIST: FreeList = FreeList::new(32);
        Some(&LIST)
    }

    fn visit(&self, visitor: &mut Visitor) {
        visitor.cell(&self.transport);
    }

    fn unlink(&self) {
        self.transport.clear();
    }

    fn start(&self) -> PyResult<Flow> {
        self.resume()
    }

    fn resume(&self) -> PyResult<Flow> {
        let transport = self.transport.get_or_none();
        let Some(process) = transport.cast::<SubprocessTransport>() else {
            return Ok(Flow::Return(Obj::none()));
        };
        match process.returncode.get() {
            Some(code) => value::int(code.into()).map(Flow::Return),
            None => {
                process.waiters.add(self.own());
                Ok(Flow::Park)
            }
        }
    }

    fn throw(&self, exception: Obj) -> PyResult<Flow> {
        let transport = self.transport.get_or_none();
        if let Some(process) = transport.cast::<SubprocessTransport>() {
            process.waiters.remove(self);
        }
        Err(err::raise_instance(&exception))
    }
}

impl Exit {
    /// What waits for the end of this process.
    pub(super) fn of(transport: &SubprocessTransport) -> PyResult<Obj> {
        static KIND: Kind = Exit::KIND.named("SubprocessTransport._wait");
        Self::begin(&KIND, transport)
    }

    /// `process.wait()`.
    pub(super) fn of_process(transport: &SubprocessTransport) -> PyResult<Obj> {
        Self::begin(&Exit::KIND, transport)
    }

    fn begin(kind: &'static Kind, transport: &SubprocessTransport) -> PyResult<Obj> {
        let body = Exit::of_kind(
            kind,
            ExitState {
                transport: ObjCell::new(transport.as_any().own()),
            },
        );
        Ok(body.make()?.into_obj())
    }
}

/// Who waits for a process. No borrow is alive while Python code runs.
pub(super) struct Waiters(std::cell::RefCell<Vec<Own<Exit>>>);

impl Waiters {
    pub(super) const fn new() -> Waiters {
        Waiters(std::cell::RefCell::new(Vec::new()))
    }

    fn add(&self, exit: Own<Exit>) {
        self.0.borrow_mut().push(exit);
    }

    fn remove(&self, exit: &Exit) {
        let mut waiters = self.0.borrow_mut();
        let place = waiters
            .iter()
            .position(|waiter| waiter.as_any().is(exit.as_any()));
        let removed = place.map(|place| waiters.remove(place));
        drop(waiters);
        drop(removed);
    }

    /// All of them go on, also if one cannot.
    pub(super) fn wake(&self) -> PyResult<()> {
        let mut result = Ok(());
        for waiter in self.0.take() {
            let woken = err::preserved(|| waiter.wait.wake().map_err(err::take));
            if let (Err(exception), Ok(())) = (woken, &result) {
                result = Err(err::restore(exception));
            }
        }
        result
    }

    pub(super) fn list(&self) -> PyResult<Obj> {
        let waiters: Vec<Obj> = self
            .0
            .borrow()
            .iter()
            .map(|waiter| waiter.as_any().own())
            .collect();
        value::list(waiters.into_iter())
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        for waiter in self.0.borrow().iter() {
            visitor.object(waiter.as_any());
        }
    }

    pub(super) fn clear(&self) {
        drop(self.0.take());
    }
}

/// As [`Exit::of_process`], whatever the transport is.
pub(super) fn wait_for(transport: &Any) -> PyResult<Obj> {
    match transport.cast::<SubprocessTransport>() {
        Some(native) => Exit::of_process(native),
        None => transport.method0(crate::intern!("_wait")),
    }
}

pub(super) fn build() -> PyResult<()> {
    spec::<Exit>(c"ioxide.ProcessExit").build(&CLASS)?;
    Ok(())
}
