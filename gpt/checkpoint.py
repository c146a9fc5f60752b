"""Checkpoints: tensors in a safetensors file, everything else as JSON in its header.

A file is written beside its final name, synced and renamed, so that a crash never leaves half a
checkpoint under the name that is loaded. Loading runs no code from the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nn
import tensorgrad
from tensorgrad import Tensor
from tensorgrad.optim import Optimizer

VERSION = 1


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save(path: Path, model: nn.Module, optimizer: Optimizer, facts: dict[str, Any]) -> None:
    """Write the model's and the optimizer's state, with JSON-able ``facts``."""
    from safetensors.numpy import save as to_bytes

    state = optimizer.state_dict()
    arrays = {f"model.{k}": t.numpy() for k, t in _distinct(model).items()}
    numbers: dict[str, dict[str, Any]] = {}
    for i, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                arrays[f"optimizer.{i}.{name}"] = value.numpy()
            else:
                numbers.setdefault(str(i), {})[name] = value
    header = {
        "version": VERSION,
        "facts": facts,
        "optimizer": {"param_groups": state["param_groups"], "state": numbers},
    }
    write_atomically(path, to_bytes(arrays, metadata={"tensorgrad": json.dumps(header)}))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts and all tensors of a checkpoint (with the optimizer's numbers among the facts).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, corrupt, foreign, or written by a newer version.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}; train first, or name another run")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("tensorgrad", "null"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is truncated or not a checkpoint ({error}); restore it from a copy"
        ) from None
    if not isinstance(header, dict) or not {"version", "facts", "optimizer"} <= set(header):
        raise ValueError(f"{path} is a safetensors file, but not a checkpoint of a run")
    if header["version"] > VERSION:
        raise ValueError(
            f"{path} has the format {header['version']}, this program reads up to {VERSION}; "
            "update tensorgrad-gpt"
        )
    return header, arrays


def restore_model(model: nn.Module, arrays: dict[str, Any], path: Path) -> None:
    """Copy a checkpoint's weights into ``model``; ValueError if they are of another model."""
    own = _distinct(model)
    saved = {
        k.removeprefix("model."): tensorgrad.from_numpy(v)
        for k, v in arrays.items()
        if k.startswith("model.")
    }
    for alias, value in model.state_dict().items():
        if alias not in own and alias not in saved:  # tied: saved once, under its first name
            first = next(k for k, t in own.items() if t.numpy() is value.numpy())
            if first in saved:
                saved[alias] = saved[first]
    try:
        model.load_state_dict(saved)
    except RuntimeError as error:
        raise ValueError(f"{path} holds another model: {error}") from None


def restore_optimizer(optimizer: Optimizer, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Copy a checkpoint's optimizer state."""
    state: dict[str, dict[str, Any]] = {
        i: dict(values) for i, values in header["optimizer"]["state"].items()
    }
    for name, array in arrays.items():
        if name.startswith("optimizer."):
            _, i, field = name.split(".", 2)
            state.setdefault(i, {})[field] = tensorgrad.from_numpy(array)
    optimizer.load_state_dict({"state": state, "param_groups": header["optimizer"]["param_groups"]})


def _distinct(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with shared tensors only once."""
    seen: set[int] = set()
    distinct = {}
    for name, tensor in model.state_dict().items():
        if id(tensor.numpy()) not in seen:
            seen.add(id(tensor.numpy()))
            distinct[name] = tensor
    return distinct
