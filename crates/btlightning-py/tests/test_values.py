"""Python objects on the wire: what arrives, and in which bytes."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import enum
import pickle
import random
import subprocess
import sys
import textwrap
import types
import typing
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from btlightning._errors import UnsupportedTypeError
from btlightning._native import Ext, decode_payload, encode_payload

UTC = dt.timezone.utc


def packed(value: Any) -> bytes:
    """What the msgpack package writes."""
    return typing.cast(bytes, msgpack.packb(value, use_bin_type=True, datetime=True))


def sent(value: Any) -> Any:
    """The value as it arrives."""
    return decode_payload(encode_payload({"k": value}))["k"]


def received(wire: bytes) -> Any:
    """What becomes of a value that somebody else has encoded."""
    return decode_payload(b"\x81\xa1k" + wire)["k"]


# Round trips

INTS = [
    edge + offset
    for edge in (
        0,
        2**5,
        2**7,
        2**8,
        2**15,
        2**16,
        2**31,
        2**32,
        2**53,
        2**63,
        -(2**5),
        -(2**7),
        -(2**15),
        -(2**31),
    )
    for offset in (-1, 0, 1)
] + [-(2**63), -(2**63) + 1, 2**64 - 1]

SCALARS: list[Any] = [
    None,
    True,
    False,
    *INTS,
    0.0,
    -0.0,
    0.1,
    1e300,
    5e-324,
    float("inf"),
    float("-inf"),
    "",
    "text",
    "é \U0001f980 \0",
    *("x" * length for length in (31, 32, 255, 256, 65535, 65536)),
    *(bytes(length) for length in (0, 1, 255, 256, 4095, 4096, 65535, 65536)),
]

CONTAINERS: list[Any] = [
    [],
    {},
    [[]],
    [{}],
    {"a": {"b": [1, {"c": None}]}},
    *(list(range(length)) for length in (15, 16, 65535, 65536)),
    *({str(key): key for key in range(length)} for length in (15, 16, 65536)),
    {1: "a", -1: "b", "1": "c", b"1": "d", None: "e", 2.5: "f"},
    {True: 1, False: 0},
]


@pytest.mark.parametrize("value", SCALARS + CONTAINERS, ids=lambda value: repr(value)[:30])
def test_plain_values_arrive_in_the_bytes_that_msgpack_writes(value: Any) -> None:
    payload = {"k": value}
    assert encode_payload(payload) == packed(payload)
    found = decode_payload(packed(payload))
    assert found == payload
    assert type(found["k"]) is type(value)
    assert repr(found) == repr(payload)


def test_nan_arrives() -> None:
    found = sent(float("nan"))
    assert found != found


def test_single_precision_arrives() -> None:
    assert received(msgpack.packb(0.1, use_single_float=True)) == pytest.approx(0.1)


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2
    BOTH = ("red", 2)


class Number(enum.IntEnum):
    ONE = 1


class Word(str, enum.Enum):
    YES = "yes"


class Point(typing.NamedTuple):
    x: int
    y: int


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    pass


class Raw(bytes):
    pass


class Many(list[int]):
    pass


@dataclasses.dataclass
class Inner:
    raw: bytes


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: list[Inner]
    constant: typing.ClassVar[int] = 7
    hidden: dataclasses.InitVar[int] = 8


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: int


STAND_INS: list[tuple[Any, Any]] = [
    ((1, (2, "a")), [1, [2, "a"]]),
    (bytearray(b"ab"), b"ab"),
    (bytearray(5000), bytes(5000)),
    (memoryview(b"abcdef"), b"abcdef"),
    (memoryview(bytes(9000)), bytes(9000)),
    (memoryview(b"abcdef")[::2], b"ace"),
    (Colour.RED, "red"),
    (Colour.GREEN, 2),
    (Colour.BOTH, ["red", 2]),
    (Number.ONE, 1),
    (Word.YES, "yes"),
    (enum.Flag("Flags", "A B").B, 2),  # type: ignore[attr-defined]
    (Point(1, 2), [1, 2]),
    (Text("t"), "t"),
    (Whole(7), 7),
    (Real(0.5), 0.5),
    (Raw(b"r"), b"r"),
    (Many([1]), [1]),
    (collections.defaultdict(int, a=1), {"a": 1}),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    (collections.UserDict({"a": 1}), {"a": 1}),
    (Outer("n", [Inner(b"i")], 0), {"name": "n", "inner": [{"raw": b"i"}]}),
    (Slotted(3), {"x": 3}),
    ({Number.ONE: 1, Word.YES: 2, Colour.GREEN: 3}, {1: 1, "yes": 2, 2: 3}),
    ({(1, ("a", b"b")): 1, (): 2}, {(1, ("a", b"b")): 1, (): 2}),
]


@pytest.mark.parametrize(("value", "arrives"), STAND_INS, ids=lambda value: repr(value)[:30])
def test_other_types_arrive_as_what_they_stand_for(value: Any, arrives: Any) -> None:
    found = sent(value)
    assert found == arrives
    assert type(found) is type(arrives)


def test_mappings_keep_their_order() -> None:
    ordered = collections.OrderedDict(a=1, b=2, c=3)
    ordered.move_to_end("a")
    assert list(sent(ordered)) == ["b", "c", "a"]
    assert list(decode_payload(encode_payload(ordered))) == ["b", "c", "a"]


def test_a_payload_is_a_mapping_or_has_fields() -> None:
    assert decode_payload(encode_payload({})) == {}
    assert decode_payload(encode_payload(types.MappingProxyType({"a": 1}))) == {"a": 1}
    assert decode_payload(encode_payload(Outer("n", [], 0))) == {"name": "n", "inner": []}
    assert decode_payload(encode_payload({Word.YES: 1, Text("t"): 2})) == {"yes": 1, "t": 2}
    for payload in (None, 1, "text", [], [("a", 1)], {1}, Outer, Point(1, 2), 1j, object()):
        with pytest.raises(UnsupportedTypeError, match="^data: a payload is a mapping, "):
            encode_payload(payload)


def test_pydantic_models_arrive_as_their_fields() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Part(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        raw: bytes
        at: dt.datetime
        colour: Colour

    class Whole(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        model_config = pydantic.ConfigDict(frozen=True)
        parts: tuple[Part, ...]
        odd: Any = None

    at = dt.datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    whole = Whole(parts=(Part(raw=b"\xff", at=at, colour=Colour.GREEN),))
    arrived = {"parts": [{"raw": b"\xff", "at": at, "colour": 2}], "odd": None}
    assert decode_payload(encode_payload(whole)) == arrived
    assert sent([whole]) == [arrived]
    with pytest.raises(UnsupportedTypeError, match=r'^data\["k"\]\["odd"\]: set has no MessagePack form$'):
        sent(Whole(parts=(), odd={1}))
    with pytest.raises(UnsupportedTypeError, match="Whole is a map in MessagePack, and cannot be a key"):
        sent({Whole(parts=()): 1})
    with pytest.raises(UnsupportedTypeError, match="root model"):
        sent(pydantic.RootModel[int](1))


# Timestamps

DATETIMES = [
    dt.datetime(1970, 1, 1, tzinfo=UTC),
    dt.datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    dt.datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC),  # 2^32 - 1
    dt.datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC),
    dt.datetime(2026, 11, 22, 18, 51, 28, 123456, tzinfo=UTC),
    dt.datetime(2514, 5, 30, 1, 53, 3, 999999, tzinfo=UTC),  # 2^34 - 1
    dt.datetime(2514, 5, 30, 1, 53, 4, tzinfo=UTC),
    dt.datetime.min.replace(tzinfo=UTC),
    dt.datetime.max.replace(tzinfo=UTC),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(-dt.timedelta(hours=3))),
]


@pytest.mark.parametrize("at", DATETIMES, ids=str)
def test_timestamps_are_exact_and_in_the_bytes_that_msgpack_writes(at: dt.datetime) -> None:
    payload = {"k": at}
    assert encode_payload(payload) == packed(payload)
    found = decode_payload(packed(payload))["k"]
    assert found == at
    assert found.tzinfo is UTC


def test_a_datetime_beyond_what_utc_has_arrives_as_an_extension() -> None:
    before_the_first_year = dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))
    found = sent(before_the_first_year)
    assert isinstance(found, Ext)
    assert found.code == -1
    assert len(found.data) == 12


def test_nanoseconds_are_cut_off() -> None:
    assert received(bytes(msgpack.packb(msgpack.Timestamp(1, 999_999_999)))) == dt.datetime(
        1970, 1, 1, 0, 0, 1, 999999, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"123",
        b"12345",
        (1_000_000_000 << 34).to_bytes(8, "big"),
        (1_000_000_000).to_bytes(4, "big") + bytes(8),
        bytes(4) + (253_402_300_800).to_bytes(8, "big"),
        bytes(4) + (-62_135_596_801).to_bytes(8, "big", signed=True),
        b"\xff" * 12,
        bytes(13),
    ],
)
def test_a_timestamp_that_is_none_stays_an_extension(body: bytes) -> None:
    assert received(b"\xc7" + bytes([len(body)]) + b"\xff" + body) == Ext(-1, body)


def test_a_datetime_without_timezone_is_refused() -> None:
    class Nowhere(dt.tzinfo):
        def utcoffset(self, at: dt.datetime | None) -> None:
            return None

        def dst(self, at: dt.datetime | None) -> None:
            return None

        def tzname(self, at: dt.datetime | None) -> None:
            return None

    for naive in (dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=Nowhere())):
        with pytest.raises(UnsupportedTypeError, match=r'^data\["k"\]: .* give it one, as in datetime.now'):
            sent(naive)


# Extensions


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 65535, 65536])
@pytest.mark.parametrize("code", [-128, -2, 0, 5, 127])
def test_extensions_arrive(code: int, length: int) -> None:
    ext = Ext(code, bytes(length))
    assert sent(ext) == ext
    if code >= 0:
        assert encode_payload({"k": ext}) == packed({"k": msgpack.ExtType(code, bytes(length))})


def test_an_extension_is_a_value() -> None:
    ext = Ext(5, b"ab")
    assert ext == Ext(5, bytearray(b"ab")) == Ext(5, memoryview(b"ab"))
    assert ext not in (Ext(6, b"ab"), Ext(5, b"a"), (5, b"ab"), None)
    assert hash(ext) == hash(Ext(5, b"ab"))
    assert len({ext, Ext(5, b"ab"), Ext(5, b"")}) == 2
    assert repr(ext) == "Ext(code=5, data=b'ab')"
    assert (ext.code, ext.data) == tuple(ext) == (5, b"ab")
    assert pickle.loads(pickle.dumps(ext)) == copy.deepcopy(ext) == ext
    match ext:
        case Ext(code, data):
            assert (code, data) == (5, b"ab")
    with pytest.raises(AttributeError):
        ext.code = 6  # type: ignore[misc]
    assert sent({ext: 1}) == {ext: 1}


@pytest.mark.parametrize("code", [128, -129, 2**40])
def test_an_extensions_code_has_eight_bits(code: int) -> None:
    with pytest.raises(ValueError, match="-128 to 127"):
        Ext(code, b"")


@pytest.mark.parametrize("data", ["text", 5, [1], None])
def test_an_extensions_data_is_bytes(data: Any) -> None:
    with pytest.raises(TypeError, match="bytes, not"):
        Ext(1, data)


# Anything at all


def anything(random: random.Random, depth: int = 0) -> Any:
    kind = random.randrange(9 if depth < 6 else 7)
    if kind == 7:
        return [anything(random, depth + 1) for _ in range(random.randrange(6))]
    if kind == 8:
        keys: list[Any] = ["a", "bb", "é", b"c", 3, -4, None, 2.5, "x" * 40]
        return {key: anything(random, depth + 1) for key in random.sample(keys, random.randrange(9))}
    return [
        None,
        random.choice([True, False]),
        random.choice([1, -1]) * random.getrandbits(random.randrange(1, 64)),
        random.uniform(-1e9, 1e9),
        "é" * random.randrange(300),
        random.randbytes(random.randrange(300)),
        dt.datetime.fromtimestamp(random.randrange(-(10**9), 10**11), UTC),
    ][kind]


def test_anything_nested_arrives_in_the_bytes_that_msgpack_writes() -> None:
    rng = random.Random(20260101)
    for _ in range(1000):
        payload = {"k": anything(rng), "l": anything(rng)}
        wire = encode_payload(payload)
        assert wire == packed(payload)
        assert repr(decode_payload(wire)) == repr(payload)


# Copies


@pytest.mark.skipif(sys.platform != "linux", reason="counts the pages of the process")
@pytest.mark.parametrize(
    ("make", "copies"),
    [
        ("b'x' * SIZE", 0),
        ("bytearray(b'x') * SIZE", 1),
        ("memoryview(b'x' * SIZE)", 1),
        ("numpy.ones(SIZE // 8)", 1),
        ("numpy.ones((2, SIZE // 16)).T", 1),
    ],
)
def test_large_values_are_copied_once_at_most(make: str, copies: int) -> None:
    if "numpy" in make:
        pytest.importorskip("numpy")
        make = "__import__('numpy')" + make.removeprefix("numpy")
    program = f"""
        import pathlib, re
        from btlightning._native import encode_payload

        SIZE = 64 * 1024 * 1024

        def peak():
            status = pathlib.Path("/proc/self/status").read_text()
            return int(re.search("VmHWM:\\s+([0-9]+)", status)[1]) / (SIZE // 1024)

        value = {make}
        before = peak()
        encode_payload({{"k": value}})
        print(peak() - before - 1)  # what it hands out is one more copy
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert copies - 0.2 < float(done.stdout) < copies + 0.2
