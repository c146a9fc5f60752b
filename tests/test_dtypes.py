"""Dtypes and devices as objects, casts, and the default dtype."""

from __future__ import annotations

import copy
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from test_torch_parity import expressions, run, same

import tensorgrad
from tensorgrad import tensor

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_and_numpys(name):
    dtype, theirs = getattr(tensorgrad, name), np.dtype(name)
    x = tensorgrad.zeros(2, dtype=dtype)
    assert x.dtype is dtype
    assert x.numpy().dtype == dtype
    for same_one in (theirs, theirs.type, name):
        assert dtype == same_one
        assert same_one == dtype
        assert tensorgrad.zeros(2, dtype=same_one).dtype is dtype
        assert x.to(same_one) is x
    assert hash(dtype) == hash(theirs)
    assert {theirs: 1}[dtype] == 1
    assert np.zeros(3, dtype).dtype == np.arange(3).astype(dtype).dtype == theirs
    assert (dtype.itemsize, dtype.name, dtype.kind) == (theirs.itemsize, theirs.name, theirs.kind)
    assert str(dtype) == repr(dtype) == f"tensorgrad.{name}"
    assert pickle.loads(pickle.dumps(dtype)) is copy.deepcopy(dtype) is dtype
    assert all((dtype == getattr(tensorgrad, other)) is (other == name) for other in NAMES)
    assert dtype != None  # noqa: E711
    assert dtype != "nonsense"
    assert dtype != 3


@pytest.mark.parametrize("name", ["bfloat16", "complex64", "uint16", "qint8"])
def test_dtypes_that_there_are_not(name):
    with pytest.raises(AttributeError, match=f"no dtype {name}; it has bool, uint8, int8 to int64"):
        getattr(tensorgrad, name)
    assert not hasattr(tensorgrad, name)


@pytest.mark.torch
def test_pairs_are_those_of_torch(torch):
    for a, b in itertools.product(NAMES, NAMES):
        ours, theirs = ([getattr(m, n) for n in (a, b)] for m in (tensorgrad, torch))
        assert str(tensorgrad.promote_types(*ours))[11:] == str(torch.promote_types(*theirs))[6:]
        assert tensorgrad.can_cast(*ours) == torch.can_cast(*theirs), (a, b)


def test_the_default_dtype():
    assert tensorgrad.get_default_dtype() is tensorgrad.float32
    tensorgrad.set_default_dtype(tensorgrad.float64)
    try:
        assert tensorgrad.get_default_dtype() is tensorgrad.float64
        made = [tensor(1.0), tensorgrad.zeros(2), tensorgrad.rand(2), tensorgrad.arange(2.0),
                tensorgrad.arange(2) * 0.5, tensorgrad.arange(3) / 2, tensorgrad.eye(2),
                tensorgrad.Tensor([1.0]), tensorgrad.arange(3).exp()]  # fmt: skip
        assert all(t.dtype is tensorgrad.float64 for t in made)
        assert repr(tensor([1.5])) == "tensor([1.5000])"
        assert tensorgrad.finfo().bits == 64
    finally:
        tensorgrad.set_default_dtype(tensorgrad.float32)
    assert repr(tensor([1.5], dtype="float64")) == "tensor([1.5000], dtype=tensorgrad.float64)"
    with pytest.raises(TypeError, match="only a float dtype can be the default, not int64"):
        tensorgrad.set_default_dtype(tensorgrad.int64)


def test_code_that_looks_for_a_gpu_runs():
    device = "cuda" if tensorgrad.cuda.is_available() else "cpu"
    if tensorgrad.backends.mps.is_available():
        device = "mps"
    tensorgrad.cuda.manual_seed_all(0)
    tensorgrad.backends.cudnn.deterministic = True
    device = tensorgrad.device(device)
    x = tensorgrad.ones(2, device=device).to(device, non_blocking=True).cpu()
    assert x.device == device == "cpu"
    assert {device: 1}["cpu"] == 1
    assert pickle.loads(pickle.dumps(device)) == device
    assert (repr(device), str(tensorgrad.device("cuda", 1))) == ("device(type='cpu')", "cuda:1")
    assert tensorgrad.device("cpu:0") != device  # as in PyTorch, though it is the same memory
    for move in (lambda: x.cuda(), lambda: x.to("cuda"), lambda: x.to(tensorgrad.device("mps"))):
        with pytest.raises(RuntimeError, match=r"computes on the CPU: there is no device '\w+'"):
            move()


def test_to_makes_a_copy_only_when_it_must():
    x = tensor([1.0], requires_grad=True)
    assert x.to(tensorgrad.float32) is x.float() is x.to(x) is x.to("cpu") is x.type_as(x) is x
    y = x.to(tensorgrad.float64)
    y.backward()
    assert (y.dtype, x.grad.dtype) == (tensorgrad.float64, tensorgrad.float32)
    copied = x.to("cpu", copy=True)
    assert copied is not x
    assert copied.detach().add_(1).item() == 2
    assert x.item() == 1
    with pytest.raises(TypeError, match=r"to: expected \(dtype\), \(device, dtype\) or \(other\)"):
        x.to(tensorgrad.float32, "cpu")


def test_importing_does_not_load_much():
    """Nothing slow to import, and nothing optional, is loaded before it is asked for."""
    slow = {"asyncio", "graphviz", "matplotlib", "nn", "numba", "safetensors", "torch"}
    code = (
        "import sys, numpy; before = set(sys.modules); "
        "import tensorgrad; print(*(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "tensorgrad.tensor" in loaded
    assert not {name.partition(".")[0] for name in loaded} & slow


# The inputs x, f, i, … are those of test_torch_parity.py.
VALUES = expressions(
    """
    x.half(); i.half(); x.short(); i.char(); i.byte(); i.short(); x.to(m.float16); x.to('cpu') is x;
    x.to('cpu', m.float32); x.to(m.device('cpu'), m.int64); x.to(f); x.to(x) is x;
    x.to(dtype=m.float32, device='cpu'); x.to(m.float32, copy=True); x.to(m.float64, False, True);
    x.to(m.float64, copy=True) is x; x.to() is x; x.to(None) is x; x.to(f, non_blocking=True);
    x.float().dtype.is_floating_point, i.dtype.is_floating_point, x.dtype.is_complex;
    x.dtype.itemsize, i.dtype.is_signed, u.dtype.is_signed, b.dtype.is_signed; x.cpu() is x;
    x.is_cuda, x.is_cpu, x.get_device(), str(x.device), repr(x.device), x.itemsize;
    x.device.type, x.device.index, x.device == m.device('cpu'), x.device == y.device;
    m.is_floating_point(x), m.is_complex(x), m.is_tensor(x), m.is_tensor(3), m.numel(x);
    i.is_signed(), u.is_signed(), x.is_complex(), x.type(m.int32), x.type(m.float64) is x;
    x.type().partition('.')[2], i.type().partition('.')[2], x.type('torch.FloatTensor');
    x.double() is x, i.long() is i, b.bool() is b, x.bool(), m.tensor([2.7, -2.7]).int();
    m.tensor([300, -1]).byte(), m.tensor([300, -1]).char(), m.tensor([0.5, 0.0, np.nan]).bool();
    isinstance(x.dtype, m.dtype), isinstance(m.float32, m.dtype), x.dtype == m.double;
    m.float == m.float32, m.int == m.int32, m.short == m.int16, m.half == m.float16;
    m.finfo(m.float32).eps, m.finfo(m.float64).max, m.finfo(m.float16).tiny;
    m.finfo(m.float16).bits;
    m.finfo(x.dtype).min, m.finfo().smallest_normal, m.finfo(m.float64).resolution;
    m.iinfo(m.uint8).max, m.iinfo(m.int32).min, m.iinfo(m.int64).max, m.iinfo(m.int8).bits;
    repr(m.finfo(m.float32)), repr(m.iinfo(m.int16)), m.finfo(m.float16).dtype;
    m.cuda.is_available() and 0, m.backends.mps.is_available() and 0; x.new_zeros(2, 3);
    i.new_ones((2,)); f.new_full((2, 2), 3); i.new_tensor([2.7, 1]); x.new_tensor([1, 2]);
    x.new_tensor(np.arange(2)); u.new_zeros(2, dtype=m.float64); f.new_ones(size=(2,));
    x.new_empty(2, 0); i.new_full((), 2.5)
"""
)
ERRORS = expressions(
    """
    x.to('cuda:x'); m.zeros(2, device='banana'); m.device('banana'); m.finfo(m.int8);
    m.iinfo(m.float32); m.iinfo(m.bool); m.set_default_dtype(m.int8); x.to(m.float32, 'cpu');
    x.type_as(3)
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
