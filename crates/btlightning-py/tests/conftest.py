"""What all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World, new_client, new_server

import btlightning


def pytest_sessionstart() -> None:
    """Run by ``cargo xtask``, the tests are of the wheel: never of the checkout that they are in."""
    if "BTLIGHTNING_WHEEL" in os.environ and not Path(btlightning.__file__).is_relative_to(sys.prefix):
        pytest.exit(f"the checkout is tested, not the wheel: {btlightning.__file__}", returncode=3)


@pytest.fixture
def world() -> Iterator[World]:
    """A miner that serves, and a validator."""
    with new_server() as server, new_client() as client:
        yield World(server, client)
