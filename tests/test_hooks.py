"""Hooks on gradients, retain_grad, and what may be assigned to .grad.

The programs run on PyTorch and on tensorgrad; what they collect must be equal.
"""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest

import tensorgrad
from tensorgrad.hooks import hooked


def leaf(m):
    return m.tensor([1.0, 2.0, 3.0], dtype=m.float64).requires_grad_()


def note(seen, name=""):
    """A hook that writes down what it is given and lets it pass."""
    return lambda g: seen.append((name, g.detach().tolist()))


PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


@program
def a_leaf_sees_the_sum_once(m, x, seen):
    x.register_hook(note(seen))
    (x * 2 + x * x).sum().backward()


@program
def a_replacement(m, x, seen):
    x.register_hook(lambda g: g * 10)
    y = x * 2
    y.register_hook(lambda g: g + 1)
    y.register_hook(note(seen))
    y.sum().backward()


@program
def registered_before_and_after_its_uses(m, x, seen):
    y = x * 2
    u = y.exp()
    y.register_hook(note(seen, "y"))
    v = y * y
    x.register_hook(note(seen, "x"))
    (u + v).sum().backward(retain_graph=True)
    (u * v).sum().backward()


@program
def removed(m, x, seen):
    handle = x.register_hook(note(seen, 1))
    with (x * 1).register_hook(note(seen, 2)):
        pass
    y = x * 2
    other = y.register_hook(note(seen, 3))
    y.register_hook(note(seen, 4))
    y.sum().backward(retain_graph=True)
    handle.remove()
    handle.remove()
    other.remove()
    y.sum().backward()


@program
def the_result_of_the_pass_itself(m, x, seen):
    y = (x * x).sum()
    y.register_hook(lambda g: g * 3)
    y.backward()
    x.register_hook(note(seen))
    x.backward(m.ones(3, dtype=m.float64))


@program
def the_hook_before_a_write_in_place(m, x, seen):
    y = x * 2
    y.register_hook(note(seen, "before"))
    y.mul_(3)
    y.register_hook(note(seen, "after"))
    y.sum().backward()


@program
def a_write_into_a_view(m, x, seen):
    y = x * 2
    v = y[:2]
    y.register_hook(note(seen, "before"))
    v.mul_(5)
    ((y * y).sum() + v[0]).backward()


@program
def retained(m, x, seen):
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    x.retain_grad()
    seen.append((x.retains_grad, y.retains_grad, (x * 1).retains_grad))
    y.register_hook(lambda g: g * 7)  # before the gradient is kept, though registered later
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    seen.append(y.grad.tolist())


@program
def retained_through_a_write_in_place(m, x, seen):
    y = x * 2
    y.retain_grad()
    v = y[1:]
    y.mul_(3)
    v.retain_grad()
    y[0] = 1.0
    (y * y).sum().backward()
    seen.append((y.retains_grad, y.grad.tolist()))


@program
def retained_by_grad(m, x, seen):
    y = x * 2
    y.retain_grad()
    m.autograd.grad((y * y).sum(), x)
    seen.append(y.grad.tolist())


@program
def with_grad(m, x, seen):
    x.register_hook(lambda g: g * 10)
    y = x * 2
    y.register_hook(lambda g: g * 3)
    x.register_post_accumulate_grad_hook(note(seen, "never"))
    for g in m.autograd.grad((y * y + x).sum(), [y, x]):
        seen.append(g.tolist())


@program
def with_create_graph(m, x, seen):
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = m.autograd.grad((y * y).sum(), x, create_graph=True)
    g.register_hook(note(seen, "g"))
    g.sum().backward()
    seen.append(g.detach().tolist())


@program
def after_accumulation(m, x, seen):
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
    (x * 2 + x).sum().backward()
    (x * 2 + x).sum().backward()


@program
def an_optimizer_in_backward(m, x, seen):
    def step(p):
        with m.no_grad():
            p -= p.grad
        p.grad = None

    x.register_post_accumulate_grad_hook(step)
    (x * x * 0.25).sum().backward()
    seen.append(x.detach().tolist())


@program
def only_some_inputs(m, x, seen):
    z = leaf(m)
    z.register_hook(note(seen, "z"))
    x.register_post_accumulate_grad_hook(note(seen, "x"))
    y = x * z
    y.sum().backward(inputs=[y, x])
    seen.append((y.grad.tolist(), z.grad))
    (x * 2).sum().backward(inputs=x)


@program
def gradients_off_in_a_hook(m, x, seen):
    x.register_hook(lambda g: seen.append((m.is_grad_enabled(), g.requires_grad)))
    (x * x).sum().backward()
    (x * x).sum().backward(create_graph=True)


@program
def a_graph_edge(m, x, seen):
    y = x * 2 + m.ones(3, dtype=m.float64)
    (product, _), (constant, _) = y.grad_fn.next_functions
    (end, _), (number, _) = product.next_functions
    seen.append((constant, number, end.variable is x, end.next_functions))


def outcome(m, function):
    x, seen = leaf(m), []
    function(m, x, seen)
    return seen, None if x.grad is None else x.grad.detach().tolist()


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(torch, name):
    function = PROGRAMS[name]
    assert outcome(tensorgrad, function) == outcome(torch, function)


def test_known_values():
    """Without PyTorch: 3 · 2 · (1 + …) by hand."""
    assert outcome(tensorgrad, a_leaf_sees_the_sum_once)[0] == [("", [4.0, 6.0, 8.0])]
    seen, gradient = outcome(tensorgrad, a_replacement)
    assert seen == [("", [2.0] * 3)]
    assert gradient == [40.0] * 3
    seen, _ = outcome(tensorgrad, retained)
    assert seen == [(False, True, False), [14.0] * 3]


REFUSED = [
    (lambda m, x: m.ones(2).register_hook(print), RuntimeError),
    (lambda m, x: m.ones(2).retain_grad(), RuntimeError),
    (lambda m, x: (x * 2).register_post_accumulate_grad_hook(print), RuntimeError),
    (lambda m, x: m.ones(2).register_post_accumulate_grad_hook(print), RuntimeError),
    (lambda m, x: (x.register_hook(lambda g: g[:2]), x.sum().backward()), RuntimeError),
    (lambda m, x: (x.register_hook(lambda g: g.float()), x.sum().backward()), RuntimeError),
    (lambda m, x: (x.register_hook(lambda g: 3), x.sum().backward()), TypeError),
    (
        lambda m, x: (x.register_post_accumulate_grad_hook(lambda p: 3), x.sum().backward()),
        TypeError,
    ),
    (lambda m, x: setattr(x, "grad", 3.0), TypeError),
    (lambda m, x: setattr(x, "grad", m.ones(2)), RuntimeError),
    (lambda m, x: setattr(x, "grad", m.ones(3)), RuntimeError),  # another dtype
    (lambda m, x: setattr(x, "grad", x), RuntimeError),
    (lambda m, x: x.sum().backward(inputs=[]), RuntimeError),
]


@pytest.mark.parametrize(("call", "kind"), REFUSED)
def test_refused(call, kind):
    with pytest.raises(kind):
        call(tensorgrad, leaf(tensorgrad))


@pytest.mark.torch
@pytest.mark.parametrize(("call", "kind"), REFUSED)
def test_refused_by_torch(torch, call, kind):
    with pytest.raises(kind):
        call(torch, leaf(torch))


def test_a_hook_is_callable():
    with pytest.raises(TypeError, match="a hook must be callable, not int"):
        leaf(tensorgrad).register_hook(3)


def test_grad_can_be_assigned_and_cleared():
    x = leaf(tensorgrad)
    g = tensorgrad.ones(3, dtype=tensorgrad.float64)
    x.grad = g
    (x * 2).sum().backward()
    assert x.grad is g
    assert g.tolist() == [3.0] * 3
    x.grad = None
    assert x.grad is None


def test_the_grad_of_a_result_warns():
    y = leaf(tensorgrad) * 2
    with pytest.warns(UserWarning, match="retain_grad"):
        assert y.grad is None
    y.retain_grad()
    assert y.grad is None


def test_what_a_hook_keeps_is_not_written_to():
    """Gradients are accumulated in place, but not in an array that somebody else has."""
    x, seen = leaf(tensorgrad), []
    y = x * 2
    y.retain_grad()
    for t in (x, y):
        t.register_hook(seen.append)
    for _ in range(2):
        (y * 1).sum().backward(retain_graph=True)
    assert [g.tolist() for g in seen] == [[1.0] * 3, [2.0] * 3] * 2
    assert x.grad.tolist() == [4.0] * 3
    assert y.grad.tolist() == [2.0] * 3


def test_a_leaf_with_hooks_is_done_before_earlier_operations():
    """As soon as all its users are, so that its gradient can be used up and freed."""
    x, w, order = leaf(tensorgrad), leaf(tensorgrad), []
    early = x * 2
    early.register_hook(lambda g: order.append("early"))
    late = early * w
    late.register_hook(lambda g: order.append("late"))
    w.register_post_accumulate_grad_hook(lambda p: order.append("w"))
    x.register_post_accumulate_grad_hook(lambda p: order.append("x"))
    (late * w).sum().backward()
    assert order == ["late", "w", "early", "x"]


def test_a_hook_that_is_registered_during_the_pass(monkeypatch):
    """Though nothing was hooked when it began; on a leaf that is used twice, and told once."""
    w, seen = tensorgrad.ones(2, requires_grad=True), []

    class Register(tensorgrad.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            w.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.tolist()))
            return g

    monkeypatch.setattr("tensorgrad.engine.hooked", set())  # whatever other tests have left
    (Register.apply(w * 2) + w).sum().backward()
    assert seen[-1:] == [[3.0, 3.0]]
    seen.clear()
    monkeypatch.undo()
    w.sum().backward()
    assert seen == [[4.0, 4.0]]


def test_hooks_live_and_die_with_their_node():
    gc.collect()
    gc.disable()
    try:
        before = len(hooked)
        x = leaf(tensorgrad)
        y = x * 2

        def hook(g):
            return g

        alive = weakref.ref(hook)
        handle = y.register_hook(hook)
        y.retain_grad()
        x.register_post_accumulate_grad_hook(lambda p: None)
        del hook
        node = weakref.ref(y.grad_fn)
        y.sum().backward()
        assert alive() is not None
        assert len(hooked) == before + 2
        del y
        assert node() is None
        assert alive() is None
        del x
        assert len(hooked) == before
        handle.remove()
    finally:
        gc.enable()


def test_hooks_in_a_long_chain():
    x = leaf(tensorgrad)
    y, calls = x, []
    for k in range(30_000):
        y = y + 1.0
        if k % 100 == 0:
            y.register_hook(lambda g: calls.append(1))
    x.register_hook(lambda g: g * 2)
    y.sum().backward()
    assert len(calls) == 300
    assert x.grad.tolist() == [2.0] * 3


# --- what is handed over and what is copied -------------------------------------------------------


def test_what_a_hook_has_kept_stays_as_it_was() -> None:
    w, seen = tensorgrad.ones(2, 2, requires_grad=True), []
    w.register_hook(lambda g: seen.append(g))

    def clear(p: tensorgrad.Tensor) -> None:
        p.grad.zero_()

    w.register_post_accumulate_grad_hook(clear)
    (tensorgrad.ones(3, 2) @ w).sum().backward()
    assert seen[0].tolist() == [[3.0, 3.0]] * 2
    assert w.grad.tolist() == [[0.0, 0.0]] * 2


def test_a_large_gradient_is_not_copied_for_a_hook() -> None:
    w = tensorgrad.ones(1000, 500, requires_grad=True)
    x = tensorgrad.ones(2, 1000)
    peaks = []
    for hooked_too in (False, True):
        w.grad = None
        if hooked_too:
            w.register_post_accumulate_grad_hook(lambda p: None)
        loss = (x @ w).sum()
        peaks.append(tracemalloc_peak(loss.backward))
    assert peaks[1] < 1.2 * peaks[0]


def tracemalloc_peak(call) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
