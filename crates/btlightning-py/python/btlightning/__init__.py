"""QUIC transport for Bittensor: one authenticated, encrypted, persistent connection per validator and miner."""

from __future__ import annotations

import atexit

from . import _native
from ._aio_client import AsyncLightning
from ._aio_server import AsyncLightningServer
from ._client import Lightning, RustLightning
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
)
from ._logging import refresh_log_level
from ._native import Caller, Peer, QuicAxonInfo, Timings
from ._server import LightningServer, RustLightningServer
from ._server_base import ServerOptions
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
