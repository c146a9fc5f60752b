"""The whole of it, end to end, against PyTorch: logits, loss, gradients, ten steps of training.

The truth is ``tests/oracle/gpt.npz``, which ``make_oracle.py`` froze from PyTorch, so most of this
needs no PyTorch; where there is one, the file is checked against it, and both are compared on every
kind of model.

What "relative deviation" means here. A tensor's is ``max|a - b| / max|b|``: one number for all its
elements, because a sum of float32 numbers is known to within a part of its largest terms and not of
its result. Losses, norms and rates are compared number by number. The weights that ten steps of
AdamW give in float32 are compared by ``‖a - b‖ / ‖b‖`` and without the key biases: AdamW divides
each gradient by its own size, so that where the exact gradient is 0 (always for key biases, which
shift all scores of a softmax alike) it makes full steps of the rounding errors, and where it is
near 0 it enlarges them. PyTorch on two kinds of processors differs from itself by 3.5e-5 in the
largest of such elements, and by 2e-6 in the norm. In float64 all is compared, element by element.
"""

from __future__ import annotations

import functools

import make_oracle
import numpy as np
import pytest
from make_oracle import CASES, members

import nn
import tensorgrad
import tensorgrad.nn
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad.backend import kernels
from tensorgrad.optim import LambdaLR, warmup_cosine

SINGLE, DOUBLE = 1e-5, 1e-10  # the deviations that pass, for float32 and for float64


def deviation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """max|a - b| / max|b|."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def scalar_deviation(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest |a - b| / |b|."""
    assert ours.shape == theirs.shape
    return float((np.abs(ours - theirs) / np.abs(theirs)).max())


def trained_deviation(ours: np.ndarray, theirs: np.ndarray, name: str) -> float:
    """‖a - b‖ / ‖b‖ of weights trained in float32, without key biases."""
    assert ours.shape == theirs.shape
    if name.endswith("qkv.bias"):
        ours, theirs = (np.delete(x.reshape(3, -1), 1, axis=0) for x in (ours, theirs))
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def excesses(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """What deviates by more than it may, and by how much; ``theirs`` names what is compared."""
    double = theirs["trained/norm.weight"].dtype == np.float64
    found = {}
    for key, value in theirs.items():
        kind, _, name = key.partition("/")
        if kind in ("losses", "norms", "rates"):
            found[key] = scalar_deviation(ours[key], value)
        elif kind == "trained" and not double:
            found[key] = trained_deviation(ours[key], value, name)
        else:
            found[key] = deviation(ours[key], value)
    limits = {key: DOUBLE if double or key == "rates" else SINGLE for key in found}
    return {key: value for key, value in found.items() if not value <= limits[key]}


@functools.cache
def frozen() -> dict[str, np.ndarray]:
    with np.load(make_oracle.FILE) as file:
        return dict(file)


def by_tensorgrad(
    config: GPTConfig, given: dict[str, np.ndarray], dtype: str
) -> dict[str, np.ndarray]:
    """What tensorgrad makes of the same inputs as PyTorch in ``make_oracle.by_torch``."""
    factor = warmup_cosine(make_oracle.WARMUP, make_oracle.STEPS, make_oracle.FLOOR)
    return make_oracle.record(
        tensorgrad, GPT(config), lambda optimizer: LambdaLR(optimizer, factor), given, dtype
    )


@pytest.mark.parametrize("with_kernels", [True, False], ids=["kernels", "composites"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_oracle(case: str, dtype: str, with_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits, loss, every gradient, ten losses, norms and rates, the weights after ten steps."""
    monkeypatch.setattr(kernels, "enabled", with_kernels)
    given = members(frozen(), case)
    theirs = members(given, dtype)
    names = set(members(theirs, "trained"))
    assert names == {name for name, _ in GPT(CASES[case]).named_parameters()}
    assert dtype == "float64" or names == set(members(theirs, "gradients"))
    ours = by_tensorgrad(CASES[case], given, dtype)
    assert {str(value.dtype) for value in members(ours, "trained").values()} == {dtype}
    assert excesses(ours, theirs) == {}


@pytest.mark.torch
def test_the_file_is_what_torch_gives() -> None:
    """All is computed again from the frozen inputs. Processors round differently, hence 3e-6."""
    for case, config in CASES.items():
        given = members(frozen(), case)
        for dtype, tolerance in (("float32", 3e-6), ("float64", 1e-11)):
            again = make_oracle.by_torch(config, given, dtype)
            for key, value in members(given, dtype).items():
                if key.startswith("trained") and dtype == "float32":
                    found = trained_deviation(again[key], value, key)
                else:
                    found = deviation(again[key], value)
                assert found <= tolerance, f"{case}/{dtype}/{key} deviates by {found:.1e}"


# what is wrong: (case, what to replace, by what, the first kind of number that shows it)
PLANTED = {
    "another gelu": ("gpt2", "gpt.model.ACTIVATIONS", {"gelu": lambda: nn.GELU("tanh")}, "logits"),
    "no positions": ("tutorial", "nn.sinusoidal_positions", tensorgrad.zeros, "logits"),
    "no clipping": ("gpt2", "make_oracle.CLIP", 1e9, "losses"),
    "another moment": ("gpt2", "make_oracle.BETAS", (0.9, 0.999), "losses"),
    "another decay": ("tutorial", "make_oracle.DECAY", 0.11, "trained"),
    "another rate": ("tutorial", "make_oracle.FLOOR", 0.11, "rates"),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_error_is_caught(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, target, value, kind = PLANTED[planted]
    monkeypatch.setattr(target, value)
    given = members(frozen(), case)
    ours = by_tensorgrad(CASES[case], given, "float32")
    assert kind in {key.partition("/")[0] for key in excesses(ours, members(given, "float32"))}


# --- every kind of model, in memory ---------------------------------------------------------------

KINDS = [
    {"activation": activation, "positions": positions, "tied": tied, "bias": bias}
    for activation in ("gelu", "gelu_tanh", "relu")
    for positions in ("learned", "sinusoidal")
    for tied in (True, False)
    for bias in (True, False)
]


@pytest.mark.torch
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", SINGLE), ("float64", DOUBLE)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
def test_every_kind_of_model(kind: dict, dtype: str, tolerance: float) -> None:
    """Logits, loss and gradients of random weights, on sequences shorter than the context."""
    import torch
    import torch_twin

    config = GPTConfig(vocab_size=19, context=12, width=12, layers=2, heads=2, **kind)
    theirs = torch_twin.GPT(config)
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    given = make_oracle.inputs(config, shapes, seed=KINDS.index(kind))
    ours = GPT(config)
    assert {n: tuple(v.shape) for n, v in ours.state_dict().items()} == shapes
    results = []
    for lib, model in ((tensorgrad, ours), (torch, theirs)):
        weights = members(given, "weights")
        model.load_state_dict({name: lib.from_numpy(value) for name, value in weights.items()})
        model.to(getattr(lib, dtype))
        tokens = lib.from_numpy(given["tokens"])[0]
        loss = model(tokens[:, 2:-1], tokens[:, 3:])
        loss.backward()
        found = {name: p.grad.numpy() for name, p in model.named_parameters()}
        logits = model(tokens[:, 2:-1]).detach().numpy()
        results.append({"loss": np.array(loss.item()), "logits": logits, **found})
    assert list(results[0]) == list(results[1])
    for name, value in results[1].items():
        assert deviation(results[0][name], value) <= tolerance, name
