"""Tensors as objects: views, indexing, NumPy, copies, and how they print."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nn
import tensorgrad
from tensorgrad import Tensor, tensor

# --- views ----------------------------------------------------------------------------------------

VIEWS = {
    "x[0]": (lambda x: x[0], True),
    "x[1, 2, 3]": (lambda x: x[1, 2, 3], True),
    "x[..., 1]": (lambda x: x[..., 1], True),
    "x[:, None, ::2]": (lambda x: x[:, None, ::2], True),
    "x[0-dim tensor]": (lambda x: x[tensor(1)], True),
    "x[[0, 1]]": (lambda x: x[[0, 1]], False),
    "x[mask]": (lambda x: x[x > 0], False),
    "iteration": (lambda x: next(iter(x)), True),
    "reshape": (lambda x: x.reshape(-1), True),
    "reshape across strides": (lambda x: x.transpose(0, 1).reshape(-1), False),
    "view": (lambda x: x.view(6, 4), True),
    "flatten": (lambda x: x.flatten(1), True),
    "transpose": (lambda x: x.transpose(0, 2), True),
    "permute": (lambda x: x.permute(2, 0, 1), True),
    "mT": (lambda x: x.mT, True),
    "expand": (lambda x: x.expand(5, 2, 3, 4), True),
    "squeeze": (lambda x: x[:1].squeeze(), True),
    "squeeze without effect": (lambda x: x.squeeze(), True),
    "unsqueeze": (lambda x: x.unsqueeze(1), True),
    "narrow": (lambda x: x.narrow(1, 1, 2), True),
    "split": (lambda x: x.split(2, 1)[1], True),
    "chunk": (lambda x: x.chunk(2, -1)[0], True),
    "unbind": (lambda x: x.unbind(1)[2], True),
    "detach": (lambda x: x.detach(), True),
    "data": (lambda x: x.data, True),
    "contiguous": (lambda x: x.contiguous(), True),
    "contiguous of a transpose": (lambda x: x.mT.contiguous(), False),
    "to its dtype": (lambda x: x.to(x.dtype), True),
    "to another dtype": (lambda x: x.to(tensorgrad.float64), False),
    "clone": (lambda x: x.clone(), False),
    "x + 0": (lambda x: x + 0, False),
    "cat of one": (lambda x: tensorgrad.cat([x]), False),
    "numpy": (lambda x: tensorgrad.from_numpy(x.numpy()), True),
    "dlpack": (lambda x: tensorgrad.from_dlpack(x), True),
    "as_tensor": (lambda x: tensorgrad.as_tensor(x.numpy()), True),
    "tensor": (lambda x: tensor(x), False),
    "zeros_like": (lambda x: tensorgrad.zeros_like(x), False),
    "copy": (lambda x: copy.copy(x), True),
    "deepcopy": (lambda x: copy.deepcopy(x), False),
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_shares_memory(name):
    make, shares = VIEWS[name]
    x = tensor(np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    y = make(x)
    assert np.shares_memory(x.numpy(), y.numpy()) == shares
    x += 100
    if shares and name not in ("numpy", "dlpack", "as_tensor"):  # which know of arrays only
        assert y._version == x._version == 1
    assert (y.detach().numpy().max() >= 100) == shares


def test_view_does_not_copy():
    x = tensorgrad.arange(6).reshape(2, 3)
    with pytest.raises(RuntimeError, match=r"view: shape \[6\] needs a copy .* use reshape"):
        x.T.view(6)
    assert x.T.view(3, 2).tolist() == x.T.tolist()
    assert tensorgrad.zeros(0, 3).view(3, 0).shape == (3, 0)


# --- indexing -------------------------------------------------------------------------------------


@given(st.data())
def test_indexing_is_that_of_numpy(data):
    """Where both have it: slices, integers, None, ..., masks, integer arrays; and so gradients."""
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=4))
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True).filter(_steps_forward)
        | hnp.integer_array_indices(shape)
        | hnp.arrays(bool, shape)
    )
    array = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    x = tensor(array, requires_grad=True)
    y = x[index]
    np.testing.assert_array_equal(y.detach().numpy(), array[index])
    assert y.shape == np.asarray(array[index]).shape
    (y * y).sum().backward()
    expected = np.zeros(shape)
    np.add.at(expected, index, 2 * array[index])
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    fresh = tensor(array)
    fresh[index] = -1.0
    array[index] = -1.0
    np.testing.assert_array_equal(fresh.numpy(), array)


def _steps_forward(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(p.step is None or p.step > 0 for p in parts if isinstance(p, slice))


def test_indices_of_several_kinds():
    x = tensorgrad.arange(24).reshape(2, 3, 4)
    k = tensor([1, 0])
    assert x[k[0], tensor(2)].tolist() == [20, 21, 22, 23]
    assert x[k, 1:, [0, 1]].tolist() == [[16, 20], [5, 9]]
    assert x[np.int32(1), range(2), 0].tolist() == [12, 16]
    assert x[tensor([[True, False, True], [False] * 3])].shape == (2, 4)
    assert x[True].shape == (1, 2, 3, 4)
    assert x[tensor(0) : tensor(1)].shape == (1, 3, 4)
    assert [row.tolist() for row in x[0]] == x[0].tolist()


def test_an_embedding_adds_up_what_names_a_row_twice():
    table = tensor(np.zeros((3, 2)), requires_grad=True)
    rows = tensorgrad.embedding(table, tensor([[2, 0], [-1, 2]]))
    (rows * tensor([[[1.0], [2.0]], [[3.0], [4.0]]])).sum().backward()
    assert table.grad.tolist() == [[2.0] * 2, [0.0] * 2, [8.0] * 2]


@pytest.mark.parametrize("index", [1.0, tensor(1.0), [0.5], "a", tensor([1], dtype="uint8"), 1j])
def test_what_is_no_index(index):
    with pytest.raises(IndexError, match=r"indexed by integers, slices|used as indices|uint8"):
        tensor([1.0, 2.0])[index]


def test_slices_go_forward():
    with pytest.raises(ValueError, match="step must be greater than zero, not -1"):
        tensor([1.0, 2.0])[::-1]


# --- numbers, truth, equality ---------------------------------------------------------------------


def test_equality_with_what_is_no_number():
    x = tensor([1.0, 2.0])
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (x == "a") is False
    assert x in [None, x]
    assert {x: 1}[x] == 1
    assert 2.0 in x
    assert 3.0 not in x


def test_a_tensor_of_one_element_is_a_number():
    one = tensor([[3]])
    assert (one.item(), int(one), float(one), bool(one), [0, 1, 2, "x"][one]) == (
        3,
        3,
        3.0,
        True,
        "x",
    )
    assert f"{tensor(0.5):.3f} {tensor(7)} {tensor(True)}" == "0.500 7 True"
    assert isinstance(tensor(2.5).item(), float)
    assert not tensor(0.0)
    for number in (float, int):
        with pytest.raises(ValueError, match=r"shape \(2,\) is no number"):
            number(tensor([1, 2]))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("~tensor([0, 1, -3])", [-1, -2, 2]),
        ("~tensor([True, False])", [False, True]),
        ("tensor([6, 5]) & tensor([3, 3])", [2, 1]),
        ("tensor([6, 5]) | 8", [14, 13]),
        ("1 ^ tensor([6, 5])", [7, 4]),
        ("tensor([True, False]) & tensor([True, True])", [True, False]),
        ("tensor([True, False]) ^ True", [False, True]),
        ("-tensor([1, -2])", [-1, 2]),
        ("tensor([True, True, False]).sum()", 2),
        ("tensor([200, 100], dtype='uint8').sum()", 300),
        ("tensor([3, 1, 2], dtype='uint8').sort(descending=True).values", [3, 2, 1]),
        ("tensor([1.0, float('nan'), 2.0]).argsort(descending=True)", [1, 2, 0]),
        ("tensor([1, 1, 2, 2]).argsort(descending=True)", [2, 3, 0, 1]),
        ("tensor([1.0, 3.0, 3.0]).max(0).indices", 1),
        ("tensor([7, 9]) - 1", [6, 8]),
        ("2 - tensor([7, 9])", [-5, -7]),
        ("2 ** tensor([0, 3])", [1, 8]),
        ("1 / tensor([2, 4])", [0.5, 0.25]),
    ],
)
def test_expressions(expression, expected):
    assert eval(expression).tolist() == expected


def test_augmented_assignment_writes_in_place():
    x = tensor([6, 5])
    same, view = x, x[:1]
    x += 1
    x -= 2
    x *= 3
    x **= 2
    x &= 255
    x |= 1
    x ^= 2
    assert x is same
    assert x.tolist() == [
        ((((6 - 1) * 3) ** 2) & 255 | 1) ^ 2,
        ((((5 - 1) * 3) ** 2) & 255 | 1) ^ 2,
    ]
    assert view.item() == x[0].item()


def test_closed_forms():
    """A few numbers that are known without another library."""
    x = tensor([[1.0, 2.0], [3.0, 5.0]], dtype="float64", requires_grad=True)
    assert x.var().item() == pytest.approx((1.75**2 + 0.75**2 + 0.25**2 + 2.25**2) / 3)
    assert x.std(1, unbiased=False).tolist() == [0.5, 1.0]
    assert x.logsumexp((0, 1)).item() == pytest.approx(np.log(np.exp([1, 2, 3, 5]).sum()))
    assert x.softmax(0).sum(0).tolist() == pytest.approx([1.0, 1.0])
    assert x.softmax(0)[1, 0].item() == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert (x @ x).tolist() == [[7.0, 12.0], [18.0, 31.0]]
    assert tensor(0.5, dtype="float64").erf().item() == pytest.approx(0.5204998778130465, abs=1e-15)
    tensorgrad.where(x > 2, x * x, 0.0).sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0], [6.0, 10.0]]


def test_gradients_at_ties_and_kinks():
    def gradient(function, *values):
        x = tensor(values, dtype="float64", requires_grad=True)
        function(x).backward()
        return x.grad.tolist()

    assert gradient(lambda x: x.amax(), 1, 3, 3) == [0.0, 0.5, 0.5]
    assert gradient(lambda x: x.max(), 3, 3, 3, 0) == [1 / 3] * 3 + [0.0]
    assert gradient(lambda x: x.max(0).values, 1, 3, 3) == [0.0, 1.0, 0.0]
    assert gradient(lambda x: tensorgrad.maximum(x[0], x[1]), 2, 2) == [0.5, 0.5]
    assert gradient(lambda x: x.abs().sum(), 0, -1, 2) == [0.0, -1.0, 1.0]
    assert gradient(lambda x: x.relu().sum(), 0, -1, 2) == [0.0, 0.0, 1.0]
    assert gradient(lambda x: (x**2).sum(), 0, -1) == [0.0, -2.0]
    assert gradient(lambda x: x.std(), 2, 2) == [0.0, 0.0]


def test_a_variance_of_one_element_is_nan():
    with pytest.warns(UserWarning, match="no degrees of freedom"):
        assert np.isnan(tensor([1.0]).var().item())


# --- to and from NumPy ----------------------------------------------------------------------------


def test_numpy_functions_take_tensors():
    x = tensor([1.0, 4.0])
    assert np.sqrt(x).tolist() == [1.0, 2.0]
    assert np.asarray(x) is x.numpy()
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    copied = np.array(x)
    copied[0] = 9
    assert x.tolist() == [1.0, 4.0]
    assert np.array([x.numpy(), x.numpy()]).shape == (2, 2)


def test_numpy_needs_detach():
    x = tensor([1.0], requires_grad=True)
    for convert in (
        x.numpy,
        lambda: np.asarray(x),
        lambda: (x * 2).numpy(),
        lambda: np.exp(x),
    ):
        with pytest.raises(RuntimeError, match=r"use \.detach\(\)\.numpy\(\)"):
            convert()


@pytest.mark.torch
def test_dlpack_both_ways(torch):
    ours = tensorgrad.from_dlpack(torch.arange(3.0))
    theirs = torch.from_dlpack(ours)
    theirs += 1
    assert ours.tolist() == [1.0, 2.0, 3.0]


# --- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["leaf", "constant", "parameter"])
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_copies(kind, duplicate):
    x = tensor([[1.0, 2.0]], requires_grad=kind == "leaf")
    x = nn.Parameter(x) if kind == "parameter" else x
    x.name = "weight"
    if x.requires_grad:
        (x * 3).sum().backward()
    y = duplicate(x)
    assert type(y) is type(x)
    assert y.is_leaf
    assert (y.tolist(), y.dtype, y.requires_grad, y.name) == (
        [[1.0, 2.0]],
        x.dtype,
        x.requires_grad,
        "weight",
    )
    y.detach().zero_()
    assert (x.sum().item() == 0) == (duplicate is copy.copy)
    if duplicate is copy.deepcopy and x.requires_grad:
        y.grad.zero_()
        assert x.grad.tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_only_leaves_are_copied(duplicate):
    x = tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="only leaf tensors can be"):
        duplicate(x * 2)


def test_a_deepcopy_keeps_what_is_tied_tied():
    x = tensor([1.0])
    first, second = copy.deepcopy([x, x])
    assert first is second
    assert first is not x


def test_a_copy_shares_the_version():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    copy.copy(x).detach().zero_()
    with pytest.raises(RuntimeError, match="has overwritten"):
        y.backward()


def test_the_constructor_makes_floats():
    for data in ([1, 2], np.array([1, 2]), [1.0, 2.0], np.array([1.0, 2.0])):
        assert (Tensor(data).dtype, Tensor(data).tolist()) == ("float32", [1.0, 2.0])
    with pytest.raises(RuntimeError, match="only tensors of a float dtype can require gradients"):
        Tensor(tensor([1, 2]), requires_grad=True)


# --- printing -------------------------------------------------------------------------------------

PRINTED = [
    ("tensor([1.0, 2.0])", "tensor([1., 2.])"),
    ("tensor([1.5, 22.25, -3])", "tensor([ 1.5000, 22.2500, -3.0000])"),
    ("tensor([0.1, 1e-5])", "tensor([1.0000e-01, 1.0000e-05])"),
    ("tensor([5e-5])", "tensor([5.0000e-05])"),
    ("tensor([1e-4])", "tensor([1.0000e-04])"),
    ("tensor([2e-4])", "tensor([0.0002])"),
    ("tensor([1.0, 1e5])", "tensor([1.0000e+00, 1.0000e+05])"),
    ("tensor([1e9, 2e9])", "tensor([1.0000e+09, 2.0000e+09])"),
    ("tensor([0.0, -0.0])", "tensor([0., -0.])"),
    ("tensor([float('nan'), float('inf'), 1])", "tensor([nan, inf, 1.])"),
    ("tensor([float('-inf'), 0.5])", "tensor([  -inf, 0.5000])"),
    ("tensor(3.0)", "tensor(3.)"),
    ("tensor(0.123456)", "tensor(0.1235)"),
    ("tensor(-7)", "tensor(-7)"),
    ("tensor([1, -20])", "tensor([  1, -20])"),
    ("tensor([True, False])", "tensor([ True, False])"),
    ("tensor([])", "tensor([])"),
    ("tensorgrad.zeros(2, 0)", "tensor([], size=(2, 0))"),
    ("tensorgrad.zeros(0, dtype='int64')", "tensor([], dtype=tensorgrad.int64)"),
    ("tensor([1, 2], dtype='int8')", "tensor([1, 2], dtype=tensorgrad.int8)"),
    ("tensor([1.5], dtype='float64')", "tensor([1.5000], dtype=tensorgrad.float64)"),
    ("tensor([[1.0], [2.0]])", "tensor([[1.],\n        [2.]])"),
    ("tensorgrad.ones(2, 1, 2)", "tensor([[[1., 1.]],\n\n        [[1., 1.]]])"),
    ("tensor([1.0], requires_grad=True)", "tensor([1.], requires_grad=True)"),
    ("tensor([1.0], requires_grad=True).exp()", "tensor([2.7183], grad_fn=<exp>)"),
    ("tensorgrad.arange(2000)", "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
    (
        "tensorgrad.arange(12.0).reshape(3, 4) * 1000",
        "tensor([[    0.,  1000.,  2000.,  3000.],\n"
        "        [ 4000.,  5000.,  6000.,  7000.],\n"
        "        [ 8000.,  9000., 10000., 11000.]])",
    ),
]


@pytest.mark.parametrize(("expression", "printed"), PRINTED)
def test_printing(expression, printed):
    assert repr(eval(expression)) == printed


@pytest.mark.torch
@settings(max_examples=100)
@given(st.data())
def test_printing_is_that_of_torch(torch, data):
    dtype = data.draw(st.sampled_from(["float32", "float64", "int64", "int16", "bool"]))
    shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=30)
                      .filter(lambda s: np.prod(s) < 4000))  # fmt: skip
    scale = data.draw(st.sampled_from([0.0, 1.0, 3.0, 1e-3, 1e3, 1e6, 1e9]))
    decimals = data.draw(st.sampled_from([0, 2, 8]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    array = np.round(rng.standard_normal(shape) * scale, decimals)
    array = (array % 9999 if dtype == "int16" else array).astype(dtype)
    if dtype.startswith("f") and array.size and data.draw(st.booleans()):
        array.reshape(-1)[0] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    grad = dtype.startswith("f") and data.draw(st.booleans())
    ours, theirs = (m.tensor(array, requires_grad=grad) for m in (tensorgrad, torch))
    ours, theirs = (re.sub(r",\s+(dtype|size|requires)", r", \1", repr(t)) for t in (ours, theirs))
    assert ours.replace("tensorgrad.", "torch.") == theirs  # but for where the last line breaks
