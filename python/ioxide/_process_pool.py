"""to_process(): functions in processes of their own, which are killed if nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from . import _install
from ._executor import processors
from ._ioxide import BaseLoop, Semaphore
from ._streams import open_connection
from ._worker import LENGTH
from .subprocess import Process, create_subprocess_exec

_T = TypeVar("_T")

_PROGRAM = "import sys; sys.path.append({path!r}); from ioxide._worker import main; main({fd})"

#: How much of a reply is read ahead.
_BUFFER_BYTES = 1 << 20

#: Seconds that idle processes have to end in an orderly way, before they are killed.
_PATIENCE_S = 2.0


async def to_process(func: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """Call func(*args, **kwargs) in another process, and return its result: to_thread() for what
    computes.

    The function, its arguments and its result are pickled: the function must be found by its name
    in a module. Unlike with to_thread(), context variables are not carried along. An exception
    arrives with the traceback of the process as its cause.

    Each loop has a pool of at most as many processes as there are processors, begun when they are
    needed; who finds all of them busy waits in line. Their start is multiprocessing's "spawn": the
    main program is imported, not run, so a script needs `if __name__ == "__main__":` around what
    starts it. Nothing of the parent is inherited that a thread might have held.

    Cancelling the call kills the process at once, and a new one takes its place; other jobs are not
    affected. If the process dies by itself, `concurrent.futures.process.BrokenProcessPool` is
    raised to the one whose job it had. The pool is closed by `loop.shutdown_default_executor()`, as
    run() calls it, or by `loop.close()`; after the former RuntimeError is raised.

    Only on a loop of ioxide: RuntimeError on any other. Not thread-safe, like all of a loop.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, ProcessPoolMethods):
        raise RuntimeError("to_process() needs a loop of ioxide")
    # What cannot be sent is refused before a process is started for it.
    job = pickle.dumps((func, args, kwargs), pickle.HIGHEST_PROTOCOL)
    done, outcome = await loop._job_processes().run(job)
    if done:
        result: _T = outcome
        return result
    try:
        raise outcome
    finally:
        # The traceback of the error has this frame, which must not have the error.
        del outcome


class ProcessPoolMethods(BaseLoop):
    """What `ioxide.EventLoop` has for `to_process`."""

    _process_pool: ProcessPool | None = None

    def _job_processes(self: Any) -> ProcessPool:
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")
        pool: ProcessPool | None = self._process_pool
        if pool is None or pool.owner != os.getpid():  # a forked child has none of the parent's
            pool = self._process_pool = ProcessPool(processors())
        return pool

    def _give_up_processes(self: Any) -> ProcessPool | None:
        pool: ProcessPool | None = self._process_pool
        self._process_pool = None
        return pool if pool is not None and pool.owner == os.getpid() else None

    async def _end_processes(self) -> None:
        if (pool := self._give_up_processes()) is not None:
            await pool.shutdown()

    def _kill_processes(self) -> None:
        if (pool := self._give_up_processes()) is not None:
            pool.kill()


class ProcessPool:
    """The processes of one loop."""

    def __init__(self, most: int) -> None:
        self.owner = os.getpid()
        self._free: Any = Semaphore(most)
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()

    async def run(self, job: bytes) -> tuple[bool, Any]:
        """Have a process do the job."""
        async with self._free:
            worker = await self._take()
            try:
                reply = await worker.do(job)
            except BaseException:
                worker.kill()
                raise
            self._idle.append(worker)
        outcome: tuple[bool, Any] = pickle.loads(reply)
        return outcome

    async def _take(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():
                return worker
            worker.kill()
        # Those that were killed stay until they are reaped.
        self._all = {worker for worker in self._all if not worker.is_reaped()}
        worker = Worker()
        self._all.add(worker)
        try:
            await worker.start()
        except BaseException:
            worker.kill()
            raise
        return worker

    async def shutdown(self) -> None:
        """End all processes: those that are idle in an orderly way, the others at once."""
        workers, idle = list(self._all), set(self._idle)
        self._all.clear()
        self._idle.clear()
        for worker in workers:
            if worker in idle:
                worker.hang_up()
            else:
                worker.kill()
        for worker in workers:
            await worker.ended(_PATIENCE_S)

    def kill(self) -> None:
        """End all processes at once; for a loop that does not run any more."""
        for worker in self._all:
            worker.kill()
        for worker in self._all:
            worker.bury()
        self._all.clear()
        self._idle.clear()


class Worker:
    """A process that does one job after the other."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._reader: Any = None
        self._writer: Any = None

    async def start(self) -> None:
        preparation = _preparation()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await create_subprocess_exec(
                    *_command(theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            self._reader, self._writer = await open_connection(sock=ours, limit=_BUFFER_BYTES)
        except BaseException:
            ours.close()
            raise
        self._send(pickle.dumps((preparation, *_install.state())))

    def _send(self, message: bytes) -> None:
        self._writer.write(LENGTH.pack(len(message)))
        self._writer.write(message)

    async def do(self, job: bytes) -> bytes:
        """Return the reply to a job; BrokenProcessPool if the process dies of it."""
        try:
            self._send(job)
            await self._writer.drain()
            header = await self._reader.readexactly(LENGTH.size)
            reply: bytes = await self._reader.readexactly(*LENGTH.unpack(header))
        except (OSError, asyncio.IncompleteReadError):
            await self._died()
        return reply

    async def _died(self) -> NoReturn:
        from concurrent.futures.process import BrokenProcessPool

        assert self._process is not None
        # If only its connection is gone, its work is of no use either.
        await self.ended(_PATIENCE_S)
        raise BrokenProcessPool(
            f"process {self._process.pid} ended with return code {self._process.returncode} "
            "before it had done its job"
        ) from None

    def is_alive(self) -> bool:
        assert self._process is not None
        return self._process.returncode is None and not self._reader.at_eof()

    def is_reaped(self) -> bool:
        return self._process is not None and self._process.returncode is not None

    def hang_up(self) -> None:
        """Let an idle process end by itself."""
        if self._writer is not None:
            self._writer.close()

    def kill(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def ended(self, seconds: float) -> None:
        """Wait until the process has ended; kill it if that takes longer."""
        if self._process is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        if self._writer is not None:
            self._writer.transport.abort()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def bury(self) -> None:
        """Reap a process that was killed, without a loop."""
        if self._process is not None:
            transport = self._process._transport
            transport.get_extra_info("subprocess").wait()
            transport.close()
        if self._writer is not None:
            self._writer.transport._release()


def _preparation() -> dict[str, Any]:
    """Return what multiprocessing tells a process of its parent."""
    from multiprocessing import spawn

    preparation = spawn.get_preparation_data("ioxide-worker")
    preparation["authkey"] = bytes(preparation["authkey"])
    main = preparation.get("init_main_from_path")
    if main is not None and not os.path.exists(main):
        del preparation["init_main_from_path"]  # "<stdin>", or a file that is gone
    return preparation


def _command(descriptor: int) -> list[str]:
    from multiprocessing import spawn

    executable = os.fsdecode(spawn.get_executable() or sys.executable)
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = str(Path(__file__).parents[1])
    return [executable, *flags, "-c", _PROGRAM.format(path=path, fd=descriptor)]
