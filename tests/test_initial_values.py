"""What layers start with, against PyTorch's of the same class and arguments: mean and standard
deviation of what is drawn agree within five standard errors, constants exactly."""

from __future__ import annotations

import inspect
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nn
import tensorgrad
import tensorgrad.nn

# Made with arguments for which in and out differ, so that one fan is not taken for the other.
MADE = """
    Linear(9, 25); Linear(100, 4, bias=False); Bilinear(20, 9, 5); Embedding(30, 40)
    Embedding(30, 40, padding_idx=3); PReLU(); PReLU(6, 0.1)
    LayerNorm((3, 4)); RMSNorm(5); GroupNorm(2, 6)
    BatchNorm1d(5); BatchNorm2d(5); BatchNorm3d(5); InstanceNorm1d(5, affine=True)
    InstanceNorm2d(5, affine=True, track_running_stats=True); InstanceNorm3d(5, affine=True)
    Conv1d(6, 20, 3, groups=2); Conv2d(6, 20, (3, 2)); Conv3d(4, 20, 2)
    ConvTranspose1d(20, 8, 3, groups=2); ConvTranspose2d(20, 4, (3, 2)); ConvTranspose3d(20, 4, 2)
    RNN(9, 16); LSTM(9, 16, num_layers=2); LSTM(9, 16, proj_size=4); GRU(9, 16, bidirectional=True)
    RNNCell(9, 16); LSTMCell(9, 16); GRUCell(9, 16)
    MultiheadAttention(16, 2); MultiheadAttention(16, 2, add_bias_kv=True, kdim=5, vdim=9)
    MultiheadAttention(16, 2, bias=False)
    TransformerEncoderLayer(16, 2, 40); TransformerDecoderLayer(16, 2, 40)
    TransformerEncoder(TransformerEncoderLayer(16, 2, 40), 2)
    TransformerDecoder(TransformerDecoderLayer(16, 2, 40), 1)
    Transformer(16, 2, 1, 1, 40); Sequential(Linear(9, 25))
"""
CALLS = [call for part in MADE.replace("\n", ";").split(";") if (call := part.strip())]
# Their parameters are the user's.
HOLDERS = {"Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
TIMES = 40


def drawn(lib: ModuleType, call: str) -> dict[str, np.ndarray]:
    """All values of each member of the state in TIMES modules: [TIMES, ...]."""
    states = [eval(call, dict(vars(lib.nn))).state_dict() for _ in range(TIMES)]
    return {name: np.stack([np.array(s[name].numpy()) for s in states]) for name in states[0]}


def spread(x: np.ndarray) -> tuple[float, float, float, float]:
    """Mean and standard deviation, and the standard errors of both."""
    x = x.astype(np.float64).ravel()
    deviation = x.std()
    kurtosis = ((x - x.mean()) ** 4).mean() / deviation**4
    error = deviation / math.sqrt(x.size)
    return x.mean(), deviation, error, error * math.sqrt((kurtosis - 1) / 4)


def differs(ours: np.ndarray, theirs: np.ndarray) -> str:
    """What is not the same about two samples; nothing for samples of one distribution."""
    if np.ptp(theirs) == 0 or np.ptp(ours) == 0:
        return "" if (ours == theirs).all() else f"constant {theirs.flat[0]}, not {ours.flat[0]}"
    a, b = spread(ours), spread(theirs)
    for i, what in enumerate(("mean", "standard deviation")):
        if abs(a[i] - b[i]) > 5 * math.hypot(a[2 + i], b[2 + i]):
            return f"{what} {b[i]:.4f}, not {a[i]:.4f}"
    return ""


@pytest.mark.torch
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.filterwarnings("ignore:.*nested_tensor:UserWarning")
def test_initial_values(torch: ModuleType, call: str) -> None:
    tensorgrad.manual_seed(1)
    torch.manual_seed(1)
    ours, theirs = drawn(tensorgrad, call), drawn(torch, call)
    assert list(ours) == list(theirs)
    assert {name: differs(ours[name], theirs[name]) for name in ours} == dict.fromkeys(ours, "")
    if "padding_idx" in call:
        assert not ours["weight"][:, 3].any()


def test_a_planted_difference_is_seen() -> None:
    rng = np.random.default_rng(0)
    sample = rng.uniform(-0.3, 0.3, (TIMES, 25, 9))
    assert not differs(sample, rng.uniform(-0.3, 0.3, (TIMES, 25, 9)))
    assert "standard" in differs(sample * 1.05, sample)
    assert "standard" in differs(sample / math.sqrt(3), sample)
    assert "mean" in differs(sample + 0.02, sample)
    assert "constant 0.0" in differs(sample, np.zeros_like(sample))


def test_every_layer_with_parameters_is_here() -> None:
    found = set()
    for name, cls in vars(nn).items():
        if inspect.isclass(cls) and issubclass(cls, nn.Module) and name not in HOLDERS:
            module: Any = cls.example()[0]
            if module.state_dict():
                found.add(name)
    listed = {call.partition("(")[0] for call in CALLS}
    assert found - listed == {"LearnedPositions"}  # PyTorch has none
    assert len(listed) > 30
