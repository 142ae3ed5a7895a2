"""Servers: the sockets that they listen on."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterable
from typing import Any

from ._ioxide import BaseLoop
from .connect import refuse_tls_socket, refuse_tls_timeouts
from .server import Server

logger = logging.getLogger("asyncio")

#: Whether a Unix server removes its socket's file unless told otherwise. Programs for older versions
#: of Python do it themselves.
_CLEANUP_SOCKET = sys.version_info >= (3, 13)


class ListenMethods(BaseLoop):
    """What `ioxide.EventLoop` has for servers."""

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: Any = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Make a TCP server on one host or several, or on a socket that is bound already.

        `host` is a name, an address, a sequence of them, or None or "" for all interfaces; `port`
        is a number, 0 or None for one that is free. `sock` is of SOCK_STREAM, and the server's from
        now on. `backlog` is how many connections the kernel lets wait. `reuse_address` is on by
        default; `reuse_port` and `keep_alive` are off.

        `ssl` is an ssl.SSLContext. A handshake may take `ssl_handshake_timeout` seconds, 60 by
        default, and the end of a connection `ssl_shutdown_timeout`, 30 by default.

        Without `start_serving` nobody is accepted before Server.start_serving() or
        Server.serve_forever().

        Raises OSError if no address can be bound, ValueError for arguments that do not go together,
        and TypeError for an `ssl` that is True or False and for a socket that is an SSLSocket.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        refuse_tls_timeouts(ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            refuse_tls_socket(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._resolve_hosts(host, port, family, flags)
            reuse_address = True if reuse_address is None else reuse_address
            sockets = _bind_all(infos, reuse_address, reuse_port, keep_alive, self.get_debug())
        elif sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        else:
            sockets = [sock]
        for listening in sockets:
            listening.setblocking(False)
        server = Server(
            self,
            sockets,
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        if start_serving:
            await server.start_serving()
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _resolve_hosts(self, host: Any, port: Any, family: int, flags: int) -> list[Any]:
        if host == "":
            hosts: Iterable[Any] = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        found = await asyncio.gather(
            *(self._resolve_host(one, port, family, flags) for one in hosts)
        )
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    async def _resolve_host(self, host: Any, port: Any, family: int, flags: int) -> list[Any]:
        infos: list[Any] = await self._ensure_resolved(
            (host, port), family=family, type=socket.SOCK_STREAM, flags=flags
        )
        return infos

    async def create_unix_server(
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        sock: Any = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _CLEANUP_SOCKET,
    ) -> Server:
        """Make a server on a Unix socket, whose file is removed at the end if `cleanup_socket`.

        That is the default since Python 3.13. A socket's file that stands at `path` is replaced;
        what begins with a zero byte is no file. `sock` is a bound socket of AF_UNIX and SOCK_STREAM
        instead of a path. Otherwise as create_server().
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        refuse_tls_timeouts(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _bind_path(os.fspath(path))
        elif sock is None:
            raise ValueError("path was not specified, and no sock specified")
        elif sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
        if cleanup_socket:
            self._note_socket_file(sock)
        sock.setblocking(False)
        server = Server(
            self,
            [sock],
            protocol_factory,
            ssl,
            backlog,
            ssl_handshake_timeout,
            ssl_shutdown_timeout,
        )
        if start_serving:
            await server.start_serving()
        return server

    def _note_socket_file(self, sock: Any) -> None:
        """Remember which file is ours, so that another's is not removed in its place."""
        path = sock.getsockname()
        if is_abstract(path):
            return
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            return
        self._unix_server_sockets[sock] = inode

    @property
    def _unix_server_sockets(self) -> dict[Any, int]:
        files: dict[Any, int] = self.__dict__.setdefault("_unix_socket_files", {})
        return files

    def _close_listening_socket(self, sock: Any) -> None:
        """Close a server's socket, and remove its file if that is still ours."""
        inode = self._unix_server_sockets.pop(sock, None)
        path = sock.getsockname() if inode is not None else None
        sock.close()
        if path is None:
            return
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)


def is_abstract(path: str | bytes) -> bool:
    """Whether the name of a Unix socket is no file's."""
    return path[:1] in ("", b"", "\0", b"\0")


def remove_stale(path: str | bytes) -> None:
    """Remove the file of a Unix socket that somebody left behind."""
    if is_abstract(path):
        return
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # The directory may only allow to make files.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


def set_reuse_port(sock: Any) -> None:
    """Let other sockets listen on the same port."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None


def _bind_path(path: str | bytes) -> Any:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        remove_stale(path)
        sock.bind(path)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_all(
    infos: list[Any],
    reuse_address: bool,
    reuse_port: bool | None,
    keep_alive: bool | None,
    debug: bool,
) -> list[Any]:
    """Make a socket for each address, or none at all."""
    sockets: list[Any] = []
    try:
        for family, kind, proto, _, address in infos:
            try:
                sock = socket.socket(family, kind, proto)
            except OSError:
                # This machine does not have the family.
                if debug:
                    logger.warning(
                        "create_server() failed to create socket.socket(%r, %r, %r)",
                        family,
                        kind,
                        proto,
                        exc_info=True,
                    )
                continue
            sockets.append(sock)
            _set_options(sock, family, reuse_address, reuse_port, keep_alive)
            if not _bind(sock, address, debug):
                sockets.pop()
        if not sockets:
            raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _set_options(
    sock: Any,
    family: int,
    reuse_address: bool,
    reuse_port: bool | None,
    keep_alive: bool | None,
) -> None:
    if reuse_address:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    if reuse_port and family in (socket.AF_INET, socket.AF_INET6):
        set_reuse_port(sock)
    if keep_alive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    if family == socket.AF_INET6:
        # Each family has its own socket.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)


def _bind(sock: Any, address: Any, debug: bool) -> bool:
    """Bind; False, with the socket closed, for an address that this machine does not have."""
    try:
        sock.bind(address)
    except OSError as error:
        text = f"error while attempting to bind on address {address!r}: {str(error).lower()}"
        if error.errno == errno.EADDRNOTAVAIL:
            sock.close()
            if debug:
                logger.warning(text)
            return False
        raise OSError(error.errno, text) from None
    return True


__all__ = ["ListenMethods"]
