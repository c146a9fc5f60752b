"""The trainer from Python: choices by name, callbacks that cannot disturb, rich display."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tiny_run import TEXT, TINY, assert_same_run, metrics, state, trainer

import gpt
import tensorgrad
from gpt import (
    GPT,
    PRESETS,
    Callback,
    GPTConfig,
    LivePlot,
    Result,
    RunConfig,
    TensorBoard,
    Trainer,
    checkpoint,
    curves,
    live,
)
from gpt import __main__ as command_line
from gpt.callbacks import Callbacks
from gpt.choices import choose
from gpt.folder import BEST, CHECKPOINT, SUMMARY

EVENTS = [
    "on_train_begin", "on_step_end", "on_evaluation", "on_checkpoint", "on_train_end"
]  # fmt: skip


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without callbacks."""
    out = tmp_path_factory.mktemp("quiet") / "run"
    quick(out).fit()
    return out


def quick(out: Path, resume: bool = False, **others: Any) -> Trainer:
    return trainer(out, resume, pictures=False, **others)


# ---------------------------------------------------------------------------------- as one types it


def test_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text(TEXT)
    run = Trainer(
        data=Path("my.txt"), tokenizer="char", width=16, layers=1, heads=2, context=8, batch=2,
        steps=4, eval_every=2, eval_batches=1, pictures=False, out="runs/mine",
        say=lambda line: None,
    )  # fmt: skip
    result = run.fit()
    assert result.folder == Path("runs/mine")
    assert result.model is run.model
    assert (result.step, result.reason) == (4, "steps")
    assert result.losses["step"] == [1, 2, 4]
    assert result.losses["val"] == [m["val_loss"] for m in metrics(result.folder)]
    assert result.sample == Path("runs/mine/sample.txt").read_text()
    assert repr(result).startswith(
        f"Result({Path('runs/mine')}: steps at step 4, validation loss 2."
    )
    assert run.sample("7 times", tokens=5).startswith("7 times")
    assert len(run.sample("7", tokens=5)) == 6
    assert run.sample(seed=1) != run.sample(seed=2)
    assert run.sample(temperature=0) == run.sample(temperature=0, seed=9)
    with pytest.raises(ValueError, match="the prompt cannot be encoded"):
        run.sample("XYZ")

    more = Trainer(out="runs/mine", resume=True, steps=6, say=lambda line: None)
    assert (more.config.width, more.config.steps, more.step) == (16, 6, 4)
    assert more.fit().losses["step"] == [1, 2, 4, 6]


def test_choices() -> None:
    config, out = choose(None, {"width": 32, "lr": 1})
    assert (config.width, config.lr, out) == (32, 1, Path("runs/default"))
    config, out = choose("textbook", {"data": Path("a.txt")}, "here")
    assert (config.layers, config.data, out) == (PRESETS["textbook"].layers, "a.txt", Path("here"))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"widht": 3}, "there is no choice 'widht'; do you mean width?"),
        ({"zzz": 3}, "there is no choice 'zzz'; RunConfig lists them"),
        ({"steps": "many"}, "steps is 'many', which is not of the type int"),
        ({"heads": 3}, "3 heads do not divide the width 128"),
        ({"preset": "tiny"}, "there is no preset 'tiny', but default, "),
        ({"config": RunConfig(), "preset": "default"}, "a config and a preset are two"),
        ({"config": "my.txt"}, "a config is a RunConfig, not 'my.txt'; a text is given as data="),
        ({"callbacks": [Callback]}, r"Callback is a class: pass an object of it, Callback\(\)"),
        ({"callbacks": [3]}, "3 is neither a Callback nor a function"),
        ({"resume": True}, "there is no run in"),
    ],
)
def test_wrong_choices(given: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError, OSError), match=complaint):
        Trainer(out=tmp_path / "run", **given)
    assert os.listdir(tmp_path) == []


def test_names_of_the_package() -> None:
    """They are there, and cost nothing until they are used."""
    assert set(gpt.__all__) <= set(dir(gpt))
    for name in gpt.__all__:
        assert getattr(gpt, name).__name__ == name if name != "PRESETS" else gpt.PRESETS
    with pytest.raises(AttributeError, match="module 'gpt' has no attribute 'Trainr'"):
        gpt.Trainr
    code = "import gpt, sys; assert not {'numpy', 'tensorgrad', 'gpt.train'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(gpt.__file__).parent.parent)


# ---------------------------------------------------------------------------------------- callbacks


class Recorder(Callback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.closed = 0

    def on_train_begin(self, trainer: Trainer) -> None:
        self.heard.append(("begin", trainer.step))

    def on_step_end(self, trainer: Trainer, step: int, metrics: dict[str, Any]) -> None:
        assert trainer.step == step
        self.heard.append(("step", {"step": step, **metrics}))

    def on_evaluation(self, trainer: Trainer, step: int, metrics: dict[str, Any]) -> None:
        assert trainer.metrics[-1] == metrics
        self.heard.append(("evaluation", metrics))

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        assert state(path.parent, path.name)["header"]["facts"]["step"] == trainer.step
        self.heard.append(("checkpoint", path.name))

    def on_train_end(self, trainer: Trainer, result: Result) -> None:
        self.heard.append(("end", result))

    def close(self) -> None:
        self.closed += 1


def test_events(quiet: Path, tmp_path: Path) -> None:
    heard, seen = Recorder(), []
    run = quick(
        tmp_path / "run", callbacks=[heard, lambda run, step, now: seen.append((step, now))]
    )
    result = run.fit()
    assert_same_run(run.out, quiet)
    kinds = [kind if kind != "checkpoint" else what for kind, what in heard.heard]
    # Every evaluation of this run finds a better loss; checkpoints are due after 3, 6 and 8.
    measured = [BEST, "step", "evaluation"]
    assert kinds == [
        "begin", *measured, *measured, "step", CHECKPOINT, *measured, "step", *measured,
        CHECKPOINT, "step", *measured, CHECKPOINT, "end",
    ]  # fmt: skip
    assert heard.heard[-1] == ("end", result)
    assert heard.closed == 1
    assert [what for kind, what in heard.heard if kind == "evaluation"] == metrics(run.out)
    steps = [what for kind, what in heard.heard if kind == "step"]
    assert [(s["step"], {k: v for k, v in s.items() if k != "step"}) for s in steps] == seen
    assert [s["step"] for s in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    for line in metrics(run.out):
        step = steps[line["step"] - 1]
        assert {k: step[k] for k in ("lr", "grad_norm", "tokens_per_second")} == {
            k: line[k] for k in ("lr", "grad_norm", "tokens_per_second")
        }


class Disturber(Callback):
    """Does all that could change a run's numbers, but for writing to its weights."""

    def disturb(self, trainer: Trainer, *others: Any) -> None:
        x, y = (tensorgrad.from_numpy(a) for a in trainer.batches.next())
        trainer.model.train()
        trainer.model(x, y).backward()  # with dropout
        trainer.evaluate()
        trainer.sample(tokens=3)
        if not others:
            trainer._repr_html_()
        GPT(trainer.model_config)
        tensorgrad.manual_seed(1)
        tensorgrad.rand(7)

    on_train_begin = on_step_end = on_evaluation = on_train_end = disturb

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        self.disturb(trainer)


def test_a_callback_does_not_disturb(quiet: Path, tmp_path: Path) -> None:
    """To the bit: random states, gradients, batches; also where the run is resumed."""
    quick(tmp_path / "run", callbacks=[Disturber()]).fit()
    assert_same_run(tmp_path / "run", quiet)

    def save(run: Trainer, step: int, now: dict[str, Any]) -> None:
        Disturber().disturb(run)
        if step == 5:
            run.save()
            run.stop()

    quick(tmp_path / "other", callbacks=[save]).fit()
    quick(tmp_path / "other", resume=True, callbacks=[Disturber()]).fit()
    assert_same_run(tmp_path / "other", quiet)


def test_the_disturber_disturbs(
    quiet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: without the trainer's care it does."""
    monkeypatch.setattr(
        Trainer, "_tell", lambda self, event, *rest: self.callbacks.tell(self, event, *rest)
    )
    quick(tmp_path / "run", callbacks=[Disturber()]).fit()
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "run", quiet)


@pytest.mark.parametrize("event", EVENTS)
def test_an_error_in_a_callback(event: str, quiet: Path, tmp_path: Path) -> None:
    """It ends the run with the step saved; without the callback, the run goes on as if nothing."""

    class Faulty(Recorder):
        pass

    def fail(self: Callback, run: Trainer, *others: Any) -> None:
        tensorgrad.rand(3)
        if event != "on_step_end" or run.step == 5:
            raise ZeroDivisionError("planted")

    setattr(Faulty, event, fail)
    out, lines, faulty = tmp_path / "run", [], Faulty()
    run = quick(out, say=lines.append, callbacks=[faulty])
    with pytest.raises(ZeroDivisionError, match="planted"):
        run.fit()
    assert faulty.closed == 1
    said = f"the callback Faulty has failed in {event} after step {run.step}"
    assert lines[-1].startswith(f"{said} (ZeroDivisionError: planted); ")
    steps = {"on_train_begin": 0, "on_step_end": 5, "on_evaluation": 1, "on_checkpoint": 1}
    assert run.step == steps.get(event, 8)
    if event in ("on_train_begin", "on_checkpoint"):  # the first one is the best's, in a step
        assert lines[-1].endswith("there is no checkpoint yet")
        quick(out).fit()
    else:
        assert lines[-1].endswith(f"to go on: python -m gpt train --resume --out {out}")
        assert state(out)["header"]["facts"]["step"] == run.step
        quick(out, resume=True).fit()
    assert_same_run(out, quiet)


def test_stop(quiet: Path, tmp_path: Path) -> None:
    """The run ends properly, and can go on."""
    out, lines = tmp_path / "run", []

    def enough(run: Trainer, step: int, now: dict[str, Any]) -> None:
        if step == 5:
            run.stop()

    run = quick(out, say=lines.append, callbacks=[enough])
    result = run.fit()
    assert (result.step, result.reason) == (5, "stop")
    assert "stopped by a callback after step 5 of 8" in lines
    assert (out / SUMMARY).exists()
    assert quick(out, resume=True).fit().reason == "steps"
    assert_same_run(out, quiet)


def test_going_on_in_memory(quiet: Path, tmp_path: Path) -> None:
    """Ctrl-C in a notebook ends ``fit`` with a result, and ``fit`` again goes on."""

    def press(run: Trainer, step: int, now: dict[str, Any]) -> None:
        if step in (2, 5):
            signal.raise_signal(signal.SIGINT)

    run = quick(tmp_path / "run", callbacks=[press])
    for step in (2, 5):
        result = run.fit()
        assert (result.step, result.reason, run.stopped_by) == (step, "interrupted", signal.SIGINT)
        assert (result.summary, result.sample) == ({}, "")
        assert repr(result).endswith(f"run: interrupted at step {step})")
    assert run.fit().reason == "steps"
    assert_same_run(tmp_path / "run", quiet)


def test_functions_have_names() -> None:
    def watch(trainer: Trainer, step: int, metrics: dict[str, Any]) -> None: ...

    assert repr(Callbacks([], [watch, Recorder()]).given) == "[watch, Recorder]"


# ------------------------------------------------------------------------------------ the best text


def test_after_early_stopping_the_best_weights_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Trainer, "evaluate", lambda self: {"train_loss": 1.0, "val_loss": 2.0 + abs(self.step - 4)}
    )
    out, lines = tmp_path / "run", []
    run = quick(out, say=lines.append, steps=20, patience=2, lr=0.1)
    result = run.fit()
    assert (result.reason, result.step, run.sample_step) == ("patience", 8, 4)
    assert result.summary["sample_step"] == 4
    assert any("- sample of the best weights, those of step 4 -" in line for line in lines)
    last = run.model
    run.model = GPT(run.model_config)
    checkpoint.restore_model(run.model, *checkpoint.read(out / BEST), out / BEST)
    monkeypatch.setattr(Trainer, "sample_step", run.step)  # whatever the model is
    assert result.sample == run.sample()
    run.model = last
    assert result.sample != run.sample()


# ------------------------------------------------------------------------------ what Jupyter shows


def cells(html: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in ET.fromstring(html)]


def test_model_in_a_notebook(tmp_path: Path) -> None:
    """A table of the layers; equal blocks in full once; nothing of the model changes."""
    model = GPT(GPTConfig(vocab_size=11, context=8, width=16, layers=3, heads=2, dropout=0.5))
    model.recompute = True
    random = tensorgrad.get_rng_state()
    head, *rows, total = cells(model._repr_html_())
    assert head[:4] == ["layer", "class", "result", "parameters"]
    assert rows[0][:3] == ["(model)", "GPT", "1×8×11"]
    assert total[3] == f"{model.parameter_count():,}"
    names = [row[0] for row in rows]
    assert [n for n in names if n.startswith("blocks")] == ["blocks.0", "blocks.1", "blocks.2"]
    assert [n for n in names if n in ("attention", "qkv")] == ["attention", "qkv"]
    assert model.training
    assert model.recompute
    assert (tensorgrad.get_rng_state() == random).all()
    assert all(p.grad is None for p in model.parameters())


def test_trainer_in_a_notebook(tmp_path: Path) -> None:
    run = quick(tmp_path / "<my> run")
    shown = f"Trainer({run.out}: step 0 of 8, 3,728 parameters, {len(TEXT):,} tokens)"
    assert repr(run) == shown
    text, table = ET.fromstring(f"<div>{run._repr_html_()}</div>")
    assert text.text == shown
    assert len(table) > 5


def test_tiny_has_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless they are asked for, they are drawn: `pictures` is a choice like others."""
    drawn: list[Callable] = []
    monkeypatch.setattr(gpt.reporting, "draw", lambda *args: (drawn.append(1), ([], []))[1])
    quick(tmp_path / "run", steps=1).fit()
    assert drawn == []
    trainer(tmp_path / "run", steps=1).fit()
    assert drawn == [1]
    assert TINY.pictures


# --------------------------------------------------------------------------------------- live plots


class FakeNotebook:
    """IPython in a Jupyter kernel, as far as :class:`LivePlot` knows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kernel: bool = True) -> None:
        self.shown: list[bytes] = []  # the figure, each time that it changes
        self.figures = 0
        shell = SimpleNamespace(kernel=self) if kernel else SimpleNamespace()
        front, display = ModuleType("IPython"), ModuleType("IPython.display")
        vars(front).update(get_ipython=lambda: shell, display=display, version_info=(9, 0))
        vars(display).update(display=self.display)
        monkeypatch.setitem(sys.modules, "IPython", front)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, picture: Any, display_id: bool) -> FakeNotebook:
        assert display_id
        self.figures += 1
        self.update(picture)
        return self

    def update(self, picture: Any) -> None:
        self.shown.append(picture._repr_png_())


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list]]:
    """What is in each figure of losses from now on, lines by their labels; its file is a number."""
    found: list[dict[str, list]] = []
    real = curves.loss_curve

    def watched(*args: Any) -> Any:
        figure = real(*args)
        lines = figure.axes[0].lines
        found.append({line.get_label(): line.get_xydata().tolist() for line in lines})
        return figure

    monkeypatch.setattr(curves, "loss_curve", watched)
    monkeypatch.setattr(curves, "png", lambda figure: b"%d" % (len(found) - 1))
    return found


def test_live_plot_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One figure, updated in its place, of all losses so far; no file is written."""
    notebook, figures = FakeNotebook(monkeypatch), drawn(monkeypatch)
    # By this clock a drawing takes a second, and so does a step: the next one comes after 20.
    clock = iter(range(10**6))
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    losses: list[list[float]] = []
    run = quick(tmp_path / "run", steps=50, eval_every=25, callbacks=[
        LivePlot(), lambda run, step, now: losses.append([step, now["loss"]])
    ])  # fmt: skip
    result = run.fit()
    assert notebook.figures == 1
    assert notebook.shown == [b"0", b"1", b"2", b"3"]
    assert [len(figure.get("training, each step", [])) for figure in figures] == [0, 20, 40, 50]
    assert figures[0] == {}
    assert figures[-1]["training, each step"] == losses
    validation = [[m["step"], m["val_loss"]] for m in result.metrics]
    assert figures[-1][f"validation (last {validation[-1][1]:.3f})"] == validation
    assert not (run.out / "loss.png").exists()


@pytest.mark.parametrize("ipython", [False, True])
def test_live_plot_elsewhere(
    ipython: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, with IPython on a terminal, too."""
    notebook = FakeNotebook(monkeypatch, kernel=False) if ipython else None
    monkeypatch.setattr(live, "SHARE", 1e9)  # draw always
    drawn(monkeypatch)
    run = quick(tmp_path / "run", steps=3, callbacks=[LivePlot(seconds=0)])
    run.fit()
    assert (run.out / "loss.png").read_bytes() == b"4"  # at the start, after each step, at the end
    assert notebook is None or notebook.shown == []


def test_live_plot_is_a_picture(quiet: Path, tmp_path: Path) -> None:
    """A real one; and the run is the same to the bit."""
    run = quick(tmp_path / "run", callbacks=[LivePlot(seconds=1e9)])
    run.fit()
    assert (run.out / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert_same_run(run.out, quiet)


def test_a_long_line_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = drawn(monkeypatch)
    run, plot = quick(tmp_path / "run"), LivePlot(seconds=1e9)
    plot.on_train_begin(run)
    for step in range(2500):
        plot.on_step_end(run, step, {"loss": 1.0})
    plot._draw(run)
    (line,) = figures[-1].values()
    assert [x for x, _ in line[:3]] == [0, 3, 6]
    assert len(line) <= live.MOST


def test_live_plot_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=r"pictures need matplotlib \(the extra viz\): pip install matplotlib"
    ):
        quick(tmp_path / "run", callbacks=[LivePlot()]).fit()


# -------------------------------------------------------------------------------------- TensorBoard


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a folder: by name and step, without what later files purge."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: int(path.name.rpartition(".")[2])):
        content, at = path.read_bytes(), 0
        while at < len(content):  # length, its checksum, an event, its checksum
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += 12 + size + 4
            if event.session_log.status == SessionLog.START:
                for points in found.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard(quiet: Path, tmp_path: Path) -> None:
    """The files have the metrics; a resumed run replaces what it does again."""
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install it")

    def fall(run: Trainer, step: int, now: dict[str, Any]) -> None:
        losses[step] = now["loss"]
        if step == 5 and not losses.get(6):
            raise KeyboardInterrupt  # at once: the last checkpoint is that of step 3

    losses: dict[int, float] = {}
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        quick(out, tensorboard=True, callbacks=[TensorBoard(out / "other", every=1), fall]).fit()
    losses[6] = 1.0
    run = quick(out, resume=True, tensorboard=True,
                callbacks=[TensorBoard(out / "other", every=1), fall])  # fmt: skip
    assert run.step == 3
    run.fit()
    assert_same_run(out, quiet)
    rows = metrics(out)
    for folder in (out / "tensorboard", out / "other"):
        found = scalars(folder)
        for tag, key in (("loss/train", "train_loss"), ("loss/val", "val_loss")):
            assert found[tag] == {row["step"]: pytest.approx(row[key]) for row in rows}
        assert list(found["tokens_per_second"]) == [row["step"] for row in rows]
        for layer, norm in rows[-1]["grad_norms"].items():
            assert found[f"gradients/{layer}"][8] == pytest.approx(norm)
    assert found["loss/step"] == {step: pytest.approx(loss) for step, loss in losses.items()}
    assert found["lr"][8] == pytest.approx(rows[-1]["lr"])
    assert found["gradients/all"][8] == pytest.approx(rows[-1]["grad_norm"])


def test_without_tensorboardx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before anything is made."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    sentence = "TensorBoard's files need tensorboardX: pip install tensorboardX"
    with pytest.raises(ImportError, match=sentence):
        quick(tmp_path / "run", tensorboard=True)
    text = str(tmp_path / "text.txt")
    command = ["train", "--data", text, "--out", str(tmp_path / "run"), "--tensorboard"]
    assert command_line.main(command) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"
    assert os.listdir(tmp_path) == ["text.txt"]
