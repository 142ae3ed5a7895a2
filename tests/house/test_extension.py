"""The built extension, as the dynamic linker sees it."""

from __future__ import annotations

import struct
import sysconfig
from pathlib import Path

import pytest

from ioxide import _ioxide

from .programs import python

LITTLE_ENDIAN_64 = b"\x7fELF\x02\x01"
PT_DYNAMIC = 2
DT_FLAGS, DT_FLAGS_1 = 30, 0x6FFFFFFB
DF_BIND_NOW, DF_1_NOW = 8, 1


def dynamic_section(image: bytes) -> dict[int, int]:
    """The last value of each tag."""
    (headers,) = struct.unpack_from("<Q", image, 32)
    size, number = struct.unpack_from("<HH", image, 54)
    for index in range(number):
        kind, _flags, start, _, _, length = struct.unpack_from(
            "<IIQQQQ", image, headers + index * size
        )
        if kind == PT_DYNAMIC:
            entries = struct.iter_unpack("<QQ", image[start : start + length])
            return dict(entries)
    raise AssertionError("the extension is not linked dynamically")


def test_calls_are_bound_when_the_extension_is_loaded():
    # Binding one in a child, which runs on a small piece of its parent's stack, would take much of it and
    # write to the parent's tables.
    image = Path(_ioxide.__file__).read_bytes()
    assert image.startswith(LITTLE_ENDIAN_64), "this test reads no other format"
    dynamic = dynamic_section(image)
    assert dynamic.get(DT_FLAGS, 0) & DF_BIND_NOW or dynamic.get(DT_FLAGS_1, 0) & DF_1_NOW


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_without_the_lock_the_import_is_refused(tmp_path):
    status, _, err = python("-X", "gil=0", "-c", "import ioxide", cwd=tmp_path)
    assert status == 1
    assert err.endswith(
        "ImportError: ioxide needs the interpreter lock: start Python without PYTHON_GIL=0 and -X gil=0\n"
    )
    status, out, _ = python(
        *("-W", "ignore", "-c", "import ioxide, sys; print(sys._is_gil_enabled())"), cwd=tmp_path
    )
    assert (status, out) == (0, "True\n")
