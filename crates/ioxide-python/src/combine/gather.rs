//! `gather()`: one future for the results of many.

use super::distinct::Distinct;
use super::{add_edge, awaiter, child, ensure_future, remove_edge};
use crate::errors;
use crate::future::{self, settle, Future, FutureView, Waiters};
use crate::kit::class::Construct;
use crate::kit::{
    err, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, PyResult, Signature, Visitor,
};
use crate::runtime::target::{Target, Told};
use crate::task::{cancel, suspend};
use crate::{intern, raise, running};
use std::cell::Cell;

/// The future that `gather()` returns. Cancelling it cancels the children; it is done when they are.
#[repr(C)]
pub(crate) struct Gathering {
    future: Future,
    /// A tuple of futures, one for each argument.
    children: ObjCell,
    cancel_requested: Cell<bool>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with the base class's struct, and the class is built from it below.
unsafe impl Native for Gathering {
    type Extra = Waiters;

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.future.traverse(visitor);
        visitor.cell(&self.children);
    }

    fn clear(&self) {
        self.future.clear();
        self.children.clear();
    }

    fn finalize(&self) {
        self.future.finalize();
    }

    fn last_rites(&self) {
        self.future.last_rites();
    }
}

impl Gathering {
    fn begin(event_loop: &Any, children: Obj) -> PyResult<Obj> {
        let body = Gathering {
            future: Future::empty(),
            children: ObjCell::new(children),
            cancel_requested: Cell::new(false),
        };
        let made = body.make()?;
        future::init(made.future.view(), Some(event_loop))?;
        Ok(made.into_obj())
    }

    pub(crate) fn view(&self) -> FutureView<'_> {
        self.future.view()
    }

    /// Cancels the children; false if none of them could be.
    pub(crate) fn cancel(&self, message: Option<&Any>) -> PyResult<bool> {
        if !self.view().base.is_pending() {
            return Ok(false);
        }
        let children = self.children.get_or_none();
        let mut any = false;
        if children.is_tuple() {
            for child in children.tuple_items() {
                any |= cancel::cancel_any(child, message)?;
            }
        }
        if any {
            self.cancel_requested.set(true);
        }
        Ok(any)
    }

    fn cancel_method(&self, args: Args<'_>) -> PyResult<bool> {
        const SIGNATURE: Signature<1> = Signature::new("cancel", ["msg"], 0);
        let [message] = args.bind(&SIGNATURE)?;
        self.cancel(message)
    }

    fn children(&self) -> PyResult<Obj> {
        value::list(self.children.get_or_none().collect()?.into_iter())
    }
}

/// What the children tell that they are done.
#[repr(C)]
struct Group {
    target: Target,
    /// The [`Gathering`], once all children are known.
    outer: ObjCell,
    children: ObjCell,
    awaiter: ObjCell,
    unfinished: Cell<usize>,
    return_exceptions: bool,
}

static GROUP: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Target`, and the class is built from it below.
unsafe impl Native for Group {
    type Extra = ();

    fn class() -> &'static Class {
        &GROUP
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cell(&self.outer);
        visitor.cell(&self.children);
        visitor.cell(&self.awaiter);
    }

    fn clear(&self) {
        self.outer.clear();
        self.children.clear();
        self.awaiter.clear();
    }
}

// SAFETY: begins with `Target` made of its `KIND`.
unsafe impl Told for Group {
    fn done(&self, child: &Any) -> PyResult<()> {
        self.unfinished.set(self.unfinished.get().saturating_sub(1));
        remove_edge(child, self.awaiter.get().as_deref())?;
        let outer = self.outer.get();
        let Some(outer) = outer
            .as_deref()
            .and_then(Any::exact::<Gathering>)
            .filter(|outer| outer.view().base.is_pending())
        else {
            return mark_retrieved(child);
        };
        if !self.return_exceptions {
            let failure = if child::is_cancelled(child)? {
                Some(child::cancelled_error(child)?)
            } else {
                child::exception(child)?
            };
            if let Some(exception) = failure {
                self.remove_edges()?;
                return settle::set_exception(outer.view(), &exception);
            }
        }
        if self.unfinished.get() > 0 {
            return Ok(());
        }
        self.finish(outer, child)
    }
}

fn mark_retrieved(child: &Any) -> PyResult<()> {
    if !child::is_cancelled(child)? {
        child::exception(child)?;
    }
    Ok(())
}

impl Group {
    /// Children that outlive the gathering are awaited by nobody.
    fn remove_edges(&self) -> PyResult<()> {
        let (Some(awaiter), Some(children)) = (self.awaiter.get(), self.children.get()) else {
            return Ok(());
        };
        for child in children.tuple_items() {
            remove_edge(child, Some(&awaiter))?;
        }
        Ok(())
    }

    /// All children are done; `last` was the last to end.
    fn finish(&self, outer: &Gathering, last: &Any) -> PyResult<()> {
        let children = self.children.get_or_none();
        let children = children.tuple_items();
        let mut results = Vec::with_capacity(children.len());
        for child in children {
            results.push(self.outcome_of(child)?);
        }
        if outer.cancel_requested.get() {
            // A cancellation goes through whatever became of the children, as the last argument has it.
            let exception = child::cancelled_error(children.last().unwrap_or(&last))?;
            return settle::set_exception(outer.view(), &exception);
        }
        let results = value::list(results.into_iter())?;
        settle::set_result(outer.view(), results)
    }

    #[inline]
    fn outcome_of(&self, child: &Any) -> PyResult<Obj> {
        if child::is_cancelled(child)? {
            return cancelled_result(child);
        }
        match child::exception(child)? {
            Some(exception) => Ok(exception),
            None => child::result(child),
        }
    }

    /// The future of an argument, listened to unless it is done already.
    fn admit(&self, fut: &Any, done: &mut Vec<Obj>) -> PyResult<()> {
        self.unfinished.set(self.unfinished.get() + 1);
        if child::is_done(fut)? {
            done.push(fut.own());
            return Ok(());
        }
        add_edge(fut, self.awaiter.get().as_deref())?;
        child::listen(fut, &self.target())
    }
}

/// What stands for a cancelled child among the results.
fn cancelled_result(child: &Any) -> PyResult<Obj> {
    let message = match FutureView::exact(child) {
        Some(view) => view.base.cancel_msg.get_or_none(),
        None => child.attr(intern!("_cancel_message"))?,
    };
    let message = message.some().unwrap_or(intern!(""));
    errors::cancelled()?.call1(message)
}

/// `return_exceptions`, the only keyword there is.
fn return_exceptions(args: Args<'_>) -> PyResult<bool> {
    let mut on = false;
    for (name, value) in args.keywords() {
        match name.to_str()? {
            "return_exceptions" => on = value.truthy()?,
            other => {
                return Err(raise!(
                    err::type_error(),
                    "gather() got an unexpected keyword argument '{other}'"
                ))
            }
        }
    }
    Ok(on)
}

/// `gather(*coros_or_futures, return_exceptions=False)`.
pub(crate) fn gather(args: Args<'_>) -> PyResult<Obj> {
    let return_exceptions = return_exceptions(args)?;
    let arguments = args.positional();
    if arguments.is_empty() {
        return gather_nothing();
    }
    let group = Group {
        target: Target::new(&Group::KIND),
        outer: ObjCell::empty(),
        children: ObjCell::empty(),
        awaiter: ObjCell::empty(),
        unfinished: Cell::new(0),
        return_exceptions,
    }
    .make()?;
    let mut event_loop = running::running_loop()?;
    if event_loop.is_some() {
        drop(group.awaiter.replace(awaiter()?));
    }
    let mut done = Vec::new();
    let mut children: Vec<Obj> = Vec::with_capacity(arguments.len());
    let mut distinct = Distinct::among(arguments);
    for (index, argument) in arguments.iter().enumerate() {
        if let Some(earlier) = distinct.earlier(index)? {
            children.push(children[earlier].clone());
            continue;
        }
        let fut = ensure_future::ensure(argument, event_loop.as_deref())?;
        if event_loop.is_none() {
            event_loop = Some(suspend::loop_of(&fut)?);
        }
        if !fut.is(argument) {
            // Nobody else can reach the task, so nobody could do anything about a report.
            child::mute(&fut)?;
        }
        group.admit(&fut, &mut done)?;
        children.push(fut);
    }
    let children = value::tuple_of(children.into_iter())?;
    group.children.set(children.clone());
    let event_loop = event_loop.unwrap_or_else(Obj::none);
    let outer = Gathering::begin(&event_loop, children)?;
    group.outer.set(outer.clone());
    // Those that are done already, such as eager tasks, are told at once: the gathering may be over now.
    for child in &done {
        group.done(child)?;
    }
    Ok(outer)
}

fn gather_nothing() -> PyResult<Obj> {
    let outer = ensure_future::create_future(&*future::current_loop()?)?;
    let empty = value::list(std::iter::empty())?;
    match FutureView::exact(&outer) {
        Some(view) => settle::set_result(view, empty)?,
        None => drop(outer.method(intern!("set_result"), &[&empty])?),
    }
    Ok(outer)
}

pub(crate) fn build() -> PyResult<()> {
    ClassSpec::new::<Gathering>(c"ioxide._GatheringFuture")
        .base(Future::class().object())
        .doc(c"The outer future of gather(): cancelling it cancels the children.")
        .methods([
            crate::method!(args Gathering, "cancel", Gathering::cancel_method,
                "Cancels the children; False if none of them could be."),
        ])
        .getset([
            crate::getter!(
                Gathering,
                "_children",
                Gathering::children,
                "The futures, one for each argument."
            ),
            crate::getter!(
                Gathering,
                "_cancel_requested",
                |this: &Gathering| this.cancel_requested.get(),
                "Whether a cancellation reached a child."
            ),
        ])
        .build(&CLASS)?;
    ClassSpec::new::<Group>(c"ioxide._GatherGroup").build(&GROUP)?;
    Ok(())
}
