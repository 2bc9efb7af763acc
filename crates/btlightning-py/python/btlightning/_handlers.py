"""Handlers: how a function wants to be called."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _typed
from ._calls import UnfitError
from ._native import Caller

_log = logging.getLogger("btlightning.server")


@dataclass(frozen=True)
class Handler:
    """A function that answers requests. All that can be known of it is found out once, when it is registered."""

    #: Called with the request's dict, and with the caller if it wants that.
    function: Callable[..., Any]
    wants_caller: bool
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
    in_loop = is_async(function)
    convert, caller = _parameters(function)
    called = function
    if caller == "keyword":
        called = _with_keyword(called)
    if convert is not None:
        called = _with_type(called, convert)
    return Handler(called, caller != "not", in_loop, streams)


def _with_type(function: Callable[..., Any], convert: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    def typed(data: dict[str, Any], *caller: Caller) -> Any:
        try:
            request = convert(data)
        except Exception as error:
            raise UnfitError from error
        return function(request, *caller)

    return typed


def _with_keyword(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda data, caller: function(data, caller=caller)


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
    return getattr(type(function), "__call__", function)  # noqa: B004 - it is taken, not only looked for


def _parameters(
    function: Callable[..., Any],
) -> tuple[Callable[[dict[str, Any]], Any] | None, str]:
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
    if any(
        parameter.kind == parameter.KEYWORD_ONLY and parameter.name == "caller" for parameter in parameters
    ):
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
        written: Any = inspect.unwrap(_written(inspect.unwrap(function)))
        try:
            annotation = eval(annotation, getattr(written, "__globals__", {}), _enclosed(written))
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


def _enclosed(function: Any) -> dict[str, Any]:
    """The names of the functions around a function that it uses."""
    function = getattr(function, "__func__", function)
    names = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            pass  # not known yet
    return names


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
