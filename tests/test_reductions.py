"""Reductions and scans against closed forms, and against PyTorch to the second derivative."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest

import tensorgrad
from tensorgrad import tensor
from tensorgrad.testing import gradcheck, gradgradcheck

nan, inf = math.nan, math.inf


def leaf(values):
    return tensor(values, dtype="float64", requires_grad=True)


def hessian(f, values):
    """The matrix of second derivatives of a scalar function of a vector."""
    x = leaf(values)
    (g,) = tensorgrad.grad(f(x), [x], create_graph=True)
    rows = []
    for gi in g:
        (row,) = tensorgrad.grad(gi, [x], retain_graph=True) if gi.requires_grad else (None,)
        rows.append([0.0] * len(values) if row is None else row.tolist())
    return np.array(rows)


# --- products -------------------------------------------------------------------------------------

FACTORS = {
    "no zero": [2.0, -3.0, 0.5, 4.0],
    "one zero": [2.0, 0.0, 0.5, 4.0],
    "the first": [0.0, -3.0, 0.5, 4.0],
    "the last": [2.0, -3.0, 0.5, 0.0],
    "two zeros": [2.0, 0.0, 0.0, 4.0],
    "three zeros": [0.0, -3.0, 0.0, 0.0],
    "negative zero": [2.0, -0.0, 3.0, 4.0],
    "one factor": [3.0],
    "three factors": [0.0, 2.0, 0.0],
    "five factors": [2.0, 0.0, 3.0, 5.0, 7.0],
    "nine factors": [2.0, 3.0, 0.0, 1.5, 1.0, -1.0, 0.0, 2.0, 3.0],
}


def but(x, *out):
    """The product of all factors but some."""
    return np.prod([v for i, v in enumerate(x) if i not in out])


def cross(x, weigh):
    """The Hessian of ``weigh`` over the sub-products that contain both of two factors."""
    n = len(x)
    pairs = itertools.product(range(n), range(n))
    return np.array([0.0 if i == j else weigh(i, j) for i, j in pairs]).reshape(n, n)


@pytest.mark.parametrize("values", FACTORS.values(), ids=FACTORS)
def test_derivatives_of_a_product(values):
    x = leaf(values)
    y = x.prod()
    y.backward()
    assert y.item() == math.prod(values)
    np.testing.assert_allclose(x.grad.numpy(), [but(values, i) for i in range(len(values))])
    expected = cross(values, lambda i, j: but(values, i, j))
    np.testing.assert_allclose(hessian(lambda x: x.prod(), values), expected)
    np.testing.assert_allclose(hessian(lambda x: x.prod(0), values), expected)


@pytest.mark.parametrize("values", FACTORS.values(), ids=FACTORS)
def test_derivatives_of_running_products(values):
    n = len(values)
    weights = np.cos(np.arange(n))

    def weighted(x):
        return (x.cumprod(0) * tensor(weights)).sum()

    def those_with(*factors):
        """The weighted products up to each position that contain the factors, without them."""
        return sum(w * but(values[: k + 1], *factors)
                   for k, w in enumerate(weights) if k >= max(factors))  # fmt: skip

    x = leaf(values)
    weighted(x).backward()
    np.testing.assert_allclose(x.grad.numpy(), [those_with(i) for i in range(n)], atol=1e-14)
    np.testing.assert_allclose(hessian(weighted, values), cross(values, those_with), atol=1e-14)


def test_products_do_not_divide():
    """A quotient would lose what over- or underflows as a whole."""
    x = leaf([1e200, 1e200, 1e-300])
    with pytest.warns(RuntimeWarning, match="overflow"):
        x.prod().backward()
    assert x.grad.tolist() == pytest.approx([1e-100, 1e-100, inf])
    x = leaf([1e-200, 1e-200, 1.0])
    x.prod().backward()
    assert x.grad.tolist() == [1e-200, 1e-200, 0.0]


def test_products_of_integers():
    assert tensor([2, 3], dtype="uint8").prod().dtype == "int64"
    assert tensor([True, True]).prod().tolist() == 1
    assert tensor([100, 100], dtype="int8").cumprod(0).tolist() == [100, 10000]
    x = tensor([100, 100], dtype="uint8")
    assert x.cumprod_(0).tolist() == [100, 10000 % 256]
    assert (x.dtype, tensor([1.5]).prod(dtype="int64").tolist()) == ("uint8", 1)


# --- scans ----------------------------------------------------------------------------------------


def test_scans_written_in_place():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    y = x * 1
    row = y[0]
    row.cumsum_(0)  # a view: y changes too
    y.cumprod_(0)
    assert y.tolist() == [[1.0, 3.0], [3.0, 12.0]]
    y.sum().backward()  # a + (a + b) + a c + (a + b) d
    assert x.grad.tolist() == [[9.0, 5.0], [1.0, 3.0]]


def test_running_sums_are_as_exact_as_sums():
    x = tensorgrad.full((200_000,), 0.1)
    assert x.cumsum(0)[-1].item() == pytest.approx(20000, rel=1e-7)
    assert x[:3].to("float16").cumsum(0).dtype == "float16"


def test_logcumsumexp_does_not_overflow():
    x = leaf([1000.0, 1000.0, -1000.0, 2000.0])
    y = x.logcumsumexp(0)
    assert y.tolist() == [1000.0, 1000 + math.log(2), 1000 + math.log(2), 2000.0]
    y.sum().backward()
    assert x.grad.tolist() == pytest.approx([2.0, 1.0, 0.0, 1.0])
    assert leaf([-inf, -inf, 3.0]).logcumsumexp(0).tolist() == [-inf, -inf, 3.0]
    # A gradient of 0 has a derivative itself, which logarithms of gradients would lose.
    g = leaf([0.0, 1.0, 0.0])
    x = leaf([0.3, -0.2, 0.9])
    (dx,) = tensorgrad.grad(x.logcumsumexp(0), [x], [g], create_graph=True)
    dx.sum().backward()
    assert g.grad.tolist() == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "values", "indices"),
    [
        ("cummax", [3.0, 1.0, 3.0, 4.0], [0, 0, 2, 3]),
        ("cummin", [3.0, 3.0, 4.0, -1.0], [0, 1, 1, 3]),
        ("cummax", [1.0, nan, 3.0, nan], [0, 1, 1, 3]),
        ("cummin", [-inf, 2.0, nan, -inf], [0, 0, 2, 2]),
    ],
)
def test_running_extremes(name, values, indices):
    x = leaf(values)
    found = getattr(x, name)(0)
    assert found.indices.tolist() == indices
    np.testing.assert_array_equal(found.values.detach().numpy(), np.array(values)[indices])
    found.values.sum().backward()
    assert x.grad.tolist() == np.bincount(indices, minlength=len(values)).tolist()


def test_scans_of_a_single_number():
    s = leaf(2.0)
    for name in ("cumsum", "cumprod", "logcumsumexp"):
        assert getattr(s, name)(-1).shape == ()
    assert s.cummax(0).indices.shape == ()
    with pytest.raises(IndexError, match="dim 1 is out of range"):
        s.cumsum(1)


# --- sums, means, variances -----------------------------------------------------------------------


def test_nan_left_out():
    x = leaf([[1.0, nan, 4.0], [nan, nan, 2.0]])
    assert x.nansum(1).tolist() == [5.0, 2.0]
    y = x.nanmean(1)
    assert y.tolist() == [2.5, 2.0]
    y.sum().backward()
    assert x.grad.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]
    assert tensor([True, True]).nansum().tolist() == 2
    assert x.count_nonzero((0, 1)).tolist() == 6
    assert tensor([[1, 0], [2, 3]]).count_nonzero(0).tolist() == [2, 1]


def test_variances():
    x = tensor([[1.0, 2.0, 6.0], [3.0, 3.0, 9.0]], dtype="float64")
    for ddof in (0, 1, 2, 0.5):
        for dim in (0, 1, (0, 1), None):
            expected = np.var(x.numpy(), axis=dim, ddof=ddof) if dim != 0 or ddof < 2 else None
            if expected is not None:
                v, mean = tensorgrad.var_mean(x, dim, correction=ddof)
                np.testing.assert_allclose(v.numpy(), expected)
                np.testing.assert_allclose(mean.numpy(), x.numpy().mean(axis=dim))
                s, _ = tensorgrad.std_mean(x, dim, correction=ddof, keepdim=True)
                np.testing.assert_allclose(s.numpy().reshape(expected.shape), expected**0.5)


def test_unbiased_by_position():
    """The old order of the arguments: dim, unbiased, keepdim, or unbiased alone."""
    x = tensor([[1.0, 3.0]])
    assert x.var(False).item() == 1.0
    assert x.var(True).item() == 2.0
    assert x.var(1, False).tolist() == [1.0]
    assert x.std(1, False, True).tolist() == [[1.0]]
    assert [t.tolist() for t in tensorgrad.var_mean(x, 1, False)] == [[1.0], [2.0]]
    with pytest.raises(TypeError, match="std: give unbiased or correction"):
        x.std(1, unbiased=True, correction=1)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: tensor([1.0]).var(), nan),
        (lambda: tensor([1.0]).std(), nan),
        (lambda: tensor([1.0, 2.0]).var(0, correction=2), inf),
        (lambda: tensor([1.0, 2.0]).var(0, correction=3), inf),  # not a negative variance
        (lambda: tensorgrad.zeros(0).var(correction=0), nan),
        (lambda: tensorgrad.var_mean(tensor([1.0]))[0], nan),
    ],
)
def test_no_degrees_of_freedom(call, expected):
    with pytest.warns(UserWarning, match=r"(var|std|var_mean): .* no degrees of freedom") as caught:
        assert repr(call().item()) == repr(expected)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # where it was asked for


def test_the_gradient_of_no_degrees_of_freedom():
    x = leaf([2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x.var(0).sum().backward()  # was a ZeroDivisionError
    assert math.isnan(x.grad.item())


# --- extremes and truth ---------------------------------------------------------------------------


def test_nans_that_are_the_maximum():
    x = leaf([1.0, nan, nan])
    x.max().backward()
    assert x.grad.tolist() == [0.0, 0.5, 0.5]
    assert math.isnan(x.min().item())
    assert x.argmax().item() == x.argmin().item() == x.min(0).indices.item() == 1


def test_aminmax():
    x = leaf([[2.0, 2.0], [1.0, 5.0]])
    both = x.aminmax(dim=1)
    assert (both.min.tolist(), both.max.tolist()) == ([2.0, 1.0], [2.0, 5.0])
    (both.min.sum() + 10 * both.max.sum()).backward()
    assert x.grad.tolist() == [[5.5, 5.5], [1.0, 10.0]]


def test_truth_over_dims():
    x = tensor([[[1, 0], [0, 0]], [[0, 2], [0, 0]]])
    assert x.any((0, 2)).tolist() == [True, False]
    assert x.all((0, 1, 2), keepdim=True).tolist() == [[[False]]]
    assert x[0].any(()).tolist() == [[True, False], [False, False]]  # over no dim at all
    assert x.to("uint8").any().dtype == "uint8"


def test_nothing_to_reduce():
    e = tensorgrad.zeros(0, 3)
    assert e.prod(0).tolist() == [1.0] * 3
    assert e.nansum().item() == 0
    assert (e.amax(1).shape, e.cumsum(0).shape, e.cummax(0).values.shape) == ((0,), (0, 3), (0, 3))
    assert (e.softmax(0).shape, e.log_softmax(0).shape) == ((0, 3), (0, 3))
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert e.logsumexp(0).tolist() == [-inf] * 3
    for name in ("max", "min", "amax", "amin", "argmax"):
        with pytest.raises(IndexError, match=rf"{name}: nothing to choose from in shape \(0, 3\)"):
            getattr(e, name)(0)
    with pytest.raises(RuntimeError, match="amax: nothing to choose from"):
        e.amax()


def test_complaints():
    with pytest.raises(RuntimeError, match="argmax: takes no bools"):
        tensor([True]).argmax()
    with pytest.raises(RuntimeError, match=r"nanmean: needs a float dtype, not tensorgrad\.int64"):
        tensor([1]).nanmean()
    with pytest.raises(RuntimeError, match="logcumsumexp: needs a float dtype"):
        tensor([1]).logcumsumexp(0)


# --- against PyTorch ------------------------------------------------------------------------------

DIFFERENTIABLE = {
    "prod": lambda m, x: x.prod(-1),
    "prod of all": lambda m, x: x.prod(),
    "cumprod": lambda m, x: x.cumprod(0),
    "cumsum": lambda m, x: x.cumsum(-1) ** 2,
    "logcumsumexp": lambda m, x: x.logcumsumexp(-1),
    "logcumsumexp, wide": lambda m, x: (x * 40).logcumsumexp(0),
    "cummax": lambda m, x: x.cummax(-1)[0] ** 2,
    "var_mean": lambda m, x: sum(m.var_mean(x, -1, correction=0)),
    "std_mean": lambda m, x: sum(m.std_mean(x + m.arange(x.shape[-1]), -1)),
    "nanmean": lambda m, x: x.nanmean(-1) ** 2,
    "max": lambda m, x: x.max() ** 2,
    "aminmax": lambda m, x: sum(x.aminmax(dim=0)) ** 2,
}


@pytest.mark.torch
@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivatives_are_those_of_torch(torch, name, zeros):
    rng = np.random.default_rng(0)
    for shape in ((5,), (3, 4), (2, 3, 7), (1, 2)):
        values = np.where(rng.random(shape) < zeros, 0.0, rng.standard_normal(shape))
        results = []
        for m in (tensorgrad, torch):
            x = m.from_numpy(values.copy()).requires_grad_()
            y = DIFFERENTIABLE[name](m, x)
            g = m.from_numpy(np.cos(np.arange(y.numel())).reshape(y.shape)).requires_grad_()
            (dx,) = (torch.autograd if m is torch else tensorgrad).grad(
                [y], [x], [g], create_graph=True
            )
            (dx * m.from_numpy(np.sin(1.0 + np.arange(x.numel())).reshape(shape))).sum().backward()
            second = [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (x, g)]
            results.append([y.detach().numpy(), dx.detach().numpy(), *second])
        for ours, theirs in zip(*results, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_composites(check):
    x = leaf(np.random.default_rng(3).standard_normal((3, 4)))
    assert check(lambda x: tensorgrad.var_mean(x, 0), [x])
    assert check(lambda x: tensorgrad.std_mean(x, (0, 1)), [x])
    assert check(lambda x: x.nanmean(1), [x])
    assert check(lambda x: x.cumprod(1).cumsum(0), [x])
    assert check(lambda x: x.cummin(1).values ** 2, [x])
