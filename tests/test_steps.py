"""The step of all parameters in one call, and the clipping of all gradients: whatever these are.

Parameters of every kind beside each other: of other dtypes, not contiguous, views of one memory,
empty, without a gradient, with data, gradients and states that somebody has replaced since. The
measure is PyTorch, or the same step in plain NumPy, parameter by parameter.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tensorgrad
from tensorgrad.backend import kernels, threads
from tensorgrad.optim import SGD, Adam, AdamW, clip_factor, clip_grad_norm_

numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="Numba is not installed")
BACKENDS = ["numpy", pytest.param("numba", marks=numba)]

OPTIMIZERS: dict[str, Callable] = {
    "adamw": lambda m, ps: m.optim.AdamW(ps, lr=0.01, weight_decay=0.1),
    "adam": lambda m, ps: m.optim.Adam(ps, lr=0.01, weight_decay=0.1),
    "sgd": lambda m, ps: m.optim.SGD(ps, lr=0.1, weight_decay=0.1),
    "momentum": lambda m, ps: m.optim.SGD(ps, lr=0.1, momentum=0.9, dampening=0.2),
    "nesterov": lambda m, ps: m.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    tensorgrad.backend.use(request.param)
    yield request.param
    tensorgrad.backend.use()


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def some_of_every_kind(m: Any) -> list:
    """Leaves of a library."""

    def leaf(values: np.ndarray, dtype: str = "float32") -> Any:
        return m.tensor(values, dtype=getattr(m, dtype))

    shared = leaf(array(4, 6, seed=1))
    made = [
        leaf(array(3, 5)), leaf(array(7), "float64"), leaf(array()), leaf(array(0, 3)),
        leaf(array(5, 2)).T, leaf(array(2, 3), "float64").T, leaf(array(6, 4))[::2, 1:],
        shared[0], shared[1:3], leaf(array(70, 40)), leaf(array(4)),
    ]  # fmt: skip
    return [p.detach().requires_grad_() for p in made]


def give_gradients(m: Any, ps: list, step: int) -> None:
    for i, p in enumerate(ps):
        g = m.tensor(array(*p.shape, seed=100 * step + i), dtype=p.dtype)
        if i == 0:
            g = m.tensor(array(*reversed(p.shape), seed=step), dtype=p.dtype).T
        p.grad = None if i == len(ps) - 1 and step % 2 else g


def values(ps: list) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in ps]


def assert_equal(found: list, expected: list) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        tolerance = 1e-6 if a.dtype == np.float32 else 1e-13
        np.testing.assert_allclose(a, b, rtol=10 * tolerance, atol=tolerance)


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.torch
@every_optimizer
def test_parameters_of_every_kind_follow_torch(backend: str, torch: Any, name: str) -> None:
    """Clipped, too; PyTorch's clipping wants gradients of one dtype."""
    results = []
    for m in (tensorgrad, torch):
        ps = some_of_every_kind(m)
        optimizer = OPTIMIZERS[name](m, ps)
        for step in range(4):
            give_gradients(m, ps, step)
            clip = clip_grad_norm_ if m is tensorgrad else torch.nn.utils.clip_grad_norm_
            clip([p for p in ps if p.dtype == m.float32], 1.0)
            optimizer.step()
        results.append(values(ps) + values([p.grad for p in ps[:-1]]))
    assert_equal(*results)


def steps(ps: list, optimizer: Any, count: int, first: int = 0) -> list[np.ndarray]:
    for step in range(first, first + count):
        give_gradients(tensorgrad, ps, step)
        optimizer.step()
    return values(ps)


def twice(run: Callable[[], list]) -> None:
    """With the kernels that there are, and in plain NumPy."""
    results = []
    for backend in (None, "numpy"):
        tensorgrad.backend.use(backend)
        results.append(run())
    tensorgrad.backend.use()
    assert_equal(*results)


@every_optimizer
def test_what_was_replaced_between_steps_counts(name: str) -> None:
    """Data, states, the dtype: nothing is remembered of the step before."""

    def run() -> list[np.ndarray]:
        ps = some_of_every_kind(tensorgrad)[:5]
        optimizer = OPTIMIZERS[name](tensorgrad, ps)
        steps(ps, optimizer, 2)
        before = ps[0].detach()
        kept = before.numpy().copy()
        ps[0].data = tensorgrad.tensor(array(3, 5, seed=9), dtype="float32")
        ps[1].data = tensorgrad.tensor(array(3, 3, seed=9), dtype="float32").T[:2]
        optimizer.state.pop(ps[1], None)
        for key, value in optimizer.state[ps[2]].items():
            if key != "step":
                optimizer.state[ps[2]][key] = value + 1
        found = steps(ps, optimizer, 2, first=2)
        np.testing.assert_array_equal(before.numpy(), kept)
        ps[4].data = ps[4].detach().double()
        optimizer.load_state_dict(optimizer.state_dict())
        return found + steps(ps, optimizer, 2, first=4)

    twice(run)


@numba
@pytest.mark.parametrize("overlapping", [False, True])
@every_optimizer
def test_threads_share_the_work(
    name: str, overlapping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long parameters are cut into rows; memory that two of them share is left to one thread."""
    from tensorgrad.backend.kernels import steps as module

    def run() -> list[np.ndarray]:
        n = module.LONGEST + 5
        whole = tensorgrad.tensor(array(2 * n, seed=3), dtype="float32")
        starts = (0, 500) if overlapping else (0, n)
        ps = [whole[i : i + n].detach().requires_grad_() for i in starts]
        ps += some_of_every_kind(tensorgrad)
        return steps(ps, OPTIMIZERS[name](tensorgrad, ps), 3)

    tensorgrad.backend.use("numpy")
    expected = run()
    tensorgrad.backend.use()
    assert_equal(run(), expected)
    threaded = []

    def spread(loop: Callable, arrays: list, *rest: Any, work: int) -> None:
        threaded.append(work > 0)
        threads.spread(loop, arrays, *rest, work=work)

    monkeypatch.setattr(threads, "COUNT", 3)
    monkeypatch.setattr(threads, "ALONE", 0)
    monkeypatch.setattr(module, "ALONE", 0)
    monkeypatch.setattr(module, "spread", spread)
    assert_equal(run(), expected)
    assert threaded.count(False) == (3 if overlapping else 0)


@numba
def test_which_arrays_overlap() -> None:
    from tensorgrad.backend.kernels.steps import _apart, _tables

    a, b = np.zeros(10, np.float32), np.zeros(10, np.float32)

    def apart(*sets: tuple) -> bool:
        ((table, like),), left = _tables(sets)
        assert not left
        return _apart(table, like.itemsize)

    assert apart((a, b))
    assert apart((a[:5], b[:5]), (a[5:], b[5:]))
    assert not apart((a, a))
    assert not apart((a[:6], b[:6]), (a[5:], b[6:][:5].repeat(5)[:5]))
    assert not apart((a, b), (b[3:4], a[9:]))


@numba
def test_which_arrays_go_by_addresses() -> None:
    """The others are done one by one: else the checks above compare nothing."""
    from tensorgrad.backend.kernels.steps import _tables

    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    fixed = x.copy()
    fixed.flags.writeable = False
    unpickled = pickle.loads(pickle.dumps(x))
    assert unpickled.dtype is not x.dtype
    fit = [x, x[1:], x[1], x.astype(np.float64), x[0, 0, None], x[:0].copy(), unpickled]
    unfit = [x.T, x[:, 1:], x.astype(np.float16), x.astype(">f4"), fixed, x.astype(np.int32)]
    tables, left = _tables([(a,) for a in fit + unfit])
    for (found,), expected in zip(left, unfit, strict=True):
        assert found is expected or np.shares_memory(found, expected)
    rows = [table.tolist() for table, _ in tables]
    assert rows == [
        [[a.size, a.ctypes.data] for a in fit if a.dtype == dtype and a.size]
        for dtype in (np.float32, np.float64)
    ]
    mixed = [(x, x[:2]), (x, x.astype(np.float64))]
    assert _tables(mixed)[0] == []
    assert _tables([]) == ([], [])


@numba
def test_without_knowing_how_arrays_lie_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Python or NumPy may lay out its objects differently."""
    from tensorgrad.backend.kernels import steps as module

    def run() -> list[np.ndarray]:
        ps = some_of_every_kind(tensorgrad)
        give_gradients(tensorgrad, ps, 0)
        norm = clip_grad_norm_(ps, 1.0)
        return [norm.float().numpy(), *steps(ps, AdamW(ps), 2)]

    expected = run()
    monkeypatch.setattr(module, "KNOWN", False)
    assert_equal(run(), expected)


def test_an_unpickled_optimizer_goes_on_to_the_bit() -> None:
    ps = some_of_every_kind(tensorgrad)
    optimizer = Adam(ps)
    steps(ps, optimizer, 2)
    again, state = pickle.loads(pickle.dumps((ps, optimizer.state_dict())))
    resumed = Adam(again)
    resumed.load_state_dict(state)
    for a, b in zip(steps(ps, optimizer, 2, 2), steps(again, resumed, 2, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_is_a_write_to_those_that_have_a_gradient() -> None:
    ps = [tensorgrad.ones(2, requires_grad=True) for _ in range(2)]
    products = [(p * p).sum() for p in ps]
    ps[0].grad = tensorgrad.ones(2)
    SGD(ps).step()
    products[1].backward()
    with pytest.raises(RuntimeError, match=r"SGD\.step"):
        products[0].backward()


# --- clipping -------------------------------------------------------------------------------------


def test_gradients_of_every_kind_are_clipped(backend: str) -> None:
    ps = some_of_every_kind(tensorgrad)
    ps.append(tensorgrad.ones(4, dtype="float16", requires_grad=True))
    give_gradients(tensorgrad, ps[:-1], 0)
    ps[-1].grad = tensorgrad.ones(4, dtype="float16")
    before = values([p.grad for p in ps])
    objects = [(p.grad, p.grad.numpy()) for p in ps]
    exact = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in before))
    norm = clip_grad_norm_(ps, 1.0)
    assert norm.dtype == "float64"  # of the widest
    assert norm.item() == pytest.approx(exact, rel=1e-6)
    for p, g, (tensor, memory) in zip(ps, before, objects):
        assert p.grad is tensor
        assert p.grad.numpy() is memory
        tolerance = 1e-3 if g.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(memory, g / exact, rtol=tolerance, atol=1e-7)


def test_a_gradient_that_two_parameters_have_is_scaled_twice(backend: str) -> None:
    """As in PyTorch, which multiplies what it is given."""
    ps = [tensorgrad.zeros(2, requires_grad=True) for _ in range(2)]
    ps[0].grad = ps[1].grad = tensorgrad.tensor([3.0, 4.0])
    norm = clip_grad_norm_(ps, np.sqrt(50) / 2)
    assert norm.item() == pytest.approx(np.sqrt(50))
    np.testing.assert_allclose(ps[0].grad.numpy(), [0.75, 1.0], rtol=1e-5)


def test_a_gradient_that_cannot_be_written(backend: str) -> None:
    p = tensorgrad.zeros(3, requires_grad=True)
    p.grad = tensorgrad.ones(1).expand(3)
    with pytest.raises(ValueError, match="read-only"):
        clip_grad_norm_([p], 1.0)
    SGD([p], lr=1.0).step()  # which only reads it
    assert p.tolist() == [-1.0] * 3


@every_optimizer
def test_a_factor_within_the_step(backend: str, name: str) -> None:
    """As if the gradients had been clipped before, but that they stay as they are."""
    results = []
    for folded in (False, True):
        ps = some_of_every_kind(tensorgrad)
        optimizer = OPTIMIZERS[name](tensorgrad, ps)
        for step in range(4):
            give_gradients(tensorgrad, ps, step)
            if folded:
                before = values([p.grad for p in ps[:-1]])
                norm, factor = clip_factor([p.grad for p in ps if p.grad is not None], 1.0)
                assert factor == pytest.approx(1 / norm, rel=1e-5)
                optimizer.step(factor=factor)
                for p, g in zip(ps, before):
                    np.testing.assert_array_equal(p.grad.numpy(), g)
            else:
                clip_grad_norm_(ps, 1.0)
                optimizer.step()
        results.append(values(ps))
    assert_equal(*results)


def test_nothing_to_clip() -> None:
    gradients = [tensorgrad.tensor([0.3]), tensorgrad.tensor([0.4])]
    assert clip_factor(gradients, 1.0) == (pytest.approx(0.5), 1.0)
    assert clip_factor([], 1.0) == (0.0, 1.0)
    norm, factor = clip_factor([tensorgrad.tensor([np.nan])], 1.0)
    assert np.isnan([norm, factor]).all()


def test_the_kernels_are_named() -> None:
    """``COMPILED`` lists what there is without importing Numba."""
    if importlib.util.find_spec("numba"):
        from tensorgrad.backend.kernels import compiled

        assert set(compiled.KERNELS) == kernels.COMPILED
