"""Where the files of these tests are, and by which of the two ways they are read."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ioxide import _ioxide

MEMORY = "/dev/shm"


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path):
    """A folder on a disk, and one on a file system in memory."""
    if request.param == "disk":
        yield tmp_path
        return
    if not os.access(MEMORY, os.W_OK):
        pytest.skip("there is no file system in memory")
    path = tempfile.mkdtemp(dir=MEMORY)
    yield Path(path)
    shutil.rmtree(path)


@pytest.fixture(params=["threads", "at once"])
def way(request):
    """Whether what is in memory may be read and written without a thread."""
    before = _ioxide._read_cached(request.param == "at once")
    yield request.param
    _ioxide._read_cached(before)


@pytest.fixture
def descriptors():
    """Fails a test that leaves a descriptor open."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    left = set(os.listdir("/proc/self/fd")) - before
    names = {
        fd: os.readlink(f"/proc/self/fd/{fd}")
        for fd in left
        if os.path.exists(f"/proc/self/fd/{fd}")
    }
    # The loop of the test has descriptors of its own only as long as it is open.
    assert names == {}
