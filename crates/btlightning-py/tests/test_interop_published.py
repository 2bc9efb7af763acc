"""With the published package 0.2.15 on the other side, in both directions."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import MINER, PATIENCE, STRANGER, VALIDATOR, axon, new_async_client, new_client, new_server, run

import btlightning
from btlightning import AxonInfo, HandlerError, HandshakeError, StreamError, TransportError

pytestmark = pytest.mark.skipif(
    "BTLIGHTNING_PUBLISHED_PYTHON" not in os.environ,
    reason="against the published package: cargo xtask python-interop",
)

PEER = Path(__file__).parent / "published" / "peer.py"


class Published:
    """The published package, in an interpreter of its own."""

    def __init__(self) -> None:
        python = os.environ["BTLIGHTNING_PUBLISHED_PYTHON"]
        # Isolated, so that it cannot come by our package in the place of the published one.
        self.process = subprocess.Popen(
            [python, "-I", str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.do("version") == "0.2.15"

    def tell(self, command: str, *arguments: Any) -> tuple[Any, ...]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(repr([command, *arguments]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the published package's process has ended"
        outcome: tuple[Any, ...] = eval(line, {"inf": float("inf"), "nan": float("nan")})
        return outcome

    def do(self, command: str, *arguments: Any) -> Any:
        outcome = self.tell(command, *arguments)
        assert outcome[0] == "ok", outcome
        return outcome[1]

    def serve(self, seed: bytes = MINER, **options: Any) -> AxonInfo:
        """Serves on a port that is free a moment before."""
        hotkey = btlightning.hotkey_of_seed(seed)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        self.do("serve", hotkey, seed, port, options)
        return {"hotkey": hotkey, "ip": "127.0.0.1", "port": port}

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def published() -> Iterator[Published]:
    peer = Published()
    yield peer
    peer.close()


#: Dicts of every type that both sides have, and what they arrive as: lists for tuples, the rest as it is.
VALUES: dict[str, Any] = {
    "none": None,
    "bools": [True, False],
    "ints": [
        0,
        1,
        -1,
        127,
        128,
        -32,
        -33,
        255,
        256,
        65535,
        65536,
        2**31,
        -(2**31) - 1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
    ],
    "floats": [0.0, -0.0, 1.5, 1e300, -1e-300, float("inf"), float("-inf")],
    "strings": ["", "a", "x" * 31, "x" * 32, "x" * 70_000, "hé😀\x00"],
    "bytes": [b"", b"\x00\xff", bytes(range(256)), b"y" * 70_000],
    "lists": [[], [[]], list(range(20)), ["mixed", 1, None, b"b", [1.5]]],
    "dicts": {"": {}, "inner": {"k": {"deeper": [1, {"k": b"v"}]}}, "twenty": {str(n): n for n in range(20)}},
    "other keys": {1: "a", -2: "b", b"k": "c", None: "d", False: "e", 1.5: "f"},
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_every_type_reach_a_published_miner_and_come_back(published: Published, kind: str) -> None:
    where = published.serve()
    with new_client() as client:
        client.initialize_connections([where])
        data = {kind: VALUES[kind]}
        response = client.query_axon(where, {"synapse_type": "echo", "data": data})
        assert (response["success"], response["error"]) == (True, None)
        assert response["data"] == {"got": data}
        assert repr(response["data"]) == repr({"got": data}), "types, signs and order, too"


@pytest.mark.parametrize("kind", VALUES)
def test_values_of_every_type_of_a_published_validator_come_back(published: Published, kind: str) -> None:
    with new_server() as server:
        server.register_synapse_handler("echo", lambda data: {"got": data})
        published.do("connect", btlightning.hotkey_of_seed(VALIDATOR), VALIDATOR, [axon(server)])
        data = {kind: VALUES[kind]}
        response = published.do("query", axon(server), "echo", data)
        assert response["success"] and repr(response["data"]) == repr({"got": data})


def test_a_megabyte_goes_both_ways(published: Published) -> None:
    where = published.serve()
    payload = os.urandom(1 << 20)
    with new_client() as client:
        client.initialize_connections([where])
        assert client.query(where, "echo", {"payload": payload}).data == {"got": {"payload": payload}}


def test_what_python_adds_reaches_a_published_miner_as_plain_values(published: Published) -> None:
    where = published.serve()
    with new_client() as client:
        client.initialize_connections([where])
        data = {"tuple": (1, "a"), "bytearray": bytearray(b"ab"), "view": memoryview(b"cd")}
        arrived = client.query(where, "shape", data).data["shape"]
        assert arrived == {"tuple": ["int", "str"], "bytearray": "bytes", "view": "bytes"}


def test_failures_of_a_published_miner_are_told(published: Published) -> None:
    where = published.serve()
    with new_client() as client:
        client.initialize_connections([where])
        for name, words in [
            ("fail", "request processing failed"),
            ("list", "request processing failed"),
            ("nobody", "unrecognized synapse type"),
        ]:
            response = client.query_axon(where, {"synapse_type": name, "data": {}})
            assert (response["success"], response["data"], response["error"]) == (False, {}, words)
            with pytest.raises(HandlerError, match=words):
                client.query(where, name, {})


def test_failures_of_ours_are_told_to_a_published_validator_as_its_own(published: Published) -> None:
    def fail(data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("the secret of the miner")

    with new_server() as server:
        server.register_synapse_handler("fail", fail)
        server.register_synapse_handler("list", lambda data: [1])
        published.do("connect", btlightning.hotkey_of_seed(VALIDATOR), VALIDATOR, [axon(server)])
        for name, words in [
            ("fail", "request processing failed"),
            ("list", "request processing failed"),
            ("nobody", "unrecognized synapse type"),
        ]:
            response = published.do("query", axon(server), name, {})
            assert (response["success"], response["data"], response["error"]) == (False, {}, words)


def test_streams_of_a_published_miner(published: Published) -> None:
    where = published.serve()

    async def main() -> list[bytes]:
        async with new_async_client() as client:
            await client.connect([where])
            return [chunk async for chunk in client.stream(where, "count", {"to": 100})]

    assert run(main()) == [str(number).encode() for number in range(100)]
    with new_client() as client:
        client.initialize_connections([where])
        chunks = client.query_axon_stream(where, {"synapse_type": "count", "data": {"to": 2, "fail": True}})
        assert [next(chunks), next(chunks)] == [b"0", b"1"]
        with pytest.raises(StreamError):
            next(chunks)


def test_streams_for_a_published_validator(published: Published) -> None:
    def count(data: dict[str, Any]) -> Iterator[bytes]:
        for number in range(data["to"]):
            yield str(number).encode()
        if data.get("fail"):
            raise RuntimeError("no further")

    with new_server() as server:
        server.register_streaming_handler("count", count)
        published.do("connect", btlightning.hotkey_of_seed(VALIDATOR), VALIDATOR, [axon(server)])
        chunks = published.do("stream", axon(server), "count", {"to": 100})
        assert chunks == [str(number).encode() for number in range(100)]
        raised = published.tell("stream", axon(server), "count", {"to": 2, "fail": True})
        assert raised[0] == "raised" and "RuntimeError" in raised[1]
        assert "stream processing failed" in raised[2]


def test_the_permit_resolver_of_a_published_miner_decides_about_us(published: Published) -> None:
    published.do("permit", [btlightning.hotkey_of_seed(VALIDATOR)])
    where = published.serve(native=True, require_validator_permit=True)
    with new_client() as permitted, new_client(STRANGER) as stranger:
        permitted.initialize_connections([where])
        assert permitted.query(where, "echo", {}).data == {"got": {}}
        stranger.initialize_connections([where])
        [peer] = stranger.peers()
        assert peer.state == "refused" and peer.detail is not None
        with pytest.raises(HandshakeError):
            stranger.query(where, "echo", {})


def test_our_permit_resolver_decides_about_published_validators(published: Published) -> None:
    server = new_server(require_validator_permit=True)
    server.set_validator_permit_resolver(lambda: [btlightning.hotkey_of_seed(VALIDATOR)])
    server.register("echo", lambda data: {"got": data})
    with server:
        published.do("connect", btlightning.hotkey_of_seed(VALIDATOR), VALIDATOR, [axon(server)])
        assert published.do("query", axon(server), "echo", {})["data"] == {"got": {}}
        published.do("connect", btlightning.hotkey_of_seed(STRANGER), STRANGER, [axon(server)])
        raised = published.tell("query", axon(server), "echo", {})
        assert raised[0] == "raised" and "ConnectionError" in raised[1]


def test_our_source_allowlist_decides_about_published_validators(published: Published) -> None:
    cases: list[tuple[list[str] | None, bool]] = [(["127.0.0.1"], True), (["192.0.2.1"], False), (None, True)]
    for allowed, success in cases:
        server = new_server(enforce_source_allowlist=True)
        server.set_source_address_resolver(functools.partial(lambda allowed: allowed, allowed))
        server.register("echo", lambda data: {"got": data})
        with server:
            published.do("connect", btlightning.hotkey_of_seed(VALIDATOR), VALIDATOR, [axon(server)])
            outcome = published.tell("query", axon(server), "echo", {}, 1.0)
            assert (outcome[0] == "ok") is success, outcome


def test_many_tasks_ask_a_published_miner_at_once(published: Published) -> None:
    where = published.serve()

    async def main() -> None:
        async with new_async_client() as client:
            await client.connect([where])
            replies = await asyncio.gather(*(client.query(where, "echo", {"n": n}) for n in range(300)))
            assert [reply.data["got"]["n"] for reply in replies] == list(range(300))

    run(main())


def test_a_published_miner_that_restarts_is_found_again(published: Published) -> None:
    where = published.serve()
    with new_client(reconnect_initial_backoff_secs=0.1) as client:
        client.initialize_connections([where])
        published.do("stop")
        published.do("serve", where["hotkey"], MINER, where["port"], {})
        try:
            reply = client.query(where, "echo", {"back": True}, timeout=PATIENCE)
        except TransportError:
            # On a busy machine the published server ends before it has told its peers. Then the first query finds out.
            reply = client.query(where, "echo", {"back": True}, timeout=PATIENCE)
        assert reply.data == {"got": {"back": True}}
