"""The trainer: what a run computes, what it leaves behind, and how it goes on."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import signal
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import TEXT, TIMES, TINY, assert_same_run, contents, metrics, state, trainer

import tensorgrad
from gpt import checkpoint, curves, data, folder, reporting, tokenizer, train
from gpt.config import GPTConfig
from gpt.folder import BEST, CHECKPOINT, CONFIG, METRICS, PREVIOUS, SUMMARY, TOKENIZER
from gpt.presets import PRESETS, RunConfig
from gpt.train import Trainer
from tensorgrad import graph
from tensorgrad.optim import warmup_cosine

KEYS = ["step", "train_loss", "val_loss", "lr", "grad_norm", "grad_norms", *TIMES]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends without pictures, which take longer than the rest."""
    monkeypatch.setattr(curves, "save_curves", lambda folder, title: [])
    monkeypatch.setattr(reporting, "draw_block", lambda config, path: path)


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``ctrl_c(at=3, times=1)``: the user presses Ctrl-C in the middle of the third step."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    real = Trainer.train_step

    def press(at: int, times: int = 1) -> None:
        def step(self: Trainer) -> tuple[float, float]:
            if self.step == at - 1:
                monkeypatch.setattr(Trainer, "train_step", real)
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
            return real(self)

        monkeypatch.setattr(Trainer, "train_step", step)

    yield press
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupts, with all its pictures."""
    out = tmp_path_factory.mktemp("straight") / "run"
    lines: list[str] = []
    assert trainer(out, say=lines.append).run()
    (out.parent / "said").write_text("\n".join(lines))
    return out


# ---------------------------------------------------------------------------------------- metrics


def test_metrics(straight: Path) -> None:
    rows = metrics(straight)
    assert [row["step"] for row in rows] == [1, 2, 4, 6, 8]
    assert all(list(row) == KEYS for row in rows)
    for row in rows:
        layers = row["grad_norms"]
        assert list(layers) == ["token_embedding", "position_embedding", "blocks.0", "norm"]
        assert math.hypot(*layers.values()) == pytest.approx(row["grad_norm"], rel=1e-5)
        assert all(math.isfinite(value) for key, value in row.items() if key != "grad_norms")
    assert rows[0]["val_loss"] == pytest.approx(math.log(len(set(TEXT))), abs=0.05)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(row["tokens_per_second"] > 0 and row["grad_norm"] > 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_the_rate_is_the_one_that_the_step_was_taken_with(straight: Path) -> None:
    factor = warmup_cosine(TINY.warmup, TINY.steps, TINY.min_lr / TINY.lr)
    for row in metrics(straight):
        assert row["lr"] == pytest.approx(TINY.lr * factor(row["step"] - 1))


@pytest.mark.usefixtures("quick")
def test_times_are_those_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that says n seconds for the nth step, and much for what is not training."""
    clock = [0.0]

    def slowed(real: Callable[[Trainer], Any], lasts: int) -> Callable[[Trainer], Any]:
        def slow(self: Trainer) -> Any:
            clock[0] += lasts or self.step + 1
            return real(self)

        return slow

    monkeypatch.setattr(train.time, "perf_counter", lambda: clock[0])
    for name, lasts in (("train_step", 0), ("evaluate", 100), ("save", 1000)):
        monkeypatch.setattr(Trainer, name, slowed(getattr(Trainer, name), lasts))
    trainer(tmp_path / "run", steps=4).run()
    trainer(tmp_path / "run", steps=6, resume=True).run()
    rows = metrics(tmp_path / "run")
    assert [row["seconds"] for row in rows] == [1, 1 + 2, 1 + 2 + 3 + 4, 1 + 2 + 3 + 4 + 5 + 6]
    # Each step has 2 sequences of 8 tokens.
    assert [row["tokens_per_second"] for row in rows] == [16 / 1, 16 / 2, 32 / 7, 32 / 11]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("clip", "largest"), [(0.5, 0.5), (0.0, math.inf)])
def test_clipping(
    clip: float, largest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update is made of clipped gradients, and the metrics tell their norm before."""
    norms: list[float] = []
    run = trainer(tmp_path / "run", clip=clip, steps=1, dropout=0.0)
    real = run.optimizer.step

    def step() -> None:
        gradients = [p.grad.numpy() for p in run.model.parameters()]
        norms.append(math.sqrt(sum(float((g**2).sum()) for g in gradients)))
        real()

    monkeypatch.setattr(run.optimizer, "step", step)
    run.run()
    (row,) = metrics(run.out)
    assert row["grad_norm"] > 0.6
    assert norms == [pytest.approx(min(largest, row["grad_norm"]), rel=1e-4)]


@pytest.mark.usefixtures("quick")
def test_the_losses_are_what_they_say(tmp_path: Path) -> None:
    """The first line, computed again from the outside: another loss, the same batches."""
    out = tmp_path / "run"
    run = trainer(out, steps=1, dropout=0.0)
    ids = run.tokenizer.encode(TEXT)
    parts = dict(zip(("train", "val"), data.train_val_split(ids)))
    run.run()
    expected = {}
    for offset, (split, part) in enumerate(parts.items(), start=1):
        batches = data.Batches(part, TINY.context, TINY.batch, seed=TINY.seed + offset)
        losses = []
        for _ in range(TINY.eval_batches):
            x, y = batches.next()
            with tensorgrad.no_grad():
                logits = run.model(tensorgrad.tensor(x)).numpy().astype(float)
            right = np.take_along_axis(logits, y[..., None], axis=-1)[..., 0]
            losses.append((np.log(np.exp(logits).sum(-1)) - right).mean())
        expected[f"{split}_loss"] = pytest.approx(np.mean(losses), rel=1e-5)
    (row,) = metrics(out)
    assert {key: row[key] for key in expected} == expected


@pytest.mark.usefixtures("quick")
def test_how_often_one_looks_changes_nothing(straight: Path, tmp_path: Path) -> None:
    trainer(tmp_path / "run", eval_every=3, eval_batches=1, save_every=100).run()
    ours, theirs = state(tmp_path / "run"), state(straight)
    del ours["header"], theirs["header"]
    np.testing.assert_equal(ours, theirs)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [1, 3, 6, 8]


@pytest.mark.usefixtures("quick")
def test_the_seed_decides(straight: Path, tmp_path: Path) -> None:
    np.random.seed(0)  # noqa: NPY002 (another generator's seed does not matter)
    tensorgrad.manual_seed(99)
    trainer(tmp_path / "same").run()
    assert_same_run(tmp_path / "same", straight)
    assert (tmp_path / "same" / "sample.txt").read_text() == (straight / "sample.txt").read_text()
    trainer(tmp_path / "other", seed=1).run()
    assert metrics(tmp_path / "other", but=TIMES) != metrics(straight, but=TIMES)


@pytest.mark.usefixtures("quick")
def test_the_loss_at_the_end_is_of_the_whole_split(tmp_path: Path) -> None:
    """The mean over every window, whatever the batches; a short last batch counts less."""
    run = trainer(tmp_path / "run", batch=3)
    run.run()
    val = run.eval_batches["val"].tokens.astype(np.int64)
    losses = []
    run.model.eval()
    for start in range(0, len(val) - 8, 8):
        x, y = (tensorgrad.tensor(val[i : i + 8][None]) for i in (start, start + 1))
        losses.append(run.model(x, y).item())
    assert len(losses) % 3
    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    assert summary["step"] == 8
    assert summary["val_loss"] == pytest.approx(np.mean(losses))
    assert summary["val_tokens"] == 8 * len(losses)


def test_a_long_split_is_represented_by_windows_spread_over_it() -> None:
    x, y = data.windows(range(1001), context=10, most=4)
    assert x[:, 0].tolist() == [0, 250, 500, 750]
    assert (y == x + 1).all()
    assert data.windows(range(1001), context=10, most=100)[0].size == 1000


@pytest.mark.usefixtures("quick")
def test_it_learns(tmp_path: Path) -> None:
    """Counting is learnt well below what the letters' frequencies alone allow."""
    trainer(tmp_path / "run", steps=200, dropout=0.0, eval_every=200, eval_batches=10).run()
    frequencies = np.unique(list(TEXT), return_counts=True)[1] / len(TEXT)
    entropy = -(frequencies * np.log(frequencies)).sum()
    assert metrics(tmp_path / "run")[-1]["val_loss"] < entropy - 0.7


# ------------------------------------------------------------------------ what is left of a run


def test_everything_is_in_one_folder(straight: Path) -> None:
    assert sorted(contents(straight)) == sorted(
        [CHECKPOINT, PREVIOUS, BEST, CONFIG, METRICS, SUMMARY, TOKENIZER, "block.svg",
         "loss.png", "loss.svg", "training.png", "training.svg", "sample.txt"]
    )  # fmt: skip
    assert sorted(os.listdir(straight.parent)) == ["run", "said", "text.txt"]


def test_the_user_is_told(straight: Path) -> None:
    said = (straight.parent / "said").read_text()
    model = "3,728 parameters: layers 1, heads 2, width 16, context 8, vocabulary 18"
    assert said.startswith(model)
    assert f"{len(TEXT):,} tokens of 1.0 characters (char) from {straight.parent}" in said
    for row in metrics(straight):
        assert re.search(rf"step +{row['step']} +train loss {row['train_loss']:.4f} ", said)
    assert " sample ----------" in said
    assert (
        f"wrote {straight}: {CHECKPOINT}, {PREVIOUS}, {BEST}, {METRICS}, {SUMMARY}, "
        "loss.svg, loss.png, training.svg, training.png, block.svg, " in said
    )


def test_config_and_tokenizer_come_back(straight: Path) -> None:
    config, model_config = folder.read_config(straight)
    assert config == dataclasses.replace(TINY, data=str(straight.parent / "text.txt"))
    assert model_config == config.model(len(set(TEXT)))
    assert tokenizer.load(straight / TOKENIZER).decode([0]) == "\n"


def test_loss_curve(straight: Path) -> None:
    assert (straight / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ET.parse(straight / "loss.svg").getroot().tag.endswith("svg")
    figure = curves.loss_curve(metrics(straight), "a $ title")
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    for key, label in (("train_loss", "training"), ("val_loss", "validation")):
        points = [[row["step"], row[key]] for row in metrics(straight)]
        assert drawn[f"{label} (last {points[-1][1]:.3f})"] == points


def test_training_curves(straight: Path) -> None:
    """Learning rate, the norm of each layer's gradients and all together, tokens per second."""
    assert (straight / "training.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    rows = metrics(straight)
    rate, norms, speed = curves.training_curves(rows, "title").axes
    for axes, key in ((rate, "lr"), (norms, "grad_norm"), (speed, "tokens_per_second")):
        assert axes.lines[0].get_xydata().tolist() == [[row["step"], row[key]] for row in rows]
    drawn = {line.get_label(): list(line.get_ydata()) for line in norms.lines[1:]}
    assert drawn == {
        layer: [row["grad_norms"][layer] for row in rows] for layer in rows[0]["grad_norms"]
    }


def test_metrics_of_an_earlier_version(straight: Path) -> None:
    """Without the layers; the resumed run has them."""
    old, new = metrics(straight)[:2]
    del old["grad_norms"]
    norms = curves.training_curves([old, new], "title").axes[1]
    assert [len(line.get_xdata()) for line in norms.lines] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize("name", ["$\\frac$", "潮 \\alpha_1", "a&<b>"])
def test_any_title_can_be_drawn(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / METRICS).write_text('{"step": 1, "train_loss": 1.5, "val_loss": 2.5}\n')
    for path in curves.save_curves(folder, name):
        assert path.stat().st_size > 1000


def test_block(straight: Path) -> None:
    """The picture names what a block is made of."""
    texts = [
        t.text for t in ET.parse(straight / "block.svg").iter("{http://www.w3.org/2000/svg}text")
    ]
    words = " ".join(filter(None, texts)).split()
    for word in (
        "layer_norm", "linear", "scaled_dot_product_attention", "gelu", "add", "reshape", "x",
        "attention", "qkv.weight", "feed_forward", "2.bias", "output",
    ):  # fmt: skip
        assert word in words


def test_sample(straight: Path) -> None:
    sample = (straight / "sample.txt").read_text()
    assert sample.startswith("\n")
    assert len(sample) == 1 + TINY.sample_tokens
    assert set(sample) <= set(TEXT)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        (
            ["matplotlib", "matplotlib.figure"],
            "need matplotlib (the extra viz): pip install matplotlib",
        ),
        (["pygraphviz"], "pip install 'pygraphviz>=2' or install Graphviz' program dot"),
    ],
)
def test_without_what_draws(
    missing: list[str], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is complete, but for a picture; it says once what to install."""
    monkeypatch.undo()  # `quick` has replaced what is tested here
    monkeypatch.setenv("PATH", str(tmp_path))  # no dot
    graph.files._advise.cache_clear()
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    lines: list[str] = []
    out = tmp_path / "run"
    assert trainer(out, say=lines.append, steps=2).run()
    assert sum(advice in line for line in lines) == 1
    assert lines[-1].endswith(advice)
    drawn = {f"{name}.{kind}" for name in ("loss", "training") for kind in ("svg", "png")}
    absent = (drawn | {"block.svg"}) - set(os.listdir(out))
    assert absent == (drawn if "matplotlib" in missing else {"block.svg"})
    assert (out / "block.dot").exists() == ("pygraphviz" in missing)
    assert (out / "sample.txt").exists()
    graph.files._advise.cache_clear()


@pytest.mark.usefixtures("quick")
def test_the_terminal_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has what the model wrote, the terminal what it can take."""
    lines: list[str] = []
    monkeypatch.setattr(Trainer, "sample", lambda self: "a\x1b[2Jb")
    trainer(tmp_path / "run", say=lines.append, steps=1).run()
    assert "\na�[2Jb\n" in "\n".join(lines)
    assert (tmp_path / "run" / "sample.txt").read_bytes() == b"a\x1b[2Jb"
    assert reporting.printable("a\x1b[2J\x07b\tc\r\nd\x9be\x00é潮") == "a�[2J�b\tc\nd�e�é潮"


# --------------------------------------------------------------------------------------- going on


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at", range(1, 9))
def test_interrupted_and_resumed(
    at: int, straight: Path, tmp_path: Path, ctrl_c: Callable[..., None]
) -> None:
    """Wherever Ctrl-C comes, also in the last step: the step is finished, and nothing is lost."""
    out, lines = tmp_path / "my run", []
    ctrl_c(at=at)
    assert not trainer(out, say=lines.append).run()
    assert lines[-2] == f"stopped after step {at} of 8; saved {out / CHECKPOINT}"
    assert lines[-1] == f"to go on: python -m gpt train --resume --out '{out}'"
    assert not (out / "sample.txt").exists()
    lines.clear()
    assert trainer(out, resume=True, say=lines.append).run()
    assert lines[0] == f"resumed {out} at step {at}"
    assert_same_run(out, straight)


@pytest.mark.usefixtures("quick")
def test_interrupted_again_and_again(
    straight: Path, tmp_path: Path, ctrl_c: Callable[..., None]
) -> None:
    for at in range(1, 9):
        ctrl_c(at=at)
        assert not trainer(tmp_path / "run", resume=at > 1).run()
    assert trainer(tmp_path / "run", resume=True).run()
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.usefixtures("quick")
def test_the_machine_dies(straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the sixth step, with half a line on the disk; the last checkpoint is of the third."""
    real = Trainer.train_step

    def dies(self: Trainer) -> tuple[float, float]:
        if self.step == 5:
            raise SystemError
        return real(self)

    out = tmp_path / "run"
    run = trainer(out)
    monkeypatch.setattr(Trainer, "train_step", dies)
    with pytest.raises(SystemError):
        run.run()
    monkeypatch.setattr(Trainer, "train_step", real)
    assert [row["step"] for row in metrics(out)] == [1, 2, 4]
    with open(out / METRICS, "a") as file:
        file.write('{"step": 6, "train_lo')
    assert trainer(out, resume=True).run()
    assert_same_run(out, straight)


def test_a_second_ctrl_c_is_obeyed_at_once(tmp_path: Path, ctrl_c: Callable[..., None]) -> None:
    ctrl_c(at=5, times=2)
    run = trainer(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.step == 4
    assert state(run.out)["header"]["facts"]["step"] == 3  # as it was
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("quick")
def test_the_handler_is_put_back(tmp_path: Path, ctrl_c: Callable[..., None]) -> None:
    for at in (None, 2):
        if at:
            ctrl_c(at=at)
        trainer(tmp_path / f"run{at}", steps=2).run()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("quick")
def test_in_a_thread(straight: Path, tmp_path: Path) -> None:
    """Only the main thread can have a handler; others train without."""
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(trainer(tmp_path / "run").run()))
    thread.start()
    thread.join()
    assert done == [True]
    assert_same_run(tmp_path / "run", straight)


@pytest.mark.usefixtures("quick")
def test_more_steps_at_a_constant_rate(tmp_path: Path) -> None:
    """Then a run that was extended is the longer run."""
    constant = {"warmup": 0, "min_lr": TINY.lr}
    trainer(tmp_path / "long", **constant).run()
    trainer(tmp_path / "run", steps=4, **constant).run()
    trainer(tmp_path / "run", resume=True, steps=8, **constant).run()
    assert_same_run(tmp_path / "run", tmp_path / "long")


@pytest.mark.usefixtures("quick")
def test_more_steps_on_the_cosine(straight: Path, tmp_path: Path) -> None:
    """The rate is that of the longer cosine from the next step on, and the config says so."""
    out = tmp_path / "run"
    trainer(out).run()
    trainer(out, resume=True, steps=12).run()
    assert [row["step"] for row in metrics(out)] == [1, 2, 4, 6, 8, 10, 12]
    assert metrics(out, but=TIMES)[:5] == metrics(straight, but=TIMES)
    for total, rows in ((8, metrics(out)[:5]), (12, metrics(out)[5:])):
        factor = warmup_cosine(TINY.warmup, total, TINY.min_lr / TINY.lr)
        for row in rows:
            assert row["lr"] == pytest.approx(TINY.lr * factor(row["step"] - 1))
    assert folder.read_config(out)[0].steps == 12


@pytest.mark.usefixtures("quick")
def test_choices_that_change_on_resuming_count(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out, steps=4).run()
    changes = {"lr": 0.002, "min_lr": 0.002, "beta1": 0.5, "weight_decay": 0.3, "dropout": 0.0}
    run = trainer(out, resume=True, **changes)
    for group, decay in zip(run.optimizer.param_groups, (0.3, 0.0)):
        assert (group["lr"], group["betas"]) == (pytest.approx(0.002), (0.5, 0.99))
        assert group["weight_decay"] == decay
    run.run()
    assert metrics(out)[-1]["lr"] == pytest.approx(0.002)
    assert folder.read_config(out)[0] == run.config
    assert run.config.beta1 == 0.5
    assert folder.read_config(out)[1].dropout == 0.0


@pytest.mark.usefixtures("quick")
def test_resuming_a_finished_run_samples_again(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out).run()
    trainer(out, resume=True, prompt="7", sample_tokens=3).run()
    assert_same_run(out, straight)
    assert re.fullmatch(r"7(?s:.{3})", (out / "sample.txt").read_text())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 32, "heads": 4}, "width is 16 there and 32 here; heads is 2 there and 4 here"),
        ({"heads": 1}, "heads is 2 there and 1 here"),
        ({"tokenizer": "bpe"}, "tokenizer is 'char' there and 'bpe' here"),
        ({"vocab_size": 300}, "vocab_size is None there and 300 here"),
        ({"seed": 2}, "seed is 1337 there and 2 here"),
        ({"steps": 7}, "has done 8 steps already: give --steps 8 or more"),
        ({"data": "/dev/null"}, "has no text in it"),
        ({"context": 2000}, "context is 8 there"),
    ],
)
def test_a_resume_that_fails_changes_nothing(
    change: dict[str, Any], complaint: str, straight: Path
) -> None:
    before = contents(straight)
    with pytest.raises((ValueError, OSError), match=complaint):
        trainer(straight, resume=True, **{"data": str(straight.parent / "text.txt"), **change})
    assert contents(straight) == before


def damage(out: Path, name: str, content: str | None) -> None:
    if content is None:
        (out / name).unlink()
    else:
        (out / name).write_text(content)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (CONFIG, None, r"there is no run in .*config\.json is missing"),
        (CONFIG, "", r"config\.json is not the config of a run .*: restore it from a copy"),
        (CONFIG, "[1]", "is not the config of a run"),
        (CONFIG, '{"run": {}}', "is not the config of a run"),
        (CONFIG, '{"run": {"steps": "8"}, "model": {}}', "steps is '8', which is not of the type"),
        (CONFIG, '{"run": {"pace": 1}, "model": {}}', "unknown fields: pace"),
        (CONFIG, '{"run": {}, "model": {}}', "vocab_size"),
        (CONFIG, '{"run": {"heads": 5}, "model": {}}', "5 heads do not divide the width"),
        (TOKENIZER, None, "tokenizer.json"),
        (TOKENIZER, "{", r"tokenizer\.json is not a tokenizer file"),
        (TOKENIZER, '{"tokenizer": "char", "characters": "ab"}', "is not among the 2"),
        (CHECKPOINT, None, r"there is no checkpoint .*: train first"),
        (CHECKPOINT, "", "is truncated or not a safetensors file"),
        (METRICS, "{}\n", r"metrics\.jsonl: line 1 does not hold the metrics"),
        (METRICS, "null\n", r"metrics\.jsonl: line 1 does not hold the metrics"),
    ],
)
def test_damaged_runs(name: str, content: str | None, complaint: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    damage(out, name, content)
    before = contents(out)
    with pytest.raises((ValueError, OSError), match=complaint):
        trainer(out, resume=True)
    assert contents(out) == before


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("facts",), None),
        (("facts", "step"), "three"),
        (("facts", "random"), {}),
        (("facts", "random", "torch"), {"bit_generator": "MT19937"}),
        (("facts", "random", "batches", "rng", "state"), 7),
        (("optimizer",), []),
        (("optimizer",), {"99": {"step": 1}}),
    ],
)
def test_damaged_header(path: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    """Well-formed, but not what this program writes."""
    out = tmp_path / "run"
    trainer(out, steps=2).run()
    header, arrays = checkpoint.read(out / CHECKPOINT)
    spoilt = header
    for key in path[:-1]:
        spoilt = spoilt[key]
    spoilt[path[-1]] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "read", lambda path: (header, arrays))
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged .*restore it"):
            trainer(out, resume=True)


@pytest.mark.usefixtures("quick")
def test_metrics_can_be_lost(tmp_path: Path) -> None:
    """A model that was trained for days is not held up by a file for a picture."""
    out = tmp_path / "run"
    trainer(out).run()
    (out / METRICS).unlink()
    assert trainer(out, resume=True).run()
    assert metrics(out) == []
    assert trainer(out, resume=True, steps=10).run()
    assert [row["step"] for row in metrics(out)] == [10]


# ------------------------------------------------------------------------------------- the folder


@pytest.mark.usefixtures("quick")
def test_an_earlier_run_is_kept(tmp_path: Path) -> None:
    out, lines = tmp_path / "runs" / "a", []
    runs = []
    (tmp_path / "runs").mkdir()
    for seed in (1, 2, 3):
        trainer(out, say=lines.append, steps=1, seed=seed).run()
        runs.append(contents(out))
    assert contents(tmp_path / "runs" / "a-1") == runs[0]
    assert contents(tmp_path / "runs" / "a-2") == runs[1]
    assert contents(out) == runs[2]
    assert f"kept the earlier run in {out} as {out}-2" in lines


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    for name, content in ((CONFIG, '{"mine": 1}'), ("sample.txt", "mine"), (CONFIG, "")):
        out = tmp_path / f"{name}{len(content)}"
        out.mkdir()
        (out / name).write_text(content)
        with pytest.raises(ValueError, match=r"would be overwritten, .*choose another with --out"):
            trainer(out)
        assert contents(out) == {name: content.encode()}


@pytest.mark.usefixtures("quick")
def test_a_folder_with_other_files_is_used(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    trainer(out, steps=1).run()
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / CHECKPOINT).exists()


@pytest.mark.usefixtures("quick")
def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run can be in it, but cannot be moved aside from under the user's feet."""
    here = tmp_path / "here" / "below"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    config = dataclasses.replace(TINY, data=str(text), steps=1)
    Trainer(config, Path(), say=lambda line: None).run()
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="cannot be moved aside while you are in that folder"):
        Trainer(config, Path())
    with pytest.raises(ValueError, match="cannot be moved aside"):
        Trainer(config, Path("..") / "below")
    assert contents(tmp_path) == before
    Trainer(dataclasses.replace(config, steps=2), Path(), resume=True, say=lambda line: None).run()
    assert [row["step"] for row in metrics(Path())] == [1, 2]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("fails", ["tokenizer.save", "checkpoint.replace", "Path.mkdir"])
@pytest.mark.parametrize("interrupted", [True, False])
def test_a_start_that_fails_changes_nothing(
    earlier: bool, fails: str, interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    if earlier:
        trainer(out, steps=1).run()
    else:
        (tmp_path / "text.txt").write_text(TEXT)
    before = contents(tmp_path)

    def fail(*args: Any, **kwargs: Any) -> None:
        if interrupted:
            raise KeyboardInterrupt
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where, name = fails.split(".")
    monkeypatch.setattr(getattr(train, where), name, fail)
    expected: Any = KeyboardInterrupt if interrupted else OSError
    complaint = None if interrupted else r"cannot write to the folder .*No space left.* with --out$"
    with pytest.raises(expected, match=complaint):
        trainer(out)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    assert out.exists() == earlier
    assert not (tmp_path / "run-1").exists()


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_folder_that_cannot_be(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" if place == "a file" else tmp_path / "file" / "run"
    (tmp_path / "text.txt").write_text(TEXT)
    config = dataclasses.replace(TINY, data=str(tmp_path / "text.txt"))
    with pytest.raises(OSError, match=r"cannot write to the folder .*file.* with --out$"):
        Trainer(config, out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    (closed.parent / "text.txt").write_text(TEXT)
    config = dataclasses.replace(TINY, data=str(tmp_path / "text.txt"))
    for out in (closed, closed / "run"):
        with pytest.raises(OSError, match=r"cannot write .*Permission denied.* with --out$"):
            Trainer(config, out)
    assert os.listdir(closed) == []


# ----------------------------------------------------------------------------- when things go wrong


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
def test_the_disk_fills_up(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second checkpoint: the first is whole, and the run can go on from it."""
    run = trainer(tmp_path / "run", eval_every=100)
    real = Trainer.train_step
    kept: dict[str, bytes] = {}

    def step(self: Trainer) -> tuple[float, float]:
        if self.step == 4:
            kept.update(contents(run.out))
            monkeypatch.setattr(fails, full)
        return real(self)

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Trainer, "train_step", step)
    with pytest.raises(OSError, match=r"checkpoint\.safetensors cannot be written .*as it was$"):
        run.run()
    monkeypatch.undo()
    assert sorted(contents(run.out)) == sorted([CHECKPOINT, BEST, CONFIG, METRICS, TOKENIZER])
    assert contents(run.out)[CHECKPOINT] == kept[CHECKPOINT]
    assert state(run.out)["header"]["facts"]["step"] == 3
    assert trainer(run.out, resume=True).step == 3


def test_metrics_that_cannot_be_written(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run")
    (run.out / METRICS).unlink()
    (run.out / METRICS).mkdir()
    with pytest.raises(OSError, match=r"metrics\.jsonl cannot be written \(Is a directory\)"):
        run.run()


def test_nobody_reads(tmp_path: Path, straight: Path) -> None:
    """``| head`` closes the pipe in the middle: what was learnt until then is saved."""

    def say(line: str) -> None:
        if line.startswith("step      4"):
            raise BrokenPipeError

    out = tmp_path / "run"
    with pytest.raises(BrokenPipeError):
        trainer(out, say=say).run()
    assert state(out)["header"]["facts"]["step"] == 4
    assert metrics(out, but=TIMES) == metrics(straight, but=TIMES)[:3]


# --------------------------------------------------------------------------------------- the text


def test_text_too_short(tmp_path: Path) -> None:
    for text in ("a", "short text"):
        (tmp_path / "text.txt").write_text(text)
        with pytest.raises(ValueError, match=r"a context of 8 needs at least 9 tokens"):
            trainer(tmp_path / "run")
    assert os.listdir(tmp_path) == ["text.txt"]


def test_a_text_without_line_breaks(tmp_path: Path) -> None:
    """Characters do not know the default prompt then: any will do."""
    (tmp_path / "text.txt").write_text("abc " * 100)
    assert trainer(tmp_path / "run").prompt == [0]
    with pytest.raises(ValueError, match=r"the prompt cannot be encoded: the character 'x'"):
        trainer(tmp_path / "other", prompt="abx")
    assert not (tmp_path / "other").exists()


def test_bpe_learns_as_many_tokens_as_asked(tmp_path: Path) -> None:
    run = trainer(tmp_path / "run", tokenizer="bpe", vocab_size=270)
    assert (run.tokenizer.n_vocab, run.model_config.vocab_size) == (270, 270)
    with pytest.raises(ValueError, match=r"vocab_size is 100, .* make 257"):
        trainer(tmp_path / "other", tokenizer="bpe", vocab_size=100)


def test_vocabulary_of_a_ready_made_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are what was chosen, but enough for the text and the prompt."""
    coder = tokenizer.BPETokenizer([b"ti", b"times", b"is", b"xyz"])  # n_vocab 261
    coder.name = "gpt2"
    monkeypatch.setattr(tokenizer, "build", lambda name, text: coder)
    (tmp_path / "text.txt").write_text(TEXT)

    def rows(**changes: Any) -> tuple[int, list[str]]:
        lines: list[str] = []
        run = trainer(tmp_path / "run", say=lines.append, tokenizer="gpt2", **changes)
        return run.model_config.vocab_size, [line for line in lines if "tokens up to" in line]

    assert rows() == (261, [])
    assert rows(vocab_size=260) == (260, [])
    assert rows(vocab_size=259) == (259, [])
    grown = ["the text has tokens up to 258: the vocabulary is 259, not 200"]
    assert rows(vocab_size=200) == (259, grown)
    assert rows(vocab_size=259, prompt="xyz")[0] == 260
    with pytest.raises(
        ValueError, match="vocab_size is 262, but the tokenizer gpt2 has 261 tokens"
    ):
        rows(vocab_size=262)


# -------------------------------------------------------------------------------------- the config


@pytest.mark.parametrize("config", [*PRESETS.values(), TINY, RunConfig(top_k=3, prompt="é\0")])
def test_config_round_trip(config: RunConfig) -> None:
    again = RunConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    model = config.model(500)
    assert GPTConfig.from_json(json.loads(json.dumps(model.to_json()))) == model


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": -1.0}, "lr must be a number of at least 0, not -1.0"),
        ({"lr": math.nan}, "lr must be a number of at least 0, not nan"),
        ({"lr": math.inf}, "lr must be a number of at least 0, not inf"),
        ({"min_lr": -1e-9}, "min_lr must be"),
        ({"weight_decay": math.nan}, "weight_decay must be"),
        ({"clip": -1.0}, "clip must be"),
        ({"temperature": -0.1}, "temperature must be"),
        ({"temperature": math.nan}, "temperature must be"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"eval_every": -5}, "eval_every must be at least 1"),
        ({"eval_batches": 0}, "eval_batches must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"warmup": -1}, "warmup must not be negative"),
        ({"seed": -1}, "seed must not be negative"),
        ({"sample_tokens": -1}, "sample_tokens must not be negative"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\)"),
        ({"beta2": math.nan}, r"beta2 must be in \[0, 1\)"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"vocab_size": 0}, "vocab_size must be at least 1"),
        ({"prompt": ""}, "prompt must not be empty"),
        ({"heads": 3}, "3 heads do not divide the width 128"),
        ({"context": 0}, "context must be a positive integer, not 0"),
        ({"layers": -1}, "layers must be a positive integer"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout must be in \[0, 1\)"),
        ({"positions": "rope"}, "positions must be one of learned, sinusoidal, not 'rope'"),
    ],
)
def test_values_out_of_range(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RunConfig(**change)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ([], r"a RunConfig cannot be \[\]"),
        ({"steps": 2.5}, "steps is 2.5, which is not of the type int"),
        ({"steps": True}, "steps is True, which is not of the type int"),
        ({"bias": 1}, "bias is 1, which is not of the type bool"),
        ({"top_k": "3"}, "top_k is '3', which is not of the type int or null"),
        ({"lr": None}, "lr is None, which is not of the type float"),
        ({"b": 1, "a": 2}, "unknown fields: a, b"),
    ],
)
def test_fields_of_another_type(fields: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RunConfig.from_json(fields)


def test_a_rate_may_be_a_whole_number() -> None:
    assert RunConfig.from_json({"lr": 1, "top_k": None}).lr == 1


def test_progress_is_not_written_to_a_pipe(
    straight: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with reporting.progress(0, 10) as bar:
        bar.update(5)
    assert capfd.readouterr() == ("", "")
