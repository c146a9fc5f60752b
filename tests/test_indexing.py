"""Reading and writing through indices: against a definition in loops, and against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import nn
import tensorgrad
from tensorgrad.testing import gradcheck, gradgradcheck

# --- x[...] of any index --------------------------------------------------------------------------
#
# A drawn index has plain Python values and NumPy arrays; `given_to` makes a library's of them.


@st.composite
def indices(draw):
    """A shape and an index of any kind that fits it."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    common = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 2), (0,)]))  # of the integer arrays
    parts, rest = [], list(shape)
    ellipsis_at = draw(st.none() | st.integers(0, 3))
    masks = 0
    while rest and len(parts) < 6:
        if ellipsis_at == len(parts):
            skipped = draw(st.integers(0, len(rest)))
            rest = rest[skipped:]
            parts.append((Ellipsis, skipped))
            continue
        kind = draw(st.sampled_from(["int", "slice", "none", "array", "mask", "bool", "stop"]))
        if kind == "stop":
            break
        if kind == "none":
            parts.append(None)
        elif kind == "bool":
            parts.append(draw(st.booleans()))
        elif kind == "int":
            n = rest.pop(0)
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            n, bound = rest.pop(0), st.none() | st.integers(-6, 6)
            parts.append(slice(draw(bound), draw(bound), draw(st.none() | st.integers(1, 3))))
        elif kind == "array":
            n = rest.pop(0)
            ones = draw(st.sampled_from([common, (1,) * len(common), common[-1:], ()]))
            values = draw(st.lists(st.integers(-n, n - 1), min_size=math.prod(ones),
                                   max_size=math.prod(ones)))  # fmt: skip
            parts.append(np.array(values, dtype=np.int64).reshape(ones))
        elif masks < 1:
            masks += 1
            k = draw(st.integers(1, min(2, len(rest))))
            size = math.prod(rest[:k])
            mask = draw(st.lists(st.booleans(), min_size=size, max_size=size))
            parts.append(np.array(mask, dtype=bool).reshape(rest[:k]))
            rest = rest[k:]
    if any(isinstance(p, tuple) for p in parts):
        parts += [slice(None)] * len(rest)
    else:
        parts.append((Ellipsis, len(rest)))
        if draw(st.booleans()):
            return shape, parts, tuple(parts[:-1])
    return shape, parts, tuple(Ellipsis if isinstance(p, tuple) else p for p in parts)


def positions(shape, parts):
    """The flat positions that an index selects, by PyTorch's rules; None if its arrays clash.

    Every dim of the result is a range of its own, or belongs to all arrays together: these stand
    where the arrays stand, or first if something but an integer is between them.
    """
    arrays, dims, where, at = [], [], [], 0  # dims: the sizes of the result's own dims
    for p in parts:
        if isinstance(p, tuple):
            p = [slice(None)] * p[1]
        for q in p if isinstance(p, list) else [p]:
            if q is None:
                dims.append((None, [0]))
            elif isinstance(q, slice):
                dims.append((at, list(range(shape[at]))[q]))
                at += 1
            elif isinstance(q, bool):
                arrays.append((None, np.zeros(int(q), int)))
                where.append(len(dims))
            elif isinstance(q, int):
                arrays.append((at, q % shape[at]))
                at += 1
            elif q.dtype == bool:
                for axis, found in enumerate(np.nonzero(q)):
                    arrays.append((at + axis, found))
                where.append(len(dims))
                at += q.ndim
            else:
                arrays.append((at, q % shape[at]))
                if q.ndim:  # without dims it is an integer
                    where.append(len(dims))
                at += 1
    try:
        together = np.broadcast_shapes(*(np.shape(a) for _, a in arrays))
    except ValueError:
        return None
    place = where[0] if where and len(set(where)) == 1 else 0
    sizes = [len(r) for _, r in dims]
    result = (*sizes[:place], *together, *sizes[place:])
    found = np.zeros(result, dtype=int)
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    for spot in np.ndindex(result):
        among = spot[place : place + len(together)]
        own = spot[:place] + spot[place + len(together) :]
        for axis, a in arrays:
            if axis is not None:
                found[spot] += strides[axis] * int(np.broadcast_to(a, together)[among])
        for (axis, choice), k in zip(dims, own):
            if axis is not None:
                found[spot] += strides[axis] * choice[k]
    return found


def given_to(m, key, arrays_as):
    """The index for a library, arrays as tensors, as they are, or as lists."""
    made = []
    for p in key:
        if isinstance(p, np.ndarray):
            listed = arrays_as == "list" and p.ndim == 1 and p.size
            p = p.tolist() if listed else p if arrays_as == "array" else m.tensor(p)
        made.append(p)
    return made[0] if len(made) == 1 and not isinstance(made[0], list) else tuple(made)


def weights_of(size, start=1.0):
    return np.cos(np.arange(size) + start)


def read(m, shape, index):
    """A selection, and the gradient of a weighting of it."""
    x = m.tensor(np.arange(math.prod(shape)) * 1.5).requires_grad_()
    y = x.reshape(shape)[index]
    w = weights_of(math.prod(y.shape)).reshape(tuple(y.shape))
    (y * m.tensor(w)).sum().backward()
    return y.detach().numpy(), x.grad.numpy()


def written(m, shape, index, values):
    """A tensor after an assignment, and the gradients of the tensor and of the values."""
    x = m.tensor(np.arange(math.prod(shape)) * 1.5).requires_grad_()
    v = m.tensor(values).requires_grad_()
    y = x.reshape(shape).clone()
    y[index] = v
    (y * m.tensor(weights_of(math.prod(shape)).reshape(shape))).sum().backward()
    v_grad = np.zeros_like(values) if v.grad is None else v.grad.numpy()  # nothing was written
    return y.detach().numpy(), x.grad.numpy(), v_grad


arrays_as = st.sampled_from(["tensor", "array", "list"])


@given(indices(), arrays_as)
def test_reading(drawn, kind):
    shape, parts, key = drawn
    at = positions(shape, parts)
    index = given_to(tensorgrad, key, kind)
    if at is None:
        with pytest.raises(IndexError, match="broadcast"):
            read(tensorgrad, shape, index)
        return
    y, grad = read(tensorgrad, shape, index)
    np.testing.assert_array_equal(y, at * 1.5)
    expected = np.zeros(math.prod(shape))
    for k, w in zip(at.reshape(-1), weights_of(at.size)):
        expected[k] += w
    np.testing.assert_allclose(grad, expected, rtol=1e-12, atol=1e-12)


@given(indices(), arrays_as, st.booleans())
def test_writing(drawn, kind, broadcast):
    shape, parts, key = drawn
    at = positions(shape, parts)
    assume(at is not None)
    size = at.shape[1:] if broadcast and at.ndim else at.shape
    values = -1.0 - np.arange(math.prod(size)).reshape(size)
    y, x_grad, v_grad = written(tensorgrad, shape, given_to(tensorgrad, key, kind), values)
    expected = np.arange(math.prod(shape)) * 1.5
    owner = np.full(math.prod(shape), -1)  # which value stands there in the end
    source = np.broadcast_to(np.arange(values.size).reshape(size), at.shape)
    for k, v in zip(at.reshape(-1), source.reshape(-1)):
        expected[k], owner[k] = values.reshape(-1)[v], v
    np.testing.assert_array_equal(y.reshape(-1), expected)
    w = weights_of(expected.size)
    np.testing.assert_array_equal(x_grad, np.where(owner < 0, w, 0))
    sums = [w[owner == v].sum() for v in range(values.size)]
    np.testing.assert_allclose(v_grad.reshape(-1), sums, rtol=1e-12, atol=1e-12)


@pytest.mark.torch
@given(indices(), st.sampled_from(["tensor", "list"]))
def test_reading_is_that_of_torch(drawn, kind):
    import torch

    shape, parts, key = drawn
    assume(positions(shape, parts) is not None)
    ours = read(tensorgrad, shape, given_to(tensorgrad, key, kind))
    theirs = read(torch, shape, given_to(torch, key, kind))
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.torch
@given(indices(), st.sampled_from(["tensor", "list"]))
def test_writing_is_that_of_torch(drawn, kind):
    """Not so for the gradient of values of which some are overwritten: PyTorch gives them all."""
    import torch

    shape, parts, key = drawn
    at = positions(shape, parts)
    assume(at is not None and at.size == len(set(at.reshape(-1).tolist())))
    values = -1.0 - np.arange(at.size).reshape(at.shape)
    ours = written(tensorgrad, shape, given_to(tensorgrad, key, kind), values)
    theirs = written(torch, shape, given_to(torch, key, kind), values)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# --- x[...], what a table shows better ------------------------------------------------------------


def test_integers_select_before_arrays():
    """NumPy would put the dim of the list first in both."""
    x = tensorgrad.arange(24).reshape(2, 3, 4)
    assert x[0, :, [1, 2]].tolist() == [[1, 2], [5, 6], [9, 10]]
    assert x[tensorgrad.tensor(0), None, [2, 0]].shape == (1, 2, 4)
    x[0, :, [1, 2]] = tensorgrad.tensor([[-1, -2]])
    assert x[0].tolist() == [[0, -1, -2, 3], [4, -1, -2, 7], [8, -1, -2, 11]]


AMBIGUOUS = {
    "lists": [[0, 1], [1, 2]],
    "slice": [slice(None), 0],
    "None": [None, 0],
    "ellipsis": [..., 0],
    "tensors": [tensorgrad.tensor([0]), tensorgrad.tensor([1])],
}


@pytest.mark.parametrize("key", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_lists_of_more_than_numbers_are_refused(key):
    """PyTorch reads them as tuples, and warns that it will read them as tensors, as NumPy does."""
    x = tensorgrad.zeros(2, 3, 4)
    with pytest.raises(IndexError, match=r"ambiguous.*x\[tuple"):
        x[key]
    with pytest.raises(IndexError, match="ambiguous"):
        x[key] = 1.0
    x[tuple(key)] = 1.0
    assert x.sum() == x[tuple(key)].numel()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (tensorgrad.tensor([1, 0], dtype=tensorgrad.uint8), "uint8 .* ambiguous.*bool"),
        (np.array([1, 0], np.uint8), "uint8 .* ambiguous.*bool"),
        (tensorgrad.tensor([1, 0], dtype=tensorgrad.int8), "int64, int32 or bool, not int8"),
        (tensorgrad.tensor([0.5]), "int64, int32 or bool, not float32"),
        ([0.5], "not float64"),
        (
            tensorgrad.tensor([True, False, True]),
            r"mask of shape \(3,\).*\(2, 3\) at dim 0.*\(2,\)",
        ),
        ((..., tensorgrad.tensor([True, False])), r"mask of shape \(2,\).*at dim 1.*\(3,\)"),
        (np.zeros((2, 3, 1), bool), r"mask of shape \(2, 3, 1\)"),
        (np.zeros(0, bool), r"mask of shape \(0,\)"),
        ([2], "index 2 is out of bounds"),
        ((0, 0, 0), "too many indices"),
        ("a", "not by str"),
        ((..., ...), "single ellipsis"),
    ],
)
def test_what_no_index_is(key, message):
    x = tensorgrad.zeros(2, 3)
    with pytest.raises(IndexError, match=message):
        x[key]
    with pytest.raises(IndexError, match=message):
        x[key] = 1.0


def test_ragged_lists_are_a_sentence():
    with pytest.raises(ValueError, match="nested lists of an index are ragged"):
        tensorgrad.zeros(2, 3)[:, [[0], [1, 2]]]


def test_augmented_assignment_counts_a_repeated_index_once():
    x = tensorgrad.zeros(3, dtype=tensorgrad.float64, requires_grad=True)
    y = x * 2
    y[[0, 0, 2]] += tensorgrad.tensor([1.0, 5.0, 7.0], dtype=tensorgrad.float64)
    assert y.tolist() == [5.0, 0.0, 7.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_last_of_repeated_writes_stays(order):
    """Whatever the memory layout of index and values."""
    index = np.asarray([[0, 1], [1, 0]], order=order)
    values = np.asarray([[1.0, 2.0], [3.0, 4.0]], order=order)
    for recorded in False, True:
        v = tensorgrad.from_numpy(values).requires_grad_(recorded)
        y = tensorgrad.zeros(2, dtype=tensorgrad.float64)
        y[tensorgrad.from_numpy(index)] = v
        assert y.tolist() == [4.0, 3.0]
    (y * tensorgrad.tensor([10.0, 100.0])).sum().backward()
    assert v.grad.tolist() == [[0.0, 0.0], [100.0, 10.0]]


def test_an_index_may_change_after_its_use():
    x = tensorgrad.ones(3, requires_grad=True)
    i, mask = tensorgrad.tensor([0, 1]), tensorgrad.tensor([True, False, False])
    y = x[i].sum() + x.gather(0, i).sum() + x.index_select(0, i).sum() + x.take(i).sum()
    y = y + x[mask].sum() + x.masked_select(mask).sum()
    i.fill_(2)
    mask.fill_(True)
    y.backward()
    assert x.grad.tolist() == [6.0, 4.0, 0.0]


def test_values_that_do_not_fit_a_mask():
    x = tensorgrad.zeros(2, 2)
    for y in x, x.clone().requires_grad_() * 1:
        with pytest.raises(RuntimeError, match="2 dim"):
            y[tensorgrad.ones(2, 2) > 0] = tensorgrad.ones(4, 1)


# --- the functions: derivatives to the second order -----------------------------------------------


def leaf(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return tensorgrad.from_numpy(np.asarray(values)).requires_grad_()


I = tensorgrad.tensor([[0, 2, 0], [1, 2, 2]])
MASK = tensorgrad.tensor([[True, False, True], [False, True, True]])
ROWS = tensorgrad.tensor([1, 0, 1])
ZEROS = tensorgrad.tensor([[0.0, 0.0, 2.0], [0.0, 3.0, -1.0]], dtype=tensorgrad.float64)
reductions = {
    f"{reduce}, {'with' if own else 'without'} self": (
        lambda x, y, reduce=reduce, own=own: x.scatter_reduce(1, I, y, reduce, include_self=own)
    )
    for reduce in ("sum", "prod", "mean", "amax", "amin")
    for own in (True, False)
}
FUNCTIONS = {
    **reductions,
    "prod at zeros": lambda x, y: (x * ZEROS).scatter_reduce(1, I, y * ZEROS, "prod"),
    "prod of all": lambda x, y: x.flatten().scatter_reduce(0, I.flatten() * 0, y.flatten(), "prod"),
    "gather": lambda x, y: x.gather(1, I) * y,
    "take_along_dim": lambda x, y: x.take_along_dim(I[:1] - 1, 1) * y,
    "take_along_dim, flat": lambda x, y: x.take_along_dim(I) * y.flatten(),
    "scatter": lambda x, y: x.scatter(1, I, y),
    "scatter, small index": lambda x, y: x.scatter(1, I[:1, :2], y),
    "scatter, number": lambda x, y: x.scatter(1, I, 0.5),
    "scatter, add": lambda x, y: x.scatter(1, I[:, :2], y, reduce="add"),
    "scatter, multiply": lambda x, y: x.scatter(1, I, y, reduce="multiply"),
    "scatter_add": lambda x, y: x.scatter_add(0, I % 2, y),
    "index_select": lambda x, y: x.index_select(0, ROWS),
    "index_add": lambda x, y: x.index_add(1, ROWS, y, alpha=2),
    "index_copy": lambda x, y: x.index_copy(1, ROWS, y),
    "index_fill": lambda x, y: x.index_fill(1, ROWS - 1, y[0, 0]),
    "index_reduce": lambda x, y: x.index_reduce(1, ROWS, y, "prod"),
    "index_put": lambda x, y: x.index_put((I % 2, I), y),
    "index_put, accumulate": lambda x, y: x.index_put((I % 2, I), y, accumulate=True),
    "index_put, mask": lambda x, y: x.index_put((MASK,), y[0, 0]),
    "take": lambda x, y: x.take(I - 3) * y,
    "put": lambda x, y: x.put(I, y),
    "put, accumulate": lambda x, y: x.put(I, y, accumulate=True),
    "where": lambda x, y: x.where(MASK, y),
    "masked_fill": lambda x, y: x.masked_fill(MASK, y[0, 0]),
    "masked_select": lambda x, y: x.masked_select(MASK[1]) * y[0, 0],
    "masked_scatter": lambda x, y: x.masked_scatter(MASK, y),
    "masked_scatter, grown": lambda x, y: x[0].masked_scatter(MASK, y),
    "in place": lambda x, y: (x * y).scatter_add_(1, I, y * x).index_fill_(0, ROWS[:1], y[0, 0]),
}


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_derivatives(function, check):
    # A square makes the second derivative another than zero.
    assert check(lambda x, y: function(x, y) ** 2, [leaf(2, 3), leaf(2, 3, seed=1)])


# --- the functions: values and gradients that are known -------------------------------------------


def grads(result, *leaves):
    return [g.tolist() for g in tensorgrad.grad(result.sum(), list(leaves))]


def test_ties_share_the_gradient_of_an_extreme():
    x = tensorgrad.tensor([3.0, 1.0], requires_grad=True)
    y = tensorgrad.tensor([3.0, 2.0, 3.0], requires_grad=True)
    index = tensorgrad.tensor([0, 0, 0])
    third = pytest.approx(1 / 3)
    both = x.scatter_reduce(0, index, y, "amax")
    assert grads(both, x, y) == [[third, 1.0], [third, 0.0, third]]
    # What does not count has no share. (PyTorch lets it take one, which is then lost.)
    without = x.scatter_reduce(0, index, y, "amax", include_self=False)
    assert grads(without, x, y) == [[0.0, 1.0], [0.5, 0.0, 0.5]]


def test_products_with_zeros():
    x = tensorgrad.tensor([5.0, 0.0, 2.0], requires_grad=True)
    y = tensorgrad.tensor([0.0, 2.0, 3.0, 4.0, 0.0, 0.0], requires_grad=True)
    index = tensorgrad.tensor([0, 0, 1, 1, 2, 2])
    z = x.scatter_reduce(0, index, y, "prod")
    assert z.tolist() == [0.0, 0.0, 0.0]
    assert grads(z, x, y) == [[0.0, 12.0, 0.0], [10.0, 0.0, 0.0, 0.0, 0.0, 0.0]]


def test_a_product_of_many():
    """Pairs of pairs: as many steps as the binary logarithm, and every factor once."""
    rng = np.random.default_rng(0)
    groups, values = rng.integers(0, 7, 500), rng.uniform(0.9, 1.1, 500)
    x = tensorgrad.ones(8, dtype=tensorgrad.float64)
    z = x.scatter_reduce(0, tensorgrad.tensor(groups), tensorgrad.tensor(values), "prod")
    expected = [math.prod(values[groups == k]) for k in range(8)]
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-12)


def test_overwritten_values_have_no_gradient():
    x = tensorgrad.zeros(2, requires_grad=True)
    y = tensorgrad.tensor([1.0, 2.0, 3.0], requires_grad=True)
    index = tensorgrad.tensor([1, 0, 1])
    for z in x.scatter(0, index, y), x.index_copy(0, index, y), x.put(index, y):
        assert z.tolist() == [2.0, 3.0]
        assert grads(z, x, y) == [[0.0, 0.0], [0.0, 1.0, 1.0]]


def test_in_place_forms_write_where_the_plain_ones_do():
    rng = np.random.default_rng(0)
    x, y = (tensorgrad.from_numpy(rng.standard_normal((2, 3))) for _ in range(2))
    calls = {
        "scatter": (1, I, y), "scatter_add": (1, I, y), "scatter_reduce": (1, I, y, "mean"),
        "index_add": (1, ROWS, y), "index_copy": (1, ROWS, y), "index_fill": (1, ROWS, 2.0),
        "index_reduce": (1, ROWS, y, "amax"), "index_put": ((I % 2, I), y, True),
        "masked_fill": (MASK, 0.5), "masked_scatter": (MASK, y), "put": (I, y, True),
    }  # fmt: skip
    for name, args in calls.items():
        before = x.clone()
        expected = getattr(x, name)(*args)
        assert x.equal(before)
        assert getattr(tensorgrad, name)(x, *args).equal(expected)
        assert not expected.equal(x)
        z = x.clone()
        assert getattr(z, name + "_")(*args) is z
        assert z.equal(expected)


def test_nonzero_and_where():
    x = tensorgrad.tensor([[0.0, 2.0], [3.0, 0.0]])
    assert x.nonzero().tolist() == x.argwhere().tolist() == [[0, 1], [1, 0]]
    assert [i.tolist() for i in x.nonzero(as_tuple=True)] == [[0, 1], [1, 0]]
    assert [i.tolist() for i in tensorgrad.where(x)] == [[0, 1], [1, 0]]
    assert x[x.nonzero(as_tuple=True)].tolist() == [2.0, 3.0]
    assert tensorgrad.tensor(5).nonzero().shape == (1, 0)
    assert x.where(x > 2, -1.0).tolist() == [[-1.0, -1.0], [3.0, -1.0]]
    with pytest.raises(TypeError, match="both values"):
        tensorgrad.where(x > 0, x)


def test_one_hot():
    x = tensorgrad.tensor([[0, 2], [1, 0]])
    assert nn.functional.one_hot(x).tolist() == np.eye(3, dtype=int)[x.numpy()].tolist()
    assert nn.functional.one_hot(x[0], 4).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    assert nn.functional.one_hot(x[:0], 3).shape == (0, 2, 3)
    assert nn.functional.one_hot(tensorgrad.tensor(1)).tolist() == [0, 1]
    for wrong, classes in (x, 2), (x - 1, -1), (x.float(), -1), (x[:0], -1), (x, -2), (x[:0], 0):
        with pytest.raises(RuntimeError, match="one_hot"):
            nn.functional.one_hot(wrong, classes)


@pytest.mark.torch
def test_one_hot_is_that_of_torch(torch):
    x = np.array([[3, 0], [1, 2]])
    for classes in -1, 4, 6:
        ours = nn.functional.one_hot(tensorgrad.tensor(x), classes).numpy()
        theirs = torch.nn.functional.one_hot(torch.tensor(x), classes).numpy()
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.torch
@given(st.data())
def test_scatter_reduce_is_that_of_torch(data):
    """Small integers as values, for ties and zeros; amax without self is ours where it ties."""
    import torch

    n, size = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 3))
    numbers = st.integers(-2, 2)
    x = data.draw(st.lists(numbers, min_size=size, max_size=size))
    y = data.draw(st.lists(numbers, min_size=n, max_size=n))
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=n, max_size=n))
    reduce = data.draw(st.sampled_from(["sum", "prod", "mean", "amax", "amin"]))
    own = data.draw(st.booleans()) or reduce in ("amax", "amin")
    dtype = data.draw(st.sampled_from(["float64", "int64"]))
    results = []
    for m in tensorgrad, torch:
        a, b = (m.tensor(v, dtype=getattr(m, dtype)) for v in (x, y))
        i = m.tensor(index, dtype=m.int64)
        if dtype == "float64":
            a.requires_grad_(), b.requires_grad_()
        z = a.scatter_reduce(0, i, b, reduce, include_self=own)
        if dtype == "float64":
            (z * m.arange(1, size + 1)).sum().backward()
        results.append([t for t in (z.detach(), a.grad, b.grad) if t is not None])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-12, atol=1e-12)
