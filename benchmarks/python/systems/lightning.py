"""btlightning, called as its published version is: this program runs on 0.2.15 and on this project's package, unchanged.

A plain function answers, on the server's threads; a call blocks its thread. A fan-out is a thread for each miner, as a
program does whose library has nothing for it.
"""

from __future__ import annotations

import functools
import gc
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from btlightning import Lightning, RustLightningServer
from orders import measure, process, threads
from orders.protocol import ServerAt, host_and_port
from systems import keys

NAME = "echo"

#: How long a stopped server stays: the published one may otherwise be gone before its clients have been told.
FAREWELL_S = 0.1

#: For how long a port is asked for again: the published server holds one for a moment after it was stopped.
PORT_FREE_MAX_S = 30.0


def peer() -> threads.Peer:
    """A peer for whichever btlightning is installed."""
    return threads.Peer(System())


class System:
    """Servers and clients of btlightning."""

    def serve(self, ports: Sequence[int]) -> list[Server]:
        """Starts servers on 127.0.0.1."""
        return [Server(index, port) for index, port in enumerate(ports)]

    def connect(self, servers: Sequence[ServerAt], identity: int) -> Client:
        """A client; a server that cannot be reached is missing in its count."""
        return Client(servers, identity)


class Server:
    """One miner, and the thread that it serves on."""

    def __init__(self, index: int, port: int) -> None:
        hotkey = hotkey_of_seed(keys.miner_seed(index))
        self._server: Any = _started(hotkey, keys.miner_seed(index), port)
        port = self._server[1]
        self.at: ServerAt = {"addr": f"127.0.0.1:{port}", "key": hotkey}
        self._thread = threading.Thread(target=self._server[0].serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops it. The published server holds its port for as long as it exists."""
        self._server[0].stop()
        self._thread.join()
        time.sleep(FAREWELL_S)
        self._server = None
        gc.collect()


def _started(hotkey: str, seed: bytes, wanted: int) -> tuple[RustLightningServer, int]:
    """A server that has bound ``wanted``, or any port for 0, and the port: the published server cannot say which."""
    give_up = time.monotonic() + PORT_FREE_MAX_S
    while True:
        port = wanted or process.free_port(socket.SOCK_DGRAM)
        # Everybody is at one address here, and there are many.
        server = RustLightningServer(
            hotkey, "127.0.0.1", port, max_connections=8192, max_handshake_attempts_per_minute=1_000_000
        )
        server.set_miner_keypair(seed)
        server.register_synapse_handler(NAME, lambda data: data)
        try:
            server.start()
        except ValueError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.005)
        else:
            return server, port


class Client:
    """One validator."""

    def __init__(self, servers: Sequence[ServerAt], identity: int) -> None:
        seed = keys.validator_seed(identity)
        self._miners = [_axon(at) for at in servers]
        self._lightning = Lightning(hotkey_of_seed(seed))
        self._lightning.set_validator_keypair(seed)
        self._lightning.initialize_connections(self._miners)
        self._pool: ThreadPoolExecutor | None = None

    def connected(self) -> int:
        """How many connections are alive."""
        return list(self._lightning.get_connection_stats().values()).count("active")

    def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        """Asks one miner."""
        request = {"synapse_type": NAME, "data": {"data": payload}}
        answer = self._lightning.query_axon(self._miners[server], request, timeout_s)
        if not answer["success"]:
            raise RuntimeError(f"the server failed: {answer['error']}")
        data: bytes = answer["data"]["data"]
        return data

    def fan_out(self, payload: bytes) -> list[bytes]:
        """Asks all miners, each on a thread of its own; the threads stay for the next time."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(self._miners))
        ask = functools.partial(self.echo, payload=payload, timeout_s=measure.ECHO_TIMEOUT_S)
        return list(self._pool.map(ask, range(len(self._miners))))

    def close(self) -> None:
        """Closes its connections."""
        if self._pool is not None:
            self._pool.shutdown()
        self._lightning.close()


def _axon(at: ServerAt) -> dict[str, Any]:
    host, port = host_and_port(at)
    return {"hotkey": at["key"], "ip": host, "port": port}


@functools.cache
def hotkey_of_seed(seed: bytes) -> str:
    """The public key in SS58. The published package cannot say it, so there it is the wallet's to say."""
    try:
        from btlightning import hotkey_of_seed as ours
    except ImportError:
        from bittensor_wallet import Keypair

        hotkey: str = Keypair.create_from_seed("0x" + seed.hex()).ss58_address
        return hotkey
    return ours(seed)
