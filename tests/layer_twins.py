"""A layer here and the layer of the same name in PyTorch, with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

import nn
import tensorgrad


def twins(torch: ModuleType, name: str, *args: Any, dtype: str = "float64", **options: Any) -> Any:
    """(ours, torch's), of the dtype named, with random weights that are the same in both."""
    ours = getattr(nn, name)(*args, **options)
    theirs = getattr(torch.nn, name)(*args, **options)
    rng = np.random.default_rng(0)
    state = {}
    for key, value in theirs.state_dict().items():
        state[key] = rng.standard_normal(tuple(value.shape)) * 0.4
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for lib, module in ((tensorgrad, ours), (torch, theirs)):
        module.to(getattr(lib, dtype))
        module.load_state_dict({k: lib.tensor(v) for k, v in state.items()})
    return ours, theirs


def leaves(lib: ModuleType, values: Any, dtype: str = "float64") -> Any:
    """Arrays as tensors of a library, the float ones of one dtype and requiring gradients."""
    if isinstance(values, (tuple, list)):
        return tuple(leaves(lib, v, dtype) for v in values)
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
    elif values is not None:
        yield values


def results(lib: ModuleType, module: Any, inputs: Any, options: Any, dtype: str) -> list[Any]:
    """Outputs, gradients of inputs, gradients of parameters: arrays by name."""
    given, named = (
        leaves(lib, inputs, dtype),
        {k: leaves(lib, v, dtype) for k, v in options.items()},
    )
    outputs = list(flat(module(*given, **named)))
    found = {f"output {i}": y for i, y in enumerate(outputs)}
    loss = sum((y * lib.cos(lib.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)).sum()
               for y in outputs)  # fmt: skip
    loss.backward()
    everything = [*flat(given), *flat(list(named.values()))]
    for i, x in enumerate(t for t in everything if hasattr(t, "grad")):
        if x.grad is not None:
            found[f"gradient of input {i}"] = x.grad
    for name, p in module.named_parameters():
        if p.grad is not None:
            found[f"gradient of {name}"] = p.grad
    return [(k, np.array(v.detach().numpy())) for k, v in found.items()]


def agree(
    torch: ModuleType, ours: Any, theirs: Any, inputs: Any, options: Any = None,
    dtype: str = "float64",
) -> None:  # fmt: skip
    """The same outputs and gradients, to 1e-9 in float64 and 1e-5 in float32 of the largest."""
    tolerance = 1e-9 if dtype == "float64" else 1e-5
    pairs = zip(
        results(tensorgrad, ours, inputs, options or {}, dtype),
        results(torch, theirs, inputs, options or {}, dtype),
        strict=True,
    )
    for (name, a), (other, b) in pairs:
        assert name == other
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype, name
        limit = tolerance * max(1.0, float(np.abs(b).max(initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=limit, err_msg=name)
