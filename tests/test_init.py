"""nn.init: what is drawn has the distribution that the papers and PyTorch say.

What is deterministic (fans, gains, bounds, structure) is compared exactly, also with PyTorch. What
is random is compared with the distribution: by the Kolmogorov-Smirnov distance of 40,000 draws,
which beyond 0.01 has a probability below one in a thousand, and the seeds are fixed.
"""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import nn
import tensorgrad
from nn import init
from tensorgrad import Generator

N = (200, 200)


@pytest.fixture(autouse=True)
def _seeded():
    tensorgrad.manual_seed(0)


def normal_cdf(x, mean=0.0, std=1.0):
    return np.array([0.5 * math.erfc(-(v - mean) / std / math.sqrt(2)) for v in np.ravel(x)])


def distance(x, cdf):
    """Kolmogorov-Smirnov: the largest distance of the empirical distribution from ``cdf``."""
    x = np.sort(x.detach().numpy().astype(np.float64).ravel())
    expected = cdf(x)
    n = len(x)
    above, below = np.arange(1, n + 1) / n - expected, expected - np.arange(n) / n
    return max(above.max(), below.max())


def uniform_cdf(a, b):
    return lambda x: (x - a) / (b - a)


def test_the_distance_sees_a_difference():
    x = tensorgrad.randn(*N)
    assert distance(x, normal_cdf) < 0.01
    assert distance(x * 1.05, normal_cdf) > 0.01
    assert distance(x + 0.05, normal_cdf) > 0.01
    assert distance(tensorgrad.rand(*N) * 1.03, uniform_cdf(0, 1)) > 0.01


# --- fans and gains -------------------------------------------------------------------------------

SHAPES = [(3, 5), (1, 1), (6, 4, 3), (8, 2, 3, 5), (2, 3, 2, 2, 2)]


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_those_of_torch(torch, shape):
    ours = init._calculate_fan_in_and_fan_out(tensorgrad.zeros(*shape))
    assert ours == torch.nn.init._calculate_fan_in_and_fan_out(torch.zeros(*shape))


GAINS = [
    ("linear", None), ("conv1d", None), ("conv2d", None), ("conv3d", None),
    ("conv_transpose1d", None), ("conv_transpose2d", None), ("conv_transpose3d", None),
    ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None), ("leaky_relu", None),
    ("leaky_relu", 0), ("leaky_relu", 0.3), ("leaky_relu", -2), ("relu", 0.3),
]  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(("name", "param"), GAINS)
def test_gains_are_those_of_torch(torch, name, param):
    expected = torch.nn.init.calculate_gain(name, param)
    assert init.calculate_gain(name, param) == pytest.approx(expected, rel=1e-15)


def test_fans_and_gains():
    assert init._calculate_fan_in_and_fan_out(tensorgrad.zeros(8, 2, 3, 5)) == (30, 120)
    assert init.calculate_gain("leaky_relu", 1.0) == 1.0
    assert init.calculate_gain("relu") == math.sqrt(2)
    assert init.calculate_gain("tanh") == 5 / 3


# --- distributions --------------------------------------------------------------------------------


UNIFORM = {  # a call, and the bound that the paper gives
    "uniform_": (lambda x: init.uniform_(x, -0.5, 0.5), (200, 200), 0.5),
    "xavier_uniform_": (init.xavier_uniform_, (100, 400), math.sqrt(6 / 500)),
    "xavier_uniform_ gain": (lambda x: init.xavier_uniform_(x, 2.0), N, 2 * math.sqrt(6 / 400)),
    "xavier_uniform_ kernel": (init.xavier_uniform_, (40, 100, 10), math.sqrt(6 / 1400)),
    "kaiming_uniform_": (init.kaiming_uniform_, (100, 400), math.sqrt(6 / 400)),
    "kaiming_uniform_ leaky": (
        lambda x: init.kaiming_uniform_(x, math.sqrt(5)), (100, 400), math.sqrt(1 / 400),
    ),
    "kaiming_uniform_ fan_out": (
        lambda x: init.kaiming_uniform_(x, mode="fan_out", nonlinearity="relu"),
        (100, 400), math.sqrt(6 / 100),
    ),
    "kaiming_uniform_ kernel": (
        lambda x: init.kaiming_uniform_(x, 0.3, "fan_in", "tanh"),
        (40, 100, 10), 5 / 3 * math.sqrt(3 / 1000),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform(name):
    call, shape, bound = UNIFORM[name]
    x = tensorgrad.empty(*shape, requires_grad=True)
    assert call(x) is x
    assert x.abs().max().item() <= bound * (1 + 1e-6)
    assert x.abs().max().item() > 0.999 * bound
    assert distance(x, uniform_cdf(-bound, bound)) < 0.01
    assert x.is_leaf


NORMAL = {  # a call, the mean and the standard deviation
    "normal_": (lambda x: init.normal_(x, 2.0, 0.3), (200, 200), 2.0, 0.3),
    "xavier_normal_": (init.xavier_normal_, (100, 400), 0, math.sqrt(2 / 500)),
    "xavier_normal_ gain": (lambda x: init.xavier_normal_(x, 0.5), N, 0, 0.5 * math.sqrt(2 / 400)),
    "kaiming_normal_": (init.kaiming_normal_, (100, 400), 0, math.sqrt(2 / 400)),
    "kaiming_normal_ leaky": (
        lambda x: init.kaiming_normal_(x, 3.0), (100, 400), 0, math.sqrt(2 / 10 / 400),
    ),
    "kaiming_normal_ fan_out": (
        lambda x: init.kaiming_normal_(x, mode="fan_out", nonlinearity="linear"),
        (40, 100, 10), 0, math.sqrt(1 / 400),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMAL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(name, dtype):
    call, shape, mean, std = NORMAL[name]
    x = tensorgrad.empty(*shape, dtype=dtype)
    assert call(x) is x
    assert x.dtype == dtype
    assert distance(x, lambda v: normal_cdf(v, mean, std)) < 0.01


@pytest.mark.parametrize(
    "bounds",
    [(0.0, 1.0, -2.0, 2.0), (0.5, 0.3, 0.3, 2.0), (0.0, 1.0, 1.0, 1.2), (1.0, 2.0, -3.0, 1.5),
     (0.0, 1.0, -0.1, 0.1)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trunc_normal(bounds, dtype):
    """Also where nearly all draws would be thrown away, and another way is taken."""
    mean, std, a, b = bounds
    x = init.trunc_normal_(tensorgrad.empty(*N, dtype=dtype), *bounds)
    assert np.float64(x.min().item()) >= np.asarray(a, dtype)
    assert np.float64(x.max().item()) <= np.asarray(b, dtype)
    low, high = normal_cdf([a, b], mean, std)
    assert distance(x, lambda v: (normal_cdf(v, mean, std) - low) / (high - low)) < 0.01


def test_trunc_normal_in_the_tail():
    """Eight standard deviations away, where the density falls by e for every eighth of one."""
    with pytest.warns(UserWarning, match="more than two standard deviations"):
        x = init.trunc_normal_(tensorgrad.empty(*N, dtype="float64"), 0.0, 1.0, 8.0, 9.0)
    tail = [0.5 * math.erfc(v / math.sqrt(2)) for v in (8.0, 9.0)]

    def cdf(values):
        return np.array(
            [(tail[0] - 0.5 * math.erfc(v / math.sqrt(2))) / (tail[0] - tail[1]) for v in values]
        )

    assert distance(x, cdf) < 0.01
    with pytest.raises(RuntimeError, match="nothing between a=1 and b=0"):
        init.trunc_normal_(tensorgrad.empty(2), 0, 1, 1, 0)
    assert init.trunc_normal_(tensorgrad.empty(2), 0.5, 0.1, 0.5, 0.5).tolist() == [0.5, 0.5]


# --- structure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3), (20, 2, 3), (1, 4)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_orthogonal(shape, dtype, tolerance):
    x = tensorgrad.empty(*shape, dtype=dtype, requires_grad=True)
    assert init.orthogonal_(x, gain=3.0) is x
    q = x.detach().numpy().reshape(shape[0], -1)
    gram = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(gram, 9.0 * np.eye(len(gram)), atol=10 * tolerance)
    assert x.is_leaf


def test_orthogonal_prefers_no_direction():
    """Each element of a random rotation of 3 dims is uniform in [-1, 1] (Archimedes)."""
    rotations = [init.orthogonal_(tensorgrad.empty(3, 3)) for _ in range(4000)]
    stacked = tensorgrad.stack(rotations)
    for i in range(3):
        for k in range(3):
            assert distance(stacked[:, i, k], uniform_cdf(-1, 1)) < 0.03


def test_constants():
    x = tensorgrad.empty(2, 3, requires_grad=True)
    assert init.constant_(x, 0.3) is x
    assert x.tolist() == [[pytest.approx(0.3)] * 3] * 2
    assert init.constant_(x, val=2).tolist() == [[2.0] * 3] * 2
    assert init.ones_(x).tolist() == [[1.0] * 3] * 2
    assert init.zeros_(x).tolist() == [[0.0] * 3] * 2
    assert init.eye_(x).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert x.is_leaf


def test_dirac_hands_inputs_on():
    weight = init.dirac_(tensorgrad.empty(3, 2, 3)).numpy()
    signal = np.random.default_rng(0).standard_normal((2, 7))
    out = np.stack([sum(np.convolve(signal[i], weight[o, i], "same") for i in range(2))
                    for o in range(3)])  # fmt: skip
    np.testing.assert_allclose(out[:2], signal)
    assert not out[2].any()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((3, 2, 3), 1), ((4, 2, 4), 2), ((2, 5, 3, 4), 1), ((6, 2, 1, 2, 3), 3), ((4, 1, 3), 4)],
)
def test_structure_is_that_of_torch(torch, shape, groups):
    ours = init.dirac_(tensorgrad.empty(*shape), groups)
    theirs = torch.nn.init.dirac_(torch.empty(*shape), groups)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    ours, theirs = init.eye_(tensorgrad.empty(3, 5)), torch.nn.init.eye_(torch.empty(3, 5))
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_sparse():
    x = init.sparse_(tensorgrad.empty(2000, 20), 0.25, std=0.3)
    zeros = (x.numpy() == 0).sum(0)
    assert zeros.tolist() == [500] * 20
    assert len({tuple(column) for column in (x.numpy() == 0).T}) == 20  # not the same ones
    assert distance(x[x != 0], lambda v: normal_cdf(v, 0, 0.3)) < 0.01
    assert (init.sparse_(tensorgrad.empty(3, 2), 0.1).numpy() == 0).sum(0).tolist() == [1, 1]


# --- generators and errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x, g: init.normal_(x, generator=g),
        lambda x, g: init.uniform_(x, generator=g),
        lambda x, g: init.trunc_normal_(x, generator=g),
        lambda x, g: init.trunc_normal_(x, a=1.0, b=2.0, generator=g),
        lambda x, g: init.xavier_uniform_(x, generator=g),
        lambda x, g: init.xavier_normal_(x, generator=g),
        lambda x, g: init.kaiming_uniform_(x, generator=g),
        lambda x, g: init.kaiming_normal_(x, generator=g),
        lambda x, g: init.orthogonal_(x, generator=g),
        lambda x, g: init.sparse_(x, 0.5, generator=g),
    ],
)
def test_a_generator_is_all_that_is_drawn_from(call):
    state = tensorgrad.default_generator.get_state()
    results = [call(tensorgrad.empty(4, 5), Generator(seed)).tolist() for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]
    assert tensorgrad.default_generator.get_state().equal(state)


@pytest.mark.torch
@pytest.mark.parametrize(
    "call",
    [
        lambda i, m: i.xavier_uniform_(m.zeros(3)),
        lambda i, m: i.xavier_normal_(m.zeros(())),
        lambda i, m: i.kaiming_uniform_(m.zeros(3)),
        lambda i, m: i.kaiming_normal_(m.zeros(3, 3), mode="fan"),
        lambda i, m: i.kaiming_normal_(m.zeros(3, 3), nonlinearity="gelu"),
        lambda i, m: i.calculate_gain("leaky_relu", True),
        lambda i, m: i.calculate_gain("swish"),
        lambda i, m: i.orthogonal_(m.zeros(3)),
        lambda i, m: i.eye_(m.zeros(3)),
        lambda i, m: i.dirac_(m.zeros(3, 3)),
        lambda i, m: i.dirac_(m.zeros(3, 3, 3), groups=2),
        lambda i, m: i.sparse_(m.zeros(3), 0.5),
        lambda i, m: i.trunc_normal_(m.zeros(3), 0.5, 1.0, 2.0, 1.0),
    ],
)
def test_refuses_what_torch_refuses(torch, call):
    kinds = []
    for i, m in ((init, tensorgrad), (torch.nn.init, torch)):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            call(i, m)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]


@pytest.mark.parametrize("call", [init.kaiming_uniform_, init.kaiming_normal_])
def test_nothing_to_fill(call):
    x = tensorgrad.empty(0, 3)
    with pytest.warns(UserWarning, match="without elements"):
        assert call(x) is x
    assert init.orthogonal_(x) is x


# --- none -----------------------------------------------------------------------------------------


def test_skipped():
    """Within the context nothing is drawn or written, in this thread; layers have their shapes."""
    state = tensorgrad.default_generator.get_state()
    x = tensorgrad.full((3,), 7.0)
    with init.skipped():
        with init.skipped():
            layer = nn.Linear(3, 2)
        for fill in (init.normal_, init.uniform_, init.zeros_, init.ones_):
            assert fill(x) is x
        other = threading.Thread(
            target=lambda: init.zeros_(tensorgrad.ones(1)).item() == 0 or 1 / 0
        )
        other.start()
        other.join()
    assert x.tolist() == [7.0] * 3
    assert layer.weight.shape == (2, 3)
    assert tensorgrad.default_generator.get_state().equal(state)
    with pytest.raises(KeyError), init.skipped():
        raise KeyError
    assert init.zeros_(x).tolist() == [0.0] * 3
