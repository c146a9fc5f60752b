"""Checkpoints: what is saved is what comes back, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

import tensorgrad
from gpt import checkpoint
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad.optim import AdamW

CONFIG = GPTConfig(vocab_size=11, context=4, width=8, layers=2, heads=2)
FACTS = {"step": 3, "random": {"state": 2**127 + 1}, "words": ["ä", None, 0.1]}


def taught(config: GPTConfig = CONFIG, steps: int = 2) -> tuple[GPT, AdamW]:
    """A model and its optimizer after some steps."""
    tensorgrad.manual_seed(steps)
    model = GPT(config)
    optimizer = AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        model(tensorgrad.tensor([[1, 2, 3]]), tensorgrad.tensor([[2, 3, 4]])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def weights(model: GPT) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def learnt(optimizer: AdamW) -> list[dict[str, Any]]:
    """What the optimizer remembers, in the order of the parameters."""
    state = optimizer.state_dict()["state"]
    return [
        {k: v.numpy().tolist() if isinstance(v, tensorgrad.Tensor) else v for k, v in s.items()}
        for _, s in sorted(state.items())
    ]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path, *taught(), FACTS)
    return path


# ------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("tied", [True, False])
def test_round_trip(tied: bool, tmp_path: Path) -> None:
    config = GPTConfig(11, context=4, width=8, layers=2, heads=2, tied=tied)
    model, optimizer = taught(config)
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, model, optimizer, FACTS)
    assert os.listdir(tmp_path) == ["c.safetensors"]

    other, other_optimizer = taught(config, steps=1)
    header, arrays = checkpoint.read(path)
    checkpoint.restore_model(other, header, arrays, path)
    checkpoint.restore_optimizer(other_optimizer, header, arrays)
    assert header["facts"] == FACTS
    np.testing.assert_equal(weights(other), weights(model))
    assert learnt(other_optimizer) == learnt(optimizer)
    assert (other.output.weight is other.token_embedding.weight) == tied
    # And it goes on as the first would.
    for m, o in ((model, optimizer), (other, other_optimizer)):
        m(tensorgrad.tensor([[5, 6]]), tensorgrad.tensor([[6, 7]])).backward()
        o.step()
    np.testing.assert_equal(weights(other), weights(model))


def test_what_is_restored_is_a_copy(saved: Path) -> None:
    """Training a restored model changes neither what was read nor a second model."""
    header, arrays = checkpoint.read(saved)
    before = {name: array.copy() for name, array in arrays.items()}
    model, optimizer = taught()
    checkpoint.restore_model(model, header, arrays, saved)
    checkpoint.restore_optimizer(optimizer, header, arrays)
    model(tensorgrad.tensor([[1]]), tensorgrad.tensor([[2]])).backward()
    optimizer.step()
    np.testing.assert_equal(arrays, before)


def test_options_of_the_optimizer_stay(saved: Path) -> None:
    model, _ = taught()
    optimizer = AdamW(model.parameters(), lr=0.5, betas=(0.1, 0.2))
    checkpoint.restore_optimizer(optimizer, *checkpoint.read(saved))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"]) == (0.5, (0.1, 0.2))


def test_the_file_is_tensors_and_json(saved: Path) -> None:
    """The format by hand: no pickle, tied weights once, the config where others can read it."""
    raw = saved.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    ours = json.loads(header.pop("__metadata__")["tensorgrad.object"])["header"]
    assert ours["model"] == CONFIG.to_json()
    assert ours["version"] == checkpoint.VERSION
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    size = sum(np.prod(entry["shape"]) for entry in header.values()) * 4
    assert 8 + length + size == len(raw)
    named = {name for name in header if name.startswith("model.")}
    assert "model.token_embedding.weight" in named
    assert "model.output.weight" not in named
    assert len([name for name in header if name.startswith("optimizer.")]) == 3 * len(named)


# ---------------------------------------------------------------------------------- what is refused


def test_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*: train first"):
            checkpoint.read(path)


def test_truncated(saved: Path) -> None:
    """Cut at every place that means something, and at some that do not."""
    raw = saved.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    for cut in (0, 1, 7, 8, 9, 8 + length // 2, 7 + length, 8 + length, 9 + length, -4, -1):
        saved.write_bytes(raw[:cut])
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is truncated or not a safe"):
            checkpoint.read(saved)
    saved.write_bytes(raw + b"\0")
    with pytest.raises(ValueError, match="is truncated or not a safetensors file"):
        checkpoint.read(saved)


@pytest.mark.parametrize("content", [b"\x80\x04N.", b"PK\x03\x04", b"{}", b"text\n" * 100])
def test_foreign(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"x\.safetensors (is truncated or not|looks like a pickle)"
    ):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"a": tensorgrad.zeros(1)}, "not a checkpoint of a run"),
        ([], "not a checkpoint of a run"),
        ({"header": {}}, "not a checkpoint of a run"),
        ({"header": {"version": 1}, "model": 3, "optimizer": {}}, "not a checkpoint of a run"),
        ({"header": {"version": 2}, "model": {}, "optimizer": {}}, "has the format 2, but this"),
        ({"header": {"version": "1"}, "model": {}, "optimizer": {}}, "has the format 1, but this"),
    ],
)
def test_other_safetensors(content: Any, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensorgrad.save(content, path)
    with pytest.raises(ValueError, match=rf"x\.safetensors .*{complaint}"):
        checkpoint.read(path)
    path.write_bytes(to_bytes({"a": np.zeros(1)}))
    with pytest.raises(ValueError, match="not a checkpoint of a run"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 16}, "width is 8 there and 16 here"),
        ({"layers": 1}, "layers is 2 there and 1 here"),
        ({"vocab_size": 12}, "vocab_size is 11 there and 12 here"),
        ({"tied": False}, "tied is True there and False here"),
        # these have the same shapes
        ({"heads": 4}, "heads is 2 there and 4 here"),
        ({"activation": "relu"}, "activation is 'gelu' there and 'relu' here"),
        ({"heads": 1, "context": 5}, "context is 4 there and 5 here; heads is 2 there and 1 here"),
    ],
)
def test_another_config(change: dict[str, Any], complaint: str, saved: Path) -> None:
    model = GPT(GPTConfig(**{**CONFIG.to_json(), **change}))
    before = weights(model)
    with pytest.raises(ValueError, match=f"is of another config: {complaint}$"):
        checkpoint.restore_model(model, *checkpoint.read(saved), saved)
    np.testing.assert_equal(weights(model), before)


def test_dropout_may_be_another(saved: Path) -> None:
    model = GPT(GPTConfig(**{**CONFIG.to_json(), "dropout": 0.5, "init": "torch"}))
    checkpoint.restore_model(model, *checkpoint.read(saved), saved)


def test_tensors_that_do_not_fit(saved: Path) -> None:
    """The config agrees, the tensors do not: someone has been at work with another program."""
    model = GPT(CONFIG)
    for spoil, complaint in (
        (lambda arrays: arrays.pop("model.norm.weight"), "missing: norm.weight"),
        (lambda arrays: arrays.update({"model.x": np.ones(1)}), "unexpected: x"),
        (lambda arrays: arrays.update({"model.norm.bias": np.ones(3)}), "norm.bias has shape"),
    ):
        header, arrays = checkpoint.read(saved)
        spoil(arrays)
        with pytest.raises(ValueError, match=f"holds another model: .*{complaint}"):
            checkpoint.restore_model(model, header, arrays, saved)


# ------------------------------------------------------------------------------------- whole or not


def full_disk(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_a_full_disk(fails: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    model, optimizer = taught(steps=3)
    monkeypatch.setattr(fails, full_disk)
    complaint = r"safetensors cannot be written \(No space left on device\) and is left as it was$"
    with pytest.raises(OSError, match=complaint):
        checkpoint.save(saved, model, optimizer, {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_ctrl_c_while_writing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    before = saved.read_bytes()
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(saved, *taught(steps=3), {})
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_contents_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: (calls.append(n), r(*a)))
    checkpoint.replace({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert calls == ["fsync", "fsync", "replace", "replace", "fsync"]


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be synced there")
def test_the_new_names_are_on_the_disk_at_the_end(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After both renames of a checkpoint the folder is synced, and not only the file."""
    calls: list[str] = []
    real_replace, real_fsync = os.replace, os.fsync

    def fsync(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_fsync(handle)

    def replace(source: Any, target: Any) -> None:
        calls.append(Path(target).name)
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    previous = saved.with_name("previous")
    checkpoint.save(saved, *taught(steps=1), {}, previous)
    fresh = f"{saved.name}.new"
    assert calls == ["file", fresh, "folder", "previous", saved.name, "folder"]
