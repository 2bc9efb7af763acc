"""The extension module. Programs import ``btlightning``."""

# Long because one module has one stub file.

from asyncio import Future
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, ClassVar, final

from ._types import ClientConnectionStats, SynapseResponse

__version__: str

# process

def forked() -> None: ...
def shutdown() -> None: ...

# bridge

@final
class Bridge:
    def __new__(cls) -> Bridge: ...
    def fileno(self) -> int | None: ...
    def run(self) -> None: ...
    def wait(self) -> bool: ...
    def close(self) -> None: ...

@final
class Pending:
    def cancel(self) -> None: ...

# values

@final
class Ext:
    """A MessagePack extension value. Immutable; equal to another with the same code and data."""

    __match_args__: ClassVar[tuple[str, str]]
    def __new__(cls, code: int, data: bytes | bytearray | memoryview) -> Ext: ...
    @property
    def code(self) -> int:
        """The application's number for the type, from -128 to 127; MessagePack has taken the negative ones for itself."""
    @property
    def data(self) -> bytes:
        """What the application has put into it."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getnewargs__(self) -> tuple[int, bytes]: ...

def encode_payload(data: object) -> bytes: ...
def decode_payload(payload: bytes) -> dict[str, Any]: ...

# client

_Way = tuple[Bridge, Future[Any]]

@final
class QuicAxonInfo:
    """A miner as the chain lists it. Its fields may be changed, as those of the published class."""

    def __new__(cls, hotkey: str, ip: str, port: int, protocol: int = 4) -> QuicAxonInfo: ...
    @property
    def hotkey(self) -> str:
        """The miner's hotkey, in SS58."""
    @hotkey.setter
    def hotkey(self, value: str) -> None: ...
    @property
    def ip(self) -> str:
        """Its IP address, IPv4 or IPv6. Names are not looked up."""
    @ip.setter
    def ip(self, value: str) -> None: ...
    @property
    def port(self) -> int:
        """Its UDP port."""
    @port.setter
    def port(self, value: int) -> None: ...
    @property
    def protocol(self) -> int:
        """The protocol number that it announces; 4 is QUIC, and the default. Not looked at when dialling."""
    @protocol.setter
    def protocol(self, value: int) -> None: ...

@final
class Timings:
    """Where the time of a call went, in seconds. ``waited`` and ``sent`` are this validator's own and the path's;
    ``first_byte`` and ``last_byte`` are counted from the moment the request had gone out."""

    @property
    def waited(self) -> float:
        """How long the call waited for a connection and for a stream on it, before anything was sent."""
    @property
    def sent(self) -> float:
        """From then until QUIC had taken the whole request: next to nothing for a small one; for a large one as long as its
        turn on a busy connection and the peer's flow control took."""
    @property
    def first_byte(self) -> float:
        """From then until the first byte of the answer was read."""
    @property
    def last_byte(self) -> float:
        """From the same moment until the last byte of the answer was read; of a stream, of its last chunk so far. Score a
        miner by this figure. What is in it beside the miner's work: the path there and back (``path_rtt``), and, of a
        request larger than the path takes at once, its last bytes' way."""
    @property
    def path_rtt(self) -> float:
        """The path's round-trip time of late, as QUIC has measured and smoothed it. Includes what packets have to wait at
        either end."""
    @property
    def path_rtt_min(self) -> float:
        """The shortest round trip that the path has made: its length, with nobody waiting."""

@final
class Peer:
    """One miner, and how things stood with it when this was made. Times are in seconds."""

    @property
    def hotkey(self) -> str:
        """The miner's hotkey, in SS58."""
    @property
    def address(self) -> str:
        """Where it is, as ``ip:port``."""
    @property
    def state(self) -> str:
        """``connecting``: a dial is under way, and queries wait for it. ``connected``: the hotkey is proven on a live
        connection. ``backing_off``: the last dial failed, or the connection was lost. ``refused``: the peer refused this
        validator, or is not who it should be. ``closed``: it is no longer wanted, or the client was closed."""
    @property
    def connected(self) -> bool:
        """Whether a query would be sent at once."""
    @property
    def connected_for(self) -> float | None:
        """How long it had been connected; ``None`` if it was not."""
    @property
    def path_rtt(self) -> float | None:
        """The path's round-trip time, as QUIC has measured it; ``None`` if it was not connected."""
    @property
    def failures(self) -> int:
        """How many dials have failed since the last connection."""
    @property
    def retry_in(self) -> float | None:
        """In how long the next dial was due. ``None``: not before the miner is named again, or one was under way."""
    @property
    def reason(self) -> str | None:
        """Why there was no connection, as one stable word; ``None`` unless ``backing_off`` or ``refused``."""
    @property
    def detail(self) -> str | None:
        """The same in a sentence, or ``None``."""

# Called with `on`, these hand out a `Pending`, and the outcome goes to the future; the types are those without.

@final
class PeerChanges:
    def next(self, timeout: float | None = None, on: _Way | None = None) -> Peer | int | None: ...

@final
class ChunkStream:
    @property
    def timings(self) -> Timings | None: ...
    def next(self, on: _Way | None = None) -> bytes | None: ...
    def close(self) -> None: ...

@final
class FanOut:
    def next(
        self, on: _Way | None = None
    ) -> list[tuple[str, dict[str, Any] | None, Timings | None, Exception | None]]: ...
    def close(self) -> None: ...

@final
class Client:
    def __new__(cls, wallet_hotkey: str, options: dict[str, Any]) -> Client: ...
    def set_signer(self, signer: object) -> None: ...
    def open(self) -> None: ...
    def connect(self, miners: Iterable[object], on: _Way | None = None) -> None: ...
    def update(self, miners: Iterable[object], on: _Way | None = None) -> None: ...
    def pin_tls_keys(self, pins: dict[str, str]) -> None: ...
    def follow(self, miners: Iterable[object]) -> None: ...
    def query(
        self,
        miner: object,
        synapse_type: str,
        data: object,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
        on: _Way | None = None,
    ) -> tuple[dict[str, Any], str, Timings]: ...
    def query_axon(
        self, axon_info: object, request: object, timeout_secs: float | None = None
    ) -> SynapseResponse: ...
    def query_axon_stream(self, axon_info: object, request: object) -> ChunkStream: ...
    def stream(
        self,
        miner: object,
        synapse_type: str,
        data: object,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
        stream_timeout: float | None = None,
        on: _Way | None = None,
    ) -> ChunkStream: ...
    def fan_out(
        self,
        miners: Iterable[object],
        synapse_type: str,
        data: object,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        answer_bytes_max: int | None = None,
    ) -> FanOut: ...
    def peers(self) -> list[Peer]: ...
    def peer(self, hotkey: str) -> Peer | None: ...
    def peer_changes(self) -> PeerChanges: ...
    def stats(self, on: _Way | None = None) -> ClientConnectionStats: ...
    def close(self, on: _Way | None = None) -> None: ...

# server

@final
class Caller:
    def __new__(
        cls,
        hotkey: str,
        address: tuple[str, int] = ...,
        *,
        connection: int = 0,
        synapse_type: str = ...,
        received_at: float | None = None,
        deadline: float | None = None,
    ) -> Caller: ...
    @property
    def hotkey(self) -> str: ...
    @property
    def address(self) -> tuple[str, int]: ...
    @property
    def connection(self) -> int: ...
    @property
    def synapse_type(self) -> str: ...
    @property
    def received_at(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def remaining(self) -> float: ...

@final
class HandlerThreads:
    def wanted(self) -> int: ...
    def refused(self, threads: int) -> None: ...
    def enter(self) -> HandlerThread | None: ...
    def counts(self) -> dict[str, int]: ...

@final
class HandlerThread:
    def take(self) -> Request | None: ...

@final
class Request:
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def function(self) -> Callable[..., Any]: ...
    @property
    def is_wanted(self) -> bool: ...
    def arguments(self) -> tuple[Any, ...]: ...
    def answer(self, answer: object) -> None: ...
    def try_send(self, chunk: object) -> bool: ...
    def send(self, chunk: object, on: _Way | None = None) -> bool: ...
    def fail(self, words: str) -> None: ...

@final
class Server:
    def __new__(cls, miner_hotkey: str, host: str, port: int, options: dict[str, Any]) -> Server: ...
    def sign_with(self, signer: object) -> None: ...
    def register(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        wants_caller: bool,
        in_loop: bool,
        streams: bool,
    ) -> None: ...
    def unregister(self, name: str) -> bool: ...
    def observe_handshakes(self, function: Callable[[str, str], Any], *, in_loop: bool) -> None: ...
    def resolve_permits_with(self, function: Callable[[], Any], *, in_loop: bool) -> None: ...
    def resolve_sources_with(self, function: Callable[[], Any], *, in_loop: bool) -> None: ...
    def resolve_permits_by(self, watch: MetagraphWatch, min_stake: int) -> None: ...
    def learn_sources(
        self,
        watch: MetagraphWatch,
        min_stake: int,
        path: str | None,
        options: dict[str, Any],
        *,
        on: _Way | None = None,
    ) -> LearnedSources: ...
    def keep_tls_key_in(self, path: str) -> None: ...
    def tls_key_pin(self) -> str | None: ...
    def publish(
        self,
        chain: Chain,
        netuid: int,
        axon: tuple[str, int] | None,
        rate_limit_wait: timedelta,
        inclusion_timeout: timedelta,
        finalized: bool,
        *,
        on: _Way | None = None,
    ) -> int | None: ...
    def start(self, *, on: _Way | None = None) -> None: ...
    def open_threads(self, threads_max: int) -> HandlerThreads: ...
    def open_tasks(
        self, bridge: Bridge, begin: Callable[[int, Request], None], cancel: Callable[[int], None]
    ) -> None: ...
    def serve(self, *, on: _Way | None = None) -> None: ...
    def serve_in_background(self) -> None: ...
    def stop(self, *, on: _Way | None = None) -> None: ...
    def local_addr(self) -> tuple[str, int]: ...
    def connection_stats(self) -> dict[str, str]: ...
    def cleanup_stale_connections(self, max_idle_seconds: int) -> None: ...
    def cleanup_expired_nonces(self) -> None: ...
    def active_nonce_count(self) -> int: ...
    def permitted_validator_count(self) -> int: ...
    def allowed_source_count(self) -> int: ...
    def is_source_enforcement_bypassed(self) -> bool: ...

@final
class LearnedSources:
    """A source allowlist that learns where permitted validators come from."""

    def status(self) -> LearnedSourcesStatus:
        """How things stand. Nothing is computed for it."""
    def entries(self) -> list[SourceEntry]:
        """Every address that is noted, ordered by hotkey."""

@final
class LearnedSourcesStatus:
    """How things stood with a learned allowlist when this was made. Counts are since the list was made."""

    @property
    def mode(self) -> str:
        """Who passes, where the list is enforced: ``learning``, everybody; ``enforcing``, known addresses and a few visitors."""
    @property
    def reason(self) -> str:
        """Why, in a sentence."""
    @property
    def coverage(self) -> float:
        """The share of permitted stake whose address is known, from 0 to 1."""
    @property
    def permitted_hotkeys(self) -> int:
        """Hotkeys that hold a permit."""
    @property
    def known_hotkeys(self) -> int:
        """How many of them have an address that counts."""
    @property
    def addresses(self) -> int:
        """Addresses that count, each once."""
    @property
    def permits_age(self) -> float | None:
        """How many seconds ago it was last said who holds a permit; ``None`` if never."""
    @property
    def visitors_admitted(self) -> int:
        """Attempts from unknown addresses that were let in to authenticate."""
    @property
    def visitors_turned_away(self) -> int:
        """Attempts from unknown addresses that had shown to be real, and were dropped because there were too many."""
    @property
    def attempts_dropped(self) -> int:
        """Attempts from unknown addresses that may have been forged, and were dropped without a packet."""
    @property
    def last_saved(self) -> float | None:
        """When the list was last written to its file, in Unix seconds; ``None`` if it was not yet, or has none."""
    @property
    def last_error(self) -> str | None:
        """Why the file could not be used or written; ``None`` once it is written."""

@final
class SourceEntry:
    """An address that a validator was seen at."""

    @property
    def hotkey(self) -> str:
        """The validator's hotkey, in SS58."""
    @property
    def ip(self) -> str:
        """The address."""
    @property
    def first_seen(self) -> int:
        """When it was first seen there, in Unix seconds."""
    @property
    def last_seen(self) -> int:
        """When it was last seen there, in Unix seconds."""
    @property
    def is_allowed(self) -> bool:
        """Whether the hotkey holds a permit and was seen there of late: enforced, the list lets the address in."""

# chain

@final
class NeuronInfo:
    """A neuron of a subnet as the chain has it. Its axon is what its owner announced, true or not."""

    @property
    def uid(self) -> int:
        """Its number in the subnet. It passes to another hotkey when this one is deregistered."""
    @property
    def hotkey(self) -> str:
        """The hotkey, in SS58."""
    @property
    def stake(self) -> int:
        """The hotkey's stake in the subnet, in rao of the subnet's alpha, not TAO."""
    @property
    def is_active(self) -> bool:
        """Whether it set weights lately. Miners that set none are not active, however well they serve."""
    @property
    def axon_ip(self) -> str:
        """The IP address it announced; ``0.0.0.0`` if none."""
    @property
    def axon_port(self) -> int:
        """The port it announced; 0 if none."""
    @property
    def axon_protocol(self) -> int:
        """The protocol number it announced. 4 is QUIC, and also what the official tools announce for plain HTTP."""
    @property
    def validator_permit(self) -> bool:
        """Whether it may validate."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class ChainStatus:
    """How things stood with a chain's nodes when this was made."""

    @property
    def endpoint(self) -> str | None:
        """The node in use, without what may be a secret in its URL; ``None`` if none is connected."""
    @property
    def connected_for(self) -> float | None:
        """For how many seconds it was in use."""
    @property
    def answered_ago(self) -> float | None:
        """How many seconds ago something was last read."""
    @property
    def failures(self) -> int:
        """How many times a node failed since."""
    @property
    def last_error(self) -> str | None:
        """What the last failure was, in a sentence; kept when things go well again."""
    @property
    def genesis(self) -> str | None:
        """Genesis hash of the chain, in hexadecimal, once a node has said it."""

@final
class MetagraphStatus:
    """How old a metagraph that is followed was when this was made, and why there was no newer one."""

    @property
    def age(self) -> float | None:
        """How many seconds ago it was read; ``None`` before the first time."""
    @property
    def block(self) -> int | None:
        """The block that was read then."""
    @property
    def neurons(self) -> int:
        """How many neurons it had."""
    @property
    def failures(self) -> int:
        """How many reads have failed since."""
    @property
    def last_error(self) -> str | None:
        """Why the last one that failed did, in a sentence; kept when things go well again."""
    @property
    def endpoint(self) -> str | None:
        """The node in use, without what may be a secret in its URL; ``None`` if none is connected."""

@final
class Chain:
    def __new__(
        cls, network: str | None, connect_timeout: timedelta | None, call_timeout: timedelta | None
    ) -> Chain: ...
    @property
    def network(self) -> str: ...
    @property
    def endpoints(self) -> list[str]: ...
    @property
    def is_local(self) -> bool: ...
    def is_mainnet(self) -> bool: ...
    def status(self) -> ChainStatus: ...
    def metagraph(self, netuid: int, on: _Way | None = None) -> tuple[int, float, list[NeuronInfo]]: ...
    def tls_key_pins(self, netuid: int, on: _Way | None = None) -> dict[str, str]: ...

@final
class MetagraphWatch:
    def __new__(cls, chain: Chain, netuid: int, interval: timedelta) -> MetagraphWatch: ...
    def next(self, on: _Way | None = None) -> tuple[int, float, list[NeuronInfo]] | None: ...
    def latest(self) -> tuple[int, float, list[NeuronInfo]] | None: ...
    def refresh(self) -> None: ...
    def close(self) -> None: ...
    def status(self) -> MetagraphStatus | None: ...

def is_valid_ip(ip: str) -> bool: ...

# signers

@final
class SignerThread:
    def take(self) -> tuple[Callable[[bytes], Any], bytes, Signature] | None: ...

@final
class Signature:
    def made(self, returned: object) -> None: ...
    def failed(self, words: str) -> None: ...

def hotkey_of_seed(seed: bytes) -> str: ...
def sign(signer: bytes | Callable[[bytes], bytes], message: bytes) -> bytes: ...

# logging

LOGGERS: tuple[str, ...]

def log_lines() -> list[tuple[str, int, float, str, str, int, str]] | None: ...
def set_log_levels(levels: Sequence[int]) -> None: ...
