"""The chain: the neurons of a subnet, and who of them may validate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Union

from . import _native
from ._errors import ConfigError
from ._loop import awaited
from ._miners import miners_of
from ._native import NeuronInfo, QuicAxonInfo

#: ``finney``, ``test`` or ``local``; the ``ws://`` or ``wss://`` URL of a node, or several, best first; ``None``: what the
#: environment names.
Network = Union[str, Iterable[str], None]

#: The longest that anything is waited for.
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Metagraph:
    """The neurons of a subnet at one block. The clients take it as they take those of the official SDK."""

    netuid: int
    #: The finalized block that was read.
    block: int
    #: In the order of their uids.
    neurons: tuple[NeuronInfo, ...] = field(repr=False)
    #: When it was read, as ``time.time()`` counts.
    synced_at: float

    @property
    def n(self) -> int:
        """How many neurons there are."""
        return len(self.neurons)

    def miners(
        self,
        *,
        min_stake: int | None = None,
        validator_permit: bool | None = False,
        allow_private: bool = False,
        matching: Callable[[NeuronInfo], bool] | None = None,
    ) -> list[QuicAxonInfo]:
        """The neurons that are miners; see :func:`miners_of`."""
        return miners_of(
            self,
            min_stake=min_stake,
            validator_permit=validator_permit,
            allow_private=allow_private,
            matching=matching,
        )

    def quic_miners(self) -> list[QuicAxonInfo]:
        """Those that :meth:`miners` chooses without options."""
        return miners_of(self)

    def permitted(self, min_stake: int = 0) -> set[str]:
        """The hotkeys with a validator permit, and with at least so much of the subnet's alpha, in rao."""
        return {
            neuron.hotkey for neuron in self.neurons if neuron.validator_permit and neuron.stake >= min_stake
        }

    def validator_axon_ips(self) -> set[str]:
        """The addresses that holders of a validator permit announce, as far as the internet routes them.

        Most validators announce none, so this is no list of where validators come from.
        """
        return {
            neuron.axon_ip
            for neuron in self.neurons
            if neuron.validator_permit and _native.is_valid_ip(neuron.axon_ip)
        }

    def get_neuron(self, uid: int) -> NeuronInfo | None:
        """The neuron of a uid."""
        return next((neuron for neuron in self.neurons if neuron.uid == uid), None)

    def get_uid_by_hotkey(self, hotkey: str) -> int | None:
        """The uid of a hotkey."""
        return next((neuron.uid for neuron in self.neurons if neuron.hotkey == hotkey), None)


class Nodes:
    """What both kinds of chain have in common."""

    def __init__(
        self, network: Network = None, *, connect_timeout: float = 10.0, call_timeout: float = 30.0
    ) -> None:
        self._native = _native.Chain(
            _text(network),
            seconds("connect_timeout", connect_timeout),
            seconds("call_timeout", call_timeout),
        )

    @property
    def network(self) -> str:
        """``finney``, ``test``, ``local``, or ``custom`` for nodes that are none of these."""
        return self._native.network

    @property
    def endpoints(self) -> list[str]:
        """The nodes that are asked, best first."""
        return self._native.endpoints

    @property
    def is_local(self) -> bool:
        """Whether all of them are on this machine or in a private network, so that miners may be, too."""
        return self._native.is_local

    def status(self) -> _native.ChainStatus:
        """Which node is in use, and why not another. Waits for nothing."""
        return self._native.status()

    def __repr__(self) -> str:
        return f"<btlightning.{type(self).__name__} {self.network}: {', '.join(self.endpoints)}>"


class Chain(Nodes):
    """The nodes of a chain, for threads: whichever of them answers is asked.

    >>> metagraph = Chain("finney").metagraph(2)
    >>> [neuron.hotkey for neuron in metagraph.neurons if neuron.validator_permit]

    ``network`` is ``finney``, ``test`` or ``local``; the URL of a node, or several, best first, of one chain; ``None`` for
    what ``BT_CHAIN_ENDPOINT``, ``BT_SUBTENSOR_CHAIN_ENDPOINT``, ``BT_NETWORK`` or ``BT_SUBTENSOR_NETWORK`` say, in this
    order, and else ``finney``. To connect to one node takes at most ``connect_timeout`` seconds, each question at most
    ``call_timeout``. Nothing is connected before the first question; one connection is then kept. Raises
    :class:`ConfigError` for what is no network.
    """

    def metagraph(self, netuid: int) -> Metagraph:
        """Reads a subnet at the latest finalized block.

        Each node has two minutes for it. Raises :class:`LightningConnectionError` when none answers, :class:`ConfigError`
        with the ``reason`` ``no_such_subnet``, :class:`SerializationError` for what cannot be read.
        """
        return metagraph_of(netuid, self._native.metagraph(netuid))

    def tls_key_pins(self, netuid: int) -> dict[str, str]:
        """The pins of TLS keys that miners of a subnet have published, by hotkey, for ``client.pin_tls_keys``. Time and errors
        are those of :meth:`metagraph`."""
        return self._native.tls_key_pins(netuid)


class AsyncChain(Nodes):
    """The nodes of a chain, for asyncio: whichever of them answers is asked. Arguments are those of :class:`Chain`.

    >>> metagraph = await AsyncChain("finney").metagraph(2)
    """

    async def metagraph(self, netuid: int) -> Metagraph:
        """Reads a subnet at the latest finalized block. Time and errors are those of :meth:`Chain.metagraph`."""
        return metagraph_of(netuid, await awaited(self._native.metagraph, netuid))

    async def tls_key_pins(self, netuid: int) -> dict[str, str]:
        """The pins of TLS keys that miners of a subnet have published; see :meth:`Chain.tls_key_pins`."""
        pins: dict[str, str] = await awaited(self._native.tls_key_pins, netuid)
        return pins


class SubnetPermits:
    """Who has a validator permit in a subnet, and how much stake; kept in sync with the chain.

    >>> permits = SubnetPermits(2, "finney", min_stake=1000 * 10**9)
    >>> server.set_validator_permit_resolver(permits)

    ``min_stake`` is of the subnet's alpha, in rao; ``interval`` the seconds between two reads. Begins to read at once, in the
    background, until it is closed or nobody has it any more; reads that fail are tried again, and meanwhile what was read
    last stays in force. A server asks it after every read. One of them will do for several servers of a subnet.
    """

    def __init__(
        self, netuid: int, network: Network | Nodes = None, *, min_stake: int = 0, interval: float = 600.0
    ) -> None:
        self.netuid = netuid
        self.min_stake = min_stake
        self.watch = _native.MetagraphWatch(native_chain(network), netuid, seconds("interval", interval))

    @property
    def metagraph(self) -> Metagraph | None:
        """The metagraph as it was read last; ``None`` before the first time."""
        read = self.watch.latest()
        return None if read is None else metagraph_of(self.netuid, read)

    def status(self) -> _native.MetagraphStatus | None:
        """How old it is, and why there is no newer one; ``None`` once this is closed."""
        return self.watch.status()

    def refresh(self) -> None:
        """Has it read now, instead of when the interval is over. Does not wait for it."""
        self.watch.refresh()

    def close(self) -> None:
        """Servers that have it go on reading; this does not."""
        self.watch.close()


def metagraph_of(netuid: int, read: tuple[int, float, list[NeuronInfo]]) -> Metagraph:
    """A native metagraph as users have it."""
    block, age, neurons = read
    return Metagraph(netuid, block, tuple(neurons), time.time() - age)


def native_chain(network: Network | Nodes) -> _native.Chain:
    """The native chain of a network, or the one that a chain has already."""
    if isinstance(network, Nodes):
        return network._native
    return _native.Chain(_text(network), None, None)


def _text(network: Network) -> str | None:
    return network if network is None or isinstance(network, str) else ",".join(network)


def seconds(name: str, value: float) -> timedelta:
    """A duration that is none of the odd ones."""
    if not 0 < value <= _DAY:
        raise ConfigError(f"{name} must be positive and at most a day, got {value}", "config")
    return timedelta(seconds=value)
