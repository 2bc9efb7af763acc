"""The validator's side for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from . import _native, _signers
from ._chain import Network, Nodes
from ._loop import Source, awaited
from ._miners import listed
from ._monitor import Following
from ._options import ClientOptions, Reader, answer, native_client, reader, reply
from ._types import Answer, ClientConnectionStats, MetagraphLike, Miner, MinerAddress, Reply

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")


class AsyncLightning(Following):
    """A validator's connections to its miners, for asyncio.

    >>> async with AsyncLightning(signer=seed) as client:
    ...     await client.connect(miners)
    ...     reply = await client.query(miners[0], "Ask", {"prompt": "why?"}, timeout=5)
    ...     print(reply.data, reply.timings.last_byte)

    ``signer`` is a seed of 32 bytes, a callable that signs bytes, or a wallet or keypair of the official packages as it is.
    ``wallet_hotkey`` may be left out where the signer has one. The settings are those of :class:`ClientOptions`.

    Usable from any event loop, and from several at once. Cancelling a task that awaits one of the methods cancels what it
    awaits, on the wire too; the connection stays good. Every wait has a bound.
    """

    def __init__(
        self, wallet_hotkey: str | None = None, *, signer: object = None, **options: Unpack[ClientOptions]
    ) -> None:
        self._native, hotkey = native_client(wallet_hotkey, signer, options)
        self._follow_nobody_yet()
        #: The validator's hotkey, in SS58.
        self.hotkey: str = hotkey

    def set_signer(self, signer: object) -> None:
        """Signs with ``signer`` from now on; see the class. Without one, every dial fails."""
        self._native.set_signer(_signers.resolve(signer)[0])

    def set_wallet(
        self,
        wallet_name: str = "default",
        wallet_path: str = "~/.bittensor/wallets",
        hotkey_name: str = "default",
    ) -> None:
        """Signs with the hotkey in ``wallet_path/wallet_name/hotkeys/hotkey_name``; raises :class:`SigningError`."""
        self.set_signer(_signers.from_wallet_files(wallet_name, wallet_path, hotkey_name))

    async def connect(self, miners: MetagraphLike | Iterable[MinerAddress]) -> None:
        """Wants ``miners`` besides those that are wanted already, and dials them all at once.

        Returns when every dial has come to an end, after at most ``connect_timeout_secs``. A miner that cannot be reached
        is no error: it is dialled again in the background, and :meth:`peers` says why. A metagraph or neurons of the official
        SDK are taken as they are; see :func:`miners_of` for which of them are miners. Cancelled, the dials go on.
        Raises :class:`SigningError` without a signer.
        """
        wanted = listed(miners)
        self._by_hand.add(wanted)
        await awaited(self._native.connect, wanted)

    async def update(self, miners: MetagraphLike | Iterable[MinerAddress]) -> None:
        """Wants exactly ``miners`` from now on: new ones are dialled, connections to others are closed."""
        self._native.open()
        wanted = listed(miners)
        self._by_hand.replace(wanted)
        await awaited(self._native.update, wanted)

    @overload
    async def query(
        self,
        miner: Miner,
        synapse_type: str,
        data: object,
        *,
        returns: None = None,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> Reply[dict[str, Any]]: ...
    @overload
    async def query(
        self,
        miner: Miner,
        synapse_type: str,
        data: object,
        *,
        returns: type[T],
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> Reply[T]: ...
    async def query(
        self,
        miner: Miner,
        synapse_type: str,
        data: object,
        *,
        returns: type[Any] | None = None,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> Reply[Any]:
        """Asks ``miner`` and waits for its answer.

        ``data`` is a dict, a dataclass instance or a pydantic model; ``returns`` a dataclass or a model that the answer
        is made into. The whole takes at most ``timeout`` seconds (default: the client's ``query_timeout_secs``), the wait
        for a connection included; from the request having gone out to the first byte of the answer at most
        ``first_byte_timeout``. An answer of more than ``answer_bytes_max`` bytes is refused (default: the client's
        ``max_frame_payload_bytes``, which holds in any case; less than 1,024 counts as that). A miner with an address
        that the client does not know is dialled.

        Raises a :class:`LightningError`: :class:`HandlerError` when the miner says that it failed,
        :class:`LightningTimeoutError`, :class:`LightningConnectionError`, :class:`SerializationError`, ...
        """
        read = reader(returns)
        self._native.open()
        native = await awaited(
            self._native.query, miner, synapse_type, data, timeout, first_byte_timeout, answer_bytes_max
        )
        return reply(native, read)

    def stream(
        self,
        miner: Miner,
        synapse_type: str,
        data: object,
        *,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
        stream_timeout: float | None = None,
    ) -> AsyncStream:
        """Asks ``miner`` for an answer in chunks of bytes.

        >>> async with client.stream(miner, "Generate", {"prompt": "why?"}) as chunks:
        ...     async for chunk in chunks:
        ...         print(chunk)

        ``timeout`` bounds the time until the request has gone out; each chunk has ``stream_chunk_timeout_secs``, and the
        whole answer ``stream_timeout`` (default: the client's ``stream_timeout_secs``). All chunks together may have
        ``answer_bytes_max`` bytes, each counted for at least 256 (default: the client's ``max_stream_payload_bytes``). Leaving
        the block tells the miner to stop. Errors are those of :meth:`query`, and :class:`StreamError`; after an error or a
        lost connection the iteration raises, it never just ends.
        """
        return AsyncStream(
            self._native,
            (miner, synapse_type, data, timeout, first_byte_timeout, answer_bytes_max, stream_timeout),
        )

    @overload
    def fan_out(
        self,
        miners: MetagraphLike | Iterable[Miner],
        synapse_type: str,
        data: object,
        *,
        returns: None = None,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> AsyncAnswers[dict[str, Any]]: ...
    @overload
    def fan_out(
        self,
        miners: MetagraphLike | Iterable[Miner],
        synapse_type: str,
        data: object,
        *,
        returns: type[T],
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> AsyncAnswers[T]: ...
    def fan_out(
        self,
        miners: MetagraphLike | Iterable[Miner],
        synapse_type: str,
        data: object,
        *,
        returns: type[Any] | None = None,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> AsyncAnswers[Any]:
        """Asks many miners at once, under one deadline. The answers come as they arrive, exactly one a miner.

        >>> async for answer in client.fan_out(miners, "Ask", {"prompt": "why?"}, timeout=5):
        ...     print(answer.hotkey, answer.data if answer.ok else answer.error.reason)

        The request is encoded once, and sent before this returns. What goes wrong with one miner is in its
        :class:`Answer`. Leaving an ``async with`` block around it, or dropping it, cancels the calls that are still out.
        """
        read = reader(returns)
        self._native.open()
        calls = self._native.fan_out(
            listed(miners), synapse_type, data, timeout, first_byte_timeout, answer_bytes_max
        )
        return AsyncAnswers(calls, read)

    async def start_metagraph_monitor(
        self,
        netuid: int,
        network: Network | Nodes = None,
        *,
        interval: float = 600.0,
        min_stake: int | None = None,
        validator_permit: bool | None = False,
        allow_private: bool | None = None,
        matching: Callable[[_native.NeuronInfo], bool] | None = None,
    ) -> None:
        """Follows the metagraph of a subnet: connects to its miners, and from then on, after every read, to those that are
        new, leaves those that are gone, and moves with those that move. Returns when it was read for the first time, and
        every dial that this led to has come to an end.

        ``network`` is that of :class:`Chain`, or a chain itself; ``interval`` the seconds between two reads, a day at most. Miners are those
        that :func:`miners_of` chooses, without oneself; ``matching`` is called on a thread of its own, at first in the event loop, and a neuron about
        which it raises is not chosen. ``allow_private=None``: addresses of private networks and of this host count where
        the chain is in such a network, too, and is not mainnet.

        Miners that were given to :meth:`connect` are kept beside those of the metagraph. While no node
        answers, the last metagraph stays in use; see :meth:`metagraph_status`. Reads that fail are tried again. A monitor
        that runs already is replaced. Raises as :meth:`AsyncChain.metagraph`, and nothing is followed then.
        """
        plan = self._plan(netuid, network, interval, min_stake, validator_permit, allow_private, matching)
        self._native.open()
        read = await awaited(plan.chain.metagraph, netuid)
        await awaited(self._native.update, self._follow(plan, read))

    def peers(self) -> list[_native.Peer]:
        """How things stand with every miner, now."""
        return self._native.peers()

    def peer(self, hotkey: str) -> _native.Peer | None:
        """How things stand with one miner, now; ``None`` if it is not wanted."""
        return self._native.peer(hotkey)

    def peer_changes(self) -> AsyncGenerator[_native.Peer, None]:
        """Every change of any miner's state from now on, without an end.

        Whoever is too slow to read 1,024 changes gets every miner's present state instead, and then goes on.
        """
        return self._changes(Source(self._native.peer_changes().next, None))

    async def _changes(self, changes: Source) -> AsyncGenerator[_native.Peer, None]:
        while True:
            change = await changes.next()
            if change is None:
                return
            if isinstance(change, int):
                for peer in self._native.peers():
                    yield peer
            else:
                yield change

    async def connection_stats(self) -> ClientConnectionStats:
        """The published figures, as text. Programs read :meth:`peers` instead."""
        stats: ClientConnectionStats = await awaited(self._native.stats)
        return stats

    async def close(self) -> None:
        """Closes every connection and forgets all miners; waits up to a second until the peers have heard of it.

        Queries that are out fail. The client can be used again.
        """
        self._forget_everybody()
        await awaited(self._native.close)

    def __repr__(self) -> str:
        return f"<btlightning.{type(self).__name__} of {self.hotkey}>"

    async def __aenter__(self) -> Self:
        self._native.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncStream:
    """A streaming answer: an async iterator of ``bytes``, and an async context manager."""

    def __init__(self, client: _native.Client, request: tuple[Any, ...]) -> None:
        self._client = client
        self._request = request
        self._chunks: _native.ChunkStream | None = None
        self._source: Source | None = None
        self._closed = False

    async def open(self) -> None:
        """Sends the request, if that was not done already; iterating does it, too."""
        if self._chunks is None and not self._closed:
            self._client.open()
            chunks: _native.ChunkStream = await awaited(self._client.stream, *self._request)
            self._chunks, self._source = chunks, Source(chunks.next, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk. No chunk is lost when the wait for it is cancelled."""
        await self.open()
        chunk: bytes | None = None if self._source is None else await self._source.next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def collect(self) -> bytes:
        """All chunks that are left, joined."""
        return b"".join([chunk async for chunk in self])

    @property
    def timings(self) -> _native.Timings | None:
        """Where the time went so far; ``None`` before the request has gone out and after :meth:`close`."""
        return None if self._chunks is None else self._chunks.timings

    def close(self) -> None:
        """Tells the miner to stop, if it has not ended."""
        self._closed = True
        if self._chunks is not None:
            self._chunks.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncAnswers(Generic[T]):
    """The answers of a fan-out: an async iterator of :class:`Answer`, and an async context manager."""

    def __init__(self, calls: _native.FanOut, read: Reader) -> None:
        self._calls = calls
        self._source = Source(calls.next, [])
        self._read = read
        self._ready: deque[Any] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer[T]:
        """The next answer. No answer is lost when the wait for it is cancelled."""
        if not self._ready:
            self._ready.extend(await self._source.next())
        if not self._ready:
            raise StopAsyncIteration
        return answer(self._ready.popleft(), self._read)

    def close(self) -> None:
        """Cancels the calls that are still out."""
        self._source.close()
        self._calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
