"""Every layer that PyTorch has too, against PyTorch's: in float32 and float64, in training and in
evaluation, on its ``example()`` and on at least three sets of arguments (``layer_table``)."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from layer_table import LINES, class_of, classes, made
from layer_twins import agree, share_weights

import nn
import tensorgrad

# What PyTorch says to its users: of masks that make its fast way impossible, of reductions.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(nested_tensor|mismatched|is deprecated|oneDNN):UserWarning",
    "ignore:.*(reduction|size_average|Implicit dimension|without a dim)",
)

EXPORTED = {
    name: value
    for name, value in vars(nn).items()
    if inspect.isclass(value) and issubclass(value, nn.Module)
}
WITHOUT_FORWARD = {"Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}
LAYERS = [name for name in EXPORTED if name not in WITHOUT_FORWARD]
WITHOUT_SIGNATURE = {"RNN", "LSTM", "GRU"}  # PyTorch's take *args, **kwargs
MODES = [(dtype, training) for dtype in ("float32", "float64") for training in (True, False)]
ROUGH = {"Hardsigmoid": 1e-7}  # PyTorch's 1/6 has the digits of float32, also in float64


def printed(module: Any) -> str:
    """The repr; PyTorch has a Linear of another name in its attention."""
    return repr(module).replace("NonDynamicallyQuantizableLinear", "Linear")


def twin_class(torch: ModuleType, name: str) -> Any:
    if not hasattr(torch.nn, name):
        pytest.skip(f"PyTorch has no {name}")
    return getattr(torch.nn, name)


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.torch
def test_every_class_has_three_sets_of_arguments(torch: ModuleType) -> None:
    """None is left out; and the table is of nothing else."""
    counts = Counter(classes())
    shared = {name for name in EXPORTED if hasattr(torch.nn, name)}
    assert {name: counts[name] for name in shared - {"Module"} if counts[name] < 3} == {}
    assert set(counts) <= shared
    assert len(set(LINES)) == len(LINES)
    assert sum("Uses(" in line for line in LINES) >= 3  # these are subclasses of Module


@pytest.mark.torch
@pytest.mark.parametrize("line", LINES)
def test_parity(torch: ModuleType, line: str) -> None:
    (ours, args, kwargs), (theirs, _, _) = made(tensorgrad, line), made(torch, line)
    if "Uses" not in line:
        assert printed(ours) == printed(theirs)
    for dtype, training in MODES:
        share_weights(torch, ours.train(training), theirs.train(training), dtype)
        tolerance = ROUGH.get(class_of(line)) if dtype == "float64" else None
        agree(torch, ours, theirs, args, kwargs, dtype, tolerance)


@pytest.mark.torch
def test_a_planted_difference_is_caught(torch: ModuleType) -> None:
    x = np.random.default_rng(0).standard_normal((5, 4))

    def compare(ours: Any, theirs: Any) -> None:
        share_weights(torch, ours, theirs, "float64")
        agree(torch, ours, theirs, (x,))

    compare(nn.LayerNorm(4), torch.nn.LayerNorm(4))
    for ours, theirs in (
        (nn.LayerNorm(4, eps=1e-3), torch.nn.LayerNorm(4)),
        (nn.GELU(), torch.nn.GELU("tanh")),
        (nn.Linear(4, 2), torch.nn.Linear(4, 2, bias=False)),
        (nn.BatchNorm1d(4, momentum=0.2), torch.nn.BatchNorm1d(4)),
    ):
        with pytest.raises(AssertionError):
            compare(ours, theirs)


# --- the examples ---------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, Any]]:
    """The arguments, by name, of each constructor call; the key is the module's id."""
    calls: dict[int, dict[str, Any]] = {}

    def recording(cls: type) -> Callable:
        original, signature = cls.__init__, inspect.signature(cls.__init__)

        @functools.wraps(original)
        def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
            if type(self) is cls:
                calls.setdefault(id(self), signature.bind(self, *args, **kwargs).arguments)
            original(self, *args, **kwargs)

        return init

    for name in LAYERS:
        monkeypatch.setattr(EXPORTED[name], "__init__", recording(EXPORTED[name]))
    return calls


def torch_twin(torch: ModuleType, module: nn.Module, calls: dict[int, dict[str, Any]]) -> Any:
    """PyTorch's class of the same name, made with the same arguments."""
    _, *arguments = calls[id(module)].items()
    args, kwargs = [], {}
    for name, value in arguments:
        if isinstance(value, tuple) and any(isinstance(v, nn.Module) for v in value):
            args += [torch_twin(torch, v, calls) for v in value]
        elif isinstance(value, nn.Module):
            kwargs[name] = torch_twin(torch, value, calls)
        else:
            kwargs[name] = value
    return twin_class(torch, type(module).__name__)(*args, **kwargs)


# What draws random numbers in training; the table has it with the probabilities 0 and 1.
DRAWING = (nn.AlphaDropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.RReLU)


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_parity_of_examples(torch: ModuleType, name: str, calls: dict) -> None:
    twin_class(torch, name)
    for dtype, training in MODES:
        tensorgrad.manual_seed(0)
        module, inputs = EXPORTED[name].example()
        inputs = tuple(np.array(x.numpy()) for x in inputs)
        twin = torch_twin(torch, module, calls)
        assert printed(module) == printed(twin)
        if training and any(isinstance(part, DRAWING) for part in module.modules()):
            continue
        share_weights(torch, module.train(training), twin.train(training), dtype)
        tolerance = ROUGH.get(name) if dtype == "float64" else None
        agree(torch, module, twin, inputs, None, dtype, tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_signature(torch: ModuleType, name: str) -> None:
    """PyTorch's arguments, their order and defaults; ours may have a generator too.

    Functions as defaults are each library's own.
    """
    twin = twin_class(torch, name)
    if name in WITHOUT_SIGNATURE:
        pytest.skip(f"PyTorch's {name} takes *args, **kwargs")
    ours, theirs = (
        [
            (p.name, p.kind, None if callable(p.default) else p.default)
            for p in inspect.signature(cls).parameters.values()
            if p.name != "generator" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        for cls in (EXPORTED[name], twin)
    )
    assert ours == theirs
