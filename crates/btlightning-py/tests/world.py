"""Miners and validators for the tests, on loopback."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from btlightning import (
    AsyncLightning,
    AsyncLightningServer,
    AxonInfo,
    HandlerError,
    Lightning,
    LightningServer,
)

T = TypeVar("T")

#: Real seconds after which a test is stuck.
PATIENCE = 20.0

MINER = b"m" * 32
VALIDATOR = b"v" * 32
STRANGER = b"s" * 32


def axon(server: LightningServer | AsyncLightningServer) -> AxonInfo:
    """Where a running server is."""
    return {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}


#: All validators of the tests come from one address.
HANDSHAKES: dict[str, Any] = {"max_handshake_attempts_per_minute": 100_000}


def new_server(seed: bytes = MINER, **options: Any) -> LightningServer:
    """A server on a free port, which is not started."""
    return LightningServer(host="127.0.0.1", port=0, signer=seed, **{**HANDSHAKES, **options})


def new_async_server(seed: bytes = MINER, **options: Any) -> AsyncLightningServer:
    """A server on a free port, which is not started."""
    return AsyncLightningServer(host="127.0.0.1", port=0, signer=seed, **{**HANDSHAKES, **options})


def new_client(seed: bytes = VALIDATOR, **options: Any) -> Lightning:
    """A client."""
    return Lightning(signer=seed, **options)


def new_async_client(seed: bytes = VALIDATOR, **options: Any) -> AsyncLightning:
    """A client."""
    return AsyncLightning(signer=seed, **options)


class World:
    """A miner, and a validator that knows it."""

    def __init__(self, server: LightningServer, client: Lightning) -> None:
        self.server, self.client = server, client

    def ask(self, name: str, data: Any = None, **options: Any) -> dict[str, Any]:
        reply = self.client.query(axon(self.server), name, {} if data is None else data, **options)
        data = reply.data
        assert isinstance(data, dict)
        return data

    def answers(self, handler: Callable[..., Any], data: Any = None) -> dict[str, Any]:
        """What ``handler`` answers."""
        self.server.register("it", handler)
        return self.ask("it", data)

    def fails(self, handler: Callable[..., Any], data: Any = None) -> str:
        """What the caller reads when ``handler`` fails."""
        with pytest.raises(HandlerError) as failed:
            self.answers(handler, data)
        return str(failed.value)


def echo(data: dict[str, Any]) -> dict[str, Any]:
    """Answers what it is asked."""
    return data


def silent_port() -> int:
    """A UDP port on loopback where nobody answers, for as long as the test program runs."""
    deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    deaf.bind(("127.0.0.1", 0))
    _deaf.append(deaf)
    port: int = deaf.getsockname()[1]
    return port


_deaf: list[socket.socket] = []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs ``main`` on a fresh event loop, not for ever."""

    async def bounded() -> T:
        return await asyncio.wait_for(main, PATIENCE)

    return asyncio.run(bounded())


def in_threads(count: int, work: Callable[[int], T]) -> list[T]:
    """Runs ``work`` in so many threads at once. What one raises is raised here."""
    results: list[Any] = [None] * count
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            results[number] = work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread is stuck"
    if errors:
        raise errors[0]
    return results


def program(source: str, *args: str, timeout: float = 2 * PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs a Python program in an interpreter of its own."""
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(source), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # The fault handler then says where it is stuck.
            process.send_signal(signal.SIGABRT)
            out, err = process.communicate(timeout=PATIENCE)
            raise AssertionError(f"the program is stuck\n{out}\n{err}") from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
