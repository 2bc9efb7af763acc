"""What can go wrong, as exceptions.

Every class derives from :class:`LightningError` and from the builtin that btlightning 0.2 raised in its place, so both
``except LightningError`` and an existing ``except ConnectionError`` catch it.
"""

from __future__ import annotations

from typing import Final


class LightningError(Exception):
    """Anything that btlightning raises on its own account.

    ``reason`` is one stable word for metrics and logs (the words are those of ``CallError::reason`` in Rust).
    ``retryable`` says whether the same call may succeed later without anybody changing anything; after a lost connection
    or a timeout the miner may have done the work already, so retry only what may be done twice.
    """

    reason: str
    retryable: bool

    def __init__(self, message: str = "", reason: str = "error", retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


class LightningConnectionError(LightningError, ConnectionError):
    """There is no connection, or it was lost."""


class HandshakeError(LightningConnectionError):
    """The peer refused this validator, or is not who it should be."""


class TransportError(LightningConnectionError):
    """The exchange failed on an established connection."""


class LightningTimeoutError(LightningConnectionError, TimeoutError):
    """The time was up; ``reason`` says in which phase."""


class ConfigError(LightningError, ValueError):
    """A setting is out of its bounds."""


class SerializationError(LightningError, ValueError):
    """A value cannot be encoded or decoded."""


class UnsupportedTypeError(SerializationError, TypeError):
    """A value has a type that MessagePack has nothing for; the message names its key."""


class SigningError(LightningError, RuntimeError):
    """No signature could be made."""


class WalletError(SigningError, ConfigError):
    """A wallet has no sr25519 hotkey that can be used: it is not there, or it is locked."""


class HandlerError(LightningError, RuntimeError):
    """The miner answered that it failed."""


class StreamError(LightningError, RuntimeError):
    """A streaming answer failed."""


class StreamTimeoutError(StreamError, TimeoutError):
    """The next chunk of a streaming answer did not come in time."""


class ClosedError(LightningError, RuntimeError):
    """The object was closed, or the interpreter exits."""


class ForkError(LightningError, RuntimeError):
    """The process was forked from one that had used btlightning; nothing of it works in the child."""


def text_of(error: BaseException) -> str:
    """The exception's text, as UTF-8 can have it. Empty if there is none, or if it cannot be had: that runs others' code."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:
        return ""


#: How many characters of a text that may quote a peer are repeated in an exception or a log line.
_CHARACTERS_MAX: Final = 1000


def printable(text: str) -> str:
    """The beginning of a text that may quote a peer, as one line of what can be printed."""
    beginning = text[:_CHARACTERS_MAX]
    if not beginning.isprintable():
        beginning = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in beginning)
    return beginning if len(text) <= _CHARACTERS_MAX else f"{beginning}..."


def words_of(error: BaseException) -> str:
    """The exception's type and the beginning of its text, as the last line of a traceback has them."""
    text = printable(text_of(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
