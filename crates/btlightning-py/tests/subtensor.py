"""The in-memory Subtensor for the tests: a program of the testkit, which ``BTLIGHTNING_CHAIN`` names."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from world import PATIENCE

PROGRAM = os.environ.get("BTLIGHTNING_CHAIN", "")
#: The mark of tests that need it.
CHAIN = pytest.mark.skipif(not PROGRAM, reason="BTLIGHTNING_CHAIN names no in-memory chain")

NETUID = 7
ALPHA = 10**9


class Subtensor:
    """The in-memory chain, in a process of its own."""

    def __init__(self, neurons: list[dict[str, Any]]) -> None:
        self._program = subprocess.Popen(
            [PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        began = self.tell(json.dumps({"netuid": NETUID, "neurons": neurons}))
        self.url: str = began["url"]
        self.neurons: dict[str, dict[str, Any]] = {neuron["name"]: neuron for neuron in began["neurons"]}

    def tell(self, line: str) -> Any:
        assert self._program.stdin is not None and self._program.stdout is not None
        self._program.stdin.write(line + "\n")
        self._program.stdin.flush()
        return json.loads(self._program.stdout.readline())

    def settle(self, **neuron: Any) -> None:
        self.neurons[neuron["name"]] = self.tell(json.dumps(neuron))

    def seed(self, name: str) -> bytes:
        return bytes.fromhex(self.neurons[name]["seed"])

    def hotkey(self, name: str) -> str:
        hotkey: str = self.neurons[name]["hotkey"]
        return hotkey

    def end(self) -> None:
        assert self._program.stdin is not None and self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(PATIENCE)
        self._program.stdout.close()


NEURONS: list[dict[str, Any]] = [
    {"name": "validator", "permit": True, "stake": 5000 * ALPHA, "axon": "9.9.9.9:8091"},
    {"name": "miner", "axon": "8.8.8.8:8091", "inactive": True},
    {"name": "other", "axon": "[2606:4700::1111]:8091", "stake": ALPHA},
    {"name": "idle"},
    {"name": "small validator", "permit": True, "stake": ALPHA},
]


async def sdk(url: str) -> tuple[Any, Any]:
    """What the official SDK reads: the metagraph, and the list of neurons."""
    bittensor: Any = pytest.importorskip("bittensor")
    async with bittensor.Subtensor(url) as client:
        return await client.subnets.metagraph(NETUID), await client.neurons.all(NETUID)
