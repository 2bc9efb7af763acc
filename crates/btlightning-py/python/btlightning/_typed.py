"""Payloads as the types that users write: dataclasses and pydantic models, out of the dicts that were decoded.

A dataclass is filled strictly: a value must be of the field's type, and nothing is guessed. Keys that no field has are
ignored, fields with a default may be missing. Pydantic models validate themselves, by their own rules. The way back, from
such objects to the wire, is the native half's.

In dataclasses there may be other dataclasses and pydantic models (also generic ones, and such that refer to themselves),
``str``, ``bytes``, ``bool``, ``int``, ``float`` (an integer will do), ``complex``, ``datetime``, ``None``, enums (by value),
``Literal``, ``list``, ``tuple``, ``dict``, unions (the first that fits), numpy's arrays and scalars, and ``Any``.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeVar, overload

from . import _fits
from ._errors import ConfigError, SerializationError, printable, text_of

T = TypeVar("T")


@overload
def convert(data: Mapping[str, Any], returns: type[T]) -> T: ...
@overload
def convert(data: Mapping[str, Any], returns: Any) -> Any: ...
def convert(data: Mapping[str, Any], returns: Any) -> Any:
    """``data`` as a ``returns``; see :func:`converter`."""
    found = converter(returns)
    return data if found is None else found(data)


def converter(annotation: Any) -> Callable[[Mapping[str, Any]], Any] | None:
    """What makes an ``annotation`` of a decoded payload; ``None`` where a payload stays the dict that it is.

    Those are ``dict``, ``Mapping``, ``TypedDict`` classes (which are not checked), ``Any``, ``object`` and no annotation.
    Made once for each type, and kept.

    What it returns raises :class:`SerializationError` for a payload that does not fit, naming the place:
    ``Answer.items[3].score: expected float, got str``. What it says is one line, of bounded length.

    Raises :class:`ConfigError` for a type that no payload can have.
    """
    # Unions that differ in their order are equal, and do not convert alike.
    spelling = "" if _is_class(annotation) else repr(annotation)
    try:
        hash(annotation)
    except TypeError:
        return _made(annotation, spelling)
    return _converter(annotation, spelling)


def _made(annotation: Any, spelling: str) -> Callable[[Mapping[str, Any]], Any] | None:
    if annotation is inspect.Parameter.empty or annotation is None:
        return None
    builder = _Builder()
    node = builder.node(annotation)
    if node.maps == "refused":
        raise _unsupported(annotation, "a payload is a map")
    if node.maps == "kept":
        return None
    fill = _fits.as_one_payload(node.convert) if builder.has_unions else node.convert
    root = "payload" if spelling else annotation.__name__

    def convert(data: Mapping[str, Any]) -> Any:
        cause: BaseException | None = None
        try:
            return fill(data)
        except _fits.Unfit as unfit:
            message, cause = f"{root}{unfit}", unfit.__cause__
        except RecursionError:
            message = f"{root}: nested too deeply"
        except MemoryError:
            raise
        except Exception as error:  # of the type's own code, about what a peer has sent
            message, cause = f"{root}: {type(error).__name__}: {text_of(error)}", error
        # It may quote a peer: its values by way of the type's own code, and its keys.
        raise SerializationError(printable(message), "decode") from cause

    return convert


_converter = functools.lru_cache(maxsize=512)(_made)


def _unsupported(annotation: Any, why: str) -> ConfigError:
    return ConfigError(f"{_name(annotation)} is no type for a payload: {why}", "config")


def _is_class(annotation: Any) -> bool:
    # To Python 3.10, `list[int]` is a class, too.
    return isinstance(annotation, type) and typing.get_origin(annotation) is None


def _name(annotation: Any) -> str:
    return annotation.__name__ if _is_class(annotation) else str(annotation).replace("typing.", "")


def _key(generic: Any, args: tuple[Any, ...]) -> Any:
    """One for each type that a generic one is of."""
    key = (generic, args, repr(args))
    try:
        hash(key)
    except TypeError:
        return (generic, repr(args))
    return key


_SEQUENCES: Final = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_MAPS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class _Builder:
    """Builds the nodes of one annotation."""

    def __init__(self) -> None:
        # The classes and aliases that are begun: they may refer to themselves.
        self._known: dict[Any, _fits.Node] = {}
        self.has_unions = False

    def node(self, annotation: Any) -> _fits.Node:
        if annotation is Any or annotation is object:
            return _fits.ANYTHING
        if annotation is None:
            return _fits.SCALARS[types.NoneType]
        if isinstance(annotation, TypeVar):
            return _fits.ANYTHING if annotation.__bound__ is None else self.node(annotation.__bound__)
        if (meant := getattr(annotation, "__supertype__", None)) is not None:  # NewType
            return self.node(meant)
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if type(origin or annotation).__name__ == "TypeAliasType":  # `type X = ...`, `X[int]`
            return self._alias(origin or annotation, args)
        if origin in (typing.Annotated, typing.Final):
            return self.node(args[0])
        if origin in (typing.Union, types.UnionType):
            return self._union([self.node(arg) for arg in args])
        if origin is Literal:
            return _fits.literal(args)
        return self._class(annotation, origin or annotation, args)

    def _alias(self, alias: Any, args: tuple[Any, ...]) -> _fits.Node:
        key = _key(alias, args)
        node = self._known.get(key)
        if node is None:
            node = self._known[key] = _fits.Node(_name(alias), _fits.as_it_is)
            meant = self.node(_bound(alias.__value__, dict(zip(alias.__type_params__, args))))
            node.convert, node.maps = meant.convert, meant.maps
            node.exact, node.contests = meant.exact, meant.contests
        return node

    def _class(self, annotation: Any, cls: Any, args: tuple[Any, ...]) -> _fits.Node:
        if cls is tuple:
            return self._tuple(args)
        if cls in _SEQUENCES:
            return _fits.list_of(*map(self.node, args or (Any,)))
        if cls in _MAPS:
            return _fits.dict_of(*map(self.node, args or (Any, Any)))
        if not isinstance(cls, type):
            why = (
                "it stands as text that names nothing"
                if isinstance(cls, (str, typing.ForwardRef))
                else "unknown"
            )
            raise _unsupported(annotation, why)
        if not args and cls in _fits.SCALARS:
            return _fits.SCALARS[cls]
        if issubclass(cls, dict) and hasattr(cls, "__total__"):  # TypedDict
            return _fits.Node(cls.__name__, _fits.instance("dict", dict), (dict,), "kept")
        if issubclass(cls, enum.Enum):
            return _fits.enum_of(cls)
        if hasattr(cls, "__pydantic_validator__"):
            return _fits.pydantic_model(cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(annotation, cls, args)
        if cls.__module__.partition(".")[0] in ("numpy", "btlightning"):
            return _fits.Node(cls.__name__, _fits.instance(cls.__name__, cls), (cls,))
        raise _unsupported(annotation, "nothing on the wire becomes one")

    def _union(self, members: list[_fits.Node]) -> _fits.Node:
        optional = any(member.name == "None" for member in members)
        members = [member for member in members if member.name != "None"]
        if len(members) == 1:
            # Its own words say more than those of a union.
            [only] = members

            def convert(value: Any) -> Any:
                return None if value is None else only.convert(value)

            return _fits.Node(f"{only.name} | None", convert, only.exact, only.maps, only.contests)
        self.has_unions = True
        return _fits.first_fit(members, optional)

    def _tuple(self, args: tuple[Any, ...]) -> _fits.Node:
        if not args:
            return _fits.tuple_of_any_length(_fits.ANYTHING)
        if args[-1] is ...:
            return _fits.tuple_of_any_length(self.node(args[0]))
        # `tuple[()]` has that for an argument in Python 3.10.
        return _fits.tuple_of([self.node(arg) for arg in args if arg != ()])

    def _dataclass(self, annotation: Any, cls: Any, args: tuple[Any, ...]) -> _fits.Node:
        key = _key(cls, args)
        if (known := self._known.get(key)) is not None:
            return known
        node = self._known[key] = _fits.Node(cls.__name__, _fits.as_it_is, (dict,), "converted")
        stands_for = dict(zip(getattr(cls, "__parameters__", ()), args))
        hints = _hints(cls)
        if any(isinstance(hint, dataclasses.InitVar) for hint in hints.values()):
            raise _unsupported(annotation, "a field that is an InitVar has no value to send")
        fields = [
            (
                field.name,
                self.node(_bound(hints[field.name], stands_for)),
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
            )
            for field in dataclasses.fields(cls)
            if field.init
        ]
        node.convert = functools.partial(_fits.fill_dataclass, cls, fields)
        return node


def _bound(annotation: Any, stands_for: Mapping[Any, Any]) -> Any:
    """The annotation with what its type variables stand for."""
    if isinstance(annotation, TypeVar):
        return stands_for.get(annotation, annotation)
    free = () if _is_class(annotation) else getattr(annotation, "__parameters__", ())
    return annotation[tuple(stands_for.get(variable, variable) for variable in free)] if free else annotation


def _hints(cls: Any) -> dict[str, Any]:
    try:
        try:
            return typing.get_type_hints(cls)
        except NameError:
            # Text in the annotations of a class within a function may name the class itself.
            inner = {name: value for name, value in vars(cls).items() if isinstance(value, type)}
            return typing.get_type_hints(cls, localns={**inner, cls.__name__: cls})
    except (NameError, TypeError, SyntaxError) as error:
        raise _unsupported(cls, f"of the types of its fields, {error}") from error
