"""A training run of milliseconds, for the tests of the trainer and its command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpt import checkpoint
from gpt.folder import BEST, CHECKPOINT, METRICS
from gpt.presets import RunConfig
from gpt.train import Trainer

Answer = tuple[int, str, str]  # of a command: the exit code, the output, the complaints

TEXT = "".join(f"{n} times {n} is {n * n};\n" for n in range(150))

# Dropout, clipping, a warm-up and evaluations at steps that are not those of the checkpoints.
TINY = RunConfig(
    tokenizer="char", width=16, layers=1, heads=2, context=8, batch=2, dropout=0.2, steps=8,
    warmup=2, eval_every=2, eval_batches=2, save_every=3, sample_tokens=12, lr=0.01,
)  # fmt: skip


def flags(**changes: Any) -> list[str]:
    """``TINY``, with changes, as the command line takes it."""
    words = []
    for name, value in {**TINY.to_json(), **changes}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value != getattr(RunConfig, name):
            words += [f"--{flag}", str(value)]
    return words


def trainer(out: Path, resume: bool = False, say: Any = None, **changes: Any) -> Trainer:
    """A trainer of ``TINY``, with changes, on ``TEXT``, which is written beside its folder."""
    text = out.parent / "text.txt"
    if not text.exists():
        text.write_text(TEXT)
    say = say or (lambda line: None)
    return Trainer(TINY, out, resume, say=say, **{"data": str(text), **changes})


def metrics(out: Path, but: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without some of their fields."""
    lines = (out / METRICS).read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in but} for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder and below it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def words(line: str) -> list[str]:
    """A command line as its words; quotes are for an empty one."""
    return [word.strip("'") for word in line.split()]


def text_of(answer: Answer) -> str:
    """What a command has written that had nothing to complain of."""
    assert answer[::2] == (0, "")
    return answer[1]


def assert_one_line(answer: Answer, complaint: str, code: int = 2) -> None:
    """A command has ended with this complaint, in words and not in numbers of the system's."""
    assert answer[0] == code
    assert re.fullmatch(rf"error: [^\n]*{complaint}[^\n]*\n", answer[2]), answer[2]
    assert "Errno" not in answer[2]


def assert_refused(
    call: Callable[..., Answer], given: list[str], complaint: str, folder: Path
) -> None:
    """A complaint of one line, the exit code 2, no output, and the folder is as it was."""
    before = sorted(folder.rglob("*")), contents(folder)
    answer = call(*given)
    assert_one_line(answer, complaint)
    assert answer[1] == ""
    assert (sorted(folder.rglob("*")), contents(folder)) == before


TIMES = ("tokens_per_second", "seconds")


def state(out: Path, name: str = CHECKPOINT) -> dict[str, Any]:
    """All that a checkpoint holds, but the time that it took."""
    header, arrays = checkpoint.read(out / name)
    del header["facts"]["seconds"]
    return {"header": header, **arrays}


def assert_same_run(out: Path, reference: Path) -> None:
    """To the bit: metrics, last checkpoint and best one."""
    assert metrics(out, but=TIMES) == metrics(reference, but=TIMES)
    for name in (CHECKPOINT, BEST):
        np.testing.assert_equal(state(out, name), state(reference, name))
