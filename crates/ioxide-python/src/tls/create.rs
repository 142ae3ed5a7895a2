//! Making the transports of encrypted connections.

use super::engine::Engine;
use super::transport::TlsTransport;
use crate::kit::{err, value, Any, Args, Obj, Own, PyResult, Signature};
use crate::runtime::EventLoop;
use crate::transport::create::native_loop;
use crate::{import, intern, raise};

/// What a program asks of an encrypted connection.
pub(crate) struct Settings<'a> {
    pub(super) context: &'a Any,
    pub(super) server_side: bool,
    pub(super) server_hostname: Option<&'a Any>,
    /// Seconds, above zero.
    pub(super) handshake_timeout: Obj,
    /// Seconds, above zero.
    pub(super) shutdown_timeout: f64,
    /// The program knows the connection already.
    pub(super) connected: bool,
    /// A server has accepted the connection.
    pub(super) accepted: bool,
}

impl<'a> Settings<'a> {
    /// Of a server: its context and the two timeouts, in a tuple.
    pub(crate) fn of_server(settings: &'a Any) -> PyResult<Settings<'a>> {
        let [context, handshake, shutdown] = settings.tuple_items() else {
            return Err(raise!(err::type_error(), "three settings are expected"));
        };
        Ok(Settings {
            context,
            server_side: true,
            server_hostname: None,
            handshake_timeout: timeout(
                handshake.some(),
                "ssl_handshake_timeout",
                intern!("SSL_HANDSHAKE_TIMEOUT"),
            )?,
            shutdown_timeout: shutdown_timeout(shutdown.some())?,
            connected: false,
            accepted: true,
        })
    }
}

/// The seconds that were given, or asyncio's.
fn timeout(given: Option<&Any>, name: &str, default: &Any) -> PyResult<Obj> {
    let Some(given) = given else {
        return import!("asyncio.constants", "")?.attr(default);
    };
    if given.at_most(&*value::int(0)?)? {
        return Err(raise!(
            err::value_error(),
            "{name} should be a positive number, got {}",
            given.str_text()
        ));
    }
    Ok(given.own())
}

fn shutdown_timeout(given: Option<&Any>) -> PyResult<f64> {
    timeout(
        given,
        "ssl_shutdown_timeout",
        intern!("SSL_SHUTDOWN_TIMEOUT"),
    )?
    .to_f64()
}

impl TlsTransport {
    /// A transport whose handshake begins when it is told of the one below.
    pub(crate) fn begin(
        event_loop: &EventLoop,
        protocol: &Any,
        settings: &Settings<'_>,
    ) -> PyResult<Own<TlsTransport>> {
        let engine = Engine::new(
            settings.context,
            settings.server_side,
            settings.server_hostname,
        )?;
        TlsTransport::create(event_loop, protocol, settings, engine)
    }
}

/// `_tls_transport(loop, protocol, sslcontext, waiter, server_side, server_hostname, handshake_timeout,
/// shutdown_timeout, connected, context)`.
pub(super) fn make(args: Args<'_>) -> PyResult<Obj> {
    const SIGNATURE: Signature<10> = Signature::new(
        "_tls_transport",
        [
            "loop",
            "protocol",
            "sslcontext",
            "waiter",
            "server_side",
            "server_hostname",
            "handshake_timeout",
            "shutdown_timeout",
            "connected",
            "context",
        ],
        10,
    );
    let [Some(event_loop), Some(protocol), Some(ssl_context), waiter, Some(server_side), hostname, handshake, shutdown, Some(connected), context] =
        args.bind(&SIGNATURE)?
    else {
        return Ok(Obj::none());
    };
    let server_side = server_side.truthy()?;
    let hostname = match hostname.and_then(Any::some) {
        Some(hostname) if !server_side && hostname.truthy()? => Some(hostname),
        _ => None,
    };
    // The timeouts first: whoever gets them wrong learns that before anything is made.
    let handshake_timeout = timeout(
        handshake.and_then(Any::some),
        "ssl_handshake_timeout",
        intern!("SSL_HANDSHAKE_TIMEOUT"),
    )?;
    let shutdown_timeout = shutdown_timeout(shutdown.and_then(Any::some))?;
    let made;
    let ssl_context = if ssl_context.truthy()? {
        ssl_context
    } else {
        let default = import!("ioxide._tls", "default_context")?;
        made = default.call(&[&*value::bool(server_side), hostname.unwrap_or(&Obj::none())])?;
        &made
    };
    let settings = Settings {
        context: ssl_context,
        server_side,
        server_hostname: hostname,
        handshake_timeout,
        shutdown_timeout,
        connected: connected.truthy()?,
        accepted: false,
    };
    let transport = TlsTransport::begin(native_loop(event_loop)?, protocol, &settings)?;
    transport.equip(waiter, context);
    Ok(transport.into_obj())
}
