"""Elementwise functions against closed forms, and against PyTorch where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_torch_parity import expressions, run, same

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


# The inputs x, f, i, … are those of test_torch_parity.py.
@pytest.mark.parametrize(
    "function", [lambda x: 1.7**x, lambda x: tensorgrad.xlogy(x, 1.7), lambda x: 1.7 / x]
)
def test_numbers_are_not_rounded_to_float32_under_create_graph(function):
    x = tensorgrad.tensor([0.3, 2.0], dtype="float64", requires_grad=True)
    (plain,) = tensorgrad.grad(function(x).sum(), x)
    (again,) = tensorgrad.grad(function(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(again.detach().numpy(), plain.numpy(), rtol=1e-14)


VALUES = expressions(
    """
    m.fmax(x, y); m.fmin(x, v); m.fmax(n, z); m.fmin(n, z); m.fmax(i, x); t.fmax(t[0]);
    m.copysign(x, y); m.copysign(i, -1); z.copysign(-1.0); x.copysign(v); m.hypot(x, y);
    m.hypot(f, i[0]); x.hypot(v); m.xlogy(x, p); m.xlogy(z, p[0, 0]); m.xlogy(0, n); p.xlogy(2);
    m.xlogy(i, i + 1); z.xlogy(z.detach().abs()); x.sinc(); z.sinc(); i.sinc(); f.detach().sinc();
    m.logaddexp2(x, y); x.logaddexp2(v); m.signbit(z); i.signbit(); x.signbit();
    m.heaviside(z.detach(), v.detach()); x.detach().heaviside(v.detach()); m.gcd(i * 6, i[0] + 4);
    m.lcm(i + 2, k[0, 0]); (i - 9).gcd(m.tensor(6)); u.lcm(u[0]); i << 1; 1 << i; (i * 9) >> 2;
    64 >> i; i << i; u << u[0]; u >> 1; b << 1; i.bitwise_left_shift(2); i.bitwise_right_shift(j);
    m.bitwise_left_shift(3, i); m.rsub(x, y); m.rsub(i, 3, alpha=2); m.rsub(i, x);
    x.subtract(y, alpha=2); x.positive() is x; +x; i.positive(); m.float_power(p, 2);
    m.float_power(2, i); f.abs().float_power(f); (i + 1).float_power(x); m.ldexp(x, k[0, 0]);
    f.ldexp(i[0]); i.ldexp(i); x.deg2rad(); i.deg2rad(); x.rad2deg(); f.rad2deg(); x.fix();
    x.detach().sgn(); i.sgn(); n.isposinf(); n.isneginf(); i.isposinf(); x.isreal(); i.isreal();
    s.is_nonzero(), j.is_nonzero(), c[1].is_nonzero(); x.not_equal(y); x.less(y); x.less_equal(0);
    x.greater(v); x.greater_equal(y); x.detach() // 0.3; x.detach() // p.detach();
    p.detach() // 0.1; f.detach() // 0.1; i // 2; i // -2; (i - 2) // 3; u // 3; x % 0.3; -x % p;
    n % 2; n.detach() // 2; m.tensor([1.0]) // 0.1; n.detach().floor_divide(0.0); n.fmod(2);
    z.detach() // 0.0; 1 // p.detach(); z % 0.0; z.fmod(0.0); x.fmod(p); (i - 2) % 3; (i - 2) % -3;
    (i - 2).fmod(3); x.div(p, rounding_mode='floor'); x.div(p, rounding_mode='trunc');
    (i - 2).div(2, rounding_mode='trunc'); (i - 2).div(-2, rounding_mode='floor');
    x.div(i + 1, rounding_mode='floor'); i.div(2.5, rounding_mode='trunc'); 7 % (i + 2);
    2.5 % (i + 2); x.clamp(y.detach() - 1, y.detach()); x.clamp(min=v); x.clamp(max=s); i.clamp(1);
    i.clamp(min=1.5); i.clamp(m.tensor(0.5), m.tensor(1)); n.clamp(0, 1);
    x.clamp(-0.5, float('nan')); x.clamp(m.tensor(-0.5, dtype=m.float64), y.detach());
    x.clamp(0.5, -0.5); x.clip(y, v); b.clamp(0, 1); u + 300; u - 250; u * 2; -u; u // 7; u == 300;
    u > -1; u.to(m.int8) + 100; i + 2 ** 40; u ** 2; u.to(m.int8) * 3; i ** 3; i.pow(0.5);
    m.pow(2.0, i); x.round(decimals=1); x.logit(1e-6); (p / 3).logit(); x.lerp(y, 0.3);
    x.lerp(y, p); x.addcmul(y, p, value=0.5); x.addcdiv(y, p, value=2); i.addcmul(i, i, value=2);
    x.nan_to_num(); n.nan_to_num(); n.nan_to_num(1.0, 2.0, 3.0); x.isclose(y); x.allclose(y);
    x.equal(x), x.equal(y), i.equal(i.double()); m.logical_xor(x, i); b.logical_xor(b[0]);
    x.floor(), x.ceil(), x.trunc(), x.frac(), i.floor(); i.square(); b.square(); i.reciprocal();
    i.rsqrt(); i.erf(); b.sigmoid(); u.sigmoid(); i.tan(), i.exp2(), i.log1p(); x.atan2(y);
    i.atan2(i + 1); x.logaddexp(y); p.log2(), p.log10(), p.log1p(), p.expm1();
    x.detach().clamp_(-0.5, 0.5); i.clamp_(1, 2); x.detach().hypot_(y.detach()); x.detach().fix_();
    i.gcd_(i + 4); i.bitwise_left_shift_(1); x.detach().xlogy_(p.detach());
    x.detach().copysign_(y.detach()); x.detach().float_power_(2); x.detach().greater_(0);
    i.subtract_(1); x.detach().heaviside_(v.detach()); f.detach().deg2rad_(); p.detach().sinc_()
"""
)
ERRORS = expressions(
    """
    i // 0; i % 0; i.fmod(0); i.div(0, rounding_mode='trunc'); 3 // (i * 0); x << 1; x >> i;
    1.5 << i; m.gcd(x, x); i.gcd(x); m.lcm(i, x); m.heaviside(x, f); m.heaviside(i, x);
    b.positive(); +b; i.add_(x); i.hypot_(x); x.clamp(); x.div(y, rounding_mode='up')
"""
)


@pytest.mark.torch
@pytest.mark.parametrize("line", VALUES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_values_are_those_of_torch(torch, line):
    ours, theirs = run(tensorgrad, line), run(torch, line)
    assert not isinstance(theirs, str), f"PyTorch refuses this: {theirs}"
    assert same(ours, theirs), f"tensorgrad: {ours}\nPyTorch:    {theirs}"


@pytest.mark.torch
@pytest.mark.parametrize("line", ERRORS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_errors_are_those_of_torch(torch, line):
    theirs = run(torch, line)
    assert isinstance(theirs, str), f"PyTorch accepts this: {theirs}"
    assert run(tensorgrad, line) == theirs
