"""Name resolution: on threads of its own, and without a thread where no name has to be looked up."""

from __future__ import annotations

import logging
import socket
from typing import Any

from ._executor import ThreadPool
from ._ioxide import BaseLoop

logger = logging.getLogger("asyncio")

#: As many names are looked up at the same time, over all loops; the rest wait.
_MAX_LOOKUPS = 32

_getaddrinfo = socket.getaddrinfo
_getnameinfo = socket.getnameinfo
_NUMERIC_NAME = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV

# Not the program's executor: that may be full of work, or a pool of processes.
_threads: ThreadPool | None = None


def _lookup_threads() -> ThreadPool:
    global _threads
    if _threads is None:
        _threads = ThreadPool(_MAX_LOOKUPS, "ioxide_lookup")
    return _threads


class ResolverMethods(BaseLoop):
    """What `ioxide.EventLoop` has for names and addresses."""

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Do what `socket.getaddrinfo` does, without blocking the loop; socket.gaierror as there.

        Names are looked up on threads, 32 at the same time at most.
        """
        lookup = socket.getaddrinfo
        if lookup is _getaddrinfo and _is_number(port) and _looks_numeric(host):
            try:
                return lookup(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
            except socket.gaierror:
                pass  # a name, or an address that is not there: the lookup proper will say which
        query = (host, port, family, type, proto, flags)
        if not self.get_debug():
            return await self.run_in_executor(_lookup_threads(), lookup, *query)
        begun = self.time()
        found = await self.run_in_executor(_lookup_threads(), lookup, *query)
        duration = self.time() - begun
        level = logging.INFO if duration >= self.slow_callback_duration else logging.DEBUG
        text = "Getting address info %s:%r took %.3fms: %r"
        logger.log(level, text, host, port, duration * 1e3, found)
        return found

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        """Do what `socket.getnameinfo` does, without blocking the loop; socket.gaierror as there."""
        lookup = socket.getnameinfo
        if lookup is _getnameinfo and flags & _NUMERIC_NAME == _NUMERIC_NAME:
            return lookup(sockaddr, flags)
        return await self.run_in_executor(_lookup_threads(), lookup, sockaddr, flags)


def _is_number(port: Any) -> bool:
    return port is None or isinstance(port, int) or (isinstance(port, str) and port.isdecimal())


def _looks_numeric(host: Any) -> bool:
    """Whether the host may well be an address: only then is it tried as one."""
    if host is None:
        return True
    return isinstance(host, str) and (host[:1].isdecimal() or ":" in host)
