"""This project's package in asyncio: coroutines answer in the server's event loop, and the client's calls are awaited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from btlightning import AsyncLightning, AsyncLightningServer
from orders import measure, tasks
from orders.protocol import ServerAt, host_and_port
from systems import keys

NAME = "echo"


def peer() -> tasks.Peer:
    """A peer of this project's package."""
    return tasks.Peer(System())


class System:
    """Servers and clients of btlightning."""

    async def serve(self, ports: Sequence[int]) -> list[Server]:
        """Starts servers on 127.0.0.1."""
        servers = [Server(index, port) for index, port in enumerate(ports)]
        for server in servers:
            await server.start()
        return servers

    async def connect(self, servers: Sequence[ServerAt], identity: int) -> Client:
        """A client; a server that cannot be reached is missing in its count."""
        client = Client(servers, identity)
        await client.connect()
        return client


class Server:
    """One miner."""

    at: ServerAt

    def __init__(self, index: int, port: int) -> None:
        # Everybody is at one address here, and there are many.
        self._server = AsyncLightningServer(
            host="127.0.0.1",
            port=port,
            signer=keys.miner_seed(index),
            max_connections=8192,
            max_handshake_attempts_per_minute=1_000_000,
        )
        self._server.register(NAME, _echo)

    async def start(self) -> None:
        """Serves in the background from now on."""
        await self._server.__aenter__()
        self.at = {"addr": f"127.0.0.1:{self._server.port}", "key": self._server.hotkey}

    async def stop(self) -> None:
        """Stops it."""
        await self._server.stop()


async def _echo(data: dict[str, Any]) -> dict[str, Any]:
    return data


class Client:
    """One validator."""

    def __init__(self, servers: Sequence[ServerAt], identity: int) -> None:
        self._miners = [_axon(at) for at in servers]
        self._lightning = AsyncLightning(signer=keys.validator_seed(identity))

    async def connect(self) -> None:
        """Dials all miners."""
        await self._lightning.connect(self._miners)

    def connected(self) -> int:
        """How many connections are alive."""
        return sum(peer.connected for peer in self._lightning.peers())

    async def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        """Asks one miner."""
        reply = await self._lightning.query(self._miners[server], NAME, {"data": payload}, timeout=timeout_s)
        data: bytes = reply.data["data"]
        return data

    async def fan_out(self, payload: bytes) -> list[bytes]:
        """Asks all miners in one call, which encodes the request once."""
        asked = self._lightning.fan_out(self._miners, NAME, {"data": payload}, timeout=measure.ECHO_TIMEOUT_S)
        return [answer.data["data"] async for answer in asked]

    async def close(self) -> None:
        """Closes its connections."""
        await self._lightning.close()


def _axon(at: ServerAt) -> dict[str, Any]:
    host, port = host_and_port(at)
    return {"hotkey": at["key"], "ip": host, "port": port}
