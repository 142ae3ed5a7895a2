"""What a process holds when it should hold nothing: descriptors, memory, objects."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from typing import NamedTuple

import ioxide as asyncio


class _Heap(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _Heap


class Left(NamedTuple):
    """A moment's holdings."""

    descriptors: int
    tasks: int
    #: Blocks of the interpreter's own allocator, and bytes of the C library's.
    blocks: int
    heap_bytes: int
    resident_bytes: int


def measure() -> Left:
    for _ in range(3):
        gc.collect()
    heap = _libc.mallinfo2()
    _libc.malloc_trim(0)
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Left(
        len(os.listdir("/proc/self/fd")),
        len(asyncio.all_tasks()),
        sys.getallocatedblocks(),
        heap.uordblks + heap.hblkhd,
        resident,
    )


def grown(before: Left, after: Left) -> list[str]:
    """What is more than it was, beyond what may be kept for the next time.

    Queues and tables keep the room of their busiest moment, which may come in a later wave: a ready queue of 16,384
    entries alone has 390 KB, and each descriptor that a socket had keeps a weak reference. A hundred bytes or a block
    lost with each connection are more than what is allowed.
    """
    allowed = Left(0, 0, 5_000, 1_500_000, 8_000_000)
    return [
        f"{name}: {was} → {now}"
        for name, was, now, most in zip(Left._fields, before, after, allowed, strict=True)
        if now - was > most
    ]
