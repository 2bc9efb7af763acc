"""The client for asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from world import (
    MINER,
    PATIENCE,
    STRANGER,
    axon,
    new_async_client,
    new_async_server,
    run,
    silent_port,
)

import btlightning
from btlightning import (
    AsyncLightning,
    AsyncLightningServer,
    ConfigError,
    HandlerError,
    LightningTimeoutError,
    Miner,
    SerializationError,
    StreamError,
)
from btlightning._loop import Source

T = TypeVar("T")


class NoReaderLoop(asyncio.SelectorEventLoop):
    """An event loop that cannot watch sockets for others, as the default one of Windows."""

    def add_reader(self, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def loops() -> list[Any]:
    kinds: list[Any] = [asyncio.new_event_loop, NoReaderLoop]
    if sys.platform != "win32":
        import uvloop

        kinds.append(uvloop.new_event_loop)
    return kinds


@pytest.fixture(params=loops(), ids=lambda kind: kind.__module__ + "." + kind.__name__)
def on_loop(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine on a loop of each kind."""

    def on_loop(main: Coroutine[Any, Any, T]) -> T:
        loop: asyncio.AbstractEventLoop = request.param()
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(asyncio.wait_for(main, PATIENCE))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()

    return on_loop


class World:
    """A miner that knows what became of its handlers, and a validator."""

    def __init__(self, server: AsyncLightningServer, client: AsyncLightning) -> None:
        self.server, self.client = server, client
        self.miner = axon(server)
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.gate = asyncio.Event()

    async def hang(self, data: dict[str, Any]) -> dict[str, Any]:
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return data

    async def drip(self, data: dict[str, Any]) -> AsyncIterator[bytes]:
        """Says `a`, waits for the gate, says the rest."""
        try:
            yield b"a"
            self.begun.set()
            await self.gate.wait()
            for chunk in [b"b", b"c"]:
                yield chunk
            if data.get("fail"):
                raise RuntimeError("no further")
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def world(scenario: Callable[[World], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return data

    async with new_async_server(handler_timeout_secs=60) as server, new_async_client(**options) as client:
        world = World(server, client)
        server.register("echo", echo)
        server.register("hang", world.hang)
        server.register("drip", world.drip)
        await client.connect([world.miner])
        await scenario(world)


def test_a_query_is_answered_on_every_kind_of_loop(
    on_loop: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def scenario(world: World) -> None:
        replies = await asyncio.gather(
            *(world.client.query(world.miner, "echo", {"n": number}) for number in range(100))
        )
        assert [reply.data["n"] for reply in replies] == list(range(100))
        assert {reply.hotkey for reply in replies} == {world.server.hotkey}
        world.gate.set()
        assert await world.client.stream(world.miner, "drip", {}).collect() == b"abc"

    on_loop(world(scenario))


def test_a_cancelled_task_cancels_the_query_on_the_wire() -> None:
    async def scenario(world: World) -> None:
        task = asyncio.create_task(world.client.query(world.miner, "hang", {}))
        await world.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await world.cancelled.wait()
        assert (await world.client.query(world.miner, "echo", {"a": 1})).data == {"a": 1}

    run(world(scenario))


def test_a_query_that_takes_too_long_is_cancelled_on_the_wire() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(LightningTimeoutError) as raised:
            await world.client.query(world.miner, "hang", {}, timeout=0.05)
        assert raised.value.reason == "first_byte_timeout"
        await world.cancelled.wait()
        with pytest.raises(TimeoutError if sys.version_info >= (3, 11) else asyncio.TimeoutError):
            await asyncio.wait_for(world.client.query(world.miner, "hang", {}), 0.05)

    run(world(scenario))


def test_errors_are_raised_where_the_query_is_awaited() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(HandlerError, match="unrecognized synapse type"):
            await world.client.query(world.miner, "nobody", {})
        with pytest.raises(TypeError, match="data"):
            await world.client.query(world.miner, "echo", {"a": object()})
        with pytest.raises(KeyError, match="port"):
            await world.client.query({"hotkey": "x", "ip": "127.0.0.1"}, "echo", {})

    run(world(scenario))


def test_chunks_arrive_as_they_are_sent_and_none_is_lost_by_a_cancelled_wait() -> None:
    async def scenario(world: World) -> None:
        async with world.client.stream(world.miner, "drip", {}) as chunks:
            assert await anext_of(chunks) == b"a"
            await world.begun.wait()
            for _ in range(3):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(anext_of(chunks), 0.01)
            world.gate.set()
            assert [chunk async for chunk in chunks] == [b"b", b"c"]
            assert chunks.timings is not None
        assert not world.cancelled.is_set()

    run(world(scenario))


async def anext_of(chunks: Any) -> Any:
    return await chunks.__anext__()


def test_nothing_is_lost_or_doubled_whenever_a_wait_is_cancelled() -> None:
    async def count(data: dict[str, Any]) -> AsyncIterator[bytes]:
        for number in range(50):
            yield str(number).encode()

    async def scenario(world: World) -> None:
        world.server.register("count", count)
        for turns in range(4):
            came = []
            chunks = world.client.stream(world.miner, "count", {})
            await chunks.open()
            while True:
                step = asyncio.ensure_future(anext_of(chunks))
                # Cancelled at each moment in turn: before its work, in the middle, and when its outcome is there already.
                for _ in range(turns * 3):
                    await asyncio.sleep(0)
                step.cancel()
                try:
                    came.append(await step)
                except asyncio.CancelledError:
                    try:
                        came.append(await anext_of(chunks))
                    except StopAsyncIteration:
                        break
                except StopAsyncIteration:
                    break
            assert came == [str(number).encode() for number in range(50)]

    run(world(scenario))


def test_an_outcome_that_a_cancelled_wait_has_missed_is_the_next_ones() -> None:
    async def main() -> None:
        made: list[asyncio.Future[Any]] = []

        class Work:
            def cancel(self) -> None:
                raise AssertionError("nothing is dropped")

        def work(on: Any) -> Any:
            made.append(on[1])
            return Work()

        source = Source(work, None)
        waiting = asyncio.ensure_future(source.next())
        await asyncio.sleep(0)
        made[0].set_result("it")
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await source.next() == "it"
        assert len(made) == 1

    run(main())


def test_tasks_that_share_a_stream_or_a_fan_out_get_each_thing_once() -> None:
    async def count(data: dict[str, Any]) -> AsyncIterator[bytes]:
        for number in range(50):
            yield str(number).encode()

    async def all_of(source: Any) -> list[Any]:
        return [thing async for thing in source]

    async def scenario(world: World) -> None:
        world.server.register("count", count)
        chunks = world.client.stream(world.miner, "count", {})
        await chunks.open()
        shares = await asyncio.gather(*(all_of(chunks) for _ in range(3)))
        assert sorted(int(chunk) for share in shares for chunk in share) == list(range(50))
        nobodies = [btlightning.hotkey_of_seed(bytes([number]) * 32) for number in range(9)]
        answers = world.client.fan_out([world.miner, *nobodies], "echo", {})
        shares = await asyncio.gather(*(all_of(answers) for _ in range(3)))
        assert sorted(answer.hotkey for share in shares for answer in share) == sorted(
            [world.server.hotkey, *nobodies]
        )

    run(world(scenario))


def test_an_answer_that_upsets_the_callers_own_code_is_an_error_of_its_miner_alone() -> None:
    @dataclass
    class Share:
        n: int

        def __post_init__(self) -> None:
            self.share = 1 / self.n

    async def scenario(world: World) -> None:
        [answer] = [
            answer async for answer in world.client.fan_out([world.miner], "echo", {"n": 0}, returns=Share)
        ]
        assert isinstance(answer.error, SerializationError) and "ZeroDivisionError" in str(answer.error)
        with pytest.raises(SerializationError) as raised:
            await world.client.query(world.miner, "echo", {"n": 0}, returns=Share)
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        with pytest.raises(ConfigError):
            world.client.fan_out([world.miner], "echo", {}, returns=int)

    run(world(scenario))


def test_leaving_a_stream_tells_the_miner_to_stop() -> None:
    async def scenario(world: World) -> None:
        async with world.client.stream(world.miner, "drip", {}) as chunks:
            assert await anext_of(chunks) == b"a"
            await world.begun.wait()
        await world.cancelled.wait()
        assert [chunk async for chunk in chunks] == []

    run(world(scenario))


def test_a_stream_that_fails_does_not_just_end() -> None:
    async def scenario(world: World) -> None:
        world.gate.set()
        chunks = world.client.stream(world.miner, "drip", {"fail": True})
        came = []
        with pytest.raises(StreamError, match="stream processing failed"):
            async for chunk in chunks:
                came.append(chunk)
        assert came == [b"a", b"b", b"c"]

    run(world(scenario))


def test_a_fan_out_hands_out_answers_as_they_come() -> None:
    async def scenario(world: World) -> None:
        async with new_async_server(STRANGER) as quick:

            async def name(data: dict[str, Any]) -> dict[str, Any]:
                return {"quick": True}

            quick.register("hang", name)
            nobody = btlightning.hotkey_of_seed(b"x" * 32)
            miners: list[Miner] = [world.miner, axon(quick), nobody]
            answers = world.client.fan_out(miners, "hang", {"slow": True}, timeout=PATIENCE)
            first = [await anext_of(answers), await anext_of(answers)]
            assert {answer.hotkey: answer.ok for answer in first} == {nobody: False, quick.hotkey: True}
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext_of(answers), 0.01)
            world.gate.set()
            last = await anext_of(answers)
            assert (last.hotkey, last.data) == (world.server.hotkey, {"slow": True})
            assert [answer async for answer in answers] == []

    run(world(scenario))


def test_leaving_a_fan_out_cancels_what_is_still_out() -> None:
    async def scenario(world: World) -> None:
        async with world.client.fan_out([world.miner], "hang", {}) as answers:
            waiting = asyncio.create_task(anext_of(answers))
            await world.begun.wait()
            waiting.cancel()
        await world.cancelled.wait()

    run(world(scenario))


def test_changes_of_peers_are_told() -> None:
    async def scenario(world: World) -> None:
        seen: list[tuple[str, str]] = []
        connected = asyncio.Event()

        async def watch() -> None:
            async for peer in world.client.peer_changes():
                seen.append((peer.hotkey, peer.state))
                connected.set()

        watching = asyncio.create_task(watch())
        # The iteration begins with the task's first step.
        await asyncio.sleep(0)
        async with new_async_server(STRANGER) as other:
            await world.client.connect([axon(other)])
            await connected.wait()
            assert (other.hotkey, "connected") in seen or (other.hotkey, "connecting") in seen
            peer = world.client.peer(other.hotkey)
            assert peer is not None and peer.connected and peer.connected_for is not None
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert {peer.hotkey for peer in world.client.peers()} == {world.server.hotkey, other.hotkey}

    run(world(scenario))


def test_the_registry_is_replaced() -> None:
    async def scenario(world: World) -> None:
        await world.client.update([])
        assert world.client.peers() == []
        await world.client.update([world.miner])
        assert [peer.connected for peer in world.client.peers()] == [True]
        assert (await world.client.connection_stats())["total_connections"] == "1"

    run(world(scenario))


def test_types_go_in_and_come_out() -> None:
    @dataclass
    class Point:
        x: int
        y: float

    async def scenario(world: World) -> None:
        reply = await world.client.query(world.miner, "echo", Point(1, 2.5), returns=Point)
        assert reply.data == Point(1, 2.5)
        async for answer in world.client.fan_out([world.miner], "echo", Point(3, 4.5), returns=Point):
            assert answer.data == Point(3, 4.5)

    run(world(scenario))


def test_one_client_serves_several_loops_one_after_another() -> None:
    client = new_async_client()

    async def main(number: int) -> None:
        async with new_async_server() as server:

            async def echo(data: dict[str, Any]) -> dict[str, Any]:
                return data

            server.register("echo", echo)
            assert (await client.query(axon(server), "echo", {"n": number})).data == {"n": number}
        await client.close()

    for number in range(3):
        run(main(number))


def test_a_loop_that_ends_with_queries_out_leaves_nothing_behind() -> None:
    async def scenario(world: World) -> None:
        forgotten = asyncio.create_task(world.client.query(world.miner, "hang", {}))
        await world.begun.wait()
        assert not forgotten.done()

    run(world(scenario))
    run(world(scenario))


def test_nobody_at_the_address_is_told_with_its_reason() -> None:
    async def main() -> None:
        hotkey = btlightning.hotkey_of_seed(MINER)
        nobody = {"hotkey": hotkey, "ip": "127.0.0.1", "port": silent_port()}
        async with new_async_client(connect_timeout_secs=0.1) as client:
            await client.connect([nobody])
            [peer] = client.peers()
            assert (peer.state, peer.reason) == ("backing_off", "unanswered")
            with pytest.raises(ConnectionError):
                await client.query(nobody, "echo", {}, timeout=0.05)

    run(main())
