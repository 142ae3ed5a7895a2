"""Connections to others: names, attempts, and the transports of sockets that are connected."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import itertools
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

from . import _race, _tls
from ._ioxide import BaseLoop, _connection, _is_numeric, _socket_transport

# What programs put something of their own in the place of, to see or to refuse connections.
_Socket = socket.socket
_socket_connect = socket.socket.connect


class ConnectMethods(BaseLoop):
    """What `ioxide.EventLoop` has for connecting."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: Any = None,
        local_addr: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[Any, Any]:
        """Connect to a TCP server; return the transport and the protocol.

        The server is `host` and `port`, or `sock`, a connected SOCK_STREAM socket, which is the
        transport's from now on. `local_addr` is the (host, port) to connect from.

        The host's addresses are tried in turn until one answers. With `happy_eyeballs_delay`
        (seconds) they are tried in parallel, each that much later than the one before, and the
        families take turns after the first `interleave` addresses, 1 by default then (RFC 8305).

        `ssl` is True or an ssl.SSLContext; `server_hostname`, by default the host, is whose
        certificate is expected. The handshake may take `ssl_handshake_timeout` seconds, 60 by
        default, and the end of the connection `ssl_shutdown_timeout`, 30 by default.

        Raises OSError if nothing answers: that of the addresses, or one for all; with `all_errors`
        an ExceptionGroup of them. ssl.SSLError and ConnectionError say that the handshake failed,
        ValueError that arguments do not go together, TypeError that the socket is an SSLSocket.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host
        refuse_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            refuse_tls_socket(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            if (
                ssl is None
                and local_addr is None
                and not all_errors
                and connects_itself(type(self))
            ):
                connection = _connection(self, protocol_factory, host, port, family, proto)
                if connection is not None:
                    made: tuple[Any, Any] = await connection
                    return made
            if happy_eyeballs_delay is not None and interleave is None:
                interleave = 1
            address = {"family": family, "proto": proto, "flags": flags}
            sock = await self._connect_to_host(
                host, port, address, local_addr, happy_eyeballs_delay, interleave, all_errors
            )
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        return await self._connected(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def _connect_to_host(
        self,
        host: Any,
        port: Any,
        address: dict[str, int],
        local_addr: Any,
        delay: float | None,
        interleave: int | None,
        all_errors: bool,
    ) -> Any:
        infos = await self._ensure_resolved((host, port), type=socket.SOCK_STREAM, **address)
        local_infos = None
        if local_addr is not None:
            local_infos = await self._ensure_resolved(
                local_addr, type=socket.SOCK_STREAM, **address
            )
        if interleave:
            infos = _interleave(infos, interleave)
        errors: list[list[OSError]] = []
        try:
            attempts = (
                lambda info=info: self._connect_sock(errors, info, local_infos) for info in infos
            )
            sock = await (
                _race.in_order(attempts)
                if delay is None
                else _race.staggered(self, attempts, delay)
            )
            if sock is None:
                raise _combined([error for group in errors for error in group], all_errors)
            return sock
        finally:
            errors.clear()

    async def _connect_sock(
        self, errors: list[list[OSError]], info: Any, local_infos: Any = None
    ) -> Any:
        """Make a socket and connect it; its errors are added to the list, and raised."""
        mine: list[OSError] = []
        errors.append(mine)
        family, kind, proto, _, address = info
        sock = None
        try:
            sock = socket.socket(family=family, type=kind, proto=proto)
            sock.setblocking(False)
            if local_infos is not None:
                _bind_local(sock, family, local_infos, mine)
            await self.sock_connect(sock, address)
            return sock
        except OSError as error:
            mine.append(error)
            _close_quietly(sock)
            raise
        except BaseException:
            _close_quietly(sock)
            raise
        finally:
            del mine, errors

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, Any]:
        """Connect to a Unix socket; return the transport and the protocol.

        The server is `path`, or `sock`, a connected socket of AF_UNIX and SOCK_STREAM. With `ssl`
        there must be a `server_hostname`, which may be empty. Otherwise as create_connection().
        """
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if not ssl and server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        refuse_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0)
            try:
                sock.setblocking(False)
                await self.sock_connect(sock, os.fspath(path))
            except BaseException:
                sock.close()
                raise
        elif sock is None:
            raise ValueError("no path and sock were specified")
        elif sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
        return await self._connected(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], Any],
        sock: Any,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, Any]:
        """Serve a connection that was accepted elsewhere; return the transport and the protocol.

        The socket is the transport's from now on; ValueError unless it is of SOCK_STREAM. `ssl` is
        an ssl.SSLContext or None, with the timeouts of create_connection().
        """
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        refuse_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        refuse_tls_socket(sock)
        return await self._connected(
            sock,
            protocol_factory,
            ssl,
            "",
            server_side=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def start_tls(
        self,
        transport: Any,
        protocol: Any,
        sslcontext: Any,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> Any:
        """Encrypt a connection that is open; return the transport that the protocol uses then.

        On the client's side `server_hostname` is whose certificate is expected. The timeouts are in
        seconds, 60 for the handshake and 30 for the shutdown by default; ValueError unless positive.

        Raises ssl.SSLError or ConnectionError if the handshake fails, which closes the connection,
        and TypeError for what is no ssl.SSLContext and for transports that cannot be encrypted.
        """
        return await _tls.start(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def _connected(
        self,
        sock: Any,
        protocol_factory: Callable[[], Any],
        ssl: Any,
        server_hostname: str | None,
        *,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, Any]:
        """Make the transport and the protocol of a connected socket, which is theirs from now on."""
        context = contextvars.copy_context()
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            waiter: Any = self.create_future()
            if ssl:
                transport = _tls.transport(
                    self,
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                    context=context,
                )
            else:
                transport = _socket_transport(self, sock, protocol, waiter, None, context)
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            waiter = None
            raise
        return transport, protocol

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect a non-blocking socket; the host may be a name.

        Raises OSError if that fails, TypeError for an ssl.SSLSocket, and in debug mode ValueError
        for a socket that blocks.
        """
        refuse_tls_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        family = sock.family
        if family in (socket.AF_INET, socket.AF_INET6) and not _is_numeric(address, family):
            infos = await self._ensure_resolved(
                address, family=family, type=sock.type, proto=sock.proto
            )
            address = infos[0][4]
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError):
            if sock.family == socket.AF_UNIX:
                await _knock(sock, address)
                return
            await self._sock_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, f"Connect call failed {address}") from None

    async def _ensure_resolved(
        self,
        address: Any,
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
        loop: Any = None,
    ) -> list[Any]:
        """Resolve (host, port, ...); what is a number already needs no resolver."""
        host, port = address[:2]
        info = _numeric(host, port, family, type, proto, *address[2:])
        if info is not None:
            return [info]
        infos = await self.getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        return list(infos)


_create_connection = ConnectMethods.create_connection
_sock_connect = ConnectMethods.sock_connect


def connects_itself(loop_class: Any) -> bool:
    """Whether nobody can tell how this class makes and connects a socket.

    What was replaced on a loop itself is known to that.
    """
    return (
        loop_class.sock_connect is _sock_connect
        and socket.socket is _Socket
        and _Socket.connect is _socket_connect
    )


def connects_streams_itself(loop_class: Any) -> bool:
    """As connects_itself(), and nobody can tell whether create_connection() is asked."""
    return loop_class.create_connection is _create_connection and connects_itself(loop_class)


def refuse_tls_socket(sock: Any) -> None:
    """Raise TypeError for a socket that the ssl module has wrapped."""
    import sys

    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def refuse_tls_timeouts(ssl: Any, handshake: float | None, shutdown: float | None) -> None:
    """Raise ValueError for timeouts of an encryption that there is not."""
    if handshake is not None and not ssl:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown is not None and not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def _numeric(
    host: Any,
    port: Any,
    family: int,
    kind: int,
    proto: int,
    flowinfo: int = 0,
    scope: int = 0,
) -> Any:
    """Return the one address info of a host that is a number, None for a name."""
    if host is None or proto not in (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return None
    if kind == socket.SOCK_STREAM:
        proto = socket.IPPROTO_TCP
    elif kind == socket.SOCK_DGRAM:
        proto = socket.IPPROTO_UDP
    else:
        return None
    if port is None or port in (b"", ""):
        port = 0
    try:
        port = int(port)
    except (TypeError, ValueError):
        return None
    if isinstance(host, bytes):
        host = host.decode("idna")
    if "%" in host:
        return None
    for candidate in (socket.AF_INET, socket.AF_INET6) if family == 0 else (family,):
        try:
            socket.inet_pton(candidate, host)
        except OSError:
            continue
        rest = (flowinfo, scope) if candidate == socket.AF_INET6 else ()
        return candidate, kind, proto, "", (host, port, *rest)
    return None


def _interleave(infos: Iterable[Any], first_count: int) -> list[Any]:
    """Let the families of the addresses take turns, after some of the first one's."""
    families: dict[int, collections.deque[Any]] = {}
    for info in infos:
        families.setdefault(info[0], collections.deque()).append(info)
    first = next(iter(families.values()), collections.deque())
    head = [first.popleft() for _ in range(min(first_count - 1, len(first)))]
    rounds = itertools.zip_longest(*families.values())
    return head + [info for turn in rounds for info in turn if info is not None]


def _bind_local(sock: Any, family: int, infos: list[Any], errors: list[OSError]) -> None:
    """Bind to the first local address of this family that can be had."""
    for local_family, _, _, _, address in infos:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as error:
            text = f"error while attempting to bind on address {address!r}: {str(error).lower()}"
            errors.append(OSError(error.errno, text))
    if errors:
        raise errors.pop()
    raise OSError(f"no matching local address with {family=} found")


def _close_quietly(sock: Any) -> None:
    """Close a socket that never came to be used; its error would hide the one that matters."""
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.close()


async def _knock(sock: Any, address: Any) -> None:
    """Connect to a Unix socket whose queue is full: the kernel does not tell when there is room."""
    delay = 0.001
    while True:
        await asyncio.sleep(delay)
        try:
            sock.connect(address)
            return
        except (BlockingIOError, InterruptedError):
            delay = min(delay * 2, 0.1)


def _combined(errors: list[OSError], all_errors: bool) -> Exception:
    """Return one exception for those of all attempts."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    if not errors:
        return TimeoutError("create_connection failed")
    texts = [str(error) for error in errors]
    if len(set(texts)) == 1:
        return errors[0]
    return OSError("Multiple exceptions: {}".format(", ".join(texts)))


__all__ = [
    "ConnectMethods",
    "connects_itself",
    "connects_streams_itself",
    "refuse_tls_socket",
    "refuse_tls_timeouts",
]
