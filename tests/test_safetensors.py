"""Files of tensors that other programs read and have written."""

from __future__ import annotations

import io
import json
import math
import struct
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import safetensors.numpy
from round_trip import DTYPES, header_of, through_bytes

import nn
import tensorgrad
from tensorgrad.serialization import load, replace, safetensors_file, save, stored


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
