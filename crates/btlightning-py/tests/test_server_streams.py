"""Handlers that answer in chunks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from world import PATIENCE, axon, new_async_server, new_client, new_server, run

from btlightning import Caller, Lightning, LightningServer, StreamError

CHUNKS = [
    b"one",
    bytearray(b"two"),
    memoryview(b"xthree")[1:],
    b"",
    b"x" * 100_000,
    memoryview(b"a-b-c-")[::2],
]
JOINED = [b"one", b"two", b"three", b"", b"x" * 100_000, b"abc"]


@pytest.fixture
def server() -> Iterator[LightningServer]:
    with new_server(streaming_channel_buffer=4) as server:
        yield server


@pytest.fixture
def client() -> Iterator[Lightning]:
    with new_client() as client:
        yield client


def plain(data: dict[str, Any]) -> Iterator[Any]:
    yield from CHUNKS


async def asynchronous(data: dict[str, Any]) -> AsyncIterator[Any]:
    for chunk in CHUNKS:
        await asyncio.sleep(0)
        yield chunk


async def coroutine(data: dict[str, Any]) -> list[Any]:
    return CHUNKS


async def coroutine_of_generator(data: dict[str, Any]) -> AsyncIterator[Any]:
    return asynchronous(data)


class Iterable:
    def __init__(self, data: dict[str, Any]) -> None:
        self.chunks = iter(CHUNKS)

    def __iter__(self) -> Iterator[Any]:
        return self.chunks


@pytest.mark.parametrize(
    "handler",
    [
        plain,
        asynchronous,
        coroutine,
        coroutine_of_generator,
        Iterable,
        lambda data: CHUNKS,
        lambda data: tuple(CHUNKS),
    ],
)
def test_whatever_yields_bytes_is_a_stream(server: LightningServer, client: Lightning, handler: Any) -> None:
    server.register_streaming_handler("it", handler)
    assert list(client.stream(axon(server), "it", {})) == JOINED


@pytest.mark.parametrize("handler", [plain, asynchronous])
def test_a_generator_function_is_known_to_stream(
    server: LightningServer, client: Lightning, handler: Any
) -> None:
    server.handler("it")(handler)
    assert list(client.stream(axon(server), "it", {})) == JOINED


def test_a_stream_is_told_who_calls(server: LightningServer, client: Lightning) -> None:
    @server.handler("who")
    def who(data: dict[str, Any], caller: Caller) -> Iterator[bytes]:
        yield caller.hotkey.encode()

    @server.handler("async who")
    async def async_who(data: dict[str, Any], caller: Caller) -> AsyncIterator[bytes]:
        yield caller.hotkey.encode()

    whos = [client.stream(axon(server), name, {}).collect() for name in ["who", "async who"]]
    assert whos[0] == whos[1] and whos[0].startswith(b"5")


@pytest.mark.parametrize("after", [0, 3])
def test_a_stream_that_fails_says_so_after_its_chunks(
    server: LightningServer, client: Lightning, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(data: dict[str, Any]) -> Iterator[bytes]:
        for _ in range(after):
            yield b"x"
        raise RuntimeError("the reason")

    async def asynchronous(data: dict[str, Any]) -> AsyncIterator[bytes]:
        for chunk in plain(data):
            yield chunk

    for handler in [plain, asynchronous]:
        caplog.clear()
        server.register("it", handler)
        got = []
        with pytest.raises(StreamError, match="stream processing failed"):
            for chunk in client.stream(axon(server), "it", {}):
                got.append(chunk)
        assert got == [b"x"] * after
        failed = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert [str(record.exc_info and record.exc_info[1]) for record in failed] == ["the reason"]


@pytest.mark.parametrize("chunk", ["text", 7, None, [b"x"]])
def test_what_is_no_chunk_fails_the_stream(
    server: LightningServer, client: Lightning, chunk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    closed = threading.Event()

    def plain(data: dict[str, Any]) -> Iterator[Any]:
        try:
            yield b"x"
            yield chunk
        finally:
            closed.set()

    async def asynchronous(data: dict[str, Any]) -> AsyncIterator[Any]:
        try:
            yield b"x"
            yield chunk
        finally:
            closed.set()

    for handler in [plain, asynchronous]:
        caplog.clear()
        closed.clear()
        server.register("it", handler)
        chunks = client.stream(axon(server), "it", {})
        assert next(chunks) == b"x"
        with pytest.raises(StreamError):
            next(chunks)
        assert closed.wait(PATIENCE)
        assert f"not {type(chunk).__name__}" in caplog.text


@pytest.mark.parametrize("answer", [None, 7, {"a": 1}, b"ab"])
def test_what_is_no_stream_at_all_fails(
    server: LightningServer, client: Lightning, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def asynchronous(data: dict[str, Any]) -> Any:
        return answer

    for handler in [lambda data: answer, asynchronous]:
        caplog.clear()
        server.register_streaming_handler("it", handler)
        with pytest.raises(StreamError):
            client.stream(axon(server), "it", {}).collect()
        assert "of it" in caplog.text


def endless(ended: threading.Event) -> list[Callable[..., Any]]:
    def plain(data: dict[str, Any]) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            ended.set()

    async def busy(data: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            ended.set()

    async def idle(data: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            ended.set()

    return [plain, busy, idle]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_generator_is_closed_when_its_caller_leaves(
    server: LightningServer, client: Lightning, which: int
) -> None:
    ended = threading.Event()
    server.register("it", endless(ended)[which])
    with client.stream(axon(server), "it", {}) as chunks:
        assert next(chunks)
    assert ended.wait(PATIENCE)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_generator_is_closed_when_its_time_is_up(which: int) -> None:
    ended = threading.Event()
    with new_server(handler_timeout_secs=1) as server, new_client(max_stream_payload_bytes=2**40) as client:
        server.register("it", endless(ended)[which])
        with pytest.raises(StreamError, match="handler timed out"):
            for _ in client.stream(axon(server), "it", {}):
                pass
        assert ended.wait(PATIENCE)


def test_a_generator_is_held_back_while_nobody_reads() -> None:
    made, most = 0, 400
    at_rest = threading.Event()

    def plain(data: dict[str, Any]) -> Iterator[bytes]:
        nonlocal made
        for _ in range(most):
            made += 1
            yield b"x" * 1_000_000

    with (
        new_server(streaming_channel_buffer=1) as server,
        new_client(max_stream_payload_bytes=2**29) as client,
    ):
        server.register("it", plain)
        chunks = client.stream(axon(server), "it", {})
        assert next(chunks)
        # sleeps: what does not happen has no event; the connection is idle once all that may be unread has been sent.
        before = -1
        while before != made:
            before = made
            at_rest.wait(0.3)
        assert made < most / 4
        assert sum(1 for _ in chunks) == most - 1
    assert made == most


def test_an_event_loop_runs_on_while_a_stream_is_held_back() -> None:
    async def main() -> None:
        made = 0

        async def busy(data: dict[str, Any]) -> AsyncIterator[bytes]:
            nonlocal made
            for _ in range(100):
                made += 1
                yield b"x" * 1_000_000

        async with new_async_server(streaming_channel_buffer=1) as server:
            server.register("it", busy)
            server.register("echo", lambda data: data)
            with new_client(max_stream_payload_bytes=2**29) as client:
                chunks = client.stream(axon(server), "it", {})
                await asyncio.to_thread(next, chunks)
                answer = await asyncio.to_thread(client.query, axon(server), "echo", {"a": 1})
                assert answer.data == {"a": 1}
                assert len(await asyncio.to_thread(chunks.collect)) == 99_000_000
        assert made == 100

    run(main())


def test_large_chunks_are_not_changed_by_what_comes_after(server: LightningServer, client: Lightning) -> None:
    def plain(data: dict[str, Any]) -> Iterator[bytearray]:
        buffer = bytearray(50_000)
        for number in range(20):
            buffer[:] = bytes([number]) * len(buffer)
            yield buffer

    server.register("it", plain)
    assert list(client.stream(axon(server), "it", {})) == [bytes([number]) * 50_000 for number in range(20)]
