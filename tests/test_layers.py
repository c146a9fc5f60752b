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
from collections.abc import Callable, Iterator
from types import ModuleType
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
# Made of modules, or given states; test_attention.py and test_recurrent.py compare them.
ELSEWHERE = [name for name in LAYERS if EXPORTED[name].__module__ in (
    "nn.attention", "nn.transformer", "nn.recurrent")]  # fmt: skip
COMPARED = [name for name in LAYERS if name not in ELSEWHERE]


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
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
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


# --- every layer against PyTorch's ----------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Any]]:
    """The arguments, by name, of each constructor call; the key is the module's id."""
    made: dict[int, dict[str, Any]] = {}

    def recording(cls: type) -> Callable:
        original, signature = cls.__init__, inspect.signature(cls.__init__)

        @functools.wraps(original)
        def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            if type(self) is cls:
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


def disturb(module: nn.Module) -> None:
    """Other values than the initial ones, which are often 0 or 1 and hide mistakes."""
    with tensorgrad.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value += tensorgrad.rand(tuple(value.shape)).to(value.dtype) * 0.5


def is_random(module: nn.Module, inputs: tuple) -> bool:
    draws = [arrays(module(*inputs)) for _ in range(2)]
    return any((a != b).any() for a, b in zip(*draws, strict=True))


ROUGH = ("Hardsigmoid",)  # PyTorch's 1/6 has the digits of float32, also in float64


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray], rough: bool = False) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        tolerance = 1e-12 if a.dtype == np.float64 and not rough else 1e-5
        assert np.abs(a - b).max(initial=0) <= tolerance * np.abs(b).max(initial=1e-3)


def assert_parity(torch: ModuleType, module: nn.Module, twin: Any, inputs: tuple) -> None:
    """States load both ways; outputs, gradients of parameters and inputs, and the state afterwards
    agree to rounding errors, in the mode that the module is in."""
    shapes = [
        {name: (tuple(v.shape), str(v.dtype).rpartition(".")[2]) for name, v in state.items()}
        for state in (module.state_dict(), twin.state_dict())
    ]
    assert shapes[0] == shapes[1]
    assert list(shapes[0]) == list(shapes[1])
    module.load_state_dict({n: tensorgrad.tensor(v.numpy()) for n, v in twin.state_dict().items()})
    disturb(module)
    twin.load_state_dict({n: torch.tensor(v.numpy()) for n, v in module.state_dict().items()})
    twin.train(module.training)
    results = []
    for model, given in (
        (module, tuple(x.detach().clone() for x in inputs)),
        (twin, tuple(torch.tensor(x.numpy()) for x in inputs)),
    ):
        checked = [*require_grad(given), *(p for p in model.parameters() if p.requires_grad)]
        outputs = list(tensors(model(*given)))
        if any(y.requires_grad for y in outputs):
            sum((y * y.cos()).sum() for y in outputs).backward()
        gradients = [x.grad for x in checked]
        results.append([*outputs, *gradients, *model.state_dict().values()])
    ours, theirs = (arrays(values) for values in results)
    assert_close(ours, theirs, type(module).__name__ in ROUGH)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", COMPARED)
def test_parity(torch: ModuleType, name: str, dtype: str, calls: dict) -> None:
    module, inputs = EXPORTED[name].example()
    twin = torch_twin(torch, module, calls).to(getattr(torch, dtype))
    module.to(dtype)
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)
    assert repr(module) == repr(twin)
    if not is_random(module, inputs):
        assert_parity(torch, module, twin, inputs)
    assert_parity(torch, module.eval(), twin, inputs)


@pytest.mark.torch
@pytest.mark.parametrize("name", COMPARED)
def test_signature(torch: ModuleType, name: str) -> None:
    """PyTorch's arguments, their order and defaults; ours may have a generator too."""
    twin = getattr(torch.nn, name, None)
    if twin is None:
        pytest.skip(f"PyTorch has no {name}")
    ours, theirs = (
        [
            (p.name, p.kind, p.default)
            for p in inspect.signature(cls).parameters.values()
            if p.name != "generator" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        for cls in (EXPORTED[name], twin)
    )
    assert ours == theirs


@pytest.mark.torch
def test_a_planted_difference_is_caught(torch: ModuleType) -> None:
    x = tensorgrad.randn(5, 4)
    assert_parity(torch, nn.LayerNorm(4), torch.nn.LayerNorm(4), (x,))
    for ours, theirs in (
        (nn.LayerNorm(4, eps=1e-3), torch.nn.LayerNorm(4)),
        (nn.GELU(), torch.nn.GELU("tanh")),
        (nn.Linear(4, 2), torch.nn.Linear(4, 2, bias=False)),
        (nn.BatchNorm1d(4, momentum=0.2), torch.nn.BatchNorm1d(4)),
    ):
        with pytest.raises((AssertionError, RuntimeError)):
            assert_parity(torch, ours, theirs, (x,))


# Options that the one example does not have: "how it is made | its inputs". f makes floats of a
# shape, i integers below its first argument, p probabilities.
VARIANTS = """
    Linear(4, 3, bias=False) | f(3, 4)
    Linear(4, 3) | f(4)
    Linear(4, 3) | f(0, 4)
    Linear(4, 3, True, "cpu") | f(4)
    Bilinear(3, 4, 2, bias=False) | f(5, 2, 3), f(5, 2, 4)
    Embedding(5, 3, padding_idx=1) | i(5, 2, 3)
    Embedding(5, 3, -1) | i(5, 4)
    Embedding(5, 3, max_norm=1.0, norm_type=1.5) | i(5, 4)
    Flatten(0, 1) | f(2, 3, 4)
    Flatten(2) | f(2, 3, 4)
    Unflatten(-1, (2, 1, 2)) | f(2, 4)
    Unflatten(0, [-1, 2]) | f(4, 3)
    Identity(3, anything="goes") | f(2)
    CosineSimilarity(0, 0.1) | f(3, 2), f(3, 2)
    PairwiseDistance(1.0, keepdim=True) | f(3, 2), f(3, 2)
    LayerNorm(4, bias=False) | f(3, 4)
    LayerNorm(4, elementwise_affine=False) | f(3, 4)
    LayerNorm([3, 4], eps=0.1) | f(2, 3, 4)
    RMSNorm([3, 4], eps=0.1) | f(2, 3, 4)
    RMSNorm(4, elementwise_affine=False) | f(2, 3, 4)
    GroupNorm(1, 4, 0.1) | f(2, 4)
    GroupNorm(4, 4, affine=False) | f(2, 4, 3, 2)
    GroupNorm(2, 4, bias=False) | f(2, 4, 3)
    BatchNorm1d(3) | f(2, 3, 4)
    BatchNorm1d(3, 0.1, None) | f(4, 3)
    BatchNorm1d(3, momentum=0.0) | f(4, 3)
    BatchNorm1d(3, affine=False) | f(4, 3)
    BatchNorm1d(3, track_running_stats=False) | f(4, 3)
    BatchNorm2d(3, bias=False) | f(2, 3, 2, 2)
    BatchNorm2d(3, affine=False, track_running_stats=False) | f(2, 3, 2, 2)
    InstanceNorm1d(3) | f(3, 4)
    InstanceNorm1d(3, affine=True, track_running_stats=True) | f(2, 3, 4)
    InstanceNorm2d(3, 0.1, 0.5, True, True) | f(3, 4, 2)
    Dropout(1.0) | f(3, 4)
    Dropout(0.0, True) | f(3, 4)
    Dropout1d(1.0) | f(3, 4)
    Dropout2d(1.0) | f(2, 3, 4, 2)
    GELU() | f(3, 4)
    LeakyReLU(0.3) | f(3, 4)
    ELU(0.5) | f(3, 4)
    CELU(0.5) | f(3, 4)
    RReLU(0.2, 0.2) | f(3, 4)
    Softplus(2.0, 1.0) | f(3, 4)
    Hardtanh(-0.5, 0.7) | f(3, 4)
    Threshold(0.2, -3) | f(3, 4)
    Hardshrink(0.2) | f(3, 4)
    Softshrink(0.2) | f(3, 4)
    PReLU() | f(3, 4)
    PReLU(4, init=0.1) | f(3, 4)
    GLU(0) | f(4, 3)
    Softmax2d() | f(3, 2, 2)
    Softmax(0) | f(3, 2)
    Softmin(1) | f(3, 2, 2)
    LogSoftmax(1) | f(3, 2, 2)
    Conv1d(4, 6, 3, 2, 1, 2, 2, False) | f(2, 4, 9)
    Conv1d(4, 6, 2, padding="same", padding_mode="circular") | f(2, 4, 9)
    Conv1d(4, 6, (3,), padding="valid") | f(4, 9)
    Conv2d(2, 4, 3, padding=(1, 2), padding_mode="reflect") | f(2, 2, 5, 6)
    Conv2d(2, 4, 3, padding="same", dilation=(1, 2)) | f(2, 2, 5, 6)
    Conv2d(2, 4, (2, 3), 2, 1, padding_mode="replicate") | f(2, 5, 6)
    Conv2d(4, 4, 3, groups=4, bias=False) | f(2, 4, 5, 6)
    Conv2d(4, 2, 1) | f(2, 4, 5, 6)
    Conv3d(1, 2, (1, 2, 2), stride=(1, 2, 1)) | f(2, 1, 2, 4, 3)
    ConvTranspose1d(4, 6, 3, 2, 1, 1, 2, False, 2) | f(2, 4, 5)
    ConvTranspose2d(4, 2, (2, 3), (1, 2), padding=1, output_padding=(0, 1)) | f(2, 4, 3, 4)
    Unfold((2, 3), 2, 1, (1, 2)) | f(2, 3, 5, 6)
    Fold(5, 2, padding=1, stride=2) | f(2, 8, 9)
    MaxPool1d(2, 3, 1, ceil_mode=True) | f(2, 3, 8)
    MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0), dilation=2) | f(2, 3, 8, 7)
    MaxPool2d(2, return_indices=True) | f(3, 8, 7)
    AvgPool1d(2, 3, 1, True, False) | f(2, 3, 8)
    AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0), ceil_mode=True) | f(2, 3, 8, 7)
    AvgPool2d(2, divisor_override=3) | f(3, 8, 7)
    AdaptiveAvgPool2d(1) | f(3, 8, 7)
    AdaptiveMaxPool2d((3, None), return_indices=True) | f(2, 3, 8, 7)
    ConstantPad1d(2, -1) | f(2, 3)
    ConstantPad2d((1, 0, -1, 2), 2.5) | f(2, 3, 4)
    ZeroPad2d((1, 2, 0, 1)) | f(2, 3, 4)
    ReflectionPad1d((1, 2)) | f(2, 4)
    ReflectionPad2d((1, 2, 0, 3)) | f(2, 2, 4, 5)
    ReplicationPad2d((1, 2, 0, 7)) | f(2, 2, 4, 5)
    CircularPad2d((1, 2, 0, 4)) | f(2, 2, 4, 5)
    Upsample(size=(3, 7)) | f(2, 2, 4, 5)
    Upsample(scale_factor=(1.5, 2), mode="bilinear", align_corners=True) | f(2, 2, 4, 5)
    Upsample(scale_factor=1.7, mode="linear", recompute_scale_factor=True) | f(2, 2, 5)
    Upsample(scale_factor=2, mode="bicubic") | f(2, 2, 4, 5)
    UpsamplingNearest2d((3, 2)) | f(2, 2, 4, 5)
    PixelShuffle(3) | f(9, 2, 2)
    CrossEntropyLoss(p(3)) | f(5, 3), i(3, 5)
    CrossEntropyLoss(p(3), ignore_index=1, label_smoothing=0.1) | f(5, 3), i(3, 5)
    CrossEntropyLoss(reduction="sum") | f(2, 3, 4), i(3, 2, 4)
    CrossEntropyLoss(reduction="none", label_smoothing=0.2) | f(2, 3, 4), p(2, 3, 4)
    NLLLoss(p(3), ignore_index=0, reduction="sum") | f(2, 3, 4), i(3, 2, 4)
    BCELoss(p(4), reduction="none") | p(3, 4), p(3, 4)
    BCEWithLogitsLoss(p(4), pos_weight=p(4)) | f(3, 4), p(3, 4)
    MultiLabelSoftMarginLoss(p(4), reduction="sum") | f(3, 4), i(2, 3, 4)
    SoftMarginLoss(reduction="none") | f(3), i(2, 3)
    KLDivLoss(reduction="sum", log_target=True) | f(3, 4), f(3, 4)
    MSELoss(reduction="none") | f(3, 4), f(3, 4)
    L1Loss(reduction="sum") | f(3, 4), f(3, 4)
    SmoothL1Loss(beta=0.5) | f(3, 4), f(3, 4)
    HuberLoss("sum", 0.3) | f(3, 4), f(3, 4)
    PoissonNLLLoss(False, True, reduction="none") | p(3, 4), i(4, 3, 4)
    GaussianNLLLoss(full=True, reduction="sum") | f(3, 4), f(3, 4), p(3, 1)
    CosineEmbeddingLoss(reduction="sum") | f(3, 4), f(3, 4), i(2, 3)
    MarginRankingLoss(0.3, reduction="none") | f(3), f(3), i(2, 3)
    HingeEmbeddingLoss(0.5, reduction="sum") | f(3), i(2, 3)
    TripletMarginLoss(0.5, 1.0, swap=True, reduction="none") | f(3, 4), f(3, 4), f(3, 4)
"""


def made(lib: ModuleType, variant: str) -> tuple[Any, tuple]:
    """The module of a line of VARIANTS in float64, and its inputs as arrays of this library."""
    rng = np.random.default_rng(0)
    makers = {
        "f": lambda *shape: lib.tensor(rng.standard_normal(shape)),
        "p": lambda *shape: lib.tensor(rng.uniform(0.1, 0.9, shape)),
        "i": lambda high, *shape: lib.tensor(rng.integers(0, high, shape)),
    }
    call, _, inputs = variant.partition("|")
    module = eval(call, {**vars(lib.nn), **makers})
    return module.double(), eval(f"({inputs},)", makers)


@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("variant", VARIANTS.strip().splitlines())
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")
def test_parity_of_variants(torch: ModuleType, variant: str, training: bool) -> None:
    ours, inputs = made(tensorgrad, variant.strip())
    theirs, _ = made(torch, variant.strip())
    assert repr(ours) == repr(theirs)
    assert_parity(torch, ours.train(training), theirs, inputs)


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
