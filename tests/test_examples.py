"""The examples: they run, their numbers are those of the texts they follow, and they draw.

The pinned numbers are the texts' own, as printed there.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nn.functional as F
import tensorgrad
from nn import sinusoidal_positions

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NUMBERED = sorted(EXAMPLES.glob("[0-9]*.py"))


def load(name: str) -> ModuleType:
    """An example as a module; its name starts with a digit, so ``import`` does not take it."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


attention = load("01_attention_by_hand")
transformer = load("02_transformer_by_hand")
translate = load("03_translate")  # its own tests are in test_translate.py
fill = load("04_fill_in_the_blank")  # its own tests are in test_fill_in_the_blank.py
predecessors = load("05_predecessors")  # its own tests are in test_predecessors.py

QUICK = {
    "01_attention_by_hand": (attention, ["--samples", "50"]),
    "02_transformer_by_hand": (transformer, ["--steps", "5"]),
    "03_translate": (translate, ["--steps", "2", "--test", "2"]),
    "04_fill_in_the_blank": (fill, ["--steps", "1", "--epochs", "1", "--paragraphs", "120"]),
    "05_predecessors": (
        predecessors,
        ["--steps", "2", "--width", "4", "--characters", "2000"],
    ),
}
PICTURES = {
    "01_attention_by_hand": ["attention", "positions", "scaling"],
    "02_transformer_by_hand": ["attention", "by_hand"],
    "03_translate": ["alignment", "training"],
    "04_fill_in_the_blank": ["accuracy", "fill"],
    "05_predecessors": ["how_far_back", "learning"],
}
TIMES = re.compile(r" +\d+\.\d m?s\b")  # no two runs take the same


@pytest.fixture
def seed() -> None:
    tensorgrad.manual_seed(0)


# ------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_runs_as_a_program(path: Path, tmp_path: Path) -> None:
    """From another folder; --help names the options and writes nothing."""
    done = subprocess.run(
        [sys.executable, str(path), "--help"],
        cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arranged", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", QUICK)
def test_draws_its_pictures(
    name: str,
    arranged: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Into a folder that is made for them; their paths are printed.

    To arrange what is in a picture, which is to draw it twice, takes half of the time.
    """
    figure = pytest.importorskip("matplotlib.figure")
    if not arranged:
        savefig = figure.Figure.savefig

        def save(self: Any, path: Path) -> None:
            self.set_layout_engine("none")
            savefig(self, path)

        monkeypatch.setattr(figure.Figure, "savefig", save)
    example, arguments = QUICK[name]
    example.main([*arguments, "--out", str(tmp_path / "new" / "folder")])
    printed = capsys.readouterr().out
    pictures = sorted((tmp_path / "new" / "folder").iterdir())
    assert [picture.name for picture in pictures] == [f"{stem}.png" for stem in PICTURES[name]]
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 10_000  # an empty figure of that size has 3 to 4 kB
        assert str(picture) in printed


@pytest.mark.parametrize("name", QUICK)
def test_without_matplotlib(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The numbers are printed all the same, the same ones for the same seed, and a line says why
    there are no pictures.
    """
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    example, arguments = QUICK[name]
    outputs = []
    for seed in ("3", "3", "4"):
        example.main([*arguments, "--seed", seed, "--out", str(tmp_path / "out")])
        outputs.append(TIMES.sub("", capsys.readouterr().out))
    assert outputs[0] == outputs[1] != outputs[2]
    assert "pip install matplotlib" in outputs[0]
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------- attention by hand

# The tutorial's table, [16, 64], of which it prints the columns 0 to 9 (here first) and 54 to 63.
POSITIONS = """
 0.000000  1.000000  0.000000  1.000000  0.000000  1.000000  0.000000  1.000000  0.000000  1.000000
 0.841471  0.540302  0.681561  0.731761  0.533168  0.846009  0.409309  0.912396  0.310984  0.950415
 0.909297 -0.416147  0.997480  0.070948  0.902131  0.431463  0.746904  0.664932  0.591127  0.806578
 0.141120 -0.989992  0.778273 -0.627927  0.993253 -0.115966  0.953635  0.300967  0.812649  0.582754
-0.756802 -0.653644  0.141539 -0.989933  0.778472 -0.627680  0.993281 -0.115730  0.953581  0.301137
-0.958924  0.283662 -0.571127 -0.820862  0.323935 -0.946079  0.858896 -0.512150  0.999947 -0.010342
-0.279415  0.960170 -0.977396 -0.211416 -0.230368 -0.973104  0.574026 -0.818837  0.947148 -0.320796
 0.656987  0.753902 -0.859313  0.511449 -0.713721 -0.700430  0.188581 -0.982058  0.800422 -0.599437
 0.989358 -0.145500 -0.280228  0.959933 -0.977262 -0.212036 -0.229904 -0.973213  0.574318 -0.818632
 0.412118 -0.911130  0.449194  0.893434 -0.939824  0.341660 -0.608108 -0.793854  0.291259 -0.956644
-0.544021 -0.839072  0.937633  0.347628 -0.612937  0.790132 -0.879767 -0.475405 -0.020684 -0.999786
-0.999990  0.004426  0.923052 -0.384674 -0.097276  0.995257 -0.997283 -0.073661 -0.330575 -0.943780
-0.536573  0.843854  0.413275 -0.910606  0.448343  0.893862 -0.940067  0.340989 -0.607683 -0.794179
 0.420167  0.907447 -0.318216 -0.948018  0.855881  0.517173 -0.718144  0.695895 -0.824528 -0.565821
 0.990607  0.136737 -0.878990 -0.476839  0.999823 -0.018796 -0.370395  0.928874 -0.959605 -0.281349
 0.650288 -0.759688 -0.968206  0.250154  0.835838 -0.548975  0.042249  0.999107 -0.999519  0.031022
 0.000000  1.000000  0.000000  1.000000  0.000000  1.000000  0.000000  1.000000  0.000000  1.000000
 0.000422  1.000000  0.000316  1.000000  0.000237  1.000000  0.000178  1.000000  0.000133  1.000000
 0.000843  1.000000  0.000632  1.000000  0.000474  1.000000  0.000356  1.000000  0.000267  1.000000
 0.001265  0.999999  0.000949  1.000000  0.000711  1.000000  0.000533  1.000000  0.000400  1.000000
 0.001687  0.999999  0.001265  0.999999  0.000949  1.000000  0.000711  1.000000  0.000533  1.000000
 0.002108  0.999998  0.001581  0.999999  0.001186  0.999999  0.000889  1.000000  0.000667  1.000000
 0.002530  0.999997  0.001897  0.999998  0.001423  0.999999  0.001067  0.999999  0.000800  1.000000
 0.002952  0.999996  0.002214  0.999998  0.001660  0.999999  0.001245  0.999999  0.000933  1.000000
 0.003374  0.999994  0.002530  0.999997  0.001897  0.999998  0.001423  0.999999  0.001067  0.999999
 0.003795  0.999993  0.002846  0.999996  0.002134  0.999998  0.001600  0.999999  0.001200  0.999999
 0.004217  0.999991  0.003162  0.999995  0.002371  0.999997  0.001778  0.999998  0.001334  0.999999
 0.004639  0.999989  0.003478  0.999994  0.002609  0.999997  0.001956  0.999998  0.001467  0.999999
 0.005060  0.999987  0.003795  0.999993  0.002846  0.999996  0.002134  0.999998  0.001600  0.999999
 0.005482  0.999985  0.004111  0.999992  0.003083  0.999995  0.002312  0.999997  0.001734  0.999998
 0.005904  0.999983  0.004427  0.999990  0.003320  0.999995  0.002490  0.999997  0.001867  0.999998
 0.006325  0.999980  0.004743  0.999989  0.003557  0.999994  0.002667  0.999996  0.002000  0.999998
"""


def test_position_table_is_the_tutorials() -> None:
    """It was rounded in float32 there and is here: the sixth digit may differ by one, seldom."""
    first, last = np.array(POSITIONS.split()).reshape(2, 16, 10)
    printed = np.hstack([first, last])
    table = attention.position_table(16, 64).numpy()[:, [*range(10), *range(54, 64)]]
    assert abs(table - printed.astype(float)).max() < 1.5e-6
    rounded = np.array([[f"{value:.6f}" for value in row] for row in table])
    assert (rounded == printed).sum() >= 300


def test_position_table_is_printed_as_in_the_tutorial(capsys: pytest.CaptureFixture[str]) -> None:
    attention.show_positions(attention.position_table(16, 64))
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line[:4].strip().isdigit()]
    assert len(rows) == 32
    assert rows[1].split()[:4] == ["1", "0.841471", "0.540302", "0.681561"]
    assert rows[31].split()[-4:] == ["0.002667", "0.999996", "0.002000", "0.999998"]


def test_position_table_is_the_models() -> None:
    table = attention.position_table(16, 64)
    np.testing.assert_allclose(table.numpy(), sinusoidal_positions(16, 64).numpy(), atol=1e-6)


def test_attention_has_the_tutorials_shapes(seed: None) -> None:
    shapes = {name: tuple(step.shape) for name, step in attention.attention_by_hand().items()}
    assert {shapes[name] for name in ("X", "Q", "K", "V", "joined", "output")} == {(4, 16, 64)}
    assert {
        shapes[name]
        for name in ("q", "k", "v", "scores", "scaled", "masked", "weights", "A")
    } == {(4, 4, 16, 16)}  # fmt: skip


def test_attention_is_attention(seed: None) -> None:
    """Against the closed forms, and against the layer's function."""
    steps = attention.attention_by_hand()
    q, k, v, scores, scaled, masked, weights, A = (
        steps[name].detach().numpy()
        for name in ("q", "k", "v", "scores", "scaled", "masked", "weights", "A")
    )
    np.testing.assert_allclose(scores[1, 2, 3, 4], q[1, 2, 3] @ k[1, 2, 4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scaled, scores / 4)
    future = np.triu(np.ones((16, 16), dtype=bool), 1)
    assert (masked[..., future] == -math.inf).all()
    assert (masked[..., ~future] == scaled[..., ~future]).all()
    assert (weights[..., future] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(A[0, 0, 0], v[0, 0, 0], rtol=1e-6)  # the first sees itself only
    layer = F.scaled_dot_product_attention(steps["q"], steps["k"], steps["v"], is_causal=True)
    np.testing.assert_allclose(A, layer.detach().numpy(), atol=1e-6)
    # Head 1 of word 3 in sentence 2 is 16 of the 64 numbers, and goes back to where it came from.
    np.testing.assert_array_equal(q[2, 1, 3], steps["Q"].detach().numpy()[2, 3, 16:32])
    np.testing.assert_array_equal(A[2, 1, 3], steps["joined"].detach().numpy()[2, 3, 16:32])


def test_why_scores_are_divided(seed: None) -> None:
    """Var(q·k) = d_k, and 1 after the division; then the largest of 16 weights and the gradient do
    not depend on d_k, where without it one weight takes all and the gradient is gone.
    """
    rows = attention.scaling_experiment(samples=200)
    for row in rows:
        assert row["variance, plain"] == pytest.approx(row["d_k"], rel=0.3)
        assert row["variance, scaled"] == pytest.approx(1, rel=0.3)
        assert row["largest weight, scaled"] == pytest.approx(0.24, abs=0.05)
        assert row["gradient, scaled"] == pytest.approx(0.26, abs=0.05)
    assert rows[-1]["d_k"] == 1024
    assert rows[-1]["largest weight, plain"] > 0.9
    assert rows[-1]["gradient, plain"] < 1e-3


# ------------------------------------------------------------------------ a transformer by hand


def test_completions_are_the_articles() -> None:
    model = transformer.made_by_hand()
    assert transformer.complete(model, "a") == "baabaabaab"
    assert transformer.complete(model, "ba") == "abaabaabaa"
    assert transformer.complete(model, "abaab") == "aabaabaaba"
    assert transformer.accuracy(model) == (27, 27)


def test_weights_are_the_articles() -> None:
    """c_attn as the article writes it: x W + b, W [8, 24] for query, key and value."""
    model = transformer.made_by_hand()
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    attn = np.zeros((8, 24))
    attn[range(5), range(5)] = attn[range(1, 5), range(4)] = 1024  # the query's columns
    attn[range(5), range(8, 13)] = 1
    attn[[5, 6], 23] = 1, -1
    proj = np.zeros((8, 8))
    proj[7, [5, 6]] = -1024, 1024
    wanted = {
        "wte.weight": np.eye(8)[[5, 6]],
        "wpe.weight": np.eye(5, 8),
        "c_attn.weight": attn.T,
        "c_attn.bias": np.zeros(24),
        "c_proj.weight": proj.T,
        "c_proj.bias": [0, 0, 0, 0, 0, 1024, 0, 0],
    }
    assert weights.keys() == wanted.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, wanted[name], err_msg=name)
    assert sum(weight.size for weight in weights.values()) == 344


def test_matrices_on_the_way_are_the_articles() -> None:
    """For "aabaa": the last two tokens share the attention, and p reads 1 1 0 0 1."""
    steps = transformer.made_by_hand().steps(transformer.tokenize("aabaa"))
    halves = np.tril(np.ones((5, 5))) * np.triu(np.ones((5, 5)), -1)
    halves /= halves.sum(1, keepdims=True)
    np.testing.assert_array_equal(steps["weights"].detach().numpy(), halves)
    np.testing.assert_array_equal(steps["attended"].detach().numpy()[:, 7], [1, 1, 0, 0, 1])
    np.testing.assert_array_equal(
        steps["logits"].detach().numpy(), [[1, 1024], [1, 1024], [1024, 1], [1025, 0], [1, 1024]]
    )


def test_batches_give_the_same(seed: None) -> None:
    model = transformer.random_weights()
    tokens = [transformer.tokenize(text) for text in transformer.TEXTS]
    together = model(tensorgrad.stack(tokens)).detach().numpy()
    for row, alone in zip(together, tokens):
        np.testing.assert_allclose(row, model(alone).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_same_accuracy_is_learned(seed: None) -> None:
    """From random weights to 27/27, and close to the loss that nothing can go below."""
    model = transformer.random_weights()
    losses = transformer.train(model, steps=100)
    assert losses[0] > 0.5
    assert min(losses) > transformer.LOWEST_LOSS
    assert losses[-1] < 1.1 * transformer.LOWEST_LOSS
    assert transformer.accuracy(model) == (27, 27)
