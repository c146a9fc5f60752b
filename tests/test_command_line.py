"""The command line: its help, its choices, ``train`` and ``info``, and what users have of it."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from mpiexec import PLAIN
from tiny_run import (
    TEXT,
    TINY,
    Answer,
    assert_one_line,
    flags,
    metrics,
    text_of,
    trainer,
)

from gpt import __main__ as command_line
from gpt import checkpoint, costs, folder, tokenizer
from gpt.folder import CHECKPOINT
from gpt.presets import PRESETS, RunConfig
from gpt.train import Trainer

pytestmark = pytest.mark.usefixtures("here")


# --------------------------------------------------------------------------------- help and choices


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["sample"],
        ["chat"],
        ["eval"],
        ["info"],
        ["prepare"],
        ["tokenizer", "train"],
        ["tokenizer", "inspect"],
    ],
)
def test_help(command: list[str], call: Callable[..., Answer]) -> None:
    code, out, err = call(*command, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "python -m gpt" in out


def test_help_shows_every_choice_and_its_default(call: Callable[..., Answer]) -> None:
    out = " ".join(call("train", "--help")[1].split())
    for field in dataclasses.fields(RunConfig):
        assert f"--{field.name.replace('_', '-')}" in out
    for default in ("[0.1]", "[bpe]", "[1300]", "[50]", "[none]", "[yes]", "['\\n']"):
        assert default in out
    for name in PRESETS:
        assert f"{name}: " in out
    assert "textbook: --tokenizer cl100k_base --vocab-size 100070 --context 16 --width 64" in out


def test_presets_in_the_help_are_true(call: Callable[..., Answer]) -> None:
    """Each, read back as flags on top of the default, is the preset."""
    text = " ".join(call("train", "--help")[1].partition("presets:")[2].split())
    shown = dict(re.findall(r"([a-z-]+): (.*?)(?= [a-z-]+: |$)", text))
    assert list(shown) == list(PRESETS)
    assert shown.pop("default") == "the values in brackets above"
    for name, line in shown.items():
        parsed = vars(command_line.parser_for(["train"]).parse_args(["train", *shlex.split(line)]))
        for other in ("command", "preset", "config", "out", "resume", "check"):
            del parsed[other]
        assert dataclasses.replace(PRESETS["default"], **parsed) == PRESETS[name]


def test_every_field_is_a_flag(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arrives in the config; none and no- flags too."""
    monkeypatch.setitem(sys.modules, "tensorboardX", MagicMock())
    changed: dict[str, Any] = {
        "data": "text.txt", "tokenizer": "bpe", "vocab_size": 260, "context": 4, "width": 8,
        "layers": 2, "heads": 2, "positions": "sinusoidal", "activation": "relu", "bias": False,
        "tied": False, "dropout": 0.3, "init": "torch", "batch": 3, "accumulate": 2,
        "steps": 2, "lr": 0.25, "min_lr": 0.125, "warmup": 1, "weight_decay": 0.5, "beta1": 0.75,
        "beta2": 0.875, "clip": 2.0, "spike": 9.0, "patience": 5, "recompute": True,
        "shard_optimizer": True, "seed": 4,
        "eval_every": 3, "eval_batches": 1, "save_every": 5, "tensorboard": True, "pictures": False,
        "prompt": "é", "sample_tokens": 6, "temperature": 1.5, "top_k": 7,
    }  # fmt: skip
    assert list(changed) == [field.name for field in dataclasses.fields(RunConfig)]
    assert all(
        value != getattr(RunConfig, name) for name, value in changed.items() if name != "tokenizer"
    )
    arguments = []
    for name, value in changed.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            arguments += [f"--{flag}", str(value)]
    assert call("train", "--out", "run", *arguments)[0] == 0
    assert folder.read_config(here / "run")[0] == RunConfig(**changed)


def test_none(here: Path, call: Callable[..., Answer]) -> None:
    """A preset's number can be taken back."""
    assert PRESETS["default"].top_k is not None
    answer = call("train", "--out", "run", *flags(data="text.txt", steps=1), "--top-k", "none")
    assert answer[0] == 0
    assert folder.read_config(here / "run")[0].top_k is None


def test_preset_names_the_folder(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(TINY, data="text.txt", steps=2)
    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setitem(PRESETS, "default", dataclasses.replace(small, seed=3))
    assert call("train", "--preset", "small", "--batch", "3")[0] == 0
    assert folder.read_config(here / "runs" / "small")[0] == dataclasses.replace(small, batch=3)
    assert call("train")[0] == 0
    assert folder.read_config(here / "runs" / "default")[0].seed == 3
    # A preset on resuming names the folder, and has to agree in what cannot change.
    again = ["train", "--preset", "small", "--resume", "--steps", "3"]
    assert_one_line(call(*again, "--seed", "9"), "seed is 1337 there and 9 here; leave")
    assert call(*again)[0] == 0
    config = folder.read_config(here / "runs" / "small")[0]
    assert config == dataclasses.replace(small, batch=3, steps=3)


def test_choices_from_a_file(here: Path, call: Callable[..., Answer]) -> None:
    """Flags go before the file, the file before its preset; hyphens or not; none is none."""
    (here / "run.toml").write_text(
        'preset = "textbook"\ndata = "text.txt"\ntokenizer = "char"\nwidth = 16\ntop-k = "none"\n'
        "layers = 1\nsample_tokens = 2\nlr = 1\nsteps = 9\neval_batches = 1\nbias = false\n"
        'prompt = "3 times"\nspike = 0\n'
    )
    assert call("train", "--config", "run.toml", "--steps", "2", "--out", "run")[0] == 0
    assert folder.read_config(here / "run")[0] == dataclasses.replace(
        PRESETS["textbook"], data="text.txt", tokenizer="char", width=16, top_k=None, layers=1,
        sample_tokens=2, lr=1.0, spike=0.0, steps=2, eval_batches=1, bias=False,
        prompt="3 times",
    )  # fmt: skip
    # On resuming the run's own choices are there already; a file can change what flags can.
    (here / "more.toml").write_text("steps = 3\n")
    assert call("train", "--config", "more.toml", "--resume", "--out", "run")[0] == 0
    (here / "more.toml").write_text("width = 32\n")
    answer = call("train", "--config", "more.toml", "--resume", "--out", "run")
    assert_one_line(answer, "width is 16 there and 32 here")


def test_info(run: Path, call: Callable[..., Answer]) -> None:
    """Of a run, and of the same choices: its parameters add up to the model's."""
    out = text_of(call("info", "run"))
    parts = {
        name: int(count.replace(",", ""))
        for name, count in re.findall(r"^  (\S+) +([\d,]+) .*%$", out, re.MULTILINE)
    }
    assert parts["blocks.*.feed_forward"] == 16 * 64 + 64 + 64 * 16 + 16
    assert sum(parts.values()) == 3728
    assert "  all                              3,728\n" in out
    weights = 2 * (12 * 16 * 16 + 18 * 16) + 4 * 8 * 16
    assert f"operations per token: {weights:,} to read it, {3 * weights:,} to train" in out
    sizes = re.findall(r"^  .* ([\d,]+\.\d)$", out, re.MULTILINE)
    assert len(sizes) == 4
    again = text_of(call("info", *flags(data="text.txt")))
    assert again.splitlines()[:10] == out.splitlines()[:10]
    assert "a batch without --recompute" in text_of(call("info", "--recompute", "--width", "8"))


def test_info_of_presets(call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without learning a vocabulary, which takes long."""
    monkeypatch.setattr(tokenizer, "build", lambda *args: pytest.fail("builds a tokenizer"))
    monkeypatch.setattr(costs, "described", lambda model, *rest: [f"{model.parameter_count():,}"])
    assert text_of(call("info")) == "932,608\n"
    assert text_of(call("info", "--preset", "textbook")) == "13,309,030\n"


# ----------------------------------------------------------------------------------------- training


def test_train_and_resume(here: Path, call: Callable[..., Answer]) -> None:
    """Twice 4 steps, and the metrics are those of a run whose rate does not change."""
    tiny = flags(data="text.txt", steps=4, warmup=0, min_lr=TINY.lr)
    code, out, err = call("train", "--out", "run", *tiny)
    assert (code, err) == (0, "")
    assert "wrote run: checkpoint.safetensors, previous.safetensors, best.safetensors," in out
    code, out, err = call("train", "--out", "run", "--resume", "--steps", "8")
    assert (code, err) == (0, "")
    assert out.startswith("resumed run at step 4\n")
    trainer(here / "straight", steps=8, warmup=0, min_lr=TINY.lr).run()
    times = ("tokens_per_second", "seconds")
    assert metrics(here / "run", but=times) == metrics(here / "straight", but=times)
    ours, theirs = (checkpoint.read(here / d / CHECKPOINT)[1] for d in ("run", "straight"))
    np.testing.assert_equal(ours, theirs)


def test_divergence_is_one_line(here: Path, call: Callable[..., Answer]) -> None:
    """And no warnings of NumPy's before it."""
    spoilt = flags(data="text.txt", lr=1e6, warmup=0, clip=0.0, spike=0.0)
    answer = call("train", "--out", "run", *spoilt)
    assert_one_line(answer, r"diverged in step \d: .* gives (nan|inf), at .* lower --lr", code=3)


def test_how_to_go_on(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the one that the user has; Ctrl-C ends with the exit code 130."""

    def stop(self: Trainer) -> None:
        self.stopped_by = signal.SIGINT
        self.say(f"go on: {self.command}")

    monkeypatch.setattr(Trainer, "run", stop)
    for script, command in (
        ("examples/train_gpt.py", "python examples/train_gpt.py"),
        ("gpt/__main__.py", "python -m gpt train"),
        ("/bin/tensorgrad-gpt", "python -m gpt train"),
    ):
        monkeypatch.setattr(sys, "argv", [script])
        code, out, _ = call("train", "--out", "run", *flags(data="text.txt"))
        assert code == 130
        assert out.endswith(f"go on: {command}\n")


# ------------------------------------------------------------------- as a process, as users have it


def start(root: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """``python -m gpt`` on its own; every warning is an error."""
    environment = {
        **os.environ, "PYTHONPATH": str(root), "PYTHONWARNINGS": "error", **options.pop("env", {})
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *arguments], env=environment, text=True, encoding="utf-8",
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_ctrl_c(root: Path, here: Path, call: Callable[..., Answer]) -> None:
    """A signal at any moment of the training, and --resume ends as if there had been none."""
    tiny = flags(data="text.txt", steps=200, eval_every=10, eval_batches=1, save_every=10_000)
    with start(root, "-m", "gpt", "train", "--out", "run", *tiny) as process:
        assert process.stdout
        assert process.stderr
        lines = iter(process.stdout.readline, "")
        seen = [next(line for line in lines if line.startswith("step     10 "))]
        process.send_signal(signal.SIGINT)
        seen += lines
        assert "stopping after this step" in process.stderr.read()
    assert process.returncode == 130
    stopped = re.fullmatch(rf"stopped after step (\d+) of 200; saved run/{CHECKPOINT}\n", seen[-2])
    assert stopped
    assert 10 <= int(stopped[1]) < 200
    assert seen[-1] == "to go on: python -m gpt train --resume --out run\n"
    assert not any("\r" in line for line in seen)

    assert call("train", "--resume", "--out", "run")[0] == 0
    trainer(here / "straight", steps=200, eval_every=10, eval_batches=1, data="text.txt").run()
    times = ("tokens_per_second", "seconds")
    assert metrics(here / "run", but=times) == metrics(here / "straight", but=times)
    ours, theirs = (checkpoint.read(here / d / CHECKPOINT)[1] for d in ("run", "straight"))
    np.testing.assert_equal(ours, theirs)


def test_the_example(root: Path, here: Path) -> None:
    """A run with everything, from a folder of one's own, on an output that knows ASCII only."""
    (here / "text.txt").write_text(TEXT.replace("times", "×"), encoding="utf-8")
    process = start(
        root, str(root / "examples" / "train_gpt.py"), *flags(data="text.txt", steps=3), "--out",
        "run", env={**PLAIN, "PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "default"},
    )  # fmt: skip
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "wrote run: " in out
    assert "sample.txt" in out
    assert "×" in (here / "run" / "sample.txt").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="no head there")
def test_head(root: Path, run: Path) -> None:
    """``sample run | head -c 20``: no traceback, no complaint at exit."""
    arguments = "-m", "gpt", "sample", "run", "--tokens", "5000"
    with start(root, *arguments, env={**PLAIN, "PYTHONUNBUFFERED": ""}) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(20)
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_progress_on_a_terminal(root: Path, here: Path) -> None:
    """A bar with steps, time left, loss and speed; lines above it stay whole."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    tiny = flags(data="text.txt", steps=200, eval_every=100)
    process = start(
        root, "-c",
        "from gpt import __main__ as m, train as t; "
        "t.Trainer._finish = lambda self, result: None; import sys; sys.exit(m.main())",
        "train", "--out", "run", *tiny,
        stdout=theirs, stderr=theirs, env=PLAIN,
    )  # fmt: skip
    os.close(theirs)
    shown = b"".join(read_terminal(ours)).decode()
    assert process.wait() == 0
    bars = [text for text in re.split(r"[\r\n]", shown) if "|" in text]
    assert len(bars) > 5
    last = bars[-1]
    assert re.match(r"100% \|.{30}\| 200/200 steps, 00:00 left, loss \d\.\d{3}, [\d,]+ token", last)
    assert re.match(r"  \d% \|", bars[1])
    assert any(re.search(r"/200 steps, 00:\d\d left", bar) for bar in bars[2:-1])
    rows = [line for line in re.split(r"[\r\n]", shown) if line.startswith("step ")]
    assert [int(row.split()[1]) for row in rows] == [1, 100, 200]
    assert all("|" not in row for row in rows)


def read_terminal(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux' end of file
            piece = b""
        if not piece:
            os.close(descriptor)
            return
        yield piece


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ([], ["numpy", "tensorgrad", "nn", "gpt.train"]),
        (["train"], ["matplotlib", "graphviz", "pygraphviz", "tiktoken", "tqdm", "safetensors"]),
    ],
)
def test_start_is_quick(command: list[str], heavy: list[str], root: Path, here: Path) -> None:
    """--help loads nothing that only a command, or only a part of its work, needs."""
    code = (
        "import sys\nfrom gpt.__main__ import main\n"
        f"try: main({[*command, '--help']})\nexcept SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    process = start(root, "-c", code)
    out, err = process.communicate()
    assert (out.splitlines()[-1], err) == ("[]", "")
