"""Handlers: how they are called, what they may answer, what their failures become."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import time
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from world import (
    MINER,
    VALIDATOR,
    World,
    axon,
    echo,
    new_async_server,
    new_server,
)

from btlightning import AsyncLightningServer, Caller, HandlerError
from btlightning._native import hotkey_of_seed


@dataclass
class Square:
    of: int


@dataclass
class Area:
    area: int


async def later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def test_every_kind_of_callable_answers(world: World) -> None:
    class Method:
        def method(self, data: dict[str, Any]) -> dict[str, Any]:
            return data

        def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
            return data

    class AsyncCall:
        async def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
            return await later(data)  # type: ignore[no-any-return]

    async def coroutine(data: dict[str, Any]) -> dict[str, Any]:
        return await later(data)  # type: ignore[no-any-return]

    def two(more: int, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "more": more}

    async def async_two(more: int, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "more": more}

    handlers: list[Callable[..., Any]]
    handlers = [echo, lambda data: data, Method().method, Method(), AsyncCall(), coroutine, dict]
    for handler in handlers:
        assert world.answers(handler, {"a": 1}) == {"a": 1}
    handlers = [functools.partial(two, 2), functools.partial(async_two, 2)]
    for handler in handlers:
        assert world.answers(handler, {"a": 1}) == {"a": 1, "more": 2}


def test_a_decorator_registers_and_leaves_the_function_as_it_is(world: World) -> None:
    @world.server.handler("twice")
    def twice(data: dict[str, Any]) -> dict[str, Any]:
        return {"is": data["of"] * 2}

    assert twice({"of": 2}) == {"is": 4}
    assert world.ask("twice", {"of": 3}) == {"is": 6}


def test_a_decorator_without_a_name_registers_nothing_silently() -> None:
    undecorated: Any = new_server().handler
    with pytest.raises(TypeError, match="takes the name"):
        undecorated(echo)


def test_an_unregistered_name_is_unknown(world: World) -> None:
    world.server.register("gone", echo)
    assert world.ask("gone", {"a": 1}) == {"a": 1}
    assert world.server.unregister("gone") is True
    assert world.server.unregister("gone") is False
    with pytest.raises(HandlerError, match="unrecognized synapse type"):
        world.ask("gone")


def test_the_last_registration_of_a_name_counts(world: World) -> None:
    world.server.register("it", lambda data: {"first": True})
    world.server.register_streaming_handler("it", lambda data: [b"chunk"])
    assert world.client.stream(axon(world.server), "it", {}).collect() == b"chunk"
    assert world.answers(lambda data: {"last": True}) == {"last": True}


def said(caller: Caller) -> dict[str, Any]:
    return {
        "hotkey": caller.hotkey,
        "ip": caller.address[0],
        "port": caller.address[1],
        "connection": caller.connection,
        "synapse_type": caller.synapse_type,
        "remaining": caller.remaining,
        "ahead": caller.deadline - time.monotonic(),
        "ago": time.monotonic() - caller.received_at,
    }


def test_a_handler_is_told_who_calls(world: World) -> None:
    def second(data: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return said(caller)

    def other_name(data: dict[str, Any], who: Any) -> dict[str, Any]:
        return said(who)

    def with_default(data: dict[str, Any], caller: Caller | None = None) -> dict[str, Any]:
        assert caller is not None
        return said(caller)

    def annotated(data: dict[str, Any], who: Caller = None) -> dict[str, Any]:  # type: ignore[assignment]
        return said(who)

    def keyword(data: dict[str, Any], *, caller: Caller) -> dict[str, Any]:
        return said(caller)

    async def asynchronous(data: dict[str, Any], caller: Caller) -> dict[str, Any]:
        return said(caller)

    @functools.wraps(second)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return second(*args, **kwargs)

    hotkey = hotkey_of_seed(VALIDATOR)
    connections = set()
    handlers: list[Callable[..., Any]]
    handlers = [second, other_name, with_default, annotated, keyword, asynchronous, wrapper]
    for handler in handlers:
        told = world.answers(handler)
        assert told["hotkey"] == hotkey and told["synapse_type"] == "it"
        assert ipaddress.ip_address(told["ip"]).is_loopback and told["port"] > 0
        assert 29 < told["remaining"] <= 30 and 29 < told["ahead"] <= 30 and 0 <= told["ago"] < 1
        connections.add(told["connection"])
    assert len(connections) == 1


def test_a_second_parameter_of_its_own_is_left_alone(world: World) -> None:
    def cached(data: dict[str, Any], cache: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"cache": cache}

    def any_number(*data: Any) -> dict[str, Any]:
        return {"arguments": len(data)}

    assert world.answers(cached) == {"cache": None}
    assert world.answers(any_number) == {"arguments": 1}


def test_what_can_be_no_handler_is_refused_at_once(world: World) -> None:
    def nothing() -> None:
        pass

    with pytest.raises(TypeError, match="not int"):
        world.server.register("it", 7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes no request"):
        world.server.register("it", nothing)


def test_a_caller_can_be_made_for_tests() -> None:
    caller = Caller("5F", ("::1", 7), connection=3, synapse_type="Ask", deadline=time.monotonic() + 5)
    assert (caller.hotkey, caller.address, caller.connection) == ("5F", ("::1", 7), 3)
    assert 4 < caller.remaining <= 5
    assert Caller("5F", deadline=0.0).remaining == 0.0
    assert repr(caller) == 'Caller(hotkey="5F", address=("::1", 7), connection=3)'
    with pytest.raises(AttributeError):
        caller.hotkey = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="no IP address"):
        Caller("5F", ("localhost", 7))


def test_types_go_in_and_come_out(world: World) -> None:
    def plain(square: Square) -> Area:
        return Area(square.of**2)

    async def asynchronous(square: Square, caller: Caller) -> Area:
        return Area(square.of**2)

    handlers: list[Callable[..., Any]] = [plain, asynchronous]
    for handler in handlers:
        assert world.answers(handler, Square(3)) == {"area": 9}


def test_pydantic_models_go_in_and_come_out(world: World) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Ask(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        of: int

    def ask(square: Ask) -> Ask:
        return Ask(of=square.of**2)

    assert world.answers(ask, {"of": 4}) == {"of": 16}


def test_an_answer_may_be_any_mapping(world: World) -> None:
    answer: Mapping[str, Any] = UserDict({"a": 1})
    assert world.answers(lambda data: answer) == {"a": 1}


def test_a_request_that_does_not_fit_the_type_fails_and_the_log_says_why(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(square: Square) -> Area:
        return Area(square.of)

    async def asynchronous(square: Square) -> Area:
        return Area(square.of)

    for handler in [plain, asynchronous]:
        caplog.clear()
        assert world.fails(handler, {"off": 1}) == "request processing failed"
        (record,) = mine(caplog)
        assert record.levelno == logging.WARNING and "Square.of" in record.getMessage()
        assert "Request of it" in record.getMessage()


def mine(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged of handlers, wherever it came from."""
    return [
        record
        for record in caplog.records
        if record.name == "btlightning.server" and record.levelno >= logging.WARNING
    ]


def test_what_a_handler_raises_is_in_the_log_once_and_not_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(data: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("a secret")

    async def asynchronous(data: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("a secret")

    for handler in [plain, asynchronous]:
        caplog.clear()
        assert world.fails(handler) == "request processing failed"
        (record,) = mine(caplog)
        assert record.getMessage() == "Handler of it failed"
        assert record.exc_info is not None and str(record.exc_info[1]) == "a secret"
    assert world.answers(echo, {"still": 1}) == {"still": 1}


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError]
)
def test_not_even_an_exit_out_of_a_handler_ends_the_server(world: World, kind: type[BaseException]) -> None:
    def plain(data: dict[str, Any]) -> dict[str, Any]:
        raise kind

    async def asynchronous(data: dict[str, Any]) -> dict[str, Any]:
        raise kind

    for handler in [plain, asynchronous]:
        for _ in range(3):
            assert world.fails(handler) == "request processing failed"
    assert world.answers(echo, {"still": 1}) == {"still": 1}
    assert world.answers(later, {"still": 1}) == {"still": 1}


@pytest.mark.parametrize("answer", [None, 7, "text", b"bytes", [1], {"a": object()}, {1: 2}])
def test_what_cannot_be_sent_is_told_and_logged(
    world: World, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def asynchronous(data: dict[str, Any]) -> Any:
        return answer

    for handler in [lambda data: answer, asynchronous]:
        caplog.clear()
        assert world.fails(handler) == "request processing failed"
        (record,) = mine(caplog)
        assert "Answer of it cannot be sent" in record.getMessage()
    assert world.answers(echo, {"still": 1}) == {"still": 1}


def test_a_coroutine_that_nobody_awaited_is_told_apart(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert world.fails(lambda data: later(data)) == "request processing failed"
    assert "async def" in mine(caplog)[0].getMessage()


def test_a_flood_of_failures_is_no_flood_of_log_lines(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError

    for _ in range(60):
        world.fails(fail)
    assert len(mine(caplog)) <= 20


def test_annotations_that_are_unknown_leave_the_dict(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def strange(data: Nowhere) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return data

    assert world.answers(strange, {"a": 1}) == {"a": 1}
    assert "Nowhere" in caplog.text


def test_a_miner_is_who_its_signer_is() -> None:
    assert new_server().hotkey == new_async_server().hotkey == hotkey_of_seed(MINER)
    assert isinstance(new_async_server(), AsyncLightningServer)
