"""Checkpoints: what of a model, its optimizer and its run goes into a file, and comes back.

``tensorgrad.save`` writes it: whole or not at all, with a checksum, without pickle.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tensorgrad
from tensorgrad import Tensor
from tensorgrad.distributed.optim import ZeroRedundancyOptimizer
from tensorgrad.optim import Optimizer
from tensorgrad.serialization import replace, sync_folder

from .model import GPT

__all__ = ["VERSION", "read", "replace", "restore_first", "restore_model", "restore_optimizer",
           "save"]  # fmt: skip

VERSION = 1


def save(
    path: Path,
    model: GPT,
    optimizer: Optimizer,
    facts: dict[str, Any],
    previous: Path | None = None,
) -> None:
    """Write the model's config, its and the optimizer's state, and JSON-able ``facts``.

    Args:
        previous: the name that the file under ``path`` gets, once the new one is on the disk.

    Raises:
        OSError: it cannot be written; what was under ``path`` is still there.
    """
    tensors: dict[str, dict[str, Tensor]] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for i, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            kind = tensors if isinstance(value, Tensor) else numbers
            kind.setdefault(str(i), {})[name] = value
    header = {
        "version": VERSION,
        "model": model.config.to_json(),
        "optimizer": numbers,
        "facts": facts,
    }
    run = {"header": header, "model": model.state_dict(), "optimizer": tensors}
    if previous is None or not path.exists():
        tensorgrad.save(run, path)
        return
    fresh = path.with_name(f"{path.name}.new")
    try:
        tensorgrad.save(run, fresh)
        os.replace(path, previous)
        try:
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                os.replace(previous, path)
            raise
        sync_folder(path.parent)
    except BaseException as error:  # Ctrl-C included
        with suppress(OSError):
            fresh.unlink()
        if isinstance(error, OSError):
            said = f"{path} cannot be written ({error.strerror}) and is left as it was"
            # tensorgrad.save has said so, but of the new file, which nobody else knows.
            said = said if error.strerror else f"{error}".replace(str(fresh), str(path))
            raise type(error)(said) from None
        raise


def restore_first(paths: Sequence[Path], restore: Callable[[Path], None]) -> tuple[Path, str]:
    """Call ``restore`` with one path after the other, until one is good.

    Returns that path, and what was wrong with those before it: nothing, as a rule.

    Raises:
        OSError, ValueError: none is good; it is the first one's complaint.
    """
    problems: list[OSError | ValueError] = []
    for path in paths:
        try:
            restore(path)
        except (OSError, ValueError) as problem:
            problems.append(problem)
        else:
            return path, "; ".join(map(str, problems))
    raise problems[0]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and all arrays of a checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is truncated, corrupt, foreign, or written by a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}: train first, or name another run")
    try:
        saved = tensorgrad.load(path)
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror or error})") from None
    try:
        header = saved["header"]
        version = header["version"]
        arrays = {f"model.{name}": t.numpy() for name, t in saved["model"].items()}
        for i, fields in saved["optimizer"].items():
            arrays.update({f"optimizer.{i}.{name}": t.numpy() for name, t in fields.items()})
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError):
        raise ValueError(f"{path} is a safetensors file, but not a checkpoint of a run") from None
    if version != VERSION:
        raise ValueError(
            f"{path} has the format {version}, but this program reads {VERSION}: "
            "use the version of the program that wrote it"
        )
    return header, arrays


def restore_model(model: GPT, header: dict[str, Any], arrays: dict[str, Any], path: Path) -> None:
    """Copy a checkpoint's weights into ``model``; ValueError if they are of another model."""
    # Not all of a config shows in the shapes: the heads do not.
    saved, own = header.get("model"), model.config.to_json()
    saved = saved if isinstance(saved, dict) else {}
    clashes = [
        f"{name} is {saved.get(name)!r} there and {own[name]!r} here"
        for name in own
        if name not in ("dropout", "init") and saved.get(name) != own[name]
    ]
    if clashes:
        raise ValueError(f"{path} is of another config: {'; '.join(clashes)}")
    weights = {
        k.removeprefix("model."): tensorgrad.from_numpy(v)
        for k, v in arrays.items()
        if k.startswith("model.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} holds another model: {error}") from None


def restore_optimizer(optimizer: Optimizer, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Copy what an optimizer has learnt of each parameter; its options stay as they are."""
    state: dict[str, dict[str, Any]] = {i: dict(v) for i, v in header["optimizer"].items()}
    for name, array in arrays.items():
        if name.startswith("optimizer."):
            _, i, field = name.split(".", 2)
            state.setdefault(i, {})[field] = tensorgrad.from_numpy(array)
    # One whose state is divided among processes knows its groups, but not all of its state.
    whole = optimizer.optim if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer
    optimizer.load_state_dict({"state": state, "param_groups": whole.state_dict()["param_groups"]})
