"""What comes to an event loop while it is interrupted, or after it has ended."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import sys
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
from world import PATIENCE, axon, new_async_client, new_async_server, run

from btlightning import _loop, _native

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the loops there watch no sockets")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def await_bell(way: _native.Bridge) -> None:
    """Blocks the loop until something lies there for it."""
    bell = way.fileno()
    assert bell is not None
    ready, _, _ = select.select([bell], [], [], PATIENCE)
    assert ready


def test_a_loop_that_ends_with_something_on_its_way_leaves_nothing_behind() -> None:
    client = new_async_client()
    pending: list[Any] = []

    def at_the_end(_: object) -> None:
        loop, way = _loop.bridge()
        pending.append(client._native.stats(on=(way, loop.create_future())))
        await_bell(way)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        # After the callback that stops the loop.
        task.add_done_callback(at_the_end)

    loops = []
    files = open_files()
    for _ in range(50):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        loops.append(weakref.ref(loop))
        del loop
    gc.collect()
    # The last one goes when there is another.
    assert sum(loop() is not None for loop in loops) <= 1
    assert open_files() <= files + 10


def test_what_comes_after_the_end_is_dropped() -> None:
    client = new_async_client()
    way = _native.Bridge()
    way.close()
    futures: list[Any] = [type("Future", (), {})() for _ in range(3)]
    dropped = [weakref.ref(future) for future in futures]
    for future in futures:
        client._native.stats(on=(way, future))
    del future, futures
    while any(ref() is not None for ref in dropped):
        client._native.stats()
    way.run()


class Interrupted:
    """A future whose loop is interrupted while it is told."""

    def done(self) -> bool:
        raise KeyboardInterrupt


def test_an_interrupt_is_raised_and_nothing_else_is_lost() -> None:
    client = new_async_client()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        way = _native.Bridge()
        futures = [loop.create_future() for _ in range(8)]
        told: list[Any] = [Interrupted(), *futures]
        pending = [client._native.stats(on=(way, future)) for future in told]
        await_bell(way)
        interrupted = 0
        while not (interrupted and all(future.done() for future in futures)):
            try:
                way.run()
            except KeyboardInterrupt:
                interrupted += 1
        assert interrupted == 1
        assert all(isinstance(future.result(), dict) for future in futures)
        del pending

    run(main())


def until_interrupted(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    task = loop.create_task(main)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    return task


def test_ctrl_c_while_a_handler_is_begun_ends_the_loop() -> None:
    begun: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        if "Tasks._answer" in repr(coroutine):
            begun.append("one")
            if len(begun) == 1:
                coroutine.close()
                signal.raise_signal(signal.SIGINT)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def main() -> list[Any]:
        async with new_async_server() as server, new_async_client() as client:

            async def echo(data: dict[str, Any]) -> dict[str, Any]:
                return data

            server.register("echo", echo)
            await client.connect([axon(server)])
            asyncio.get_running_loop().set_task_factory(factory)
            asked = [client.query(axon(server), "echo", {"n": n}, timeout=1.0) for n in range(2)]
            answers: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
            return answers

    loop = asyncio.new_event_loop()
    try:
        task = until_interrupted(loop, main())
        # A program may go on all the same. One of the two is lost, the other is not.
        answers = loop.run_until_complete(asyncio.wait_for(task, PATIENCE))
        assert sum(isinstance(answer, Exception) for answer in answers) == 1
        assert len(begun) == 2
    finally:
        loop.close()
