"""Metagraphs and neurons of the official SDK, as they are.

Version 11 is installed beside us: its classes are the real ones. Version 10 cannot be in the same environment. What stands
for its objects here has the fields that `bittensor.core.chain_data` and `bittensor.core.metagraph` of 10.5.0 give them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from world import new_async_client, new_async_server, new_client, new_server, run

from btlightning import (
    AsyncLightningServer,
    LightningConnectionError,
    LightningServer,
    QuicAxonInfo,
    hotkey_of_seed,
    miners_of,
)
from btlightning._miners import listed

bittensor: Any = pytest.importorskip("bittensor")
metagraph_of_11: Any = pytest.importorskip("bittensor.metagraph")
Neuron11: Any = pytest.importorskip("bittensor.reads.neurons").Neuron

KEYS = [hotkey_of_seed(bytes([number]) * 32) for number in range(1, 30)]
ALPHA = 10**9


def number(ip: str) -> int:
    return int(ipaddress.ip_address(ip))


def record(ip: str, port: int, protocol: int = 4) -> dict[str, Any]:
    """An axon as the chain's runtime hands it out, decoded by either version."""
    return {
        "block": 100,
        "version": 1,
        "ip": number(ip),
        "port": port,
        "ip_type": ipaddress.ip_address(ip).version,
        "protocol": protocol,
        "placeholder1": 0,
        "placeholder2": 0,
    }


#: Each neuron's axon, and whether it is a miner's; and whether it is one's on a network of one's own.
AXONS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "IPv4": (record("8.8.8.8", 8091), True, True),
    "IPv6": (record("2606:4700::1111", 8091), True, True),
    "IPv4 written as IPv6": (record("::ffff:8.8.4.4", 8091), True, True),
    "the last of what is routed": (record("223.255.255.255", 65535), True, True),
    "never served": ({**record("0.0.0.0", 0), "ip_type": 0, "protocol": 0, "version": 0}, False, False),
    "reset": (record("0.0.0.0", 1), False, False),
    "IPv6 of nobody": (record("::", 8091), False, False),
    "port 0": (record("8.8.8.8", 0), False, False),
    "another protocol": (record("8.8.8.8", 8091, protocol=3), False, False),
    "this host": (record("127.0.0.2", 8091), False, True),
    "a private network": (record("10.1.2.3", 8091), False, True),
    "a carrier's network": (record("100.64.0.1", 8091), False, True),
    "a private network, IPv6": (record("fd00::1", 8091), False, True),
    "a private network, IPv4 written as IPv6": (record("::ffff:10.1.2.3", 8091), False, True),
    "a link": (record("fe80::1", 8091), False, False),
    "many": (record("224.0.0.1", 8091), False, False),
    "many, IPv6": (record("ff02::1", 8091), False, False),
    "reserved": (record("240.0.0.1", 8091), False, False),
    "this network": (record("0.0.0.9", 8091), False, False),
    "a way to IPv4": (record("64:ff9b::808:808", 8091), False, False),
    "IPv4 wrapped": (record("2002:808:808::1", 8091), False, False),
    "documentation": (record("2001:db8::1", 8091), False, False),
}
RECORDS = [axon for axon, _, _ in AXONS.values()]
STAKES = [place * ALPHA for place in range(len(RECORDS))]
PERMITS = [place == 1 for place in range(len(RECORDS))]


def expected(which: int, permits: bool = True) -> list[tuple[str, str, int, int]]:
    """The miners that there are: 1 on the internet, 2 with those on networks of one's own; without who has a permit."""
    found = []
    for hotkey, axon in zip(KEYS, AXONS.values()):
        if axon[which] and (permits or hotkey != KEYS[1]):
            ip = ipaddress.ip_address(axon[0]["ip"])
            mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
            found.append((hotkey, str(mapped or ip), axon[0]["port"], 4))
    return found


def said(miners: list[QuicAxonInfo]) -> list[tuple[str, str, int, int]]:
    return [(miner.hotkey, miner.ip, miner.port, miner.protocol) for miner in miners]


def text(axon: dict[str, Any]) -> str:
    """The address as `AxonInfo` of version 10 has it: `netaddr` makes it of the number alone."""
    return str(ipaddress.ip_address(axon["ip"]))


# Version 11: the real classes.

#: What the SDK wants of the runtime's record, and what is not looked at here.
GRAPH: dict[str, Any] = {
    "block": 100,
    "tempo": 360,
    "last_step": 1,
    "blocks_since_last_step": 2,
    "owner_hotkey": KEYS[0],
    "owner_coldkey": KEYS[0],
    "network_registered_at": 1,
    "coldkeys": KEYS,
}


def metagraph11(records: list[dict[str, Any]] = RECORDS) -> Any:
    """What `client.subnets.metagraph` makes of the runtime's record."""
    count = len(records)
    graph = {
        **GRAPH,
        "hotkeys": KEYS[:count],
        "axons": records,
        "active": [False] * count,
        "validator_permit": PERMITS[:count],
        "alpha_stake": STAKES[:count],
        "total_stake": [2 * stake for stake in STAKES[:count]],
    }
    return metagraph_of_11._build(7, graph, {})


def neurons11() -> list[Any]:
    """What `client.neurons.all` makes of the runtime's records."""
    return [
        Neuron11(
            uid=uid,
            hotkey=KEYS[uid],
            coldkey=KEYS[uid],
            active=False,
            validator_permit=PERMITS[uid],
            last_update=0,
            total_stake=bittensor.Balance.from_rao(STAKES[uid], 7),
            raw={"axon_info": axon},
        )
        for uid, axon in enumerate(RECORDS)
    ]


# Version 10: the same shape.


def axons10() -> list[Any]:
    """`AxonInfo.from_dict`, whose `ip` is text."""
    return [SimpleNamespace(**{**axon, "ip": text(axon), "hotkey": key}) for key, axon in zip(KEYS, RECORDS)]


def neurons10() -> list[Any]:
    """`NeuronInfoLite`, and at the end the one that stands for none."""
    rows = [
        SimpleNamespace(
            hotkey=axon.hotkey,
            uid=uid,
            netuid=7,
            active=0,
            stake=bittensor.Balance.from_rao(STAKES[uid], 7),
            total_stake=bittensor.Balance.from_rao(STAKES[uid], 7),
            validator_permit=PERMITS[uid],
            axon_info=axon,
            is_null=False,
        )
        for uid, axon in enumerate(axons10())
    ]
    null = SimpleNamespace(hotkey="0" * 48, uid=0, axon_info=None, is_null=True, validator_permit=False)
    return [*rows, null]


class Metagraph10:
    """`Metagraph`, with what `sync` leaves there, or `load`."""

    def __init__(self, neurons: list[Any], axons: list[Any]) -> None:
        self.neurons, self.axons = neurons, axons

    @property
    def hotkeys(self) -> list[str]:
        return [axon.hotkey for axon in self.axons]


def info10(**columns: Any) -> Any:
    """`MetagraphInfo`, of which one may ask for some columns only."""
    stakes = [bittensor.Balance.from_rao(stake, 7) for stake in STAKES]
    given = {"hotkeys": KEYS[: len(RECORDS)], "axons": RECORDS, "alpha_stake": stakes}
    return SimpleNamespace(**{**given, "validator_permit": PERMITS, **columns})


WITH_STAKES: dict[str, Callable[[], Any]] = {
    "Metagraph of 11": metagraph11,
    "neurons of 11's metagraph": lambda: list(zip_protocols(metagraph11())),
    "neurons of 11": neurons11,
    "Metagraph of 10": lambda: Metagraph10(neurons10(), axons10()),
    "neurons of 10": neurons10,
    "MetagraphInfo of 10": info10,
}
WHOLE: dict[str, Callable[[], Any]] = {
    **WITH_STAKES,
    "Metagraph of 10, loaded": lambda: Metagraph10([], axons10()),
    "axons of 10": axons10,
    "a generator of them": lambda: iter(axons10()),
}


def zip_protocols(metagraph: Any) -> list[Any]:
    """The rows alone do not say their protocol: without the one that speaks another."""
    return [
        neuron
        for neuron, axon in zip(metagraph.neurons, RECORDS)
        if axon["protocol"] == 4 or neuron.axon is None
    ]


@pytest.mark.parametrize("kind", WHOLE)
def test_of_a_metagraph_those_are_miners_that_can_be_reached_and_have_no_permit(kind: str) -> None:
    permits = kind not in WITH_STAKES
    assert said(miners_of(WHOLE[kind]())) == expected(1, permits)
    assert said(miners_of(WHOLE[kind](), allow_private=True)) == expected(2, permits)
    assert said(miners_of(WHOLE[kind](), allow_private=True, validator_permit=None)) == expected(2)


@pytest.mark.parametrize("kind", WITH_STAKES)
def test_stake_and_permit_choose_among_them(kind: str) -> None:
    metagraph = WITH_STAKES[kind]()
    first, permitted, third, fourth = expected(1)
    assert said(miners_of(metagraph, min_stake=2 * ALPHA)) == [third, fourth]
    assert said(miners_of(metagraph, min_stake=2 * ALPHA + 1)) == [fourth]
    assert said(miners_of(metagraph, validator_permit=True)) == [permitted]
    assert said(miners_of(metagraph, validator_permit=False)) == [first, third, fourth]
    asked: list[int] = []

    def is_even(neuron: Any) -> bool:
        asked.append(neuron.uid)
        return bool(neuron.uid % 2 == 0)

    assert said(miners_of(metagraph, matching=is_even)) == [first, third]
    assert asked == [0, 2, 3]


def test_a_predicate_gets_the_neuron_as_the_metagraph_has_it() -> None:
    metagraph = metagraph11()
    seen: list[Any] = []

    def saw(neuron: Any) -> bool:
        seen.append(neuron)
        return False

    assert miners_of(metagraph, matching=saw) == []
    assert [id(neuron) for neuron in seen] == [
        id(neuron) for neuron in metagraph.neurons[:4] if neuron.uid != 1
    ]

    def broken(neuron: Any) -> bool:
        raise KeyError(neuron.coldkey)

    with pytest.raises(KeyError):
        miners_of(metagraph, matching=broken)


def test_what_a_metagraph_does_not_say_cannot_be_asked_for() -> None:
    nothing: list[Any] = [None, []]
    for stakes in nothing:
        with pytest.raises(ValueError, match="^stake is asked for, and the metagraph does not say it of 5"):
            miners_of(info10(alpha_stake=stakes), min_stake=1)
    with pytest.raises(ValueError, match="^validator_permit is asked for"):
        miners_of(axons10(), validator_permit=True)
    with pytest.raises(TypeError, match="rao"):
        miners_of(metagraph11(), min_stake=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^a metagraph of 1 hotkeys and 22 axons$"):
        miners_of(info10(hotkeys=KEYS[:1]))


@pytest.mark.parametrize(
    "given", [[1], [None], [{"hotkey": KEYS[0]}], KEYS, "text", info10(hotkeys=[1] * 22)]
)
def test_what_is_no_metagraph_is_refused(given: Any) -> None:
    with pytest.raises(TypeError):
        miners_of(given)
    with pytest.raises(TypeError):
        miners_of(object())  # type: ignore[arg-type]


def test_a_list_without_an_end_is_not_read_to_it() -> None:
    axon = axons10()[0]
    with pytest.raises(ValueError, match="^more than 16384 neurons$"):
        miners_of(iter(lambda: axon, None))


@pytest.mark.parametrize(
    "ip",
    [
        "",
        "8.8.8",
        "miner.example.com",
        "8.8.8.8 ",
        "fe80::1%eth0",
        -1,
        2**128,
        2.5,
        None,
        "9" * 10_000,
        [1],
        b"8",
    ],
)
def test_an_address_that_is_none_is_no_miners(ip: Any) -> None:
    axon = {**record("8.8.8.8", 1), "ip": ip}
    assert miners_of([SimpleNamespace(hotkey=KEYS[0], **axon)], allow_private=True) == []
    assert miners_of(info10(hotkeys=KEYS[:1], axons=[axon]), allow_private=True) == []


@pytest.mark.parametrize("port", [0, -1, 65536, None, "", "x", 2.5, "9" * 10_000])
def test_a_port_that_is_none_is_no_miners(port: Any) -> None:
    axon = {**record("8.8.8.8", 1), "port": port}
    assert miners_of([SimpleNamespace(hotkey=KEYS[0], **axon)]) == []
    text = SimpleNamespace(hotkey=KEYS[0], axon=f"8.8.8.8:{port}")
    assert miners_of([text]) == []


# The clients.


@pytest.mark.parametrize("kind", WHOLE)
def test_lists_of_miners_may_be_metagraphs(kind: str) -> None:
    whole = "etagraph" in kind and "neurons" not in kind
    assert said(listed(WHOLE[kind]())) == expected(1, permits=not whole or kind not in WITH_STAKES)


def test_neurons_may_stand_in_a_list_among_others() -> None:
    """One's own word stays as it is; of neurons and axons of the SDK's, those are left that are miners."""
    mine: list[Any] = [axon_of(KEYS[0]), KEYS[1], QuicAxonInfo(KEYS[2], "127.0.0.1", 1)]
    own = SimpleNamespace(hotkey=KEYS[3], ip="127.0.0.1", port=1)
    good, never, private = metagraph11().neurons[1], neurons10()[4], axons10()[9]
    assert private.ip == "127.0.0.2"
    given = listed([never, own, *mine, good, private])
    assert given[:4] == [own, *mine]
    assert said(given[4:]) == [expected(1)[1]]
    with pytest.raises(TypeError, match="not one miner"):
        listed(good)


def axon_of(hotkey: str, port: int = 8091) -> dict[str, Any]:
    return {"hotkey": hotkey, "ip": "127.0.0.1", "port": port}


def of_server(server: LightningServer | AsyncLightningServer) -> dict[str, Any]:
    """Each object of the SDK's that names one miner, here a running one."""
    axon = record("127.0.0.1", server.port)
    ten = SimpleNamespace(**{**axon, "ip": "127.0.0.1", "hotkey": server.hotkey})
    eleven: Any = metagraph_of_11._build(7, {**GRAPH, "hotkeys": [server.hotkey], "axons": [axon]}, {})
    return {
        "AxonInfo of 10": ten,
        "NeuronInfo of 10": SimpleNamespace(hotkey=server.hotkey, uid=0, axon_info=ten),
        "MetagraphNeuron of 11": eleven.neurons[0],
        "Neuron of 11": Neuron11(0, server.hotkey, server.hotkey, False, False, 0, None, {"axon_info": axon}),
        "the metagraph": eleven,
    }


def test_one_neuron_names_a_miner_wherever_it_is() -> None:
    with new_server() as server, new_client() as client:
        server.register("echo", lambda data: data)
        server.register_streaming_handler("count", lambda data: iter([b"1", b"2"]))
        named = of_server(server)
        whole = named.pop("the metagraph")
        for kind, miner in named.items():
            assert client.query(miner, "echo", {"a": kind}).data == {"a": kind}
            request = {"synapse_type": "echo", "data": {"a": kind}}
            assert client.query_axon(miner, request)["data"] == {"a": kind}
            with client.stream(miner, "count", {}) as chunks:
                assert chunks.collect() == b"12"
        # Of a metagraph, nobody on this host is a miner, unless one says so.
        client.update_miner_registry(whole)
        assert client.peers() == []
        client.initialize_connections([*named.values()])
        assert client.peers() == []
        assert list(client.fan_out(whole, "echo", {})) == []
        client.initialize_connections(miners_of(whole, allow_private=True))
        assert [peer.connected for peer in client.peers()] == [True]


def test_one_neuron_names_a_miner_for_asyncio() -> None:
    async def echo(data: dict[str, Any]) -> dict[str, Any]:
        return data

    async def main() -> None:
        server = new_async_server()
        server.register("echo", echo)
        async with server, new_async_client() as client:
            named = of_server(server)
            whole = named.pop("the metagraph")
            for kind, miner in named.items():
                assert (await client.query(miner, "echo", {"a": kind})).data == {"a": kind}
            await client.update(whole)
            assert client.peers() == []
            miners = miners_of(whole, allow_private=True)
            await client.connect(miners)
            answers = [answer.data async for answer in client.fan_out(miners, "echo", {"a": 1})]
            assert answers == [{"a": 1}]

    run(main())


def test_a_neuron_that_serves_nothing_is_known_by_its_hotkey_alone() -> None:
    with new_server() as server, new_client() as client:
        server.register("echo", lambda data: data)
        nothing = SimpleNamespace(hotkey=server.hotkey, axon=None)
        with pytest.raises(LightningConnectionError) as unknown:
            client.query(nothing, "echo", {})
        assert unknown.value.reason == "unknown_peer"
        with pytest.raises(LightningConnectionError) as nowhere:
            client.query_axon(nothing, {"synapse_type": "echo", "data": {}})
        assert nowhere.value.reason == "invalid_address"
        client.initialize_connections([axon_of(server.hotkey, server.port)])
        assert client.query(nothing, "echo", {"a": 1}).data == {"a": 1}


@pytest.mark.parametrize("thing", [object(), SimpleNamespace(hotkey=KEYS[0]), 7, None])
def test_what_names_nobody_is_refused_as_ever(thing: Any) -> None:
    with new_client() as client:
        with pytest.raises(TypeError, match="names no miner"):
            client.query(thing, "echo", {})
        with pytest.raises(TypeError, match="names no miner"):
            client.initialize_connections([thing])
