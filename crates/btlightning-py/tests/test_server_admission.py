"""Who may come in, who is told of it, and a server's settings."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import ipaddress
import threading
from typing import Any

import pytest
from world import PATIENCE, STRANGER, VALIDATOR, axon, echo, new_async_server, new_client, new_server, run

from btlightning import (
    AsyncLightningServer,
    ConfigError,
    HandshakeError,
    LightningConnectionError,
    LightningServer,
)
from btlightning._native import hotkey_of_seed
from btlightning._server_base import ServerOptions

OPTIONS = dict.fromkeys(ServerOptions.__annotations__)


def comes_in(server: Any, seed: bytes = VALIDATOR) -> bool:
    with new_client(seed) as client:
        try:
            return bool(client.query(axon(server), "echo", {"a": 1}, timeout=PATIENCE / 2).data)
        except HandshakeError:
            return False


def test_only_permitted_validators_come_in() -> None:
    asked = threading.Event()

    def permits() -> tuple[str, ...]:
        asked.set()
        return (hotkey_of_seed(VALIDATOR), "no hotkey at all")

    server = new_server(require_validator_permit=True)
    server.register("echo", echo)
    server.set_validator_permit_resolver(permits)
    with server:
        assert comes_in(server) and not comes_in(server, STRANGER)
        assert asked.is_set() and server.get_permitted_validator_count() == 1
        assert server.get_active_nonce_count() >= 1
        server.cleanup_expired_nonces()


class Permits:
    """Names the validator, then answers something wrong, then raises."""

    def __init__(self, wrong: Any) -> None:
        self.answers: list[Any] = [[hotkey_of_seed(VALIDATOR)], wrong]
        self.done = threading.Event()

    def __call__(self) -> Any:
        if self.answers:
            return self.answers.pop(0)
        self.done.set()
        raise RuntimeError("no chain")


def test_a_resolver_that_fails_leaves_what_was_in_force(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.ExitStack() as stack:
        servers = []
        for wrong in ["a string", b"bytes", 7, [7], None]:
            server = new_server(require_validator_permit=True, validator_permit_refresh_secs=1)
            server.register("echo", echo)
            permits = Permits(wrong)
            server.set_validator_permit_resolver(permits)
            servers.append((stack.enter_context(server), permits))
        for server, permits in servers:
            assert comes_in(server)
            assert permits.done.wait(PATIENCE)
            assert comes_in(server) and server.get_permitted_validator_count() == 1
    assert "Validator permit resolution failed" in caplog.text


def same(answer: Any) -> Any:
    return answer


def test_only_allowed_addresses_come_in() -> None:
    server = new_server(enforce_source_allowlist=True)
    server.register("echo", echo)
    cases: list[tuple[Any, int]] = [
        (["127.0.0.1"], 1),
        ({ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}, 2),
        (None, 0),
    ]
    for allowed, count in cases:
        server.set_source_address_resolver(functools.partial(same, allowed))
        with server:
            assert comes_in(server)
            assert server.get_allowed_source_count() == count
            assert server.is_source_enforcement_bypassed() is (allowed is None)
    with contextlib.ExitStack() as stack, new_client(connect_timeout_secs=0.5) as client:
        closed = []
        for allowed in (["127.0.0.2"], [], ["nonsense"]):
            server = new_server(enforce_source_allowlist=True)
            server.set_source_address_resolver(functools.partial(same, allowed))
            closed.append(axon(stack.enter_context(server)))
        for asked in client.fan_out(closed, "echo", {}, timeout=0.5):
            assert isinstance(asked.error, LightningConnectionError)


def test_handshakes_are_observed() -> None:
    seen: list[tuple[str, str]] = []
    observed = threading.Event()

    def plain(hotkey: str, ip: str) -> None:
        seen.append((hotkey, ip))
        observed.set()

    async def asynchronous(hotkey: str, ip: str) -> None:
        await asyncio.sleep(0)
        plain(hotkey, ip)

    for observer in [plain, asynchronous]:
        observed.clear()
        server = new_server()
        server.register("echo", echo)
        server.set_handshake_observer(observer)
        with server:
            assert comes_in(server)
            assert observed.wait(PATIENCE)
    assert seen == [(hotkey_of_seed(VALIDATOR), "127.0.0.1")] * 2


def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    observed = threading.Event()

    def fail(hotkey: str, ip: str) -> None:
        observed.set()
        raise RuntimeError("the observer's")

    server = new_server()
    server.register("echo", echo)
    server.set_handshake_observer(fail)
    with server:
        assert comes_in(server) and observed.wait(PATIENCE) and comes_in(server)
    assert "the observer's" in caplog.text


async def permits() -> list[str]:
    await asyncio.sleep(0)
    return [hotkey_of_seed(VALIDATOR)]


def test_both_servers_take_asynchronous_resolvers() -> None:
    async def main() -> None:
        server = new_async_server(require_validator_permit=True)
        server.register("echo", echo)
        server.set_validator_permit_resolver(permits)
        async with server:
            assert await asyncio.to_thread(comes_in, server)
            assert not await asyncio.to_thread(comes_in, server, STRANGER)

    run(main())
    server = new_server(require_validator_permit=True)
    server.register("echo", echo)
    server.set_validator_permit_resolver(permits)
    with server:
        assert comes_in(server) and not comes_in(server, STRANGER)
    with pytest.raises(TypeError, match="not int"):
        server.set_source_address_resolver(7)  # type: ignore[arg-type]


def test_every_setting_is_a_keyword_of_both_servers() -> None:
    keywords = inspect.signature(LightningServer).parameters
    for name in OPTIONS:
        value: Any = 2**20 if name == "max_frame_payload_bytes" else 40
        if name.startswith(("require", "enforce")):
            value = True
        for options in [{name: value}, {name: None}]:
            new_server(b"m" * 32, **options)
            new_async_server(b"m" * 32, **options)
        assert keywords[name].default is None
    assert len(OPTIONS) == 24
    with pytest.raises(TypeError, match="max_conections"):
        new_async_server(max_conections=1)


def test_settings_out_of_their_bounds_are_named() -> None:
    with pytest.raises(ConfigError, match="max_connections must be non-zero"):
        new_server(max_connections=0)
    with pytest.raises(ConfigError, match="handler_timeout_secs"):
        new_server(handler_timeout_secs=1.5)
    new_server(handler_timeout_secs=2.0)
    with pytest.raises(OverflowError, match="max_connections"):
        new_server(max_connections=-1)
    with pytest.raises(TypeError, match="max_connections"):
        new_server(max_connections="many")
    for unfit in [0, -1, 2**63, 2**70]:
        with pytest.raises(ConfigError, match="handler_threads"):
            new_server(handler_threads=unfit)
        with pytest.raises(ConfigError, match="handler_threads"):
            new_async_server(handler_threads=unfit)
    for unread in [2.5, "many", None]:
        with pytest.raises(TypeError, match="handler_threads is an int"):
            new_server(handler_threads=unread)
    with pytest.raises(ConfigError, match="miner_hotkey"):
        LightningServer()
    with pytest.raises(ConfigError, match="miner_hotkey"):
        AsyncLightningServer(signer=lambda message: message)


def test_a_miner_that_signs_by_a_function_is_known() -> None:
    from btlightning import _native

    seed = b"m" * 32
    server = LightningServer(hotkey_of_seed(seed), "127.0.0.1", 0)
    server.set_python_signer(lambda message: _native.sign(seed, message))
    server.register("echo", echo)
    with server:
        assert comes_in(server)
    with pytest.raises(ValueError, match="length 32"):
        server.set_miner_keypair(b"short")
    not_a_seed: list[Any] = [32, None, "m" * 32]
    for wrong in not_a_seed:
        with pytest.raises(TypeError):
            server.set_miner_keypair(wrong)


def test_idle_connections_are_closed_when_asked() -> None:
    server = new_server()
    server.register("echo", echo)
    with server, new_client() as client:
        client.query(axon(server), "echo", {})
        stats: dict[str, Any] = dict(server.get_connection_stats())
        assert stats["verified_connections"] == "1" and f"connection_{hotkey_of_seed(VALIDATOR)}" in stats
        server.cleanup_stale_connections()
        assert server.get_connection_stats()["total_connections"] == "1"
