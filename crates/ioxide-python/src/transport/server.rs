//! What a server knows of its connections.

use super::base::Base;
use crate::kit::class::Construct;
use crate::kit::{Any, Args, Class, ClassSpec, Head, Native, Obj, PyResult};
use crate::{intern, raise};
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;

/// What is native of `ioxide.Server`, which derives from this class.
#[repr(C)]
pub(crate) struct BaseServer {
    head: Head,
    /// The transports that were accepted and are not over. Borrowed: each leaves before it dies.
    clients: UnsafeCell<Vec<NonNull<Base>>>,
    /// Nobody listens any more: who waits for the server's end waits for the last client.
    closed: Cell<bool>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for BaseServer {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }
}

impl Construct for BaseServer {
    fn empty() -> BaseServer {
        BaseServer {
            head: Head::new(),
            clients: UnsafeCell::new(Vec::new()),
            closed: Cell::new(false),
        }
    }

    fn init(&self, _args: Args<'_>) -> PyResult<()> {
        Ok(())
    }
}

impl BaseServer {
    #[allow(
        clippy::mut_from_ref,
        reason = "private; each use ends before anything else can run"
    )]
    fn clients(&self) -> &mut Vec<NonNull<Base>> {
        // SAFETY: the interpreter lock is held and no method keeps the borrow while calling out.
        unsafe { &mut *self.clients.get() }
    }

    /// `_clients`: the transports, in no particular order.
    fn client_objects(&self) -> PyResult<Obj> {
        let objects: Vec<Obj> = self
            .clients()
            .iter()
            // SAFETY: whoever stands in the list is alive.
            .map(|client| unsafe { client.as_ref() }.object().own())
            .collect();
        crate::kit::value::list(objects.into_iter())
    }

    /// Notes that nobody listens any more.
    fn mark_closed(&self) {
        self.closed.set(true);
    }
}

/// Makes the transport one of the server's.
pub(super) fn attach(server: Option<&Any>, transport: &Base) -> PyResult<()> {
    let Some(object) = server else { return Ok(()) };
    let Some(server) = object.cast::<BaseServer>() else {
        return Err(raise!(
            crate::kit::err::type_error(),
            "an ioxide server is expected, got {}",
            object.repr_text()
        ));
    };
    transport.seat.set(server.clients().len());
    server.clients().push(NonNull::from(transport));
    transport.server.set(object.own());
    Ok(())
}

/// Takes the transport out of its server, which is told if it was the last one.
pub(super) fn detach(transport: &Base) {
    let Some(object) = transport.server.take() else {
        return;
    };
    let Some(server) = object.cast::<BaseServer>() else {
        return;
    };
    let clients = server.clients();
    let seat = transport.seat.get();
    debug_assert!(clients[seat] == NonNull::from(transport));
    clients.swap_remove(seat);
    if let Some(moved) = clients.get(seat) {
        // SAFETY: whoever stands in the list is alive.
        unsafe { moved.as_ref() }.seat.set(seat);
    }
    if clients.is_empty() && server.closed.get() {
        if let Err(raised) = object.method0(intern!("_wake_if_over")) {
            crate::kit::err::unraisable(raised, &object);
        }
    }
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<BaseServer>(c"ioxide.BaseServer")
        .doc(c"What is native of ioxide.Server.")
        .constructible::<BaseServer>()
        .methods([
            crate::method!(noargs BaseServer, "_mark_closed", BaseServer::mark_closed,
            "Notes that nobody listens any more."),
        ])
        .getset([crate::getter!(
            BaseServer,
            "_clients",
            BaseServer::client_objects,
            "The transports of the connections that are open."
        )])
        .build(&CLASS)?;
    Ok(())
}
