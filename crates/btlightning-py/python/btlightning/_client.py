"""The validator's side for threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from . import _native, _signers
from ._chain import Network, Nodes
from ._miners import listed
from ._monitor import Following
from ._options import Reader, answer, native_client, reader, reply
from ._types import (
    Answer,
    ClientConnectionStats,
    IoThreads,
    MetagraphLike,
    Miner,
    MinerAddress,
    Reply,
    Request,
    Seed,
    SynapseResponse,
)

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class Lightning(Following):
    """A validator's connections to its miners.

    >>> with Lightning(signer=seed) as client:
    ...     client.initialize_connections(miners)
    ...     reply = client.query(miners[0], "Ask", {"prompt": "why?"}, timeout=5)

    Any number of threads may use one client at once; while one waits, the others run. The constructor's arguments and
    :meth:`initialize_connections`, :meth:`query_axon`, ... are those of btlightning 0.2; :meth:`query`, :meth:`stream`,
    :meth:`fan_out` raise what went wrong instead of putting it into a dict, and take types of your own. See
    :class:`AsyncLightning` for asyncio, and for what ``signer`` may be.
    """

    def __init__(
        self,
        wallet_hotkey: str | None = None,
        connect_timeout_secs: float | None = None,
        idle_timeout_secs: float | None = None,
        keep_alive_interval_secs: float | None = None,
        reconnect_initial_backoff_secs: float | None = None,
        reconnect_max_backoff_secs: float | None = None,
        reconnect_max_retries: int | None = None,
        max_frame_payload_bytes: int | None = None,
        max_stream_payload_bytes: int | None = None,
        *,
        reconnect_slow_probe_interval_secs: float | None = 60.0,
        max_connections: int | None = None,
        stream_chunk_timeout_secs: float | None = None,
        stream_timeout_secs: float | None = None,
        query_timeout_secs: float | None = None,
        io_threads: IoThreads = None,
        signer: object = None,
    ) -> None:
        settings = {
            "connect_timeout_secs": connect_timeout_secs,
            "idle_timeout_secs": idle_timeout_secs,
            "keep_alive_interval_secs": keep_alive_interval_secs,
            "reconnect_initial_backoff_secs": reconnect_initial_backoff_secs,
            "reconnect_max_backoff_secs": reconnect_max_backoff_secs,
            "reconnect_max_retries": reconnect_max_retries,
            "max_frame_payload_bytes": max_frame_payload_bytes,
            "max_stream_payload_bytes": max_stream_payload_bytes,
            "max_connections": max_connections,
            "stream_chunk_timeout_secs": stream_chunk_timeout_secs,
            "stream_timeout_secs": stream_timeout_secs,
            "query_timeout_secs": query_timeout_secs,
        }
        options: dict[str, Any] = dict(settings)
        options["reconnect_slow_probe_interval_secs"] = reconnect_slow_probe_interval_secs
        options["io_threads"] = io_threads
        self._native, self.hotkey = native_client(wallet_hotkey, signer, options)
        self._follow_nobody_yet()
        #: The validator's hotkey, in SS58, by its published name.
        self.wallet_hotkey = self.hotkey

    # The calls of btlightning 0.2.

    def set_validator_keypair(self, keypair_seed: Seed) -> None:
        """Signs with the key pair of this 32-byte seed."""
        self._native.set_signer(_signers.seed_bytes(keypair_seed))

    def set_python_signer(self, signer_callback: Callable[[bytes], bytes]) -> None:
        """Signs by calling ``signer_callback`` with the bytes to sign; it returns the 64 bytes of the signature."""
        self._native.set_signer(signer_callback)

    def set_wallet(
        self,
        wallet_name: str = "default",
        wallet_path: str = "~/.bittensor/wallets",
        hotkey_name: str = "default",
    ) -> None:
        """Signs with the hotkey in ``wallet_path/wallet_name/hotkeys/hotkey_name``; raises :class:`SigningError`."""
        self.set_signer(_signers.from_wallet_files(wallet_name, wallet_path, hotkey_name))

    def initialize_connections(self, miners: MetagraphLike | Iterable[MinerAddress]) -> None:
        """Wants ``miners`` besides those that are wanted already, and dials them all at once.

        Returns when every dial has come to an end, after at most ``connect_timeout_secs``. A miner that cannot be reached
        is no error: it is dialled again in the background, and :meth:`peers` says why. A metagraph or neurons of the official
        SDK are taken as they are; see :func:`miners_of` for which of them are miners. Raises :class:`SigningError` without
        a signer.
        """
        wanted = listed(miners)
        self._native.connect(wanted)
        self._by_hand.add(wanted)

    def query_axon(
        self, axon_info: MinerAddress, request: Request, timeout_secs: float | None = None
    ) -> SynapseResponse:
        """Asks a miner; a failure of its handler is told by ``success`` and ``error`` of the answer.

        Raises :class:`LightningConnectionError` and its subclasses when there is no answer, :class:`SerializationError` (a
        ``ValueError``) when request or answer cannot be encoded or decoded, ``KeyError`` for a key that is missing.
        """
        return self._native.query_axon(axon_info, request, timeout_secs)

    def query_axon_stream(self, axon_info: MinerAddress, request: Request) -> Stream:
        """Asks a miner for an answer in chunks of bytes; iterate over it."""
        return Stream(self._native.query_axon_stream(axon_info, request))

    def update_miner_registry(self, miners: MetagraphLike | Iterable[MinerAddress]) -> None:
        """Wants exactly ``miners`` from now on: new ones are dialled, connections to others are closed."""
        wanted = listed(miners)
        self._native.update(wanted)
        self._by_hand.replace(wanted)

    def get_connection_stats(self) -> ClientConnectionStats:
        """Figures as text. Programs read :meth:`peers` instead."""
        return self._native.stats()

    def close(self) -> None:
        """Closes every connection and forgets all miners; waits up to a second until the peers have heard of it."""
        self._forget_everybody()
        self._native.close()

    # The newer calls.

    def set_signer(self, signer: object) -> None:
        """Signs with ``signer`` from now on; see :class:`AsyncLightning`. Without one, every dial fails."""
        self._native.set_signer(_signers.resolve(signer)[0])

    @overload
    def query(
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
    def query(
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
    def query(
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
        """Asks ``miner`` and waits for its answer. Bounds, types and errors are those of :meth:`AsyncLightning.query`."""
        read = reader(returns)
        self._native.open()
        native = self._native.query(miner, synapse_type, data, timeout, first_byte_timeout, answer_bytes_max)
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
    ) -> Stream:
        """Asks ``miner`` for an answer in chunks of bytes. Returns when the request has gone out.

        Bounds and errors are those of :meth:`AsyncLightning.stream`.
        """
        self._native.open()
        return Stream(
            self._native.stream(
                miner, synapse_type, data, timeout, first_byte_timeout, answer_bytes_max, stream_timeout
            )
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
    ) -> Answers[dict[str, Any]]: ...
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
    ) -> Answers[T]: ...
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
    ) -> Answers[Any]:
        """Asks many miners at once, under one deadline. The answers come as they arrive, exactly one a miner.

        What goes wrong with one miner is in its :class:`Answer`. Leaving a ``with`` block around it, or dropping it,
        cancels the calls that are still out.
        """
        read = reader(returns)
        self._native.open()
        calls = self._native.fan_out(
            listed(miners), synapse_type, data, timeout, first_byte_timeout, answer_bytes_max
        )
        return Answers(calls, read)

    def start_metagraph_monitor(
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
        that :func:`miners_of` chooses, without oneself; ``matching`` is called on a thread of its own, and a neuron about
        which it raises is not chosen. ``allow_private=None``: addresses of private networks and of this host count where
        the chain is in such a network, too, and is not mainnet.

        Miners that were given to :meth:`initialize_connections` are kept beside those of the metagraph. While no node
        answers, the last metagraph stays in use; see :meth:`metagraph_status`. Reads that fail are tried again. A monitor
        that runs already is replaced. Raises as :meth:`Chain.metagraph`, and nothing is followed then.
        """
        plan = self._plan(netuid, network, interval, min_stake, validator_permit, allow_private, matching)
        self._native.open()
        self._native.update(self._follow(plan, plan.chain.metagraph(netuid)))

    def peers(self) -> list[_native.Peer]:
        """How things stand with every miner, now."""
        return self._native.peers()

    def peer(self, hotkey: str) -> _native.Peer | None:
        """How things stand with one miner, now; ``None`` if it is not wanted."""
        return self._native.peer(hotkey)

    def peer_changes(self, timeout: float | None = None) -> Iterator[_native.Peer]:
        """Every change of any miner's state from now on; ends when there was none for ``timeout`` seconds.

        Whoever is too slow to read 1,024 changes gets every miner's present state instead, and then goes on.
        """
        return self._changes(self._native.peer_changes(), timeout)

    def _changes(self, changes: _native.PeerChanges, timeout: float | None) -> Iterator[_native.Peer]:
        while (change := changes.next(timeout)) is not None:
            if isinstance(change, int):
                yield from self._native.peers()
            else:
                yield change

    def __repr__(self) -> str:
        return f"<btlightning.{type(self).__name__} of {self.hotkey}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RustLightning(Lightning):
    """The client of btlightning 0.2 by its other name, with its order of arguments."""

    def __init__(
        self,
        wallet_hotkey: str,
        connect_timeout_secs: float | None = None,
        idle_timeout_secs: float | None = None,
        keep_alive_interval_secs: float | None = None,
        reconnect_initial_backoff_secs: float | None = None,
        reconnect_max_backoff_secs: float | None = None,
        reconnect_max_retries: int | None = None,
        max_connections: int | None = None,
        max_frame_payload_bytes: int | None = None,
        max_stream_payload_bytes: int | None = None,
        stream_chunk_timeout_secs: float | None = None,
    ) -> None:
        super().__init__(
            wallet_hotkey,
            connect_timeout_secs,
            idle_timeout_secs,
            keep_alive_interval_secs,
            reconnect_initial_backoff_secs,
            reconnect_max_backoff_secs,
            reconnect_max_retries,
            max_frame_payload_bytes,
            max_stream_payload_bytes,
            max_connections=max_connections,
            # With 0, the published class has no timeout; here it is then that of a query.
            stream_chunk_timeout_secs=stream_chunk_timeout_secs or None,
        )

    def query_axon(
        self,
        axon_data: MinerAddress,
        request_data: Request,
        timeout_secs: float | None = None,
    ) -> SynapseResponse:
        """As :meth:`Lightning.query_axon`."""
        return self._native.query_axon(axon_data, request_data, timeout_secs)

    def query_axon_stream(self, axon_data: MinerAddress, request_data: Request) -> Stream:
        """As :meth:`Lightning.query_axon_stream`."""
        return Stream(self._native.query_axon_stream(axon_data, request_data))

    def close_all_connections(self) -> None:
        """As :meth:`Lightning.close`."""
        self.close()


class Stream:
    """A streaming answer: an iterator of ``bytes``, and a context manager whose end tells the miner to stop."""

    def __init__(self, chunks: _native.ChunkStream) -> None:
        self._chunks = chunks

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        chunk = self._chunks.next()
        if chunk is None:
            raise StopIteration
        return chunk

    def collect(self) -> bytes:
        """All chunks that are left, joined."""
        return b"".join(self)

    @property
    def timings(self) -> _native.Timings | None:
        """Where the time went so far; ``None`` after :meth:`close`."""
        return self._chunks.timings

    def close(self) -> None:
        """Tells the miner to stop, if it has not ended. A thread that waits for a chunk finds the end."""
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Answers(Generic[T]):
    """The answers of a fan-out: an iterator of :class:`Answer`, and a context manager."""

    def __init__(self, calls: _native.FanOut, read: Reader) -> None:
        self._calls = calls
        self._read = read
        self._ready: deque[Any] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Answer[T]:
        if not self._ready:
            self._ready.extend(self._calls.next())
        if not self._ready:
            raise StopIteration
        return answer(self._ready.popleft(), self._read)

    def close(self) -> None:
        """Cancels the calls that are still out."""
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
