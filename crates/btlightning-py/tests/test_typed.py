"""Payloads as dataclasses and pydantic models. The annotations here are text, as `from __future__` makes them."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timezone
from typing import Annotated, Any, ClassVar, Literal, Optional, Union

import numpy as np
import numpy.typing as npt
import pydantic
import pydantic.dataclasses
import pytest
from payloads import Answer, Checked, Colour, Item, Level, Loose, Model, Page, Tree, Uid, misfit, one, x

from btlightning._errors import ConfigError, SerializationError
from btlightning._typed import convert, converter

# Where a payload stays what it is


@pytest.mark.parametrize(
    "annotation",
    [
        dict,
        typing.Dict,
        dict[str, Any],
        dict[str, object],
        Mapping,
        Mapping[str, Any],
        typing.Mapping[str, Any],
        Optional[dict[str, Any]],
        Annotated[dict[str, Any], "a payload"],
        Any,
        object,
        None,
        inspect.Parameter.empty,
        Loose,
    ],
    ids=str,
)
def test_a_dict_stays_a_dict(annotation: Any) -> None:
    assert converter(annotation) is None
    payload = {"name": 1}
    assert convert(payload, annotation) is payload


@pytest.mark.parametrize(
    "annotation",
    [int, str, list[int], tuple[int, ...], Colour, Literal["a"], int | None, datetime, np.ndarray],
    ids=str,
)
def test_what_no_map_becomes_is_no_payload(annotation: Any) -> None:
    with pytest.raises(ConfigError, match="a payload is a map"):
        converter(annotation)


@pytest.mark.parametrize(
    "annotation", [set[int], frozenset, complex | set[int], type, "Text", Sequence[set[int]]], ids=str
)
def test_a_field_that_nothing_becomes_is_refused_beforehand(annotation: Any) -> None:
    with pytest.raises(ConfigError, match="no type for a payload"):
        converter(one(annotation))


def test_what_is_made_for_a_type_is_kept() -> None:
    assert converter(Answer) is converter(Answer)
    assert converter(Answer | None) is converter(Answer | None)


# Dataclasses


def test_nested_dataclasses_are_filled() -> None:
    item = {"name": "a", "score": 0.5}
    answer = convert({"items": [item, {"name": "b"}], "best": item, "by_name": {"a": item}}, Answer)
    a = Item("a", 0.5)
    assert answer == Answer([a, Item("b")], a, {"a": a})
    assert convert({"items": [], "best": None}, Answer) == Answer([])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "Answer.items: missing"),
        ({"items": None}, "Answer.items: expected list, got None"),
        ({"items": [{"name": "a"}, {"name": 1}]}, "Answer.items[1].name: expected str, got int"),
        (
            {"items": [{"name": "a"}] * 3 + [{"name": "a", "score": "1"}]},
            "Answer.items[3].score: expected float, got str",
        ),
        ({"items": [["a", 1]]}, "Answer.items[0]: expected Item, got list"),
        ({"items": [], "best": {}}, "Answer.best.name: missing"),
        ({"items": [], "by_name": {"a\n": 1}}, "Answer.by_name['a\\n']: expected Item, got int"),
        ({"items": [], "by_name": {1: {"name": "a"}}}, "Answer.by_name[1]: expected str, got int"),
    ],
)
def test_a_misfit_is_named_by_its_place(data: dict[str, Any], words: str) -> None:
    assert misfit(Answer, data) == words


def test_keys_that_no_field_has_are_ignored() -> None:
    assert convert({"name": "a", "added": "later"}, Item) == Item("a")


def test_fields_may_be_keyword_only_have_no_part_in_init_or_belong_to_the_class() -> None:
    @dataclass(kw_only=True, frozen=True)
    class Sent:
        limit: int = 7
        name: str
        length: int = field(init=False, default=0)
        version: ClassVar[int] = 1

        def __post_init__(self) -> None:
            object.__setattr__(self, "length", len(self.name))

    sent = convert({"name": "abc", "length": 99, "version": 2}, Sent)
    assert (sent.limit, sent.length, sent.version) == (7, 3, 1)


def test_a_default_factory_makes_each_its_own() -> None:
    first, second = convert({"value": 1}, Tree), convert({"value": 1}, Tree)
    assert first.children == [] and first.children is not second.children


def test_what_post_init_says_is_a_misfit() -> None:
    @dataclass
    class Range:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    assert misfit(one(list[Range]), {"x": [{"low": 2, "high": 1}]}) == "One.x[0]: low is above high"


def test_a_class_may_refer_to_itself() -> None:
    tree = convert(
        {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}], "parent": {"value": 0}}, Tree
    )
    assert tree == Tree(1, [Tree(2, [Tree(3)])], Tree(0))
    assert misfit(Tree, {"value": 1, "children": [{"value": 2, "children": [{}]}]}).startswith(
        "Tree.children[0].children[0].value: missing"
    )


def test_a_class_within_a_function_may_refer_to_itself() -> None:
    @dataclass
    class Link:
        value: int
        rest: Link | None = None

    assert convert({"value": 1, "rest": {"value": 2}}, Link) == Link(1, Link(2))


def test_a_generic_class_is_filled_with_what_it_is_of() -> None:
    page = convert({"entries": [{"name": "a"}], "next": {"entries": []}}, Page[Item])
    assert page == Page([Item("a")], Page([]))
    assert (
        misfit(Page[Item], {"entries": [], "next": {"entries": [1]}})
        == "payload.next.entries[0]: expected Item, got int"
    )
    assert misfit(one(Page[int]), {"x": {"entries": ["a"]}}) == "One.x.entries[0]: expected int, got str"
    assert convert({"entries": [1, "a"]}, Page) == Page([1, "a"])


def test_a_name_that_is_nowhere_is_told_with_its_class() -> None:
    @dataclass
    class Lost:
        item: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigError, match="Lost is no type for a payload: .*'Nowhere' is not defined"):
        converter(Lost)


def test_an_init_var_is_refused() -> None:
    @dataclass
    class Odd:
        seed: InitVar[int]

    with pytest.raises(ConfigError, match="Odd is no type for a payload"):
        converter(Odd)


# Values


NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("annotation", "value", "becomes"),
    [
        (str, "a", "a"),
        (bytes, b"a", b"a"),
        (bool, True, True),
        (int, 2**63, 2**63),
        (float, 1.5, 1.5),
        (float, 2, 2.0),
        (complex, 1j, 1j),
        (datetime, NOW, NOW),
        (None, None, None),
        (Any, {1: 2}, {1: 2}),
        (object, [1], [1]),
        (Uid, 3, 3),
        (Annotated[int, "at least 1"], 3, 3),
        (list, [1, "a"], [1, "a"]),
        (list[int], [1, 2], [1, 2]),
        (Sequence[float], [1, 2.5], [1.0, 2.5]),
        (tuple, [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[()], [], ()),
        (dict, {1: "a"}, {1: "a"}),
        (dict[int, float], {1: 2}, {1: 2.0}),
        (Loose, {"name": 1}, {"name": 1}),
        (Colour, "red", Colour.RED),
        (Level, 2, Level.HIGH),
        (Literal["a", 1], 1, 1),
        (Literal[Colour.BLUE], "blue", Colour.BLUE),
        (bool, np.bool_(True), True),
        (int, np.int32(3), 3),
        (float, np.float32(0.5), 0.5),
        (np.float32, np.float32(0.5), np.float32(0.5)),
    ],
    ids=str,
)
def test_a_value_of_the_type_is_taken(annotation: Any, value: object, becomes: object) -> None:
    found = x(annotation, value)
    assert found == becomes and type(found) is type(becomes)


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (str, b"a", "expected str, got bytes"),
        (bytes, "a", "expected bytes, got str"),
        (bool, 1, "expected bool, got int"),
        (int, True, "expected int, got bool"),
        (int, 1.0, "expected int, got float"),
        (int, "1", "expected int, got str"),
        (float, True, "expected float, got bool"),
        (float, None, "expected float, got None"),
        (datetime, "2026-01-02", "expected datetime, got str"),
        (None, 0, "expected None, got int"),
        (list[int], "ab", "expected list, got str"),
        (list[int], {1: 2}, "expected list, got dict"),
        (list[float], np.zeros(2), "expected list, got ndarray"),
        (tuple[int, str], [1], "expected 2 values, got 1"),
        (dict[str, int], [1], "expected dict, got list"),
        (Loose, [1], "expected dict, got list"),
        (Item, None, "expected Item, got None"),
        (Colour, "green", "'green' is no Colour"),
        (Level, True, "expected Level, got bool"),
        (Level, 1.0, "expected Level, got float"),
        (Literal["a", 1], True, "expected one of 'a', 1, got True"),
        (Literal["a"], "b" * 500, "expected one of 'a', got 'bbbbbbbbbbbb...bbbbbbbbbbbbb'"),
        (Literal["a"], ["a"], "expected one of 'a', got ['a']"),
        (int | None, "1", "expected int, got str"),
        (int | str, 1.5, "expected int | str, got float"),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_a_misfit(annotation: Any, value: object, words: str) -> None:
    assert misfit(one(annotation), {"x": value}) == f"One.x: {words}"


def test_arrays_pass_as_they_are() -> None:
    array = np.arange(3, dtype=np.float32)
    assert x(np.ndarray, array) is array
    assert x(npt.NDArray[np.float32], array) is array
    assert x(Union[np.ndarray, None], None) is None
    assert misfit(one(npt.NDArray[np.float32]), {"x": [1]}) == "One.x: expected ndarray, got list"


# Pydantic


def test_a_model_validates_by_its_own_rules() -> None:
    assert convert({"name": "a", "scores": ["1.5"]}, Model) == Model(name="a", scores=[1.5])
    assert misfit(Model, {"name": "a", "scores": [1, "b"]}).startswith(
        "Model.scores[1]: Input should be a valid number"
    )
    assert misfit(Model, {"scores": "b"}).endswith("(and 1 more)")


def test_what_pydantic_said_is_the_cause() -> None:
    with pytest.raises(SerializationError) as unfit:
        convert({}, Model)
    assert isinstance(unfit.value.__cause__, pydantic.ValidationError)


def test_a_dataclass_of_pydantic_validates_by_its_own_rules() -> None:
    assert convert({"name": "a", "limit": "4"}, Checked) == Checked("a", 4)
    assert misfit(Checked, {"name": "a", "limit": "b"}).startswith(
        "Checked.limit: Input should be a valid integer"
    )


def test_models_and_dataclasses_may_contain_each_other() -> None:
    assert x(list[Model], [{"name": "a"}]) == [Model(name="a")]
    assert misfit(one(list[Model]), {"x": [{"name": 1}]}).startswith("One.x[0].name: Input should be")
    assert x(Model | Item, {"name": "a", "scores": None}) == Item("a")

    class Outer(pydantic.BaseModel):
        item: Item

    assert convert({"item": {"name": "a"}}, Outer).item == Item("a")


def test_without_pydantic_dataclasses_are_filled_all_the_same() -> None:
    program = """
import sys
sys.modules["pydantic"] = None
from dataclasses import dataclass
from btlightning._typed import convert
@dataclass
class Item:
    name: str
print(convert({"name": "a"}, Item))
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "Item(name='a')\n", shown


def test_neither_pydantic_nor_numpy_is_imported_for_others() -> None:
    program = "import sys, btlightning._typed; print({'pydantic', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert shown.stdout == "set()\n", shown


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no such statement")
def test_type_aliases_are_what_they_stand_for() -> None:
    program = """
from dataclasses import dataclass
from btlightning._typed import convert
type Json = dict[str, Json] | list[Json] | str | int | None
type Pair[T] = tuple[T, T]
@dataclass
class Item:
    json: Json
    pair: Pair[float]
print(convert({"json": {"a": [1, "b", {"c": None}]}, "pair": [1, 2]}, Item))
try:
    convert({"json": {"a": [1.5]}, "pair": [1, 2]}, Item)
except ValueError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert shown.stdout.splitlines() == [
        "Item(json={'a': [1, 'b', {'c': None}]}, pair=(1.0, 2.0))",
        "Item.json['a'][0]: expected dict | list | str | int | None, got float",
    ], shown
