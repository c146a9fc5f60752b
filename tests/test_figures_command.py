"""``figures``: which pictures it writes, of what, and what it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TEXT, Answer, assert_refused, trainer

import tensorgrad
from gpt import data, figures
from gpt.config import GPTConfig
from gpt.figures import inside
from gpt.folder import BEST, CHECKPOINT, CONFIG, METRICS, PREVIOUS
from gpt.model import GPT

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


NAMES = ["attention", "positions", "neighbours", "map", "lens", "gradients", "weights", "updates",
         "landscape"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two layers, without pictures; nobody may change it."""
    out = tmp_path_factory.mktemp("figures") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt.train.reporting.draw", lambda *rest: ([], []))
        trainer(out, layers=2, context=16, bias=False).run()
    return out


@pytest.fixture
def call(call: Callable[..., Answer]) -> Callable[..., Answer]:
    """The command ``figures``."""
    return partial(call, "figures")


def test_all_pictures(call, run, monkeypatch):
    """Each is made; writing them all would take longer than everything else here."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(
        Figure, "savefig", lambda figure, path: path.write_text("x" * len(figure.axes))
    )
    code, said, complaint = call(run, "--points", 3)
    assert (code, complaint) == (0, "")
    paths = [run / "figures" / f"{name}.svg" for name in NAMES]
    assert said.splitlines() == [str(path) for path in paths]
    assert all(path.read_text() for path in paths)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_all_pictures_are_written(call, run, kind):
    code, _, complaint = call(run, "--points", 3, "--format", kind)
    assert (code, complaint) == (0, "")
    start = {"svg": b"<?xml", "png": b"\x89PNG"}[kind]
    for name in NAMES:
        assert (run / "figures" / f"{name}.{kind}").read_bytes().startswith(start)


def test_some_pictures(call, run, tmp_path):
    out = tmp_path / "a" / "b"
    flags = ("--only", "lens", "--only", "positions", "--format", "png", "--out", out)
    code, said, _ = call(run / BEST, *flags, "--text", "7 times")
    assert (code, said.splitlines()) == (0, [f"{out / 'lens.png'}", f"{out / 'positions.png'}"])
    assert (out / "lens.png").read_bytes()[:4] == b"\x89PNG"
    assert sorted(p.name for p in out.iterdir()) == ["lens.png", "positions.png"]


def seen(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple]:
    """What a figure is asked to draw from now on; nothing is drawn."""
    from matplotlib.figure import Figure

    from gpt.commands import figures as command

    asked: list[tuple] = []
    monkeypatch.setattr(command, name, lambda *args, **more: asked.append((args, more)) or Figure())
    return asked


def test_what_is_drawn_is_the_runs(call, finished, tmp_path, monkeypatch):
    """Weights, tokens, batch and learning rate reach the pictures."""
    lens = seen(monkeypatch, "logit_lens")
    land = seen(monkeypatch, "loss_landscape")
    move = seen(monkeypatch, "update_histograms")
    which = [word for name in ("lens", "landscape", "updates") for word in ("--only", name)]
    assert call(finished, *which, "--out", tmp_path / "out")[0] == 0
    (((model, coder, tokens), _),) = lens
    saved = tensorgrad.load(finished / CHECKPOINT)["model"]
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(parameter.detach().numpy(), saved[name].numpy())
    val = data.train_val_split(coder.encode(TEXT))[1]
    assert tokens == val.tolist()
    (((_, batch, points), more),) = land
    np.testing.assert_array_equal(batch, data.windows(val, 16, 32))
    assert (points, more["what"]) == (15, f"{batch[0].size} tokens of the validation text")

    # The same run once more, step by step, with the weights before its last update.
    again = trainer(tmp_path / "again", layers=2, context=16, bias=False)
    for _ in range(8):
        before = {n: p.detach().numpy().copy() for n, p in again.model.named_parameters()}
        again.train_step()
    (((_, updates), _),) = move
    for name, update in updates.items():
        now = saved[name].numpy()
        np.testing.assert_allclose(update, now - before[name], rtol=2e-3, atol=3e-7)


def test_many_heads_have_a_file_for_each_layer(call, run, monkeypatch):
    monkeypatch.setattr("gpt.commands.figures.PANELS", 3)
    maps = seen(monkeypatch, "attention_maps")
    code, said, _ = call(run, "--only", "attention")
    names = [Path(line).name for line in said.splitlines()]
    assert (code, names) == (0, ["attention-layer0.svg", "attention-layer1.svg"])
    assert [args[3] for args, _ in maps] == [[0], [1]]


def test_without_the_text_of_the_run(call, run, tmp_path, monkeypatch):
    config = run / CONFIG
    config.write_text(config.read_text().replace("text.txt", "gone.txt"))
    code, _, complaint = call(run, "--only", "lens")
    assert code == 2
    assert re.fullmatch(
        r"error: the text of the run cannot be read \(.*gone.txt.*\): give another with --text or "
        r"--file\n", complaint,
    )  # fmt: skip
    land = seen(monkeypatch, "loss_landscape")
    (tmp_path / "mine.txt").write_text("7 times 7 is 49;")
    assert call(run, "--only", "landscape", "--file", tmp_path / "mine.txt")[0] == 0
    (((_, (x, y), _), more),) = land
    assert (x.shape, more["what"]) == ((1, 15), "15 tokens of the given text")
    assert (x[0, 1:] == y[0, :-1]).all()
    assert "has one token" in call(run, "--text", "7")[2]


def test_a_damaged_checkpoint(call, run, monkeypatch):
    seen(monkeypatch, "position_table")
    (run / CHECKPOINT).write_bytes(b"no")
    shutil.copy(run / BEST, run / PREVIOUS)
    code, said, _ = call(run, "--only", "positions")
    assert code == 0
    assert "drawing previous.safetensors instead" in said
    assert call(run / CHECKPOINT, "--only", "positions")[0] == 2


def test_a_checkpoint_without_the_optimizer(call, run):
    saved = tensorgrad.load(run / CHECKPOINT)
    tensorgrad.save({**saved, "optimizer": {}}, run / CHECKPOINT)
    code, said, _ = call(run, "--only", "updates")
    assert code == 0
    assert re.match(r"no picture of updates: .* does not tell the last one", said)


WRONG = {
    "no path": ((), "required: PATH"),
    "nothing there": (("absent",), "there is no absent: name the folder of a run or its"),
    "no run": (("empty",), "there is no run in empty"),
    "no checkpoint": (("bare",), "there is no checkpoint bare"),
    "even": (("run", "--points", "4"), "points must be odd and at least 3, not 4"),
    "one point": (("run", "--points", "1"), "points must be odd and at least 3, not 1"),
    "unknown": (("run", "--only", "gradient"), "invalid choice: 'gradient'"),
    "two texts": (("run", "--text", "7", "--file", "x"), "are two texts: leave one out"),
    "no file": (("run", "--file", "x"), "there is no file x"),
    "no text": (("run", "--text", ""), "the text is empty"),
    "no such character": (("run", "--text", "Ж"), "Ж"),
    "no folder": (("run", "--out", "file/figures"), "cannot write to the folder file/figures"),
    "metrics": (("spoilt", "--only", "gradients"), "line 1 does not hold the metrics of a step"),
}


@pytest.mark.parametrize(("flags", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line(call, run, tmp_path, flags, sentence):
    Path("empty").mkdir()
    Path("file").touch()
    for name in ("bare", "spoilt"):
        shutil.copytree(run, name)
    for name in (CHECKPOINT, BEST, PREVIOUS):
        Path("bare", name).unlink(missing_ok=True)
    Path("spoilt", METRICS).write_text("{}\n")
    assert_refused(call, flags, sentence, tmp_path)


def test_without_matplotlib(call, run, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    code, said, complaint = call(run)
    assert (code, said) == (2, "")
    assert complaint.count("\n") == 1
    assert "pictures need matplotlib (the extra viz): pip install" in complaint
    assert not (run / "figures").exists()
    model = GPT(GPTConfig(5, context=4, width=8, layers=3, heads=2))
    with pytest.raises(ImportError, match="pip install matplotlib"):
        figures.position_table(model)
    assert inside.attention_weights(model, [1, 2]).shape == (3, 2, 2, 2)


def test_matplotlib_waits_for_a_picture():
    code = "import sys, gpt.commands.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
