"""What `help()` and `inspect.signature()` say of everything public."""

from __future__ import annotations

import asyncio as stdlib
import inspect
import sys

import pytest

import ioxide

#: Classes that programs meet as objects, under no public name.
MET_AS_OBJECTS = ["SocketTransport", "ReadPipeTransport", "WritePipeTransport"]
MET_AS_OBJECTS += ["DatagramTransport", "SSLTransport", "SubprocessTransport"]

#: What has no signature: an exception, and an object that is called.
WITHOUT_SIGNATURE = {"QueueShutDown", "eager_task_factory"}

#: Where a parameter is ours, not asyncio's: a loop's clock and backend, and `loop`, which streams once had.
OWN_PARAMETERS = {"EventLoop", "SelectorEventLoop", "open_connection", "open_unix_connection"}
OWN_PARAMETERS |= {"start_server", "start_unix_server", "new_event_loop"}

DATACLASSES = {"FutureCallGraph", "FrameCallGraphEntry"}


def is_ours(thing):
    return (getattr(thing, "__module__", None) or "").startswith("ioxide")


def members(name, cls):
    """Every public attribute of the class that is ours, inherited or not."""
    for attribute in dir(cls):
        if attribute.startswith("_"):
            continue
        owner = next(base for base in cls.__mro__ if attribute in vars(base))
        if is_ours(owner):
            yield f"{name}.{attribute}", vars(owner)[attribute]


def public():
    for name in sorted(ioxide.__all__):
        thing = getattr(ioxide, name)
        if is_ours(thing):
            yield name, thing
            if isinstance(thing, type):
                yield from members(name, thing)
    for name in MET_AS_OBJECTS:
        thing = next(c for c in transports() if c.__name__ == name)
        yield name, thing
        yield from members(name, thing)
    for name in ioxide.files.__all__:
        if callable(thing := getattr(ioxide.files, name)):
            yield f"files.{name}", thing
    process = ioxide.subprocess.Process
    yield "Process", process
    yield from members("Process", process)


def transports():
    """The classes of transports, which the extension has no names for."""
    waiting = list(stdlib.BaseTransport.__subclasses__())
    while waiting:
        found = waiting.pop()
        waiting += found.__subclasses__()
        if is_ours(found):
            yield found


PUBLIC = dict(public())


def is_field(thing):
    return isinstance(thing, property) or inspect.isdatadescriptor(thing) or not callable(thing)


def test_everything_public_has_a_docstring_of_its_own():
    silent = []
    for path, thing in PUBLIC.items():
        own = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
        # Of the fields of a dataclass its own docstring tells.
        if not (own or "").strip() and path.split(".")[0] not in DATACLASSES:
            silent.append(path)
    assert silent == []


CALLABLES = [
    path
    for path, thing in PUBLIC.items()
    if not is_field(thing) and path not in WITHOUT_SIGNATURE and path not in MET_AS_OBJECTS
]


def test_everything_public_shows_its_parameters():
    hidden = []
    for path in CALLABLES:
        try:
            inspect.signature(PUBLIC[path])
        except ValueError:
            hidden.append(path)
    assert hidden == []


def theirs(path):
    name, _, attribute = path.partition(".")
    found = getattr(stdlib, "SelectorEventLoop" if name == "EventLoop" else name, None)
    if found is None:
        found = COUNTERPARTS.get(name)
    return getattr(found, attribute, None) if attribute else found


COUNTERPARTS = {
    "Process": stdlib.subprocess.Process,
    "SocketTransport": stdlib.selector_events._SelectorSocketTransport,
    "DatagramTransport": stdlib.selector_events._SelectorDatagramTransport,
    "ReadPipeTransport": stdlib.unix_events._UnixReadPipeTransport,
    "WritePipeTransport": stdlib.unix_events._UnixWritePipeTransport,
    "SSLTransport": stdlib.sslproto._SSLProtocolTransport,
    "SubprocessTransport": stdlib.base_subprocess.BaseSubprocessTransport,
}


def shape(function):
    """Parameters as a caller sees them: without types and `self`, and what takes the rest by any name."""
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        rest = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        shown.append((None if rest else parameter.name, parameter.kind, parameter.default))
    return shown


def differs(path):
    """What the signature has otherwise than asyncio's, if anything."""
    function = theirs(path)
    try:
        expected = shape(function) if function else None
    except ValueError:
        expected = None  # a built-in of CPython without a signature
    if expected is None:
        return None
    ours = shape(PUBLIC[path])
    if sys.version_info >= (3, 14):
        return None if ours == expected else (ours, expected)
    names = {name for name, _, _ in ours}
    takes_any = any(kind is inspect.Parameter.VAR_KEYWORD for _, kind, _ in ours)
    missing = {name for name, _, _ in expected if name} - names
    return missing if missing and not takes_any else None


def test_parameters_are_those_of_the_newest_asyncio():
    compared = [path for path in CALLABLES if path not in OWN_PARAMETERS]
    different = {path: differs(path) for path in compared if differs(path)}
    assert different == {}


def test_signatures_of_built_in_methods_refuse_what_the_methods_refuse():
    queue = ioxide.Queue()
    for call, arguments in [
        (queue.put_nowait, ()),
        (queue.task_done, (1,)),
        (queue.shutdown, (1, 2)),
    ]:
        with pytest.raises(TypeError):
            call(*arguments)
        with pytest.raises(TypeError):
            inspect.signature(call).bind(*arguments)
