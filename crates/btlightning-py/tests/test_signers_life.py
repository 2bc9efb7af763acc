"""How long a signer, its thread, and whoever signs with it live."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from world import MINER, PATIENCE, VALIDATOR, axon, echo, new_server

from btlightning import Lightning, LightningServer, _native, hotkey_of_seed


def signer_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "btlightning-signer"}


class Validator:
    """Signs for a client that it has."""

    def __init__(self) -> None:
        self.client = Lightning(hotkey_of_seed(VALIDATOR))
        self.client.set_python_signer(self.sign)

    def sign(self, message: bytes) -> bytes:
        return _native.sign(VALIDATOR, message)


class Miner:
    """Signs for a server that it has."""

    def __init__(self) -> None:
        self.server = LightningServer(hotkey_of_seed(MINER), host="127.0.0.1", port=0)
        self.server.register("echo", echo)
        self.server.set_python_signer(lambda message: self.sign(message))

    def sign(self, message: bytes) -> bytes:
        return _native.sign(MINER, message)


def all_go(dropped: list[weakref.ref[Any]], threads: set[threading.Thread]) -> None:
    gc.collect()
    assert not any(ref() is not None for ref in dropped)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("make", [Validator, Miner])
def test_whoever_signs_for_what_it_has_goes_with_it(make: Callable[[], Any]) -> None:
    before = signer_threads()
    made = [make() for _ in range(50)]
    threads = signer_threads() - before
    assert len(threads) == 50
    dropped = [weakref.ref(one) for one in made]
    del made
    all_go(dropped, threads)


def test_they_go_after_they_have_signed() -> None:
    before = signer_threads()
    miner, validator = Miner(), Validator()
    with miner.server:
        validator.client.initialize_connections([axon(miner.server)])
        assert validator.client.query(axon(miner.server), "echo", {"a": 1}).data == {"a": 1}
        # In use, they stay.
        gc.collect()
        validator.client.close()
        validator.client.initialize_connections([axon(miner.server)])
        assert validator.client.query(axon(miner.server), "echo", {"a": 2}).data == {"a": 2}
        validator.client.close()
    threads = signer_threads() - before
    assert len(threads) == 2
    dropped: list[weakref.ref[Any]] = [weakref.ref(miner), weakref.ref(validator)]
    del miner, validator
    all_go(dropped, threads)


def test_a_signer_goes_when_there_is_another() -> None:
    class Signer:
        def __call__(self, message: bytes) -> bytes:
            return _native.sign(MINER, message)

    server, before = new_server(), signer_threads()
    server.register("echo", echo)
    first = Signer()
    server.set_python_signer(first)
    threads, dropped = signer_threads() - before, [weakref.ref(first)]
    del first
    server.set_python_signer(Signer())
    with server, Lightning(signer=VALIDATOR) as client:
        client.initialize_connections([axon(server)])
        assert client.query(axon(server), "echo", {}, timeout=PATIENCE).hotkey == server.hotkey
    all_go(dropped, threads)
