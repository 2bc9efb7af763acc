"""Payloads that are one of several types, and how deep they may be."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, Union

import pytest
from payloads import Colour, Item, Tree, misfit, one, x

from btlightning._typed import convert


@dataclass
class Circle:
    kind: Literal["circle"]
    radius: float


@dataclass
class Square:
    kind: Literal["square"]
    side: float


@pytest.mark.parametrize(
    ("annotation", "value", "becomes"),
    [
        (float | int, 3, 3),
        (float | str, 3, 3.0),
        (int | bool, True, True),
        (str | Colour, "red", "red"),
        (Union[Colour, str], "red", Colour.RED),
        (Union[Colour, str], "purple", "purple"),
        (Union[Literal[1, 2], float], 3, 3.0),
        (Union[list[int], list[str]], ["a"], ["a"]),
        (Circle | Square, {"kind": "square", "side": 2}, Square("square", 2.0)),
        (Item | list[Item], [{"name": "a"}], [Item("a")]),
        (Item | str | None, None, None),
        (Item | dict[str, Any], {"other": 1}, {"other": 1}),
        (int | Any, "a", "a"),
    ],
    ids=str,
)
def test_a_union_takes_the_exact_type_and_else_the_first_that_fits(
    annotation: Any, value: object, becomes: object
) -> None:
    found = x(annotation, value)
    assert found == becomes and type(found) is type(becomes)


def test_the_order_of_a_union_counts_although_they_are_equal() -> None:
    @dataclass
    class Other:
        name: str

    assert (Item | Other) == (Other | Item)
    assert convert({"name": "a"}, Item | Other) == Item("a")
    assert convert({"name": "a"}, Other | Item) == Other("a")


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Item | str, {"name": 1}, ".name: expected str, got int"),
        (
            Circle | Square,
            {"kind": "square", "side": "2"},
            ": is none of Circle | Square (Circle.kind: expected one of 'circle', got 'square'; "
            "Square.side: expected float, got str)",
        ),
        (Circle | Square, [], ": expected Circle | Square, got list"),
    ],
    ids=str,
)
def test_a_misfit_of_a_union_says_what_each_of_it_lacks(annotation: Any, value: object, words: str) -> None:
    assert misfit(one(annotation), {"x": value}) == f"One.x{words}"


@dataclass
class Left:
    inner: Left | Right | int


@dataclass
class Right:
    inner: Left | Right | int


def test_unions_within_unions_do_not_double_the_work_with_each_level() -> None:
    data: dict[str, Any] = {"inner": "a misfit"}
    for _ in range(60):
        data = {"inner": data}
    words = misfit(Left, data)
    assert words.startswith("Left.inner.inner.inner: ") or words.startswith("Left.inner: is none of")
    assert len(words) < 1000


def test_a_payload_that_is_nested_too_deeply_is_a_misfit() -> None:
    data: dict[str, Any] = {"value": 1}
    for _ in range(sys.getrecursionlimit()):
        data = {"value": 1, "children": [data]}
    assert misfit(Tree, data) == "Tree: nested too deeply"


def test_as_deep_as_the_wire_allows_is_not_too_deep() -> None:
    data: dict[str, Any] = {"value": 1}
    for _ in range(126 // 2):
        data = {"value": 1, "children": [data]}
    assert isinstance(convert(data, Tree), Tree)
