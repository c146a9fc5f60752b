"""Every registered op, on all its samples: derivatives of both orders, and kernels."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad
from tensorgrad import core, ops
from tensorgrad.backend import kernels
from tensorgrad.core import registry
from tensorgrad.ops.samples import Source
from tensorgrad.testing import GradcheckError, gradcheck, gradgradcheck


def tensors(args, requires_grad=True):
    """Sample arguments as tensors; the float ones require grad."""
    made = []
    for a in args:
        if isinstance(a, np.ndarray):
            t = tensorgrad.from_numpy(a)
            made.append(t.requires_grad_() if requires_grad and a.dtype.kind == "f" else t)
        else:
            made.append(a)
    return made


def samples(op):
    found = list(op.samples(Source(seed=1)))
    assert found, f"{op.name} has no samples"
    return found


def differentiable(name):
    return registry[name].differentiable


@pytest.mark.parametrize("name", sorted(filter(differentiable, registry)))
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives(name, order):
    op = registry[name]
    check = gradcheck if order == 1 else gradgradcheck
    for args, params in samples(op):
        inputs = tensors(args)
        assert check(lambda *xs, op=op, params=params: op(*xs, **params), inputs)


def scattered(array):
    """The same values with gaps between them and in reverse order in memory."""
    wide = np.zeros((*array.shape, 2), array.dtype)[..., ::-1]
    wide[..., 0] = array
    return wide[..., 0]


@pytest.mark.parametrize("name", sorted(registry))
def test_memory_layout_changes_nothing(name):
    """Values and first derivatives of arguments that are not contiguous."""
    op = registry[name]
    for args, params in samples(op):
        results = []
        for layout in (np.ascontiguousarray, scattered):
            xs = tensors([layout(a) if isinstance(a, np.ndarray) and a.ndim else a for a in args])
            y = op(*xs, **params)
            if y.requires_grad:
                y.backward(tensorgrad.ones_like(y))
            results.append(
                [y.tolist(), *[x.grad for x in xs if getattr(x, "grad", None) is not None]]
            )
        for contiguous, other in zip(*results, strict=True):
            np.testing.assert_allclose(np.asarray(contiguous), np.asarray(other), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(set(registry) - set(filter(differentiable, registry))))
def test_no_derivative_means_no_history(name):
    op = registry[name]
    for args, params in samples(op):
        assert not op(*tensors(args), **params).requires_grad


fused = sorted(n for n, op in registry.items() if isinstance(op, core.Fused))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", fused)
def test_kernel_equals_composite(name, dtype, backend, monkeypatch):
    """Value and first gradients; the second come from the composite in both cases.

    More inputs, up to extreme ones, are in test_kernels.py.
    """
    if backend == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(kernels, "_table", {})
    monkeypatch.setattr(kernels, "_backend", backend)
    op = registry[name]
    assert kernels.find(name), f"{name} has no kernel"
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-11} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}
    )
    for args, params in samples(op):
        args = [a.astype(dtype) if getattr(a, "dtype", None) == np.float64 else a for a in args]
        results = []
        for enabled in (True, False):
            monkeypatch.setattr(kernels, "enabled", enabled)
            xs = tensors([a.copy() if isinstance(a, np.ndarray) else a for a in args])
            y = op(*xs, **params)
            y.backward(tensorgrad.from_numpy(np.cos(np.arange(y.numel())).reshape(y.shape)
                                             .astype(dtype)))  # fmt: skip
            floats = [x for x in xs if getattr(x, "requires_grad", False)]
            results.append([y.detach().numpy(), *[x.grad.numpy() for x in floats]])
        for with_kernel, composite in zip(*results, strict=True):
            assert with_kernel.dtype == composite.dtype == dtype
            np.testing.assert_allclose(with_kernel, composite, **tolerance)


@pytest.fixture
def plant():
    """Give tanh another derivative for the length of a test."""
    right = registry["tanh"].formulas["x"]
    yield registry["tanh"].vjp
    registry["tanh"].vjp(right)


def test_a_planted_wrong_derivative_is_caught(plant):
    """The check is checked: a wrong factor in a first and in a second derivative."""
    x = tensorgrad.tensor([0.3, 0.7], dtype=tensorgrad.float64, requires_grad=True)
    plant(lambda xp, g, y: g * (1 - y))
    with pytest.raises(GradcheckError, match="finite differences give"):
        gradcheck(ops.tanh, [x])
    assert not gradcheck(ops.tanh, [x], raise_exception=False)

    # The right value but detached from y: the first derivative passes, the second does not.
    plant(lambda xp, g, y: g * (1 - getattr(y, "detach", lambda: y)() ** 2))
    assert gradcheck(ops.tanh, [x])
    with pytest.raises(GradcheckError):
        gradgradcheck(ops.tanh, [x])


def test_every_exported_op_is_registered_under_its_name():
    for name, function in vars(ops).items():
        op = getattr(function, "op", None)
        if isinstance(op, core.Op):
            assert registry[op.name] is op
            assert op.name == name
