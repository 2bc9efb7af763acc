"""Types that payloads may have. The annotations here are text, as ``from __future__`` makes them."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any, Generic, NewType, Optional, TypedDict, TypeVar

import pydantic
import pydantic.dataclasses
import pytest

from btlightning._errors import SerializationError
from btlightning._typed import convert

T = TypeVar("T")
Uid = NewType("Uid", int)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Item:
    name: str
    score: float = 0.0


@dataclass
class Answer:
    items: list[Item]
    best: Item | None = None
    by_name: dict[str, Item] = field(default_factory=dict)


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)
    parent: Optional["Tree"] = None


@dataclass
class Page(Generic[T]):
    entries: list[T]
    next: Page[T] | None = None


class Loose(TypedDict, total=False):
    name: str


class Model(pydantic.BaseModel):
    name: str
    scores: list[float] = []


@pydantic.dataclasses.dataclass
class Checked:
    name: str
    limit: int = 3


def one(annotation: Any) -> type[Any]:
    """A dataclass with one field, `x`."""
    return dataclasses.make_dataclass("One", [("x", annotation)])


def x(annotation: Any, value: object) -> Any:
    return convert({"x": value}, one(annotation)).x


def misfit(annotation: Any, data: dict[str, Any]) -> str:
    with pytest.raises(SerializationError) as unfit:
        convert(data, annotation)
    assert unfit.value.reason == "decode" and not unfit.value.retryable
    return str(unfit.value)
