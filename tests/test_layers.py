"""The layers that ``nn`` exports, each found by itself and tested on its ``example()``; and
``nn.functional``.

Truths: finite differences for the gradients, the layer's own output for saving and loading, the
bounds in PyTorch's documentation for the initial values, and PyTorch's class or function of the
same name, called with the same arguments, for everything.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nn
import nn.functional as F
import tensorgrad
import tensorgrad.nn
from tensorgrad.testing import gradcheck

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


@every_layer
def test_gradients(layer: tuple[nn.Module, tuple]) -> None:
    """With respect to all parameters and float inputs, against finite differences."""
    module, inputs = layer
    module.double()
    inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    checked = [*require_grad(inputs), *module.parameters()]
    assert gradcheck(lambda *_: tuple(tensors(module(*inputs))), checked)


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
    assert module.extra_repr() == vars(type(module)).get("extra_repr", lambda _: "")(module)


# --- every layer against PyTorch's ----------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Any]]:
    """The arguments, by name, of each constructor call; the key is the module's id."""
    made: dict[int, dict[str, Any]] = {}

    def recording(cls: type) -> Callable:
        original, signature = cls.__init__, inspect.signature(cls.__init__)

        @functools.wraps(original)
        def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            made.setdefault(id(self), signature.bind(self, *args, **kwargs).arguments)
            original(self, *args, **kwargs)

        return init

    for name in LAYERS:
        monkeypatch.setattr(EXPORTED[name], "__init__", recording(EXPORTED[name]))
    return made


def torch_twin(torch: ModuleType, module: nn.Module, calls: dict[int, dict[str, Any]]) -> Any:
    """PyTorch's class of the same name, made with the same arguments."""
    cls = getattr(torch.nn, type(module).__name__, None)
    if cls is None:
        pytest.skip(f"PyTorch has no {type(module).__name__}")
    _, *arguments = calls[id(module)].items()
    args, kwargs = [], {}
    for name, value in arguments:
        if isinstance(value, tuple) and any(isinstance(v, nn.Module) for v in value):
            args += [torch_twin(torch, v, calls) for v in value]
        else:
            kwargs[name] = value
    return cls(*args, **kwargs)


def without_foreign_arguments(text: str, module: nn.Module, twin: Any) -> str:
    """PyTorch's repr without arguments that our constructor does not have, such as ``inplace``."""
    foreign = set(inspect.signature(type(twin)).parameters)
    foreign -= set(inspect.signature(type(module)).parameters)
    return re.sub(rf"(, )?\b({'|'.join(foreign) or '-'})=[^,)]*", "", text)


def assert_parity(torch: ModuleType, module: nn.Module, twin: Any, inputs: tuple) -> None:
    """State, output, and gradients of parameters and inputs agree to rounding errors."""
    assert {n: tuple(v.shape) for n, v in module.state_dict().items()} == {
        n: tuple(v.shape) for n, v in twin.state_dict().items()
    }
    twin.load_state_dict({n: torch.tensor(v.numpy()) for n, v in module.state_dict().items()})
    results = []
    for model, given in (
        (module, tuple(x.detach().clone() for x in inputs)),
        (twin.eval(), tuple(torch.tensor(x.numpy()) for x in inputs)),
    ):
        checked = [*require_grad(given), *model.parameters()]
        outputs = list(tensors(model(*given)))
        sum((y * y.cos()).sum() for y in outputs).backward()
        results.append([*outputs, *(x.grad for x in checked)])
    ours, theirs = (arrays(values) for values in results)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        tolerance = 1e-12 if a.dtype == np.float64 else 1e-5
        assert np.abs(a - b).max(initial=0) <= tolerance * np.abs(b).max(initial=1e-3)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_parity(torch: ModuleType, name: str, dtype: str, calls: dict) -> None:
    module, inputs = EXPORTED[name].example()
    twin = torch_twin(torch, module, calls).to(getattr(torch, dtype))
    module.eval().to(dtype)
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    assert repr(module) == without_foreign_arguments(repr(twin), module, twin)
    assert_parity(torch, module, twin, inputs)


@pytest.mark.torch
def test_a_planted_difference_is_caught(torch: ModuleType) -> None:
    x = tensorgrad.randn(5, 4)
    assert_parity(torch, nn.LayerNorm(4), torch.nn.LayerNorm(4), (x,))
    with pytest.raises(AssertionError):
        assert_parity(torch, nn.LayerNorm(4, eps=1e-3), torch.nn.LayerNorm(4), (x,))
    with pytest.raises(AssertionError):
        assert_parity(torch, nn.GELU(), torch.nn.GELU("tanh"), (x,))
    with pytest.raises(AssertionError):
        assert_parity(torch, nn.Linear(4, 2), torch.nn.Linear(4, 2, bias=False), (x,))


# options of the layers that their one example does not have: (how it is made, inputs)
VARIANTS = {
    "Linear without bias": (lambda lib: lib.nn.Linear(4, 3, bias=False), _normal(3, 4)),
    "Linear of a vector": (lambda lib: lib.nn.Linear(4, 3), _normal(4)),
    "Linear of nothing": (lambda lib: lib.nn.Linear(4, 3), _normal(0, 4)),
    "LayerNorm without bias": (lambda lib: lib.nn.LayerNorm(4, bias=False), _normal(3, 4)),
    "LayerNorm alone": (lambda lib: lib.nn.LayerNorm(4, elementwise_affine=False), _normal(3, 4)),
    "LayerNorm of two dims": (lambda lib: lib.nn.LayerNorm([3, 4], eps=0.1), _normal(2, 3, 4)),
    "GELU": (lambda lib: lib.nn.GELU(), _normal(3, 4)),
    "Dropout of all": (lambda lib: lib.nn.Dropout(1.0), _normal(3, 4)),
    "Sequential of no layers": (lambda lib: lib.nn.Sequential(), _normal(3, 4)),
    "CrossEntropyLoss, sum": (
        lambda lib: lib.nn.CrossEntropyLoss(reduction="sum"),
        _normal(5, 3),
        _classes,
    ),
    "CrossEntropyLoss, smooth": (
        lambda lib: lib.nn.CrossEntropyLoss(ignore_index=1, label_smoothing=0.1),
        _normal(5, 3),
        _classes,
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_of_variants(torch: ModuleType, variant: str) -> None:
    make, *inputs = VARIANTS[variant]
    ours, theirs = make(tensorgrad).double().eval(), make(torch).double()
    assert repr(ours) == without_foreign_arguments(repr(theirs), ours, theirs)
    assert_parity(torch, ours, theirs, tuple(tensorgrad.tensor(x) for x in inputs))


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


def test_embedding_starts_normal() -> None:
    sample = nn.Embedding(150, 60).weight.detach().numpy()
    assert distance(sample, normal(1.0)) < 1.95
    assert distance(sample, normal(1.1)) > 1.95


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


def test_dropout_at_its_ends_and_its_generator() -> None:
    x = tensorgrad.randn(4, 5)
    assert (F.dropout(x, 0.0) == x).all()
    assert (F.dropout(x, 1.0) == 0).all()
    assert (F.dropout(x, 0.5, training=False) == x).all()
    draws = [nn.Dropout(0.5, tensorgrad.Generator(seed))(x) for seed in (3, 3, 4)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


# --- functions against PyTorch's ------------------------------------------------------------------


_q, _k, _v = _normal(2, 3, 4, 6), _normal(2, 3, 5, 6), _normal(2, 3, 5, 7)
_look = np.random.default_rng(0).random((4, 5)) < 0.6
_look[:, 0] = True
_sdpa = "scaled_dot_product_attention"

FUNCTIONS = {
    "cross_entropy": ("cross_entropy", (_normal(5, 3), _classes), {}),
    "cross_entropy, sum": ("cross_entropy", (_normal(5, 3), _classes), {"reduction": "sum"}),
    "cross_entropy, none": ("cross_entropy", (_normal(5, 3), _classes), {"reduction": "none"}),
    "cross_entropy, ignoring": ("cross_entropy", (_normal(5, 3), _classes), {"ignore_index": 2}),
    "cross_entropy, ignoring -100": (
        "cross_entropy",
        (_normal(5, 3), np.array([2, -100, 1, -100, 0])),
        {},
    ),
    "cross_entropy, smooth": (
        "cross_entropy",
        (_normal(5, 3), _classes),
        {"label_smoothing": 0.1, "ignore_index": 1},
    ),
    "cross_entropy, one row": ("cross_entropy", (_normal(3), np.array(1)), {}),
    "cross_entropy, large logits": ("cross_entropy", (1e4 * _normal(5, 3), _classes), {}),
    "attention": (_sdpa, (_q, _k, _v), {}),
    "attention, scaled": (_sdpa, (_q, _k, _v), {"scale": 0.3}),
    "attention, causal": (_sdpa, (_q, _k, _v), {"is_causal": True}),
    "attention, causal, more queries": (_sdpa, (_k, _q, _q), {"is_causal": True}),
    "attention, boolean mask": (_sdpa, (_q, _k, _v, _look), {}),
    "attention, float mask": (_sdpa, (_q, _k, _v, _normal(3, 4, 5)), {}),
    "layer_norm": ("layer_norm", (_normal(5, 3), (3,)), {}),
    "layer_norm, affine": (
        "layer_norm",
        (_normal(2, 5, 3), (5, 3), _normal(5, 3), _normal(5, 3)),
        {"eps": 0.1},
    ),
    "linear": ("linear", (_normal(2, 5, 3), _normal(4, 3)), {}),
    "linear, bias": ("linear", (_normal(5, 3), _normal(4, 3), _normal(4)), {}),
    "embedding": ("embedding", (np.array([[1, 0], [1, 1]]), _normal(3, 4)), {}),
    "embedding, of nothing": ("embedding", (np.zeros((2, 0), int), _normal(3, 4)), {}),
    "gelu": ("gelu", (_normal(5, 3),), {}),
    "gelu, tanh": ("gelu", (_normal(5, 3),), {"approximate": "tanh"}),
    "relu": ("relu", (_normal(5, 3),), {}),
    "tanh": ("tanh", (_normal(5, 3),), {}),
    "softmax": ("softmax", (_normal(5, 3),), {"dim": 0}),
    "log_softmax": ("log_softmax", (_normal(5, 3),), {"dim": -1}),
    "dropout, evaluating": ("dropout", (_normal(5, 3), 0.4, False), {}),
    "dropout, of all": ("dropout", (_normal(5, 3), 1.0), {}),
}  # fmt: skip


def test_every_function_is_compared() -> None:
    assert {name for name, _, _ in FUNCTIONS.values()} == set(F.__all__)


@pytest.mark.torch
@pytest.mark.parametrize("case", FUNCTIONS)
def test_function(torch: ModuleType, case: str) -> None:
    """Value and gradients with respect to every float argument, in float64."""
    name, args, kwargs = FUNCTIONS[case]
    results = []
    for lib, functional in ((tensorgrad, F), (torch, torch.nn.functional)):
        given = [lib.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
        checked = require_grad(tuple(a for a in given if isinstance(a, lib.Tensor)))
        y = getattr(functional, name)(*given, **kwargs)
        (y * (y + 1).cos()).sum().backward()
        results.append(arrays([y, *(x.grad for x in checked)]))
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's about 0 / 0
def test_cross_entropy_of_nothing_is_not_a_number() -> None:
    """As in PyTorch: the mean over no targets."""
    loss = F.cross_entropy(tensorgrad.randn(2, 3), tensorgrad.tensor([-100, -100]))
    assert loss.isnan()


_x = np.ones((2, 3))
MISTAKES = {
    "a target too large": (IndexError, "cross_entropy", (_x, np.array([0, 3])), {}),
    "a negative target": (IndexError, "cross_entropy", (_x, np.array([0, -1])), {}),
    "too many targets": (ValueError, "cross_entropy", (_x, np.array([0, 1, 2])), {}),
    "a reduction unheard of": (
        ValueError,
        "cross_entropy",
        (_x, np.array([0, 1])),
        {"reduction": "best"},
    ),
    "an index too large": (IndexError, "embedding", (np.array([2]), _x), {}),
    "a negative index": (IndexError, "embedding", (np.array([-1]), _x), {}),
    "a width that does not fit": (RuntimeError, "linear", (_x, np.ones((4, 2))), {}),
    "a shape that is not at the end": (RuntimeError, "layer_norm", (_x, (2,)), {}),
    "an approximation unheard of": (RuntimeError, "gelu", (_x,), {"approximate": "exact"}),
    "no probability": (ValueError, "dropout", (_x, 1.5), {}),
    "mask and causal": (
        RuntimeError,
        "scaled_dot_product_attention",
        (_x, _x, _x, np.ones((2, 2), bool)),
        {"is_causal": True},
    ),
}


@pytest.mark.parametrize("lib", ["tensorgrad", pytest.param("torch", marks=pytest.mark.torch)])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_raise_what_torch_raises(mistake: str, lib: str) -> None:
    error, name, args, kwargs = MISTAKES[mistake]
    module = pytest.importorskip(lib)
    functional = F if module is tensorgrad else module.nn.functional
    given = [module.tensor(a) if isinstance(a, np.ndarray) else a for a in args]
    with pytest.raises(error):
        getattr(functional, name)(*given, **kwargs)


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
        with pytest.raises(TypeError, match="must be integers, not float32"):
            call()
