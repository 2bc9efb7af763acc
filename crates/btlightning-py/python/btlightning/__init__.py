"""QUIC transport for Bittensor: one authenticated, encrypted, persistent connection per validator and miner."""

from __future__ import annotations

import atexit

from . import _native

__version__ = _native.__version__

atexit.register(_native.shutdown)
