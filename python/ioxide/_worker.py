"""What a process of the pool runs: jobs from a socket, one by one, until its owner hangs up."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import threading
from typing import Any

#: Before each message, in both directions: how many bytes it has.
LENGTH = struct.Struct("!Q")


def main(descriptor: int) -> None:
    """Serve the owner at the other end of the socket."""
    # Ctrl-C is sent to all processes of a terminal, and is the owner's affair. A handler that does
    # nothing, unlike an ignored signal, is not inherited by what a job starts.
    signal.signal(signal.SIGINT, lambda *_: None)
    with socket.socket(fileno=descriptor) as connection:
        threading.Thread(target=_end_with_owner, args=(descriptor,), daemon=True).start()
        stream: Any = connection.makefile("rwb")
        _become_like_owner(*pickle.loads(_receive(stream)))
        while job := _receive(stream):
            _busy.set()
            reply = _run(job)
            _busy.clear()
            stream.write(LENGTH.pack(len(reply)))
            stream.write(reply)
            stream.flush()


def _receive(stream: Any) -> bytes:
    """Return the next message, empty when the owner has hung up."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return b""
    message: bytes = stream.read(*LENGTH.unpack(header))
    return message


def _become_like_owner(preparation: dict[str, Any], installed: bool, lenient: bool) -> None:
    """Import the owner's main program under another name, as multiprocessing does."""
    from multiprocessing import process, spawn

    if installed:
        from ._install import install, install_lenient

        (install_lenient if lenient else install)()
    current: Any = process.current_process()
    current._inheriting = True  # a program that starts processes while it is imported is refused
    try:
        spawn.prepare(preparation)
    finally:
        del current._inheriting


def _run(job: bytes) -> bytes:
    """Do a job; return the pair of whether it went well, and its outcome."""
    try:
        function, args, kwargs = pickle.loads(job)
        return pickle.dumps((True, function(*args, **kwargs)), pickle.HIGHEST_PROTOCOL)
    except BaseException as error:
        return _failure(error)


def _failure(error: BaseException) -> bytes:
    import traceback
    from multiprocessing import pool

    text = "".join(traceback.format_exception(error))
    try:
        wrapped: Any = pool.ExceptionWithTraceback(error, error.__traceback__)  # type: ignore[attr-defined]
        reply = pickle.dumps((False, wrapped), pickle.HIGHEST_PROTOCOL)
        # What cannot be put together again would only be noticed by the owner.
        pickle.loads(reply)
    except Exception:
        substitute = RuntimeError(f"the job's exception cannot be sent to its owner:\n{text}")
        return pickle.dumps((False, substitute), pickle.HIGHEST_PROTOCOL)
    return reply


def _end_with_owner(descriptor: int) -> None:
    """End the process, whatever it does, when nobody is left to take the result."""
    gone = select.poll()
    gone.register(descriptor, select.POLLRDHUP)
    gone.poll()
    if not _busy.is_set():
        # The main thread notices as well, and ends the interpreter in an orderly way.
        threading.Event().wait(_LAST_MOMENT_S)
    os._exit(0)


#: Whether a job is being done.
_busy = threading.Event()

#: Seconds that functions registered with `atexit` have when the owner has hung up.
_LAST_MOMENT_S = 1.0
