"""tensorgrad.linalg and PyTorch's functions of the same names, called the same way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import COMPLAINTS, EQUATIONS, definite, each, normal, regular, shapes

import tensorgrad
from tensorgrad import linalg

inf, nan = math.inf, math.nan


# Shapes of the arguments that the function is called with; where they do not fit, both refuse.
SHAPES = {
    "matmul": ["3 3", "3 3x2", "2x3 3", "2x3 3x4", "4x2x3 3", "3 4x3x2", "2x1x2x3 5x3x4", "0x3 3x2",
               "2x0 0x3", "0 0", "0x2x3 3x1", "2x3 0x3x2", "3x4x2 3x2x4", ". 2", "2x3 2x3",
               "2x2x3 3x3x2"],
    "mm": ["2x3 3x4", "2x0 0x3", "0x2 2x2", "2x3 2x3", "2 2x2"],
    "bmm": ["2x3x4 2x4x1", "0x1x2 0x2x1", "1x2x3 2x3x2", "2x2 2x2"],
    "mv": ["2x3 3", "0x3 3", "2x0 0", "2x3 2"],
    "dot": ["3 3", "0 0", "3 2", "3 1"],
    "vdot": ["3 3"],
    "inner": ["3 3", "2x3 3", "2x3 4x3", "2x1x3 2x3", ". 2x3", "2x3 .", "2x0 3x0", "2x3 2x1"],
    "outer": ["2 3", "0 3", "1 1", "2x2 2"],
    "ger": ["2 3"],
    "kron": ["2 3", "2x3 3x1", "2 2x3", "2x1x2 3x2", ". 2", ". .", "0x2 2x2"],
    "cross": ["3 3", "2x3 2x3", "2x3 1x3", "0x3 0x3", "2x3 3", "2 2"],
    "addmm": ["2x4 2x3 3x4", "4 2x3 3x4", "2x1 2x0 0x4", "3 2x3 3x4", "1x2x2 2x2 2x2"],
    "addmv": ["2 2x3 3", ". 2x3 3", "3 2x3 3"],
    "baddbmm": ["2x2x2 2x2x3 2x3x2", "2 2x2x3 2x3x2", "3 2x2x3 2x3x2"],
    "addbmm": ["2x2 3x2x3 3x3x2", "2 0x2x3 0x3x2", "3 3x2x3 3x3x2"],
    "chain_matmul": ["2x3 3x4 4x1", "2x3 3x4", "2x3 2x3", "2 2x2"],
    "trace": ["3x3", "2x3", "0x2", "3"],
    "norm": ["2x3x2", "3", "."],
    "p_norm": ["2x3", "."],
}  # fmt: skip


SQUARE = "2x2 3x3 1x1 4x2x2 2x0x2x2 0x0 3x0x0 2x3 2"


def _cases() -> Iterator[tuple[str, tuple, dict]]:
    """(function, arguments, keywords) of the calls to compare."""
    for name, texts in SHAPES.items():
        for text in texts:
            yield name, tuple(normal(*s, seed=i) for i, s in enumerate(shapes(text))), {}
    for text in SHAPES["addmm"]:
        for beta in (0, 2):
            args = tuple(normal(*s) for s in shapes(text))
            yield "addmm", args, {"beta": beta, "alpha": 3}
    yield "addmv", (normal(2), normal(2, 3), normal(3)), {"beta": -2, "alpha": 3}
    yield "addbmm", (normal(2), normal(3, 2, 3), normal(3, 3, 2)), {"beta": -2, "alpha": 3}
    yield "baddbmm", (normal(2), normal(3, 2, 3), normal(3, 3, 2)), {"beta": -2, "alpha": 3}
    yield "cross", (normal(3, 2), normal(3, 2)), {"dim": 0}
    for text in ("2x3 3x4", "2 2", "2x3 3x4 4x5 5", "3 3x4 4x2", "2x0 0x3 3x1", "3 3x4 4", "2x2",
                 "2x3 2x3", "2x2 2 2x2"):  # fmt: skip
        yield "multi_dot", ([normal(*s) for s in shapes(text)],), {}
    for text, dims in (
        ("2x3x4 3x4x5", 2), ("2x3 4", 0), ("2x3 3x2", 1), ("2x3 2x3", 2), ("2x3 1x4", 1),
        ("2x3x4 4x2x3", ([0, 2], [1, 0])), ("2x3 3x4", ([-1], [0])), ("2x0 0x3", 1), ("0x2 2x0", 1),
        (". .", 0), ("2x3 3x2", -1), ("2x3 3x2", 3), ("2x3 3x2", ([0], [5])), ("2x3 2x3", 1),
        ("2x2 2x2", ([0], [0, 1])),
    ):  # fmt: skip
        yield "tensordot", (*[normal(*s) for s in shapes(text)], dims), {}
    for text, args in (
        ("3x3", ()), ("2x3", (1,)), ("2x3", (-1,)), ("2x3", (7,)), ("2x3x4", (0, 1, 2)),
        ("2x3x4", (1, -1, 0)), ("0x3", ()), ("3x3", (0, 0, -2)), ("3", ()), ("3x3", (0, 2, 1)),
    ):  # fmt: skip
        yield "diagonal", (normal(*shapes(text)[0]), *args), {}
    for equation, text in [*EQUATIONS, ("ij,jk->ik", "2x1 3x4")]:
        yield "einsum", (equation, *[normal(*s) for s in shapes(text)]), {}
    yield "einsum", (normal(2, 3), [0, 30], normal(3, 4), [30, 2]), {}
    yield "einsum", (normal(2, 3), [0, 60]), {}

    for shape in shapes(SQUARE):
        for name in ("inv", "inverse", "det", "slogdet", "logdet"):
            yield name, (regular(*shape),), {}
        for n in (0, 1, 2, 5, -1, -3):
            yield "matrix_power", (regular(*shape) / 3, n), {}
        for upper in (False, True):
            yield "cholesky", (definite(*shape),), {"upper": upper}
    for name in ("det", "slogdet", "logdet"):
        yield name, (-regular(3, 3),), {}
    for left, texts in (
        (True, ("2x2 2", "2x2 2x3", "4x2x2 4x2", "4x2x2 2", "4x2x2 2x3", "4x1x2x2 3x2x1",
                "2x2 4x2x1", "2x2x2 2x2", "3x2x2 3x2x2", "0x0 0", "2x2 2x0", "0x2x2 2x1", "2x2 4x2",
                "2x2 3", "2x3 2", "2x2 .")),
        (False, ("2x2 3x2", "4x2x2 3x2", "0x0 2x0", "2x2 2", "2x2 2x3")),
    ):  # fmt: skip
        for text in texts:
            a, b = shapes(text)
            yield "solve", (regular(*a), normal(*b)), {"left": left}

    orders = (0, 0.5, 1, 1.5, 2, 3, inf, -inf, -1, -2.5)
    for order in orders:
        for text, dim, keepdim in (
            ("2x3", None, False), ("2x3", 1, True), ("2x3x2", (0, -1), False), (".", None, True),
            ("0", None, False), ("0x2", 1, False), ("0x2", 0, False), ("2", 3, False),
        ):  # fmt: skip
            yield "vector_norm", (normal(*shapes(text)[0]), order, dim), {"keepdim": keepdim}
        if order >= 0 or order == -inf:
            yield "vector_norm", (np.array([0.0, 3.0, -3.0, 1.0]), order), {}
        yield "norm", (normal(3), order), {}
        yield "p_norm", (normal(2, 3), order, 1, True), {}
        yield "p_norm", (normal(2, 3), order), {}
    yield "vector_norm", (normal(2, 3),), {"dtype": "float64"}
    for order in ("fro", 1, -1, inf, -inf, 3):
        for text, dim in (
            ("2x3", (-2, -1)), ("2x3x4", (2, 0)), ("0x2", (0, 1)), ("2x0", (0, 1)), ("3", (-2, -1)),
            ("2x2", (0, 0)),
        ):  # fmt: skip
            yield "matrix_norm", (normal(*shapes(text)[0]), order, dim), {}
        yield "matrix_norm", (normal(2, 3, 4), order, (0, 1), True), {}
        yield "norm", (normal(2, 3), order), {}
        yield "norm", (normal(2, 3, 2), order, (0, 2)), {}
        yield "norm", (normal(2, 3, 2), order), {}
    yield "norm", (normal(3), "fro"), {}
    yield "norm", (normal(2, 3, 2), None, 1), {}
    yield "norm", (normal(2, 3, 2), 1, (0, 1, 2)), {}
    yield "p_norm", (normal(2, 3), "fro", (0, 1)), {}


CASES = list(_cases())


ERRORS = (RuntimeError, IndexError, ValueError, TypeError)


def _theirs(torch: ModuleType, name: str) -> Callable:
    if name in ("p_norm", "diagonal"):  # torch's and not torch.linalg's
        return getattr(torch, name.replace("p_norm", "norm"))
    return getattr(torch.linalg, name, None) or getattr(torch, name)


def _flat(values: Any) -> Iterator[Any]:
    if isinstance(values, tuple):
        for value in values:
            yield from _flat(value)
    else:
        yield values


def _run(function: Callable, args: tuple, kwargs: dict, make: Callable, module: Any) -> list:
    """The results, and the gradients of their sum with irregular weights, as arrays."""
    made: list[Any] = []

    def leaf(array: np.ndarray) -> Any:
        made.append(make(array.copy()))
        return made[-1].requires_grad_() if array.dtype.kind == "f" else made[-1]

    kwargs = {k: getattr(module, v) if k == "dtype" else v for k, v in kwargs.items()}
    outs = list(_flat(function(*each(args, leaf), **kwargs)))
    results = [o.detach().numpy() for o in outs]
    leaves = [t for t in made if t.requires_grad]
    loss = 0
    for o in outs[-1:]:  # the sign of slogdet, which comes first, has no gradient
        if o.requires_grad:
            weights = np.cos(np.arange(o.numel())).reshape(o.shape).astype(results[-1].dtype)
            loss = loss + (o * make(weights)).sum()
    if leaves and not isinstance(loss, int) and loss.requires_grad:
        loss.backward()
    return results + [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in leaves]


def _cast(args: Any, dtype: str) -> list[Any]:
    """Float arrays in another dtype; as integers they are scaled first."""
    return [
        _cast(a, dtype) if isinstance(a, list)
        else np.asarray(a * 3 if dtype.startswith("int") else a, dtype) if isinstance(a, np.ndarray)
        else a
        for a in args
    ]  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")  # PyTorch calls some of them deprecated
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_like_torch(name: str, dtype: str, torch: ModuleType) -> None:
    """Values, dtypes and gradients; and where PyTorch refuses, so do we, with its exception."""
    tolerance = 1e-5 if dtype == "float32" else 1e-9
    for args, kwargs in [case[1:] for case in CASES if case[0] == name]:
        args = tuple(_cast(args, dtype))
        case = f"{name} {[getattr(a, 'shape', a) for a in args]} {kwargs}"
        ours = getattr(linalg, name), args, kwargs, tensorgrad.from_numpy, tensorgrad
        try:
            expected = _run(_theirs(torch, name), args, kwargs, torch.from_numpy, torch)
        except ERRORS as refusal:
            try:
                _run(*ours)
            except next(kind for kind in ERRORS if isinstance(refusal, kind)):
                continue
            pytest.fail(f"{case} is refused by PyTorch: {refusal}")
        for a, b in zip(_run(*ours), expected, strict=True):
            assert a.shape == b.shape, case
            assert a.dtype == b.dtype or not b.any(), case
            np.testing.assert_allclose(a, b, tolerance, tolerance, err_msg=case)


@pytest.mark.torch
def test_every_function_is_compared() -> None:
    functions = {n for n in linalg.__all__ if not isinstance(getattr(linalg, n), type)}
    # qr has no gradient to compare; its values are compared further down.
    assert functions - {name for name, _, _ in CASES} <= {"qr"}


@pytest.mark.torch
@pytest.mark.parametrize(("function", "args", "message"), COMPLAINTS)
def test_what_is_refused_is_refused_by_torch(
    function: Callable, args: tuple, message: str, torch: ModuleType
) -> None:
    name = next(n for n in linalg.__all__ if getattr(linalg, n) is function)
    with pytest.raises((RuntimeError, TypeError)):
        _theirs(torch, name)(*each(args, torch.from_numpy))


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """An equation with the shapes of its operands: all that einsum's language has."""
    letters = "abcAB"
    sizes = {label: draw(st.integers(0, 3)) for label in letters}
    dots = draw(st.lists(st.integers(0, 3), max_size=2))
    terms, operands, any_dots = [], [], False
    for _ in range(draw(st.integers(1, 4))):
        labels = draw(st.lists(st.sampled_from(letters), max_size=3))
        shape = [sizes[label] for label in labels]
        for i, label in enumerate(labels):  # a size 1 broadcasts, unless its label is repeated
            if labels.count(label) == 1 and draw(st.integers(0, 4)) == 0:
                shape[i] = 1
        if draw(st.integers(0, 2)) == 0:
            any_dots = True
            at, n = draw(st.integers(0, len(labels))), draw(st.integers(0, len(dots)))
            shape[at:at] = [draw(st.sampled_from([1, d])) for d in dots[len(dots) - n :]]
            labels.insert(at, "...")
        terms.append(" ".join(labels) if draw(st.booleans()) else "".join(labels))
        operands.append(tuple(shape))
    equation = ",".join(terms)
    if draw(st.booleans()):
        used = sorted({c for c in equation if c in letters})
        out = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
        if any_dots and draw(st.booleans()):
            out.insert(draw(st.integers(0, len(out))), "...")
        equation += "->" + "".join(out)
    return equation, operands


@pytest.mark.torch
@settings(max_examples=150)
@given(equations())
def test_any_einsum_is_torchs(drawn: tuple[str, list[tuple[int, ...]]]) -> None:
    torch = pytest.importorskip("torch")
    equation, operands = drawn
    args = (equation, *[normal(*s, seed=i) for i, s in enumerate(operands)])
    expected = _run(torch.einsum, args, {}, torch.from_numpy, torch)
    found = _run(linalg.einsum, args, {}, tensorgrad.from_numpy, tensorgrad)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, 1e-9, 1e-9)


@pytest.mark.torch
@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 3), max_size=4),
    st.lists(st.integers(0, 3), max_size=4),
    st.booleans(),
)
def test_any_matmul_is_torchs(a: list[int], b: list[int], fitting: bool) -> None:
    """Also in refusing; ``fitting`` makes the sizes that meet equal."""
    torch = pytest.importorskip("torch")
    if fitting and a and b:
        b[-2 if len(b) > 1 else 0] = a[-1]
    args = (normal(*a), normal(*b))
    try:
        expected = _run(torch.matmul, args, {}, torch.from_numpy, torch)
    except RuntimeError:
        with pytest.raises(RuntimeError, match="matmul: "):
            _run(linalg.matmul, args, {}, tensorgrad.from_numpy, tensorgrad)
        return
    found = _run(linalg.matmul, args, {}, tensorgrad.from_numpy, tensorgrad)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-9, 1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (2, 3, 3)])
def test_qr_is_that_of_torch(torch, shape, mode):
    a = np.random.default_rng(0).standard_normal(shape)
    ours = tensorgrad.linalg.qr(tensorgrad.tensor(a), mode)
    theirs = torch.linalg.qr(torch.tensor(a), mode)
    for name in ("Q", "R"):
        found, expected = getattr(ours, name).numpy(), getattr(theirs, name).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12, strict=True)
