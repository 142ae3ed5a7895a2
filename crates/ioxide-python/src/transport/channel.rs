//! Transports of streams of bytes: sockets, and the two ends of pipes. One body, three classes.

use super::base::{self, Base, Kind};
use super::closing;
use super::descriptor::Descriptor;
use super::feed::Feed;
use super::methods;
use super::receive::Habit;
use super::rhythm::Rhythm;
use super::write::Chunk;
use crate::kit::class::FreeList;
use crate::kit::{err, Any, Class, ClassSpec, Native, Obj, ObjCell, Own, PyResult, Visitor};
use crate::runtime::io::Side;
use crate::runtime::target::{TargetKind, Told};
use crate::runtime::EventLoop;
use crate::{import, raise};
use ioxide_core::buffer::outgoing::Outgoing;
use std::cell::{Cell, UnsafeCell};

/// What the descriptor is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    Socket,
    ReadPipe,
    WritePipe,
}

/// The body of the three classes.
#[repr(C)]
pub(crate) struct Channel {
    pub(super) base: Base,
    /// Bytes that the kernel has not taken. Never borrowed while Python code runs.
    outgoing: UnsafeCell<Outgoing<Chunk>>,
    /// The future of one who waits until nothing is left to write; writing is refused meanwhile.
    pub(super) drained: ObjCell,
    pub(super) rhythm: Rhythm,
    pub(super) medium: Medium,
    pub(super) feed: Cell<Feed>,
    pub(super) habit: Habit,
    /// The pipe is a child's, and is made larger if it carries much; see [`super::capacity`].
    pub(super) may_grow: Cell<bool>,
    /// The kernel takes no more for now: the writable side is watched.
    pub(super) blocked: Cell<bool>,
    /// Stands in the list of those that are flushed at the end of the turn.
    pub(super) listed: Cell<bool>,
    /// `write_eof` was called.
    pub(super) eof: Cell<bool>,
}

// SAFETY: only used to read the body of objects that have it; no class is made of it.
unsafe impl Native for Channel {
    type Extra = ();

    fn class() -> &'static Class {
        static NEVER: Class = Class::new();
        &NEVER
    }
}

impl Channel {
    fn new(
        target: &'static TargetKind,
        kind: &'static Kind,
        medium: Medium,
        event_loop: &EventLoop,
        protocol: &Any,
        descriptor: Descriptor,
    ) -> PyResult<Channel> {
        Ok(Channel {
            base: Base::new(target, kind, event_loop, protocol, descriptor),
            outgoing: UnsafeCell::new(Outgoing::new()),
            drained: ObjCell::empty(),
            rhythm: Rhythm::new(),
            medium,
            feed: Cell::new(Feed::of(protocol)?),
            habit: Habit::new(),
            may_grow: Cell::new(false),
            blocked: Cell::new(false),
            listed: Cell::new(false),
            eof: Cell::new(false),
        })
    }

    /// The queue of bytes to be written. No Python code may run while it is borrowed.
    #[allow(clippy::mut_from_ref, reason = "see the caller's promise")]
    #[inline(always)]
    pub(super) fn outgoing(&self) -> &mut Outgoing<Chunk> {
        // SAFETY: the interpreter lock is held, and by the caller's promise there is no other borrow.
        unsafe { &mut *self.outgoing.get() }
    }

    /// The socket transport whose methods nobody has replaced, in a subclass or on the object itself.
    #[inline]
    pub(crate) fn untouched(transport: &Any) -> Option<&Channel> {
        let channel = transport.exact::<SocketTransport>()?.channel();
        channel.base.dict.is_empty().then_some(channel)
    }

    /// How many bytes wait that the kernel has not taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outgoing().len()
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.base.closing.get()
    }

    pub(super) fn set_protocol(&self, protocol: &Any) -> PyResult<()> {
        let feed = Feed::of(protocol)?;
        self.base.protocol.set(protocol.own());
        self.feed.set(feed);
        Ok(())
    }

    fn traverse_body(&self, visitor: &mut Visitor) {
        self.base.traverse(visitor);
        visitor.cell(&self.drained);
    }

    fn clear_body(&self) {
        self.base.clear();
        self.drained.clear();
    }

    /// `connection_made` or `connection_lost` is due; after the latter, who waits to write is failed.
    fn fire_body(&self) -> PyResult<()> {
        let fired = self.base.fire();
        self.refuse_drained(fired)
    }

    /// After the transport is over: whoever waits for it to drain waits in vain.
    pub(super) fn refuse_drained(&self, result: PyResult<()>) -> PyResult<()> {
        if !self.base.over.get() || self.drained.is_empty() {
            return result;
        }
        let result = result.map_err(err::take);
        if let Some(drained) = self.drained.take() {
            let gone = err::take(raise!(
                err::connection_error(),
                "Connection is closed by peer"
            ));
            base::fail(&drained, &gone)?;
        }
        result.map_err(err::restore)
    }
}

/// The context of the protocol's calls, of a socket transport of ours.
pub(crate) fn context_of(transport: &Any) -> Option<Obj> {
    let transport = transport.exact::<SocketTransport>()?;
    transport.channel().base.context.get()
}

unsafe fn waiting(object: &Any) -> usize {
    // SAFETY: the kinds below belong to channels only.
    unsafe { object.cast_unchecked::<Channel>() }
        .outgoing()
        .len()
}

unsafe fn flush(object: &Any) -> PyResult<()> {
    // SAFETY: as above.
    unsafe { object.cast_unchecked::<Channel>() }.flush_held_back()
}

unsafe fn discard(object: &Any) {
    // SAFETY: as above.
    unsafe { object.cast_unchecked::<Channel>() }.discard();
}

fn is_eio(exception: &Any) -> bool {
    base::is_os_error(exception)
        && exception
            .attr(crate::intern!("errno"))
            .and_then(|errno| errno.to_i64())
            .is_ok_and(|errno| errno == libc::EIO.into())
}

static SOCKET_KIND: Kind = Kind {
    name: "SocketTransport",
    what: "socket transport",
    object_key: "socket",
    file_mode: None,
    waiting,
    flush,
    discard,
    expected: base::is_os_error,
};

static READ_PIPE_KIND: Kind = Kind {
    name: "ReadPipeTransport",
    what: "pipe transport",
    object_key: "pipe",
    file_mode: Some("rb"),
    waiting,
    flush,
    discard,
    expected: is_eio,
};

static WRITE_PIPE_KIND: Kind = Kind {
    name: "WritePipeTransport",
    what: "pipe transport",
    object_key: "pipe",
    file_mode: Some("wb"),
    waiting,
    flush,
    discard,
    expected: base::is_os_error,
};

macro_rules! channel_class {
    ($name:ident, $place:ident, $medium:expr, $kind:expr) => {
        #[repr(transparent)]
        pub(crate) struct $name(Channel);

        static $place: Class = Class::new();

        // SAFETY: `repr(transparent)` over a `repr(C)` struct that begins with `Head`; built from it below.
        unsafe impl Native for $name {
            type Extra = ();

            fn class() -> &'static Class {
                &$place
            }

            #[inline(always)]
            fn freelist() -> Option<&'static FreeList> {
                static LIST: FreeList = FreeList::new(64);
                Some(&LIST)
            }

            fn traverse(&self, visitor: &mut Visitor) {
                self.0.traverse_body(visitor);
            }

            fn clear(&self) {
                self.0.clear_body();
            }

            fn finalize(&self) {
                closing::abandoned(&self.0.base);
            }

            #[inline(always)]
            fn may_skip_finalizer(&self) -> bool {
                self.0.base.over.get()
            }
        }

        // SAFETY: begins with `Target`.
        unsafe impl Told for $name {
            fn fire(&self) -> PyResult<()> {
                self.0.fire_body()
            }

            fn readable(&self) -> PyResult<()> {
                self.0.readable()
            }

            fn writable(&self) -> PyResult<()> {
                self.0.writable()
            }

            fn unwatched(&self, exception: &Any) -> PyResult<()> {
                closing::unwatched(&self.0.base, exception)
            }
        }

        impl $name {
            pub(crate) fn create(
                event_loop: &EventLoop,
                protocol: &Any,
                descriptor: Descriptor,
            ) -> PyResult<Own<$name>> {
                let channel = Channel::new(
                    &Self::KIND,
                    &$kind,
                    $medium,
                    event_loop,
                    protocol,
                    descriptor,
                )?;
                $name(channel).make()
            }

            pub(crate) fn channel(&self) -> &Channel {
                &self.0
            }
        }
    };
}

channel_class!(SocketTransport, SOCKET_CLASS, Medium::Socket, SOCKET_KIND);
channel_class!(
    ReadPipeTransport,
    READ_PIPE_CLASS,
    Medium::ReadPipe,
    READ_PIPE_KIND
);
channel_class!(
    WritePipeTransport,
    WRITE_PIPE_CLASS,
    Medium::WritePipe,
    WRITE_PIPE_KIND
);

impl Channel {
    /// The bytes that wait are given up, and the writable side is watched no more.
    pub(super) fn discard(&self) {
        let given_up = self.outgoing().clear();
        drop(given_up);
        if self.blocked.replace(false) {
            self.base.unwatch(Side::Write);
        }
    }
}

/// Refuses to be built on a base class with another layout than the one that the bodies are made for.
pub(crate) fn base_class(name: &str) -> PyResult<Obj> {
    let base = crate::kit::names::import_now("asyncio.transports", name)?;
    let size = base.attr(crate::intern!("__basicsize__"))?.to_i64()?;
    let expected = size_of::<crate::kit::Head>() + size_of::<ObjCell>();
    if size != expected as i64 {
        return Err(raise!(
            err::import_error(),
            "asyncio.{name} has another layout than ioxide knows; a newer ioxide may work"
        ));
    }
    Ok(base)
}

pub(super) fn spec<T: Native>(
    name: &'static std::ffi::CStr,
    bases: &[&str],
) -> PyResult<ClassSpec> {
    let mut spec = ClassSpec::new::<T>(name);
    for base in bases {
        spec = spec.base(&*base_class(base)?);
    }
    Ok(spec
        .dict(std::mem::offset_of!(Base, dict))
        .weak(std::mem::offset_of!(Base, weak))
        .slot(crate::kit::ffi::Py_tp_repr, crate::unary!(Base, Base::show))
        .methods(methods::shared())
        .getset(methods::shared_properties()))
}

pub(crate) fn build() -> PyResult<()> {
    import!("asyncio", "transports")?;
    spec::<SocketTransport>(c"ioxide.SocketTransport", &["Transport"])?
        .doc(c"The transport of a stream socket.\n\nAs asyncio.Transport: not thread-safe.")
        .methods(methods::stream())
        .methods(methods::pausing())
        .methods(methods::reading())
        .methods(methods::writing())
        .methods(methods::flow())
        .methods(methods::socket())
        .getset(methods::socket_properties())
        .getset(methods::stream_socket_properties())
        .build(&SOCKET_CLASS)?;
    spec::<ReadPipeTransport>(c"ioxide.ReadPipeTransport", &["ReadTransport"])?
        .doc(c"The transport of the reading end of a pipe.\n\nAs asyncio.ReadTransport: not thread-safe.")
        .methods(methods::stream())
        .methods(methods::pausing())
        .methods(methods::reading())
        .build(&READ_PIPE_CLASS)?;
    spec::<WritePipeTransport>(c"ioxide.WritePipeTransport", &["Transport"])?
        .doc(c"The transport of the writing end of a pipe.\n\nAs asyncio.WriteTransport: not thread-safe.")
        .methods(methods::stream())
        .methods(methods::writing())
        .methods(methods::flow())
        .build(&WRITE_PIPE_CLASS)?;
    Ok(())
}
