"""Calls: how a handler is called, what becomes of what it returns, and what is logged when it fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from . import _native
from ._errors import ClosedError, words_of
from ._loop import awaited

_log = logging.getLogger("btlightning.server")


class UnfitError(Exception):
    """The request is not what the handler takes, for the reason that is the cause."""


class UnsendableError(Exception):
    """What the handler gave cannot be sent, for the reason that is the cause."""


def answer(request: _native.Request, failures: Failures) -> None:
    """Answers a request, on a thread where that may block. Raises nothing."""
    if not request.is_wanted:
        return
    try:
        outcome = _begin(request)
        if request.kind == "chunks":
            _send(request, outcome)
            outcome = None
        _put(request, outcome)
    except BaseException as error:
        failures.failed(request, error)


async def answer_in_loop(request: _native.Request, failures: Failures) -> None:
    """Answers a request in an event loop. Raises what ends the task or the loop, and nothing else."""
    try:
        outcome = _begin(request)
        if inspect.isawaitable(outcome):
            outcome = await outcome
        if request.kind == "chunks":
            await _send_in_loop(request, outcome)
            outcome = None
        _put(request, outcome)
    except BaseException as error:
        # One whose caller has left was cancelled for that reason.
        if request.is_wanted or not isinstance(error, asyncio.CancelledError):
            failures.failed(request, error)
        if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)):
            raise


def _begin(request: _native.Request) -> Any:
    try:
        arguments = request.arguments()
    except Exception as error:
        raise UnfitError from error
    return request.function(*arguments)


def _put(request: _native.Request, outcome: object) -> None:
    try:
        request.answer(outcome)
    except Exception as error:
        raise UnsendableError from _not_awaited(outcome) or error


def _send(request: _native.Request, outcome: Any) -> None:
    chunks = _iterated(outcome)
    try:
        for chunk in chunks:
            try:
                goes_on = request.try_send(chunk) or request.send(chunk)
            except Exception as error:
                raise UnsendableError from error
            if not goes_on or not request.is_wanted:
                break
    finally:
        if (close := getattr(chunks, "close", None)) is not None:
            close()


async def _send_in_loop(request: _native.Request, outcome: Any) -> None:
    chunks = outcome.__aiter__() if hasattr(outcome, "__aiter__") else _one_by_one(_iterated(outcome))
    try:
        async for chunk in chunks:
            try:
                goes_on = request.try_send(chunk) or await awaited(request.send, chunk)
            except Exception as error:
                raise UnsendableError from error
            if not goes_on or not request.is_wanted:
                break
    finally:
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()


def _iterated(outcome: Any) -> Iterator[Any]:
    try:
        return iter(outcome)
    except TypeError as error:
        raise UnsendableError from _not_awaited(outcome) or error


async def _one_by_one(chunks: Iterator[Any]) -> AsyncIterator[Any]:
    try:
        for chunk in chunks:
            yield chunk
    finally:
        if (close := getattr(chunks, "close", None)) is not None:
            close()


def _not_awaited(outcome: Any) -> Exception | None:
    """What to say of an outcome that is asynchronous, of a function that does not look so."""
    if not inspect.isawaitable(outcome) and not hasattr(outcome, "__aiter__"):
        return None
    if inspect.iscoroutine(outcome):
        # Or Python would warn that it was never awaited.
        outcome.close()
    return TypeError(
        f"the handler is a plain function and returned {type(outcome).__name__}: make it an `async def`, so that it runs "
        "in an event loop"
    )


class Failures:
    """Logs what goes wrong with the calls of one server; so many lines in each stretch of time, since peers can make
    handlers fail, and the others are counted."""

    LINES = 20
    SECONDS = 10.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = float("-inf")
        self._written = 0
        self._withheld = 0

    def failed(self, request: _native.Request, error: BaseException) -> None:
        """Fails a request, and logs why. What a resolver raises, the native half logs."""
        reason = error.__cause__ or error if isinstance(error, (UnfitError, UnsendableError)) else error
        words = words_of(reason)
        try:
            is_the_end = isinstance(error, ClosedError) and error.reason == "exiting"
            if request.kind != "resolve" and not is_the_end and (more := self._may_say()) is not None:
                self._say(request.name, error, words, more)
        finally:
            request.fail(words)

    def _say(self, name: str, error: BaseException, words: str, more: str) -> None:
        if isinstance(error, UnfitError):
            _log.warning("Request of %s is not what its handler takes: %s%s", name, words, more)
        elif isinstance(error, UnsendableError):
            _log.error("Answer of %s cannot be sent: %s%s", name, words, more)
        else:
            _log.error("Handler of %s failed%s", name, more, exc_info=error)

    def _may_say(self) -> str | None:
        """What to end a line with; ``None`` if it is not to be written."""
        now = time.monotonic()
        with self._lock:
            if now - self._since >= self.SECONDS:
                self._since, self._written = now, 0
            if self._written >= self.LINES:
                self._withheld += 1
                return None
            self._written += 1
            withheld, self._withheld = self._withheld, 0
        return f" ({withheld} more like this were not logged)" if withheld else ""
