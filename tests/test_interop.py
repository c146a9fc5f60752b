"""Tensors to and from NumPy, DLPack, pickle and copies: what is shared and what is not."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import nn
import tensorgrad
from tensorgrad import Tensor, tensor

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


# --- NumPy ----------------------------------------------------------------------------------------


def test_numpy_shares_the_memory():
    x = tensorgrad.zeros(2, 3)
    x.numpy()[0, 1] = 7
    np.asarray(x)[1, 2] = 8
    assert x.tolist() == [[0, 7, 0], [0, 0, 8]]
    assert np.shares_memory(x[0].numpy(), x.numpy())
    assert np.array(x).base is None
    assert np.array(x, copy=True).dtype == np.float32
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    y = tensor([1.0], requires_grad=True)
    assert np.shares_memory(y.numpy(force=True), y.detach().numpy())


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (np.exp, [1.0, np.e]),
        (np.negative, [0.0, -1.0]),
        (lambda x: np.add(x, 1), [1.0, 2.0]),
        (lambda x: np.maximum(x, np.array([0.5, 0.5])), [0.5, 1.0]),
        (np.isfinite, [True, True]),
    ],
)
def test_numpys_functions_give_tensors(function, expected):
    """As those of PyTorch's tensors do; without history."""
    y = function(tensor([0.0, 1.0]))
    assert isinstance(y, Tensor)
    assert y.tolist() == pytest.approx(expected)
    assert y.is_leaf
    with pytest.raises(RuntimeError, match="requires grad"):
        function(tensor([0.0, 1.0], requires_grad=True))


def test_arrays_and_scalars_on_either_side():
    x = tensor([1.0, 2.0], requires_grad=True)
    for y in (np.float64(2) * x, x * np.float64(2), np.float32(2) * x, np.int64(2) * x):
        assert isinstance(y, Tensor)
        assert (y.tolist(), y.dtype, y.requires_grad) == ([2, 4], tensorgrad.float32, True)
    array = np.array([3.0, 4.0], dtype=np.float32)
    for y in (array * x, x * array):
        assert isinstance(y, Tensor)
        assert y.tolist() == [3, 8]
    (array * x).sum().backward()
    assert x.grad.tolist() == [3, 4]


def test_lists_and_iteration():
    x = tensor([[1, 2], [3, 4]])
    assert x.tolist() == [[1, 2], [3, 4]]
    assert [type(v) for v in x[0].tolist()] == [int, int]
    rows = list(x)
    rows[1][0] = 9  # a row is a view
    assert x.tolist() == [[1, 2], [9, 4]]
    assert [float(v) for v in tensor([0.5, 1.5])] == [0.5, 1.5]
    assert (tensor(True).tolist(), tensor(2.5).tolist()) == (True, 2.5)


# --- DLPack ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_numpy(dtype):
    x = tensorgrad.zeros(3, dtype=dtype)
    array = np.from_dlpack(x)
    assert (array.dtype, np.shares_memory(array, x.numpy())) == (dtype, True)
    source = np.zeros(3, dtype)
    back = tensorgrad.from_dlpack(source)
    source[1] = 1
    assert (back.dtype, back.tolist()) == (dtype, [0, 1, 0])
    assert x.__dlpack_device__() == (1, 0)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_torch(torch, dtype):
    ours = tensorgrad.zeros(2, 3, dtype=dtype)
    theirs = torch.from_dlpack(ours.T)
    theirs[2, 1] = 1
    assert ours.tolist() == [[0, 0, 0], [0, 0, 1]]
    theirs = torch.zeros(2, 3, dtype=getattr(torch, dtype))
    ours = tensorgrad.from_dlpack(theirs[:, 1:])
    theirs[0, 2] = 1
    assert ours.tolist() == [[0, 1], [0, 0]]


def test_dlpack_of_a_tensor_with_history():
    with pytest.raises(BufferError, match=r"use \.detach\(\)"):
        np.from_dlpack(tensor([1.0], requires_grad=True))


# --- pickle and copies ----------------------------------------------------------------------------


class Marked(Tensor):
    """A kind of tensor of the user's own."""


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_again(again):
    for x in (
        tensor([[1.5, 2.5]], requires_grad=True),
        tensor([True, False]),
        tensor(3, dtype=tensorgrad.int8),
        tensorgrad.arange(6).reshape(2, 3).T[1:],
        tensorgrad.zeros(0, 2),
        nn.Parameter(tensor([1.0, 2.0])),
        Marked([1.0]),
    ):
        y = again(x)
        assert type(y) is type(x)
        assert (y.dtype, y.shape, y.requires_grad) == (x.dtype, x.shape, x.requires_grad)
        assert y.tolist() == x.tolist()
        assert y.is_leaf
    with pytest.raises(RuntimeError, match="only leaf tensors can be"):
        again(tensor([1.0], requires_grad=True) * 2)


def test_what_a_copy_shares():
    x = tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    copies = [copy.copy(x), copy.deepcopy(x), pickled(x)]
    with tensorgrad.no_grad():
        x[0] = 7
    x.grad.zero_()
    assert [c.tolist() for c in copies] == [[7, 2], [1, 2], [1, 2]]
    assert copies[1].grad.tolist() == [2, 4]
    assert copies[2].grad is None  # as in PyTorch
    pair = copy.deepcopy([x, x])
    assert pair[0] is pair[1]


def test_a_module_survives_pickle():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    x = tensorgrad.ones(4, 2)
    for twin in (pickled(model), copy.deepcopy(model)):
        assert twin(x).tolist() == model(x).tolist()
        twin(x).sum().backward()
        assert all(p.grad is None for p in model.parameters())
