"""Bytes of a peer that means harm, or has an error: they raise, and take no more memory or time than they may."""

from __future__ import annotations

import dataclasses
import random
import tracemalloc
import typing
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pydantic
import pytest

from btlightning._errors import SerializationError, words_of
from btlightning._native import Ext, decode_payload, encode_payload
from btlightning._typed import converter

MIB = 1024 * 1024


def packed(value: Any) -> bytes:
    return typing.cast(bytes, msgpack.packb(value, use_bin_type=True))


def received(wire: bytes) -> Any:
    """What becomes of a value under a key."""
    return decode_payload(b"\x81\xa1k" + wire)["k"]


def refused(payload: bytes, message: str) -> None:
    with pytest.raises(SerializationError, match=message) as error:
        decode_payload(payload)
    assert error.value.reason == "decode"


PAYLOAD = {
    "map": {1: [1.5, None, True, {"x": b"y" * 300}], (1, 2): "z" * 300},
    "int": [2**64 - 1, -(2**63), 5, 70_000],
    b"ext": msgpack.ExtType(5, b"abc"),
    "array": {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2], b"data": bytes(8)},
}


def test_every_beginning_of_a_payload_is_refused() -> None:
    wire = packed(PAYLOAD)
    assert decode_payload(wire)["int"] == PAYLOAD["int"]
    for length in range(len(wire)):
        refused(wire[:length], "longer than the bytes that hold it")
    refused(wire + b"\xc0", "1 bytes follow the value")


@pytest.mark.parametrize(
    "wire",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\xdc\xff\xff" + bytes(100),
        b"\xde\xff\xff" + bytes(100),
        b"\xd9\xff" + bytes(100),
        b"\xc4\xff" + bytes(100),
        b"\xd8\x05" + bytes(15),
    ],
)
def test_a_length_that_lies_is_refused(wire: bytes) -> None:
    refused(b"\x81\xa1k" + wire, "longer than the bytes that hold it")


def test_the_marker_without_meaning_is_refused() -> None:
    refused(b"\x81\xa1k\xc1", "0xc1")


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1k", b"\x92\xc0"])
def test_deep_nesting_is_refused_and_127_levels_are_not(opening: bytes) -> None:
    value = received(opening * 127 + b"\xc0")
    for _ in range(127):
        value = value["k"] if isinstance(value, dict) else value[-1]
    assert value is None
    for levels in (128, 1015, 100_000, 2_000_000):
        refused(b"\x81\xa1k" + opening * levels + b"\xc0", "nested deeper than 128")


def test_arrays_in_each_other_as_a_key_are_tuples() -> None:
    (key,) = received(b"\x81" + b"\x91" * 126 + b"\xc0\x01")
    for _ in range(126):
        assert type(key) is tuple
        (key,) = key
    assert received(b"\x81\x92\x90\x91\x90\x01") == {((), ((),)): 1}


@pytest.mark.parametrize("key", [b"\x80", b"\x81\xa1a\x01", b"\x91\x80", b"\x92\x01\x91\x81\x01\x01"])
def test_a_map_as_a_key_is_refused(key: bytes) -> None:
    refused(b"\x81\xa1k\x81" + key + b"\x01", "a map is the key of another")


def test_an_array_of_numpy_as_a_key_is_refused() -> None:
    scalar = packed({b"nd": False, b"type": "<f4", b"data": bytes(4)})
    refused(b"\x81\xa1k\x81" + scalar + b"\x01", "a map is the key of another")


@pytest.mark.parametrize("payload", [b"\x90", b"\xc0", b"\xa1k", b"\x01", b"\xc4\x00", b"\xd4\x05\x00"])
def test_a_payload_is_a_map(payload: bytes) -> None:
    refused(payload, "expected a map")


@pytest.mark.parametrize(
    "key", [b"\x01", b"\xc0", b"\xc3", b"\x90", b"\x80", b"\xd4\x05\x00", bytes.fromhex("cb3ff8000000000000")]
)
def test_a_payloads_keys_are_strings(key: bytes) -> None:
    refused(b"\x81" + key + b"\x01", "expected a string as key")


def test_a_payloads_keys_are_utf8() -> None:
    refused(b"\x81\xa1\xff\x01", "a key is not UTF-8")
    refused(b"\x81\xc4\x01\xff\x01", "a key is not UTF-8")
    assert decode_payload(b"\x82\xc4\x01k\x01\xa1l\x02") == {"k": 1, "l": 2}


@pytest.mark.parametrize("text", [b"\xff", b"a\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3"])
def test_a_string_that_is_not_utf8_is_bytes(text: bytes) -> None:
    string = bytes([0xA0 | len(text)]) + text
    assert received(string) == text
    assert received(b"\x81" + string + b"\x01") == {text: 1}


def test_of_a_key_that_comes_twice_the_last_value_counts() -> None:
    assert decode_payload(b"\x82\xa1k\x01\xa1k\x02") == {"k": 2}
    assert received(b"\x82\x01\x05\x01\x06") == {1: 6}


#: What is said of keys whose hashes a peer may have chosen.
TOO_MANY = "too many keys of maps that are no strings, or too long ones; use strings"

Maps = list[dict[Any, None]]


def maps_of(keys: Callable[[], Iterable[Any]], count: int = 1) -> Maps:
    return [dict.fromkeys(keys()) for _ in range(count)]


@pytest.mark.parametrize(
    ("fit", "unfit"),
    [
        (maps_of(lambda: range(8192)), maps_of(lambda: range(8193))),
        (maps_of(lambda: range(1024), 64), maps_of(lambda: range(1024), 65)),
        # Two bytes each.
        (
            maps_of(lambda: product(range(40), repeat=1), 200),
            maps_of(lambda: product(range(128), repeat=1), 200),
        ),
        # 63 and 69 bytes each, and all with one hash, as -1 and -2 have.
        (
            maps_of(lambda: ((1000,) * 17 + (7, *end) for end in product((-1, -2), repeat=8))),
            maps_of(lambda: ((1000,) * 19 + (7, *end) for end in product((-1, -2), repeat=8))),
        ),
        (maps_of(lambda: [(0,) * 1_000_000]), maps_of(lambda: ((n,) * 400_000 for n in range(4)))),
    ],
    ids=["numbers", "numbers in many maps", "arrays in many maps", "arrays", "long arrays"],
)
def test_keys_that_a_peer_could_make_collide_are_bounded(fit: Maps, unfit: Maps) -> None:
    assert decode_payload(encode_payload({"k": fit}))["k"] == fit
    with pytest.raises(SerializationError, match=rf"key .* of data\[\"k\"\]\[\d+\]: {TOO_MANY}"):
        encode_payload({"k": unfit})
    refused(packed({"k": unfit}), TOO_MANY)


def test_other_keys_are_any_number() -> None:
    text: dict[Any, int] = {str(n): n for n in range(20_000)}
    text |= {b"%d" % n: n for n in range(20_000)}
    rows = [{n: 0.5, (n, n): 1, None: 2} for n in range(20_000)]
    payload = {"text": text, "rows": rows}
    assert decode_payload(encode_payload(payload)) == payload


def test_of_keys_in_extensions_all_bytes_count() -> None:
    maps = [{Ext(5, bytes(4000) + bytes([n])): n for n in range(count)} for count in (30, 40)]
    assert decode_payload(encode_payload({"k": maps[0]}))["k"] == maps[0]
    with pytest.raises(SerializationError, match=TOO_MANY):
        encode_payload({"k": maps[1]})
    entries = b"".join(b"\xc8\x0f\xa1\x05" + key.data + b"\xc0" for key in maps[1])
    refused(b"\x81\xa1k\xde\x00\x28" + entries, TOO_MANY)


def test_bytes_at_random_do_no_more_than_raise() -> None:
    rng = random.Random(20260102)
    wire = packed(PAYLOAD)
    for _ in range(5000):
        damaged = bytearray(wire)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            decode_payload(bytes(damaged))
        except SerializationError as error:
            assert error.reason == "decode"


# Small values, and the bytes that the scan charges for each in an array.
SMALL = {
    "nil": (b"\xc0", 40),
    "int": (b"\xcd\x7f\xff", 40),
    "float": (b"\xca\x3f\x80\x00\x00", 40),
    "empty string": (b"\xa0", 56),
    "string": (b"\xa2\xc3\xa9", 58),
    "bytes": (b"\xc4\x02ab", 58),
    "empty array": (b"\x90", 56),
    "array": (b"\x91\xc0", 96),
    "empty map": (b"\x80", 56),
    "map": (b"\x81\xc0\xc0", 136),
    "map of text": (b"\x81\xa1k\xc0", 153),
    "map of arrays": (b"\x81\x90\x90", 168),
    "timestamp": (b"\xd6\xff\x00\x00\x00\x01", 60),
    "extension": (b"\xd5\x05ab", 58),
    "complex": (packed({b"complex": True, b"data": "1j"}), 40 + 16 + 4 * 40 + 16 + 7 + 16 + 4 + 16 + 2),
    "scalar": (packed({b"nd": False, b"type": "<i4", b"data": bytes(4)}), 40 + 16 + 6 * 40 + 5 * 16 + 17),
}


def array_of(count: int, element: bytes) -> bytes:
    return b"\x81\xa1k\xdd" + count.to_bytes(4, "big") + element * count


def peak_of(payload: bytes) -> int:
    """The most memory that decoding takes, in bytes."""
    tracemalloc.start()
    try:
        decode_payload(payload)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("element", "charge"), SMALL.values(), ids=SMALL.keys())
def test_python_takes_about_twice_the_memory_that_the_scan_allows(element: bytes, charge: int) -> None:
    most = (64 * MIB - 1000) // (charge - 8 * len(element)) if charge > 8 * len(element) else None
    if most is not None:
        # The charge is what this test takes it for.
        refused(array_of(most + most // 50, element), "of memory")
    assert peak_of(array_of(20_000, element)) < 2.1 * 20_000 * charge


@pytest.mark.parametrize("kind", ["nil", "empty map", "empty string"])
def test_the_most_markers_that_the_scan_lets_pass_take_less_than_400_mib(kind: str) -> None:
    element, charge = SMALL[kind]
    refused(array_of(4 * MIB, element), "of memory")
    most = (64 * MIB - 1000) // (charge - 8 * len(element))
    assert peak_of(array_of(most, element)) < 2.1 * (64 * MIB + 8 * most) < 400 * MIB


def test_large_bytes_are_copied_once() -> None:
    assert peak_of(encode_payload({"k": bytes(32 * MIB)})) < 33 * MIB


def test_a_large_array_is_copied_once() -> None:
    np = pytest.importorskip("numpy")
    payload = encode_payload({"k": np.zeros(4 * MIB)})
    assert peak_of(payload) < 33 * MIB


# Types


def peak_of_misfit(annotation: Any, payload: Any) -> tuple[SerializationError, int]:
    """What is raised, and the most memory that it takes, in bytes."""
    convert = converter(annotation)
    assert convert is not None
    tracemalloc.start()
    try:
        with pytest.raises(SerializationError) as unfit:
            convert(payload)
        return unfit.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Numbers(pydantic.BaseModel):
    of_list: list[int] = []
    of_dict: dict[str, int] = {}


#: What a peer might write into a log: a line of its own, a terminal's escape, and what turns the text around.
FORGED = "x\nERROR all is lost\x1b[2K\u202e"


def is_one_short_line(words: str) -> bool:
    return words.isprintable() and len(words) < 1200


def test_of_very_many_misfits_only_their_number_is_told() -> None:
    error, peak = peak_of_misfit(Numbers, {"of_list": ["x"] * 200_000})
    assert str(error) == "Numbers: 200000 values are not of their types" and error.__cause__ is None
    assert peak < MIB
    error, peak = peak_of_misfit(Numbers, {"of_list": ["x"] * 100})
    assert str(error).startswith("Numbers.of_list[0]: ") and str(error).endswith("(and 99 more)")


@pytest.mark.parametrize("key", [FORGED, "k" * MIB, "\n" * MIB])
def test_a_key_of_a_peers_is_one_short_line(key: str) -> None:
    @dataclasses.dataclass
    class Plain:
        of_dict: dict[str, int]

    for annotation in (Numbers, Plain):
        error, _ = peak_of_misfit(annotation, {"of_dict": {key: "x"}})
        assert "of_dict[" in str(error) and is_one_short_line(str(error))
        assert is_one_short_line(words_of(error))


def test_what_a_types_own_code_says_is_one_short_line() -> None:
    class Choosy(pydantic.BaseModel):
        name: str

        @pydantic.field_validator("name")
        @classmethod
        def refuse(cls, name: str) -> str:
            raise ValueError(f"no {name}")

    @dataclasses.dataclass
    class Plain:
        name: str
        error: typing.ClassVar[type[Exception]] = ValueError

        def __post_init__(self) -> None:
            raise self.error(f"no {self.name}")

    class Worse(Plain):
        error = RuntimeError

    for annotation in (Choosy, Plain, Worse):
        for name in (FORGED, "k" * MIB):
            error, _ = peak_of_misfit(annotation, {"name": name})
            assert "no " in str(error) and is_one_short_line(str(error))


def test_words_in_a_log_are_one_short_line() -> None:
    assert words_of(ValueError("a\\b 'é'")) == "ValueError: a\\b 'é'"
    assert words_of(ValueError(FORGED)) == "ValueError: x\\nERROR all is lost\\x1b[2K\\u202e"
    assert words_of(ValueError("x" * MIB)) == f"ValueError: {'x' * 1000}..."
    assert words_of(ValueError()) == "ValueError"
