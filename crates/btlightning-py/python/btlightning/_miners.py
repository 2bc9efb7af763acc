"""Which neurons of a metagraph are miners.

What a metagraph says comes from strangers: whoever registers writes there what they like. So only those are miners that
serve something at an address that the internet routes, and say protocol 4. Whether one of them speaks QUIC shows when it is
dialled: the official SDK writes 4 for plain HTTP.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, Union

from . import _sdk
from ._native import QuicAxonInfo
from ._types import MetagraphLike

T = TypeVar("T")

#: The protocol number of QUIC.
_QUIC = 4

#: What the internet does not route, by IANA's registries of special-purpose addresses. Those of the standard library differ
#: from one Python to the next.
_UNROUTED = [
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        # Of IPv6, only 2000::/3 has been given out.
        *("::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
]
_LOCAL = [
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7"),
    )
]

#: What the native half reads, without a look at each.
_PLAIN = {str, dict, QuicAxonInfo}

_log = logging.getLogger("btlightning.client")


def miners_of(
    metagraph: Union[MetagraphLike, Iterable[object]],
    *,
    min_stake: int | None = None,
    validator_permit: bool | None = False,
    allow_private: bool = False,
    matching: Callable[[Any], bool] | None = None,
) -> list[QuicAxonInfo]:
    """The miners of a metagraph, or of a list of neurons or axons, as the official SDK has them (versions 10 and 11).

    Left out are those that serve nothing, at addresses that the internet does not route, or with another protocol than 4;
    and those known to have a validator permit. That a neuron is ``active`` is not asked for: miners that set no weights are
    not. The clients' methods take a metagraph as it is, and choose from it as this does without options.

    ``min_stake``: at least so much of the subnet's alpha, in rao, of which 1,000,000,000 are one. ``validator_permit``:
    ``True`` for only those that have one, ``None`` for all. ``allow_private``: addresses of local networks and of this host,
    too.
    ``matching``: called with each neuron that is left, as the metagraph has it; where that has only columns
    (``MetagraphInfo``), with an object that has ``hotkey``, ``uid``, ``stake`` and ``validator_permit``. What it raises is
    raised here.

    ``ValueError``: the metagraph does not say what is asked for, or has more than 16,384 neurons. ``TypeError``: it is none.
    """
    if isinstance(min_stake, float):
        raise TypeError("min_stake is in rao, which are whole: 1,000,000,000 are one")

    def is_wanted(neuron: _sdk.Neuron, given: object) -> bool:
        if min_stake is not None and _known(neuron, "stake") < min_stake:
            return False
        if validator_permit and not _known(neuron, "validator_permit"):
            return False
        if validator_permit is False and neuron.validator_permit:
            return False
        return matching is None or matching(given)

    reached = _reached(_sdk.neurons_of(metagraph), allow_private)
    return [_axon(neuron) for neuron, given in reached if is_wanted(neuron, given)]


def listed(miners: Union[MetagraphLike, Iterable[T]]) -> list[Union[T, QuicAxonInfo]]:
    """The miners of an iterable, or of a metagraph. One miner alone, which may be iterable itself, is refused.

    A metagraph is chosen from as :func:`miners_of` does. Of its neurons and axons in a list, whose choice is made already,
    those are left out that cannot be reached. Everything else is somebody's own word, and stays as it is.
    """
    if type(miners) is not list:
        if isinstance(miners, (str, Mapping)) or hasattr(miners, "hotkey"):
            raise TypeError("a list of miners is wanted, not one miner")
        if _sdk.is_metagraph(miners):
            return [*miners_of(miners)]
    given: list[Any] = list(miners)  # type: ignore[arg-type]
    if set(map(type, given)) <= _PLAIN:
        return given
    plain = tuple(_PLAIN)
    neurons = [(_sdk.neuron_of(miner), miner) for miner in given if not isinstance(miner, plain)]
    read = _sdk.bounded((neuron, miner) for neuron, miner in neurons if neuron is not None)
    # By identity: what somebody else's `==` does is unknown.
    reached = {id(miner): neuron for neuron, miner in _reached(read, False)}
    left_out = {id(miner) for _, miner in read} - reached.keys()
    return [
        _axon(reached[id(miner)]) if id(miner) in reached else miner
        for miner in given
        if id(miner) not in left_out
    ]


def named(miner: object) -> Union[QuicAxonInfo, str, None]:
    """One neuron of the SDK's, whatever its address; its hotkey where it serves nothing; ``None`` if it is none.

    The native half asks when it is given an object without ``ip``.
    """
    neuron = _sdk.neuron_of(miner)
    if neuron is None:
        return None
    return _axon(neuron) if neuron.ip is not None and 0 < neuron.port <= 0xFFFF else neuron.hotkey


def _reached(
    neurons: Iterable[tuple[_sdk.Neuron, object]], allow_private: bool
) -> list[tuple[_sdk.Neuron, object]]:
    """Those that serve something where it can be reached."""
    served = [(neuron, given) for neuron, given in neurons if _is_served(neuron)]
    reached = [(neuron, given) for neuron, given in served if _is_routed(neuron.ip, allow_private)]
    if left_out := len(served) - len(reached):
        # Not a warning: any stranger can write such an address, at any time.
        _log.info("miners left out, for the internet does not route their addresses: %d", left_out)
    return reached


def _is_served(neuron: _sdk.Neuron) -> bool:
    if neuron.ip is None or neuron.ip.is_unspecified:
        return False
    return 0 < neuron.port <= 0xFFFF and neuron.protocol in (None, _QUIC)


def _is_routed(ip: _sdk.IPAddress | None, allow_private: bool) -> bool:
    if ip is None:
        return False
    if not any(ip in network for network in _UNROUTED):
        return True
    return allow_private and any(ip in network for network in _LOCAL)


def _known(neuron: _sdk.Neuron, name: str) -> Any:
    value = getattr(neuron, name)
    if value is None:
        raise ValueError(f"{name} is asked for, and the metagraph does not say it of {neuron.hotkey}")
    return value


def _axon(neuron: _sdk.Neuron) -> QuicAxonInfo:
    return QuicAxonInfo(neuron.hotkey, str(neuron.ip), neuron.port, _QUIC)
