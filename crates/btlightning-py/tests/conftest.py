"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from subtensor import NEURONS, Subtensor
from world import World, new_client, new_server

import btlightning

# Shells start jobs in the background with Ctrl-C ignored, and their children inherit that. The tests of Ctrl-C are about what
# a program in the foreground sees.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart() -> None:
    """Run by ``cargo xtask``, the tests are of the wheel: never of the checkout that they are in."""
    if "BTLIGHTNING_WHEEL" in os.environ and not Path(btlightning.__file__).is_relative_to(sys.prefix):
        pytest.exit(f"the checkout is tested, not the wheel: {btlightning.__file__}", returncode=3)


@pytest.fixture
def world() -> Iterator[World]:
    """A miner that serves, and a validator."""
    with new_server() as server, new_client() as client:
        yield World(server, client)


@pytest.fixture
def chain() -> Iterator[Subtensor]:
    """An in-memory Subtensor, with one subnet."""
    made = Subtensor(NEURONS)
    yield made
    made.end()
