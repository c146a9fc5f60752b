"""Making tensors: dtypes, copies, patterns, and random numbers that can be repeated."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

import tensorgrad
from tensorgrad import Generator, manual_seed, tensor


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1, "int64"),
        (1.0, "float32"),
        (True, "bool"),
        ([1, 2.5], "float32"),
        ([], "float32"),
        ([[True], [False]], "bool"),
        (range(3), "int64"),
        ((1, 2), "int64"),
        (np.float64(1), "float64"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float16), "float16"),
        (np.array([1], np.uint8), "uint8"),
        (tensor([1], dtype="int8"), "int8"),
    ],
)
def test_dtypes(data, dtype):
    made = tensor(data)
    assert made.dtype == dtype
    np.testing.assert_array_equal(made.numpy(), np.asarray(data))
    assert tensor(data, dtype=tensorgrad.float64).dtype == "float64"
    assert made.is_leaf
    assert not made.requires_grad


def test_tensor_copies_and_as_tensor_does_not():
    array = np.ones(2)
    copied, shared, same = tensor(array), tensorgrad.as_tensor(array), tensorgrad.from_numpy(array)
    array[0] = 7
    assert (copied.tolist(), shared.tolist(), same.tolist()) == ([1, 1], [7, 1], [7, 1])
    assert tensorgrad.as_tensor(copied) is copied
    assert tensorgrad.as_tensor(copied, dtype=tensorgrad.float32).dtype == "float32"
    assert tensorgrad.as_tensor([1, 2]).tolist() == [1, 2]
    assert tensorgrad.as_tensor(array, dtype="float32").dtype == "float32"


def test_a_tensor_of_a_tensor_is_a_new_leaf():
    x = tensor([1.0], requires_grad=True)
    y = tensor(x * 2, requires_grad=True)
    assert y.is_leaf
    y.sum().backward()
    assert x.grad is None


PATTERNS = {
    "zeros(2, 3)": [[0, 0, 0], [0, 0, 0]],
    "zeros((2,))": [0, 0],
    "zeros()": 0,
    "ones([1, 2])": [[1, 1]],
    "full((2,), 7)": [7, 7],
    "full([], 0.5)": 0.5,
    "zeros_like(tensor([1, 2]))": [0, 0],
    "ones_like(tensor([[1.5]]), dtype='int64')": [[1]],
    "arange(3)": [0, 1, 2],
    "arange(1, 2, 0.25)": [1, 1.25, 1.5, 1.75],
    "arange(3, 0, -1)": [3, 2, 1],
    "arange(0)": [],
    "linspace(0, 1, 3)": [0, 0.5, 1],
    "eye(2, 3)": [[1, 0, 0], [0, 1, 0]],
}


@pytest.mark.parametrize("call", PATTERNS)
def test_patterns(call):
    assert eval(call, vars(tensorgrad) | {"tensor": tensor}).tolist() == PATTERNS[call]


def test_sizes_are_integers():
    assert tensorgrad.zeros(tensor(2), np.int64(3)).shape == (2, 3)
    assert tensorgrad.empty(2, 0).shape == (2, 0)
    for sizes in ((2.0,), ("2",), ([2, 1.5],)):
        with pytest.raises(TypeError):
            tensorgrad.zeros(*sizes)
    with pytest.raises(RuntimeError, match=r"sizes cannot be negative, got \(2, -1\)"):
        tensorgrad.randn(2, -1)


@pytest.mark.parametrize(
    "make", [tensorgrad.zeros, tensorgrad.ones, tensorgrad.rand, tensorgrad.randn]
)
def test_options(make):
    x = make(2, dtype=tensorgrad.float64, requires_grad=True)
    assert (x.dtype, x.requires_grad, x.is_leaf) == ("float64", True, True)
    with pytest.raises(RuntimeError, match="float"):
        make(2, dtype=tensorgrad.int64, requires_grad=True)


# --- random ---------------------------------------------------------------------------------------

DRAWS = {
    "rand": lambda g: tensorgrad.rand(50, generator=g),
    "randn": lambda g: tensorgrad.randn(50, generator=g),
    "randint": lambda g: tensorgrad.randint(0, 1000, (50,), generator=g),
    "randperm": lambda g: tensorgrad.randperm(50, generator=g),
    "bernoulli": lambda g: tensorgrad.bernoulli(tensorgrad.full((200,), 0.5), generator=g),
    "multinomial": lambda g: tensorgrad.multinomial(tensorgrad.ones(50), 50, generator=g),
    "normal_": lambda g: tensorgrad.empty(50).normal_(generator=g),
    "uniform_": lambda g: tensorgrad.empty(50).uniform_(generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_can_be_repeated(name):
    draw = DRAWS[name]
    g = Generator(3)
    first, state = draw(g).tolist(), g.get_state()
    second = draw(g).tolist()
    assert first != second
    assert draw(Generator(3)).tolist() == first
    assert draw(Generator(4)).tolist() != first
    assert draw(g.set_state(state)).tolist() == second
    assert draw(g.manual_seed(3)).tolist() == first
    manual_seed(3)
    assert draw(None).tolist() == first  # the default generator, seeded alike
    assert draw(None).tolist() == second


def test_a_saved_state_is_apart_from_its_generator():
    g = Generator(0)
    state = g.get_state()
    first = tensorgrad.rand(3, generator=g).tolist()
    tensorgrad.rand(3, generator=g)
    assert tensorgrad.rand(3, generator=Generator(1).set_state(state)).tolist() == first


N = 20_000


def _largest_gap(values, distribution):
    """Kolmogorov's distance between the values and a distribution function."""
    values = np.sort(values)
    return np.abs(np.arange(len(values)) / len(values) - [distribution(v) for v in values]).max()


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [
        (lambda g: tensorgrad.rand(N, generator=g), lambda v: v),
        (lambda g: tensorgrad.randn(N, generator=g), NormalDist().cdf),
        (lambda g: tensorgrad.empty(N).normal_(3, 0.5, generator=g), NormalDist(3, 0.5).cdf),
        (lambda g: tensorgrad.empty(N).uniform_(-1, 3, generator=g), lambda v: (v + 1) / 4),
    ],
)
def test_distributions(draw, distribution):
    # The gap exceeds 2 / sqrt(N) for one seed in 1500; this seed is not that one.
    assert _largest_gap(draw(Generator(0)).tolist(), distribution) < 2 / math.sqrt(N)


def test_discrete_distributions():
    g, weights = Generator(0), np.array([1.0, 0.0, 3.0, 6.0])
    drawn = tensorgrad.multinomial(tensor(weights), N, replacement=True, generator=g).numpy()
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / N, weights / 10, atol=0.015)
    drawn = tensorgrad.randint(2, 5, (N,), generator=g).numpy()
    assert set(drawn) == {2, 3, 4}
    np.testing.assert_allclose(np.bincount(drawn)[2:] / N, 1 / 3, atol=0.015)
    kept = tensorgrad.bernoulli(tensorgrad.full((N,), 0.2), generator=g)
    assert kept.dtype == "float32"
    assert kept.mean().item() == pytest.approx(0.2, abs=0.015)
    assert sorted(tensorgrad.randperm(9, generator=g).tolist()) == list(range(9))


def test_multinomial_without_replacement_takes_each_once():
    rows = tensor([[0.0, 1.0, 2.0, 3.0], [5.0, 0.0, 0.1, 9.0]])
    drawn = tensorgrad.multinomial(rows, 3, generator=Generator(0))
    assert [sorted(r) for r in drawn.tolist()] == [[1, 2, 3], [0, 2, 3]]
    assert drawn.dtype == "int64"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tensorgrad.multinomial(tensor([1.0, 0.0]), 2), "cannot draw 2 different indices"),
        (lambda: tensorgrad.multinomial(tensor([1.0, -1.0]), 1), "finite, not negative"),
        (lambda: tensorgrad.multinomial(tensor([0.0, 0.0]), 1), "not all 0"),
        (lambda: tensorgrad.multinomial(tensor([float("nan")]), 1), "finite"),
        (lambda: tensorgrad.bernoulli(tensor([1.5])), "between 0 and 1"),
        (lambda: tensorgrad.randint(3, 3, (2,)), r"no integer in \[3, 3\)"),
        (lambda: tensorgrad.arange(0, 3, 0), "steps of 0 do not lead from 0 to 3"),
    ],
)
def test_what_cannot_be_drawn(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()
