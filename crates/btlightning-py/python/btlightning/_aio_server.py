"""The miner's side for asyncio."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import TYPE_CHECKING

from . import _native
from ._chain import Network, Nodes, SubnetPermits
from ._errors import LightningError
from ._loop import awaited, bridge
from ._server_base import HANDLER_THREADS, ServerBase, ServerOptions
from ._subnet import SourceRules, learning, publishing
from ._workers import Tasks

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class AsyncLightningServer(ServerBase):
    """A miner: answers validators' requests, for asyncio.

    >>> server = AsyncLightningServer(port=8443, signer=seed)
    >>> @server.handler("Ask")
    ... async def ask(data, caller):
    ...     return {"answer": await think(data["question"], caller.remaining)}
    >>> async with server:
    ...     await server.serve_forever()

    Arguments are those of :class:`LightningServer`, the settings those of :class:`ServerOptions`. Handlers that are ``async
    def`` run as tasks in the event loop that the server was started in; plain functions run on threads, and stall nothing.
    """

    def __init__(
        self,
        miner_hotkey: str | None = None,
        host: str = "0.0.0.0",
        port: int = 8443,
        *,
        signer: object = None,
        handler_threads: int = HANDLER_THREADS,
        **options: Unpack[ServerOptions],
    ) -> None:
        super().__init__(miner_hotkey, host, port, signer, handler_threads, options)
        self._tasks: Tasks | None = None

    async def start(self) -> None:
        """Binds the socket; connections are accepted by :meth:`serve_forever`. Cancelled, it leaves the server stopped.

        Raises :class:`ConfigError` when the host is no address, or the address cannot be bound. A port that this server has
        just been stopped on is waited for, up to 2 s.
        """
        try:
            await awaited(self._native.start)
            loop, way = bridge()
            self._tasks = Tasks(loop, self._failures, own=False)
            self._native.open_tasks(way, self._tasks.begin, self._tasks.cancel)
            self._started()
        except LightningError:
            raise  # nothing was bound
        except BaseException:
            # Cancelled, the wait may end just when the socket is bound.
            await self.stop()
            raise

    async def serve_forever(self) -> None:
        """Accepts connections until the server is stopped, and the stop is complete. Where a permit or an allowed address is
        required, nobody is accepted before the resolver has answered for the first time.

        Cancelled, as by Ctrl-C under ``asyncio.run``, it stops the server first. Raises :class:`ConfigError` before
        :meth:`start`, and when a resolver is missing.
        """
        try:
            await awaited(self._native.serve)
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stops: nothing new is accepted, answers in flight may finish within ``shutdown_grace_secs``, then every connection
        is closed, and handlers that still run are cancelled. Returns when that is done; at once if the server does not
        run. Cancelled, it goes on by itself. The server may be started again.
        """
        self._stopping()
        tasks, self._tasks = self._tasks, None
        try:
            await awaited(self._native.stop)
        finally:
            if tasks is not None:
                await tasks.end()

    async def learn_sources(
        self,
        permits: SubnetPermits,
        path: str | os.PathLike[str] | None = None,
        rules: SourceRules | None = None,
    ) -> _native.LearnedSources:
        """Learns which addresses may connect, in place of a resolver of source addresses.

        Validators do not publish their addresses. So the address of each permitted hotkey that authenticates is noted, and
        everybody passes until the noted addresses cover a share of permitted stake. From then on packets of others are
        dropped, but for a few visitors a minute, who may show who they are: a validator that has moved comes in, and is
        noted. When coverage falls, everybody passes again; an empty list is never enforced. See :class:`SourceRules`.

        Enforced where ``enforce_source_allowlist`` is set; without that it only learns and reports. With ``path`` the list
        survives restarts: the file belongs to one subnet of one chain, which is asked for its genesis. Raises as
        :meth:`AsyncChain.metagraph`, and :class:`ConfigError` for rules out of their bounds and for a directory that is not
        there.
        """
        learned: _native.LearnedSources = await awaited(
            self._native.learn_sources, *learning(permits, path, rules)
        )
        return learned

    async def publish_axon(
        self,
        ip: object,
        port: int | None = None,
        *,
        netuid: int,
        network: Network | Nodes = None,
        wait_for_rate_limit: float = 0.0,
        inclusion_timeout: float = 60.0,
        finalized: bool = False,
    ) -> int | None:
        """Says on the chain that this miner is at ``ip`` and ``port``: what validators dial, which need not be what the server
        is bound to. Without ``port``, it is the server's own. With a TLS key file, the pin of its key is published, too.

        Signed by the miner's signer. Nothing is submitted if the chain has it already: then ``None`` is returned, else the
        number of the block that has it. The chain takes an axon only every so many blocks (50, as a rule):
        ``wait_for_rate_limit`` are the most seconds to wait for that, a day at most. What was submitted has
        ``inclusion_timeout`` seconds to come into a block; with ``finalized``, into one that is not replaced any more.

        Raises :class:`ConfigError` (``invalid_axon``, ``not_registered``), :class:`SigningError`, :class:`TransportError`
        (``rate_limited``, ``rejected``, ``refused_by_chain``, ``overtaken``, ``not_included``), and as
        :meth:`AsyncChain.metagraph`.
        """
        axon = (ip, self.port if port is None else port)
        block: int | None = await awaited(
            self._native.publish,
            *publishing(netuid, network, axon, wait_for_rate_limit, inclusion_timeout, finalized),
        )
        return block

    async def reset_axon(
        self,
        *,
        netuid: int,
        network: Network | Nodes = None,
        wait_for_rate_limit: float = 0.0,
        inclusion_timeout: float = 60.0,
        finalized: bool = False,
    ) -> int | None:
        """Says on the chain that this miner is nowhere any more. As :meth:`publish_axon`."""
        block: int | None = await awaited(
            self._native.publish,
            *publishing(netuid, network, None, wait_for_rate_limit, inclusion_timeout, finalized),
        )
        return block

    async def __aenter__(self) -> Self:
        await self.start()
        try:
            self._native.serve_in_background()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
