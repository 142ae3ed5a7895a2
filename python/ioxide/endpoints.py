"""Datagram sockets and pipes: from what a program names to their transports."""

from __future__ import annotations

import contextvars
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

from ._ioxide import BaseLoop, _datagram_transport, _read_pipe_transport, _write_pipe_transport
from .listen import remove_stale, set_reuse_port

logger = logging.getLogger("asyncio")

#: As the running version's messages call it.
_DATAGRAM_SOCKET = "datagram socket" if sys.version_info >= (3, 13) else "UDP Socket"


class EndpointMethods(BaseLoop):
    """What `ioxide.EventLoop` has for datagrams and pipes."""

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], Any],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: Any = None,
    ) -> tuple[Any, Any]:
        """Make a datagram socket; return its transport and protocol.

        `local_addr` and `remote_addr` are (host, port), or paths with AF_UNIX. With `remote_addr`
        it is connected: it sends there only, and receives from there only, unless
        `allow_broadcast`. `reuse_port` lets other sockets have the same port. `sock` is a socket to
        use instead, and the transport's from now on.

        Raises OSError if no address can be had, ValueError for arguments that do not go together,
        and TypeError for addresses of another form.
        """
        remote = None
        if sock is not None:
            if sock.type == socket.SOCK_STREAM:
                raise ValueError(f"A {_DATAGRAM_SOCKET} was expected, got {sock!r}")
            given = {
                "local_addr": local_addr,
                "remote_addr": remote_addr,
                "family": family,
                "proto": proto,
                "flags": flags,
                "reuse_port": reuse_port,
                "allow_broadcast": allow_broadcast,
            }
            if any(given.values()):
                problems = ", ".join(f"{name}={value}" for name, value in given.items() if value)
                raise ValueError(
                    "socket modifier keyword arguments can not be used "
                    f"when sock is specified. ({problems})"
                )
            sock.setblocking(False)
        else:
            pairs = await self._datagram_addresses(local_addr, remote_addr, family, proto, flags)
            sock, remote = await self._datagram_socket(pairs, reuse_port, allow_broadcast)
        try:
            protocol = protocol_factory()
            waiter = self.create_future()
            context = contextvars.copy_context()
            transport = _datagram_transport(self, sock, protocol, waiter, remote, context)
        except BaseException:
            sock.close()
            raise
        if self.get_debug():
            logger.info(
                "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                local_addr,
                remote_addr,
                transport,
                protocol,
            )
        await _made(transport, waiter)
        return transport, protocol

    async def _datagram_addresses(
        self, local: Any, remote: Any, family: int, proto: int, flags: int
    ) -> list[Any]:
        """Return ((family, proto), (local address, remote address)) for each way there is."""
        if not local and not remote:
            if family == 0:
                raise ValueError("unexpected address family")
            return [((family, proto), (None, None))]
        if family == socket.AF_UNIX:
            for path in (local, remote):
                if path is not None and not isinstance(path, str):
                    raise TypeError("string is expected")
            if local:
                remove_stale(local)
            return [((family, proto), (local, remote))]
        found: dict[Any, list[Any]] = {}
        for index, address in enumerate((local, remote)):
            if address is None:
                continue
            if not (isinstance(address, tuple) and len(address) == 2):
                raise TypeError("2-tuple is expected")
            infos = await self._ensure_resolved(
                address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
            )
            for info_family, _, info_proto, _, resolved in infos:
                pair = found.setdefault((info_family, info_proto), [None, None])
                pair[index] = resolved
        pairs = [
            (key, pair)
            for key, pair in found.items()
            if not ((local and pair[0] is None) or (remote and pair[1] is None))
        ]
        if not pairs:
            raise ValueError("can not get address information")
        return pairs

    async def _datagram_socket(
        self, pairs: list[Any], reuse_port: bool | None, allow_broadcast: bool | None
    ) -> tuple[Any, Any]:
        """Return a socket for the first pair that works, and the address it sends to."""
        errors: list[OSError] = []
        for (family, proto), (local, remote) in pairs:
            sock = None
            try:
                sock = socket.socket(family=family, type=socket.SOCK_DGRAM, proto=proto)
                if reuse_port:
                    set_reuse_port(sock)
                if allow_broadcast:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setblocking(False)
                if local:
                    sock.bind(local)
                if remote and not allow_broadcast:
                    await self.sock_connect(sock, remote)
                return sock, remote or None
            except OSError as error:
                if sock is not None:
                    sock.close()
                errors.append(error)
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
        try:
            raise errors[0]
        finally:
            errors.clear()

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], Any], pipe: Any
    ) -> tuple[Any, Any]:
        """Read from a pipe, a socket or a terminal; return the transport and the protocol.

        `pipe` is a file object, which the transport closes. ValueError for any other file.
        """
        return await self._connect_pipe(_read_pipe_transport, "Read", protocol_factory, pipe)

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], Any], pipe: Any
    ) -> tuple[Any, Any]:
        """Write to a pipe, a socket or a terminal; return the transport and the protocol.

        `pipe` is a file object, which the transport closes. ValueError for any other file.
        """
        return await self._connect_pipe(_write_pipe_transport, "Write", protocol_factory, pipe)

    async def _connect_pipe(
        self, make: Any, name: str, protocol_factory: Callable[[], Any], pipe: Any
    ) -> tuple[Any, Any]:
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = make(self, pipe, protocol, waiter, contextvars.copy_context())
        await _made(transport, waiter)
        if self.get_debug():
            logger.debug("%s pipe %r connected: (%r, %r)", name, pipe.fileno(), transport, protocol)
        return transport, protocol


async def _made(transport: Any, waiter: Any) -> None:
    """Wait until `connection_made` has been called."""
    try:
        await waiter
    except BaseException:
        transport.close()
        raise


__all__ = ["EndpointMethods"]
