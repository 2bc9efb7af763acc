"""The lines between the driver and a peer."""

from __future__ import annotations

from typing import Any, TypedDict

#: A line from the driver: ``do`` says what.
Order = dict[str, Any]

#: A line to the driver.
Answer = dict[str, Any]


class ServerAt(TypedDict):
    """How the processes introduce a server to each other."""

    #: Where it listens, or where a relay to it does: ``127.0.0.1:1234``.
    addr: str
    #: What the system's client must know to trust it: a hotkey, or a certificate in PEM.
    key: str


class SkippedError(Exception):
    """The system has no notion of what was ordered."""


class UnavailableError(Exception):
    """The system cannot run here."""


def host_and_port(at: ServerAt) -> tuple[str, int]:
    """Where a server is, in two."""
    host, _, port = at["addr"].rpartition(":")
    return host, int(port)
