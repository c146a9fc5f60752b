"""utils.checkpoint: the same gradients with less memory."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest

import nn
import tensorgrad
from tensorgrad import autograd
from tensorgrad.node import recorded
from tensorgrad.utils.checkpoint import checkpoint, checkpoint_sequential


def leaf(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return tensorgrad.tensor(rng.standard_normal(shape), requires_grad=True)


def layers(p=0.0):
    tensorgrad.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Dropout(p), nn.LayerNorm(6), nn.Linear(6, 4))
        for _ in range(3)
    ]


def results(run, parts, x):
    """The loss, the gradients, and the next random number."""
    tensorgrad.manual_seed(1)
    loss = (run(parts, x) ** 2).sum()
    leaves = [x, *(p for part in parts for p in part.parameters())]
    found = autograd.grad(loss, leaves)
    return [loss.item(), *(g.tolist() for g in found), tensorgrad.rand(2).tolist()]


def plainly(parts, x):
    for part in parts:
        x = part(x)
    return x


def recomputed(parts, x):
    for part in parts:
        x = checkpoint(part, x, use_reentrant=False)
    return x


def nested(parts, x):
    return checkpoint(lambda t: parts[2](checkpoint(lambda u: parts[1](parts[0](u)), t)), x)


@pytest.mark.parametrize("p", [0.0, 0.5])
@pytest.mark.parametrize(
    "run",
    [
        recomputed,
        nested,
        lambda parts, x: checkpoint_sequential(parts, 2, x),
        lambda parts, x: checkpoint_sequential(nn.Sequential(*parts), 3, x, use_reentrant=False),
    ],
)
def test_the_same_gradients_bit_by_bit(run, p):
    parts, x = layers(p), leaf(5, 4).detach().float().requires_grad_()
    assert results(run, parts, x) == results(plainly, parts, x)


def test_without_the_random_state_dropout_differs():
    x = leaf(50)
    y = checkpoint(lambda t: nn.functional.dropout(t * 2) * t, x, preserve_rng_state=False)
    (g,) = autograd.grad(y.sum(), x)
    assert not np.allclose(g.numpy(), 2 * y.detach().numpy() / x.detach().numpy())


def test_nested_arguments_keywords_and_several_results():
    x, z = leaf(3), leaf(3, seed=1)

    def function(pair, scale, extra=None):
        return {"a": pair[0].exp() * pair[1], "b": [extra.sin() * scale]}

    def total(call):
        out = call(function, (x, z), 3.0, extra=x * z)
        return (out["a"] * out["b"][0]).sum()

    ours = autograd.grad(total(checkpoint), [x, z])
    expected = autograd.grad(total(lambda f, *args, **kwargs: f(*args, **kwargs)), [x, z])
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_second_derivatives():
    x = leaf(3)

    def second(function):
        (g,) = autograd.grad(function(x).sum(), x, create_graph=True)
        return autograd.grad((g * g).sum(), x)[0].numpy()

    def cube(t):
        return t.tanh() * t * t

    np.testing.assert_array_equal(second(lambda t: checkpoint(cube, t)), second(cube))


def test_backward_twice():
    x = leaf(3)
    y = checkpoint(lambda t: t.exp().sin(), x).sum()
    y.backward(retain_graph=True)
    first = x.grad.tolist()
    y.backward()
    assert x.grad.tolist() == [2 * g for g in first]
    with pytest.raises(RuntimeError, match="second time through"):
        y.backward()


def test_the_function_runs_once_more_and_only_if_needed():
    calls, x = [], leaf(3)

    def function(t):
        calls.append(tensorgrad.is_grad_enabled())
        return t.exp().sin().exp()

    with tensorgrad.no_grad():
        assert not checkpoint(function, x).requires_grad
    assert calls == [False]
    y = checkpoint(function, x)
    assert calls == [False, True]
    y.sum().backward()
    assert calls == [False, True, True]
    checkpoint(lambda t: t + 1, x).sum().backward()  # nothing was kept, nothing is missing


def test_nothing_is_kept_until_backward(no_gc):
    x, made = leaf(100), []

    def function(t):
        for _ in range(5):
            t = t.exp() * 0.1
            made.append(weakref.ref(t.array))
        return t

    y = checkpoint(function, x)
    alive = [r() is not None for r in made]
    assert alive == [False] * 4 + [True]  # the result itself
    nodes = [weakref.ref(n) for n in recorded([y])]
    y.sum().backward()
    del y
    assert not any(r() is not None for r in made + nodes)


def test_the_peak_of_memory_is_lower():
    """Ten stretches of ten activations of 80 KB: all 100 are kept, or 10 and 10."""
    x = leaf(10_000)

    def stretch(t):
        for _ in range(10):
            t = t.sin()
        return t

    def peak(call):
        tracemalloc.start()
        y = x
        for _ in range(10):
            y = call(stretch, y)
        y.sum().backward()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    plain, less = peak(lambda f, t: f(t)), peak(checkpoint)
    assert less < plain / 3, f"{less} bytes, {plain} without checkpoints"


def test_no_reference_cycles(no_gc):
    x = leaf(10)
    y = x * 1
    y += checkpoint(lambda t: t.exp() * t, y)  # y is an input, and a result of it
    nodes = [weakref.ref(n) for n in recorded([y])]
    assert len(nodes) > 3
    del y
    assert not any(r() is not None for r in nodes)


def test_in_a_hook_and_in_a_function():
    x, seen = leaf(3), []

    class Twice(autograd.Function):
        @staticmethod
        def forward(ctx, t):
            ctx.save_for_backward(t)
            return t * t

        @staticmethod
        def backward(ctx, g):
            (t,) = ctx.saved_tensors
            return 2 * t * g

    def function(t):
        u = Twice.apply(t.exp())
        u.register_hook(lambda g: seen.append(g.tolist()))
        return u * u

    checkpoint(function, x).sum().backward()
    n = np.exp(x.detach().numpy())
    np.testing.assert_allclose(seen, [2 * n**2], rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), 4 * n**4, rtol=1e-5)


@pytest.mark.parametrize("what", ["input", "parameter", "inside"])
def test_overwritten_inputs_are_noticed(what):
    x, w = leaf(3), leaf(3)

    def function(t):
        if what == "inside":
            t.mul_(2)
        return (t + w).exp()  # saves neither: only what the second call would see has changed

    u = x * 1
    y = checkpoint(function, u)
    with tensorgrad.no_grad():
        if what != "inside":
            {"input": u, "parameter": w}[what].mul_(2)
    with pytest.raises(RuntimeError, match=r"mul_.*test_recomputation\.py:\d+"):
        y.sum().backward()


def test_another_way_the_second_time_is_noticed():
    x, calls = leaf(3), []

    def function(t):
        calls.append(1)
        return t.exp() if len(calls) % 2 else t.sin().exp()

    y = checkpoint(function, x)
    with pytest.raises(RuntimeError, match=r"other operations.*first 1 \(exp \[3\]\), now 2"):
        y.sum().backward()


def test_contexts():
    entered, x = [], leaf(3)

    class Noting:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *exc):
            pass

    y = checkpoint(lambda t: t.exp(), x, context_fn=lambda: (Noting("first"), Noting("again")))
    assert entered == ["first"]
    y.sum().backward()
    assert entered == ["first", "again"]


def test_segments():
    with pytest.raises(ValueError, match="2 functions do not make 3 segments"):
        checkpoint_sequential([lambda t: t] * 2, 3, leaf(3))


@pytest.mark.torch
def test_as_in_torch(torch):
    from torch.utils.checkpoint import checkpoint as theirs

    def gradients(m, call):
        x = m.tensor([[0.3, -1.0], [2.0, 0.5]]).requires_grad_()
        w = m.tensor([[1.0, 2.0], [-0.5, 0.2]]).requires_grad_()
        y = call(lambda t: (t @ w).tanh() @ w, x * 2, use_reentrant=False)
        (y * y).sum().backward()
        return [np.asarray(t.grad) for t in (x, w)]

    for a, b in zip(gradients(tensorgrad, checkpoint), gradients(torch, theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
