"""The miner's side for threads."""

from __future__ import annotations

import os
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _native
from ._chain import Network, Nodes, SubnetPermits
from ._errors import ClosedError, LightningError
from ._server_base import HANDLER_THREADS, ServerBase
from ._subnet import SourceRules, learning, publishing
from ._types import IoThreads
from ._workers import LoopThread

if TYPE_CHECKING:
    from typing_extensions import Self


class LightningServer(ServerBase):
    """A miner: answers validators' requests.

    >>> server = LightningServer(port=8443, signer=seed)
    >>> @server.handler("Ask")
    ... def ask(data):
    ...     return {"answer": data["question"]}
    >>> server.start()
    >>> server.serve_forever()

    Or as a context manager, which serves in the background while the block runs.

    ``miner_hotkey`` is in SS58, and may be left out where ``signer`` has one; see :meth:`set_signer` for what that may be.
    ``host`` is an IPv4 or IPv6 address, or ``localhost``; ``::`` serves IPv4 too where the system can. Port 0 picks a free
    one. ``handler_threads`` is the most threads that handlers run on; they are made as they are needed. The other settings
    are those of :class:`ServerOptions`. Raises :class:`ConfigError` for one that is out of its bounds.

    Any number of threads may use one server at once.
    """

    def __init__(
        self,
        miner_hotkey: str | None = None,
        host: str = "0.0.0.0",
        port: int = 8443,
        max_signature_age_secs: int | None = None,
        idle_timeout_secs: int | None = None,
        keep_alive_interval_secs: int | None = None,
        nonce_cleanup_interval_secs: int | None = None,
        max_nonce_entries: int | None = None,
        max_frame_payload_bytes: int | None = None,
        *,
        max_connections: int | None = None,
        handshake_timeout_secs: int | None = None,
        max_handshake_attempts_per_minute: int | None = None,
        max_concurrent_bidi_streams: int | None = None,
        require_validator_permit: bool | None = None,
        validator_permit_refresh_secs: int | None = None,
        max_tracked_rate_ips: int | None = None,
        handler_timeout_secs: int | None = None,
        streaming_channel_buffer: int | None = None,
        enforce_source_allowlist: bool | None = None,
        source_allowlist_refresh_secs: int | None = None,
        require_address_validation: bool | None = None,
        max_unauthenticated_connections: int | None = None,
        max_unauthenticated_connections_per_ip: int | None = None,
        max_connections_per_hotkey: int | None = None,
        max_connections_per_ip: int | None = None,
        shutdown_grace_secs: int | None = None,
        io_threads: IoThreads = None,
        signer: object = None,
        handler_threads: int = HANDLER_THREADS,
    ) -> None:
        options: dict[str, Any] = {
            "max_signature_age_secs": max_signature_age_secs,
            "idle_timeout_secs": idle_timeout_secs,
            "keep_alive_interval_secs": keep_alive_interval_secs,
            "nonce_cleanup_interval_secs": nonce_cleanup_interval_secs,
            "max_nonce_entries": max_nonce_entries,
            "max_frame_payload_bytes": max_frame_payload_bytes,
            "max_connections": max_connections,
            "handshake_timeout_secs": handshake_timeout_secs,
            "max_handshake_attempts_per_minute": max_handshake_attempts_per_minute,
            "max_concurrent_bidi_streams": max_concurrent_bidi_streams,
            "require_validator_permit": require_validator_permit,
            "validator_permit_refresh_secs": validator_permit_refresh_secs,
            "max_tracked_rate_ips": max_tracked_rate_ips,
            "handler_timeout_secs": handler_timeout_secs,
            "streaming_channel_buffer": streaming_channel_buffer,
            "enforce_source_allowlist": enforce_source_allowlist,
            "source_allowlist_refresh_secs": source_allowlist_refresh_secs,
            "require_address_validation": require_address_validation,
            "max_unauthenticated_connections": max_unauthenticated_connections,
            "max_unauthenticated_connections_per_ip": max_unauthenticated_connections_per_ip,
            "max_connections_per_hotkey": max_connections_per_hotkey,
            "max_connections_per_ip": max_connections_per_ip,
            "shutdown_grace_secs": shutdown_grace_secs,
            "io_threads": io_threads,
        }
        super().__init__(miner_hotkey, host, port, signer, handler_threads, options)
        self._loop_thread: LoopThread | None = None
        self._dropped: weakref.finalize[..., LightningServer] | None = None

    def start(self) -> None:
        """Binds the socket; connections are accepted by :meth:`serve_forever`. Started again, the server gets a new socket,
        and what it served before is cut off.

        Raises :class:`ConfigError` when the host is no address, or the address cannot be bound. A port that this server has
        just been stopped on is waited for, up to 2 s.
        """
        try:
            self._native.start()
            self._started()
        except LightningError:
            raise  # nothing was bound
        except BaseException:
            self.stop()
            raise

    def serve_forever(self) -> None:
        """Accepts connections until the server is stopped, and the stop is complete. Where a permit or an allowed address is
        required, nobody is accepted before the resolver has answered for the first time.

        Ctrl-C, and whatever else a signal handler raises, stops the server and is raised. Raises :class:`ConfigError` before
        :meth:`start`, and when a resolver is missing.
        """
        try:
            self._native.serve()
        except ClosedError:
            return  # the interpreter exits
        except LightningError:
            raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops: nothing new is accepted, answers in flight may finish within ``shutdown_grace_secs``, then every connection
        is closed. Returns when that is done, at most 2 s after the grace; at once if the server does not run.

        May be called from any thread, from a signal handler and from a handler. A handler that calls it is waited for as
        any other: it takes the whole grace, and that handler's own answer is lost. The server may be started again.
        """
        self._stopping()
        with self._lock:
            loop_thread, self._loop_thread = self._loop_thread, None
            dropped, self._dropped = self._dropped, None
        if dropped is not None:
            dropped.detach()
        try:
            self._native.stop()
        finally:
            if loop_thread is not None:
                loop_thread.close()

    def learn_sources(
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
        :meth:`Chain.metagraph`, and :class:`ConfigError` for rules out of their bounds and for a directory that is not
        there.
        """
        return self._native.learn_sources(*learning(permits, path, rules))

    def publish_axon(
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
        :meth:`Chain.metagraph`.
        """
        axon = (ip, self.port if port is None else port)
        return self._native.publish(
            *publishing(netuid, network, axon, wait_for_rate_limit, inclusion_timeout, finalized)
        )

    def reset_axon(
        self,
        *,
        netuid: int,
        network: Network | Nodes = None,
        wait_for_rate_limit: float = 0.0,
        inclusion_timeout: float = 60.0,
        finalized: bool = False,
    ) -> int | None:
        """Says on the chain that this miner is nowhere any more. As :meth:`publish_axon`."""
        return self._native.publish(
            *publishing(netuid, network, None, wait_for_rate_limit, inclusion_timeout, finalized)
        )

    def __enter__(self) -> Self:
        self.start()
        try:
            self._native.serve_in_background()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _open_places(self) -> None:
        super()._open_places()
        if self._needs_loop and self._loop_thread is None:
            self._loop_thread = loop_thread = LoopThread(self._failures)
            way, tasks = loop_thread.open()
            # The thread must not outlive a server that is dropped without being stopped. Whoever drops it does not wait.
            self._dropped = weakref.finalize(self, loop_thread.end)
            self._dropped.atexit = False
            self._native.open_tasks(way, tasks.begin, tasks.cancel)


class RustLightningServer(LightningServer):
    """The server of btlightning 0.2 by its other name, with its order of arguments."""

    def __init__(
        self,
        miner_hotkey: str,
        host: str,
        port: int,
        max_signature_age_secs: int | None = None,
        idle_timeout_secs: int | None = None,
        keep_alive_interval_secs: int | None = None,
        nonce_cleanup_interval_secs: int | None = None,
        max_connections: int | None = None,
        max_nonce_entries: int | None = None,
        handshake_timeout_secs: int | None = None,
        max_handshake_attempts_per_minute: int | None = None,
        max_concurrent_bidi_streams: int | None = None,
        require_validator_permit: bool | None = None,
        validator_permit_refresh_secs: int | None = None,
        handler_timeout_secs: int | None = None,
        max_frame_payload_bytes: int | None = None,
    ) -> None:
        super().__init__(
            miner_hotkey,
            host,
            port,
            max_signature_age_secs,
            idle_timeout_secs,
            keep_alive_interval_secs,
            nonce_cleanup_interval_secs,
            max_nonce_entries,
            max_frame_payload_bytes,
            max_connections=max_connections,
            handshake_timeout_secs=handshake_timeout_secs,
            max_handshake_attempts_per_minute=max_handshake_attempts_per_minute,
            max_concurrent_bidi_streams=max_concurrent_bidi_streams,
            require_validator_permit=require_validator_permit,
            validator_permit_refresh_secs=validator_permit_refresh_secs,
            handler_timeout_secs=handler_timeout_secs,
        )
