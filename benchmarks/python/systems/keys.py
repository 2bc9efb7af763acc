"""Seeds out of numbers: the same in every process, and no secrets."""

from __future__ import annotations


def miner_seed(index: int) -> bytes:
    """The sr25519 seed of server number ``index``."""
    return _seed(1, index)


def validator_seed(identity: int) -> bytes:
    """The sr25519 seed of a client."""
    return _seed(2, identity)


def _seed(role: int, number: int) -> bytes:
    return number.to_bytes(4, "little") + bytes([role]) * 28
