"""What both clients have in common: their settings, and how answers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, Union

from . import _native, _signers, _typed
from ._errors import ConfigError, LightningError
from ._types import Answer, IoThreads, Reply

T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """The settings of a client. Times are in seconds; what is left out has the default.

    =================================== ========= ==========================================================
    ``connect_timeout_secs``                  10  the most that one dial may take
    ``idle_timeout_secs``                    150  after so long a silence a connection is dead
    ``keep_alive_interval_secs``              30  after so long a silence a packet is sent; below the former
    ``reconnect_initial_backoff_secs``         1  the pause after the first failed dial; it doubles from there
    ``reconnect_max_backoff_secs``            60  the longest pause between two dials
    ``reconnect_max_retries``                  5  how many failed dials in a row lead to slow probes
    ``reconnect_slow_probe_interval_secs``    60  the pause between slow probes; ``None``: no probes
    ``max_connections``                     1024  the most addresses that connections are held to
    ``max_frame_payload_bytes``           64 MiB  the largest request or answer; 1 MiB at least
    ``max_stream_payload_bytes``          64 MiB  the most bytes of all chunks of one streaming answer
    ``stream_chunk_timeout_secs``           None  the longest wait for each chunk; ``None``: as for a query
    ``stream_timeout_secs``                 1800  the most that a whole streaming answer may take
    ``query_timeout_secs``                   150  the most that a query without a timeout of its own may take
    ``io_threads``                        "auto"  the threads that move packets; see below
    =================================== ========= ==========================================================

    ``None`` is the default, but for ``reconnect_slow_probe_interval_secs``. A value out of its bounds is a
    :class:`ConfigError`.

    ``io_threads`` is ``"shared"``, for one thread that all such clients of the process share, or from 1 to 64 threads of the
    client's own, over which its connections are spread: for many miners or large answers, where there are several cores to
    spare. ``"auto"`` is ``"shared"``. Rust's ``Current``, the runtime of the program, is not offered: a Python program has
    none, as the runtime that calls wait on is the package's own.
    """

    connect_timeout_secs: float | None
    idle_timeout_secs: float | None
    keep_alive_interval_secs: float | None
    reconnect_initial_backoff_secs: float | None
    reconnect_max_backoff_secs: float | None
    reconnect_max_retries: int | None
    reconnect_slow_probe_interval_secs: float | None
    max_connections: int | None
    max_frame_payload_bytes: int | None
    max_stream_payload_bytes: int | None
    stream_chunk_timeout_secs: float | None
    stream_timeout_secs: float | None
    query_timeout_secs: float | None
    io_threads: IoThreads


#: What makes an answer's data what the caller wants; ``None`` where it stays a dict.
Reader = Union[Callable[[Mapping[str, Any]], Any], None]


def native_client(
    wallet_hotkey: str | None, signer: object, options: Mapping[str, Any]
) -> tuple[_native.Client, str]:
    """The native client for a hotkey, or for the hotkey of its signer; and that hotkey."""
    key: object = None
    if signer is not None:
        key, hotkey = _signers.resolve(signer)
        if wallet_hotkey is None:
            wallet_hotkey = hotkey
        elif hotkey is not None and hotkey != wallet_hotkey:
            raise ConfigError(f"the signer signs for {hotkey}, not for {wallet_hotkey}", reason="config")
    if wallet_hotkey is None:
        raise ConfigError(
            "whose client is it? give wallet_hotkey, or a signer that has a hotkey", reason="config"
        )
    given = {
        name: value
        for name, value in options.items()
        if value is not None or name == "reconnect_slow_probe_interval_secs"
    }
    client = _native.Client(wallet_hotkey, given)
    if key is not None:
        client.set_signer(key)
    return client, wallet_hotkey


def reader(returns: Any) -> Reader:
    """How an answer becomes a ``returns``. A type that no answer can have is a :class:`ConfigError` before anybody is asked."""
    return None if returns is None else _typed.converter(returns)


def reply(answer: tuple[dict[str, Any], str, _native.Timings], read: Reader) -> Reply[Any]:
    """A native answer as users have it."""
    data, hotkey, timings = answer
    return Reply(data if read is None else read(data), hotkey, timings)


def answer(
    native: tuple[str, dict[str, Any] | None, _native.Timings | None, Exception | None],
    read: Reader,
) -> Answer[Any]:
    """A native answer of a fan-out. One that does not fit what the caller wants is an error of its miner alone."""
    hotkey, data, timings, error = native
    if data is not None and timings is not None:
        try:
            return Answer(hotkey, reply((data, hotkey, timings), read), None)
        except LightningError as unfit:
            error = unfit
    if not isinstance(error, LightningError):
        error = LightningError(str(error))
    return Answer(hotkey, None, error)
