"""When handlers run, on which threads, for how long, and until when."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from world import (
    PATIENCE,
    World,
    axon,
    echo,
    in_threads,
    new_async_server,
    new_client,
    new_server,
    run,
)

from btlightning import Caller, HandlerError


def test_threads_are_made_while_handlers_block_and_only_then(world: World) -> None:
    threads = set()
    barrier = threading.Barrier(33)

    def meet(data: dict[str, Any]) -> dict[str, Any]:
        barrier.wait(PATIENCE)
        threads.add(threading.current_thread().name)
        return {}

    for _ in range(500):
        world.answers(echo)
    quick = {
        thread.name for thread in threading.enumerate() if thread.name.startswith("btlightning-handler-")
    }
    world.server.register("meet", meet)
    callers = [threading.Thread(target=world.ask, args=("meet",)) for _ in range(32)]
    for caller in callers:
        caller.start()
    barrier.wait(PATIENCE)
    for caller in callers:
        caller.join(PATIENCE)
    assert len(threads) == 32
    assert len(quick) <= 4


def test_no_more_threads_are_made_than_allowed() -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    full = threading.Event()

    def count(data: dict[str, Any]) -> dict[str, Any]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == 3:
                full.set()
        full.wait(PATIENCE)
        with lock:
            at_once -= 1
        return {}

    with new_server(handler_threads=3) as server, new_client() as client:
        server.register("count", count)
        in_threads(12, lambda _: client.query(axon(server), "count", {}))
    assert most == 3


def test_a_coroutine_is_cancelled_when_its_caller_leaves(world: World) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def hang(data: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return {}

    world.server.register("hang", hang)
    for _ in range(100):
        # On a busy machine, the caller may have left before the coroutine began.
        with pytest.raises(TimeoutError):
            world.ask("hang", timeout=0.2)
        if begun.is_set():
            break
    assert begun.is_set() and cancelled.wait(PATIENCE)


def test_a_handler_that_takes_too_long_is_told_of_by_its_time() -> None:
    cancelled, gate = threading.Event(), threading.Event()

    async def hang(data: dict[str, Any]) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    with new_server(handler_timeout_secs=1, shutdown_grace_secs=0) as server, new_client() as client:
        server.register("plain", lambda data: {"waited": gate.wait(PATIENCE)})
        server.register("async", hang)
        for name in ["plain", "async"]:
            with pytest.raises(HandlerError, match="handler timed out"):
                client.query(axon(server), name, {})
        assert cancelled.wait(PATIENCE)
        gate.set()


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    gate, begun = threading.Event(), threading.Event()
    seen = []

    def hang(data: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        gate.wait(PATIENCE)
        return {}

    def see(data: dict[str, Any]) -> dict[str, Any]:
        seen.append(data["number"])
        return {}

    async def ping(data: dict[str, Any]) -> dict[str, Any]:
        return {}

    with new_server(handler_threads=1) as server, new_client() as client:
        miner = axon(server)
        server.register("hang", hang)
        server.register("see", see)
        server.register("ping", ping)
        hanging = threading.Thread(target=client.query, args=(miner, "hang", {}))
        hanging.start()
        assert begun.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            client.query(miner, "see", {"number": 1}, timeout=0.2)
        # Answered without a thread of the pool. The miner hears before it that nobody waits for the first.
        client.query(miner, "ping", {})
        gate.set()
        client.query(miner, "see", {"number": 2})
        hanging.join(PATIENCE)
    assert seen == [2]


def test_a_handler_may_ask_another_server_or_its_own(world: World) -> None:
    world.server.register("echo", echo)
    assert world.answers(lambda data: world.ask("echo", {"relayed": data}), {"a": 1}) == {"relayed": {"a": 1}}


def test_in_an_event_loop_coroutines_share_it_and_functions_do_not() -> None:
    async def main() -> None:
        loop_thread = threading.current_thread()
        async with new_async_server() as server:

            @server.handler("async")
            async def asynchronous(data: dict[str, Any]) -> dict[str, Any]:
                assert asyncio.get_running_loop() is loop
                return {"here": threading.current_thread() is loop_thread}

            @server.handler("plain")
            def plain(data: dict[str, Any], caller: Caller) -> dict[str, Any]:
                return {"here": threading.current_thread() is loop_thread}

            loop = asyncio.get_running_loop()
            with new_client() as client:

                def ask(name: str) -> dict[str, Any]:
                    return client.query(axon(server), name, {}).data

                assert await asyncio.to_thread(ask, "async") == {"here": True}
                assert await asyncio.to_thread(ask, "plain") == {"here": False}

    run(main())


def test_a_thousand_tasks_at_once(world: World) -> None:
    async def wait(data: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.01)  # sleeps: so that a thousand of them overlap
        return data

    world.server.register("wait", wait)

    def ask(number: int) -> bool:
        return all(
            world.ask("wait", {"n": number * 100 + more})["n"] == number * 100 + more for more in range(25)
        )

    assert all(in_threads(40, ask))
