"""The systems that are compared, a module each."""

from __future__ import annotations

import importlib
from importlib import metadata

from orders import tasks, threads
from orders.protocol import UnavailableError

#: What has a module; the published package has that of ours, since it is the same program.
_MODULES = {
    "py-ours": "systems.lightning",
    "py-published": "systems.lightning",
    "py-ours-async": "systems.lightning_async",
    "py-bittensor": "systems.axon",
    "py-grpcio": "systems.grpc_tls",
}

NAMES = tuple(_MODULES)

PUBLISHED_VERSION = "0.2.15"
BITTENSOR_VERSION = "10.5.0"


def why_unavailable(name: str) -> str | None:
    """Why a system cannot run in this interpreter; ``None`` if it can."""
    if name == "py-bittensor":
        return _missing("bittensor", BITTENSOR_VERSION) or _missing("bittensor-wallet")
    if name == "py-grpcio":
        return _missing("grpcio") or _missing("cryptography")
    if name == "py-published":
        return _missing("btlightning", PUBLISHED_VERSION) or _missing("bittensor-wallet")
    # From a checkout there is no metadata; so it is asked itself.
    try:
        btlightning = importlib.import_module("btlightning")
    except ImportError as error:
        return f"btlightning cannot be imported: {error}"
    if not hasattr(btlightning, "AsyncLightning"):
        return "the btlightning that is installed is not this project's"
    return None


def peer(name: str) -> threads.Peer | tasks.Peer:
    """A peer for the system of this name. Raises :class:`UnavailableError` if it cannot run in this interpreter."""
    if (why := why_unavailable(name)) is not None:
        raise UnavailableError(why)
    made: threads.Peer | tasks.Peer = importlib.import_module(_MODULES[name]).peer()
    return made


def _missing(distribution: str, version: str | None = None) -> str | None:
    try:
        found = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return f"{distribution} is not installed"
    if version is not None and found != version:
        return f"{distribution} is {found}, not {version}"
    return None
