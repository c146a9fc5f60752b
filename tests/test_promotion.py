"""Which dtype a mixture of dtypes gives: PyTorch's rules, not NumPy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tensorgrad

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
NUMBERS = {"True": True, "2": 2, "0.5": 0.5}

# Every operand: a tensor with dims ("int8"), a 0-dim tensor ("int8()"), a Python number ("0.5").
OPERANDS = [*DTYPES, *(f"{d}()" for d in DTYPES), *NUMBERS]

OPERATIONS = {
    "add": lambda m, a, b: a + b,
    "multiply": lambda m, a, b: a * b,
    "divide": lambda m, a, b: a / b,
    "power": lambda m, a, b: a**b,
    "equal": lambda m, a, b: a == b,
    "less": lambda m, a, b: a < b,
    "where": lambda m, a, b: m.where(m.tensor([True, False]), a, b),
    "cat": lambda m, a, b: m.cat([a.reshape(-1), b.reshape(-1)]),
    "add_": lambda m, a, b: a.add_(b),
}
# Of these PyTorch refuses some numbers, or two numbers, that we take.
MORE = {
    "subtract": lambda m, a, b: m.sub(a, b),
    "true_divide": lambda m, a, b: m.true_divide(a, b),
    "floor_divide": lambda m, a, b: a // b,
    "remainder": lambda m, a, b: a % b,
    "fmod": lambda m, a, b: m.fmod(a, b),
    "maximum": lambda m, a, b: m.maximum(a, b),
    "fmin": lambda m, a, b: m.fmin(a, b),
    "atan2": lambda m, a, b: m.atan2(a, b),
    "copysign": lambda m, a, b: m.copysign(a, b),
    "xlogy": lambda m, a, b: m.xlogy(a, b),
    "float_power": lambda m, a, b: m.float_power(a, b),
    "clamp": lambda m, a, b: m.clamp(a, b),
    "bitwise_and": lambda m, a, b: a & b,
    "bitwise_left_shift": lambda m, a, b: a << b,
    "mul_": lambda m, a, b: a.mul_(b),
    "rsub": lambda m, a, b: m.rsub(a, b),
}


def operand(m, kind):
    if kind in NUMBERS:
        return NUMBERS[kind]
    dtype = getattr(m, kind.rstrip("()"))
    return m.tensor(1, dtype=dtype) if kind.endswith("()") else m.tensor([1, 3]).to(dtype)


def result(m, operation, a, b):
    """The dtype and the values of a result, or that there is none."""
    try:
        y = (OPERATIONS | MORE)[operation](m, operand(m, a), operand(m, b))
    except (RuntimeError, TypeError, AttributeError):
        return None
    return str(y.dtype).rpartition(".")[2], y.tolist()


@pytest.mark.torch
@pytest.mark.parametrize("operation", OPERATIONS | MORE)
def test_every_pair(torch, operation):
    """441 pairs of operands, their values too."""
    wrong = []
    for a, b in itertools.product(OPERANDS, OPERANDS):
        if a in NUMBERS and b in NUMBERS and operation != "where":
            continue  # Python's own business
        if operation == "power" and {a.rstrip("()"), b.rstrip("()")} <= {"bool", "True"}:
            continue  # which PyTorch refuses, and NumPy's int8 is as good as any
        ours, theirs = result(tensorgrad, operation, a, b), result(torch, operation, a, b)
        if theirs is None and operation in MORE:
            continue
        agree = ours == theirs or (
            ours and theirs and ours[0] == theirs[0] and np.allclose(ours[1], theirs[1], rtol=1e-3)
        )
        if not agree:
            wrong.append(f"{a} {operation} {b}: {ours}, PyTorch {theirs}")
    assert not wrong, f"{len(wrong)} pairs:\n" + "\n".join(wrong)


@pytest.mark.torch
def test_result_type(torch):
    """Also where no operation is done: of every pair of operands."""
    for a, b in itertools.product(OPERANDS, OPERANDS):
        ours, theirs = (m.result_type(operand(m, a), operand(m, b)) for m in (tensorgrad, torch))
        assert str(ours).rpartition(".")[2] == str(theirs).rpartition(".")[2], (a, b)


FROZEN = """
    int64     float32   add      float32
    int64     float64() add      float64
    float32   float64() add      float32
    float32   float64   multiply float64
    float16   int64     multiply float16
    uint8     int8      add      int16
    uint8     int64()   add      uint8
    int32     int64     multiply int64
    bool      bool      add      bool
    bool      2         add      int64
    bool      0.5       multiply float32
    uint8     2         add      uint8
    int16     0.5       add      float32
    float16   0.5       add      float16
    float64   0.5       power    float64
    int64     int64     divide   float32
    bool      True      divide   float32
    int64     2         power    int64
    int64     0.5       power    float32
    int64     0.5       less     bool
    float32   int64     where    float32
    int8      0.5       where    float32
    2         0.5       where    float32
    int8      uint8     cat      int16
    int64     float16   cat      float16
    float32   float64   add_     float32
    int32     int64     add_     int32
"""


@pytest.mark.parametrize("row", [line.strip() for line in FROZEN.strip().splitlines()])
def test_some_pairs_without_torch(row):
    a, b, operation, expected = row.split()
    assert result(tensorgrad, operation, a, b)[0] == expected
    if operation in ("add", "multiply"):
        assert result(tensorgrad, operation, b, a)[0] == expected


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_gradient_has_the_dtype_of_its_tensor(dtype):
    x = tensorgrad.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    other = tensorgrad.tensor([3.0], dtype=tensorgrad.float64, requires_grad=True)
    (x * other).sum().backward()
    assert (x.grad.dtype, other.grad.dtype) == (dtype, "float64")
    assert (x.grad.tolist(), other.grad.tolist()) == ([3.0, 3.0], [3.0])


@pytest.mark.parametrize("scalar", [np.float64(2), np.float32(2), np.int64(2), np.bool_(True)])
def test_numpy_scalars_are_as_weak_as_numbers(scalar):
    x = tensorgrad.tensor([1.5], dtype="float16")
    assert (x * scalar).dtype == (scalar * x).dtype == (x - scalar).dtype == "float16"
    assert (scalar * x).tolist() == [1.5 * float(scalar)]


def test_numpy_arrays_count_as_tensors():
    x = tensorgrad.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0])
    for y in (array * x, x * array):
        assert isinstance(y, tensorgrad.Tensor)
        assert (y.dtype, y.tolist()) == ("float64", [3.0, 8.0])
    assert (array - x).tolist() == [2.0, 2.0]
    assert (array / x).tolist() == [3.0, 2.0]
    assert (array @ x.double()).tolist() == 11.0
    assert (array == x).tolist() == [False, False]
    assert (array > x).tolist() == [True, True]
    (array * x).sum().backward()
    assert (x.grad.dtype, x.grad.tolist()) == ("float32", [3.0, 4.0])


def test_an_assignment_keeps_the_dtype():
    x = tensorgrad.zeros(3, dtype=tensorgrad.int32)
    x[0], x[1], x[2:] = 2.7, tensorgrad.tensor(3.9), np.array([4.9])
    assert (x.dtype, x.tolist()) == ("int32", [2, 3, 4])


@pytest.mark.parametrize("dtype", ["complex64", "uint16", "uint32", "uint64", "U3", "O", ">f4"])
def test_dtypes_that_tensors_do_not_have(dtype):
    for make in (
        lambda: tensorgrad.tensor(np.zeros(2, dtype)),
        lambda: tensorgrad.from_numpy(np.zeros(2, dtype)),
        lambda: tensorgrad.as_tensor(np.zeros(2, dtype)),
        lambda: tensorgrad.zeros(2, dtype=dtype),
        lambda: tensorgrad.ones(2).to(dtype),
    ):
        with pytest.raises(TypeError, match=r"tensors have no dtype .*float32"):
            make()
