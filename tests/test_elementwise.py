"""Elementwise functions against closed forms, and against PyTorch where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tensorgrad
from tensorgrad import functions

ANYWHERE = np.array([-2.5, -1.0, -0.3, 0.0, 0.4, 1.0, 1.5, 3.7])
INSIDE = np.array([-0.99, -0.5, -1e-3, 0.0, 0.2, 0.75])
POSITIVE = np.array([1e-3, 0.5, 1.0, 2.5, 30.0])
UNARY = {
    ANYWHERE.tobytes(): "square exp2 expm1 tan atan arctan sinh cosh asinh arcsinh sigmoid erfc "
    "floor ceil trunc round frac isinf nan_to_num absolute negative",
    INSIDE.tobytes(): "asin acos arcsin arccos atanh arctanh erfinv log1p",
    POSITIVE.tobytes(): "rsqrt reciprocal log2 log10 log1p",
    (POSITIVE + 1).tobytes(): "acosh arccosh",
    ((INSIDE + 1) / 2).tobytes(): "logit",
}
CASES = [(np.frombuffer(x), name) for x, names in UNARY.items() for name in names.split()]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("values", "name"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_unary_is_that_of_torch(values, name, dtype):
    import torch

    results = []
    for lib in (tensorgrad, torch):
        x = lib.from_numpy(values.astype(dtype)).requires_grad_()
        for y in (getattr(lib, name)(x), getattr(x, name)()):
            if y.requires_grad:
                x.grad = None
                y.sum().backward()
        results.append([y.detach().numpy(), None if x.grad is None else x.grad.numpy()])
    tolerance = 1e-12 if dtype == "float64" else 2e-6
    for ours, theirs in zip(*results, strict=True):
        if theirs is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


BINARY = {
    "atan2": {}, "arctan2": {}, "fmod": {}, "remainder": {}, "floor_divide": {}, "logaddexp": {},
    "div": {"rounding_mode": "trunc"}, "divide": {"rounding_mode": "floor"}, "true_divide": {},
    "multiply": {}, "clamp_min": {}, "clamp_max": {},
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["floats", "integers", "number", "mixed"])
@pytest.mark.parametrize("name", BINARY)
def test_binary_is_that_of_torch(name, kind):
    import torch

    if kind in ("integers", "number") and name == "logaddexp":
        pytest.skip("torch has it for two float tensors only")
    if kind == "number" and name in ("atan2", "arctan2"):
        pytest.skip("torch has it for tensors only")
    a = np.array([-7.5, -3.0, -0.5, 0.5, 3.0, 7.5])
    b = np.array([[2.0], [-2.0], [3.5]])
    if kind == "integers":
        a, b = np.array([-7, -3, -1, 1, 3, 7]), np.array([[2], [-2], [3]])
    if kind == "mixed":
        b = np.array([[2], [-2], [3]])
    results = []
    for lib in (tensorgrad, torch):
        x = lib.from_numpy(a)
        y = 2.5 if kind == "number" else lib.from_numpy(b)
        floats = [t.requires_grad_() for t in (x, y) if getattr(t, "dtype", 0) == lib.float64]
        z = getattr(lib, name)(x, y, **BINARY[name])
        if floats and z.requires_grad and name != "floor_divide":  # torch has no derivative
            z.sum().backward()
        results.append(
            [z.detach().numpy(), *[np.asarray(t.grad) for t in floats if t.grad is not None]]
        )
    for ours, theirs in zip(*results):
        assert ours.dtype == theirs.dtype
        tolerance = 2e-6 if ours.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_clamp():
    x = tensorgrad.tensor([-2.0, -1.0, 0.5, 1.0, 3.0], requires_grad=True)
    y = x.clamp(-1, 1)
    y.sum().backward()
    assert y.tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0]
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]  # the bounds themselves let it through
    assert x.detach().clamp(min=0).tolist() == [0.0, 0.0, 0.5, 1.0, 3.0]
    assert x.detach().clamp(2, 1).tolist() == [1.0] * 5  # the upper bound has the last word
    with pytest.raises(RuntimeError, match="at least one of min and max"):
        x.clamp()


def test_divisions_of_integers_are_exact():
    big = 2**53 + 1  # has no float64 of its own
    x = tensorgrad.tensor([big, -big, 7, -7])
    assert (x // 2).tolist() == [big // 2, -big // 2, 3, -4]
    assert x.div(2, rounding_mode="trunc").tolist() == [big // 2, -(big // 2), 3, -3]
    assert (x % 5).tolist() == [big % 5, -big % 5, 2, 3]
    assert (20 // tensorgrad.tensor([3, -3])).tolist() == [6, -7]
    assert (20 % tensorgrad.tensor([3, -3])).tolist() == [2, -1]
    with pytest.raises(RuntimeError, match="rounding_mode"):
        x.div(2, rounding_mode="up")


def test_erfinv_undoes_erf():
    x = tensorgrad.linspace(-5, 5, 401, dtype=tensorgrad.float64)
    back = x.erf().erfinv()
    # Near 1 a rounding of erf is a large step in x: exp(x^2) roundings.
    allowed = 4e-16 * (1 + (x * x).exp())
    assert ((back - x).abs() <= allowed).all()
    ends = tensorgrad.tensor([1.0, -1.0, 2.0]).erfinv().tolist()
    assert ends[:2] == [math.inf, -math.inf]
    assert math.isnan(ends[2])


def test_sigmoid_does_not_overflow():
    x = tensorgrad.tensor([-1000.0, -20.0, 0.0, 1000.0], requires_grad=True)
    y = x.sigmoid()
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), [0, 1 / (1 + math.exp(20)), 0.5, 1], rtol=1e-6)
    assert x.grad.isfinite().all()


def test_nan_to_num_and_comparisons():
    x = tensorgrad.tensor([math.nan, math.inf, -math.inf, 1.0])
    top = float(np.finfo("float32").max)
    assert x.nan_to_num().tolist() == [0.0, top, -top, 1.0]
    assert x.nan_to_num(nan=1, posinf=2, neginf=3).tolist() == [1.0, 2.0, 3.0, 1.0]
    assert not x.equal(x)
    assert x.isclose(x, equal_nan=True).all()
    assert tensorgrad.allclose(tensorgrad.ones(2), tensorgrad.ones(2) + 1e-7)


def test_every_name_is_function_and_method():
    for name, function in functions.METHODS.items():
        assert getattr(tensorgrad.Tensor, name) is function
    for name in functions.IN_PLACE:
        assert callable(getattr(tensorgrad.Tensor, name))
    for name in functions.__all__:
        assert callable(getattr(tensorgrad, name))
    x = tensorgrad.tensor([4.0])
    assert x.rsqrt_() is x
    assert x.item() == 0.5
