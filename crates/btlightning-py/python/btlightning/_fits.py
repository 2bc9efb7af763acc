"""How single values become a type, or do not fit it; what `_typed` builds its converters of."""

from __future__ import annotations

import collections.abc
import datetime
import enum
import itertools
import numbers
import reprlib
import threading
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal


class Unfit(Exception):
    """A value that is not of its type. Where it stands is learned on the way up."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.steps: list[str] = []

    def copy(self) -> Unfit:
        """The same, for other ways up."""
        copy = Unfit(self.what)
        copy.steps = self.steps.copy()
        copy.__cause__ = self.__cause__
        return copy

    def __str__(self) -> str:
        return f"{''.join(reversed(self.steps))}: {self.what}"


def expected(what: str, value: object) -> Unfit:
    return Unfit(f"expected {what}, got {'None' if value is None else type(value).__name__}")


Convert: typing.TypeAlias = Callable[[Any], Any]


class Node:
    """How values become a type. Those that refer to it take `convert` when they need it: it may come last."""

    __slots__ = ("contests", "convert", "exact", "maps", "name")

    def __init__(
        self,
        name: str,
        convert: Convert,
        exact: tuple[type, ...] = (),
        maps: Literal["refused", "kept", "converted"] = "refused",
        contests: tuple[type, ...] = (),
    ) -> None:
        self.name = name
        self.convert = convert
        #: The types whose values are of this type before all others of a union.
        self.exact = exact
        #: The types of which some values are of this type: others of a union do not have them for themselves.
        self.contests = contests
        #: What becomes of a map.
        self.maps: Literal["refused", "kept", "converted"] = maps


# What is no container


def as_it_is(value: Any) -> Any:
    return value


ANYTHING: Final = Node("anything", as_it_is, maps="kept")


def instance(name: str, cls: type | tuple[type, ...]) -> Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        raise expected(name, value)

    return convert


def to_bool(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise expected("bool", value)


def to_int(value: Any) -> int:
    if type(value) is int:
        return value
    # numpy's integers are such, too. A bool is an `int` to Python, and to nobody else.
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    raise expected("int", value)


def to_float(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    raise expected("float", value)


SCALARS: Final = {
    str: Node("str", instance("str", str), (str,)),
    bytes: Node("bytes", instance("bytes", bytes), (bytes,)),
    bool: Node("bool", to_bool, (bool,)),
    int: Node("int", to_int, (int,)),
    float: Node("float", to_float, (float,)),
    complex: Node("complex", instance("complex", complex), (complex,)),
    datetime.datetime: Node("datetime", instance("datetime", datetime.datetime), (datetime.datetime,)),
    types.NoneType: Node("None", instance("None", types.NoneType), (types.NoneType,)),
}


# Containers


_ABSENT: Final = object()

#: How many characters the words of one member of a union have at most in those of the union.
_WORDS_MAX: Final = 200

#: How many misfits pydantic is asked to describe at most: it describes all or none, and a peer can make millions.
_MISFITS_MAX: Final = 100

#: How long a step in a path is at most that is taken for a name.
_NAME_MAX: Final = 100


def fill_dataclass(cls: Any, fields: list[tuple[str, Node, bool]], value: Any) -> Any:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise expected(cls.__name__, value)
    given = {}
    for name, node, required in fields:
        item = value.get(name, _ABSENT)
        try:
            if item is not _ABSENT:
                given[name] = node.convert(item)
            elif required:
                raise Unfit("missing")
        except Unfit as unfit:
            unfit.steps.append(f".{name}")
            raise
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:  # its `__post_init__`
        raise Unfit(str(error)) from error


def each(values: collections.abc.Iterable[Any], converts: collections.abc.Iterable[Convert]) -> list[Any]:
    done: list[Any] = []
    try:
        for value, convert in zip(values, converts):
            done.append(convert(value))
    except Unfit as unfit:
        unfit.steps.append(f"[{len(done)}]")
        raise
    return done


def list_of(item: Node) -> Node:
    def convert(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise expected("list", value)
        if item is ANYTHING:
            return value if isinstance(value, list) else list(value)
        return each(value, itertools.repeat(item.convert))

    return Node("list", convert, (list, tuple))


def tuple_of_any_length(item: Node) -> Node:
    items = list_of(item)
    return Node("tuple", lambda value: tuple(items.convert(value)), (list, tuple))


def tuple_of(items: list[Node]) -> Node:
    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise expected("tuple", value)
        if len(value) != len(items):
            raise Unfit(f"expected {len(items)} values, got {len(value)}")
        return tuple(each(value, (item.convert for item in items)))

    return Node("tuple", convert, (list, tuple))


def dict_of(key: Node, item: Node) -> Node:
    if item is ANYTHING and key.name in ("anything", "str"):
        return Node("dict", instance("dict", dict), (dict,), "kept")

    def convert(value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise expected("dict", value)
        done = {}
        for name, entry in value.items():
            try:
                done[key.convert(name)] = item.convert(entry)
            except Unfit as unfit:
                # A peer's words.
                unfit.steps.append(f"[{reprlib.repr(name)}]")
                raise
        return done

    return Node("dict", convert, (dict,), "converted")


# One of several


def first_fit(members: list[Node], optional: bool) -> Node:
    # Where the value's type leaves one member only, no other is tried, and its words are those of the error.
    claims = [kind for member in members for kind in member.exact + member.contests]
    claimed = {kind: member for member in members for kind in member.exact if claims.count(kind) == 1}
    names = " | ".join([member.name for member in members] + ["None"] * optional)

    def convert(value: Any) -> Any:
        if value is None and optional:
            return None
        if (member := claimed.get(type(value))) is not None:
            return member.convert(value)
        inside: list[tuple[str, Unfit]] = []
        for member in members:
            try:
                return _attempt(member, value)
            except Unfit as unfit:
                if unfit.steps:
                    inside.append((member.name, unfit))
        if len(inside) == 1:
            raise inside[0][1]
        if inside:
            words = "; ".join(_clipped(f"{name}{unfit}") for name, unfit in inside)
            raise Unfit(f"is none of {names} ({words})")
        raise expected(names, value)

    refused = all(member.maps == "refused" for member in members)
    return Node(names, convert, tuple(claimed), "refused" if refused else "converted")


def _clipped(words: str) -> str:
    # With unions within unions they would double with each level.
    return words if len(words) <= _WORDS_MAX else f"{words[:_WORDS_MAX]}..."


class _Attempts(threading.local):
    made: dict[tuple[int, int], tuple[Any, Unfit | None]] | None = None


_attempts = _Attempts()


def as_one_payload(fill: Convert) -> Convert:
    """The same, but so that no member of a union is tried twice with the same value.

    Unions within unions would otherwise let a peer double the work with each level that it nests.
    """

    def convert(value: Any) -> Any:
        outer, _attempts.made = _attempts.made, {}
        try:
            return fill(value)
        finally:
            _attempts.made = outer

    return convert


def _attempt(member: Node, value: Any) -> Any:
    made = _attempts.made
    if made is None or type(value) not in (dict, list):
        return member.convert(value)
    # The payload holds its values, so that none takes another's `id`.
    key = (id(value), id(member))
    if (known := made.get(key)) is None:
        try:
            known = (member.convert(value), None)
        except Unfit as unfit:
            known = (None, unfit.copy())
        made[key] = known
    result, misfit = known
    if misfit is not None:
        raise misfit.copy()
    return result


def literal(options: tuple[Any, ...]) -> Node:
    plain = [(option.value if isinstance(option, enum.Enum) else option, option) for option in options]
    table = {(type(value), value): option for value, option in plain}
    names = ", ".join(repr(value) for value, _ in plain)

    def convert(value: Any) -> Any:
        try:
            return table[type(value), value]
        except (KeyError, TypeError):
            raise Unfit(f"expected one of {names}, got {reprlib.repr(value)}") from None

    return Node(f"Literal[{names}]", convert, contests=tuple({type(value) for value, _ in plain}))


def enum_of(cls: type[enum.Enum]) -> Node:
    kinds = tuple({type(member.value) for member in cls})

    def convert(value: Any) -> enum.Enum:
        # By type, too: to Python, `True` and `1.0` are the value of a member that has 1.
        if type(value) not in kinds:
            raise expected(cls.__name__, value)
        try:
            return cls(value)
        except ValueError:
            raise Unfit(f"{reprlib.repr(value)} is no {cls.__name__}") from None

    return Node(cls.__name__, convert, contests=kinds)


def pydantic_model(cls: Any) -> Node:
    if hasattr(cls, "model_validate"):
        validate = cls.model_validate
    else:
        # One of its dataclasses. What the class is like, pydantic is there.
        import pydantic

        validate = pydantic.TypeAdapter(cls).validate_python

    def convert(value: Any) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            if (count := _count(error)) <= _MISFITS_MAX:
                raise _of_validation(error) from error
        # Without a cause: whoever prints it would print them all.
        raise Unfit(f"{count} values are not of their types")

    return Node(cls.__name__, convert, (dict,), "converted")


def _count(error: Any) -> int:
    return error.error_count() if hasattr(error, "error_count") else 1


def _of_validation(error: Any) -> Unfit:
    # Of their values nothing is said.
    errors = error.errors(include_url=False, include_context=False) if hasattr(error, "errors") else []
    if not errors:
        return Unfit(str(error))
    first, more = errors[0], len(errors) - 1
    unfit = Unfit(first["msg"] + (f" (and {more} more)" if more else ""))
    unfit.steps = [_step(step) for step in reversed(first["loc"])]
    return unfit


def _step(step: int | str) -> str:
    if isinstance(step, str) and len(step) <= _NAME_MAX and step.isidentifier():
        return f".{step}"
    # An index, or a key: a peer's words.
    return f"[{reprlib.repr(step)}]"
