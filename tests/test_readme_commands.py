"""The command lines of the README, from top to bottom, as they stand.

Only the model is small, a training has a hundredth of the steps, runs end without pictures, and
those of `figures` are made but not written, which takes longer than all the rest.
"""

from __future__ import annotations

import dataclasses
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import TEXT, Answer

from gpt.presets import PRESETS

SMALL = dataclasses.replace(
    PRESETS["default"], width=16, layers=1, heads=2, context=8, batch=2, warmup=2,
    eval_every=200, eval_batches=1, steps=8, save_every=200, sample_tokens=8,
    pictures=False,
)  # fmt: skip


def lines(root: Path) -> list[list[str]]:
    """The words behind ``python -m gpt`` and ``python examples/train_gpt.py``."""
    text = (root / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^    python (?:-m gpt|(examples/train_gpt\.py)) (.*)$", text, re.MULTILINE)
    return [["train"] * bool(script) + shlex.split(line) for script, line in found]


def test_every_command_line_works(
    root: Path, tmp_path: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path: path.touch())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "default", SMALL)
    prose = TEXT + "Once upon a time there was a number. The end. How is this cut?\n" * 40
    (tmp_path / "books").mkdir()
    for name in ("my.txt", "other.txt", "books/one.txt"):
        (tmp_path / name).write_text(prose)
    assert call("train")[0] == 0  # make train, whose folder is runs/default
    commands = lines(root)
    assert {"train", "sample", "chat", "eval", "info", "prepare", "tokenizer", "figures"} == {
        words[0] for words in commands
    }
    for words in commands:
        monkeypatch.setattr("sys.stdin", io.StringIO("Once upon\n"))
        few = ["--points", "3"] if words[0] == "figures" else []
        if "--steps" in words:
            few = ["--steps", int(words[words.index("--steps") + 1]) // 100]
        code, _, complaint = call(*words, *few)
        assert code == 0, (words, complaint)
