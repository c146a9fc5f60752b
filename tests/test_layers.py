"""The layers that ``nn`` exports, each found by itself and tested on its ``example()``.

Truths: finite differences for the gradients, the layer's own output for saving and loading, the
bounds in PyTorch's documentation for the initial values. ``test_layer_parity.py`` compares all of
them with PyTorch's.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nn
import nn.functional as F
import tensorgrad
import tensorgrad.nn
from tensorgrad.testing import gradcheck, gradgradcheck

EXPORTED = {
    name: value
    for name, value in vars(nn).items()
    if inspect.isclass(value) and issubclass(value, nn.Module)
}
CONTAINERS = ("Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
LAYERS = [name for name in EXPORTED if name not in CONTAINERS]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    tensorgrad.manual_seed(0)


@pytest.fixture
def layer(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple]:
    """The example of the layer named by the parameter, in evaluation mode."""
    module, inputs = EXPORTED[request.param].example()
    return module.eval(), inputs


every_layer = pytest.mark.parametrize("layer", LAYERS, indirect=True)


def tensors(values: Any) -> Iterator[Any]:
    """The float tensors of a result, which may be a tuple of tuples."""
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors(value)
    elif values is not None and values.is_floating_point():
        yield values


def arrays(values: Any) -> list[np.ndarray]:
    return [np.array(value.detach().numpy()) for value in tensors(values)]


def require_grad(values: tuple) -> list[Any]:
    """The float tensors among the inputs, made to require gradients."""
    return [value.requires_grad_() for value in tensors(values)]


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


_classes = np.array([2, 0, 1, 2, 2])


# --- every layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_an_example(name: str) -> None:
    assert "example" in vars(EXPORTED[name]), f"{name} has no example() of its own"
    module, inputs = EXPORTED[name].example()
    assert type(module) is EXPORTED[name]
    assert isinstance(inputs, tuple)
    assert arrays(module(*inputs))


def test_layers_are_found() -> None:
    assert len(LAYERS) >= 8
    assert all(issubclass(cls, nn.Module) for cls in EXPORTED.values())


STACKS = ("Transformer", "TransformerEncoder", "TransformerDecoder", "GRU", "LSTM")


def checks() -> list:
    """Of every layer both orders; the second of those that take long is for the long run."""
    return [
        pytest.param(
            name,
            check,
            marks=[pytest.mark.slow] if name in STACKS and check is gradgradcheck else [],
        )
        for name in LAYERS
        for check in (gradcheck, gradgradcheck)
    ]


@pytest.mark.parametrize(("layer", "check"), checks(), indirect=["layer"])
@pytest.mark.parametrize("training", [False, True])
def test_gradients(layer: tuple[nn.Module, tuple], check: Callable, training: bool) -> None:
    """With respect to all parameters and float inputs, against finite differences.

    Of layers made of many others, whose parts are checked by themselves, the inputs only.
    """
    module, inputs = layer
    module.double().train(training)
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    small = sum(p.numel() for p in module.parameters()) <= 100
    checked = [*require_grad(inputs), *(module.parameters() if small else ())]

    def outputs(*_: Any) -> tuple:
        tensorgrad.manual_seed(1)  # the same elements are dropped each time
        return tuple(tensors(module(*inputs)))

    if training and not small:
        return
    if training:  # most layers do then what they do in evaluation, which has been checked
        trained = arrays(outputs())
        module.eval()
        if all((a == b).all() for a, b in zip(trained, arrays(outputs()), strict=True)):
            return
        module.train()
    assert check(outputs, checked)


@every_layer
def test_state_round_trip(layer: tuple[nn.Module, tuple]) -> None:
    """Saved, spoilt, loaded: the same output; and so in another instance, made afresh."""
    module, inputs = layer
    before = arrays(module(*inputs))
    saved = {name: value.clone() for name, value in module.state_dict().items()}
    with tensorgrad.no_grad():
        for p in module.parameters():
            p += 1
    if saved:
        assert any((a != b).any() for a, b in zip(before, arrays(module(*inputs)), strict=True))
    other = type(module).example()[0].eval()
    for restored in (module, other):
        restored.load_state_dict(saved)
        for a, b in zip(before, arrays(restored(*inputs)), strict=True):
            np.testing.assert_array_equal(a, b)


@every_layer
def test_train_and_eval(layer: tuple[nn.Module, tuple]) -> None:
    """Evaluation is deterministic, and what training does is there again afterwards."""
    module, inputs = layer
    module.train()
    tensorgrad.manual_seed(1)
    trained = arrays(module(*inputs))
    module.eval()
    first, second = arrays(module(*inputs)), arrays(module(*inputs))
    module.train()
    assert all(part.training for part in module.modules())
    tensorgrad.manual_seed(1)
    again = arrays(module(*inputs))
    for a, b in (*zip(first, second, strict=True), *zip(trained, again, strict=True)):
        np.testing.assert_array_equal(a, b)


@every_layer
def test_printing(layer: tuple[nn.Module, tuple]) -> None:
    module, _ = layer
    assert repr(module).startswith(f"{type(module).__name__}(")
    assert module.extra_repr() in repr(module)


# --- initial values -------------------------------------------------------------------------------


def distance(sample: np.ndarray, distribution: Callable[[float], float]) -> float:
    """The Kolmogorov-Smirnov statistic times sqrt(n): above 1.95 one time in a thousand."""
    x = np.sort(sample.ravel())
    n = x.size
    expected = np.array([distribution(v) for v in x])
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max((steps[1:] - expected).max(), (expected - steps[:-1]).max())


def uniform(bound: float) -> Callable[[float], float]:
    return lambda v: min(max((v + bound) / (2 * bound), 0.0), 1.0)


def normal(std: float) -> Callable[[float], float]:
    return lambda v: (1 + math.erf(v / (std * math.sqrt(2)))) / 2


@pytest.mark.parametrize("size", [16, 100])
def test_linear_starts_uniform(size: int) -> None:
    """U(-1/sqrt(in), 1/sqrt(in)) for the weight and, with the same bound, for the bias."""
    module, bound = nn.Linear(size, 3000 // size * 4), 1 / math.sqrt(size)
    many = np.concatenate([nn.Linear(size, 500).bias.detach().numpy() for _ in range(8)])
    for sample in (module.weight.detach().numpy(), many):
        assert np.abs(sample).max() <= bound * (1 + 1e-6)
        assert np.abs(sample).max() > 0.99 * bound
        assert distance(sample, uniform(bound)) < 1.95
        assert distance(sample, uniform(bound * 1.1)) > 1.95
    assert module.weight.dtype == tensorgrad.float32


@pytest.mark.parametrize(
    ("module", "terms"),
    [
        (lambda: nn.Bilinear(20, 9, 15), 20),
        (lambda: nn.Conv1d(6, 200, 3, groups=2), 9),
        (lambda: nn.Conv2d(6, 100, (3, 2)), 36),
        (lambda: nn.Conv3d(2, 100, 2), 16),
        (lambda: nn.ConvTranspose1d(100, 8, 3, groups=2), 12),  # of the output, as in PyTorch
        (lambda: nn.ConvTranspose2d(50, 4, (3, 2)), 24),
    ],
)
def test_starts_uniform(module: Callable, terms: int) -> None:
    """U(-1/sqrt(terms), 1/sqrt(terms)) for the weight and the bias."""
    bound = 1 / math.sqrt(terms)
    for sample in (
        module().weight.detach().numpy(),
        np.concatenate([module().bias.detach().numpy() for _ in range(150)]),
    ):
        assert np.abs(sample).max() <= bound * (1 + 1e-6)
        assert distance(sample, uniform(bound)) < 2.2
        assert distance(sample, uniform(bound * 1.5)) > 2.2


def test_embedding_starts_normal() -> None:
    sample = nn.Embedding(150, 60).weight.detach().numpy()
    assert distance(sample, normal(1.0)) < 1.95
    assert distance(sample, normal(1.1)) > 1.95


def test_the_row_of_padding() -> None:
    """It starts as zeros and gets no gradient; a table that is given is taken as it is."""
    module = nn.Embedding(4, 3, padding_idx=-2)
    assert (module.weight[2] == 0).all()
    assert (module.weight != 0).sum() == 9
    module(tensorgrad.tensor([2, 1, 2])).sum().backward()
    assert module.weight.grad.tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    table = tensorgrad.arange(6.0).reshape(3, 2)
    given = nn.Embedding.from_pretrained(table, padding_idx=0)
    assert not given.weight.requires_grad
    assert given(tensorgrad.tensor([0, 2])).tolist() == [[0, 1], [4, 5]]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    with pytest.raises(NotImplementedError, match="not scaled by frequency"):
        nn.Embedding(3, 2, scale_grad_by_freq=True)(tensorgrad.tensor([0]))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics(momentum: float | None) -> None:
    """Moving averages of the batches' means and unbiased variances; with None, their means."""
    module, mean, var = nn.BatchNorm1d(2, momentum=momentum), 0.0, 1.0
    for i in range(1, 4):
        batch = np.random.default_rng(i).standard_normal((5, 2)).astype(np.float32)
        part = momentum or 1 / i
        mean = (1 - part) * mean + part * batch.mean(0)
        var = (1 - part) * var + part * batch.var(0, ddof=1)
        module(tensorgrad.tensor(batch))
        assert int(module.num_batches_tracked) == i
    np.testing.assert_allclose(module.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(module.running_var.numpy(), var, rtol=1e-5)
    module.eval()(tensorgrad.randn(5, 2))
    assert int(module.num_batches_tracked) == 3
    module.reset_running_stats()
    assert module.running_var.tolist() == [1, 1]
    assert int(module.num_batches_tracked) == 0


def test_layer_norm_starts_as_the_identity() -> None:
    module = nn.LayerNorm((2, 3))
    assert (module.weight == 1).all()
    assert (module.bias == 0).all()


def test_the_seed_decides_the_initial_values() -> None:
    def weights(seed: int) -> np.ndarray:
        tensorgrad.manual_seed(seed)
        return nn.Linear(5, 5).weight.detach().numpy()

    assert (weights(1) == weights(1)).all()
    assert (weights(1) != weights(2)).any()


def test_init_functions() -> None:
    """They fill in place, return what they filled, and record nothing."""
    p = nn.Parameter(tensorgrad.ones(4000))
    for fill, expected in (
        (lambda: nn.init.zeros_(p), lambda x: (x == 0).all()),
        (lambda: nn.init.ones_(p), lambda x: (x == 1).all()),
        (lambda: nn.init.constant_(p, 3.5), lambda x: (x == 3.5).all()),
        (lambda: nn.init.uniform_(p, -2, 2), lambda x: distance(x, uniform(2)) < 1.95),
        (lambda: nn.init.normal_(p, 0, 0.02), lambda x: distance(x, normal(0.02)) < 1.95),
        (lambda: nn.init.normal_(p, 5, 1e-4), lambda x: np.abs(x - 5).max() < 1e-3),
    ):
        assert fill() is p
        assert expected(p.detach().numpy())
        assert p.is_leaf
        assert p.requires_grad


# --- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout(p: float) -> None:
    """Each element is 0 with probability p, else scaled by 1 / (1 - p); so is its gradient."""
    n = 20_000
    x = tensorgrad.ones(n, requires_grad=True)
    y = nn.Dropout(p)(x)
    kept = y.detach().numpy() != 0
    assert abs(kept.sum() - n * (1 - p)) < 5 * math.sqrt(n * p * (1 - p))
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / (1 - p), rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout(p: float) -> None:
    """Of normal numbers it keeps mean and variance, in training only."""
    x = tensorgrad.randn(40_000)
    y = nn.AlphaDropout(p)(x)
    assert abs(y.mean().item()) < 0.03
    assert abs(y.std().item() - 1) < 0.03
    values, counts = np.unique(y.numpy(), return_counts=True)
    assert abs(counts.max() / len(x) - p) < 0.02  # those that were dropped are all alike
    assert values[counts.argmax()] < -0.5
    assert (nn.AlphaDropout(p).eval()(x) == x).all()


def test_dropout_at_its_ends_and_its_generator() -> None:
    x = tensorgrad.randn(4, 5)
    assert (F.dropout(x, 0.0) == x).all()
    assert (F.dropout(x, 1.0) == 0).all()
    assert (F.dropout(x, 0.5, training=False) == x).all()
    draws = [nn.Dropout(0.5, generator=tensorgrad.Generator(seed))(x) for seed in (3, 3, 4)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's about 0 / 0
def test_cross_entropy_of_nothing_is_not_a_number() -> None:
    """As in PyTorch: the mean over no targets."""
    loss = F.cross_entropy(tensorgrad.randn(2, 3), tensorgrad.tensor([-100, -100]))
    assert loss.isnan()


def test_mistakes_are_explained() -> None:
    """The messages give the shapes, or the value and what would have been allowed."""
    x = tensorgrad.ones(2, 3)
    for call, message in (
        (lambda: nn.Linear(4, 2)(x), r"last dim is 3 .*\(2, 3\).*\(2, 4\) takes 4"),
        (lambda: nn.Linear(4, 2)(tensorgrad.tensor(1.0)), "last dim is missing"),
        (lambda: nn.LayerNorm(2)(x), r"\(2, 3\) does not end in \(2,\)"),
        (lambda: nn.Embedding(3, 2)(tensorgrad.tensor([1, 5])), "index 5 .* 3 rows"),
        (lambda: nn.Embedding(3, 2)(tensorgrad.tensor([1, -5])), "index -5 .* 3 rows"),
        (lambda: F.cross_entropy(x, tensorgrad.tensor([0, 7])), "target 7 .* 3 classes"),
        (lambda: nn.Dropout(-1), "probability, not -1"),
    ):
        with pytest.raises((RuntimeError, IndexError, ValueError), match=message):
            call()
    for call in (
        lambda: F.embedding(x, tensorgrad.ones(3, 2)),
        lambda: F.cross_entropy(x, tensorgrad.ones(2)),
    ):
        with pytest.raises(RuntimeError, match=r"must be integers, not .*float32"):
            call()
