"""The chain from Python, on an in-memory Subtensor: what servers have of it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from subtensor import ALPHA, CHAIN, NETUID, Subtensor, sdk
from world import PATIENCE, echo, new_async_client, new_async_server, new_client, new_server, run

from btlightning import (
    AsyncChain,
    AsyncLightning,
    AxonInfo,
    Chain,
    ConfigError,
    HandshakeError,
    Lightning,
    LightningConnectionError,
    LightningError,
    LightningServer,
    SigningError,
    SourceRules,
    SubnetPermits,
    _native,
    miners_of,
)

pytestmark = CHAIN


def connected(client: Lightning | AsyncLightning) -> bool:
    return any(peer.connected for peer in client.peers())


def axon(server: Any) -> AxonInfo:
    return {"hotkey": server.hotkey, "ip": "127.0.0.1", "port": server.port}


def test_permits_come_from_the_chain(chain: Subtensor) -> None:
    permits = SubnetPermits(NETUID, chain.url)
    server = new_server(chain.seed("miner"), require_validator_permit=True)
    server.set_validator_permit_resolver(permits)
    server.register("echo", echo)
    with server:
        with new_client(chain.seed("validator")) as permitted, new_client(chain.seed("other")) as stranger:
            assert permitted.query(axon(server), "echo", {"a": 1}).data == {"a": 1}
            with pytest.raises(HandshakeError):
                stranger.query(axon(server), "echo", {"a": 1})
            # Lost: the connection is closed after the next read.
            changes = permitted.peer_changes(PATIENCE)
            chain.settle(name="validator")
            permits.refresh()
            while connected(permitted):
                next(changes)
    metagraph, status = permits.metagraph, permits.status()
    assert metagraph is not None and metagraph.permitted() == {chain.hotkey("small validator")}
    assert status is not None and status.block == metagraph.block
    permits.close()
    assert permits.metagraph is None and permits.status() is None
    with pytest.raises(ConfigError, match="no longer followed"):
        server.set_validator_permit_resolver(permits)


def test_permits_may_want_stake_and_serve_asyncio_too(chain: Subtensor) -> None:
    async def main() -> None:
        server = new_async_server(chain.seed("miner"), require_validator_permit=True)
        server.set_validator_permit_resolver(SubnetPermits(NETUID, Chain(chain.url), min_stake=2 * ALPHA))
        server.register("echo", echo)
        async with server:
            async with new_async_client(chain.seed("validator")) as permitted:
                assert (await permitted.query(axon(server), "echo", {"a": 1})).data == {"a": 1}
            async with new_async_client(chain.seed("small validator")) as small:
                with pytest.raises(HandshakeError):
                    await small.query(axon(server), "echo", {"a": 1})

    run(main())


def test_a_server_learns_where_validators_are(chain: Subtensor, tmp_path: Path) -> None:
    permits = SubnetPermits(NETUID, chain.url, min_stake=2 * ALPHA)
    path = tmp_path / "sources.json"
    server = new_server(chain.seed("miner"), enforce_source_allowlist=True, require_validator_permit=True)
    server.set_validator_permit_resolver(permits)
    sources = server.learn_sources(permits, path, SourceRules(learning_time_min=0))
    assert (sources.status().mode, sources.status().permitted_hotkeys) == ("learning", 0)
    server.register("echo", echo)
    with server, new_client(chain.seed("validator")) as client:
        assert server.is_source_enforcement_bypassed()
        assert client.query(axon(server), "echo", {"a": 1}).data == {"a": 1}
        status = sources.status()
        assert (status.mode, status.coverage, status.addresses) == ("enforcing", 1.0, 1)
        assert (status.permitted_hotkeys, status.known_hotkeys, status.last_error) == (1, 1, None)
        assert "enough" in status.reason and "enforcing" in repr(status)
        (entry,) = sources.entries()
        assert (entry.hotkey, entry.ip, entry.is_allowed) == (chain.hotkey("validator"), "127.0.0.1", True)
        assert not server.is_source_enforcement_bypassed()
        assert server.get_allowed_source_count() == 1
    assert json.loads(path.read_text("utf-8"))

    # Kept over restarts, and read by the asyncio form, too.
    async def main() -> None:
        again = new_async_server(chain.seed("miner"), enforce_source_allowlist=True)
        learned = await again.learn_sources(permits, str(path))
        assert [entry.ip for entry in learned.entries()] == ["127.0.0.1"]

    run(main())


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"coverage_to_enforce": 0}, "coverage_to_enforce"),
        ({"coverage_to_enforce": 1.1}, "coverage_to_enforce"),
        ({"coverage_to_relax": 0.9}, "coverage_to_relax"),
        ({"address_age_max": 1}, "address_age_max"),
        ({"permit_grace": float("nan")}, "permit_grace"),
        ({"visitors_burst": 0}, "visitors_burst"),
    ],
)
def test_rules_out_of_their_bounds_are_refused(chain: Subtensor, rules: dict[str, Any], words: str) -> None:
    permits = SubnetPermits(NETUID, chain.url)
    with pytest.raises(ConfigError, match=words):
        new_server().learn_sources(permits, None, SourceRules(**rules))


def test_what_sources_cannot_be_learned_from_is_refused(chain: Subtensor, tmp_path: Path) -> None:
    permits = SubnetPermits(NETUID, chain.url)
    with pytest.raises(ConfigError):
        new_server().learn_sources(permits, tmp_path / "nowhere" / "sources.json")
    nobody: Any = set
    with pytest.raises(TypeError, match="SubnetPermits"):
        new_server().learn_sources(nobody)


def test_a_miner_says_on_the_chain_where_it_is(chain: Subtensor, tmp_path: Path) -> None:
    server = new_server(chain.seed("idle"))
    server.set_tls_key_file(tmp_path / "key.pem")
    assert server.tls_key_pin is None
    nodes = Chain(chain.url)
    with server:
        pin = server.tls_key_pin
        assert pin is not None and len(pin) == 64
        block = server.publish_axon("9.9.9.10", 4433, netuid=NETUID, network=chain.url)
        assert isinstance(block, int) and block >= 1
        assert server.publish_axon("9.9.9.10", 4433, netuid=NETUID, network=nodes) is None
        assert nodes.tls_key_pins(NETUID) == {server.hotkey: pin}
        neuron = nodes.metagraph(NETUID).get_neuron(3)
        assert neuron is not None
        assert (neuron.axon_ip, neuron.axon_port, neuron.axon_protocol) == ("9.9.9.10", 4433, 4)
        # The official SDK reads it, and finds a miner.
        theirs, _ = asyncio.run(sdk(chain.url))
        assert ("9.9.9.10", 4433) in [(miner.ip, miner.port) for miner in miners_of(theirs)]
        with pytest.raises(LightningConnectionError, match="too recently") as early:
            server.publish_axon(ipaddress.ip_address("9.9.9.11"), netuid=NETUID, network=nodes)
        assert (early.value.reason, early.value.retryable) == ("rate_limited", True)
    for _ in range(60):
        chain.tell("block")

    async def main() -> None:
        again, nodes = new_async_server(chain.seed("idle")), AsyncChain(chain.url)
        assert isinstance(await again.reset_axon(netuid=NETUID, network=nodes), int)
        neuron = (await nodes.metagraph(NETUID)).get_neuron(3)
        assert neuron is not None and (neuron.axon_ip, neuron.axon_port) == ("0.0.0.0", 1)
        assert await again.reset_axon(netuid=NETUID, network=nodes) is None
        assert len(await nodes.tls_key_pins(NETUID)) == 1

    run(main())


def test_what_the_chain_would_refuse_is_refused_before(chain: Subtensor) -> None:
    def refused(seed: bytes, ip: str, port: int = 1, **options: Any) -> tuple[type[Exception], str]:
        with pytest.raises(LightningError) as error:
            new_server(seed).publish_axon(ip, port, netuid=NETUID, network=chain.url, **options)
        return type(error.value), error.value.reason

    idle = chain.seed("idle")
    assert refused(idle, "127.0.0.1") == (ConfigError, "invalid_axon")
    assert refused(idle, "9.9.9.9", 0) == (ConfigError, "invalid_axon")
    assert refused(idle, "example.com") == (ConfigError, "config")
    assert refused(b"x" * 32, "9.9.9.9") == (ConfigError, "not_registered")
    assert refused(idle, "9.9.9.9", inclusion_timeout=0) == (ConfigError, "config")
    assert refused(idle, "9.9.9.9", wait_for_rate_limit=-1) == (ConfigError, "config")
    unsigned = LightningServer(chain.hotkey("idle"), "127.0.0.1", 0)
    with pytest.raises(SigningError):
        unsigned.publish_axon("9.9.9.9", 1, netuid=NETUID, network=chain.url)


def test_a_signer_of_pythons_signs_for_the_chain(chain: Subtensor) -> None:
    messages: list[bytes] = []

    def sign(message: bytes) -> bytes:
        messages.append(message)
        return _native.sign(chain.seed("idle"), message)

    server = LightningServer(chain.hotkey("idle"), "127.0.0.1", 0, signer=sign)
    assert server.publish_axon("9.9.9.12", 1, netuid=NETUID, network=chain.url)
    assert len(messages) == 1


def test_a_client_turns_away_who_has_another_tls_key(chain: Subtensor, tmp_path: Path) -> None:
    server = new_server(chain.seed("idle"))
    server.set_tls_key_file(tmp_path / "key.pem")
    server.register("echo", echo)
    with server, new_client(chain.seed("validator")) as client:
        client.pin_tls_keys({server.hotkey: "0" * 64})
        with pytest.raises(LightningConnectionError) as other:
            client.query(axon(server), "echo", {"a": 1})
        assert other.value.reason == "wrong_tls_key"
        client.pin_tls_keys({server.hotkey: server.tls_key_pin or ""})
        assert client.query(axon(server), "echo", {"a": 1}).data == {"a": 1}
        wrong: list[dict[str, str]] = [{"nobody": "0" * 64}, {server.hotkey: "0"}]
        for pins in wrong:
            with pytest.raises(ConfigError):
                client.pin_tls_keys(pins)
