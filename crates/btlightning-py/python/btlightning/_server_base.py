"""What both servers have in common: all that does not wait."""

from __future__ import annotations

import operator
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypedDict, TypeVar, Union, cast

from . import _native, _signers
from ._calls import Failures
from ._chain import SubnetPermits
from ._errors import ConfigError
from ._handlers import describe, is_async
from ._types import IoThreads, Seed, ServerConnectionStats
from ._workers import start_threads

F = TypeVar("F", bound=Callable[..., Any])

PermitResolver = Callable[[], Union[Iterable[str], Awaitable[Iterable[str]]]]
SourceResolver = Callable[[], Union[Iterable[object], None, Awaitable[Union[Iterable[object], None]]]]

#: The most threads that handlers run on, unless the server is told otherwise.
HANDLER_THREADS = 256


class ServerOptions(TypedDict, total=False):
    """The settings of a server. Times are in seconds; what is left out, or ``None``, has the default.

    ========================================= ========= ==================================================================
    ``max_signature_age_secs``                      300  the age at which a handshake's signature is refused; 3600 at most
    ``idle_timeout_secs``                           150  after so long a silence a connection is dead
    ``keep_alive_interval_secs``                     30  after so long a silence a packet is sent; below the former
    ``nonce_cleanup_interval_secs``                  60  how often spent nonces are dropped
    ``max_connections``                             128  the most authenticated connections
    ``max_nonce_entries``                        100000  the most nonces remembered; full, handshakes are refused
    ``handshake_timeout_secs``                       10  how long a connection may live without having authenticated
    ``max_handshake_attempts_per_minute``            30  the most handshakes from one IP address
    ``max_concurrent_bidi_streams``                 128  the most requests of one connection in flight
    ``require_validator_permit``                  False  whether only those that the permit resolver names may come in
    ``validator_permit_refresh_secs``              1800  how often the permit resolver is asked
    ``max_tracked_rate_ips``                      10000  how many addresses the limiter of handshakes tells apart
    ``handler_timeout_secs``                         30  how long a handler may take; below ``idle_timeout_secs``
    ``max_frame_payload_bytes``                  64 MiB  the largest request or answer; 1 MiB at least
    ``streaming_channel_buffer``                     32  how many chunks a streaming handler may be ahead of the network
    ``enforce_source_allowlist``                  False  whether only addresses that the source resolver names may connect
    ``source_allowlist_refresh_secs``               300  how often the source resolver is asked
    ``require_address_validation``                 True  whether a peer has to show first that its address is its own
    ``max_unauthenticated_connections``             256  the most connections that have not authenticated
    ``max_unauthenticated_connections_per_ip``       16  the same from one IP address
    ``max_connections_per_hotkey``                    4  the most connections of one validator; a newer one replaces the oldest
    ``max_connections_per_ip``                a quarter  the most connections of hotkeys without a permit from one IP address
    ``shutdown_grace_secs``                           5  how long a stop lets answers in flight finish
    ``io_threads``                               "auto"  the threads that move packets; see below
    ========================================= ========= ==================================================================

    A value out of its bounds is a :class:`ConfigError`. ``max_concurrent_bidi_streams`` and ``max_frame_payload_bytes``
    bound the memory that a validator can make a server hold: lower them to what the handlers need.

    ``max_connections_per_ip`` is a quarter of ``max_connections``, or 32 if that is more; it does not bind loopback addresses.
    When all places are taken, a hotkey with a permit is given the place of one without.

    ``io_threads`` is ``"shared"``, for one thread that all such servers of the process share, or from 1 to 64 threads of the
    server's own, over which its connections are spread: for many validators or large answers, where there are several cores
    to spare. ``"auto"`` is ``"shared"``. Rust's ``Current``, the runtime of the program, is not offered: a Python program has
    none, as the runtime under a server is the package's own.
    """

    max_signature_age_secs: int | None
    idle_timeout_secs: int | None
    keep_alive_interval_secs: int | None
    nonce_cleanup_interval_secs: int | None
    max_connections: int | None
    max_nonce_entries: int | None
    handshake_timeout_secs: int | None
    max_handshake_attempts_per_minute: int | None
    max_concurrent_bidi_streams: int | None
    require_validator_permit: bool | None
    validator_permit_refresh_secs: int | None
    max_tracked_rate_ips: int | None
    handler_timeout_secs: int | None
    max_frame_payload_bytes: int | None
    streaming_channel_buffer: int | None
    enforce_source_allowlist: bool | None
    source_allowlist_refresh_secs: int | None
    require_address_validation: bool | None
    max_unauthenticated_connections: int | None
    max_unauthenticated_connections_per_ip: int | None
    max_connections_per_hotkey: int | None
    max_connections_per_ip: int | None
    shutdown_grace_secs: int | None
    io_threads: IoThreads


class ServerBase:
    """A miner. See :class:`LightningServer` and :class:`AsyncLightningServer`."""

    def __init__(
        self,
        miner_hotkey: str | None,
        host: str,
        port: int,
        signer: object,
        handler_threads: int,
        options: Mapping[str, Any],
    ) -> None:
        key: object = None
        if signer is not None:
            key, hotkey = _signers.resolve(signer)
            if miner_hotkey is None:
                miner_hotkey = hotkey
        if miner_hotkey is None:
            raise ConfigError(
                "whose server is it? give miner_hotkey, or a signer that has a hotkey", reason="config"
            )
        try:
            handler_threads = operator.index(handler_threads)
        except TypeError:
            raise TypeError(f"handler_threads is an int, not {type(handler_threads).__qualname__}") from None
        if not 1 <= handler_threads <= sys.maxsize:
            raise ConfigError(f"handler_threads must be from 1 to {sys.maxsize}", reason="config")
        #: The miner's hotkey, in SS58.
        self.hotkey: str = miner_hotkey
        self._port = port
        self._native = _native.Server(miner_hotkey, host, port, dict(options))
        if key is not None:
            self._native.sign_with(key)
        self._handler_threads = handler_threads
        self._failures = Failures()
        # Guards the following. A signal handler may stop the server while its thread holds the lock.
        self._lock = threading.RLock()
        self._is_running = False
        self._has_threads = False
        self._needs_threads = False
        self._needs_loop = False

    # Keys.

    def set_signer(self, signer: object) -> None:
        """Signs with ``signer`` from now on: a seed of 32 bytes, a callable that signs bytes, or a wallet or key pair of
        the official packages as it is. Raises :class:`ConfigError` for anything else, and :class:`SigningError`."""
        self._native.sign_with(_signers.resolve(signer)[0])

    def set_miner_keypair(self, keypair_seed: Seed) -> None:
        """Signs with the key pair of this 32-byte seed."""
        self._native.sign_with(_signers.seed_bytes(keypair_seed))

    def set_python_signer(self, signer_callback: Callable[[bytes], bytes]) -> None:
        """Signs by calling ``signer_callback`` with the bytes to sign; it returns the 64 bytes of the signature."""
        self._native.sign_with(signer_callback)

    def set_miner_wallet(
        self,
        wallet_name: str = "default",
        wallet_path: str = "~/.bittensor/wallets",
        hotkey_name: str = "default",
    ) -> None:
        """Signs with the hotkey in ``wallet_path/wallet_name/hotkeys/hotkey_name``; raises :class:`SigningError`."""
        self.set_signer(_signers.from_wallet_files(wallet_name, wallet_path, hotkey_name))

    def set_tls_key_file(self, path: str | os.PathLike[str]) -> None:
        """Keeps the TLS key in a file, so that clients can know it in advance; without one, each start has a new key.

        Read at each start, as an ECDSA key on P-256 in PEM (PKCS#8). If it is not there, the start makes it, readable by its
        owner alone; its directory must exist.
        """
        self._native.keep_tls_key_in(os.fspath(path))

    @property
    def tls_key_pin(self) -> str | None:
        """The pin of the TLS key, 64 hexadecimal digits; ``None`` before the first start, and without a key file."""
        return self._native.tls_key_pin()

    # Handlers.

    def handler(self, synapse_type: str, *, streams: bool | None = None) -> Callable[[F], F]:
        """Registers the function below it; see :meth:`register`.

        >>> @server.handler("Ask")
        ... def ask(data: dict[str, Any], caller: Caller) -> dict[str, Any]:
        ...     return {"answer": f"you are {caller.hotkey}"}
        """
        if not isinstance(synapse_type, str):
            raise TypeError(f'@server.handler("Name") takes the name of a request, not {synapse_type!r}')

        def registered(function: F) -> F:
            self.register(synapse_type, function, streams=streams)
            return function

        return registered

    def register(
        self, synapse_type: str, function: Callable[..., Any], *, streams: bool | None = None
    ) -> None:
        """Answers requests named ``synapse_type`` with ``function`` from now on, also while the server runs.

        ``function(request)`` gets the request's dict; or, if its first parameter is annotated with a dataclass or a
        pydantic model, one of these. It returns a mapping with string keys, a dataclass instance or a model.

        ``function(request, caller)`` is told who calls: if its second parameter has no default, or is named ``caller``, or
        is annotated :class:`Caller`.

        A generator function answers in chunks of ``bytes``, ``bytearray`` or ``memoryview``, and is held back while the
        caller reads slowly; so does, with ``streams=True``, any function that returns an iterable of chunks. When the
        caller leaves, or ``handler_timeout_secs`` is over, a generator is closed at its next chunk.

        A plain function runs on one of up to ``handler_threads`` threads, where it may block. An ``async def`` runs in the
        event loop of :class:`AsyncLightningServer`, or in one that :class:`LightningServer` keeps for it; it is cancelled
        when the caller leaves or the time is up. A plain function then runs on, and its answer is dropped.

        A function that raises, or returns what cannot be sent, fails its request: the caller reads ``request processing
        failed``, of a stream ``stream processing failed``, and the logger ``btlightning.server`` says why.
        """
        handler = describe(function, streams)
        self._native.register(
            synapse_type,
            handler.function,
            wants_caller=handler.wants_caller,
            in_loop=handler.in_loop,
            streams=handler.streams,
        )
        self._need(handler.in_loop)

    def unregister(self, synapse_type: str) -> bool:
        """Answers no more requests named ``synapse_type``: their callers read ``unrecognized synapse type``. Says whether
        it did before."""
        return self._native.unregister(synapse_type)

    def register_synapse_handler(self, synapse_type: str, handler: Callable[..., Any]) -> None:
        """As :meth:`register`, of a function that answers at once."""
        self.register(synapse_type, handler, streams=False)

    def register_streaming_handler(self, synapse_type: str, handler: Callable[..., Any]) -> None:
        """As :meth:`register`, of a function that returns or yields chunks."""
        self.register(synapse_type, handler, streams=True)

    # Who may come in.

    def set_validator_permit_resolver(self, resolver_callback: PermitResolver | SubnetPermits) -> None:
        """Asks ``resolver_callback`` for the hotkeys of all validators that hold a permit: when the server begins to serve,
        and every ``validator_permit_refresh_secs``. It is a function, which may block, or an ``async def``, and runs as
        handlers do. What it raises is logged, and the last answer stays in force. Without ``require_validator_permit`` the
        answer is only counted.

        A :class:`SubnetPermits` is asked without Python, and after every read of the chain."""
        if isinstance(resolver_callback, SubnetPermits):
            self._native.resolve_permits_by(resolver_callback.watch, resolver_callback.min_stake)
            return
        in_loop = _of_function(resolver_callback)
        self._native.resolve_permits_with(resolver_callback, in_loop=in_loop)
        self._need(in_loop)

    def set_source_address_resolver(self, resolver_callback: SourceResolver) -> None:
        """Asks ``resolver_callback`` which IP addresses may connect: ``str`` or objects of ``ipaddress``; ``None`` stands for
        all. Asked when the server begins to serve, and every ``source_allowlist_refresh_secs``; see
        :meth:`set_validator_permit_resolver`. Before its first answer nobody may connect. Without
        ``enforce_source_allowlist`` the answer is only counted."""
        in_loop = _of_function(resolver_callback)
        self._native.resolve_sources_with(resolver_callback, in_loop=in_loop)
        self._need(in_loop)

    def set_handshake_observer(self, observer: Callable[[str, str], Any]) -> None:
        """Calls ``observer(hotkey, ip)`` after each accepted handshake; a function or an ``async def``, run as handlers are.
        No connection waits for it. While 64 calls run, further handshakes go unobserved."""
        in_loop = _of_function(observer)
        self._native.observe_handshakes(observer, in_loop=in_loop)
        self._need(in_loop)

    # Figures.

    @property
    def local_addr(self) -> tuple[str, int]:
        """The IP address and port that the server listens on; after a stop, those it listened on. Raises
        :class:`ConfigError` before the start."""
        return self._native.local_addr()

    @property
    def port(self) -> int:
        """The port that the server listens on; before the start, the one that it was told."""
        try:
            return self._native.local_addr()[1]
        except ConfigError:
            return self._port

    def get_connection_stats(self) -> ServerConnectionStats:
        """Figures as text: ``total_connections`` and ``verified_connections``, both the number of authenticated connections,
        and for each validator ``connection_{hotkey}``, the name of its newest connection."""
        return cast(ServerConnectionStats, self._native.connection_stats())

    def cleanup_stale_connections(self, max_idle_seconds: int = 300) -> None:
        """Closes authenticated connections without a request in flight for longer than ``max_idle_seconds``."""
        self._native.cleanup_stale_connections(max_idle_seconds)

    def cleanup_expired_nonces(self) -> None:
        """Forgets spent nonces that can no longer be replayed. The server does so by itself, too."""
        self._native.cleanup_expired_nonces()

    def get_active_nonce_count(self) -> int:
        """How many spent nonces are remembered."""
        return self._native.active_nonce_count()

    def get_permitted_validator_count(self) -> int:
        """How many validators hold a permit, as the resolver last said."""
        return self._native.permitted_validator_count()

    def get_allowed_source_count(self) -> int:
        """How many addresses the resolver last named, or are enforced as learned; zero for all."""
        return self._native.allowed_source_count()

    def is_source_enforcement_bypassed(self) -> bool:
        """Whether all addresses may connect: the resolver last said so, or not enough of them are learned yet."""
        return self._native.is_source_enforcement_bypassed()

    # Where handlers run.

    def _need(self, in_loop: bool) -> None:
        with self._lock:
            if in_loop:
                self._needs_loop = True
            else:
                self._needs_threads = True
            if self._is_running:
                self._open_places()

    def _open_places(self) -> None:
        if self._needs_threads and not self._has_threads:
            start_threads(self._native.open_threads(self._handler_threads), self._failures)
            self._has_threads = True

    def _started(self) -> None:
        with self._lock:
            self._is_running = True
            self._has_threads = False
            self._open_places()

    def _stopping(self) -> None:
        with self._lock:
            self._is_running = False


def _of_function(function: Callable[..., Any]) -> bool:
    """Whether it runs in an event loop."""
    if not callable(function):
        raise TypeError(f"a function is expected, not {type(function).__qualname__}")
    return is_async(function)
