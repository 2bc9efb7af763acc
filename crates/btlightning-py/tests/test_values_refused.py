"""Objects that cannot be sent: they are refused, in words that name their place."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import uuid
from typing import Any

import pytest

from btlightning._errors import SerializationError, UnsupportedTypeError
from btlightning._native import decode_payload, encode_payload


def sent(value: Any) -> Any:
    """The value as it arrives."""
    return decode_payload(encode_payload({"k": value}))["k"]


class Colour(enum.Enum):
    PAIR = ("red", 2)


@dataclasses.dataclass
class Inner:
    raw: Any


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str


class Odd:
    def __str__(self) -> str:
        raise AssertionError("nothing is turned into a string")

    __repr__ = __str__


UNSUPPORTED: list[tuple[Any, str]] = [
    ({1}, "set"),
    (frozenset([1]), "frozenset"),
    (decimal.Decimal("1.5"), "decimal.Decimal"),
    (uuid.UUID(int=1), "uuid.UUID"),
    (pathlib.PurePosixPath("/x"), "PurePosixPath"),
    ((n for n in [1]), "generator"),
    (range(3), "range"),
    (collections.deque([1]), "collections.deque"),
    (array.array("i", [1]), "array.array"),
    (dt.date(2026, 1, 1), "datetime.date"),
    (dt.timedelta(1), "datetime.timedelta"),
    (object(), "object"),
    (Odd(), "Odd"),
    (int, "type"),
    (Outer, "type"),
    (Colour, "enum.EnumType|enum.EnumMeta"),
    (len, "builtin_function_or_method"),
    (Ellipsis, "ellipsis"),
    (ValueError("x"), "ValueError"),
    ({}.keys(), "dict_keys"),
]


@pytest.mark.parametrize(("value", "name"), UNSUPPORTED, ids=lambda value: type(value).__name__)
def test_what_messagepack_has_no_form_for_is_a_type_error_that_names_the_key(value: Any, name: str) -> None:
    with pytest.raises(
        UnsupportedTypeError, match=rf'^data\["k"\]: ([a-z_.]*\.)?({name}) has no MessagePack form$'
    ) as error:
        sent(value)
    assert isinstance(error.value, TypeError)
    assert isinstance(error.value, ValueError)
    assert error.value.reason == "unsupported_type"


PATHS: list[tuple[Any, str]] = [
    ({"a": [0, 0, 0, {"b": {1}}]}, 'data["a"][3]["b"]: set has'),
    ({"a": ({"b": [{1}]},)}, 'data["a"][0]["b"][0]: set has'),
    ({"a": {1: {b"x": {None: {2.5: {1}}}}}}, "data[\"a\"][1][b'x'][None][2.5]: set has"),
    ({"a": {(1, 2): {1}}}, 'data["a"][tuple]: set has'),
    ({'"\n': {1}}, 'data["\\"\\n"]: set has'),
    ({"x" * 1000: {1}}, f'data["{"x" * 64}..."]: set has'),
    ({"a": Inner({1})}, 'data["a"]["raw"]: set has'),
    ({"a": Colour.PAIR, "b": {1}}, 'data["b"]: set has'),
    ({"a": {frozenset(): 1}}, 'key frozenset of data["a"]: frozenset has'),
    ({"a": {(1, frozenset()): 1}}, 'key tuple of data["a"]: frozenset has'),
    ({"a": {Outer(""): 1}}, "Outer is a map in MessagePack, and cannot be a key"),
    ({"a": 2**64}, 'data["a"]: the int does not fit into the 64 bits'),
    ({"a": -(2**63) - 1}, 'data["a"]: the int does not fit into the 64 bits'),
    ({"a": {2**64: 1}}, f'key {2**64} of data["a"]: the int does not fit'),
    ({1: 1}, "key 1 of data: a payload's keys are strings, not int"),
    ({b"a": 1}, "key b'a' of data: a payload's keys are strings, not bytes"),
    ({(1,): 1}, "key tuple of data: a payload's keys are strings, not tuple"),
    ({None: 1}, "key None of data: a payload's keys are strings, not NoneType"),
]


@pytest.mark.parametrize(("payload", "message"), PATHS, ids=lambda value: repr(value)[:40])
def test_an_error_names_the_path(payload: Any, message: str) -> None:
    with pytest.raises(UnsupportedTypeError) as error:
        encode_payload(payload)
    assert message in str(error.value)


def test_surrogates_are_refused() -> None:
    for payload, path in [
        ({"a": ["\ud800"]}, 'data["a"][0]'),
        ({"\ud800": 1}, "key '\\ud800' of data"),
        ({"a": {"\ud800": 1}}, "key '\\ud800' of data[\"a\"]"),
    ]:
        with pytest.raises(SerializationError, match="lone surrogate") as error:
            encode_payload(payload)
        assert str(error.value).startswith(path + ": ")
        assert not isinstance(error.value, TypeError)


def nested(levels: int) -> Any:
    value: Any = None
    for _ in range(levels):
        value = [value]
    return value


def test_nesting_is_bounded() -> None:
    assert sent(nested(127)) == nested(127)
    for levels in (128, 1015, 100_000):
        with pytest.raises(
            SerializationError, match=r'^data\["k"\]\[0\].*: values are nested deeper than 128 levels'
        ):
            sent(nested(levels))


def test_what_contains_itself_is_refused() -> None:
    array: list[Any] = []
    array += [array, array]
    map: dict[str, Any] = {}
    map["self"] = map
    for cycle in (array, map, {"x": [map]}):
        with pytest.raises(SerializationError, match="or contain themselves"):
            sent(cycle)
    with pytest.raises(SerializationError, match="or contain themselves"):
        encode_payload(map)

    class Mirror(enum.Enum):
        FACE = 1

        @property
        def value(self) -> Any:
            return self

    with pytest.raises(UnsupportedTypeError, match="Mirror has no MessagePack form"):
        sent(Mirror.FACE)


def test_what_changes_while_it_is_encoded_is_refused() -> None:
    map: dict[Any, Any] = {}
    array: list[Any] = []

    class Meddling(enum.Enum):
        GROW = "grow"
        SWAP = "swap"
        SHRINK = "shrink"

        @property
        def value(self) -> Any:
            if self is Meddling.GROW:
                map["new"] = 1
            elif self is Meddling.SWAP:
                del map["last"]
                map["first"] = map["second"] = 1
                del map["first"]
            else:
                array.clear()
            return 1

    for meddling in (Meddling.GROW, Meddling.SWAP):
        map.clear()
        map.update(a=meddling, last=2)
        try:
            assert len(sent({"map": map})["map"]) == 2  # one that is as long as before may pass
        except SerializationError as error:
            assert 'data["k"]["map"]: it changed while it was being encoded' in str(error)
        else:
            assert meddling is Meddling.SWAP
    array += [Meddling.SHRINK, 2, 3]
    with pytest.raises(SerializationError, match=r'^data\["k"\]: it changed'):
        sent(array)

    class Lying(collections.UserDict[str, int]):
        def __len__(self) -> int:
            return 5

    with pytest.raises(SerializationError, match=r'^data\["k"\]: it changed'):
        sent(Lying(a=1))


def test_what_an_objects_own_code_raises_is_passed_on() -> None:
    @dataclasses.dataclass
    class Lazy:
        x: int

        def __getattribute__(self, name: str) -> Any:
            if name == "x":
                raise KeyboardInterrupt
            return super().__getattribute__(name)

    with pytest.raises(KeyboardInterrupt):
        sent(Lazy(1))
