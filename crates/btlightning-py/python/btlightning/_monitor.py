"""Follows a metagraph: wants the miners that the chain names, and those that were named by hand.

A thread waits for each newer metagraph, chooses from it, which may run code of the user's, and tells the client.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from . import _native
from ._chain import Metagraph, Network, Nodes, metagraph_of, native_chain, seconds
from ._errors import LightningError
from ._native import Client, MetagraphStatus, NeuronInfo, QuicAxonInfo

Read = tuple[int, float, list[NeuronInfo]]
Wanted = Callable[[Metagraph], list[Any]]

_log = logging.getLogger("btlightning.client")


class Choice:
    """Which neurons of a followed metagraph are miners."""

    def __init__(
        self,
        chain: _native.Chain,
        own: str,
        min_stake: int | None,
        validator_permit: bool | None,
        allow_private: bool | None,
        matching: Callable[[NeuronInfo], bool] | None,
    ) -> None:
        self._chain = chain
        self._own = own
        self._min_stake = min_stake
        self._validator_permit = validator_permit
        self._allow_private = allow_private
        self._matching = matching

    def miners(self, metagraph: Metagraph) -> list[QuicAxonInfo]:
        """Without oneself. A neuron about which the predicate raises is not chosen."""
        allow_private = self._allow_private
        if allow_private is None:
            # Strangers announce what they like on mainnet: a node of one's own is no reason to dial one's own network.
            allow_private = self._chain.is_local and not self._chain.is_mainnet()
        return metagraph.miners(
            min_stake=self._min_stake,
            validator_permit=self._validator_permit,
            allow_private=allow_private,
            matching=self._accepts,
        )

    def _accepts(self, neuron: NeuronInfo) -> bool:
        if neuron.hotkey == self._own:
            return False
        try:
            return self._matching is None or bool(self._matching(neuron))
        except Exception as error:
            _log.error("the choice of miners raised an exception about %s", neuron.hotkey, exc_info=error)
            return False


class ByHand:
    """The miners that a program has named itself: they are wanted whatever a metagraph says."""

    def __init__(self) -> None:
        self._named: dict[str, Any] = {}
        self._lock = threading.Lock()

    def add(self, miners: Iterable[Any]) -> None:
        """These, too."""
        named = {_hotkey(miner): miner for miner in miners}
        with self._lock:
            self._named.update(named)

    def replace(self, miners: Iterable[Any]) -> None:
        """Only these."""
        named = {_hotkey(miner): miner for miner in miners}
        with self._lock:
            self._named = named

    def with_these(self, miners: list[QuicAxonInfo]) -> list[Any]:
        """Those of a metagraph, and those; of a hotkey in both, the one that was named by hand."""
        with self._lock:
            return [*(miner for miner in miners if miner.hotkey not in self._named), *self._named.values()]


def _hotkey(miner: Any) -> str:
    return str(miner["hotkey"] if isinstance(miner, dict) else miner.hotkey)


class Monitor:
    """A metagraph that is followed."""

    def __init__(
        self, client: Client, watch: _native.MetagraphWatch, latest: Metagraph, wanted: Wanted
    ) -> None:
        self._client = client
        self._watch = watch
        self._wanted = wanted
        self._lock = threading.Lock()
        self._stopped = False
        self.latest = latest
        threading.Thread(target=self._follow, name="btlightning-metagraph", daemon=True).start()

    def _follow(self) -> None:
        try:
            while (read := self._watch.next()) is not None:
                self.latest = metagraph = metagraph_of(self.latest.netuid, read)
                miners = self._wanted(metagraph)
                # Whoever stops this has the last word.
                with self._lock:
                    if self._stopped:
                        return
                    self._client.follow(miners)
        except LightningError as error:
            _log.error("the metagraph is no longer followed: %s", error)

    def stop(self) -> None:
        """Reads no more, and wants nobody any more."""
        with self._lock:
            self._stopped = True
        self._watch.close()

    def refresh(self) -> None:
        """Has it read now."""
        self._watch.refresh()

    def status(self) -> MetagraphStatus | None:
        """How old it is; ``None`` once this is stopped."""
        return self._watch.status()


class Following:
    """What both clients have for following a metagraph."""

    _native: Client
    hotkey: str

    def _follow_nobody_yet(self) -> None:
        self._by_hand = ByHand()
        self._monitor: Monitor | None = None
        #: Stops it when the client is dropped.
        self._dropped: weakref.finalize[..., Following] | None = None
        self._monitors = threading.Lock()

    def _plan(
        self,
        netuid: int,
        network: Network | Nodes,
        interval: float,
        min_stake: int | None,
        validator_permit: bool | None,
        allow_private: bool | None,
        matching: Callable[[NeuronInfo], bool] | None,
    ) -> Plan:
        chain = native_chain(network)
        choice = Choice(chain, self.hotkey, min_stake, validator_permit, allow_private, matching)
        return Plan(chain, netuid, seconds("interval", interval), choice, self._by_hand)

    def _follow(self, plan: Plan, read: Read) -> list[Any]:
        """Follows from now on; whom the client wants at first."""
        latest = metagraph_of(plan.netuid, read)
        wanted = plan.wanted(latest)
        watch = _native.MetagraphWatch(plan.chain, plan.netuid, plan.interval)
        monitor = Monitor(self._native, watch, latest, plan.wanted)
        self._replace(monitor)
        return wanted

    def _replace(self, monitor: Monitor | None) -> None:
        with self._monitors:
            before, self._monitor = self._monitor, monitor
            dropped, self._dropped = self._dropped, None
            if monitor is not None:
                self._dropped = weakref.finalize(self, monitor.stop)
                self._dropped.atexit = False
        if dropped is not None:
            dropped.detach()
        if before is not None:
            before.stop()

    def _forget_everybody(self) -> None:
        self.stop_metagraph_monitor()
        self._by_hand.replace([])

    def pin_tls_keys(self, pins: Mapping[str, str]) -> None:
        """Connects to each of these hotkeys only where the server has the TLS key with this pin (64 hexadecimal digits):
        :attr:`LightningServer.tls_key_pin`, or what :meth:`Chain.tls_key_pins` says.

        These are all pins from now on. A server with another key is turned away before it hears who asks, with the reason
        ``wrong_tls_key``. Connections that are up stay up. Raises :class:`ConfigError` for what is no hotkey or no pin.
        """
        self._native.pin_tls_keys(dict(pins))

    def stop_metagraph_monitor(self) -> None:
        """Follows no metagraph any more. Its miners stay connected."""
        self._replace(None)

    def refresh_metagraph(self) -> None:
        """Has the metagraph that is followed read now, instead of when the interval is over. Does not wait for it."""
        if (monitor := self._monitor) is not None:
            monitor.refresh()

    @property
    def metagraph(self) -> Metagraph | None:
        """The metagraph that is followed, as it was read last; ``None`` while none is."""
        monitor = self._monitor
        return None if monitor is None else monitor.latest

    def metagraph_status(self) -> MetagraphStatus | None:
        """How old it is, and why there is no newer one; ``None`` while none is followed."""
        monitor = self._monitor
        return None if monitor is None else monitor.status()


@dataclass(frozen=True)
class Plan:
    """What is to be followed."""

    chain: _native.Chain
    netuid: int
    interval: timedelta
    choice: Choice
    by_hand: ByHand

    def wanted(self, metagraph: Metagraph) -> list[Any]:
        """Whom the client wants."""
        return self.by_hand.with_these(self.choice.miners(metagraph))
