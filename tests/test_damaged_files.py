"""What cannot be saved, and files that are damaged, foreign or hostile: each is refused."""

from __future__ import annotations

import builtins
import io
import math
import os
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from round_trip import header_of, same, through_bytes

import nn
import tensorgrad
from tensorgrad import serialization
from tensorgrad.serialization import load, save


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
