//! Who is told when a future is done, in the order in which they asked.

use super::view::FutureView;
use crate::handle::deferred::Deferred;
use crate::kit::{value, Any, Obj, Own, PyResult, Small, Visitor, Word};
use crate::runtime::schedule;
use crate::runtime::snapshot::Context;
use crate::runtime::target::Target;
use crate::runtime::work::Work;
use crate::runtime::EventLoop;
use crate::task::{wake, Task};
use std::cell::Cell;
use std::ptr::{with_exposed_provenance_mut, NonNull};

/// One who waits for a future.
pub(crate) enum Waiter {
    /// A callback of Python code, with the context to run it in.
    Callback(Small<Deferred>),
    /// A task of ours that is parked on the future.
    Task(Own<Task>),
    /// A native object that is told without a Python call (gather, wait, shield …).
    Target(Own<Target>),
}

impl Waiter {
    /// The callback and the context by which Python code sees this waiter.
    fn as_pair(&self) -> PyResult<(Obj, Obj)> {
        match self {
            Waiter::Callback(deferred) => {
                Ok((deferred.callback.clone(), deferred.context.presentable()?))
            }
            Waiter::Task(task) => Ok((wake::callable(task)?, task.context()?)),
            Waiter::Target(target) => Ok((target.callable()?, Obj::none())),
        }
    }
}

/// The waiters of one future, in one word. Nearly always there is one at most.
///
/// From 3.13 on the interpreter looks for the values of an instance's attributes right behind the C base's fields,
/// where asyncio's own futures have them and ours have this; the byte [`VALID`] says whether they are there. The
/// word is rotated, so that the ends of all addresses, which are zero, come to lie in that byte.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct Waiters(Cell<usize>);

/// Index of `valid` in the interpreter's `PyDictValues`.
const VALID: usize = 3;
const ROTATION: u32 = 24;

/// What the word says.
enum Waiting {
    Nobody,
    One(Waiter),
    #[allow(clippy::box_collection, reason = "one word in each future")]
    Several(Box<Vec<Waiter>>),
}

const CALLBACK: usize = 0;
const TASK: usize = 1;
const TARGET: usize = 2;
const SEVERAL: usize = 3;

impl Waiting {
    #[inline(always)]
    fn into_word(self) -> Option<Word> {
        Some(match self {
            Waiting::Nobody => return None,
            Waiting::One(Waiter::Callback(deferred)) => Word::new(deferred.into_raw(), CALLBACK),
            Waiting::One(Waiter::Task(task)) => Word::new(task.into_pointer(), TASK),
            Waiting::One(Waiter::Target(target)) => Word::new(target.into_pointer(), TARGET),
            Waiting::Several(waiters) => Word::new(NonNull::from(Box::leak(waiters)), SEVERAL),
        })
    }

    /// # Safety
    /// The word was made by `into_word`, and is not used again.
    #[inline(always)]
    unsafe fn from_word(word: Option<Word>) -> Waiting {
        let Some(word) = word else {
            return Waiting::Nobody;
        };
        // SAFETY: by the caller's promise, what stands under each tag is what `into_word` has put there.
        unsafe {
            match word.tag() {
                CALLBACK => Waiting::One(Waiter::Callback(Small::from_raw(word.pointer()))),
                TASK => Waiting::One(Waiter::Task(Own::steal(word.pointer()))),
                TARGET => Waiting::One(Waiter::Target(Own::steal(word.pointer()))),
                _ => Waiting::Several(Box::from_raw(word.pointer().as_ptr())),
            }
        }
    }
}

impl Waiters {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get() == 0
    }

    #[inline(always)]
    fn set(&self, waiting: Waiting) {
        let address = waiting
            .into_word()
            .map_or(0, |word| word.into_raw().expose_provenance());
        let word = address.rotate_right(ROTATION);
        debug_assert!(word.to_le_bytes()[VALID] == 0);
        self.0.set(word);
    }

    #[inline]
    pub(crate) fn push(&self, waiter: Waiter) {
        let waiting = match self.take() {
            Waiting::Nobody => Waiting::One(waiter),
            Waiting::One(first) => Waiting::Several(Box::new(vec![first, waiter])),
            Waiting::Several(mut waiters) => {
                waiters.push(waiter);
                Waiting::Several(waiters)
            }
        };
        self.set(waiting);
    }

    /// Takes all of them.
    #[inline(always)]
    fn take(&self) -> Waiting {
        let address = self.0.take().rotate_left(ROTATION);
        let word = NonNull::new(with_exposed_provenance_mut(address));
        // SAFETY: `set` has put the word here, and it is taken out, so it is used once.
        unsafe { Waiting::from_word(word.map(|raw| Word::from_raw(raw))) }
    }

    /// Looks at all of them; `f` runs no Python code and adds no waiter.
    fn each(&self, mut f: impl FnMut(&Waiter)) {
        let waiting = self.take();
        match &waiting {
            Waiting::Nobody => {}
            Waiting::One(waiter) => f(waiter),
            Waiting::Several(waiters) => waiters.iter().for_each(f),
        }
        self.set(waiting);
    }

    /// Takes out the native waiter, if it is among them.
    pub(crate) fn remove_target(&self, target: &Any) {
        self.retain(|waiter| !matches!(waiter, Waiter::Target(own) if own.as_obj().is(target)));
    }

    fn retain(&self, mut keep: impl FnMut(&Waiter) -> bool) {
        let waiters = match self.take() {
            Waiting::Nobody => return,
            Waiting::One(waiter) => vec![waiter],
            Waiting::Several(waiters) => *waiters,
        };
        let (kept, removed): (Vec<Waiter>, Vec<Waiter>) =
            waiters.into_iter().partition(|w| keep(w));
        kept.into_iter().for_each(|waiter| self.push(waiter));
        drop(removed);
    }

    /// `_callbacks`: the pairs (callback, context), or nothing.
    pub(crate) fn pairs(&self) -> PyResult<Vec<(Obj, Obj)>> {
        let mut pairs = Vec::new();
        let mut failed = None;
        self.each(|waiter| match waiter.as_pair() {
            Ok(pair) => pairs.push(pair),
            Err(raised) => failed = Some(raised),
        });
        failed.map_or(Ok(pairs), Err)
    }

    /// Removes every waiter whose callback equals `callback`; says how many there were.
    ///
    /// Comparing runs Python code, which may add waiters or take all of them: the comparison works on a copy.
    pub(crate) fn remove_equal(&self, callback: &Any) -> PyResult<usize> {
        let mut matching = Vec::new();
        for (index, (other, _)) in self.pairs()?.iter().enumerate() {
            if other.equals(callback)? {
                matching.push((index, other.clone()));
            }
        }
        if matching.is_empty() {
            return Ok(0);
        }
        let (mut index, mut removed) = (0, 0);
        self.retain(|waiter| {
            let hit = matching.iter().any(|(at, other)| {
                *at == index
                    && match waiter {
                        Waiter::Callback(deferred) => deferred.callback.is(other),
                        _ => true,
                    }
            });
            index += 1;
            removed += usize::from(hit);
            !hit
        });
        Ok(removed)
    }

    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        self.each(|waiter| match waiter {
            Waiter::Callback(deferred) => deferred.traverse(visitor),
            Waiter::Task(task) => visitor.object(task.as_obj()),
            Waiter::Target(target) => visitor.object(target.as_obj()),
        });
    }

    pub(crate) fn clear(&self) {
        drop(self.take());
    }
}

impl Drop for Waiters {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.clear();
        }
    }
}

/// Makes everybody who waits for the future ready. Called once, when the future is done.
#[inline]
pub(crate) fn schedule_all(future: FutureView<'_>) -> PyResult<()> {
    let c_callbacks = !future.base.c_callback0.is_empty();
    if future.waiters.is_empty() && !c_callbacks {
        return Ok(());
    }
    let event_loop = future.base.event_loop.get_or_none();
    let native = EventLoop::of(&event_loop);
    let waiting = future.waiters.take();
    if c_callbacks {
        schedule_c_callbacks(future, &event_loop)?;
    }
    match waiting {
        Waiting::Nobody => Ok(()),
        Waiting::One(waiter) => schedule_one(future, waiter, &event_loop, native),
        Waiting::Several(waiters) => waiters
            .into_iter()
            .try_for_each(|waiter| schedule_one(future, waiter, &event_loop, native)),
    }
}

#[inline]
fn schedule_one(
    future: FutureView<'_>,
    waiter: Waiter,
    event_loop: &Any,
    native: Option<&EventLoop>,
) -> PyResult<()> {
    match (waiter, native) {
        (Waiter::Task(task), Some(native)) => {
            native.push(Work::Wake(task));
            Ok(())
        }
        (Waiter::Target(target), Some(native)) => {
            native.push(Work::Done(target, future.object.own()));
            Ok(())
        }
        (Waiter::Callback(deferred), Some(native)) => {
            native.refuse_if_closed()?;
            native.push(if native.debug() {
                Work::Handle(deferred.handle(native, future.object)?)
            } else {
                Work::Called(future.object.own(), deferred)
            });
            Ok(())
        }
        (waiter, None) => {
            let (callback, context) = waiter.as_pair()?;
            schedule::call_soon(event_loop, &callback, &[future.object], &context)
        }
    }
}

/// Callbacks that unbound calls of the C class's methods left in the C code's fields.
#[cold]
fn schedule_c_callbacks(future: FutureView<'_>, event_loop: &Any) -> PyResult<()> {
    let base = future.base;
    let callback = base.c_callback0.take();
    let context = base.c_context0.take();
    if let (Some(callback), Some(context)) = (callback, context) {
        schedule::call_soon(event_loop, &callback, &[future.object], &context)?;
    }
    if let Some(list) = base.c_callbacks.take().filter(|list| !list.is_none()) {
        for pair in list.collect()? {
            if let [callback, context] = pair.tuple_items() {
                schedule::call_soon(event_loop, callback, &[future.object], context)?;
            }
        }
    }
    Ok(())
}

/// `add_done_callback`.
pub(crate) fn add_done_callback(
    future: FutureView<'_>,
    callback: &Any,
    context: Option<&Any>,
) -> PyResult<()> {
    let event_loop = super::view::require_loop(future)?;
    let native = EventLoop::of(&event_loop);
    let context = match (context.and_then(Any::some), native) {
        (Some(context), _) => Context::given(context.own()),
        (None, Some(native)) => native.capture()?,
        (None, None) => Context::given(crate::kit::context::copy_current()?),
    };
    let waiter = Waiter::Callback(Small::new(Deferred {
        callback: callback.own(),
        context,
    })?);
    if future.base.is_pending() {
        future.waiters.push(waiter);
        return Ok(());
    }
    schedule_one(future, waiter, &event_loop, native)
}

/// Adds a native waiter; a future that is done tells it in the next turn.
pub(crate) fn add_target(future: FutureView<'_>, target: &Own<Target>) -> PyResult<()> {
    if future.base.is_pending() {
        future.waiters.push(Waiter::Target(target.clone()));
        return Ok(());
    }
    let event_loop = super::view::require_loop(future)?;
    let native = EventLoop::of(&event_loop);
    schedule_one(future, Waiter::Target(target.clone()), &event_loop, native)
}

/// The value of `_callbacks`.
pub(crate) fn callbacks(future: FutureView<'_>) -> PyResult<Obj> {
    let mut pairs = Vec::new();
    if let Some(callback) = future.base.c_callback0.get() {
        pairs.push((callback, future.base.c_context0.get_or_none()));
    }
    pairs.extend(future.waiters.pairs()?);
    if pairs.is_empty() {
        return Ok(Obj::none());
    }
    let mut tuples = Vec::with_capacity(pairs.len());
    for (callback, context) in &pairs {
        tuples.push(value::tuple(&[callback, context])?);
    }
    value::list(tuples.into_iter())
}
