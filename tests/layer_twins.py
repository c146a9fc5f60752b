"""A layer here and the layer of the same name in PyTorch, with the same weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

import nn
import tensorgrad

TOLERANCE = {"float32": 1e-5, "float64": 1e-9}  # of the largest element, if that is above 1


def twins(torch: ModuleType, name: str, *args: Any, dtype: str = "float64", **options: Any) -> Any:
    """(ours, torch's), of the dtype named, with random weights that are the same in both."""
    ours = getattr(nn, name)(*args, **options)
    theirs = getattr(torch.nn, name)(*args, **options)
    share_weights(torch, ours, theirs, dtype)
    return ours, theirs


def described(module: Any) -> list[tuple[str, tuple[int, ...], str]]:
    """Names, shapes and dtypes of a state, in their order."""
    return [
        (name, tuple(value.shape), str(value.dtype).rpartition(".")[2])
        for name, value in module.state_dict().items()
    ]


def share_weights(torch: ModuleType, ours: Any, theirs: Any, dtype: str) -> None:
    """Both of the dtype named, with random floats in their states: initial values are often 0 or 1
    and hide mistakes."""
    assert described(ours) == described(theirs)
    rng = np.random.default_rng(0)
    state = {}
    for key, value in theirs.state_dict().items():
        drawn = rng.standard_normal(tuple(value.shape)) * 0.4
        drawn = np.abs(drawn) + 0.3 if re.search("var$|weight$", key) and drawn.ndim == 1 else drawn
        state[key] = drawn if value.is_floating_point() else value.numpy()
    for lib, module in ((tensorgrad, ours), (torch, theirs)):
        module.to(getattr(lib, dtype))
        module.load_state_dict({k: lib.tensor(v) for k, v in state.items()})
        module.zero_grad()
    assert described(ours) == described(theirs)


def leaves(lib: ModuleType, values: Any, dtype: str = "float64") -> Any:
    """Arrays as tensors of a library, the float ones of one dtype and requiring gradients."""
    if isinstance(values, (tuple, list)):
        return type(values)(leaves(lib, v, dtype) for v in values)
    if not isinstance(values, np.ndarray):
        return values
    if values.dtype.kind != "f":
        return lib.tensor(values)
    return lib.tensor(values, dtype=getattr(lib, dtype)).requires_grad_()


def flat(values: Any) -> Iterator[Any]:
    """The tensors in a result, which may be tuples of tuples with None among them."""
    if isinstance(values, (tuple, list)):
        for value in values:
            yield from flat(value)
    elif hasattr(values, "requires_grad"):
        yield values


def results(
    lib: ModuleType, module: Any, inputs: Any, options: Any, dtype: str
) -> list[tuple[str, np.ndarray]]:
    """Outputs, gradients of inputs and of parameters, the state afterwards: arrays by name."""
    given, named = (
        leaves(lib, inputs, dtype),
        {k: leaves(lib, v, dtype) for k, v in options.items()},
    )
    written = getattr(module, "inplace", False)  # a leaf is not written in place
    outputs = list(flat(module(*([x * 1 for x in given] if written else given), **named)))
    found = {f"output {i}": y for i, y in enumerate(outputs)}
    trained = [y for y in outputs if y.requires_grad]
    if trained:
        loss = sum((y * lib.cos(lib.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)).sum()
                   for y in trained)  # fmt: skip
        loss.backward()
    for i, x in enumerate(flat([*given, *named.values()])):
        if x.grad is not None:
            found[f"gradient of input {i}"] = x.grad
    for name, p in module.named_parameters():
        if p.grad is not None:
            found[f"gradient of {name}"] = p.grad
    found |= {f"{name} afterwards": v for name, v in module.state_dict().items()}
    return [(k, np.array(v.detach().numpy())) for k, v in found.items()]


def agree(
    torch: ModuleType, ours: Any, theirs: Any, inputs: Any, options: Any = None,
    dtype: str = "float64", tolerance: float | None = None,
) -> None:  # fmt: skip
    """The same outputs, gradients and states, to 1e-9 in float64 and 1e-5 in float32."""
    pairs = zip(
        results(tensorgrad, ours, inputs, options or {}, dtype),
        results(torch, theirs, inputs, options or {}, dtype),
        strict=True,
    )
    for (name, a), (other, b) in pairs:
        assert name == other
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype, name
        limit = (tolerance or TOLERANCE[dtype]) * max(1.0, float(np.abs(b).max(initial=0.0)))
        difference = float(np.abs(a - b).max(initial=0.0))
        assert difference <= limit, f"{name} differs by {difference:.1e}"
