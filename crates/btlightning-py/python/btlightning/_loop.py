"""The native half's work, awaited on the running event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from typing import Any

from . import _native

_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _native.Bridge] = weakref.WeakKeyDictionary()


def bridge() -> tuple[asyncio.AbstractEventLoop, _native.Bridge]:
    """The running loop, and the way to it; made once for each loop."""
    loop = asyncio.get_running_loop()
    found = _bridges.get(loop)
    if found is None:
        found = _bridges[loop] = _native.Bridge()
        fileno = found.fileno()
        try:
            if fileno is None:
                raise NotImplementedError
            loop.add_reader(fileno, found.run)
        except NotImplementedError:
            # A loop on Windows, as a rule. The thread ends with the loop.
            weakref.finalize(loop, found.close)
            watch = threading.Thread(
                target=_watch, args=(weakref.ref(loop), found), name="btlightning-loop", daemon=True
            )
            watch.start()
    return loop, found


def _watch(loop: weakref.ref[asyncio.AbstractEventLoop], bridge: _native.Bridge) -> None:
    while bridge.wait():
        running = loop()
        if running is None:
            return
        done = threading.Event()

        def run() -> None:
            bridge.run()
            done.set()

        try:
            running.call_soon_threadsafe(run)
        except RuntimeError:
            return  # the loop is closed
        del running
        # Asked again before the loop has looked, `wait` would return at once.
        while not done.wait(timeout=1.0):
            if loop() is None or (alive := loop()) is None or alive.is_closed():
                return


async def awaited(work: Callable[..., Any], *args: Any) -> Any:
    """Awaits ``work(*args, on=...)``. Cancelled, it drops the work."""
    loop, way = bridge()
    future = loop.create_future()
    pending = work(*args, on=(way, future))
    try:
        return await future
    finally:
        pending.cancel()
