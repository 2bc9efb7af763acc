"""Where handlers run: threads for plain functions, an event loop for coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import threading
from typing import Any

from . import _native
from ._loop import awaited, bridge

_log = logging.getLogger("btlightning.server")

#: How long a stop waits for handlers to end that were told to.
_PATIENCE = 1.0


def start_threads(threads: _native.HandlerThreads) -> None:
    """Makes threads as they are wanted. All of them end when the server is stopped, once they are done."""
    threading.Thread(target=_make_threads, args=(threads,), name="btlightning-handlers", daemon=True).start()


def _make_threads(threads: _native.HandlerThreads) -> None:
    number = 0
    while wanted := threads.wanted():
        for made in range(wanted):
            number += 1
            thread = threading.Thread(target=threads.work, name=f"btlightning-handler-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                threads.refused(wanted - made)
                _log.warning("no more than %d threads can be made for handlers: %s", number - 1, error)
                break


class Tasks:
    """Requests as tasks of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, own: bool) -> None:
        self._loop = loop
        #: Whether nothing but handlers runs in the loop.
        self._own = own
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def begin(self, number: int, request: _native.Request) -> None:
        """Answers a request."""
        task = self._loop.create_task(self._answer(number, request))
        if not task.done():
            self._tasks[number] = task

    def cancel(self, number: int) -> None:
        """Ends the work on a request that nobody waits for any more."""
        if (task := self._tasks.get(number)) is not None:
            task.cancel()

    async def end(self) -> None:
        """Ends all work, but that of the handler that asks for it."""
        tasks = set(self._tasks.values()) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE)

    async def _answer(self, number: int, request: _native.Request) -> None:
        try:
            outcome = request.begin()
            if inspect.isawaitable(outcome):
                outcome = await outcome
            if request.streams:
                await self._send(request, outcome)
            request.answer(outcome)
        except asyncio.CancelledError:
            raise
        except KeyboardInterrupt as error:
            request.fail(error)
            # In a loop of its own no handler can have been meant by it.
            if not self._own:
                raise
        except BaseException as error:
            request.fail(error)
        finally:
            self._tasks.pop(number, None)

    async def _send(self, request: _native.Request, chunks: Any) -> None:
        if hasattr(chunks, "__aiter__"):
            chunks = chunks.__aiter__()
            try:
                async for chunk in chunks:
                    if not request.try_send(chunk) and not await awaited(request.send, chunk):
                        break
            finally:
                if (close := getattr(chunks, "aclose", None)) is not None:
                    await close()
            return
        chunks = iter(chunks)
        try:
            for chunk in chunks:
                if not request.try_send(chunk) and not await awaited(request.send, chunk):
                    break
        finally:
            if (close := getattr(chunks, "close", None)) is not None:
                close()


class LoopThread:
    """A thread with an event loop, for the coroutines of a server that has none."""

    def __init__(self) -> None:
        self._made: concurrent.futures.Future[tuple[_native.Bridge, Tasks]] = concurrent.futures.Future()
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="btlightning-handler-loop", daemon=True)
        self._thread.start()

    def open(self) -> tuple[_native.Bridge, Tasks]:
        """The way to the loop, and its tasks."""
        return self._made.result()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if self._made.done():
                _log.exception("the event loop of the handlers has ended")
            else:
                self._made.set_exception(error)

    async def _main(self) -> None:
        self._loop, way = bridge()
        tasks = Tasks(self._loop, own=True)
        self._made.set_result((way, tasks))
        await self._ended.wait()
        await tasks.end()

    def close(self) -> None:
        """Ends the loop, and waits a little for its handlers to have ended."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            return  # it has ended already
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * _PATIENCE)
