"""Every system that this interpreter has the packages of, through the real processes and their lines."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import systems
from orders import measure, tasks, threads
from orders.protocol import ServerAt

PEER = Path(__file__).with_name("peer.py")

#: For an answer to come, or a process to end.
PATIENCE_S = 60


def runnable(name: str) -> Any:
    why = systems.why_unavailable(name)
    return pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=str(why)))


each_system = pytest.mark.parametrize("system", [runnable(name) for name in systems.NAMES])


class Process:
    """A peer as the driver has it."""

    def __init__(
        self, system: str, role: str, *arguments: str, python: tuple[str, ...] = (sys.executable,)
    ) -> None:
        self.process = subprocess.Popen(
            [*python, str(PEER), "--system", system, "--role", role, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.first = self.answer()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.lines.get(timeout=PATIENCE_S))
        return answer

    def do(self, do: str, **order: Any) -> dict[str, Any]:
        self.say(json.dumps({"do": do, **order}))
        return self.answer()

    @property
    def servers(self) -> list[ServerAt]:
        servers: list[ServerAt] = self.first["ready"]["servers"]
        return servers

    def end(self) -> int:
        """Ends its standard input; its exit code. There must not be a line that nobody asked for."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(PATIENCE_S)
        assert self.lines.empty()
        return code


@contextmanager
def started(system: str, role: str, *arguments: str) -> Iterator[Process]:
    peer = Process(system, role, *arguments)
    try:
        yield peer
    finally:
        peer.process.kill()
        peer.process.wait()


@each_system
def test_a_client_does_all_orders_with_a_server_in_another_process(system: str) -> None:
    with started(system, "server") as server, started(system, "client") as client:
        assert client.do("connect", servers=server.servers)["connected"] == 1

        setup = client.do("setup", repeat=2, servers=server.servers)
        assert len(setup["setup_ms"]) == 2
        assert min(setup["setup_ms"]) > 0

        latency = client.do("latency", bytes=1024, count=3)
        assert len(latency["latency_us"]) == 3
        assert min(latency["latency_us"]) > 0
        assert latency["cpu_s"] > 0

        for size in (0, 1, 100_000):
            throughput = client.do("throughput", bytes=size, count=10, in_flight=4)
            assert len(throughput["latency_us"]) == 10
            assert throughput["elapsed_s"] * 1e6 >= max(throughput["latency_us"])
            assert throughput["cpu_s"] > 0

        fan_out = client.do("fan_out", bytes=1024, rounds=2)
        assert len(fan_out["elapsed_ms"]) == 2

        beside = client.do("beside_stream", bytes=1024, count=5)
        assert len(beside["latency_us"]) == 5

        idle = client.do("idle", connections=3, servers=server.servers)
        assert idle.get("connected") == 3 or idle["skipped"]

        used = [peer.do("usage") for peer in (client, server)]
        assert min(usage["cpu_s"] for usage in used) > 0
        assert min(usage["rss_bytes"] for usage in used) > 1_000_000

        assert client.do("stop") == {"stopped": True}
        assert server.do("stop") == {"stopped": True}
        assert (client.end(), server.end()) == (0, 0)


@each_system
def test_a_process_that_is_both_asks_itself(system: str) -> None:
    with started(system, "both") as peer:
        assert peer.do("connect")["connected"] == 1
        assert len(peer.do("setup", repeat=1)["setup_ms"]) == 1
        assert len(peer.do("latency", bytes=1024, count=2)["latency_us"]) == 2
        assert len(peer.do("throughput", bytes=1024, count=8, in_flight=4)["latency_us"]) == 8
        assert peer.end() == 0


@each_system
def test_a_fan_out_asks_all_servers(system: str) -> None:
    with started(system, "server", "--servers", "3") as server, started(system, "client") as client:
        assert len({at["addr"] for at in server.servers}) == 3
        assert client.do("connect", servers=server.servers)["connected"] == 3
        assert len(client.do("fan_out", bytes=1024, rounds=2)["elapsed_ms"]) == 2


@each_system
def test_a_client_finds_its_server_again_after_a_restart(system: str) -> None:
    with started(system, "server") as server, started(system, "client") as client:
        client.do("connect", servers=server.servers)
        client.do("latency", bytes=1024, count=1)
        again = server.do("restart", down_ms=50)["ready"]
        assert again["servers"] == server.servers
        assert again["down_ms"] >= 50
        found = client.do("reconnect", until_ms=40_000)
        assert found["elapsed_ms"] > 0
        assert found["failures"] >= 0
        assert len(client.do("latency", bytes=1024, count=1)["latency_us"]) == 1


@each_system
def test_reconnect_gives_up(system: str) -> None:
    with started(system, "server") as server, started(system, "client") as client:
        client.do("connect", servers=server.servers)
        client.do("latency", bytes=1024, count=1)
        server.do("stop")
        assert server.end() == 0
        assert "no answer" in client.do("reconnect", until_ms=100)["error"]


@each_system
def test_an_order_that_fails_is_answered_and_the_next_one_is_done(system: str) -> None:
    with started(system, "both") as peer:
        assert "not connected" in peer.do("latency", bytes=1, count=1)["error"]
        assert "error" in peer.do("dance")
        assert "error" in peer.do("connect", servers=[{"addr": "nowhere"}])
        peer.say("no JSON")
        assert "error" in peer.answer()
        assert peer.do("connect")["connected"] == 1
        assert "in_flight" in peer.do("throughput", bytes=1, count=1, in_flight=0)["error"]
        assert len(peer.do("latency", bytes=1, count=1)["latency_us"]) == 1


@each_system
def test_a_server_has_no_client(system: str) -> None:
    with started(system, "server") as server:
        assert "no client" in server.do("latency", bytes=1, count=1)["error"]


@pytest.mark.parametrize("system", systems.NAMES)
def test_what_is_not_installed_is_unavailable(system: str) -> None:
    # Without site-packages and PYTHONPATH.
    peer = Process(system, "both", python=(sys.executable, "-S", "-E"))
    assert peer.first["unavailable"]
    assert peer.end() == 0


class Liar:
    """A system whose answers are wrong, for threads."""

    def __init__(self, change: Any) -> None:
        self.change = change

    def serve(self, ports: Any) -> list[Any]:
        return []

    def connect(self, servers: Any, identity: int) -> Any:
        return self

    def connected(self) -> int:
        return 1

    def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        answer: bytes = self.change(payload)
        return answer

    def fan_out(self, payload: bytes) -> list[bytes]:
        return [payload, self.change(payload)]

    def close(self) -> None:
        pass


class AsyncLiar:
    """The same for tasks."""

    def __init__(self, change: Any) -> None:
        self.liar = Liar(change)

    async def serve(self, ports: Any) -> list[Any]:
        return []

    async def connect(self, servers: Any, identity: int) -> Any:
        return self

    def connected(self) -> int:
        return 1

    async def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        return self.liar.echo(server, payload, timeout_s)

    async def fan_out(self, payload: bytes) -> list[bytes]:
        return self.liar.fan_out(payload)

    async def close(self) -> None:
        pass


NOWHERE = {"addr": "127.0.0.1:1", "key": ""}


def threaded(change: Any) -> threads.Peer:
    return threads.Peer(Liar(change))


def async_(change: Any) -> tasks.Peer:
    return tasks.Peer(AsyncLiar(change))


@pytest.mark.parametrize(
    "change", [lambda sent: sent[:-1], lambda sent: sent + b"!", lambda sent: sent[::-1]]
)
@pytest.mark.parametrize("make", [threaded, async_])
def test_an_answer_that_is_not_what_was_sent_fails_the_order(make: Any, change: Any) -> None:
    peer = make(change)
    peer.obey({"do": "connect", "servers": [NOWHERE, NOWHERE]}, None)
    for order in (
        {"do": "setup", "repeat": 1},
        {"do": "latency", "bytes": 100, "count": 1},
        {"do": "throughput", "bytes": 100, "count": 100, "in_flight": 4},
        {"do": "fan_out", "bytes": 100, "rounds": 1},
        {"do": "beside_stream", "bytes": 100, "count": 1},
        {"do": "reconnect", "until_ms": 1000},
    ):
        with pytest.raises(measure.WrongAnswerError):
            peer.obey(order, [])
    peer.close()


@pytest.mark.parametrize("make", [threaded, async_])
def test_a_fan_out_that_lacks_an_answer_fails(make: Any) -> None:
    peer = make(lambda sent: sent)
    for servers in (2, 3):
        peer.obey({"do": "connect", "servers": [NOWHERE] * servers}, None)
        if servers == 2:
            assert len(peer.obey({"do": "fan_out", "bytes": 100, "rounds": 1}, [])["elapsed_ms"]) == 1
        else:
            with pytest.raises(measure.WrongAnswerError, match="2 of 3"):
                peer.obey({"do": "fan_out", "bytes": 100, "rounds": 1}, [])
    peer.close()


def test_samples_are_thinned_evenly() -> None:
    assert measure.thinned(list(range(10_000))) == list(range(10_000))
    assert measure.thinned(list(range(10_001))) == list(range(0, 10_001, 2))
    assert measure.thinned([]) == []
