"""Saving and loading: what comes back is what was saved, whole or not at all, and runs no code."""

from __future__ import annotations

import builtins
import collections
import enum
import errno
import io
import json
import math
import os
import pickle
import struct
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nn
import tensorgrad
from tensorgrad import Tensor, optim, serialization
from tensorgrad.serialization import load, replace, safetensors_file, save, stored

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def same(a: Any, b: Any) -> bool:
    """Equal, of the same types all the way down; nan equals nan, and 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad) and (
            a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
        )
    if isinstance(a, dict):
        return list(map(key_of, a)) == list(map(key_of, b)) and all(
            map(same, a.values(), b.values())
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return key_of(a) == key_of(b)


def key_of(value: Any) -> Any:
    return type(value), repr(value) if isinstance(value, float) else value


def through_bytes(obj: Any) -> Any:
    file = io.BytesIO()
    save(obj, file)
    return load(io.BytesIO(file.getvalue()))


# ------------------------------------------------------------------------------------- round trip

TEXT = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["$tensor", "$dict", "$tuple", "$float", "$", "", "__metadata__", "a.b", "requires_grad"]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.integers(2**120, 2**130) | st.floats() | TEXT


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Of all dtypes, 0-dim and empty ones included, and not contiguous ones."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    array = draw(hnp.arrays(draw(st.sampled_from(DTYPES)), shapes))
    tensor = tensorgrad.from_numpy(array)
    view = draw(st.sampled_from(["itself", "transposed", "steps", "backwards", "expanded"]))
    if view == "transposed":
        tensor = tensor.T
    elif view == "steps" and tensor.ndim:
        tensor = tensor[::2]
    elif view == "backwards" and tensor.ndim:
        tensor = tensorgrad.from_numpy(array[::-1])
    elif view == "expanded":
        tensor = tensor.expand(2, *tensor.shape)
    if tensor.is_floating_point() and draw(st.booleans()):
        tensor = tensor.detach().requires_grad_()
    return tensor


OBJECTS = st.recursive(
    PLAIN | tensors(),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.lists(parts, max_size=4).map(tuple)
        | st.dictionaries(TEXT, parts, max_size=4)
        | st.dictionaries(PLAIN, parts, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(OBJECTS)
def test_round_trip(obj: Any) -> None:
    assert same(through_bytes(obj), obj)


@settings(max_examples=50)
@given(OBJECTS)
def test_other_programs_read_the_tensors(obj: Any) -> None:
    """Each tensor is in the file once, with its values."""
    file = io.BytesIO()
    save(obj, file)
    stored = list(safetensors.numpy.load(file.getvalue()).values())
    distinct = {id(t): t for t in leaves(obj) if isinstance(t, Tensor)}
    expected = sorted(t.detach().numpy().tobytes() for t in distinct.values())
    assert sorted(array.tobytes() for array in stored) == expected


def leaves(obj: Any) -> list[Any]:
    if isinstance(obj, dict):
        obj = list(obj.values())
    return [x for part in obj for x in leaves(part)] if isinstance(obj, (list, tuple)) else [obj]


def header_of(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, tmp_path: Path) -> None:
    for shape in ((), (0,), (2, 0, 3), (5,), (2, 3)):
        values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        save(tensorgrad.from_numpy(values), tmp_path / "x")
        loaded = load(tmp_path / "x")
        assert loaded.dtype == dtype
        np.testing.assert_array_equal(loaded.numpy(), values, strict=True)


def test_plain_types_come_back() -> None:
    class Kind(enum.IntEnum):
        A = 3

    class Name(str, enum.Enum):
        B = "b"

    Point = collections.namedtuple("Point", "x y")
    for obj, expected in [
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, 2), (1, 2)),
        ({Kind.A: Name.B}, {3: "b"}),
        ({np.int64(2): [np.float64(0.5), np.float32(0.25), np.bool_(True), np.str_("s")]},
         {2: [0.5, 0.25, True, "s"]}),
    ]:  # fmt: skip
        assert same(through_bytes(obj), expected)


def test_a_parameter_becomes_a_tensor() -> None:
    loaded = through_bytes(nn.Linear(2, 1).weight)
    assert type(loaded) is Tensor
    assert loaded.requires_grad
    assert loaded.is_leaf


def test_a_result_is_saved_as_values() -> None:
    x = tensorgrad.tensor([1.0, 2.0], requires_grad=True)
    loaded = through_bytes(x * 2)
    assert loaded.tolist() == [2, 4]
    assert loaded.requires_grad
    assert loaded.is_leaf


def test_loaded_tensors_can_be_written() -> None:
    loaded = through_bytes({"a": tensorgrad.zeros(2), "b": tensorgrad.zeros(2)})
    loaded["a"] += 1
    assert (loaded["a"].tolist(), loaded["b"].tolist()) == ([1, 1], [0, 0])


@pytest.mark.parametrize("kind", [str, Path])
def test_paths(kind: type, tmp_path: Path) -> None:
    path = tmp_path / "ä b.safetensors"
    save([1], kind(path))
    assert load(kind(path)) == [1]
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(TypeError):
        save(1, 5)
    with pytest.raises(TypeError):
        load(5)


def test_open_files(tmp_path: Path) -> None:
    obj = {"a": tensorgrad.arange(5), "empty": tensorgrad.zeros(0, 2), "b": tensorgrad.tensor(True)}
    with open(tmp_path / "x", "wb") as file:
        save(obj, file)
    save(obj, tmp_path / "y")
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    with open(tmp_path / "x", "rb") as file:
        assert same(load(file), obj)
    with (
        open(tmp_path / "x", encoding="latin-1") as text,
        pytest.raises(TypeError, match="x gives str: open it with mode 'rb'"),
    ):
        load(text)


# ------------------------------------------------------------------------------------ shared memory


def test_tied_weights_are_stored_once() -> None:
    model = nn.Sequential(nn.Linear(50, 50, bias=False), nn.Linear(50, 50, bias=False))
    model[1].weight = model[0].weight
    file = io.BytesIO()
    save(model.state_dict(), file)
    assert list(safetensors.numpy.load(file.getvalue())) == ["0.weight"]
    loaded = load(io.BytesIO(file.getvalue()))
    assert list(loaded) == ["0.weight", "1.weight"]
    loaded["0.weight"].zero_()
    assert not loaded["1.weight"].any()


def test_sharing_is_of_what_is_seen() -> None:
    """The same values in other memory, or other values of the same memory, are not the same."""
    x = tensorgrad.arange(4).float().reshape(2, 2)
    bits = tensorgrad.from_numpy(x.numpy().view(np.int32))
    loaded = through_bytes([x, x.detach(), x.clone(), x.T, x[0], x.flatten(), bits])
    first, same_memory, *others = loaded
    first[0, 1] = 9
    assert same_memory.tolist() == [[0, 9], [2, 3]]
    expected = [[[0, 1], [2, 3]], [[0, 2], [1, 3]], [0, 1], [0, 1, 2, 3], bits.tolist()]
    assert [other.tolist() for other in others] == expected


def test_nothing_is_not_shared() -> None:
    obj = [tensorgrad.zeros(0, 2), tensorgrad.zeros(3, 0).long(), tensorgrad.zeros(0, 2)]
    loaded = through_bytes(obj)
    assert same(loaded, obj)
    assert loaded[0] is not loaded[2]


def test_sharing_with_and_without_grad() -> None:
    x = tensorgrad.ones(2, requires_grad=True)
    a, b, c = through_bytes([x.detach(), x, x])
    assert (a.requires_grad, b.requires_grad) == (False, True)
    assert b is c
    a.fill_(5)
    assert b.tolist() == [5, 5]
    y = (b * b).sum()
    a.fill_(6)  # the backward pass must notice, as with any two views
    with pytest.raises(RuntimeError, match="overwritten"):
        y.backward()


def test_names_that_would_clash() -> None:
    t = [tensorgrad.tensor(float(i)) for i in range(7)]
    obj = {"a": {"b": t[0], 0: t[1]}, "a.b": t[2], "a.0": t[3], "__metadata__": t[4],
           "a.b~2": t[5], "\ud800": t[6]}  # fmt: skip
    assert same(through_bytes(obj), obj)


def test_tensors_that_live_only_while_they_are_saved() -> None:
    """Memory that one has left can be another's: that does not make them the same."""

    class Fresh(list):
        def __iter__(self) -> Any:
            return (tensorgrad.full((5, 1), float(i)).expand(5, 9) for i in range(20))

    assert [t[0, 0].item() for t in through_bytes(Fresh())] == list(range(20))


# ------------------------------------------------------------------------------------- real objects


def test_training_goes_on(tmp_path: Path) -> None:
    """A model, an optimizer and a generator that were loaded do what the first would have done."""

    def setup() -> tuple[nn.Module, optim.AdamW, tensorgrad.Generator]:
        tensorgrad.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        return model, optim.AdamW(model.parameters(), lr=0.1), tensorgrad.Generator(1)

    def steps(model: nn.Module, optimizer: optim.AdamW, generator: tensorgrad.Generator) -> None:
        for _ in range(2):
            optimizer.zero_grad()
            (model(tensorgrad.randn(8, 3, generator=generator)) ** 2).mean().backward()
            optimizer.step()

    first = model, optimizer, generator = setup()
    steps(*first)
    states = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": generator.get_state(),
        "step": 2,
    }
    save(states, tmp_path / "run")
    steps(*first)

    second = model2, optimizer2, generator2 = setup()
    saved = load(tmp_path / "run")
    assert all(type(k) is int for k in saved["optimizer"]["state"])
    model2.load_state_dict(saved["model"])
    optimizer2.load_state_dict(saved["optimizer"])
    generator2.set_state(saved["random"])
    steps(*second)
    assert same(model2.state_dict(), model.state_dict())
    assert same(optimizer2.state_dict(), optimizer.state_dict())


# ----------------------------------------------------------------------------------------- interop


def test_a_state_dict_is_an_ordinary_file(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    save(model.state_dict(), tmp_path / "m.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    assert sorted(arrays) == ["bias", "weight"]
    np.testing.assert_array_equal(arrays["weight"], model.weight.detach().numpy(), strict=True)


def test_tensors_are_aligned() -> None:
    """So that other programs can use them where they lie."""
    for title in ("", "a", "bc"):
        file = io.BytesIO()
        save({title: {name: tensorgrad.ones(3).to(name) for name in DTYPES}}, file)
        header = header_of(file.getvalue())
        (length,) = struct.unpack("<Q", file.getvalue()[:8])
        del header["__metadata__"]
        for name, entry in header.items():
            width = np.dtype(name.removeprefix(f"{title}.")).itemsize
            assert (8 + length + entry["data_offsets"][0]) % width == 0


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_published_model_is_a_dict(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    arrays = {name: np.ones((2, 3), name) for name in DTYPES}
    safetensors.numpy.save_file(arrays, tmp_path / "m.safetensors", metadata)
    loaded = load(tmp_path / "m.safetensors")
    assert sorted(loaded) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array, strict=True)
        assert not loaded[name].requires_grad


def plain_file(kind: str, shape: list[int], body: bytes) -> io.BytesIO:
    entry = {"dtype": kind, "shape": shape, "data_offsets": [0, len(body)]}
    header = json.dumps({"w": entry}).encode()
    return io.BytesIO(struct.pack("<Q", len(header)) + header + body)


def test_bfloat16_is_widened() -> None:
    bits = np.arange(2**16, dtype=np.uint32)
    loaded = load(plain_file("BF16", [2**16], bits.astype("<u2").tobytes()))["w"]
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded.numpy().view(np.uint32), bits << 16)
    scalar = load(plain_file("BF16", [], b"\x80\x3f"))["w"]
    assert (scalar.shape, scalar.item()) == ((), 1.0)


def test_dtypes_that_tensors_do_not_have() -> None:
    with pytest.raises(ValueError, match="holds 'w' as U32, which tensors here cannot be"):
        load(plain_file("U32", [1], bytes(4)))


@pytest.mark.torch
def test_pytorch_reads_and_writes_the_same(torch: ModuleType, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    ours = {name: tensorgrad.arange(6).to(name).reshape(2, 3).T for name in DTYPES}
    save(ours, tmp_path / "ours")
    theirs = load_file(tmp_path / "ours")
    assert sorted(theirs) == sorted(ours)
    for name in DTYPES:
        assert str(theirs[name].dtype) == f"torch.{name}"
        assert theirs[name].tolist() == ours[name].tolist()
    theirs["half"] = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    save_file(theirs, tmp_path / "theirs")
    loaded = load(tmp_path / "theirs")
    assert loaded.pop("half").tolist() == [1.5, -2.0]
    assert all(loaded[name].tolist() == ours[name].tolist() for name in DTYPES)


@pytest.mark.torch
def test_requires_grad_is_kept_as_in_pytorch(torch: ModuleType) -> None:
    for requires_grad in (False, True):
        x = torch.ones(2, requires_grad=requires_grad)
        file = io.BytesIO()
        torch.save([x, x.detach(), x * 2], file)
        expected = torch.load(io.BytesIO(file.getvalue()))
        y = tensorgrad.ones(2, requires_grad=requires_grad)
        found = through_bytes([y, y.detach(), y * 2])
        assert [t.requires_grad for t in found] == [t.requires_grad for t in expected]
        assert [t.is_leaf for t in found] == [t.is_leaf for t in expected]


@pytest.mark.parametrize("kind", [*DTYPES, "bfloat16"])
def test_tensors_are_read_one_by_one(kind: str, tmp_path: Path) -> None:
    """What is asked for, and nothing else; also scalars, and those without elements."""
    path, halved = tmp_path / "x", kind == "bfloat16"
    arrays = {
        str(shape): np.arange(math.prod(shape)).reshape(shape).astype("f4" if halved else kind)
        for shape in ((), (0, 2), (5,), (2, 3))
    }
    content = safetensors.numpy.save(arrays, {"format": "pt"})
    if halved:  # whose small integers are the upper halves of float32's
        entries = {k: v for k, v in header_of(content).items() if k != "__metadata__"}
        body, header, end = b"", {}, 0
        for name, entry in entries.items():
            part = (arrays[name].view("u4") >> 16).astype("u2").tobytes()
            start, end, body = end, end + len(part), body + part
            header[name] = {**entry, "dtype": "BF16", "data_offsets": [start, end]}
        head = json.dumps(header).encode()
        content = struct.pack("<Q", len(head)) + head + body
    path.write_bytes(content)
    found = stored(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].shape == array.shape
        tensor = found[name].read()
        assert tensor.dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array, strict=True)


def test_a_plain_file_is_written_view_by_view(tmp_path: Path) -> None:
    tensors = {"a": tensorgrad.randn(3, 4).T, "b": tensorgrad.arange(7)[::2]}
    replace({tmp_path / "x": safetensors_file(tensors)})
    arrays = safetensors.numpy.load_file(tmp_path / "x")
    assert set(arrays) == {"a", "b"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy(), strict=True)


def test_a_file_that_is_cut_after_it_was_opened(tmp_path: Path) -> None:
    save({"w": tensorgrad.ones(100)}, tmp_path / "x")
    weight = stored(tmp_path / "x")["w"]
    with open(tmp_path / "x", "r+b") as file:
        file.truncate(400)
    with pytest.raises(ValueError, match="has become shorter"):
        weight.read()


def test_a_dtype_that_tensors_do_not_have(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.zeros(2, "u4")}, tmp_path / "x")
    weight = stored(tmp_path / "x")["w"]
    assert weight.dtype == "U32"
    with pytest.raises(ValueError, match=r"x holds 'w' as U32, which tensors here cannot be"):
        weight.read()


# --------------------------------------------------------------------------------- what is refused


class Loop(list):
    def __init__(self) -> None:
        super().__init__([self])


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 0


@pytest.mark.parametrize(
    ("obj", "kind", "complaint"),
    [
        (object(), TypeError, r"what is to be saved is of type object"),
        ({"a": [1, {2}]}, TypeError, r"what is at \['a'\]\[1\] is of type set, and a file holds t"),
        ({3: {"b": b"x"}}, TypeError, r"what is at \[3\]\['b'\] is of type bytes"),
        ([1j], TypeError, r"at \[0\] is of type complex"),
        ([np.complex64(1)], TypeError, r"at \[0\] is of type complex"),
        ([np.longdouble(1)], TypeError, r"at \[0\] is of type longdouble"),
        ({"m": nn.Linear(1, 1)}, TypeError, r"at \['m'\] is of type Linear.*save its state_dict"),
        ([np.zeros(1)], TypeError, r"type ndarray.*from_numpy\(\) makes a tensor of it"),
        ({"a": {(1, 2): 3}}, TypeError, r"the dict at \['a'\] has the key \(1, 2\); keys are"),
        ({b"k": 3}, TypeError, r"the dict to be saved has the key b'k'"),
        (Loop(), ValueError, r"at \[0\]\[0\]\[0\]... is nested more than 100 levels deep, or con"),
        (deep(101), ValueError, "levels deep"),
    ],
)
def test_cannot_be_saved(obj: Any, kind: type, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with pytest.raises(kind, match=complaint) as caught:
        save(obj, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x"]


def test_as_deep_as_it_gets() -> None:
    assert through_bytes(deep(100)) == deep(100)


def test_too_much_beside_the_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors refuses to read a header of more than 100 MB: none is written."""
    monkeypatch.setattr(serialization, "_LONGEST_HEADER", 1000)
    save(list(range(100)), tmp_path / "x")
    with pytest.raises(ValueError, match=r"takes .* characters of JSON, too many"):
        save(list(range(1000)), tmp_path / "x")
    assert load(tmp_path / "x") == list(range(100))


OBJECT = {"ä": tensorgrad.arange(3).float(), "b": (1, None, {2: "x"}, math.inf), "c": [True, 0.1]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    save(OBJECT, path)
    return path


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="cannot be written"):
        save(1, tmp_path / "absent" / "x")
    with pytest.raises(OSError):  # noqa: PT011 (another one on each system)
        load(tmp_path)
    with pytest.raises(OSError, match="cannot be written"):
        save(1, tmp_path)


def test_truncated(saved: Path) -> None:
    """Cut anywhere, or longer than it was."""
    raw = saved.read_bytes()
    for content in (*(raw[:cut] for cut in range(len(raw))), raw + b"\0"):
        with pytest.raises(ValueError, match="truncated or not a safetensors file"):
            load(io.BytesIO(content))
    saved.write_bytes(raw[:-1])
    with pytest.raises(ValueError, match=r"x\.safetensors is truncated .*: restore it from a copy"):
        load(saved)


def test_any_byte_changed(saved: Path) -> None:
    """What is not noticed makes no difference: another kind of blank, another case of \\u00E4."""
    raw = saved.read_bytes()
    unnoticed = 0
    for i in range(len(raw)):
        for flip in (0x01, 0x02, 0x20, 0x80, 0xFF):
            content = raw[:i] + bytes([raw[i] ^ flip]) + raw[i + 1 :]
            try:
                loaded = load(io.BytesIO(content))
            except ValueError:
                continue
            unnoticed += 1
            assert same(loaded, OBJECT)
    assert unnoticed < 20


@pytest.mark.parametrize(
    ("was", "now"), [(b"[2, 3]", b"[3, 2]"), (b'"I8"', b'"U8"'), (b"F16", b"I16")]
)
def test_another_meaning_of_the_same_bytes(was: bytes, now: bytes) -> None:
    """What safetensors itself cannot notice."""
    file = io.BytesIO()
    save([tensorgrad.ones(2, 3).to("int8"), tensorgrad.ones(5).to("float16")], file)
    content = file.getvalue()
    assert content.count(was) == 1
    with pytest.raises(ValueError, match="is corrupt, its checksum is wrong"):
        load(io.BytesIO(content.replace(was, now)))


@pytest.mark.parametrize("content", [b"{}", b"text\n" * 100, bytes(1000), b"\xff" * 1000])
def test_foreign(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="x is truncated or not a safetensors file"):
        load(tmp_path / "x")


@pytest.mark.parametrize("length", [0x2C80, 0x0280])
@pytest.mark.parametrize("cut", [1, 7, 8, 100])
def test_a_truncated_file_is_no_pickle(length: int, cut: int) -> None:
    """Although the length of its header begins as pickles do."""
    content = length.to_bytes(8, "little") + b"{" + b" " * length
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        load(io.BytesIO(content[:cut]))


class Trap:
    """What a pickle can do to those who load it."""

    def __reduce__(self) -> tuple:
        return exec, ("import builtins; builtins.tensorgrad_trap = True",)


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_is_not_run(protocol: int) -> None:
    content = pickle.dumps(Trap(), protocol)
    with pytest.raises(ValueError, match=r"looks like a pickle, as torch\.save writes it"):
        load(io.BytesIO(content))
    assert not hasattr(builtins, "tensorgrad_trap")


@pytest.mark.torch
def test_a_file_of_torch_save(torch: ModuleType) -> None:
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"a": torch.ones(1)}, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"have PyTorch save it with safetensors\.torch"):
            load(io.BytesIO(file.getvalue()))


def rewritten(saved: Path, **changes: str | None) -> io.BytesIO:
    """The file with other entries in its header, and the checksum that belongs to them."""
    content = saved.read_bytes()
    metadata = header_of(content)["__metadata__"]
    arrays = safetensors.numpy.load(content)
    for key, value in changes.items():
        metadata[f"tensorgrad.{key}"] = value
    if "crc32" not in changes:
        metadata["tensorgrad.crc32"] = serialization._checksum(
            metadata["tensorgrad.version"], metadata["tensorgrad.object"], arrays
        )
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return io.BytesIO(safetensors.numpy.save(arrays, metadata))


def test_rewritten(saved: Path) -> None:
    """The helper of the next tests: without changes, the file is as good as it was."""
    assert same(load(rewritten(saved)), OBJECT)


def test_newer_version(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"has the format 2 and this version .* reads up to 1"):
        load(rewritten(saved, version="2"))


@pytest.mark.parametrize("key", ["version", "object", "crc32"])
def test_an_entry_is_missing(key: str, saved: Path) -> None:
    changes = {"crc32": "00000000"} if key != "crc32" else {}
    with pytest.raises(ValueError, match="is corrupt, its checksum is wrong"):
        load(rewritten(saved, **{**changes, key: None}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"$tensor": "absent"}',
        '{"$tensor": ["ä"]}',
        '{"$tensor": "ä", "requires_grad": [1]}',
        '{"$tuple": 1}',
        '{"$dict": [1]}',
        '{"$dict": [[1]]}',
        '{"$dict": [[[1], 2]]}',
        '{"$float": "x"}',
        '{"$float": null}',
        "[" * 100_000,
        "[" * 50_000 + "]" * 50_000,
    ],
)
def test_damaged_structure(text: str, saved: Path) -> None:
    with pytest.raises(ValueError, match=r"the file is damaged \(.*\): restore it from a copy"):
        load(rewritten(saved, object=text))


# ------------------------------------------------------------------------------------- whole or not


def full_disk(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_a_full_disk(fails: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fails, full_disk)
    complaint = r"safetensors cannot be written \(No space left on device\) and is left as it was$"
    with pytest.raises(OSError, match=complaint):
        save({}, saved)
    assert same(load(saved), OBJECT)
    assert os.listdir(saved.parent) == [saved.name]


def test_a_write_that_fails(saved: Path) -> None:
    """The system takes the first 20,000 bytes, and no more."""
    resource = pytest.importorskip("resource", reason="no limits on files here")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"safetensors cannot be written \(File too large\)"):
            save(tensorgrad.zeros(10_000), saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(load(saved), OBJECT)
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_ctrl_c_while_writing(fails: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fails, interrupt)
    with pytest.raises(KeyboardInterrupt):
        save({}, saved)
    assert same(load(saved), OBJECT)
    assert os.listdir(saved.parent) == [saved.name]


def test_contents_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[int]]] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def watched(*args: Any, name: str = name, real: Any = real) -> None:
            calls.append((name, sorted(path.stat().st_size for path in tmp_path.iterdir())))
            real(*args)

        monkeypatch.setattr(os, name, watched)
    replace({tmp_path / "a": b"1", tmp_path / "b": [b"2", b"", b"3"]})
    assert calls == [
        ("fsync", [1]), ("fsync", [1, 2]), ("replace", [1, 2]), ("replace", [1, 2]),
        ("fsync", [1, 2]),
    ]  # fmt: skip
    assert (tmp_path / "b").read_bytes() == b"23"


def test_folders_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where they cannot be opened: the files are written all the same."""
    real = os.open

    def refuse(path: Any, *args: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    replace({tmp_path / "a": b"1"})
    assert (tmp_path / "a").read_bytes() == b"1"


def test_several_files_change_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    replace({a: b"1", b: b"1"})
    synced: list[int] = []

    def second_fails(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            full_disk()

    monkeypatch.setattr("os.fsync", second_fails)
    with pytest.raises(OSError, match="b cannot be written"):
        replace({a: b"2", b: b"2"})
    assert (a.read_bytes(), b.read_bytes()) == (b"1", b"1")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    save(1, real)
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no links here")
    save(2, link)
    assert link.is_symlink()
    assert load(real) == 2
    assert os.listdir(real.parent) == ["real"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a regular file"):
        save(1, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_two_at_once(tmp_path: Path) -> None:
    """The last one wins, and nobody ever sees half of one."""
    path = tmp_path / "x"
    objects = [{"a": tensorgrad.full((1000 * (i + 1),), i)} for i in range(4)]
    save(objects[0], path)
    failures: list[BaseException] = []

    def work(obj: Any) -> None:
        try:
            for _ in range(10):
                save(obj, path)
                loaded = load(path)
                assert any(same(loaded, one) for one in objects)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(obj,)) for obj in objects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["x"]
