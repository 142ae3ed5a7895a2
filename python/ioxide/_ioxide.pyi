"""What the Python files of this package take from the extension."""

import asyncio
from typing import Any

# For a type checker it is asyncio's own loop: it has the same methods with the same signatures.
class EventLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: Any = None) -> None: ...
