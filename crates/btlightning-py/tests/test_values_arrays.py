"""Arrays by msgpack-numpy's convention: in its bytes, out of its bytes, and out of bytes that only pretend."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import typing
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from btlightning._errors import UnsupportedTypeError
from btlightning._native import decode_payload, encode_payload

np = pytest.importorskip("numpy")
msgpack_numpy = pytest.importorskip("msgpack_numpy")


def packed(value: Any) -> bytes:
    """What msgpack-numpy writes."""
    return typing.cast(bytes, msgpack.packb({"k": value}, default=msgpack_numpy.encode, use_bin_type=True))


def received(value: Any) -> Any:
    """What becomes of a value that msgpack has encoded, numpy's convention by hand."""
    return decode_payload(typing.cast(bytes, msgpack.packb({"k": value})))["k"]


DTYPES = [
    *("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "S5", "U5"),
    *(">i2", ">u4", ">f8", ">c8", ">U3", np.longdouble, np.clongdouble),
]

ARRAYS: list[Any] = [
    np.array(1.5),
    np.array([]),
    np.zeros((0, 768), "f4"),
    np.zeros((3, 0, 2)),
    np.arange(24, dtype="i2").reshape(2, 3, 4),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(20)[::3],
    np.arange(20)[::-1],
    np.arange(6).reshape(2, 3).T,
    np.broadcast_to(np.float32(2), (4, 5)),
    np.array(["ab", "é", "\U0001f980"]),
    np.array([b"ab", b""]),
    np.array([[True], [False]]),
    np.arange(65536, dtype="f8"),
    np.zeros((1,) * 32),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.zeros(3, dtype=[("a", "<i4"), ("b", ">i2", (2, 3)), ("c", "?"), ("d", "U3")]),
    np.zeros((2, 2), dtype=[("outer", [("inner", "f4"), ("deeper", [("x", "u1")], (2,))]), ("é", "S1")]),
    np.rec.array([(1, "a")], dtype=[("n", "i8"), ("s", "U1")]),
    np.arange(4).reshape(2, 2).view(np.memmap),
]


def same(found: Any, array: Any) -> bool:
    """Equal in every byte and every property but the strides."""
    return (
        type(found) is np.ndarray
        and found.dtype == array.dtype
        and found.shape == array.shape
        and found.tobytes() == array.tobytes()
    )


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}"[:40])
def test_arrays_arrive_in_the_bytes_that_msgpack_numpy_writes(array: Any) -> None:
    assert encode_payload({"k": array}) == packed(array)
    found = decode_payload(packed(array))["k"]
    assert same(found, array)
    assert found.flags.writeable and found.flags.c_contiguous
    theirs = msgpack.unpackb(encode_payload({"k": array}), object_hook=msgpack_numpy.decode)["k"]
    assert same(theirs, array)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_arrives(dtype: Any) -> None:
    rng = np.random.default_rng(20260101)
    array = (rng.standard_normal((3, 4)) * 100).astype(dtype)
    assert encode_payload({"k": array}) == packed(array)
    assert same(decode_payload(packed(array))["k"], array)
    scalar = array[0, 0]
    assert encode_payload({"k": scalar}) == packed(scalar)
    found = decode_payload(packed(scalar))["k"]
    assert found == scalar
    if type(scalar) not in (np.float64, np.str_, np.bytes_):  # which are float, str and bytes to msgpack
        assert type(found) is type(scalar)


@pytest.mark.parametrize("dtype", ["M8[ns]", "M8[D]", "m8[25s]", "M8", ">m8[us]"])
def test_times_of_numpy_arrive(dtype: str) -> None:
    array = np.array([0, 1, -1, 2**62], "i8").astype(dtype)
    found = decode_payload(encode_payload({"k": array, "s": array[1]}))
    assert same(found["k"], array)
    assert found["s"] == array[1] and found["s"].dtype == array[1].dtype
    theirs = msgpack.unpackb(encode_payload({"k": array}), object_hook=msgpack_numpy.decode)["k"]
    assert same(theirs, array)
    record = np.zeros(2, [("at", dtype)])
    assert same(decode_payload(encode_payload({"k": record}))["k"], record)


def test_a_record_with_padding_arrives_with_the_layout_it_had() -> None:
    padded = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "i4"), ("c", "i2")], align=True))
    padded["b"] = 7
    for array in (padded, np.array([b"abc"], dtype="V3"), padded[["a", "c"]]):
        assert encode_payload({"k": array}) == packed(array)
        found = decode_payload(packed(array))["k"]
        assert found.dtype == array.dtype
        assert found.tobytes() == array.tobytes()


COMPLEX = [
    0j,
    1 + 2j,
    -1.5e300 - 2.5e-300j,
    complex("inf"),
    complex(0, float("-inf")),
    -0j,
    complex("nan+nanj"),
]


@pytest.mark.parametrize("number", COMPLEX, ids=repr)
def test_complex_numbers_arrive_in_the_bytes_that_msgpack_numpy_writes(number: complex) -> None:
    assert encode_payload({"k": number}) == packed(number)
    found = decode_payload(packed(number))["k"]
    assert type(found) is complex
    assert repr(found) == repr(number)


def test_arrays_arrive_inside_other_values() -> None:
    found = decode_payload(encode_payload({"k": [{"a": (np.ones(2), np.int8(1))}], "l": np.float64(0.5)}))
    assert same(found["k"][0]["a"][0], np.ones(2))
    assert found["k"][0]["a"][1] == 1
    assert type(found["l"]) is float


def test_the_older_format_of_msgpack_is_understood() -> None:
    for value in (np.array([1, 2], "u1"), np.array([b"x"]), np.float32(1.5), 1 + 2j):
        wire = typing.cast(
            bytes, msgpack.packb({"k": value}, default=msgpack_numpy.encode, use_bin_type=False)
        )
        found = decode_payload(wire)["k"]
        assert np.array_equal(found, value)
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([object()]), "a numpy array of dtype object has no MessagePack form"),
        (np.array([None]), "dtype object"),
        (np.zeros(1, dtype=[("a", "i4"), ("b", [("c", "O")])]), "dtype object"),
        (
            np.ma.array([1, 2], mask=[0, 1]),
            r"masked array has no MessagePack form; send what `filled\(\)` returns",
        ),
        (np.zeros(1, dtype=[(("title", "a"), "i4")]), "dtype"),
        (np.zeros(1, dtype={"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}), "dtype"),
        (np.zeros(1, dtype=[("a", "i4")])[0], "numpy.void has no MessagePack form; send an array of one"),
        (np.dtype("f4"), "numpy.dtypes.Float32DType has no|numpy.dtype.* has no"),
        (np.float32, "type has no"),
    ],
)
def test_what_would_not_arrive_as_it_is_is_refused(value: Any, message: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=rf'^data\["k"\]\[0\]: .*({message})'):
        encode_payload({"k": [value]})


@pytest.mark.skipif(not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="of numpy 2")
def test_strings_of_any_length_are_pointers_and_refused() -> None:
    with pytest.raises(UnsupportedTypeError, match="StringDType"):
        encode_payload({"k": np.array(["a"], dtype=np.dtypes.StringDType())})


def test_a_numpy_integer_is_no_key() -> None:
    with pytest.raises(
        UnsupportedTypeError, match="numpy.int64 is a map in MessagePack, and cannot be a key"
    ):
        encode_payload({"k": {np.int64(1): 1}})


ARRAY = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2], b"data": bytes(8)}

PRETENDERS: list[dict[Any, Any]] = [
    ARRAY | {b"shape": [3]},
    ARRAY | {b"shape": [1]},
    ARRAY | {b"shape": [-2]},
    ARRAY | {b"shape": [-1]},
    ARRAY | {b"shape": [2.0]},
    ARRAY | {b"shape": 2},
    ARRAY | {b"shape": [None]},
    ARRAY | {b"shape": [[2]]},
    ARRAY | {b"shape": []},
    ARRAY | {b"shape": [2**62, 2**62]},
    ARRAY | {b"shape": [2**32, 2**32]},
    ARRAY | {b"shape": [2**63, 2]},
    ARRAY | {b"shape": [2**64 - 1]},
    ARRAY | {b"shape": [2] + [1] * 64},
    ARRAY | {b"shape": [1] * 70_000},
    ARRAY | {b"shape": [0]},
    ARRAY | {b"shape": [2**40, 0], b"data": b""},
    ARRAY | {b"shape": [2**21, 0], b"data": b""},
    ARRAY | {b"shape": [0], b"data": b"", b"type": "|S2147483647"},
    ARRAY | {b"shape": [2**40], b"data": b"", b"type": "|S0"},
    ARRAY | {b"shape": [2**40], b"data": b"", b"type": "<U0"},
    ARRAY | {b"shape": [2**40], b"data": b"", b"type": "|V0"},
    ARRAY | {b"type": "|O"},
    ARRAY | {b"type": "|O8", b"shape": [1]},
    ARRAY | {b"type": "O"},
    ARRAY | {b"type": "object"},
    ARRAY | {b"type": "|T16"},
    ARRAY | {b"type": "float32"},
    ARRAY | {b"type": "<f3"},
    ARRAY | {b"type": "<f4,<f4"},
    ARRAY | {b"type": "<f4 "},
    ARRAY | {b"type": "(2,)<f4"},
    ARRAY | {b"type": "<f04"},
    ARRAY | {b"type": "<f+4"},
    ARRAY | {b"type": "<f99999999999999999999"},
    ARRAY | {b"type": "<U9223372036854775807"},
    ARRAY | {b"type": "<U-2"},
    ARRAY | {b"type": "<f" + "0" * 100_000 + "4"},
    ARRAY | {b"type": "é4"},
    ARRAY | {b"type": "<é4"},
    ARRAY | {b"type": "<"},
    ARRAY | {b"type": ""},
    ARRAY | {b"type": b"\xff\xfe"},
    ARRAY | {b"type": None},
    ARRAY | {b"type": 4},
    ARRAY | {b"type": {}},
    ARRAY | {b"type": "<M8[ns", b"shape": [1]},
    ARRAY | {b"type": "<M8[xx]", b"shape": [1]},
    ARRAY | {b"type": "<M8[9999999999999999ns]", b"shape": [1]},
    ARRAY | {b"type": "<M8[0s]", b"shape": [1]},
    ARRAY | {b"type": "<M8[]", b"shape": [1]},
    ARRAY | {b"type": "<M8[s]]", b"shape": [1]},
    ARRAY | {b"type": "<M8[2s/3]", b"shape": [1]},
    ARRAY | {b"type": "|b1", b"data": b"\0\1\2\1\0\1\0\0", b"shape": [8]},
    ARRAY | {b"kind": b"O", b"data": b"cos\nsystem\n(S'false'\ntR."},
    ARRAY | {b"kind": "O"},
    ARRAY | {b"kind": b"X"},
    ARRAY | {b"kind": 0},
    ARRAY | {b"nd": 1},
    ARRAY | {b"nd": None},
    ARRAY | {b"data": "text1234"[:7]},
    ARRAY | {b"data": [0] * 8},
    ARRAY | {b"data": None},
    ARRAY | {b"more": 1},
    {key: value for key, value in ARRAY.items() if key != b"data"},
    {key: value for key, value in ARRAY.items() if key != b"shape"},
    {key: value for key, value in ARRAY.items() if key != b"type"},
    {key: value for key, value in ARRAY.items() if key != b"nd"},
    {b"nd": False, b"type": "<f4", b"data": bytes(8)},
    {b"nd": False, b"type": "<f4", b"data": bytes(3)},
    {b"nd": False, b"type": "|O", b"data": bytes(8)},
    {b"nd": False, b"type": [["a", "<f4"]], b"data": bytes(4)},
    {b"nd": False, b"type": "<f4", b"data": bytes(4), b"shape": []},
    {b"nd": False, b"complex": True, b"type": "<f4", b"data": bytes(4)},
    {b"complex": True, b"data": "__import__('os')j"},
    {b"complex": True, b"data": "1"},
    {b"complex": True, b"data": "1" * 10_000 + "j"},
    {b"complex": True, b"data": b"\xff\xffj"},
    {b"complex": True, b"data": 1},
    {b"complex": False, b"data": "1j"},
    {b"complex": 1, b"data": "1j"},
    {b"complex": True, b"dat": "1j"},
    {"data": b"x", "type": "y"},
    {"nd": True, "data": b"x"},
]


def record(*fields: Any, data: bytes = bytes(8), shape: Any = (1,)) -> dict[Any, Any]:
    return {b"nd": True, b"type": list(fields), b"kind": b"V", b"shape": list(shape), b"data": data}


def in_each_other(levels: int) -> Any:
    dtype: Any = "<f8"
    for _ in range(levels):
        dtype = [["x", dtype]]
    return dtype[0]


PRETENDERS += [
    record(),
    record(["a"]),
    record("<f8"),
    record(["a", "<f8", [1], 1]),
    record(["a", "|O"]),
    record(["a", [["b", "|O8"]]]),
    record(["a", "<f4"], ["a", "<f4"]),
    record(["a", "<f4"]),
    record(["a", "<f8"], ["b", "<f8"]),
    record(["a", "<f8", [0]]),
    record(["a", "<f4", [-2]]),
    record(["a", "<f4", [2**62, 4]]),
    record(["a", "<f8", [2**63]]),
    record(["a", "<f8", [1] * 9]),
    record(["a", "<f8", 1]),
    record(["a", "<f8", []]),
    record([1, "<f8"]),
    record([b"\xff", "<f8"]),
    record(["x" * 1000, "<f8"]),
    record(["", "<f8"]),
    record(["", "|V4"], ["", "|V4"]),
    record(["", "|V4", [2]]),
    record(["a", []]),
    record([["title", "a"], "<f8"]),
    record(["a", "|b1", [8]], data=b"\0\0\0\0\0\0\0\7"),
    record(["a", "<f4"], ["b", [["c", "|b1"], ["d", "|b1", [3]]]], data=bytes(7) + b"\7"),
    record(*([f"f{n}", "|i1"] for n in range(300)), data=bytes(300)),
    record(in_each_other(9)),
    record(in_each_other(40)),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("pretender", PRETENDERS, ids=lambda value: repr(value)[:70])
def test_what_only_pretends_to_be_an_array_stays_a_map(pretender: dict[Any, Any]) -> None:
    assert received(pretender) == pretender
    assert received([pretender, 1]) == [pretender, 1]


@pytest.mark.parametrize(
    ("value", "array"),
    [
        (ARRAY, np.zeros(2, "f4")),
        (dict(reversed(ARRAY.items())), np.zeros(2, "f4")),
        ({key: value for key, value in ARRAY.items() if key != b"kind"}, np.zeros(2, "f4")),
        (ARRAY | {b"type": b"<f4"}, np.zeros(2, "f4")),
        ({key.decode(): value for key, value in ARRAY.items()}, np.zeros(2, "f4")),
        (ARRAY | {b"shape": [2**20, 0], b"data": b""}, np.zeros((2**20, 0), "f4")),
        (record([b"a", b"<f8"]), np.zeros(1, [("a", "f8")])),
        (record(in_each_other(8)), None),
        (record(*([f"f{n}", "|i1"] for n in range(256)), data=bytes(256)), None),
    ],
)
def test_what_the_convention_allows_is_an_array(value: Any, array: Any) -> None:
    found = received(value)
    assert type(found) is np.ndarray
    assert array is None or same(found, array)


def test_a_key_that_comes_twice_makes_no_array() -> None:
    wire = packed(np.zeros(2, "f4")).replace(b"\xc4\x04kind\xc4\x00", b"\xc4\x02nd\xc2")
    assert decode_payload(wire)["k"][b"nd"] is False


def test_a_payload_itself_is_never_an_array() -> None:
    wire = typing.cast(bytes, msgpack.packb(np.zeros(1), default=msgpack_numpy.encode))
    found = decode_payload(wire)
    assert found == {"nd": True, "type": "<f8", "kind": b"", "shape": [1], "data": bytes(8)}


def in_a_process(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_numpy_is_imported_only_when_an_array_arrives() -> None:
    wire = packed([np.zeros(1), 1j])
    program = f"""
        import sys
        from btlightning._native import decode_payload, encode_payload
        decode_payload(encode_payload({{"k": [1, b"x", 1j, {{"data": 1, "type": 2}}]}}))
        assert "numpy" not in sys.modules
        print(type(decode_payload({wire!r})["k"][0]).__name__)
        """
    assert in_a_process(program) == "ndarray"


@pytest.mark.parametrize("blocked", ["sys.modules['numpy'] = None", "sys.meta_path.insert(0, Block())"])
def test_without_numpy_arrays_stay_maps(blocked: str) -> None:
    wire = packed([np.zeros(1), np.float32(1), 1j])
    program = f"""
        import sys
        class Block:
            def find_spec(self, name, *_):
                if name == "numpy":
                    raise ImportError
        {blocked}
        from btlightning._native import decode_payload, encode_payload
        print(decode_payload({wire!r})["k"])
        print(decode_payload(encode_payload({{"k": {{1: 2}}}}))["k"])
        """
    array = {b"nd": True, b"type": "<f8", b"kind": b"", b"shape": [1], b"data": bytes(8)}
    scalar = {b"nd": False, b"type": "<f4", b"data": np.float32(1).tobytes()}
    assert in_a_process(program).splitlines() == [repr([array, scalar, 1j]), "{1: 2}"]


def test_tensors_arrive_as_arrays() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    for sent, array in [
        (tensor, tensor.numpy()),
        (tensor.t(), tensor.t().numpy()),
        (tensor.clone().requires_grad_(), tensor.numpy()),
        (torch.nn.Parameter(tensor), tensor.numpy()),
        (torch.tensor(1.5), np.float32(1.5).reshape(())),
    ]:
        assert same(decode_payload(encode_payload({"k": sent}))["k"], array)
    with pytest.raises(UnsupportedTypeError, match="numpy has no bfloat16"):
        encode_payload({"k": tensor.bfloat16()})
    with pytest.raises(UnsupportedTypeError, match="the tensor has no form in numpy: "):
        encode_payload({"k": tensor.to_sparse()})


def test_tensors_are_converted_as_torch_says() -> None:
    """With a stand-in for torch, where that is not installed."""
    program = """
        import sys, types
        import numpy
        class Tensor:
            def __init__(self, array, dtype="torch.float32", steps=()):
                self.array, self.dtype, self.steps = array, dtype, steps
            def detach(self):
                return Tensor(self.array, steps=(*self.steps, "detach"))
            def cpu(self):
                return Tensor(self.array, steps=(*self.steps, "cpu"))
            def numpy(self):
                if self.array is None:
                    raise TypeError("can't convert Sparse layout tensor to numpy")
                assert self.steps == ("detach", "cpu")
                return self.array
        class Parameter(Tensor):
            pass
        sys.modules["torch"] = torch = types.ModuleType("torch")
        torch.Tensor = Tensor
        from btlightning._native import decode_payload, encode_payload
        print(decode_payload(encode_payload({"k": [Tensor(numpy.ones(2)), Parameter(numpy.ones(1))]}))["k"])
        for tensor in (Tensor(numpy.ones(2), dtype="torch.bfloat16"), Tensor(None)):
            try:
                encode_payload({"k": tensor})
            except TypeError as error:
                print(error)
        """
    arrays, bfloat16, sparse = in_a_process(program).splitlines()
    assert arrays == "[array([1., 1.]), array([1.])]"
    assert bfloat16.startswith('data["k"]: numpy has no bfloat16; ')
    assert (
        sparse == 'data["k"]: the tensor has no form in numpy: can\'t convert Sparse layout tensor to numpy'
    )
