"""Whole operations on text: what the native ones on bytes have around them."""

from __future__ import annotations

import functools
import io
import locale
import os
from collections.abc import Callable
from typing import Any

from .._ioxide import _append_bytes, _file_call, _read_file, write_bytes

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Data = bytes | bytearray | memoryview

#: Encodings in which a text is the same bytes wherever in a file it stands.
_PLAIN = {"utf-8", "utf8", "ascii", "us-ascii", "latin-1", "latin1", "iso-8859-1"}


async def read_text(
    path: Path,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> str:
    """Return the content of a file as `open(path, "r", ...).read()` would.

    The encoding defaults to the locale's, `errors` to "strict", and the default for `newline` is to
    translate every line end to "\\n". OSError is raised as by `open`, UnicodeDecodeError for what
    is no text in this encoding, LookupError for an unknown encoding.
    """
    _check_newline(newline)
    decode = functools.partial(_decode, _encoding(encoding), errors, newline)
    text: str = await _read_file(path, decode)
    return text


async def write_text(
    path: Path,
    data: str,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> int:
    """Make the text the content of the file, which is made if there is none; return its length.

    The parameters are those of `open()`. A text that cannot be encoded raises UnicodeEncodeError
    before the file is touched. The length is in characters, before line ends are translated.
    """
    _check_newline(newline)
    if not isinstance(data, str):
        raise TypeError(f"data must be str, not {type(data).__name__}")
    await write_bytes(path, _encode(_encoding(encoding), errors, newline, data))
    return len(data)


async def append(
    path: Path,
    data: str | Data,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> int:
    """Add text or bytes at the end of a file, which is made if there is none; return the length.

    Each call is one `write` to a descriptor in append mode: what several tasks or processes add at
    the same time is not mixed. The other parameters are for text, as for `write_text`.
    """
    if not isinstance(data, str):
        if encoding is not None or errors is not None or newline is not None:
            raise ValueError("binary data takes no encoding, errors or newline")
        return await _append_bytes(path, data)
    _check_newline(newline)
    encoding = _encoding(encoding)
    if encoding.lower() in _PLAIN:
        await _append_bytes(path, _encode(encoding, errors, newline, data))
    else:
        # Whether a mark of the byte order comes first depends on what the file has.
        await _file_call(_append_text, (path, data, encoding, errors, newline))
    return len(data)


def _check_newline(newline: str | None) -> None:
    if newline is not None and not isinstance(newline, str):
        raise TypeError(f"newline must be str or None, not {type(newline).__name__}")
    if newline not in (None, "", "\n", "\r", "\r\n"):
        raise ValueError(f"illegal newline value: {newline!r}")


def _encoding(encoding: str | None) -> str:
    encoding = io.text_encoding(encoding)
    return locale.getencoding() if encoding == "locale" else encoding


def _decode(encoding: str, errors: str | None, newline: str | None, data: bytes) -> str:
    if encoding.lower() not in _PLAIN or (newline is None and b"\r" in data):
        return io.TextIOWrapper(io.BytesIO(data), encoding, errors, newline).read()
    return data.decode(encoding, errors or "strict")


def _encode(encoding: str, errors: str | None, newline: str | None, data: str) -> bytes:
    if encoding.lower() not in _PLAIN or newline in ("\r", "\r\n"):
        raw = io.BytesIO()
        text = io.TextIOWrapper(raw, encoding, errors, newline)
        text.write(data)
        text.flush()
        return raw.getvalue()
    return data.encode(encoding, errors or "strict")


def _append_text(path: Path, data: str, encoding: str, errors: Any, newline: Any) -> None:
    opened: Callable[..., Any] = open
    with opened(path, "a", encoding=encoding, errors=errors, newline=newline) as file:
        file.write(data)
