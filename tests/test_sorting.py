"""Sorting, order statistics and counting, against NumPy and closed forms, and against PyTorch."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

import tensorgrad
from tensorgrad import tensor
from tensorgrad.testing import gradcheck, gradgradcheck

nan, inf = math.nan, math.inf


def leaf(values):
    return tensor(values, dtype="float64", requires_grad=True)


def gradient(f, values):
    x = leaf(values)
    f(x).sum().backward()
    return x.grad.tolist()


# --- sorting --------------------------------------------------------------------------------------


def test_sorts_are_stable():
    x = tensor(np.random.default_rng(0).integers(0, 4, (3, 50)))
    for dim in (0, 1, -1):
        order = np.argsort(x.numpy(), axis=dim, kind="stable")
        assert x.argsort(dim=dim, stable=True).tolist() == order.tolist()
        assert x.sort(dim, stable=False).indices.tolist() == order.tolist()
        order = np.argsort(-x.numpy(), axis=dim, kind="stable")
        assert x.sort(dim, True).indices.tolist() == order.tolist()
        assert x.argsort(dim, descending=True).tolist() == order.tolist()
    assert x.msort().tolist() == np.sort(x.numpy(), axis=0).tolist()


def test_nan_is_the_largest():
    x = leaf([1.0, nan, inf, -1.0])
    assert x.argsort().tolist() == [3, 0, 2, 1]
    assert x.argsort(descending=True).tolist() == [1, 2, 0, 3]
    assert x.topk(2).indices.tolist() == [1, 2]
    assert x.topk(2, largest=False, sorted=False).indices.tolist() == [3, 0]
    assert x.kthvalue(4).indices.item() == 1
    assert math.isnan(x.quantile(0.0).item())


def test_a_number_is_sorted_already():
    s = leaf(2.0)
    for found in (s.sort(), s.sort(0, True), s.topk(1), s.kthvalue(1), s.median(0), s.mode()):
        assert (found.values.item(), found.indices.item()) == (2.0, 0)
        assert found.values.shape == found.indices.shape == ()
    assert s.argsort().shape == ()
    assert s.quantile(0.3).item() == 2.0


def test_topk():
    x = leaf([[3.0, 1.0, 2.0], [5.0, 6.0, 4.0]])
    top = x.topk(2)
    assert top.values.tolist() == [[3.0, 2.0], [6.0, 5.0]]
    top.values.sum().backward()
    assert x.grad.tolist() == [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    assert x.topk(1, dim=0, largest=False).indices.tolist() == [[0, 0, 0]]
    assert top.indices.array.base is None  # k indices, not a view of all of them


# --- places in the order --------------------------------------------------------------------------


def test_medians():
    assert tensor([4, 1, 3, 2]).median().item() == 2  # the lower of the two in the middle
    x = leaf([[5.0, 1.0, 3.0, 2.0], [0.0, -1.0, 2.0, 1.0]])
    found = x.median(1)
    assert (found.values.tolist(), found.indices.tolist()) == ([2.0, 0.0], [3, 0])
    found.values.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]]
    assert x.median(0, keepdim=True).indices.tolist() == [[1, 1, 1, 1]]


def test_the_gradient_of_a_median():
    """Equal elements share it without a dim; with one it goes to the index."""
    assert gradient(lambda x: x.median(), [[1.0, 2.0], [2.0, 3.0]]) == [[0.0, 0.5], [0.5, 0.0]]
    assert gradient(lambda x: x.median(), [1.0, nan, nan]) == [0.0, 0.5, 0.5]
    assert gradient(lambda x: x.nanmedian(), [1.0, nan, 2.0]) == [1.0, 0.0, 0.0]
    assert sum(gradient(lambda x: x.median(0)[0], [1.0, 2.0, 2.0])) == 1.0


def test_medians_with_nan():
    x = tensor([[1.0, nan, 3.0, nan], [1.0, 2.0, 3.0, 4.0], [nan, nan, nan, nan]])
    assert x.median(1).indices.tolist() == [1, 1, 0]  # the first nan
    assert x.nanmedian(1).indices.tolist() == [0, 1, 0]
    assert x.nanmedian().item() == 2.0
    assert math.isnan(x.median().item())
    assert math.isnan(tensorgrad.zeros(0).median().item())


def test_kthvalue():
    x = leaf([[5.0, 1.0, 3.0], [0.0, -1.0, 2.0]])
    assert x.kthvalue(2).values.tolist() == [3.0, 0.0]
    assert x.kthvalue(1, 0, True).indices.tolist() == [[1, 1, 1]]
    assert gradient(lambda x: x.kthvalue(3).values, [[5.0, 1.0, 3.0]]) == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("method", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("dim", [None, 0, -1])
def test_quantiles_are_those_of_numpy(method, dim):
    x = np.random.default_rng(0).standard_normal((5, 8))
    q = np.array([0.0, 0.23, 0.5, 0.81, 1.0])
    for keepdim in (False, True):
        for fraction, given in ((q, tensor(q, dtype="float64")), (0.37, 0.37)):
            expected = np.quantile(x, fraction, axis=dim, keepdims=keepdim, method=method)
            y = tensor(x).quantile(given, dim, keepdim, interpolation=method)
            np.testing.assert_allclose(y.numpy(), expected, atol=1e-14)
    x[2, 3] = x[4, 0] = nan
    expected = np.nanquantile(x, 0.37, axis=dim, method=method)
    y = tensor(x).nanquantile(0.37, dim, interpolation=method)
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_derivatives(check):
    x = leaf(np.random.default_rng(3).standard_normal((3, 4)))
    q = leaf([0.1, 0.77])
    assert check(lambda x, q: x.quantile(q, 1), [x, q])
    assert check(lambda x: x.nanquantile(0.4, 0, interpolation="midpoint"), [x])
    assert check(lambda x: (x.sort(0, True).values * x, x.topk(2).values ** 2), [x])
    assert check(lambda x: (x.median() * x, x.median(1).values, x.kthvalue(2, 0).values), [x])
    assert check(lambda x: x.unique(), [x])
    assert check(lambda w: tensor([1, 0, 3, 1]).bincount(w), [leaf([0.3, 0.5, 1.5, -1.0])])


# --- counting -------------------------------------------------------------------------------------


def test_mode():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 20):
        x = rng.integers(0, 5, (10, n))
        found = tensor(x).mode()
        for row, value, index in zip(x, found.values.tolist(), found.indices.tolist()):
            counts = Counter(row.tolist())
            most = max(counts.values())
            assert value == min(v for v, c in counts.items() if c == most)
            assert index == max(i for i, v in enumerate(row) if v == value)
    assert tensor([[1, 2], [1, 3]]).mode(0, keepdim=True).values.tolist() == [[1, 2]]
    assert gradient(lambda x: x.mode()[0], [1.0, 2.0, 2.0, 0.0]) == [0.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("dim", [None, 0, 1, 2])
def test_unique_is_that_of_numpy(dim):
    x = np.random.default_rng(0).integers(0, 2, (6, 2, 2)).transpose(2, 0, 1)
    values, inverse, counts = tensor(x).unique(return_inverse=True, return_counts=True, dim=dim)
    expected, back, number = np.unique(x, return_inverse=True, return_counts=True, axis=dim)
    assert values.tolist() == expected.tolist()
    assert inverse.flatten().tolist() == back.ravel().tolist()
    assert inverse.shape == (x.shape if dim is None else (x.shape[dim],))
    assert counts.tolist() == number.tolist()
    assert tensor(x).unique(dim=dim).equal(values)


def test_unique_and_nan():
    values, counts = tensor([nan, 1.0, nan, 1.0]).unique(return_counts=True)
    assert values.tolist()[0] == 1.0
    assert (len(values), counts.tolist()) == (3, [2, 1, 1])  # each nan is another
    assert len(tensor([nan, nan]).unique_consecutive()) == 2


def test_unique_consecutive():
    x = tensor([1, 1, 2, 2, 3, 1, 1])
    values, inverse, counts = x.unique_consecutive(True, True)
    assert values.tolist() == [1, 2, 3, 1]
    assert inverse.tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert counts.tolist() == [2, 2, 1, 2]
    rows = tensor([[1, 1, 2], [0, 0, 0]])
    assert rows.unique_consecutive(dim=1).tolist() == [[1, 2], [0, 0]]
    assert [t.tolist() for t in x[:0].unique_consecutive(True, True)] == [[], [], []]


def test_the_gradient_of_unique_goes_to_the_first():
    assert gradient(lambda x: x.unique() * 3, [2.0, 1.0, 2.0]) == [3.0, 3.0, 0.0]
    assert gradient(lambda x: x.unique(dim=0), [[2.0, 1.0]] * 2) == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 64])
def test_searchsorted_is_that_of_numpy(side, n):
    rng = np.random.default_rng(0)
    bounds, x = np.sort(rng.integers(0, 20, n)) / 2, rng.integers(-1, 22, (3, 4)) / 2
    expected = np.searchsorted(bounds, x, side).tolist()
    for right in {False, side == "right"}:  # which a side outvotes
        assert tensorgrad.searchsorted(tensor(bounds), tensor(x), side=side,
                                       right=right).tolist() == expected  # fmt: skip
    found = tensorgrad.bucketize(tensor(x), tensor(bounds), right=side == "right", out_int32=True)
    assert (found.tolist(), found.dtype) == (expected, "int32")
    order = rng.permutation(n)
    shuffled, sorter = np.empty(n), np.empty(n, dtype="int64")
    shuffled[order], sorter[:] = bounds, order
    found = tensorgrad.searchsorted(tensor(shuffled), tensor(x), side=side, sorter=tensor(sorter))
    assert found.tolist() == expected


def test_searchsorted_in_batches():
    bounds = tensor([[1, 3, 5], [2, 4, 6]])
    assert tensorgrad.searchsorted(bounds, tensor([[3, 6], [3, 6]])).tolist() == [[1, 3], [1, 2]]
    assert tensorgrad.searchsorted(bounds[0], 3.5).item() == 2
    assert tensorgrad.searchsorted(tensor([1.0, 3.0]), tensor([nan])).tolist() == [2]
    big = 2**53 + 1  # has no float64 of its own
    assert tensorgrad.searchsorted(tensor([big - 1, big, big + 1]), big).item() == 1


def test_bincount():
    x = tensor([3, 1, 1, 0])
    assert x.bincount().tolist() == [1, 2, 0, 1]
    assert x.bincount(minlength=6).tolist() == [1, 2, 0, 1, 0, 0]
    w = tensor([0.5, 1.0, 2.0, 3.0], requires_grad=True)
    y = x.bincount(w)
    assert (y.dtype, y.tolist()) == ("float32", [3.0, 3.0, 0.0, 0.5])
    (y * tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert w.grad.tolist() == [4.0, 2.0, 2.0, 1.0]
    assert x.bincount(tensor([1, 1, 1, 1])).dtype == "float64"


def test_histc():
    x = np.random.default_rng(0).standard_normal(1000)
    for bins, low, high in ((10, -2.0, 2.0), (7, 0.0, 1.0), (100, 0, 0)):
        bounds = (low, high) if low != high else None
        expected = np.histogram(x, bins, bounds)[0].tolist()
        assert tensor(x).histc(bins, low, high).tolist() == expected
    y = tensor([1.0, 2.0, nan, 5.0]).histc(2, 0, 2)
    assert (y.dtype, y.tolist()) == ("float32", [0.0, 2.0])  # the end belongs to the last bin


B = tensor([True])
X = tensorgrad.zeros(2, 3)
COMPLAINTS = [
    (lambda: X.kthvalue(4), RuntimeError, "kthvalue: k is 4 but dim -1 of (2, 3) has 3 elements"),
    (lambda: X[:0].kthvalue(1, 0), IndexError, "kthvalue: nothing to choose from"),
    (lambda: X[:0].median(0), IndexError, "median: nothing to choose from in shape (0, 3)"),
    (lambda: B.median(), RuntimeError, "median: takes no bools"),
    (lambda: B.topk(1), RuntimeError, "topk: takes no bools"),
    (lambda: X.quantile(1.5), RuntimeError, "quantile: q must lie between 0 and 1, got 1.5"),
    (lambda: X.nanquantile(nan), RuntimeError, "nanquantile: q must lie between 0 and 1"),
    (lambda: X.quantile(tensor([[0.5]])), RuntimeError, "tensorgrad.float32 of shape (1, 1)"),
    (lambda: X.quantile(0.5, interpolation="cubic"), RuntimeError, "linear, lower, higher,"),
    (lambda: X.long().quantile(0.5), RuntimeError, "float32 or float64, not tensorgrad.int64"),
    (lambda: X[:0].quantile(0.5, 1), RuntimeError, "a tensor without elements"),
    (lambda: X[:0].unique(dim=1), RuntimeError, "unique: the slices along dim 1 of (0, 3) are"),
    (lambda: tensor(1).unique(dim=0), IndexError, "unique: a 0-dim tensor has no dim 0"),
    (lambda: tensorgrad.searchsorted(X, X[0]), RuntimeError, "boundaries of shape (2, 3) must"),
    (lambda: tensorgrad.searchsorted(X[0], X, side="left", right=True), RuntimeError,
     "side='left' and right=True name no side"),
    (lambda: tensorgrad.searchsorted(X[0], X, sorter=tensor([0, 1, 3])), RuntimeError,
     "the sorter's indices must lie in 0..2"),
    (lambda: tensorgrad.searchsorted(X[0], X, sorter=tensor([0, 1])), RuntimeError,
     "the sorter must be int64 of shape (3,), not int64 of (2,)"),
    (lambda: tensorgrad.searchsorted(B, B), RuntimeError, "searchsorted: takes no bools"),
    (lambda: tensorgrad.bucketize(X, X), RuntimeError, "bucketize: boundaries must have one dim"),
    (lambda: X[0].bincount(), RuntimeError, "bincount: needs integers, none negative, in one dim"),
    (lambda: tensor([1, -1]).bincount(), RuntimeError, "bincount: needs integers, none negative"),
    (lambda: tensor([1]).bincount(minlength=-1), RuntimeError, "minlength is -1"),
    (lambda: tensor([1]).bincount(X[0]), RuntimeError, "weights must have the shape (1,)"),
    (lambda: X.histc(0), RuntimeError, "histc: needs at least one bin, not 0"),
    (lambda: X.histc(3, 2, 1), RuntimeError, "histc: the range from 2.0 to 1.0 is empty"),
    (lambda: (X + inf).histc(3), RuntimeError, "empty or not finite"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "sentence"), COMPLAINTS)
def test_complaint(call, kind, sentence):
    with pytest.raises(kind) as error:
        call()
    assert sentence in str(error.value)


# --- against PyTorch, on random shapes, dtypes, ties and nans -------------------------------------

RANDOM = {
    "sort": lambda m, x, d: m.sort(x, dim=d, stable=True),
    "sort down": lambda m, x, d: m.sort(x, dim=d, descending=True, stable=True),
    "topk": lambda m, x, d: m.topk(x, 2, d)[0],
    "median": lambda m, x, d: m.median(x, d)[0],
    "median of all": lambda m, x, d: x.median(),
    "nanmedian": lambda m, x, d: m.nanmedian(x, d, True)[0],
    "nanmedian of all": lambda m, x, d: x.nanmedian(),
    "kthvalue": lambda m, x, d: m.kthvalue(x, 2, d)[0],
    "cummax": lambda m, x, d: m.cummax(x, d),
    "cummin": lambda m, x, d: m.cummin(x, d),
    "argmin": lambda m, x, d: m.argmin(x, d, True),
    "max": lambda m, x, d: m.max(x, d),
    "quantile": lambda m, x, d: m.quantile(x, 0.3, d),
    "nanquantile": lambda m, x, d: m.nanquantile(x, 0.9, d, True, interpolation="nearest"),
    "unique": lambda m, x, d: [m.unique(x, True, False, True), m.unique_consecutive(x, True, True)],
    "searchsorted": lambda m, x, d: m.searchsorted(x.sort(-1)[0], x + 1),
    "searchsorted right": lambda m, x, d: m.searchsorted(x.sort(-1)[0], x, right=True),
    "histc": lambda m, x, d: m.histc(x, 5),
    "bincount": lambda m, x, d: m.bincount(x.reshape(-1), x.reshape(-1).double()),
}


def draw(rng):
    """An array with ties, and if float with nans, infinities and both zeros."""
    shape = tuple(rng.choice([1, 2, 3, 5, 8], size=rng.integers(1, 4)))
    dtype = rng.choice(["float64", "float32", "int64", "uint8", "bool"])
    x = rng.integers(0, 5, shape).astype(dtype)
    if x.dtype.kind == "f":
        special = rng.choice([0.0, -0.0, nan, inf, -inf, 2.5], shape)
        x = np.where(rng.random(shape) < 0.2, special, x - 2).astype(dtype)
    return x, int(rng.integers(-len(shape), len(shape)))


def outcome(m, name, x, dim):
    """The results as arrays, or None for an error."""
    try:
        y = RANDOM[name](m, m.from_numpy(x.copy()), dim)
    except (RuntimeError, IndexError):
        return None
    return arrays(y)


def arrays(result):
    """All tensors of a nested result as arrays."""
    if hasattr(result, "shape"):
        return [np.asarray(result)]
    return [array for part in result for array in arrays(part)]


@pytest.mark.torch
@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_inputs_are_treated_as_by_torch(torch, name):
    rng = np.random.default_rng(0)
    for _ in range(60):
        x, dim = draw(rng)
        ours, theirs = (outcome(m, name, x, dim) for m in (tensorgrad, torch))
        assert (ours is None) == (theirs is None), (x, dim)
        for a, b in zip(ours or (), theirs or (), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=f"{x!r} {dim}")
