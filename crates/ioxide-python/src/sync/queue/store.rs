//! The items of a queue.
//!
//! Those of a plain first-in-first-out queue are held natively until Python code asks for `_queue`: then they move
//! into a `collections.deque`, which is the store from then on, so that whatever is done to it takes effect. The
//! other queues have a list from the beginning, as asyncio's do.

use crate::kit::value::check;
use crate::kit::{err, ffi, value, Any, Obj, PyResult, Visitor};
use crate::{import, intern, raise};
use std::cell::UnsafeCell;
use std::collections::VecDeque;

/// In which order items come out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// The oldest first.
    Fifo,
    /// The newest first.
    Lifo,
    /// The least first.
    Priority,
}

enum Items {
    Native(VecDeque<Obj>),
    Object(Obj),
}

pub(super) struct Store(UnsafeCell<Items>);

impl Store {
    pub(super) const fn new() -> Store {
        Store(UnsafeCell::new(Items::Native(VecDeque::new())))
    }

    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    #[inline(always)]
    fn items(&self) -> &mut Items {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.0.get() }
    }

    fn replace(&self, items: Items) {
        let old = std::mem::replace(self.items(), items);
        drop(old);
    }

    /// The object that holds the items, if one does.
    #[inline]
    fn object(&self) -> Option<Obj> {
        match self.items() {
            Items::Native(_) => None,
            Items::Object(object) => Some(object.clone()),
        }
    }

    /// Begins anew, without items.
    pub(super) fn reset(&self, order: Order) -> PyResult<()> {
        let items = match order {
            Order::Fifo => Items::Native(VecDeque::new()),
            Order::Lifo | Order::Priority => Items::Object(value::list(std::iter::empty())?),
        };
        self.replace(items);
        Ok(())
    }

    #[inline]
    pub(super) fn len(&self) -> PyResult<usize> {
        if let Items::Native(items) = self.items() {
            return Ok(items.len());
        }
        self.object().map_or(Ok(0), |object| object.len())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> PyResult<bool> {
        if let Items::Native(items) = self.items() {
            return Ok(items.is_empty());
        }
        self.object()
            .map_or(Ok(true), |object| Ok(!object.truthy()?))
    }

    #[inline]
    pub(super) fn put(&self, item: &Any, order: Order) -> PyResult<()> {
        if let Items::Native(items) = self.items() {
            items.push_back(item.own());
            return Ok(());
        }
        let Some(object) = self.object() else {
            return Ok(());
        };
        match order {
            Order::Priority => {
                import!("heapq", "heappush")?.call(&[&object, item])?;
            }
            _ if is_list(&object) => object.list_push(item)?,
            _ => {
                object.method(intern!("append"), &[item])?;
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn take(&self, order: Order) -> PyResult<Obj> {
        if let Items::Native(items) = self.items() {
            let taken = match order {
                Order::Fifo => items.pop_front(),
                Order::Lifo | Order::Priority => items.pop_back(),
            };
            return taken.ok_or_else(|| raise!(err::index_error(), "pop from an empty deque"));
        }
        let object = self.as_object()?;
        match order {
            Order::Priority => import!("heapq", "heappop")?.call1(&object),
            Order::Fifo => object.method0(intern!("popleft")),
            Order::Lifo if is_list(&object) => pop_last(&object),
            Order::Lifo => object.method0(intern!("pop")),
        }
    }

    /// The value of `_queue`.
    pub(super) fn as_object(&self) -> PyResult<Obj> {
        if let Some(object) = self.object() {
            return Ok(object);
        }
        let items = value::list(self.native_items().into_iter())?;
        let object = import!("collections", "deque")?.call1(&items)?;
        self.set(object.clone());
        Ok(object)
    }

    /// Sets `_queue`.
    pub(super) fn set(&self, object: Obj) {
        self.replace(Items::Object(object));
    }

    fn native_items(&self) -> Vec<Obj> {
        match self.items() {
            Items::Native(items) => items.iter().cloned().collect(),
            Items::Object(_) => Vec::new(),
        }
    }

    /// The items as a list, in the order in which they are stored.
    pub(super) fn snapshot(&self) -> PyResult<Obj> {
        let items = match self.object() {
            Some(object) => object.collect()?,
            None => self.native_items(),
        };
        value::list(items.into_iter())
    }

    pub(super) fn traverse(&self, visitor: &mut Visitor) {
        match self.items() {
            Items::Native(items) => items.iter().for_each(|item| visitor.object(item)),
            Items::Object(object) => visitor.object(object),
        }
    }

    pub(super) fn clear(&self) {
        self.replace(Items::Native(VecDeque::new()));
    }
}

fn is_list(object: &Any) -> bool {
    // SAFETY: alive.
    unsafe { ffi::PyList_CheckExact(object.raw()) != 0 }
}

fn pop_last(list: &Any) -> PyResult<Obj> {
    // SAFETY: a list; the item is owned before the list gives it up.
    unsafe {
        let last = ffi::PyList_Size(list.raw()) - 1;
        if last < 0 {
            return Err(raise!(err::index_error(), "pop from empty list"));
        }
        let item = Obj::from_borrowed(ffi::PyList_GET_ITEM(list.raw(), last));
        check(ffi::PyList_SetSlice(
            list.raw(),
            last,
            last + 1,
            std::ptr::null_mut(),
        ))?;
        Ok(item)
    }
}
