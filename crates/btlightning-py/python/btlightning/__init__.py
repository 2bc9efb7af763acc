"""QUIC transport for Bittensor: one authenticated, encrypted, persistent connection per validator and miner.

A validator is a :class:`Lightning`, or with asyncio an :class:`AsyncLightning`: it holds a connection to each of many miners
and asks them things. A miner is a :class:`LightningServer` or an :class:`AsyncLightningServer`: it answers. Both are known by
their sr25519 hotkeys. Programs written for btlightning 0.2 run unchanged.
"""

from __future__ import annotations

import atexit
import os

from . import _native
from ._aio_client import AsyncAnswers, AsyncLightning, AsyncStream
from ._aio_server import AsyncLightningServer
from ._chain import AsyncChain, Chain, Metagraph, Network, SubnetPermits
from ._client import Answers, Lightning, RustLightning, Stream
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
from ._miners import miners_of
from ._native import (
    Caller,
    ChainStatus,
    Ext,
    LearnedSources,
    LearnedSourcesStatus,
    MetagraphStatus,
    NeuronInfo,
    Peer,
    QuicAxonInfo,
    SourceEntry,
    Timings,
    decode_payload,
    encode_payload,
    hotkey_of_seed,
    is_valid_ip,
)
from ._options import ClientOptions
from ._server import LightningServer, RustLightningServer
from ._server_base import ServerOptions
from ._subnet import SourceRules
from ._types import (
    Answer,
    AxonInfo,
    ClientConnectionStats,
    MetagraphLike,
    Miner,
    MinerAddress,
    Reply,
    ServerConnectionStats,
    SynapseRequest,
    SynapseResponse,
)

__all__ = [
    "LIGHTNING_AVAILABLE",
    "Answer",
    "Answers",
    "AsyncAnswers",
    "AsyncChain",
    "AsyncLightning",
    "AsyncLightningServer",
    "AsyncStream",
    "AxonInfo",
    "Caller",
    "Chain",
    "ChainStatus",
    "ClientConnectionStats",
    "ClientOptions",
    "ClosedError",
    "ConfigError",
    "Ext",
    "ForkError",
    "HandlerError",
    "HandshakeError",
    "LearnedSources",
    "LearnedSourcesStatus",
    "Lightning",
    "LightningConnectionError",
    "LightningError",
    "LightningServer",
    "LightningTimeoutError",
    "Metagraph",
    "MetagraphLike",
    "MetagraphStatus",
    "Miner",
    "MinerAddress",
    "Network",
    "NeuronInfo",
    "Peer",
    "PyStreamingResponse",
    "QuicAxonInfo",
    "Reply",
    "RustLightning",
    "RustLightningServer",
    "SerializationError",
    "ServerConnectionStats",
    "ServerOptions",
    "SigningError",
    "SourceEntry",
    "SourceRules",
    "Stream",
    "StreamError",
    "StreamTimeoutError",
    "SubnetPermits",
    "SynapseRequest",
    "SynapseResponse",
    "Timings",
    "TransportError",
    "UnsupportedTypeError",
    "WalletError",
    "__version__",
    "decode_payload",
    "encode_payload",
    "hotkey_of_seed",
    "is_valid_ip",
    "miners_of",
    "refresh_log_level",
]

__version__ = _native.__version__

#: Always true. Programs written for btlightning 0.2 ask.
LIGHTNING_AVAILABLE = True

#: The published name of :class:`Stream`.
PyStreamingResponse = Stream

atexit.register(_native.shutdown)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.forked)
