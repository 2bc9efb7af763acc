"""Handlers: how a function wants to be called, and what is logged when it fails."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from . import _typed
from ._native import Caller

_log = logging.getLogger("btlightning.server")


@dataclass(frozen=True)
class Handler:
    """A function that answers requests. All that can be known of it is found out once, when it is registered."""

    function: Callable[..., Any]
    #: Makes of a request's dict what the function is given; without it, that is the dict.
    convert: Callable[[dict[str, Any]], Any] | None
    #: How the function is told who calls.
    caller: Literal["not", "second", "keyword"]
    #: Whether it runs in an event loop, rather than on a thread.
    in_loop: bool
    #: Whether it answers in chunks.
    streams: bool


def describe(function: Callable[..., Any], streams: bool | None = None) -> Handler:
    """What ``function`` is like. It streams if it is a generator function, unless ``streams`` says otherwise."""
    if not callable(function):
        raise TypeError(f"a handler is a function, not {type(function).__qualname__}")
    written = _written(function)
    if streams is None:
        streams = inspect.isgeneratorfunction(written) or inspect.isasyncgenfunction(written)
    convert, caller = _parameters(function)
    return Handler(function, convert, caller, is_async(function), streams)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether ``function`` runs in an event loop: it is an ``async def``, with ``yield`` or without."""
    written = _written(function)
    return inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)


def _written(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that somebody wrote, under partial applications and objects that can be called.

    Not under ``functools.wraps``: what wraps a coroutine function may itself be none, and block.
    """
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function) or inspect.iscoroutinefunction(function):
        return function
    return getattr(type(function), "__call__", function)


def _parameters(
    function: Callable[..., Any],
) -> tuple[Callable[[dict[str, Any]], Any] | None, Literal["not", "second", "keyword"]]:
    parameters = _signature(function)
    if parameters is None:
        return None, "not"
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if not positional and not any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters):
        raise TypeError(f"{_name(function)} takes no request: a handler's first argument is the request")
    convert = _typed.converter(_annotation(function, positional[0])) if positional else None
    if len(positional) > 1:
        second = positional[1]
        if (
            second.default is second.empty
            or second.name == "caller"
            or _annotation(function, second) in (Caller, "Caller")
        ):
            return convert, "second"
    if any(parameter.kind == parameter.KEYWORD_ONLY and parameter.name == "caller" for parameter in parameters):
        return convert, "keyword"
    return convert, "not"


def _signature(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """The parameters; ``None`` where there is no knowing them, as of many builtins."""
    how: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        import annotationlib

        how["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        own = list(inspect.signature(function, follow_wrapped=False, **how).parameters.values())
        # What takes anything passes it on, to what `functools.wraps` has left a trace of.
        if own and own[0].kind == own[0].VAR_POSITIONAL:
            own = list(inspect.signature(function, **how).parameters.values())
    except (TypeError, ValueError):
        return None
    return own


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's annotation. One that stands as text is looked up where the function was written."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    if isinstance(annotation, str):
        written = inspect.unwrap(_written(inspect.unwrap(function)))
        try:
            names = inspect.getclosurevars(written).nonlocals
        except TypeError:
            names = {}
        try:
            annotation = eval(annotation, getattr(written, "__globals__", {}), dict(names))
        except Exception as error:
            if annotation == "Caller":
                return annotation
            _log.warning(
                "the annotation %r of %s is not known where it was written (%s): it is given the dict",
                annotation,
                _name(function),
                error,
            )
            return Any
    return annotation


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


class _Hush:
    """Lets so many lines through in each stretch of time, and counts the others: peers can make handlers fail."""

    LINES = 20
    SECONDS = 10.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = float("-inf")
        self._written = 0
        self._withheld = 0

    def line(self) -> str | None:
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


_hush = _Hush()


def log_failure(name: str, stage: Literal["request", "handler", "answer"], error: BaseException) -> None:
    """Says in the log why a request was not answered. The caller is not told."""
    if (more := _hush.line()) is None:
        return
    if stage == "request":
        _log.warning("Request of %s is not what its handler takes: %s: %s%s", name, type(error).__name__, error, more)
    elif stage == "answer":
        _log.error("Answer of %s cannot be sent: %s: %s%s", name, type(error).__name__, error, more)
    else:
        _log.error("Handler of %s failed%s", name, more, exc_info=error)
