"""Exceptions of handlers that cannot even be told of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from world import axon, echo, new_client, new_server

from btlightning import HandlerError


class WordlessError(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("error", [WordlessError(), ValueError("half a character: \ud83d")])
def test_an_exception_whose_text_cannot_be_had_fails_its_request_and_no_more(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(data: dict[str, Any]) -> dict[str, Any]:
        raise error

    async def asynchronous(data: dict[str, Any]) -> dict[str, Any]:
        raise error

    def unsendable(data: dict[str, Any]) -> dict[str, Any]:
        class Odd(dict[str, Any]):
            def items(self) -> Any:
                raise error

        return Odd(a=1)

    handlers: list[Callable[..., Any]] = [plain, asynchronous, unsendable]
    with new_server() as server, new_client() as client:
        server.register("echo", echo)
        client.query(axon(server), "echo", {})
        threads = {
            thread for thread in threading.enumerate() if thread.name.startswith("btlightning-handler")
        }
        for handler in handlers:
            caplog.clear()
            server.register("it", handler)
            with pytest.raises(HandlerError, match="request processing failed"):
                client.query(axon(server), "it", {})
            (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert record.name == "btlightning.server"
        assert client.query(axon(server), "echo", {"still": 1}).data == {"still": 1}
        assert all(thread.is_alive() for thread in threads)
