//! A listening socket: accepts in batches, and has patience when descriptors run out.

use super::channel::SocketTransport;
use super::descriptor::Descriptor;
use super::{create, server};
use crate::kit::class::Construct;
use crate::kit::{
    context, err, value, Any, Args, Class, ClassSpec, Native, Obj, ObjCell, PyResult, Raised,
    Signature, Visitor,
};
use crate::runtime::io::{descriptor, Side, Watcher};
use crate::runtime::target::{Target, Told};
use crate::runtime::timers::Timer;
use crate::runtime::EventLoop;
use crate::streams::factory::StreamProtocols;
use crate::task::step;
use crate::tls::{Settings, TlsTransport};
use crate::{import, intern};
use ioxide_core::net::accept::{accept, classify, Failure};
use ioxide_core::net::address::Address;
use ioxide_core::net::socket;
use ioxide_core::timers::TimerKey;
use std::cell::Cell;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// How long to wait when descriptors have run out, in seconds.
const RETRY_DELAY: f64 = 1.0;

/// `_ioxide.Listener(loop, sock, server, protocol_factory, tls, backlog, context)`.
#[repr(C)]
pub(crate) struct Listener {
    target: Target,
    event_loop: ObjCell,
    sock: ObjCell,
    server: ObjCell,
    protocol_factory: ObjCell,
    /// `(sslcontext, handshake_timeout, shutdown_timeout)`, where connections are encrypted.
    tls: ObjCell,
    /// Each connection has a copy of it.
    context: ObjCell,
    fd: Cell<RawFd>,
    backlog: Cell<usize>,
    listening: Cell<bool>,
    retry: Cell<Option<TimerKey>>,
}

static CLASS: Class = Class::new();

// SAFETY: `repr(C)`, begins with `Head`, and the class is built from it below.
unsafe impl Native for Listener {
    type Extra = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.cells(self.cells());
    }

    fn clear(&self) {
        ObjCell::clear_all(self.cells());
    }
}

// SAFETY: begins with `Target`.
unsafe impl Told for Listener {
    fn readable(&self) -> PyResult<()> {
        for _ in 0..=self.backlog.get() {
            if !self.listening.get() {
                break;
            }
            match accept(self.fd.get()) {
                Ok((fd, peer)) => self.accepted(fd, peer)?,
                Err(error) => match error.raw_os_error().map_or(Failure::Fatal, classify) {
                    Failure::Transient => {}
                    Failure::WouldBlock => break,
                    Failure::OutOfResources => return self.out_of_resources(&error),
                    Failure::Fatal => return Err(err::raise_os(&error)),
                },
            }
        }
        Ok(())
    }

    /// The patience is over.
    fn fire(&self) -> PyResult<()> {
        self.retry.set(None);
        if self.listening.get() {
            self.watch()?;
        }
        Ok(())
    }
}

impl Construct for Listener {
    fn empty() -> Listener {
        Listener {
            target: Target::new(&Self::KIND),
            event_loop: ObjCell::empty(),
            sock: ObjCell::empty(),
            server: ObjCell::empty(),
            protocol_factory: ObjCell::empty(),
            tls: ObjCell::empty(),
            context: ObjCell::empty(),
            fd: Cell::new(-1),
            backlog: Cell::new(0),
            listening: Cell::new(false),
            retry: Cell::new(None),
        }
    }

    fn init(&self, args: Args<'_>) -> PyResult<()> {
        const SIGNATURE: Signature<7> = Signature::new(
            "Listener",
            [
                "loop",
                "sock",
                "server",
                "protocol_factory",
                "tls",
                "backlog",
                "context",
            ],
            7,
        );
        let [Some(event_loop), Some(sock), Some(server), Some(factory), Some(tls), Some(backlog), Some(context)] =
            args.bind(&SIGNATURE)?
        else {
            return Ok(());
        };
        create::native_loop(event_loop)?;
        self.backlog
            .set(usize::try_from(backlog.to_i64()?).unwrap_or(0));
        self.event_loop.set(event_loop.own());
        self.sock.set(sock.own());
        self.server.set(server.own());
        self.protocol_factory.set(factory.own());
        if let Some(tls) = tls.some() {
            self.tls.set(tls.own());
        }
        self.context.set(context.own());
        Ok(())
    }
}

impl Listener {
    fn cells(&self) -> [&ObjCell; 6] {
        [
            &self.event_loop,
            &self.sock,
            &self.server,
            &self.protocol_factory,
            &self.tls,
            &self.context,
        ]
    }

    fn with_loop<R: Default>(&self, f: impl FnOnce(&EventLoop) -> PyResult<R>) -> PyResult<R> {
        match self.event_loop.get() {
            Some(object) => f(create::native_loop(&object)?),
            None => Ok(R::default()),
        }
    }

    /// Begins to accept.
    fn start(&self) -> PyResult<()> {
        self.fd.set(descriptor(&self.sock.get_or_none())?);
        self.listening.set(true);
        if self.is_internet() {
            // Accepted sockets inherit it. Not having it costs time, never bytes.
            let _ = socket::set_no_delay(self.fd.get()).is_ok();
        }
        self.watch()
    }

    fn is_internet(&self) -> bool {
        matches!(
            socket::local_address(self.fd.get()),
            Ok(Address::V4(_) | Address::V6(_))
        )
    }

    fn watch(&self) -> PyResult<()> {
        self.with_loop(|event_loop| {
            let watcher = Watcher::Native(self.target());
            event_loop
                .watch(self.fd.get(), Side::Read, watcher)
                .map(drop)
        })
    }

    fn unwatch(&self) -> PyResult<()> {
        self.with_loop(|event_loop| {
            event_loop.unwatch_own(self.fd.get(), Side::Read, self.as_any());
            Ok(())
        })
    }

    /// Accepts no more. Comes before the socket is closed.
    fn stop(&self) -> PyResult<()> {
        self.listening.set(false);
        self.unwatch()?;
        if let Some(key) = self.retry.take() {
            self.with_loop(|event_loop| {
                event_loop.remove_timer(key);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn accepted(&self, fd: OwnedFd, peer: Address) -> PyResult<()> {
        let context = match self.context.get() {
            Some(context) => context::copy(&context)?,
            None => context::copy_current()?,
        };
        self.serve(fd, peer, &context)
            .or_else(|raised| self.not_made(raised))
    }

    fn serve(&self, fd: OwnedFd, peer: Address, context: &Any) -> PyResult<()> {
        let factory = self.protocol_factory.get_or_none();
        let protocol = match factory.exact::<StreamProtocols>() {
            Some(ours) => ours.protocol()?.into_obj(),
            None => context::within(context, || factory.call0())??,
        };
        self.with_loop(|event_loop| {
            let protocol = match self.tls.get() {
                None => protocol,
                Some(settings) => {
                    let settings = Settings::of_server(&settings)?;
                    let tls = TlsTransport::begin(event_loop, &protocol, &settings)?;
                    tls.equip(None, Some(context));
                    tls.into_obj()
                }
            };
            let transport = SocketTransport::create(event_loop, &protocol, Descriptor::owned(fd))?;
            let base = &transport.channel().base;
            base.learn_addresses(Some(peer));
            base.equip(None, Some(context));
            server::attach(self.server.get().as_deref(), base)?;
            base.schedule_begin()
        })
    }

    /// A connection that could not be served is closed, and told of; the others go on.
    #[cold]
    fn not_made(&self, raised: Raised) -> PyResult<()> {
        let exception = err::take(raised);
        if step::leaves_loop(&exception) {
            return Err(err::restore(exception));
        }
        self.with_loop(|event_loop| {
            crate::runtime::report::exception(
                event_loop,
                "Error on transport creation for incoming connection",
                &exception,
                &[],
            )
        })
    }

    /// The listener stays readable as long as somebody waits, so it is left alone for a while.
    #[cold]
    fn out_of_resources(&self, error: &io::Error) -> PyResult<()> {
        let exception = err::take(err::raise_os(error));
        let view = import!("asyncio.trsock", "TransportSocket")?.call1(&self.sock.get_or_none())?;
        self.unwatch()?;
        self.with_loop(|event_loop| {
            let timer = Timer::Target(self.target());
            let key = event_loop.add_timer(event_loop.deadline_after(RETRY_DELAY), timer);
            self.retry.set(Some(key));
            crate::runtime::report::exception(
                event_loop,
                "socket.accept() out of system resource",
                &exception,
                &[(intern!("socket"), &view)],
            )
        })
    }

    fn show(&self) -> PyResult<Obj> {
        value::str(&format!(
            "<Listener {}>",
            self.sock.get_or_none().repr_text()
        ))
    }
}

pub(super) fn build() -> PyResult<()> {
    ClassSpec::new::<Listener>(c"ioxide.Listener")
        .doc(c"Accepts the connections of one listening socket of a server.")
        .constructible::<Listener>()
        .slot(
            crate::kit::ffi::Py_tp_repr,
            crate::unary!(Listener, Listener::show),
        )
        .methods([
            crate::method!(noargs Listener, "start", Listener::start, "Begins to accept."),
            crate::method!(noargs Listener, "stop", Listener::stop, "Accepts no more."),
        ])
        .build(&CLASS)?;
    Ok(())
}
