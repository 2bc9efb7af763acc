"""Which threads move packets: what may be said of them, and that it is what happens."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from world import (
    PATIENCE,
    axon,
    echo,
    in_threads,
    new_async_client,
    new_async_server,
    new_client,
    new_server,
    program,
    run,
)

from btlightning import ConfigError, Lightning, LightningServer

EVERYBODY = [new_client, new_async_client, new_server, new_async_server]


class Four:
    """A number that is no ``int``, as those of numpy are."""

    def __index__(self) -> int:
        return 4


class Broken:
    def __index__(self) -> int:
        raise ZeroDivisionError


@pytest.mark.parametrize("new", EVERYBODY)
def test_both_clients_and_both_servers_take_them(new: Callable[..., Any]) -> None:
    for value in [None, "auto", "shared", 1, 2, 64, Four()]:
        new(io_threads=value)


@pytest.mark.parametrize("new", EVERYBODY)
def test_what_they_cannot_be_is_refused_by_name(new: Callable[..., Any]) -> None:
    for unfit in [0, 65, -1, 2**64, 2**70, -(2**70), 10**5000, "other", "current", "Auto", "", "2", "\ud800"]:
        with pytest.raises(ConfigError, match="io_threads .* from 1 to 64") as refused:
            new(io_threads=unfit)
        assert (refused.value.reason, refused.value.retryable) == ("config", False)
    for unread in [True, False, 1.5, 2.0, b"auto", [2], object()]:
        with pytest.raises(TypeError, match=r'io_threads is "auto", "shared" or an int, not <class'):
            new(io_threads=unread)
    with pytest.raises(ZeroDivisionError):
        new(io_threads=Broken())


@pytest.mark.parametrize("cls", [Lightning, LightningServer])
def test_nobody_has_to_name_them_and_they_are_named_by_keyword(cls: type[object]) -> None:
    parameter = inspect.signature(cls).parameters["io_threads"]
    assert (parameter.default, parameter.kind) == (None, inspect.Parameter.KEYWORD_ONLY)


def count(data: dict[str, Any]) -> Iterator[bytes]:
    for number in range(data["to"]):
        yield str(number).encode()


@pytest.mark.parametrize("value", [None, "auto", "shared", 2])
def test_miners_with_them_answer_validators_with_them(value: Any) -> None:
    large = {"bytes": b"b" * 1_000_000}
    with ExitStack() as stack:
        servers = [new_server(bytes([number]) * 32, io_threads=value) for number in (1, 2, 3)]
        for server in servers:
            server.register("echo", echo)
            server.register("count", count)
            stack.enter_context(server)
        miners = [axon(server) for server in servers]
        clients = [stack.enter_context(new_client(io_threads=value)) for _ in range(3)]

        def work(number: int) -> None:
            client, miner = clients[number // 3], miners[number % 3]
            for turn in range(20):
                assert client.query(miner, "echo", {"turn": turn}, timeout=PATIENCE).data == {"turn": turn}
            assert client.query(miner, "echo", large, timeout=PATIENCE).data == large
            assert list(client.stream(miner, "count", {"to": 3}, timeout=PATIENCE)) == [b"0", b"1", b"2"]

        in_threads(9, work)


def test_they_serve_asyncio_too() -> None:
    async def main() -> None:
        server = new_async_server(io_threads=2)

        @server.handler("later")
        async def later(data: dict[str, Any]) -> dict[str, Any]:
            return data

        async with server, new_async_client(io_threads=2) as client, new_async_client(io_threads=2) as other:
            for asking in [client, other]:
                reply = await asking.query(axon(server), "later", {"a": 1}, timeout=PATIENCE)
                assert reply.data == {"a": 1}

    run(main())


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are not listed here")
def test_they_are_as_many_as_was_said_and_shared_where_nothing_was() -> None:
    ended = program(
        """
import os
from btlightning import Lightning, LightningServer

kept = []

def opened(value):
    before = len(os.listdir("/proc/self/task"))
    server = LightningServer(host="127.0.0.1", port=0, signer=b"m" * 32, **value)
    server.register("echo", lambda data: data)
    server.__enter__()
    client = Lightning(signer=b"v" * 32, **value)
    kept.append((client, server))
    miner = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
    assert client.query(miner, "echo", {"a": 1}).data == {"a": 1}
    return len(os.listdir("/proc/self/task")) - before

def several(value):
    return sum(opened(value) for _ in range(2)) >= 2 * 2 * 40

opened({})
print([several(value) for value in [{}, {"io_threads": "auto"}, {"io_threads": "shared"}, {"io_threads": 40}]])
for client, server in kept:
    client.close()
    server.stop()
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "[False, False, False, True]\n"
