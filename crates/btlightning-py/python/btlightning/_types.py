"""The shapes of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar, Union

from ._errors import LightningError
from ._native import NeuronInfo, QuicAxonInfo, Timings

T = TypeVar("T")


class _AxonRequired(TypedDict):
    hotkey: str
    ip: str
    port: int


class AxonInfo(_AxonRequired, total=False):
    """A miner as a dict. ``protocol`` is 4, QUIC, where it is left out."""

    protocol: int


class SynapseRequest(TypedDict):
    """A request of the published calls."""

    synapse_type: str
    data: dict[str, Any]


#: A request of the published calls; its data may be left out.
Request = Union[SynapseRequest, dict[str, Any]]
#: 32 bytes.
Seed = Union[bytes, bytearray, memoryview, Sequence[int]]
#: Which threads move packets: a shared one, or so many of one's own. ``None`` is ``"auto"``.
IoThreads = Union[int, Literal["auto", "shared"], None]


class SynapseResponse(TypedDict):
    """An answer of the published calls. ``data`` is empty where ``success`` is false, and ``error`` says why."""

    success: bool
    data: dict[str, Any]
    latency_ms: float
    error: str | None


class ClientConnectionStats(TypedDict, total=False):
    """Figures as text; besides these, ``connection_{ip}:{port}`` for each address."""

    total_connections: str
    active_miners: str


class ServerConnectionStats(TypedDict, total=False):
    """Figures as text; besides these, ``connection_{hotkey}`` for each validator."""

    total_connections: str
    verified_connections: str


class Axon(Protocol):
    """Anything with a miner's hotkey and address as attributes, such as an ``AxonInfo`` of the official SDK 10."""

    @property
    def hotkey(self) -> str: ...
    @property
    def ip(self) -> str: ...
    @property
    def port(self) -> int: ...


class _NeuronWithAxon(Protocol):
    """A ``MetagraphNeuron`` of the official SDK 11."""

    @property
    def hotkey(self) -> str: ...
    @property
    def axon(self) -> str | None: ...


class _NeuronWithAxonInfo(Protocol):
    """A ``NeuronInfo`` or ``NeuronInfoLite`` of the official SDK 10."""

    @property
    def hotkey(self) -> str: ...
    @property
    def axon_info(self) -> Any: ...


class _NeuronWithRecord(Protocol):
    """A ``Neuron`` of the official SDK 11."""

    @property
    def hotkey(self) -> str: ...
    @property
    def raw(self) -> dict[str, Any]: ...


class _MetagraphOfNeurons(Protocol):
    """A ``Metagraph`` of the official SDK, 10 or 11."""

    @property
    def neurons(self) -> Sequence[Any]: ...


class _MetagraphOfColumns(Protocol):
    """A ``MetagraphInfo`` of the official SDK 10."""

    @property
    def hotkeys(self) -> Sequence[str]: ...
    @property
    def axons(self) -> Sequence[Any]: ...


#: A miner with its address.
MinerAddress = Union[
    AxonInfo,
    QuicAxonInfo,
    Axon,
    _NeuronWithAxon,
    _NeuronWithAxonInfo,
    _NeuronWithRecord,
    NeuronInfo,
    Mapping[str, Any],
]
#: A miner: with its address, or by its hotkey alone if the client knows where it is.
Miner = Union[str, MinerAddress]
#: A metagraph of ours, or of the official SDK, version 10 or 11.
MetagraphLike = Union[_MetagraphOfNeurons, _MetagraphOfColumns]


@dataclass(frozen=True)
class Reply(Generic[T]):
    """A miner's answer."""

    data: T
    #: Who answered, as its handshake has proven.
    hotkey: str
    #: Where the time went, in seconds. Score a miner by ``timings.last_byte``.
    timings: Timings


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What came of asking one miner among many: a reply, or the exception that asking it alone would have raised."""

    hotkey: str
    reply: Reply[T] | None
    error: LightningError | None

    @property
    def ok(self) -> bool:
        """Whether there is a reply."""
        return self.reply is not None

    def result(self) -> Reply[T]:
        """The reply; raises the error where there is none."""
        if self.reply is None:
            raise self.error or LightningError("no answer")
        return self.reply

    @property
    def data(self) -> T:
        """The reply's data; raises the error where there is none."""
        return self.result().data

    @property
    def timings(self) -> Timings:
        """The reply's timings; raises the error where there is none."""
        return self.result().timings
