"""What a server has of the chain: permits, a source allowlist that learns, and its own axon there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Union

from ._chain import Network, Nodes, SubnetPermits, native_chain, seconds
from ._errors import ConfigError

_DAY = 24 * 60 * 60.0


@dataclass(frozen=True)
class SourceRules:
    """When a source allowlist that learns is believed, and who may try all the same. Times are in seconds."""

    #: The share of permitted stake whose address must be known before others are turned away; up to 1.
    coverage_to_enforce: float = 0.8
    #: The share below which everybody passes again; above 0, at most the former.
    coverage_to_relax: float = 0.5
    #: How long everybody passes at first, so that one large validator does not shut the others out before they came.
    learning_time_min: float = 3600.0
    #: An address whose validator was not there for this long does not count any more; a minute at least.
    address_age_max: float = 14 * _DAY
    #: How long the addresses of a hotkey that lost its permit are remembered, though not let in.
    permit_grace: float = _DAY
    #: Everybody passes when nobody has said for this long who holds a permit; a minute at least.
    permits_age_max: float = 7 * _DAY
    #: How many attempts from unknown addresses are let in to authenticate in a minute, of each IP version; to 60,000.
    visitors_per_minute: int = 60
    #: How many of these may come at once after a quiet time; to 60,000.
    visitors_burst: int = 10
    #: How many QUIC Retries a second are sent to unknown addresses, which may be forged; to 60,000.
    retries_per_second: int = 50

    def native(self) -> dict[str, Any]:
        """As the native half has them."""
        return {
            "coverage_to_enforce_permille": _permille("coverage_to_enforce", self.coverage_to_enforce),
            "coverage_to_relax_permille": _permille("coverage_to_relax", self.coverage_to_relax),
            "learning_time_min": _time("learning_time_min", self.learning_time_min),
            "address_age_max": _time("address_age_max", self.address_age_max),
            "permit_grace": _time("permit_grace", self.permit_grace),
            "permits_age_max": _time("permits_age_max", self.permits_age_max),
            "visitors_per_minute": self.visitors_per_minute,
            "visitors_burst": self.visitors_burst,
            "retries_per_second": self.retries_per_second,
        }


def learning(
    permits: SubnetPermits, path: Union[str, os.PathLike[str], None], rules: SourceRules | None
) -> tuple[Any, ...]:
    """What the native half takes to learn sources."""
    if not isinstance(permits, SubnetPermits):
        raise TypeError(f"sources are learned from a SubnetPermits, not a {type(permits).__qualname__}")
    where = None if path is None else os.fspath(path)
    return permits.watch, permits.min_stake, where, (rules or SourceRules()).native()


def publishing(
    netuid: int,
    network: Union[Network, Nodes],
    axon: tuple[object, int] | None,
    wait_for_rate_limit: float,
    inclusion_timeout: float,
    finalized: bool,
) -> tuple[Any, ...]:
    """What the native half takes to publish."""
    if not 0 <= wait_for_rate_limit <= _DAY:
        raise ConfigError(
            f"wait_for_rate_limit must be from 0 to a day, got {wait_for_rate_limit}", reason="config"
        )
    return (
        native_chain(network),
        netuid,
        None if axon is None else (str(axon[0]), axon[1]),
        timedelta(seconds=wait_for_rate_limit),
        seconds("inclusion_timeout", inclusion_timeout),
        finalized,
    )


def _permille(name: str, share: float) -> int:
    if not 0 < share <= 1:
        raise ConfigError(f"{name} must be above 0 and at most 1, got {share}", reason="config")
    return max(round(share * 1000), 1)


def _time(name: str, value: float) -> timedelta:
    if not 0 <= value <= 3650 * _DAY:
        raise ConfigError(f"{name} must be from 0 to ten years, got {value}", reason="config")
    return timedelta(seconds=value)
