"""Orders to a client that blocks: what is in flight at once is in flight on threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from orders import measure
from orders.measure import Spent
from orders.protocol import Answer, Order, ServerAt


class Server(Protocol):
    """A running server."""

    at: ServerAt

    def stop(self) -> None:
        """Stops it and lets go of its port."""


class Client(Protocol):
    """A connected client. Any number of threads may ask."""

    def connected(self) -> int:
        """How many of its servers it is connected to."""

    def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        """Asks server number ``server`` for ``payload``."""

    def fan_out(self, payload: bytes) -> list[bytes]:
        """Asks all servers for ``payload`` at once."""

    def close(self) -> None:
        """Closes its connections."""


class System(Protocol):
    """What must be there for a system to be measured."""

    def serve(self, ports: Sequence[int]) -> Sequence[Server]:
        """Starts echo servers number 0 and on; port 0 picks a free one. Server number n is the same after a restart."""

    def connect(self, servers: Sequence[ServerAt], identity: int) -> Client:
        """A client that is connected to ``servers``. Clients of different ``identity`` are different users."""


class Peer:
    """Does what orders say."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._servers: list[Server] = []
        self._client: Client | None = None
        self._asked = 0
        self._idle: list[Client] = []
        self._orders: dict[str, Callable[[Order], Answer]] = {
            "connect": self._connect,
            "setup": self._setup,
            "latency": self._latency,
            "throughput": self._throughput,
            "fan_out": self._fan_out,
            "beside_stream": self._beside_stream,
            "reconnect": self._reconnect,
            "idle": self._idle_clients,
        }

    def serve(self, ports: Sequence[int]) -> list[ServerAt]:
        """Starts servers on these ports."""
        self._servers = list(self._system.serve(ports))
        return [server.at for server in self._servers]

    def stop_servers(self) -> None:
        """Stops all of them."""
        while self._servers:
            self._servers.pop().stop()

    def obey(self, order: Order, own: list[ServerAt] | None) -> Answer:
        """Does what a client is told; ``own`` are the servers in this process."""
        return self._orders[order["do"]]({"servers": own, **order})

    def close(self) -> None:
        """Ends: clients first, then servers."""
        for client in [self._client, *self._idle]:
            if client is not None:
                client.close()
        self.stop_servers()

    def _connect(self, order: Order) -> Answer:
        if self._client is not None:
            self._client.close()
        spent = Spent()
        self._client = self._system.connect(order["servers"], 0)
        elapsed_s, self._asked = spent.elapsed_s, len(order["servers"])
        return {"connected": self._client.connected(), "elapsed_s": elapsed_s}

    def _setup(self, order: Order) -> Answer:
        payload, samples = measure.payload(measure.SMALL_BYTES), []
        for _ in range(order["repeat"]):
            started = time.perf_counter_ns()
            client = self._system.connect(order["servers"], 0)
            try:
                answer = client.echo(0, payload, measure.ECHO_TIMEOUT_S)
                samples.append(time.perf_counter_ns() - started)
                measure.check(answer, payload, whole=True)
            finally:
                client.close()
        return {"setup_ms": measure.millis(samples)}

    def _latency(self, order: Order) -> Answer:
        client, payload = self._connected(), measure.payload(order["bytes"])
        spent = Spent()
        samples = _echoes(client, payload, iter(range(order["count"])))
        return {"latency_us": measure.micros(samples), "cpu_s": spent.cpu_s}

    def _throughput(self, order: Order) -> Answer:
        client, payload, in_flight = self._connected(), measure.payload(order["bytes"]), order["in_flight"]
        if in_flight < 1:
            raise ValueError("in_flight must be at least 1")
        left = iter(range(order["count"]))
        spent = Spent()
        together = threading.Barrier(in_flight, action=spent.start)

        def asking() -> tuple[list[int], float]:
            together.wait()
            try:
                samples = _echoes(client, payload, left)
            except BaseException:
                deque(left, maxlen=0)  # the other threads need not go on
                raise
            return samples, time.perf_counter()

        with ThreadPoolExecutor(in_flight) as pool:
            threads = [pool.submit(asking) for _ in range(in_flight)]
            results = [thread.result() for thread in threads]
            cpu_s = spent.cpu_s
        samples = [sample for samples, _ in results for sample in samples]
        return {
            "elapsed_s": max(ended for _, ended in results) - spent.started,
            "cpu_s": cpu_s,
            "latency_us": measure.micros(measure.thinned(samples)),
        }

    def _fan_out(self, order: Order) -> Answer:
        client, payload, samples = self._connected(), measure.payload(order["bytes"]), []
        spent = Spent()
        for turn in range(order["rounds"]):
            started = time.perf_counter_ns()
            answers = client.fan_out(payload)
            samples.append(time.perf_counter_ns() - started)
            measure.check_each(answers, payload, self._asked, whole=turn == 0)
        return {"elapsed_ms": measure.millis(samples), "cpu_s": spent.cpu_s}

    def _beside_stream(self, order: Order) -> Answer:
        client, small, large = (
            self._connected(),
            measure.payload(order["bytes"]),
            measure.payload(measure.LARGE_BYTES),
        )
        is_over, answered, lock = threading.Event(), threading.Semaphore(0), threading.Lock()
        large_answers = 0

        def beside() -> None:
            nonlocal large_answers
            try:
                while not is_over.is_set():
                    _echoes(client, large, iter(range(1)))
                    with lock:
                        large_answers += 1
                    answered.release()
            finally:
                answered.release()  # also on failure, which nobody shall wait for in vain

        with ThreadPoolExecutor(measure.LARGE_IN_FLIGHT) as pool:
            threads = [pool.submit(beside) for _ in range(measure.LARGE_IN_FLIGHT)]
            try:
                for _ in threads:
                    answered.acquire()
                before, spent = large_answers, Spent()
                samples = _echoes(client, small, iter(range(order["count"])))
                after, elapsed_s = large_answers, spent.elapsed_s
            finally:
                is_over.set()
            for thread in threads:
                thread.result()
        beside_bytes = (after - before) * measure.LARGE_BYTES
        return {"latency_us": measure.micros(samples), "beside_bytes_per_s": beside_bytes / elapsed_s}

    def _reconnect(self, order: Order) -> Answer:
        client, payload = self._connected(), measure.payload(measure.SMALL_BYTES)
        spent, failures, until_s = Spent(), 0, order["until_ms"] / 1e3
        while True:
            left_s = max(until_s - spent.elapsed_s, measure.RETRY_EVERY_S)
            try:
                answer = client.echo(0, payload, min(left_s, measure.RECONNECT_ECHO_TIMEOUT_S))
            except Exception as error:
                failures += 1
                if spent.elapsed_s >= until_s:
                    raise TimeoutError(f"no answer; {failures} failures, the last: {error}") from error
                time.sleep(measure.RETRY_EVERY_S)
            else:
                elapsed_s = spent.elapsed_s
                measure.check(answer, payload, whole=True)
                return {"elapsed_ms": elapsed_s * 1e3, "failures": failures}

    def _idle_clients(self, order: Order) -> Answer:
        servers: list[ServerAt] = order["servers"]
        spent = Spent()
        # Identity 0 is that of the connected client.
        first = 1 + len(self._idle)
        more = []
        for identity in range(first, first + order["connections"]):
            client = self._system.connect([servers[identity % len(servers)]], identity)
            self._idle.append(client)
            more.append(client)
        return {"connected": sum(client.connected() for client in more), "elapsed_s": spent.elapsed_s}

    def _connected(self) -> Client:
        if self._client is None:
            raise RuntimeError("not connected")
        return self._client


def _echoes(client: Client, payload: bytes, times: Iterator[int]) -> list[int]:
    """An echo for each of ``times``, one after another; what each took, in nanoseconds. The first is checked in full."""
    samples: list[int] = []
    for _ in times:
        started = time.perf_counter_ns()
        answer = client.echo(0, payload, measure.ECHO_TIMEOUT_S)
        samples.append(time.perf_counter_ns() - started)
        measure.check(answer, payload, whole=len(samples) == 1)
    return samples
