"""The extension module. Programs import ``btlightning``."""

from asyncio import AbstractEventLoop, Future
from typing import Any, final

__version__: str

# process

def shutdown() -> None: ...

# bridge

@final
class Bridge:
    def __new__(cls) -> Bridge: ...
    def fileno(self) -> int | None: ...
    def run(self) -> None: ...
    def wait(self) -> bool: ...
    def close(self) -> None: ...

@final
class Pending:
    def cancel(self) -> None: ...

# values

# client

# server

# signers

# logging
