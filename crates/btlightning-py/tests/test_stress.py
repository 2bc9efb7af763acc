"""64 threads and 1,000 tasks at once, with handlers that raise, hang and are cancelled. Nothing is lost, nothing is left.

Ten minutes of a busy validator, 100 queries a second, as fast as the machine takes them.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from world import axon, new_async_client, new_async_server, new_client, new_server

from btlightning import AsyncLightning, HandlerError, Lightning, LightningError, StreamError

QUERIES = 60_000
THREADS = 64
TASKS = 1_000
ROUNDS = 6
#: How much the process may have grown from the second round to the last, in bytes. A leak of 1 KiB a query is 40 MiB.
GROWTH_BYTES_MAX = 24 << 20

PAYLOAD = bytes(range(256)) * 4
#: What is asked, and how often.
KINDS = {"echo": 80, "raise": 8, "hang": 4, "stream": 4, "left": 2, "large": 2}


class Tally:
    """How what was asked came out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def note(self, kind: str, outcome: str) -> None:
        with self.lock:
            self.outcomes[kind, outcome] += 1


EXPECTED = {
    "echo": "answered",
    "large": "answered",
    "raise": "raised",
    "hang": "cancelled",
    "stream": "raised",
    "left": "left",
}


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


def thread(client: Lightning, miner: Any, kinds: list[str], tally: Tally) -> None:
    for number, kind in enumerate(kinds):
        try:
            if kind in ("echo", "large"):
                data = {"n": number, "payload": PAYLOAD * (256 if kind == "large" else 1)}
                assert client.query(miner, "echo", data).data == data
                outcome = "answered"
            elif kind == "stream":
                list(client.stream(miner, "stream", {}))
                outcome = "ended"
            elif kind == "left":
                with client.stream(miner, "endless", {}) as chunks:
                    assert next(chunks) == PAYLOAD
                outcome = "left"
            elif kind == "hang":
                client.query(miner, "hang", {}, timeout=0.02)
                outcome = "answered"
            else:
                client.query(miner, "raise", {})
                outcome = "answered"
        except (HandlerError, StreamError):
            outcome = "raised"
        except TimeoutError:
            outcome = "cancelled"
        except LightningError as error:
            outcome = f"{type(error).__name__}: {error}"
        tally.note(kind, outcome)


async def task(client: AsyncLightning, miner: Any, kinds: list[str], tally: Tally) -> None:
    for number, kind in enumerate(kinds):
        try:
            if kind in ("echo", "large"):
                data = {"n": number, "payload": PAYLOAD * (256 if kind == "large" else 1)}
                assert (await client.query(miner, "echo", data)).data == data
                outcome = "answered"
            elif kind == "stream":
                await client.stream(miner, "stream", {}).collect()
                outcome = "ended"
            elif kind == "left":
                async with client.stream(miner, "endless", {}) as chunks:
                    assert await chunks.__anext__() == PAYLOAD
                outcome = "left"
            elif kind == "hang":
                await asyncio.wait_for(client.query(miner, "hang", {}), 0.02)
                outcome = "answered"
            else:
                await client.query(miner, "raise", {})
                outcome = "answered"
        except (HandlerError, StreamError):
            outcome = "raised"
        except (asyncio.TimeoutError, TimeoutError):
            outcome = "cancelled"
        except LightningError as error:
            outcome = f"{type(error).__name__}: {error}"
        tally.note(kind, outcome)


def sync_handlers(server: Any, hanging: threading.Event) -> None:
    def fail(data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("as it should")

    def hang(data: dict[str, Any]) -> dict[str, Any]:
        hanging.wait(1.0)
        return data

    def stream(data: dict[str, Any]) -> Iterator[bytes]:
        yield PAYLOAD
        raise RuntimeError("as it should")

    def endless(data: dict[str, Any]) -> Iterator[bytes]:
        while True:
            yield PAYLOAD

    server.register("echo", lambda data: data)
    server.register("raise", fail)
    server.register("hang", hang)
    server.register("stream", stream)
    server.register("endless", endless)


def async_handlers(server: Any) -> None:
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return data

    async def fail(data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("as it should")

    async def hang(data: dict[str, Any]) -> dict[str, Any]:
        await asyncio.Event().wait()
        return data

    async def stream(data: dict[str, Any]) -> AsyncIterator[bytes]:
        yield PAYLOAD
        raise RuntimeError("as it should")

    async def endless(data: dict[str, Any]) -> AsyncIterator[bytes]:
        while True:
            yield PAYLOAD

    for handler, name in [
        (echo, "echo"),
        (fail, "raise"),
        (hang, "hang"),
        (stream, "stream"),
        (endless, "endless"),
    ]:
        server.register(name, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(600)
def test_threads_and_tasks_at_once_lose_nothing_and_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "btlightning")
    random.seed(7)
    # Of each kind exactly its share, in an order of chance.
    asked = [kind for kind, share in KINDS.items() for _ in range(QUERIES * share // 100)]
    random.shuffle(asked)
    assert len(asked) == QUERIES
    tally = Tally()
    resident: list[int] = []
    hanging = threading.Event()

    async def tasks(kinds: list[str], client: AsyncLightning) -> None:
        async with new_async_server(max_concurrent_bidi_streams=2048) as server:
            async_handlers(server)
            miner = axon(server)
            await client.connect([miner])
            await asyncio.gather(
                *(task(client, miner, kinds[number::TASKS], tally) for number in range(TASKS))
            )
            await client.update([])

    with new_server(seed=b"n" * 32) as server, new_client() as client:
        sync_handlers(server, hanging)
        miner = axon(server)
        client.initialize_connections([miner])
        async_client = new_async_client()
        per_round = QUERIES // ROUNDS
        for round_number in range(ROUNDS):
            kinds = asked[round_number * per_round : (round_number + 1) * per_round]
            by_threads, by_tasks = kinds[: per_round // 2], kinds[per_round // 2 :]
            threads = [
                threading.Thread(
                    target=thread, args=(client, miner, by_threads[number::THREADS], tally), daemon=True
                )
                for number in range(THREADS)
            ]
            for one in threads:
                one.start()
            asyncio.run(tasks(by_tasks, async_client))
            for one in threads:
                one.join(300)
                assert not one.is_alive(), "a thread is stuck"
            gc.collect()
            resident.append(resident_bytes())
        hanging.set()
    assert tally.outcomes == Counter((kind, EXPECTED[kind]) for kind in asked)
    print("resident MiB after each round:", [size >> 20 for size in resident])
    growth = resident[-1] - resident[1]
    assert growth < GROWTH_BYTES_MAX, [size >> 20 for size in resident]
