"""Where handlers run: threads for plain functions, an event loop for coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import weakref

from . import _native
from ._calls import Failures, answer, answer_in_loop
from ._loop import bridge

_log = logging.getLogger("btlightning.server")

#: How long a stop waits for handlers to end that were told to.
_PATIENCE = 1.0


def start_threads(threads: _native.HandlerThreads, failures: Failures) -> None:
    """Makes threads as they are wanted. All of them end when the server is stopped, once they are done."""
    make = threading.Thread(
        target=_make_threads, args=(threads, failures), name="btlightning-handlers", daemon=True
    )
    make.start()


def _make_threads(threads: _native.HandlerThreads, failures: Failures) -> None:
    number = 0
    while wanted := threads.wanted():
        for made in range(wanted):
            thread = threading.Thread(
                target=_work, args=(threads, failures), name=f"btlightning-handler-{number + 1}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                threads.refused(wanted - made)
                _log.warning("no more than %d threads can be made for handlers: %s", number, error)
                break
            number += 1


def _work(threads: _native.HandlerThreads, failures: Failures) -> None:
    if (thread := threads.enter()) is None:
        return
    while (request := thread.take()) is not None:
        answer(request, failures)
        del request


class Tasks:
    """Calls as tasks of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, failures: Failures, own: bool) -> None:
        self._loop = loop
        self._failures = failures
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
            await answer_in_loop(request, self._failures)
        except KeyboardInterrupt:
            # Ctrl-C may be anywhere in the program's loop, and is no handler's. In a loop of handlers nobody pressed it.
            if not self._own:
                raise
        finally:
            self._tasks.pop(number, None)


class LoopThread:
    """A thread with an event loop, for the coroutines of a server that has none."""

    def __init__(self, failures: Failures, server: object) -> None:
        self._failures = failures
        # A server that is dropped without being stopped must not be outlived.
        self._dropped = weakref.finalize(server, self.close)
        self._dropped.atexit = False
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
        tasks = Tasks(self._loop, self._failures, own=True)
        self._made.set_result((way, tasks))
        await self._ended.wait()
        await tasks.end()

    def close(self) -> None:
        """Ends the loop, and waits a little for its handlers to have ended."""
        self._dropped.detach()
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._ended.set)
        except RuntimeError:
            return  # it has ended already
        if threading.current_thread() is not self._thread:
            self._thread.join(2 * _PATIENCE)
