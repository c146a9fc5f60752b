"""How tensors are printed: as PyTorch prints them, but for the name of the module."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tensorgrad

FLOATS = {
    "normal": lambda x: x,
    "far apart": lambda x: x * 10.0 ** np.round(x * 4),
    "whole": lambda x: np.round(x * 10),
    "large": lambda x: x * 1e4,
    "whole and huge": lambda x: np.round(x * 1e9),
    "small": lambda x: x * 1e-5,
    "nan": lambda x: np.where(x > 0.5, np.nan, x),
    "inf and whole": lambda x: np.where(x > 1, np.inf, np.where(x < -1, -np.inf, np.round(x))),
    "zeros of both signs": lambda x: x * 0,
    "only nan": lambda x: x * np.nan,
    "zero and small": lambda x: np.where(x > 0, 0, x * 1e-3),
    "one decimal": lambda x: np.round(x, 1),
}
SHAPES = [(), (1,), (3,), (2, 3), (2, 2, 2), (40,), (3, 30), (0,), (2, 0, 3), (1000,), (1001,),
          (40, 40), (7, 7, 30), (1, 1, 1, 3)]  # fmt: skip
OPTIONS = [{}, {"precision": 2}, {"linewidth": 40}, {"threshold": 20, "edgeitems": 1},
           {"sci_mode": True}, {"sci_mode": False}, {"profile": "short"},
           {"profile": "full"}]  # fmt: skip


@pytest.fixture
def printed(torch):
    """Both texts, ours with PyTorch's name; where the longer name broke the line, one line."""

    def both(array, **options):
        texts = []
        for m, make in ((tensorgrad, tensorgrad.from_numpy), (torch, torch.from_numpy)):
            m.set_printoptions(**options)
            text = repr(make(array.copy())).replace("tensorgrad.", "torch.")
            texts.append(re.sub(r",\s+dtype=", ", dtype=", text))
        return texts

    yield both
    for m in (tensorgrad, torch):
        m.set_printoptions(profile="default")


@pytest.mark.torch
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_floats(printed, kind):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for dtype in ("float32", "float64", "float16"):
            array = np.asarray(FLOATS[kind](rng.standard_normal(shape))).astype(dtype)
            ours, theirs = printed(array)
            assert ours == theirs


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "int8", "bool"])
def test_integers(printed, dtype):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        for bound in (2, 100, 100_000):
            ours, theirs = printed(np.asarray(rng.integers(-bound, bound, shape)).astype(dtype))
            assert ours == theirs


@pytest.mark.torch
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(printed, options):
    rng = np.random.default_rng(0)
    for shape in ((), (3,), (5, 7), (40, 40), (3, 2, 30)):
        for array in (rng.standard_normal(shape), np.asarray(rng.integers(0, 1000, shape))):
            ours, theirs = printed(np.asarray(array), **options)
            assert ours == theirs


def test_without_torch():
    x = tensorgrad.tensor([[1.0, -2.5], [0.0, 3.0]])
    assert repr(x) == "tensor([[ 1.0000, -2.5000],\n        [ 0.0000,  3.0000]])"
    assert repr(x.double()[0]) == "tensor([ 1.0000, -2.5000], dtype=tensorgrad.float64)"
    assert repr(x[0, 0].requires_grad_()) == "tensor(1., requires_grad=True)"
    assert repr(tensorgrad.zeros(0, 2)) == "tensor([], size=(0, 2))"
    with pytest.raises(ValueError, match="no profile 'wide', only"):
        tensorgrad.set_printoptions(profile="wide")
