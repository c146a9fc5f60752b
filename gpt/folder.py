"""The folder of a run: which files it has, how it is made, kept, reopened and read."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import checkpoint, curves, tokenizer
from .config import GPTConfig
from .lock import Lock
from .presets import RunConfig

CHECKPOINT, PREVIOUS, BEST = (
    "checkpoint.safetensors", "previous.safetensors", "best.safetensors"
)  # fmt: skip
CONFIG, TOKENIZER, METRICS, SUMMARY, SAMPLE = (
    "config.json", "tokenizer.json", "metrics.jsonl", "summary.json", "sample.txt"
)  # fmt: skip
FILES = (
    CHECKPOINT, PREVIOUS, BEST, CONFIG, TOKENIZER, METRICS, SUMMARY, SAMPLE,
    "loss.svg", "loss.png", "training.svg", "training.png", "block.svg", "block.dot",
)  # fmt: skip


def read_config(folder: Path) -> tuple[RunConfig, GPTConfig]:
    """The choices of the run in a folder, and its model's config.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: the file is not the config of a run.
    """
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return RunConfig.from_json(record["run"]), GPTConfig.from_json(record["model"])
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"there is no run in {folder}: {path} is missing; name the folder that a training was "
            "given with --out"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the config of a run ({error}): restore it from a copy"
        ) from None


def read_sessions(out: Path) -> list[dict[str, Any]]:
    """What each start and resumption of a run was made with; none if the config does not tell."""
    record = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    sessions = record.get("sessions", [])
    return sessions if isinstance(sessions, list) else []


def workers_before(out: Path) -> int:
    """How many processes the run was last trained by; 1 if it does not tell."""
    sessions = read_sessions(out)
    count = sessions[-1].get("workers") if sessions and isinstance(sessions[-1], dict) else None
    return count if isinstance(count, int) and count > 0 else 1


def create(
    out: Path, coder: tokenizer.Tokenizer, record: dict[str, Any], lock: Lock
) -> Path | None:
    """Make and lock the folder of a new run; an earlier run there is kept, under the name returned.

    Raises:
        ValueError, OSError, Busy: that cannot be, and all is as it was.
    """
    lock.take()
    kept, ours = None, False
    if any((out / name).exists() for name in FILES):
        kept = _name_for_earlier_run(out)
    try:
        if kept is not None:
            out.rename(kept)
        made = not out.exists()
        try:
            out.mkdir(parents=True, exist_ok=True)
            lock.take()
            ours = True
            tokenizer.save(coder, out / TOKENIZER)
            _write_records(out, record, [])
        except BaseException:
            for name in (TOKENIZER, METRICS, CONFIG) if ours else ():
                with suppress(OSError):
                    (out / name).unlink()
            if made:
                with suppress(OSError):
                    out.rmdir()
            if kept is not None:
                kept.rename(out)
            raise
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {out} ({error.strerror or error}): "
            "choose another with --out"
        ) from None
    return kept


def _name_for_earlier_run(out: Path) -> Path:
    """A free name beside the folder; ValueError if what is in the folder is not a run."""
    try:
        if (out / CONFIG).exists():
            read_config(out)
        else:  # of a run that was killed while it began
            tokenizer.load(out / TOKENIZER)
    except (OSError, ValueError):
        raise ValueError(
            f"the folder {out} has files that would be overwritten, and they are not of a "
            "run: choose another with --out"
        ) from None
    folder = Path(os.path.normpath(out))
    if Path.cwd().is_relative_to(folder.absolute().resolve()):
        raise ValueError(
            f"the run in {out} cannot be moved aside while you are in that folder: "
            "choose another with --out"
        )
    return _free(folder)


def _free(path: Path) -> Path:
    """The first of path-1, path-2, ... that is no file yet."""
    n = 1
    while (name := path.with_name(f"{path.name}-{n}")).exists():
        n += 1
    return name


def reopen(out: Path, record: dict[str, Any], step: int) -> list[dict[str, Any]]:
    """Go on in the folder of a run from a checkpoint of ``step``; returns its metrics so far."""
    # What was measured after the checkpoint will be measured again.
    metrics = [m for m in curves.read_metrics(out / METRICS) if m["step"] <= step]
    _write_records(out, record, metrics)
    for name in FILES:  # a program that was killed while it wrote has left this
        for litter in (*out.glob(f"{name}.????????.tmp"), *out.glob(f"{name}.new*")):
            with suppress(OSError):
                litter.unlink()
    return metrics


def set_aside(out: Path) -> Path | None:
    """Give the last checkpoint, which is bad, another name; None if there is no such file."""
    path = out / CHECKPOINT
    if not path.is_file():
        return None
    kept = _free(path.with_name(f"{path.name}.bad"))
    path.rename(kept)
    return kept


def _write_records(out: Path, record: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(m) + "\n" for m in metrics)
    checkpoint.replace(
        {
            out / METRICS: lines.encode(),
            out / CONFIG: json.dumps(record, indent=2).encode() + b"\n",
        }
    )


def append_metrics(out: Path, metrics: dict[str, Any]) -> None:
    """Add a line to the metrics."""
    path = out / METRICS
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(metrics) + "\n")
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror or error})") from None
