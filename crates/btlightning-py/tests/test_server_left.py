"""What is left of a server that was stopped or dropped, or whose start was cancelled: nothing."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
import weakref
from typing import Any

import pytest
from world import PATIENCE, axon, echo, new_async_client, new_async_server, new_client, new_server, run

from btlightning import AxonInfo, Lightning, LightningError, _loop


async def later(data: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return data


def test_nothing_of_a_stopped_server_is_left_when_it_starts_again() -> None:
    server = new_server()
    server.register("later", later)

    def left() -> tuple[int, int]:
        gc.collect()
        return open_files(), len(_loop._bridges)

    with server:
        pass
    files, loops = left()
    for _ in range(20):
        with server:
            pass
    # Those of other tests may end meanwhile.
    now = left()
    assert now[0] <= files and now[1] <= loops


def open_files() -> int:
    """How many descriptors are open; always the same where the system does not tell."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_who_drops_a_server_does_not_wait_for_its_handlers() -> None:
    begun, may_end = threading.Event(), threading.Event()

    async def hang(data: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        may_end.wait(PATIENCE)
        return {}

    server = new_server()
    server.register("hang", hang)
    server.__enter__()
    (loop,) = [thread for thread in threading.enumerate() if thread.name == "btlightning-handler-loop"]
    with new_client() as client:
        asking = threading.Thread(target=lambda: asked(client, where))
        where = axon(server)
        asking.start()
        assert begun.wait(PATIENCE)
        collected = weakref.ref(server)
        began = time.monotonic()
        del server
        gc.collect()
        assert collected() is None and time.monotonic() - began < 1
        assert loop.is_alive()
        may_end.set()
        for thread in [loop, asking]:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def asked(client: Lightning, where: AxonInfo) -> None:
    with pytest.raises(LightningError):
        client.query(where, "hang", {}, timeout=PATIENCE)


@pytest.mark.parametrize("is_bound", [False, True])
def test_a_start_that_is_cancelled_holds_no_port(is_bound: bool) -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        server = new_async_server()
        server.register("echo", echo)
        starting = asyncio.ensure_future(server.start())
        await asyncio.sleep(0)
        # The loop is kept from hearing of it before the task is cancelled.
        patience = time.monotonic() + PATIENCE
        while is_bound and server.port == 0:
            assert time.monotonic() < patience
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        if is_bound:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(server.local_addr)
        assert not {
            t.name for t in set(threading.enumerate()) - before if t.name.startswith("btlightning-handler")
        }
        async with server, new_async_client() as client:
            assert (await client.query(axon(server), "echo", {"a": 1})).data == {"a": 1}

    run(main())
