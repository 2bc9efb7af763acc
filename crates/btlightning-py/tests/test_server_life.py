"""A server's life: start, serve, stop, and how it is dropped."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from typing import Any

import pytest
from world import (
    PATIENCE,
    axon,
    echo,
    new_async_client,
    new_async_server,
    new_client,
    new_server,
    program,
    run,
)

from btlightning import (
    ConfigError,
    HandlerError,
    LightningConnectionError,
    LightningServer,
    RustLightningServer,
)


def handler_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("btlightning-handler")]


def gone(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_server_serves_in_one_thread_and_is_stopped_from_another() -> None:
    server = new_server()
    server.register_synapse_handler("echo", echo)
    server.start()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    with new_client() as client:
        assert client.query(axon(server), "echo", {"a": 1}).data == {"a": 1}
        assert server.get_connection_stats()["total_connections"] == "1"
        server.stop()
        gone([serving])
        with pytest.raises(LightningConnectionError):
            client.query(axon(server), "echo", {}, timeout=0.5)
    server.stop()


def test_a_stopped_server_starts_again() -> None:
    server = new_server()
    server.register("echo", echo)
    server.register("later", _later)
    for _ in range(3):
        with server, new_client() as client:
            for name in ["echo", "later"]:
                assert client.query(axon(server), name, {"a": 1}).data == {"a": 1}


async def _later(data: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    return data


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are not listed here")
def test_a_server_that_starts_again_and_again_keeps_nothing_open() -> None:
    server = new_server()
    server.register("later", _later)
    opened = []
    for _ in range(10):
        with server:
            pass
        gc.collect()
        opened.append(len(os.listdir("/proc/self/fd")))
    assert max(opened) <= opened[0] + 4


def test_what_a_server_has_made_ends_with_it() -> None:
    before = set(threading.enumerate())
    with new_server() as server, new_client() as client:
        server.register("echo", echo)
        server.register("later", _later)
        for name in ["echo", "later"]:
            client.query(axon(server), name, {})
        made = [
            thread
            for thread in threading.enumerate()
            if thread not in before and thread.name.startswith("btlightning-handler")
        ]
        assert len(made) >= 3
    gone(made)


def test_answers_in_flight_are_finished_by_a_stop() -> None:
    begun, gate = threading.Event(), threading.Event()

    def slow(data: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        gate.wait(PATIENCE)
        return {"done": True}

    server = new_server()
    server.register("slow", slow)
    with server, new_client() as client:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(client.query(axon(server), "slow", {}).data))
        asking.start()
        assert begun.wait(PATIENCE)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        gate.set()
        gone([asking, stopping])
        assert answers == [{"done": True}]


def test_before_it_is_started_a_server_does_not_serve() -> None:
    server = new_server()
    with pytest.raises(ConfigError, match="start"):
        server.serve_forever()
    with pytest.raises(ConfigError, match="start"):
        _ = server.local_addr
    assert server.port == 0
    server.stop()

    async def main() -> None:
        with pytest.raises(ConfigError, match="start"):
            await new_async_server().serve_forever()

    run(main())


def test_a_port_that_is_taken_is_told() -> None:
    with new_server() as server:
        other = LightningServer(server.hotkey, "127.0.0.1", server.port)
        with pytest.raises(ConfigError, match="endpoint"):
            other.start()
        assert server.local_addr == ("127.0.0.1", server.port)
    with pytest.raises(ConfigError, match="address"):
        LightningServer(server.hotkey, "nowhere", 0).start()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_cannot_be_served_is_told_by_the_with_block(asynchronous: bool) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="ValidatorPermitResolver"):
            async with new_async_server(require_validator_permit=True):
                pass

    if asynchronous:
        return run(main())
    with pytest.raises(ConfigError, match="ValidatorPermitResolver"):
        with new_server(require_validator_permit=True):
            pass


def test_a_server_that_is_dropped_goes_with_its_handlers_though_they_know_it() -> None:
    class Miner:
        def __init__(self) -> None:
            self.server = new_server()
            self.server.register("own", self.own)
            self.server.register("async", self.later)
            self.server.set_validator_permit_resolver(self.permits)
            self.server.set_handshake_observer(self.observe)

        def own(self, data: dict[str, Any]) -> dict[str, Any]:
            return {"port": self.server.port}

        async def later(self, data: dict[str, Any]) -> dict[str, Any]:
            return {"port": self.server.port}

        def permits(self) -> list[str]:
            return [self.server.hotkey]

        def observe(self, hotkey: str, ip: str) -> None:
            self.seen = hotkey

    miner = Miner()
    miner.server.__enter__()
    with new_client() as client:
        for name in ["own", "async"]:
            assert client.query(axon(miner.server), name, {}).data == {"port": miner.server.port}
        threads = [t for t in threading.enumerate() if t.name.startswith("btlightning-handler")]
        where = axon(miner.server)
        server = weakref.ref(miner.server)
        del miner
        for _ in range(100):
            gc.collect()
            if server() is None:
                break
        assert server() is None
        gone(threads)
        with pytest.raises(LightningConnectionError):
            client.query(where, "own", {}, timeout=0.5)


def test_a_handler_may_stop_its_server() -> None:
    server = new_server(shutdown_grace_secs=1)

    @server.handler("stop")
    def stop(data: dict[str, Any]) -> dict[str, Any]:
        server.stop()
        return {}

    @server.handler("async stop")
    async def async_stop(data: dict[str, Any]) -> dict[str, Any]:
        await asyncio.to_thread(server.stop)
        return {}

    for name in ["stop", "async stop"]:
        server.start()
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        with new_client() as client, pytest.raises((LightningConnectionError, HandlerError)):
            client.query(axon(server), name, {}, timeout=10)
        gone([serving])


def test_the_asynchronous_server_stops_when_its_task_is_cancelled() -> None:
    async def main() -> None:
        server = new_async_server(shutdown_grace_secs=0)
        begun, cancelled = asyncio.Event(), asyncio.Event()

        @server.handler("hang")
        async def hang(data: dict[str, Any]) -> dict[str, Any]:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return {}

        server.register("echo", echo)
        await server.start()
        serving = asyncio.create_task(server.serve_forever())
        async with new_async_client() as client:
            assert (await client.query(axon(server), "echo", {"a": 1})).data == {"a": 1}
            asking = asyncio.create_task(client.query(axon(server), "hang", {}))
            await begun.wait()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert cancelled.is_set()
            with pytest.raises(LightningConnectionError):
                await asking

    run(main())


def test_the_asynchronous_server_may_be_stopped_by_a_handler_of_its_own() -> None:
    async def main() -> None:
        server = new_async_server(shutdown_grace_secs=0)

        @server.handler("stop")
        async def stop(data: dict[str, Any]) -> dict[str, Any]:
            await server.stop()
            return {}

        await server.start()
        serving = asyncio.create_task(server.serve_forever())
        async with new_async_client() as client:
            with pytest.raises(LightningConnectionError):
                await client.query(axon(server), "stop", {})
        await serving

    run(main())


def test_the_other_published_name_takes_its_arguments_in_its_own_order() -> None:
    hotkey = new_server().hotkey
    server = RustLightningServer(
        hotkey, "127.0.0.1", 0, 300, 150, 30, 60, 7, 1000, 10, 30, 16, False, 1800, 5, 2**20
    )
    server.set_miner_keypair(b"m" * 32)
    server.register_synapse_handler("echo", echo)
    server.start()
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    with new_client() as client:
        miner = {"hotkey": hotkey, "ip": "127.0.0.1", "port": server.port}
        assert client.query(miner, "echo", {"a": 1}).data == {"a": 1}
    server.cleanup_stale_connections(300)
    server.stop()
    gone([serving])


START = """
import asyncio, os, signal, threading
from btlightning import AsyncLightning, AsyncLightningServer, Lightning, LightningServer

server = LightningServer(host="127.0.0.1", port=0, signer=b"m" * 32)
server.register("echo", lambda data: data)

def interrupt():
    miner = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
    with Lightning(signer=b"v" * 32) as client:
        assert client.query(miner, "echo", {"a": 1}).data == {"a": 1}
    os.kill(os.getpid(), signal.SIGINT)
"""


def ends(source: str, says: str) -> None:
    ended = program(START + source)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, says.split(), "")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c_stops_a_server_that_serves() -> None:
    ends(
        """
server.start()
threading.Thread(target=interrupt).start()
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("interrupted")
server.start()
print("again")
""",
        "interrupted again",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_a_signal_handler_may_stop_the_server() -> None:
    ends(
        """
signal.signal(signal.SIGINT, lambda *_: server.stop())
server.start()
threading.Thread(target=interrupt).start()
server.serve_forever()
print("stopped")
""",
        "stopped",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_ctrl_c_stops_an_asynchronous_server(loop: str) -> None:
    pytest.importorskip(loop)
    ends(
        f"""
import {loop}
server = AsyncLightningServer(host="127.0.0.1", port=0, signer=b"m" * 32)

@server.handler("echo")
async def echo(data):
    return data

async def main():
    await server.start()
    threading.Thread(target=interrupt).start()
    try:
        await server.serve_forever()
    except asyncio.CancelledError:
        print("cancelled")
        raise

try:
    {loop}.run(main()) if hasattr({loop}, "run") else asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
""",
        "cancelled interrupted",
    )


def test_a_program_may_end_with_handlers_of_every_kind_at_work() -> None:
    ends(
        """
begun = threading.Semaphore(0)

@server.handler("plain")
def plain(data):
    begun.release()
    threading.Event().wait()

@server.handler("busy")
def busy(data):
    begun.release()
    while True:
        pass

@server.handler("async")
async def asynchronous(data):
    begun.release()
    await asyncio.Event().wait()

@server.handler("chunks")
def chunks(data):
    begun.release()
    while True:
        yield b"x" * 100_000

@server.handler("async chunks")
async def async_chunks(data):
    begun.release()
    while True:
        yield b"x" * 100_000

server.__enter__()
miner = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
client = Lightning(signer=b"v" * 32)
answers = [client.fan_out([miner], name, {}) for name in ["plain", "busy", "async"]]
streams = [client.stream(miner, name, {}) for name in ["chunks", "async chunks"]]
for _ in range(5):
    begun.acquire()
print("done")
""",
        "done",
    )


def test_a_loop_that_ended_with_its_server_still_running_is_no_trouble() -> None:
    ends(
        """
server = AsyncLightningServer(host="127.0.0.1", port=0, signer=b"m" * 32, handler_timeout_secs=1)

@server.handler("echo")
async def echo(data):
    return data

async def main():
    await server.__aenter__()

asyncio.run(main())
miner = {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}
client = Lightning(signer=b"v" * 32)
for _ in range(2):
    try:
        client.query(miner, "echo", {})
    except RuntimeError as error:
        print(error.reason)
server.register("plain", lambda data: {"still": "here"})
print(client.query(miner, "plain", {}).data["still"])
""",
        "handler_timed_out handler_timed_out here",
    )
