"""Metagraphs and neurons of the official SDK, versions 10 and 11, read by their attributes: it is never imported.

===================================== ======================================================================
11: ``Metagraph``                     ``neurons``; ``raw["axons"]`` says their protocols
11: ``MetagraphNeuron``               ``axon`` is ``ip:port``, ``[ip]:port`` or ``None``
11: ``Neuron``                        ``raw["axon_info"]``, with the address as a number
10: ``Metagraph``                     ``neurons``; after ``load`` maybe only ``axons``
10: ``MetagraphInfo``                 columns: ``hotkeys``, ``axons`` (dicts, with the address as a number), ...
10: ``NeuronInfo``, ``NeuronInfoLite``  ``axon_info``, which may be ``None``
10: ``AxonInfo``                      ``hotkey``, ``ip``, ``port``, ``ip_type``, ``protocol``
===================================== ======================================================================
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar, Union

from ._native import NeuronInfo

T = TypeVar("T")

#: More than any subnet has. A metagraph with more is refused.
NEURONS_MAX = 16_384

IPAddress = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


@dataclass(frozen=True)
class Neuron:
    """What is known of one neuron. ``None`` is what its object does not say."""

    hotkey: str
    #: ``None`` where it serves nothing.
    ip: IPAddress | None = None
    port: int = 0
    protocol: int | None = None
    uid: int | None = None
    #: Of the subnet's alpha, in rao.
    stake: int | None = None
    validator_permit: bool | None = None


def is_metagraph(given: object) -> bool:
    """Whether it is a metagraph as a whole."""
    return _is_column(getattr(given, "neurons", None)) or (
        _is_column(getattr(given, "axons", None)) and _is_column(getattr(given, "hotkeys", None))
    )


def neurons_of(given: Any) -> Iterator[tuple[Neuron, object]]:
    """Each neuron of a metagraph, or of an iterable of neurons and axons; and the object that it was read from.

    ``ValueError``: there are too many, or the columns differ in length. ``TypeError``: it is something else.
    """
    if not is_metagraph(given):
        yield from map(_pair, bounded(given))
        return
    neurons: Any = getattr(given, "neurons", None)
    axons: Any = getattr(given, "axons", None)
    if _is_column(neurons) and (neurons or not axons):
        yield from _with_protocols(given, bounded(neurons))
    else:
        yield from _from_columns(given, bounded(axons))


def neuron_of(given: Any) -> Neuron | None:
    """One neuron or axon of the SDK's; ``None`` if it is something else."""
    hotkey = getattr(given, "hotkey", None)
    if not isinstance(hotkey, str):
        return None
    if hasattr(given, "ip_type") and hasattr(given, "ip"):
        return _served(hotkey, given)
    if isinstance(given, NeuronInfo):
        return Neuron(
            hotkey,
            _address(given.axon_ip, None),
            given.axon_port,
            given.axon_protocol,
            given.uid,
            given.stake,
            given.validator_permit,
        )
    if hasattr(given, "axon_info"):
        neuron = _served(hotkey, given.axon_info)
    elif hasattr(given, "axon"):
        neuron = _served(hotkey, given.axon)
    elif isinstance(raw := getattr(given, "raw", None), dict) and "axon_info" in raw:
        neuron = _served(hotkey, raw["axon_info"])
    else:
        return None
    stakes = (getattr(given, name, None) for name in ("alpha_stake", "total_stake"))
    return replace(
        neuron,
        uid=_number(getattr(given, "uid", None)),
        stake=next((stake for stake in map(_rao, stakes) if stake is not None), None),
        validator_permit=_truth(getattr(given, "validator_permit", None)),
    )


def _pair(given: object) -> tuple[Neuron, object]:
    neuron = neuron_of(given)
    if neuron is None:
        raise TypeError(f"{type(given)} is no metagraph, and no neuron or axon of one")
    return neuron, given


def _with_protocols(metagraph: Any, rows: list[Any]) -> Iterator[tuple[Neuron, object]]:
    """The neurons of 11 do not say their protocol, but the record does that they are made of."""
    raw = getattr(metagraph, "raw", None)
    records = raw.get("axons") if isinstance(raw, dict) else None
    for place, row in enumerate(rows):
        neuron, given = _pair(row)
        if neuron.protocol is None and isinstance(record := _at(records, place), dict):
            neuron = replace(neuron, protocol=_number(record.get("protocol")))
        yield neuron, given


def _from_columns(metagraph: Any, axons: list[Any]) -> Iterator[tuple[Neuron, object]]:
    hotkeys = metagraph.hotkeys
    if len(axons) != len(hotkeys):
        raise ValueError(f"a metagraph of {len(hotkeys)} hotkeys and {len(axons)} axons")
    stakes, permits = getattr(metagraph, "alpha_stake", None), getattr(metagraph, "validator_permit", None)
    for uid, (hotkey, axon) in enumerate(zip(hotkeys, axons)):
        if not isinstance(hotkey, str):
            raise TypeError(f"a hotkey is text in SS58, not {type(hotkey)}")
        neuron = replace(
            _served(hotkey, axon),
            uid=uid,
            stake=_rao(_at(stakes, uid)),
            validator_permit=_truth(_at(permits, uid)),
        )
        yield neuron, neuron


def _served(hotkey: str, axon: Any) -> Neuron:
    """Where a neuron is, out of ``ip:port``, a record, or an ``AxonInfo``."""
    if isinstance(axon, str):
        host, _, service = axon.rpartition(":")
        address = _address(host.removeprefix("[").removesuffix("]"), None)
        return Neuron(hotkey, address, _number(service) or 0)
    names = ("ip", "ip_type", "port", "protocol")
    has = isinstance(axon, dict)
    ip, ip_type, port, protocol = (axon.get(name) if has else getattr(axon, name, None) for name in names)
    return Neuron(hotkey, _address(ip, ip_type), _number(port) or 0, _number(protocol))


def _address(ip: object, ip_type: object) -> IPAddress | None:
    """An address out of text, of the number that the chain has, or of an object of ``ipaddress``."""
    if isinstance(ip, str) and ip.isdecimal():
        ip = _number(ip)
    try:
        if isinstance(ip, int):
            # A small number is an IPv6 address where the axon says so.
            address = ipaddress.IPv6Address(ip) if ip_type == 6 else ipaddress.ip_address(ip)
        elif isinstance(ip, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
            address = ipaddress.ip_address(ip)
        else:
            return None
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # A scope means nothing beyond the host that wrote it.
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def _is_column(given: object) -> bool:
    return isinstance(given, (list, tuple))


def bounded(rows: Iterable[T]) -> list[T]:
    """What is there, unless it is too much."""
    taken = list(islice(rows, NEURONS_MAX + 1))
    if len(taken) > NEURONS_MAX:
        raise ValueError(f"more than {NEURONS_MAX} neurons")
    return taken


def _at(column: object, place: int) -> object:
    return column[place] if isinstance(column, (list, tuple)) and place < len(column) else None


def _number(given: object) -> int | None:
    if isinstance(given, str):
        # No stranger's digits are converted without a bound.
        return int(given) if len(given) <= 40 and given.isdecimal() else None
    return int(given) if isinstance(given, int) else None


def _rao(stake: object) -> int | None:
    """Rao: a number, or a ``Balance``. Numbers that are not whole are of no known unit."""
    return _number(getattr(stake, "rao", stake))


def _truth(given: object) -> bool | None:
    return None if given is None else bool(given)
