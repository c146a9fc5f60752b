"""Kernels of both backends against their composites, on inputs from harmless to extreme.

The composite of a fused op is its definition; that it is right is checked elsewhere, by finite
differences and against PyTorch.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorgrad
from tensorgrad import fused
from tensorgrad.backend import kernels, threads
from tensorgrad.backend.coins import coin_flips
from tensorgrad.testing import gradgradcheck

ROOT = Path(__file__).resolve().parent.parent
NUMBA = importlib.util.find_spec("numba") is not None
BACKENDS = [
    "numpy",
    pytest.param("numba", marks=pytest.mark.skipif(not NUMBA, reason="Numba is not installed")),
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    tensorgrad.backend.use(request.param)
    yield request.param
    tensorgrad.backend.use()


def run(function: Any, inputs: list, g: Any, with_kernels: bool) -> list[np.ndarray]:
    """The value and the gradients of the float inputs, for the gradient ``g`` of the value."""
    xs = [
        tensorgrad.from_numpy(a.copy()).requires_grad_(a.dtype.kind == "f")
        if isinstance(a, np.ndarray)
        else a
        for a in inputs
    ]
    kernels.enabled = with_kernels
    try:
        y = function(*xs)
        y.backward(tensorgrad.from_numpy(np.resize(g, y.shape).astype(y.dtype)))
    finally:
        kernels.enabled = True
    floats = [x for x in xs if isinstance(x, tensorgrad.Tensor) and x.requires_grad]
    return [y.detach().numpy(), *(x.grad.numpy() for x in floats)]


def agree(function: Any, inputs: list, rtol: float, atol: float) -> None:
    """The kernel gives what the composite does, also where that is nan or infinite."""
    size = max(a.size for a in inputs if isinstance(a, np.ndarray))
    g = np.cos(np.arange(max(size, 1)))
    with np.errstate(all="ignore"):
        found, expected = (run(function, inputs, g, with_kernels) for with_kernels in (True, False))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


TOLERANCE = {"float32": (2e-5, 2e-6), "float64": (1e-10, 1e-12)}


def values(kind: str, shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if kind == "large":
        x *= 1e4
    if kind == "zeros":
        x *= 0
    if kind == "denormal":
        x *= 1e-40 if dtype == "float32" else 1e-310
    if kind == "equal":
        x = np.full(shape, 0.7)
    return x.astype(dtype)


KINDS = ("normal", "large", "zeros", "denormal", "equal")
SHAPES = ((1, 1), (2, 3), (3, 17), (5, 64), (2, 3, 33), (1, 1000))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(backend: str, kind: str, dtype: str, approximate: str) -> None:
    for shape in SHAPES:
        x = values(kind, shape, dtype)
        agree(lambda x: fused.gelu(x, approximate=approximate), [x], *TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_gelu_over_its_whole_range(backend: str, dtype: str) -> None:
    """Every region of the polynomials, and the ends: nan, and so large that squares overflow."""
    x = np.append(np.linspace(-12, 12, 2001), np.nan).astype(dtype)
    ends = tensorgrad.tensor([-1e30, 1e30], dtype=dtype)
    for approximate in ("none", "tanh"):
        agree(lambda x, a=approximate: fused.gelu(x, approximate=a), [x], *TOLERANCE[dtype])
        with np.errstate(over="ignore"):
            low, high = fused.gelu(ends, approximate=approximate).tolist()
        assert abs(low) < 1e-30
        assert high == ends[1].item()


LINEARS = {
    "linear": fused.linear,
    "linear_relu": fused.linear_relu,
    "linear_gelu": fused.linear_gelu,
    "linear_gelu, tanh": lambda *inputs: fused.linear_gelu(*inputs, approximate="tanh"),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*LINEARS, "linear_add"])
def test_linear(backend: str, name: str, kind: str, dtype: str) -> None:
    """Products of all sizes: NumPy's and those by tiles."""
    rtol, atol = TOLERANCE[dtype]
    for (*rows, width), out in zip(
        (*SHAPES, (9, 70, 70), (700, 130)), (1, 4, 33, 64, 5, 2, 70, 61)
    ):
        x, w = values(kind, (*rows, width), dtype), values("normal", (out, width), dtype, 1)
        b, r = values(kind, (out,), dtype, 2), values(kind, (*rows, out), dtype, 3)
        atol_here = atol * width * max(np.abs(x).max(), np.abs(r).max(), 1)
        if name != "linear_add":
            for bias in (b, None):
                agree(LINEARS[name], [x, w, bias], 10 * rtol, atol_here)
            continue
        for bias, residual in (
            (b, r), (None, r), (None, np.asfortranarray(r)), (b, r[..., :1]), (None, r[0])
        ):  # fmt: skip
            agree(fused.linear_add, [x, w, bias, residual], 10 * rtol, atol_here)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_relu_of_what_is_not_finite(backend: str, dtype: str) -> None:
    """nan stays, and so does its gradient; at 0 there is none."""
    x = np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0]], dtype).T
    agree(fused.linear_relu, [x, np.ones((1, 1), dtype), None], *TOLERANCE[dtype])
    y = fused.linear_relu(*map(tensorgrad.from_numpy, (x, np.ones((1, 1), dtype))), None)
    np.testing.assert_array_equal(y.numpy().ravel(), [np.nan, np.inf, 0, 0, 0, 1, 0])


def test_a_residual_does_not_make_the_result_larger(backend: str) -> None:
    x, w = tensorgrad.ones(3), tensorgrad.ones(2, 3)
    with pytest.raises(RuntimeError, match=r"the residual \(4, 2\) cannot be .* result's \(2,\)"):
        fused.linear_add(x, w, None, tensorgrad.ones(4, 2))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["normal", "zeros", "equal"])
def test_layer_norm(backend: str, kind: str, dtype: str) -> None:
    for shape in SHAPES:
        x = values(kind, shape, dtype)
        w, b = values("normal", shape[-1:], dtype, 1), values("normal", shape[-1:], dtype, 2)
        # Where all elements of a row are equal, rounding is all there is, divided by sqrt(eps).
        loose = 300 if kind == "equal" else 10
        rtol, atol = (loose * t for t in TOLERANCE[dtype])
        for inputs in ([x, w, b], [x, w, None], [x, None, None]):
            agree(fused.layer_norm, inputs, rtol, atol)
            agree(fused.rms_norm, inputs[:2], rtol, atol)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_norms_of_large_numbers(backend: str, dtype: str) -> None:
    x = values("large", (4, 33), dtype)
    ones = np.ones(33, dtype)
    rtol, _ = TOLERANCE[dtype]
    agree(fused.layer_norm, [x, ones, ones], 10 * rtol, 10 * rtol)
    agree(fused.rms_norm, [x, ones], 10 * rtol, 10 * rtol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy(backend: str, kind: str, dtype: str) -> None:
    for n, classes in ((1, 1), (3, 2), (5, 17), (7, 1000)):
        x = values(kind, (n, classes), dtype)
        target = np.random.default_rng(1).integers(0, classes, n)
        for params in ({}, {"label_smoothing": 0.1}, {"ignore_index": int(target[0])}):
            agree(lambda x, t, p=params: fused.cross_entropy(x, t, **p), [x, target],
                  *TOLERANCE[dtype])  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cross_entropy_with_impossible_classes(backend: str, dtype: str) -> None:
    """Logits of -inf: a probability of 0, and no gradient."""
    x = values("normal", (3, 9), dtype)
    x[:, 4:] = -np.inf
    losses = fused.cross_entropy(
        logits := tensorgrad.from_numpy(x).requires_grad_(), tensorgrad.tensor([0, 1, 3])
    )
    losses.sum().backward()
    p = np.exp(x[:, :4]) / np.exp(x[:, :4]).sum(1, keepdims=True)
    np.testing.assert_allclose(losses.detach().numpy(), -np.log(p[range(3), [0, 1, 3]]), rtol=1e-5)
    p[range(3), [0, 1, 3]] -= 1
    np.testing.assert_allclose(logits.grad.numpy()[:, :4], p, rtol=1e-5, atol=1e-6)
    assert (logits.grad.numpy()[:, 4:] == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_dropout(backend: str, kind: str, dtype: str) -> None:
    """To the bit; and nothing but what is kept stays for the backward pass."""
    for shape in (*SHAPES, (0, 3)):
        x, keep = values(kind, shape, dtype), values("normal", shape, dtype, 1) > 0
        for p in (0.0, 0.3, 1.0):
            agree(lambda x, keep, p=p: fused.dropout(x, keep, p=p), [x, keep], 0, 0)
    ends = np.array([np.inf, -np.inf, np.nan, np.inf], dtype)
    agree(lambda x, keep: fused.dropout(x, keep, p=0.5), [ends, ends > 0], 0, 0)
    y = fused.dropout(tensorgrad.from_numpy(x).requires_grad_(), keep, p=0.5)
    assert [getattr(a, "dtype", None) for a in y.node.saved] == [np.bool_, None]


def qkv(lead: tuple[int, ...], n: int, m: int, d: int, kind: str, dtype: str) -> list[np.ndarray]:
    return [values(kind, (*lead, size, d), dtype, i) for i, size in enumerate((n, m, m))]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("lead", "n", "m"),
    [((), 1, 1), ((), 3, 5), ((2,), 5, 3), ((2, 3), 17, 17), ((1, 2), 130, 130), ((2, 1, 2), 70, 9),
     ((2,), 0, 4), ((0, 2), 3, 3)],
)  # fmt: skip
def test_attention(
    backend: str, lead: tuple, n: int, m: int, causal: bool, dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In one block and in many."""

    for scores, scale in ((kernels.attention.SCORES, 0.3), (256, 0.3), (256, 0.0), (256, -0.5)):

        def attention(q: Any, k: Any, v: Any, scale: float = scale) -> Any:
            return fused.scaled_dot_product_attention(
                q, k, v, None, None, scale=scale, causal=causal
            )

        monkeypatch.setattr(kernels.attention, "SCORES", scores)
        agree(attention, qkv(lead, n, m, 6, "normal", dtype), *TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("n", "m", "d", "e"),
    [
        (8, 8, 1, 1),
        (16, 16, 16, 16),
        (13, 70, 19, 40),
        (16, 5, 33, 7),
        (32, 32, 32, 32),
        (33, 31, 3, 37),
        (40, 100, 12, 64),
        (100, 7, 33, 4),
    ],
)
def test_attention_of_heads_cut_from_one_array(
    backend: str, n: int, m: int, d: int, e: int, causal: bool, dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As a transformer does: [B, T, H, D] → [B, H, T, D]; on one thread and on three."""
    sizes = ((n, d), (m, d), (m, e))
    arrays = [values("normal", (2, t, 3, w), dtype, i) for i, (t, w) in enumerate(sizes)]

    def attention(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (x.permute(0, 2, 1, 3) for x in (q, k, v))
        y = fused.scaled_dot_product_attention(q, k, v, None, None, scale=0.4, causal=causal)
        assert not kernels.enabled or y.transpose(1, 2).is_contiguous()
        return y

    rtol, atol = TOLERANCE[dtype]
    for count in (1, 3):
        monkeypatch.setattr(threads, "COUNT", count)
        monkeypatch.setattr(threads, "ALONE", 0)
        agree(attention, arrays, rtol, 10 * atol)  # sums of up to 100 products


@pytest.mark.skipif(not NUMBA, reason="Numba is not installed")
def test_which_attention_is_one_loop() -> None:
    """Of several queries, each head with its own keys: else the checks here compare nothing."""
    from tensorgrad.backend.kernels.attention_loops import takes

    q = np.ones((2, 3, 8, 4), "float32")
    assert takes(q, q, q, None, None)
    assert takes(q[0], q[0], q[0], None, None)
    assert takes(q, q, q, np.ones((3, 1, 8), bool), np.ones((2, 3), int))
    assert not takes(q, q, q, np.ones((5, 1, 1, 8, 8), bool), None)
    assert not takes(q, q, q, None, np.ones(3, int))
    assert not takes(q[:, :, :7], q, q, None, None)
    assert not takes(q, q[:, :1], q[:, :1], None, None)
    assert not takes(q, q[:, :, :0], q[:, :, :0], None, None)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["large", "zeros", "denormal"])
def test_attention_to_extremes(backend: str, kind: str, dtype: str) -> None:
    def attention(q: Any, k: Any, v: Any) -> Any:
        return fused.scaled_dot_product_attention(q, k, v, None, None, scale=0.3, causal=True)

    q, k, v = qkv((2,), 9, 9, 5, kind, dtype)
    rtol, atol = TOLERANCE[dtype]
    # Scores of ±1e8 have steps of 8 in float32; both ways must round them alike to agree at all.
    q = np.sign(q) if kind == "large" else q
    agree(attention, [q, np.round(k), v], rtol, atol * (1e4 if kind == "large" else 1))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (2, 1, 1, 7), (1, 3, 5, 1), (4, 2, 3, 5, 7)])
def test_attention_with_masks(
    backend: str, shape: tuple, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any shape that broadcasts; one row may look at nothing; dropout; in small blocks."""
    monkeypatch.setattr(kernels.attention, "SCORES", 40)
    monkeypatch.setattr(kernels.attention, "QUERIES", 2)
    rng = np.random.default_rng(0)
    lead = (2, 3) if len(shape) != 3 else (3, 2)
    q, k, v = qkv(lead, 5, 7, 4, "normal", dtype)
    may = rng.random(shape) < 0.6
    may[..., 0, :] = False
    added = np.where(may, rng.standard_normal(shape), -np.inf).astype(dtype)
    seeds = rng.integers(2**32, size=lead)

    def attention(q: Any, k: Any, v: Any, mask: Any, seeds: Any) -> Any:
        dropout = 0.0 if seeds is None else 0.3
        return fused.scaled_dot_product_attention(q, k, v, mask, seeds, scale=0.5, dropout=dropout)

    for mask in (may, rng.standard_normal(shape).astype(dtype)):
        agree(attention, [q, k, v, mask, None], *TOLERANCE[dtype])
        agree(attention, [q, k, v, mask, seeds], *TOLERANCE[dtype])
    # Added -inf get no gradient worth comparing: the composite's is 0, as the kernel's.
    agree(attention, [q, k, v, added, seeds], *TOLERANCE[dtype])


def masks(lead: tuple[int, ...], n: int, m: int, dtype: str) -> list[np.ndarray]:
    """Boolean and added ones; for all heads, for each, and of keys only; a row without anything."""
    rng = np.random.default_rng(3)
    found = []
    for shape in ((n, m), (*lead, n, m), (lead[0], 1, 1, m)[-len(lead) - 2 :], (lead[-1], n, 1)):
        may = rng.random(shape) < 0.6
        may[..., 0, :] &= shape[-2] == 1
        added = rng.standard_normal(shape)
        found += [may, added.astype(dtype), np.where(may, added, -np.inf).astype(dtype)]
    return found


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("lead", "n", "m"),
    [((2, 3), 8, 9), ((2,), 16, 75), ((3, 2), 33, 31), ((2,), 70, 90), ((1, 2), 40, 7)],
)
def test_loops_of_attention_with_masks_and_dropout(
    backend: str, lead: tuple, n: int, m: int, causal: bool, dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """On one thread and on three; the last of the masks has a gradient of its own."""
    seeds = np.random.default_rng(4).integers(2**32, size=lead)
    rtol, atol = TOLERANCE[dtype]

    def attention(q: Any, k: Any, v: Any, mask: Any, seeds: Any) -> Any:
        dropout = 0.0 if seeds is None else 0.2
        return fused.scaled_dot_product_attention(
            q, k, v, mask, seeds, scale=0.4, causal=causal, dropout=dropout
        )

    inputs = qkv(lead, n, m, 6, "normal", dtype)
    monkeypatch.setattr(threads, "ALONE", 0)
    for i, mask in enumerate([None, *masks(lead, n, m, dtype)]):
        monkeypatch.setattr(threads, "COUNT", 1 + i % 2 * 2)
        agree(attention, [*inputs, mask, seeds], rtol, 10 * atol)
        agree(attention, [*inputs, mask, None], rtol, 10 * atol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["large", "zeros", "denormal"])
@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_masks_and_dropout_to_extremes(backend: str, kind: str, dropout: float, dtype: str) -> None:
    def attention(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return fused.scaled_dot_product_attention(
            q, k, v, mask, np.arange(2), scale=0.3, dropout=dropout
        )

    q, k, v = qkv((2,), 9, 9, 5, kind, dtype)
    rtol, atol = TOLERANCE[dtype]
    nothing = np.zeros((9, 9), bool)
    far = np.where(np.eye(9, dtype=bool), 0, -1e4).astype(dtype)
    for mask in (nothing, np.full((9, 9), -np.inf, dtype), far, -far):
        wide = atol * (1e4 if kind == "large" else 1)
        agree(attention, [np.sign(q), np.round(k), v, mask], rtol, wide)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_second_derivatives_of_attention_with_a_mask(backend: str, dropout: float) -> None:
    """Of a size that the loops take; the registry's samples are smaller."""
    inputs = [tensorgrad.from_numpy(a).requires_grad_() for a in qkv((1,), 8, 3, 2, "normal", "f8")]
    mask = np.tri(8, 3, dtype=bool)

    def attention(q: Any, k: Any, v: Any) -> Any:
        return fused.scaled_dot_product_attention(
            q, k, v, mask, np.array([7]), scale=0.6, dropout=dropout
        )

    assert gradgradcheck(attention, inputs)


def test_coin_flips_are_fair_and_alike_in_no_direction() -> None:
    """Of heads side by side, rows, columns and seeds: each as often heads, none like another."""
    p = 0.3
    flips = coin_flips(np.arange(40), (100, 50), p)
    error = np.sqrt(p * (1 - p) / flips.size)
    assert abs(flips.mean() - p) < 5 * error
    for axis in range(3):
        along = flips.mean(axis=tuple({0, 1, 2} - {axis}))
        assert np.abs(along - p).max() < 5 * np.sqrt(p * (1 - p) * len(along) / flips.size)
        both = flips & np.roll(flips, 1, axis)
        assert abs(both.mean() - p * p) < 5 * error
    np.testing.assert_array_equal(coin_flips(np.arange(40), (3, 50), p, first=7), flips[:, 7:10])
    assert not coin_flips(np.arange(9), (9, 9), 0).any()
    assert coin_flips(np.arange(9), (9, 9), 1).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_softmax(backend: str, kind: str, dtype: str) -> None:
    """Over the last axis, which has a kernel, and over another; of transposed memory."""
    rtol, atol = TOLERANCE[dtype]
    for function in (tensorgrad.softmax, tensorgrad.log_softmax):
        for shape in SHAPES:
            x = values(kind, shape, dtype)
            for y in (x, x.T):
                for axis in (-1, 0):
                    agree(lambda t, f=function, a=axis: f(t, a), [y], rtol, 10 * atol)


def test_softmax_of_infinities(backend: str) -> None:
    inf = np.inf
    x = np.array([[-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [np.nan, 0, 1]], "float32")
    for function in (tensorgrad.softmax, tensorgrad.log_softmax):
        agree(lambda t, f=function: f(t, 1), [x], 1e-6, 1e-7)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_repeated_rows_of_a_table(backend: str, dtype: str) -> None:
    """The gradient of a look-up adds up what the same row was used for."""
    table = tensorgrad.zeros(5, 3, dtype=dtype, requires_grad=True)
    index = tensorgrad.tensor([[1, -1, 1], [4, 0, 1]])
    g = values("normal", (2, 3, 3), dtype)
    table[index].backward(tensorgrad.from_numpy(g))
    tensorgrad.embedding(table, index).backward(tensorgrad.from_numpy(g))
    expected = np.zeros((5, 3), dtype)
    np.add.at(expected, index.numpy(), 2 * g)
    np.testing.assert_allclose(table.grad.numpy(), expected, *TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3},
     {"momentum": 0.8, "nesterov": True, "weight_decay": 0.2}, {"maximize": True}],
)  # fmt: skip
def test_sgd(backend: str, options: dict, dtype: str) -> None:
    """Three steps against the formulas of its docstring, written for one number."""
    w = [tensorgrad.from_numpy(values("normal", s, dtype)) for s in ((7,), (3, 5), ())]
    start = [p.numpy().copy() for p in w]
    optimizer = tensorgrad.optim.SGD(w, lr=0.1, **options)
    momentum, decay = options.get("momentum", 0), options.get("weight_decay", 0)
    velocity: list[Any] = [None] * len(w)
    for step in range(3):
        for i, p in enumerate(w):
            g = values("normal", p.shape, dtype, seed=step)
            p.grad = tensorgrad.from_numpy(g)
            d = (-g if options.get("maximize") else g) + decay * start[i]
            if momentum:
                share = 1 - options.get("dampening", 0)
                v = d if velocity[i] is None else momentum * velocity[i] + share * d
                velocity[i] = v
                d = d + momentum * v if options.get("nesterov") else v
            start[i] = start[i] - 0.1 * d
        optimizer.step()
    for p, expected in zip(w, start):
        np.testing.assert_allclose(p.numpy(), expected, *TOLERANCE[dtype])


def test_log_softmax_is_rounded_once(backend: str) -> None:
    """In float32 it is within a step of the exact one: PyTorch's, which is not, is no measure."""
    x = values("normal", (50, 7), "float32")
    exact = x.astype("float64")
    exact -= np.log(np.exp(exact).sum(1, keepdims=True))
    y = tensorgrad.log_softmax(tensorgrad.from_numpy(x), 1).numpy()
    np.testing.assert_array_less(np.abs(y - exact), 2 * np.spacing(np.abs(y).max()))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rows_are_added_to_a_gradient_that_is_there(
    backend: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without zeros of the size of the table: to that of a tied layer, and of the batch before."""
    table = tensorgrad.from_numpy(values("normal", (7, 3), dtype)).requires_grad_()
    index = tensorgrad.tensor([[1, 6, 1], [4, 0, 1]])
    x, g = values("normal", (2, 3), dtype, 1), values("normal", (2, 3, 3), dtype, 2)

    def loss() -> Any:
        rows = tensorgrad.embedding(table, index) * tensorgrad.from_numpy(g)
        return rows.sum() + (tensorgrad.from_numpy(x) @ table.T).sum() + 2 * table[5].sum()

    def dense(*args: Any) -> None:
        raise AssertionError("zeros were made")

    expected = np.zeros((7, 3), dtype)
    np.add.at(expected, index.numpy(), g)
    expected += x.sum(0)
    expected[5] += 2
    (once,) = tensorgrad.autograd.grad(loss(), table)  # there is no .grad to add to
    np.testing.assert_allclose(once.numpy(), expected, *TOLERANCE[dtype])
    loss().backward()
    kept = table.grad
    memory, squares = kept.numpy(), (kept.detach().requires_grad_() ** 2).sum()
    monkeypatch.setattr("tensorgrad.backend.xp.assembled", dense)
    loss().backward()
    assert table.grad is kept
    assert table.grad.numpy() is memory
    np.testing.assert_allclose(memory, 2 * expected, *TOLERANCE[dtype])
    with pytest.raises(RuntimeError, match="the accumulation of gradients"):
        squares.backward()


KEPT = """
import numpy as np, tensorgrad as t, nn.functional as F
from hashlib import sha256
x = t.from_numpy(np.sin(np.arange(768, dtype="f")).reshape(2, 8, 3, 2, 8)).requires_grad_()
y = F.scaled_dot_product_attention(*x.permute(2, 0, 3, 1, 4).unbind(0), is_causal=True)
(y * y).sum().backward()
print(sha256(y.detach().numpy().tobytes() + x.grad.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_what_is_kept_rounds_as_what_was_just_compiled(tmp_path: Path) -> None:
    """Or a run that is resumed would end otherwise than one that was not stopped."""
    pytest.importorskip("numba")
    environment = {
        **os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "TENSORGRAD_BACKEND": "numba",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }  # fmt: skip
    found = [
        subprocess.run(
            [sys.executable, "-c", KEPT], env=environment, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1]
