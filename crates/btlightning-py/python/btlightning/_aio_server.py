"""The miner's side for asyncio."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from ._errors import LightningError
from ._loop import awaited, bridge
from ._server_base import HANDLER_THREADS, ServerBase, ServerOptions
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
