"""Making tensors: dtypes, copies, patterns, and random numbers that can be repeated."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from test_torch_parity import expressions, run, same

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


# The inputs x, f, i, … are those of test_torch_parity.py.
VALUES = expressions(
    """
    m.zeros(size=(2, 3)); m.ones(2, dtype=float); m.ones((2,), dtype=int); m.ones(2, dtype=bool);
    m.zeros(2, device='cpu', layout=m.strided, pin_memory=False); m.empty((0, 2));
    m.full_like(x, 2); m.full_like(i, 2.7); m.full_like(i, 1, dtype=m.float32); m.empty_like(e);
    m.zeros_like(x, memory_format=m.preserve_format); m.ones_like(x, requires_grad=True);
    m.full((2,), m.tensor(5.0)); m.full((2,), True); m.full([2], 3, dtype=m.int8);
    m.full((1,), 2.5, requires_grad=True); m.arange(0, 1, 0.1); m.arange(1, 2, 0.3);
    m.arange(5, 0, -1.5); m.arange(0.5, 3); m.arange(m.tensor(3)); m.arange(m.tensor(3.0));
    m.arange(2, 10, 3, dtype=m.int32); m.arange(2.7, dtype=m.int64); m.arange(True);
    m.arange(start=1, end=4); m.arange(0); m.arange(3, 3); m.arange(4, dtype=m.float16);
    m.linspace(0, 10, 4, dtype=m.int64); m.linspace(-10, 0, 4, dtype=m.int64); m.linspace(0, 1, 0);
    m.linspace(3, 7, 1); m.linspace(m.tensor(0.0), 1, 3);
    m.linspace(0, 1, steps=7, dtype=m.float64); m.logspace(0, 2, 3); m.logspace(0, 3, 4, base=2);
    m.logspace(-1, 1, 5, dtype=m.float64); m.eye(0); m.eye(3, dtype=m.int64);
    m.eye(2, 3, dtype=m.bool); m.range(1, 3); m.range(0, 1, 0.25); m.range(5, 1, -2);
    m.tensor([m.tensor(1.0), m.tensor(3)]); m.tensor([[s, 2], [3, s]]);
    m.tensor([m.tensor(1, dtype=m.int16), 3]); m.tensor([m.tensor([1.0]), 3]); m.tensor([j, j]);
    m.tensor([np.float64(1), 2]); m.tensor([np.float32(1), 2]);
    m.tensor([np.int32(1), np.int32(2)]); m.tensor(np.float32(2)); m.tensor([np.ones(2)]);
    m.tensor([[1, 2.5], [True, 0]]); m.tensor([True, 2]); m.tensor([[]]);
    m.tensor(((1, 2), [3, 4])); m.tensor([-1], dtype=m.uint8); m.tensor(1e40);
    m.tensor(3.7, dtype=m.int32); m.tensor(x); m.tensor(2, dtype=m.bool);
    m.tensor(True, dtype=m.float32); m.tensor([1e-50]); m.as_tensor(np.float64(3));
    m.as_tensor(3.0); m.as_tensor([1, 2], dtype=m.float64); m.as_tensor(x, dtype=m.float32);
    m.as_tensor(x, device='cpu') is x; m.asarray([1, 2.0]); m.asarray(np.ones(2));
    m.asarray(x.detach(), dtype=m.float32); m.asarray([1.0], requires_grad=True);
    m.scalar_tensor(3); m.scalar_tensor(True); m.scalar_tensor(2.5, dtype=m.int64);
    m.randint(5, (2,)).dtype == m.int64, m.randint(2, 5, (3,), dtype=m.float32).dtype == m.float32;
    m.randint(high=3, size=(2,)).shape, m.rand(size=(2, 1)).shape, m.randn((2, 3)).shape;
    m.rand_like(x).dtype == x.dtype, m.randn_like(f).shape, m.randint_like(x, 3).dtype == x.dtype;
    m.randint(1, (2, 2)), m.randint_like(i, 2, 3);
    m.randperm(1), m.randperm(3, dtype=m.int32).dtype == m.int32;
    m.bernoulli(m.ones(2)), m.zeros(2).bernoulli(1.0), m.ones(2).bernoulli(0.0);
    m.zeros(2).bernoulli_(m.ones(2));
    m.multinomial(m.tensor([0.0, 1.0]), 3, replacement=True); m.tensor([[0.0, 2.0]]).multinomial(1);
    m.normal(1.0, 0.0, (2, 2)); m.normal(m.arange(3.0), 0.0); m.normal(2.0, m.zeros(2));
    m.normal(m.zeros(2, 1), m.zeros(3)); m.poisson(m.zeros(2)); m.zeros(2).normal_(3, 0);
    m.zeros(3).uniform_(2, 2); m.zeros(2).random_(3, 4); m.zeros(2, dtype=m.int32).random_(1);
    m.get_rng_state().dtype == m.uint8, m.initial_seed() >= 0;
    m.promote_types(m.int8, m.uint8) == m.int16, m.can_cast(m.int32, m.uint8)
"""
)
ERRORS = expressions(
    """
    m.tensor(2 ** 63); m.tensor([300], dtype=m.uint8); m.tensor(None); m.tensor([None]);
    m.tensor({1: 2}); m.tensor([2.5, float('inf')], dtype=m.int32); m.tensor([1, 2, 'a']);
    m.tensor([m.ones(2), m.ones(2)]); m.full(2, 1); m.zeros(2, size=(2,)); m.eye(-1);
    m.linspace(0, 1); m.linspace(0, 1, -1); m.arange(float('nan')); m.arange(1, float('inf'));
    m.randint(5, 5, (2,)); m.randint(3); m.randn(2, dtype=m.int64); m.rand(2, dtype=m.int64);
    m.randperm(-1); m.multinomial(m.ones(3), 0); m.multinomial(m.ones(3, dtype=m.int64), 1);
    m.multinomial(m.ones(2, 3, 4), 1); m.normal(m.zeros(2), m.tensor([1.0, -1.0]));
    m.normal(m.zeros(2), -1.0); m.poisson(m.tensor([-1.0])); m.zeros(2).geometric_(0);
    m.zeros(2).exponential_(-1); m.zeros(2).uniform_(2, 1); m.zeros(2).normal_(0, -1);
    m.zeros(2).random_(3, 3); m.zeros(2).bernoulli_(1.5); m.zeros(2, dtype=m.int64).normal_();
    m.zeros(2, dtype=m.int64).uniform_(); m.zeros(2, dtype=m.int64).exponential_();
    m.bernoulli(m.tensor([1])); m.zeros(2, requires_grad=True).normal_(); x.uniform_();
    m.zeros(2, foo=1); m.set_rng_state(3); m.set_rng_state(m.zeros(2, dtype=m.uint8));
    f.new_tensor([[1], [1, 2]])
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


# --- data -----------------------------------------------------------------------------------------


def test_tensors_in_lists_are_numbers():
    x = tensor([1.0, 2.0], requires_grad=True)
    made = tensor([[x[0], 3], [x[1] * 2, x.sum()]])
    assert made.tolist() == [[1.0, 3.0], [4.0, 3.0]]
    assert made.is_leaf
    assert not made.requires_grad
    assert tensor([tensor(1, dtype="int16"), tensor(2, dtype="int8")]).dtype == "int16"


def test_what_shares_memory():
    array = np.zeros(3, dtype=np.float32)
    shared = [
        tensorgrad.from_numpy(array),
        tensorgrad.as_tensor(array),
        tensorgrad.asarray(array),
        tensorgrad.from_dlpack(array),
        tensorgrad.asarray(tensorgrad.from_numpy(array), copy=False),
    ]
    copies = [tensor(array), tensorgrad.asarray(array, copy=True)]
    array[1] = 5
    assert all(t.tolist() == [0, 5, 0] for t in shared)
    assert all(t.tolist() == [0, 0, 0] for t in copies)
    with pytest.raises(ValueError, match="without a copy"):
        tensorgrad.asarray([1.0], copy=False)


def test_an_array_that_cannot_be_written():
    array = np.zeros(3)
    array.flags.writeable = False
    x = tensorgrad.from_numpy(array)
    assert (x + 1).tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="this memory cannot be written"):
        x.add_(1)
    assert array.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "make",
    [
        lambda **where: tensorgrad.zeros(2, **where),
        lambda **where: tensorgrad.full((2,), 1.0, **where),
        lambda **where: tensorgrad.randn(2, **where),
        lambda **where: tensorgrad.rand_like(tensorgrad.ones(2), **where),
        lambda **where: tensorgrad.ones_like(tensorgrad.ones(2), **where),
        lambda **where: tensorgrad.arange(2.0, **where),
        lambda **where: tensor([1.0, 2.0], **where),
        lambda **where: tensorgrad.ones(3).new_zeros(2, **where),
    ],
)
def test_where_a_new_tensor_lies(make):
    for device in (None, "cpu", tensorgrad.device("cpu"), "cpu:0"):
        x = make(device=device, requires_grad=True, layout=tensorgrad.strided)
        assert (x.device, x.shape, x.requires_grad) == (tensorgrad.device("cpu"), (2,), True)
    with pytest.raises(RuntimeError, match="computes on the CPU: there is no device 'cuda:1'"):
        make(device="cuda:1")
    with pytest.raises(RuntimeError, match="pin_memory"):
        make(pin_memory=True)
    with pytest.raises(RuntimeError, match="one layout"):
        make(layout="sparse")
    with pytest.raises(TypeError, match="nonsense"):
        make(nonsense=1)


# --- generators -----------------------------------------------------------------------------------


def test_the_state_of_the_default_generator():
    manual_seed(5)
    assert tensorgrad.initial_seed() == 5
    state = tensorgrad.get_rng_state()
    assert (state.dtype, state.dim()) == (tensorgrad.uint8, 1)
    first = tensorgrad.rand(3).tolist()
    with tensorgrad.random.fork_rng():
        tensorgrad.rand(10)
    second = tensorgrad.rand(3).tolist()
    tensorgrad.set_rng_state(state)
    assert [tensorgrad.rand(3).tolist() for _ in range(2)] == [first, second]
    assert tensorgrad.seed() == tensorgrad.initial_seed() != 5
    manual_seed(-1)
    assert tensorgrad.initial_seed() == 2**64 - 1


def test_a_state_holds_half_used_draws():
    """PCG64 keeps the second half of a 64-bit draw for the next one of 32 bits."""
    g = Generator(0)
    tensorgrad.rand(1, generator=g)  # float32: half a draw
    other = g.clone_state()
    assert g.get_state().equal(other.get_state())
    draws = [tensorgrad.rand(5, generator=each).tolist() for each in (g, other)]
    assert draws[0] == draws[1]


def test_a_generator_names_its_device():
    assert Generator(device="cpu").device == tensorgrad.device("cpu")
    assert Generator("cpu").initial_seed() == Generator().initial_seed() == 0
    with pytest.raises(RuntimeError, match="there is no device 'cuda'"):
        Generator(device="cuda")


def test_float16_draws_stay_below_one():
    x = tensorgrad.rand(100_000, dtype=tensorgrad.float16, generator=Generator(0))
    assert x.max().item() < 1
    assert x.float().mean().item() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("name", "arguments", "distribution"),
    [
        ("exponential_", (2.0,), lambda v: 1 - math.exp(-2 * v)),
        ("cauchy_", (1.0, 2.0), lambda v: math.atan((v - 1) / 2) / math.pi + 0.5),
        ("log_normal_", (0.5, 0.25), lambda v: NormalDist(0.5, 0.25).cdf(math.log(v))),
    ],
)
def test_distributions_in_place(name, arguments, distribution):
    x = tensorgrad.empty(N, dtype=tensorgrad.float64)
    drawn = getattr(x, name)(*arguments, generator=Generator(1))
    assert drawn is x
    assert _largest_gap(x.tolist(), distribution) < 2 / math.sqrt(N)


def test_integers_in_place():
    x = tensorgrad.empty(N).geometric_(0.25, generator=Generator(0))
    assert x.min().item() == 1
    assert x.mean().item() == pytest.approx(4, abs=0.1)
    assert set(tensorgrad.empty(100, dtype=tensorgrad.int8).random_(3).tolist()) == {0, 1, 2}
    assert set(tensorgrad.empty(100).random_(-1, 1).tolist()) == {-1, 0}
    assert tensorgrad.empty(1000, dtype=tensorgrad.uint8).random_().max().item() > 200
    means = tensorgrad.normal(tensorgrad.tensor([-5.0, 5.0]), 0.1)
    assert (means * tensorgrad.tensor([-1.0, 1.0]) > 4).all()
    assert tensorgrad.poisson(tensorgrad.full((N,), 3.0)).mean().item() == pytest.approx(3, abs=0.1)
