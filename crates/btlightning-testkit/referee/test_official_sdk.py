"""The official SDK, as the referee of the in-memory chain: it reads what Rust says is there, and publishes on it.

Needs ``bittensor`` 11.3 and pytest, and in ``BTLIGHTNING_CHAIN`` the path of the built example ``chain`` of
btlightning-testkit.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

EXAMPLE = os.environ["BTLIGHTNING_CHAIN"]

# Longer than anything takes on a busy machine.
PATIENCE = 30.0

NEURONS = [
    {"name": "validator", "permit": True, "stake": 5_000_000_000},
    {"name": "miner", "axon": "203.0.113.7:8091"},
    {"name": "miner-v6", "axon": "[2001:db8::7]:8092", "inactive": True},
    {"name": "newcomer"},
    {"name": "second-validator", "permit": True, "stake": 123, "axon": "198.51.100.1:1"},
]


class Chain:
    """The example, running."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [EXAMPLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.said = self.ask(json.dumps(description))
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)

    def ask(self, line: str) -> dict[str, Any]:
        """Says a line, and gives back the answer."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._lines.get(timeout=PATIENCE))
        return answer

    def neuron(self, name: str) -> dict[str, Any]:
        [neuron] = [neuron for neuron in self.said["neurons"] if neuron["name"] == name]
        return dict(neuron)

    def close(self) -> None:
        """Ends the example, which ends with its input."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join(PATIENCE)
        self._process.stdout.close()
        assert code == 0


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    # The SDK remembers metadata between processes, and must read ours.
    monkeypatch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(tmp_path))
    chain = Chain({"netuid": 2, "neurons": NEURONS, "serving_rate_limit": 50})
    yield chain
    chain.close()


def with_sdk(chain: Chain, use: Any) -> Any:
    """What ``use`` makes of the SDK's client, connected to the chain."""
    import bittensor

    async def run() -> Any:
        async with bittensor.Subtensor(chain.said["url"]) as subtensor:
            return await use(subtensor)

    return asyncio.run(asyncio.wait_for(run(), PATIENCE))


def wallet_of_seed(seed: bytes) -> Any:
    """What the SDK takes for a wallet."""
    from bittensor_core import Keypair  # type: ignore[import-untyped]

    keypair = Keypair.create_from_seed(seed)
    return SimpleNamespace(hotkey=keypair, coldkey=keypair, coldkeypub=keypair)


def wallet(chain: Chain, name: str) -> Any:
    """A wallet with the hotkey of a neuron."""
    neuron = chain.neuron(name)
    wallet = wallet_of_seed(bytes.fromhex(neuron["seed"]))
    assert wallet.hotkey.ss58_address == neuron["hotkey"]
    return wallet


def metagraph(chain: Chain) -> Any:
    return with_sdk(chain, lambda subtensor: subtensor.subnets.metagraph(chain.said["netuid"]))


def execute(chain: Chain, name: str, intent: Any) -> Any:
    return with_sdk(chain, lambda subtensor: subtensor.execute(intent, wallet(chain, name)))


def test_the_metagraph_is_what_rust_says_it_is(chain: Chain) -> None:
    graph = metagraph(chain)
    assert (graph.netuid, graph.block, graph.num_uids) == (2, chain.said["block"], len(NEURONS))
    read = [
        {
            "uid": neuron.uid,
            "hotkey": neuron.hotkey,
            "coldkey": neuron.coldkey,
            "axon": neuron.axon,
            "validator_permit": neuron.validator_permit,
            "stake": neuron.alpha_stake.rao,
            "active": neuron.active,
        }
        for neuron in graph
    ]
    said = [{key: neuron[key] for key in read[0]} for neuron in chain.said["neurons"]]
    assert read == said
    assert [neuron.total_stake.rao for neuron in graph] == [neuron["stake"] for neuron in said]


def test_the_metagraph_is_of_the_block_that_there_is(chain: Chain) -> None:
    before = metagraph(chain).block
    assert chain.ask("block") == {"block": before + 1}
    assert metagraph(chain).block == before + 1


def test_a_subnet_that_does_not_exist_has_no_metagraph(chain: Chain) -> None:
    assert with_sdk(chain, lambda subtensor: subtensor.subnets.metagraph(9)) is None


@pytest.mark.parametrize("lite", [True, False])
def test_neurons_are_read_one_by_one(chain: Chain, lite: bool) -> None:
    neurons = with_sdk(chain, lambda subtensor: subtensor.neurons.all(2, lite=lite))
    read = [
        (neuron.uid, neuron.hotkey, neuron.validator_permit, neuron.total_stake.rao) for neuron in neurons
    ]
    keys = ("uid", "hotkey", "validator_permit", "stake")
    assert read == [tuple(neuron[key] for key in keys) for neuron in chain.said["neurons"]]


def test_subnets_are_listed_from_storage(chain: Chain) -> None:
    [subnet] = with_sdk(chain, lambda subtensor: subtensor.subnets.all())
    assert (subnet.netuid, subnet.tempo, subnet.neuron_count) == (2, 360, len(NEURONS))


def test_the_sdk_publishes_an_axon_with_its_own_signature(chain: Chain) -> None:
    import bittensor

    intent = bittensor.ServeAxon(netuid=2, ip="198.51.100.9", port=9000)
    result = execute(chain, "newcomer", intent)
    assert result.success, result.message
    assert "AxonServed" in [event["event_id"] for event in result.events]
    assert metagraph(chain).neuron(3).axon == "198.51.100.9:9000"
    again = execute(chain, "newcomer", intent)
    assert not again.success
    assert "rate limit" in again.message
    assert chain.ask("extrinsics") == {
        "extrinsics": ["Succeeded { block: 2 }", 'Refused { reason: "Custom error: 12" }']
    }


def test_the_sdk_publishes_over_ipv6_with_a_key_and_resets(chain: Chain) -> None:
    import bittensor

    certificate = "0x01" + "ab" * 32
    intent = bittensor.ServeAxonTls(netuid=2, ip="2001:db8::9", port=9000, certificate=certificate)
    result = execute(chain, "newcomer", intent)
    assert result.success, result.message
    assert metagraph(chain).neuron(3).axon == "[2001:db8::9]:9000"
    result = execute(chain, "miner", bittensor.ResetAxon(netuid=2))
    assert result.success, result.message
    assert metagraph(chain).neuron(1).axon in (None, "0.0.0.0:1")


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "255.255.255.255"])
def test_the_sdk_understands_why_an_address_is_refused(chain: Chain, ip: str) -> None:
    import bittensor

    result = execute(chain, "newcomer", bittensor.ServeAxon(netuid=2, ip=ip, port=9000))
    assert not result.success
    assert chain.ask("extrinsics") == {"extrinsics": ['Refused { reason: "Custom error: 11" }']}
    assert "ip" in result.message.lower()


def test_the_sdk_understands_an_error_in_a_block(chain: Chain) -> None:
    import bittensor

    intent = bittensor.ServeAxonTls(netuid=2, ip="127.0.0.1", port=9000, certificate="0x01" + "ab" * 32)
    result = execute(chain, "newcomer", intent)
    assert not result.success
    assert chain.ask("extrinsics") == {"extrinsics": ['Failed { block: 2, error: "InvalidIpAddress" }']}


def test_a_stranger_does_not_publish(chain: Chain) -> None:
    import bittensor

    stranger = wallet_of_seed(bytes(range(32)))
    intent = bittensor.ServeAxon(netuid=2, ip="198.51.100.9", port=9000)
    result = with_sdk(chain, lambda subtensor: subtensor.execute(intent, stranger))
    assert not result.success
    assert chain.ask("extrinsics") == {"extrinsics": ['Refused { reason: "Custom error: 10" }']}
