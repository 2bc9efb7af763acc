"""bittensor 10.5: an axon answers, a dendrite asks. HTTP in clear text, a JSON body, every request signed and verified.

An axon transports no bytes, so the payload is base64 in a text field, as subnets do it. The dendrite's side encodes and
decodes it; the axon's handler hands the text back unread, which is less than a handler that wants the bytes has to do.
Verification is the axon's default. What is not as bittensor has it, all in its favour:

- It asks services on the internet for its own address when a dendrite is made; here it is told one.
- An axon refuses a request that was signed before one that it has already had from the same dendrite, so requests that
  overtake each other fail. Here each request in flight has a dendrite of its own.
- Beside every axon runs a thread that wakes 1,000 times a second to see whether it shall stop. Where there are several
  axons in the process, they do without.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import socket
import tempfile
import threading
import time
from collections.abc import Sequence

# It would make directories in the user's home.
os.environ["READ_ONLY"] = "1"

from bittensor.core.axon import Axon
from bittensor.core.chain_data import AxonInfo
from bittensor.core.dendrite import Dendrite
from bittensor.core.synapse import Synapse
from bittensor.utils import networking
from bittensor_wallet import Keypair, Wallet

from orders import measure, process, tasks
from orders.protocol import ServerAt, SkippedError, host_and_port
from systems import keys

#: An address for documentation, which no server of the benchmark has.
EXTERNAL_IP = "192.0.2.1"

#: How long an axon may take to listen.
START_MAX_S = 10.0

networking.get_external_ip = lambda: EXTERNAL_IP


class Echo(Synapse):
    """A request and its answer."""

    data: str = ""


def echo(synapse: Echo) -> Echo:
    """The axon's handler."""
    return synapse


# The axon looks for classes in the annotations, which are texts in this module.
echo.__annotations__ = {"synapse": Echo, "return": Echo}


def peer() -> tasks.Peer:
    """A peer of bittensor."""
    return tasks.Peer(System())


class System:
    """Axons and dendrites."""

    async def serve(self, ports: Sequence[int]) -> list[Server]:
        """Starts axons on 127.0.0.1."""
        return [await self._serve(index, port, alone=len(ports) == 1) for index, port in enumerate(ports)]

    async def _serve(self, index: int, wanted: int, alone: bool) -> Server:
        wallet = _wallet(keys.miner_seed(index))
        give_up = time.monotonic() + START_MAX_S
        while True:
            server = Server(wallet, wanted or process.free_port(socket.SOCK_STREAM))
            if await server.start(alone):
                return server
            if time.monotonic() >= give_up:
                raise TimeoutError(f"no axon on {server.at['addr']}")

    async def connect(self, servers: Sequence[ServerAt], identity: int) -> Client:
        """A client. Dendrites connect when they ask, so there is nothing to wait for."""
        return Client(servers, identity)


class Server:
    """One axon."""

    def __init__(self, wallet: Wallet, port: int) -> None:
        self.at: ServerAt = {"addr": f"127.0.0.1:{port}", "key": wallet.hotkey.ss58_address}
        self._axon = Axon(wallet=wallet, port=port, ip="127.0.0.1", external_ip="127.0.0.1")
        # It would listen on all addresses, whatever it was told.
        self._axon.fast_config.host = "127.0.0.1"
        self._axon.attach(forward_fn=echo)
        self._thread: threading.Thread | None = None

    async def start(self, alone: bool) -> bool:
        """Listens from now on; says whether it does."""
        uvicorn = self._axon.fast_server
        if alone:
            self._axon.start()
        else:
            threading.Thread(target=uvicorn.run, daemon=True).start()
        give_up = time.monotonic() + START_MAX_S / 4
        # Nothing tells when it listens, or when it does not any more.
        while not uvicorn.started and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if not uvicorn.started:
            uvicorn.should_exit = True
        return bool(uvicorn.started)

    async def stop(self) -> None:
        """Stops it; returns when nobody listens any more."""
        self._axon.stop()
        self._axon.fast_server.should_exit = True
        while await _is_listening(self.at):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def _is_listening(at: ServerAt) -> bool:
    try:
        _, writer = await asyncio.open_connection(*host_and_port(at))
    except OSError:
        return False
    writer.close()
    return True


class Client:
    """One validator, with as many dendrites as it has requests in flight."""

    def __init__(self, servers: Sequence[ServerAt], identity: int) -> None:
        # Only the clients that are told to stay idle have another identity.
        if identity > 0:
            raise SkippedError("an axon closes a connection that is idle for 5 seconds")
        self._axons = [_axon_info(at) for at in servers]
        self._keypair = _keypair(keys.validator_seed(identity))
        self._dendrites = [Dendrite(wallet=self._keypair)]

    def connected(self) -> int:
        """How many axons it may ask: there is no connection that lasts."""
        return len(self._axons)

    async def echo(self, server: int, payload: bytes, timeout_s: float) -> bytes:
        """Asks one axon."""
        dendrite = self._dendrites.pop() if self._dendrites else Dendrite(wallet=self._keypair)
        try:
            synapse = Echo(data=base64.b64encode(payload).decode())
            answer = await dendrite.forward(
                self._axons[server], synapse, timeout=timeout_s, deserialize=False
            )
        finally:
            self._dendrites.append(dendrite)
        return _data(answer)

    async def fan_out(self, payload: bytes) -> list[bytes]:
        """Asks all axons in one call. The connections are closed after it, as ``Dendrite.query`` does: hundreds of axons
        take longer to answer than they keep a connection, and one that they have just closed fails its request."""
        synapse = Echo(data=base64.b64encode(payload).decode())
        async with Dendrite(wallet=self._keypair) as dendrite:
            answers = await dendrite.forward(
                self._axons, synapse, timeout=measure.ECHO_TIMEOUT_S, deserialize=False
            )
        return [_data(answer) for answer in answers]

    async def close(self) -> None:
        """Closes its connections."""
        for dendrite in self._dendrites:
            await dendrite.aclose_session()


def _data(answer: Echo) -> bytes:
    """The payload. A request that failed comes back as it was sent, and only its status tells."""
    if not answer.is_success:
        raise ConnectionError(f"{answer.dendrite.status_code}: {answer.dendrite.status_message}")
    return base64.b64decode(answer.data)


def _axon_info(at: ServerAt) -> AxonInfo:
    host, port = host_and_port(at)
    return AxonInfo(version=0, ip=host, port=port, ip_type=4, hotkey=at["key"], coldkey=at["key"])


def _wallet(seed: bytes) -> Wallet:
    """An axon wants a wallet, which is files. What it has read once it keeps, so they are gone again at once."""
    with tempfile.TemporaryDirectory() as directory:
        wallet = Wallet(name="bench", hotkey="bench", path=directory)
        wallet.set_hotkey(_keypair(seed), encrypt=False, overwrite=True)
        _ = wallet.hotkey
        return wallet


@functools.cache
def _keypair(seed: bytes) -> Keypair:
    return Keypair.create_from_seed("0x" + seed.hex())
