"""The chain from Python, on an in-memory Subtensor: what a subnet is, and clients and servers that follow it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from subtensor import ALPHA, CHAIN, NETUID, Subtensor, sdk
from world import (
    PATIENCE,
    echo,
    new_async_client,
    new_client,
    new_server,
    program,
    run,
)

from btlightning import (
    AsyncChain,
    AsyncLightning,
    Chain,
    ConfigError,
    Lightning,
    LightningConnectionError,
    LightningServer,
    NeuronInfo,
    QuicAxonInfo,
    is_valid_ip,
    miners_of,
)

pytestmark = CHAIN


def check(metagraph: Any, chain: Subtensor) -> None:
    assert (metagraph.netuid, metagraph.n, len(metagraph.neurons)) == (NETUID, 5, 5)
    assert metagraph.block >= 1
    first, miner = metagraph.get_neuron(0), metagraph.get_neuron(1)
    assert (first.hotkey, first.stake, first.validator_permit) == (
        chain.hotkey("validator"),
        5000 * ALPHA,
        True,
    )
    assert (miner.uid, miner.axon_ip, miner.axon_port, miner.axon_protocol) == (1, "8.8.8.8", 8091, 4)
    assert (miner.is_active, first.is_active) == (False, True)
    assert metagraph.get_neuron(5) is None
    assert metagraph.get_uid_by_hotkey(chain.hotkey("other")) == 2
    assert metagraph.get_uid_by_hotkey("nobody") is None
    assert metagraph.validator_axon_ips() == {"9.9.9.9"}
    assert [axon.ip for axon in metagraph.quic_miners()] == ["8.8.8.8", "2606:4700::1111"]
    assert [axon.ip for axon in metagraph.miners(min_stake=ALPHA)] == ["2606:4700::1111"]
    assert [axon.ip for axon in metagraph.miners(validator_permit=True)] == ["9.9.9.9"]
    assert [axon.ip for axon in miners_of(metagraph, matching=lambda neuron: neuron.uid == 1)] == ["8.8.8.8"]
    assert metagraph.permitted() == {chain.hotkey("validator"), chain.hotkey("small validator")}
    assert metagraph.permitted(2 * ALPHA) == {chain.hotkey("validator")}


def test_a_subnet_is_read(chain: Subtensor) -> None:
    nodes = Chain(chain.url)
    assert (nodes.network, nodes.endpoints, nodes.is_local) == ("custom", [chain.url], True)
    assert nodes.status().endpoint is None
    metagraph = nodes.metagraph(NETUID)
    check(metagraph, chain)
    again = nodes.metagraph(NETUID)
    assert again.neurons == metagraph.neurons and hash(again.neurons[0]) == hash(metagraph.neurons[0])
    assert repr(metagraph.neurons[1]).startswith("NeuronInfo(uid=1, hotkey=")
    status = nodes.status()
    assert status.endpoint is not None and status.failures == 0 and status.last_error is None
    assert len(status.genesis or "") == 64


def test_a_subnet_is_read_in_asyncio(chain: Subtensor) -> None:
    async def main() -> None:
        nodes = AsyncChain(["ws://127.0.0.1:1", chain.url])
        check(await nodes.metagraph(NETUID), chain)
        # The first node is down; the second was asked in its place.
        assert chain.url in str(nodes.status().endpoint)
        with pytest.raises(ConfigError, match="the chain has no subnet 8"):
            await nodes.metagraph(8)

    run(main())


def test_failures_of_the_chain_say_whose_they_are(chain: Subtensor) -> None:
    with pytest.raises(ConfigError, match="the chain has no subnet 8") as missing:
        Chain(chain.url).metagraph(8)
    assert (missing.value.reason, missing.value.retryable) == ("no_such_subnet", False)
    with pytest.raises(LightningConnectionError, match="no node answers: ws://127.0.0.1:1") as down:
        Chain("ws://127.0.0.1:1").metagraph(NETUID)
    assert (down.value.reason, down.value.retryable) == ("no_node", True)
    wrong: list[Any] = ["finey", "http://127.0.0.1", "", []]
    for network in wrong:
        with pytest.raises(ConfigError):
            Chain(network)
    for timeout in (0, -1, float("nan"), float("inf"), 10**9):
        with pytest.raises(ConfigError, match="connect_timeout"):
            Chain(chain.url, connect_timeout=timeout)


def test_the_network_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BT_CHAIN_ENDPOINT", "BT_SUBTENSOR_CHAIN_ENDPOINT", "BT_NETWORK", "BT_SUBTENSOR_NETWORK"):
        monkeypatch.delenv(name, raising=False)
    assert Chain().network == Chain("finney").network == "finney"
    monkeypatch.setenv("BT_SUBTENSOR_NETWORK", "test")
    assert Chain().network == "test"
    monkeypatch.setenv("BT_CHAIN_ENDPOINT", "ws://10.0.0.1:1")
    assert Chain().endpoints == ["ws://10.0.0.1:1"]
    monkeypatch.setenv("BT_CHAIN_ENDPOINT", "nonsense")
    with pytest.raises(ConfigError, match="BT_CHAIN_ENDPOINT"):
        Chain()


@pytest.mark.parametrize(
    ("ip", "valid"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("10.0.0.1", False), ("::1", False), ("", False)],
)
def test_an_address_is_one_that_the_internet_routes(ip: str, valid: bool) -> None:
    assert is_valid_ip(ip) is valid


class Miners:
    """Miners of the subnet that run here."""

    def __init__(self, chain: Subtensor) -> None:
        self.chain = chain
        self.servers: dict[str, LightningServer] = {}

    def serve(self, name: str) -> str:
        """Starts a miner at a new port, and says where it is."""
        self.servers[name] = server = new_server(self.chain.seed(name))
        server.register("echo", echo)
        server.__enter__()
        return f"127.0.0.1:{server.port}"

    def end(self) -> None:
        for server in self.servers.values():
            server.stop()


@pytest.fixture
def miners(chain: Subtensor) -> Iterator[Miners]:
    made = Miners(chain)
    for name in ("validator", "miner", "other", "idle", "small validator"):
        chain.settle(name=name, permit="validator" in name)
    yield made
    made.end()


def connected(client: Lightning | AsyncLightning) -> set[str]:
    return {peer.address for peer in client.peers() if peer.connected}


def until(client: Lightning, is_so: Callable[[], bool]) -> None:
    """Waits for a change of a miner's state after which it is so."""
    changes = client.peer_changes(PATIENCE)
    while not is_so():
        next(changes)


def test_a_client_follows_its_subnet(chain: Subtensor, miners: Miners) -> None:
    first, second = miners.serve("miner"), miners.serve("other")
    chain.settle(name="miner", axon=first)
    with new_client(chain.seed("validator")) as client:
        assert (client.metagraph, client.metagraph_status()) == (None, None)
        client.start_metagraph_monitor(NETUID, chain.url)
        assert connected(client) == {first}
        assert client.metagraph is not None and client.metagraph.n == 5
        # Joins.
        chain.settle(name="other", axon=second)
        client.refresh_metagraph()
        until(client, lambda: connected(client) == {first, second})
        # Moves.
        moved = miners.serve("miner")
        chain.settle(name="miner", axon=moved)
        client.refresh_metagraph()
        until(client, lambda: connected(client) == {moved, second})
        reply = client.query(chain.hotkey("miner"), "echo", {"a": 1})
        assert (reply.data, reply.hotkey) == ({"a": 1}, chain.hotkey("miner"))
        # Is deregistered: another has its uid.
        chain.settle(name="newcomer", replaces="other")
        client.refresh_metagraph()
        until(client, lambda: connected(client) == {moved})
        status = client.metagraph_status()
        assert status is not None and status.age is not None and status.age < PATIENCE
        assert (status.neurons, status.failures, status.last_error) == (5, 0, None)
        client.stop_metagraph_monitor()
        client.stop_metagraph_monitor()
        assert client.metagraph_status() is None
        assert connected(client) == {moved}


def test_a_client_follows_its_subnet_in_asyncio(chain: Subtensor, miners: Miners) -> None:
    first, second = miners.serve("miner"), miners.serve("other")
    chain.settle(name="miner", axon=first)

    async def main() -> None:
        async with new_async_client(chain.seed("validator")) as client:
            await client.start_metagraph_monitor(NETUID, chain.url)
            assert connected(client) == {first}
            changes = client.peer_changes()
            chain.settle(name="other", axon=second)
            client.refresh_metagraph()
            while connected(client) != {first, second}:
                await changes.__anext__()
            await changes.aclose()
            miners_now = client.metagraph
            assert miners_now is not None
            answers = client.fan_out(miners_now.miners(allow_private=True), "echo", {"a": 1})
            assert [answer.data async for answer in answers] == [{"a": 1}] * 2
        assert client.metagraph is None

    run(main())


def test_the_last_metagraph_stays_while_no_node_answers(chain: Subtensor, miners: Miners) -> None:
    chain.settle(name="miner", axon=miners.serve("miner"))
    with new_client(chain.seed("validator")) as client:
        client.start_metagraph_monitor(NETUID, chain.url, interval=0.05)
        chain.tell("down")
        # A state that no event tells of: each look is a call that waits for nothing.
        waited = threading.Event()
        while (status := client.metagraph_status()) is not None and not status.failures:
            assert not waited.wait(0.01)
        assert status is not None and "no node answers" in str(status.last_error)
        assert client.metagraph is not None and client.metagraph.n == 5
        assert client.query(chain.hotkey("miner"), "echo", {}).data == {}
        second = miners.serve("other")
        chain.settle(name="other", axon=second)
        chain.tell("up")
        until(client, lambda: second in connected(client))


def test_whom_to_follow_is_the_programs_to_choose(chain: Subtensor, miners: Miners) -> None:
    first, second, third = miners.serve("miner"), miners.serve("other"), miners.serve("idle")
    own = miners.serve("validator")
    chain.settle(name="validator", permit=True, axon=own)
    chain.settle(name="miner", axon=first, stake=ALPHA)
    chain.settle(name="other", axon=second, stake=2 * ALPHA)
    asked: list[tuple[str, bool]] = []

    def matching(neuron: NeuronInfo) -> bool:
        asked.append((neuron.hotkey, threading.current_thread().name == "btlightning-metagraph"))
        if neuron.hotkey == chain.hotkey("other"):
            raise RuntimeError("no opinion")
        return True

    with new_client(chain.seed("validator")) as client:
        client.start_metagraph_monitor(NETUID, chain.url, min_stake=2 * ALPHA)
        assert connected(client) == {second}
        client.start_metagraph_monitor(NETUID, chain.url, validator_permit=None)
        # Not oneself.
        assert connected(client) == {first, second}
        client.start_metagraph_monitor(NETUID, chain.url, matching=matching)
        assert connected(client) == {first}
        assert {hotkey for hotkey, _ in asked} == {chain.hotkey("miner"), chain.hotkey("other")}
        # Later on a thread of its own.
        changes = client.peer_changes(PATIENCE)
        chain.settle(name="idle", axon=third)
        client.refresh_metagraph()
        while third not in connected(client):
            next(changes)
        assert (chain.hotkey("idle"), True) in asked
        client.start_metagraph_monitor(NETUID, chain.url, allow_private=False)
        assert connected(client) == set()


def test_miners_that_are_named_by_hand_are_kept(chain: Subtensor, miners: Miners) -> None:
    first, second = miners.serve("miner"), miners.serve("other")
    chain.settle(name="miner", axon=first)
    port = miners.servers["other"].port
    with new_client(chain.seed("validator")) as client:
        client.initialize_connections([QuicAxonInfo(chain.hotkey("other"), "127.0.0.1", port)])
        client.start_metagraph_monitor(NETUID, chain.url)
        assert connected(client) == {first, second}
        chain.settle(name="miner")
        client.refresh_metagraph()
        until(client, lambda: connected(client) == {second})


def test_what_cannot_be_followed_is_said_at_once(chain: Subtensor) -> None:
    with new_client() as client:
        with pytest.raises(ConfigError, match="no subnet 8"):
            client.start_metagraph_monitor(8, chain.url)
        with pytest.raises(ConfigError, match="interval"):
            client.start_metagraph_monitor(NETUID, chain.url, interval=0)
        with pytest.raises(ConfigError, match="finey"):
            client.start_metagraph_monitor(NETUID, "finey")
        assert client.metagraph_status() is None


def test_the_thread_ends_with_its_client(chain: Subtensor) -> None:
    client = new_client()
    client.start_metagraph_monitor(NETUID, chain.url, matching=lambda neuron: False)
    client.start_metagraph_monitor(NETUID, Chain(chain.url), matching=lambda neuron: False)
    # The one that was replaced is told to end.
    threads = [thread for thread in threading.enumerate() if thread.name == "btlightning-metagraph"]
    for thread in threads[:-1]:
        thread.join(PATIENCE)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "btlightning-metagraph"]
    del client
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_program_that_follows_a_metagraph_ends_when_it_is_done(chain: Subtensor) -> None:
    ended = program(
        f"""if True:
        from btlightning import Lightning
        client = Lightning(signer=b"v" * 32)
        client.start_metagraph_monitor({NETUID}, {chain.url!r}, interval=0.01, matching=lambda neuron: False)
        print(client.metagraph.n)
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "5\n", "")


def test_the_official_sdk_reads_the_same(chain: Subtensor) -> None:
    ours = Chain(chain.url).metagraph(NETUID)
    theirs, neurons = asyncio.run(sdk(chain.url))
    said = [(axon.hotkey, axon.ip, axon.port) for axon in ours.quic_miners()]
    assert said == [(axon.hotkey, axon.ip, axon.port) for axon in miners_of(theirs)]
    assert said == [(axon.hotkey, axon.ip, axon.port) for axon in miners_of(neurons)]
    assert [neuron.stake for neuron in ours.neurons] == [neuron.alpha_stake.rao for neuron in theirs]
    assert [neuron.validator_permit for neuron in ours.neurons] == [
        neuron.validator_permit for neuron in theirs
    ]
