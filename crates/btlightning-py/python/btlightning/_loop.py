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
        _forget_closed_loops()
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


def _forget_closed_loops() -> None:
    # What was on its way to such a loop refers to it, so neither would ever go by itself.
    for known in _bridges.keyrefs():
        loop = known()
        if loop is not None and loop.is_closed() and (unused := _bridges.pop(loop, None)) is not None:
            unused.close()


def _watch(loop: weakref.ref[asyncio.AbstractEventLoop], bridge: _native.Bridge) -> None:
    while bridge.wait():
        running = loop()
        if running is None:
            return
        ran = threading.Event()

        def run() -> None:
            try:
                bridge.run()
            finally:
                ran.set()  # noqa: B023 - the round is over once it is set

        try:
            running.call_soon_threadsafe(run)
        except RuntimeError:
            return  # the loop is closed
        del running
        # Until the loop has looked, `wait` would return at once. A loop that was stopped may never look again.
        while not ran.wait(timeout=1.0):
            running = loop()
            if running is None or running.is_closed():
                return
            del running


async def awaited(work: Callable[..., Any], *args: Any) -> Any:
    """Awaits ``work(*args, on=...)``. Cancelled, it drops the work."""
    loop, way = bridge()
    future = loop.create_future()
    pending = work(*args, on=(way, future))
    try:
        return await future
    finally:
        pending.cancel()


class Source:
    """One thing after another out of ``work(on=...)``, each to one caller. Nothing is lost when a wait is cancelled: the next
    one goes on with the work that was begun. ``end`` is what a wait finds once it is closed."""

    def __init__(self, work: Callable[..., Any], end: Any) -> None:
        self._work = work
        self._end = end
        self._begun: tuple[asyncio.Future[Any], _native.Pending] | None = None
        self._closed = False
        self._turn = asyncio.Lock()

    async def next(self) -> Any:
        async with self._turn:
            if self._closed:
                return self._end
            if self._begun is None:
                loop, way = bridge()
                future: asyncio.Future[Any] = loop.create_future()
                self._begun = future, self._work(on=(way, future))
            future, _ = self._begun
            try:
                outcome = await asyncio.shield(future)
            except asyncio.CancelledError:
                raise  # This wait was cancelled; what was begun is the next one's.
            except BaseException:
                self._begun = None
                raise
            self._begun = None
            return outcome

    def close(self) -> None:
        """Drops the work that was begun. A wait for it finds the end."""
        self._closed = True
        if self._begun is not None:
            future, pending = self._begun
            pending.cancel()
            if not future.done():
                future.set_result(self._end)
