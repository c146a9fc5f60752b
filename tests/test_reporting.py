"""What the user sees of a run: lines, pictures, and the sample."""

from __future__ import annotations

import math
import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tiny_run import TEXT, TINY, metrics, trainer

from gpt import curves, reporting
from gpt.folder import BEST, CHECKPOINT, METRICS, PREVIOUS, SUMMARY
from gpt.train import Trainer
from tensorgrad import graph


def test_the_user_is_told(straight: Path) -> None:
    said = (straight.parent / "said").read_text()
    model = "3,728 parameters: layers 1, heads 2, width 16, context 8, vocabulary 18"
    assert said.startswith(model)
    assert f"{len(TEXT):,} tokens of 1.0 characters (char) from {straight.parent}" in said
    assert f"guessing would be {math.log(18):.2f}\n" in said
    for row in metrics(straight):
        assert re.search(rf"step +{row['step']} +train loss {row['train_loss']:.4f} ", said)
    assert " sample ----------" in said
    assert (
        f"wrote {straight}: {CHECKPOINT}, {PREVIOUS}, {BEST}, {METRICS}, {SUMMARY}, "
        "loss.svg, loss.png, training.svg, training.png, block.svg, " in said
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("warmup", "told"), [(3, False), (4, True)])
def test_a_warm_up_that_takes_the_whole_run(warmup: int, told: bool, tmp_path: Path) -> None:
    lines: list[str] = []
    trainer(tmp_path / "run", say=lines.append, steps=4, warmup=warmup).run()
    line = "the learning rate will not get to 0.01: --warmup 4 takes all of --steps 4"
    assert (line in lines) == told


def test_what_recompute_saves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model so small that it saves nothing, no negative percentage is told."""
    for peaks, told in (({True: 2**20, False: 4 * 2**20}, ": 75% saved ("),
                        ({True: 2**20 + 9, False: 2**20}, "too small to save any (")):  # fmt: skip
        monkeypatch.setattr(reporting, "peak_memory", lambda model, batch, on, p=peaks: p[on])
        assert told in reporting.memory_saved(None, 3)


@pytest.mark.usefixtures("quick")
def test_the_terminal_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has what the model wrote, the terminal what it can take."""
    lines: list[str] = []
    monkeypatch.setattr(Trainer, "sample", lambda self: "a\x1b[2Jb")
    trainer(tmp_path / "run", say=lines.append, steps=1).run()
    assert "\na�[2Jb\n" in "\n".join(lines)
    assert (tmp_path / "run" / "sample.txt").read_bytes() == b"a\x1b[2Jb"
    assert reporting.printable("a\x1b[2J\x07b\tc\r\nd\x9be\x00é潮") == "a�[2J�b\tc\nd�e�é潮"


def test_progress_is_not_written_to_a_pipe(
    straight: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bar = reporting.progress(0, 10)
    bar.update(5)
    bar.set_description_str("half of it", False)
    with bar.external_write_mode():
        pass
    bar.close()
    assert capfd.readouterr() == ("", "")


def test_sample(straight: Path) -> None:
    sample = (straight / "sample.txt").read_text()
    assert sample.startswith("\n")
    assert len(sample) == 1 + TINY.sample_tokens
    assert set(sample) <= set(TEXT)


# ----------------------------------------------------------------------------------------- pictures


def test_loss_curve(straight: Path) -> None:
    assert (straight / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ET.parse(straight / "loss.svg").getroot().tag.endswith("svg")
    figure = curves.loss_curve(metrics(straight), "a $ title")
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    for key, label in (("train_loss", "training"), ("val_loss", "validation")):
        points = [[row["step"], row[key]] for row in metrics(straight)]
        assert drawn[f"{label} (last {points[-1][1]:.3f})"] == points


def test_one_point_is_no_curve(straight: Path, tmp_path: Path) -> None:
    lines = (straight / METRICS).read_text().splitlines(keepends=True)
    config = TINY.model(5)
    drawn = {}
    for count in (0, 1, 2):
        (tmp_path / METRICS).write_text("".join(lines[:count]))
        drawn[count] = [path.name for path in reporting.draw(tmp_path, "title", config)[0]]
    assert drawn[0] == drawn[1] == ["block.svg"]
    assert drawn[2] == ["loss.svg", "loss.png", "training.svg", "training.png", "block.svg"]


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


def test_any_title_can_be_drawn(tmp_path: Path) -> None:
    name = "$\\frac$ 潮 \\alpha_1 a&<b>"
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
