"""QUIC transport for Bittensor: one authenticated, encrypted, persistent connection per validator and miner."""

from __future__ import annotations

import atexit

from . import _native
from ._errors import (
    ClosedError,
    ConfigError,
    ForkError,
    HandlerError,
    HandshakeError,
    LightningConnectionError,
    LightningError,
    LightningTimeoutError,
    SerializationError,
    SigningError,
    StreamError,
    StreamTimeoutError,
    TransportError,
    UnsupportedTypeError,
    WalletError,
)
from ._logging import refresh_log_level
from ._native import Peer, QuicAxonInfo, Timings
from ._types import (
    Answer,
    AxonInfo,
    ClientConnectionStats,
    Reply,
    ServerConnectionStats,
    SynapseRequest,
    SynapseResponse,
)

__version__ = _native.__version__

#: Always true. Programs written for btlightning 0.2 ask.
LIGHTNING_AVAILABLE = True

atexit.register(_native.shutdown)
