"""What the engine promises: accumulation, higher orders, modes, and what may share memory."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tensorgrad
from tensorgrad import autograd, core, ops
from tensorgrad.autograd import grad
from tensorgrad.backend import kernels
from tensorgrad.ops.samples import Source


def leaf(data, dtype=tensorgrad.float64):
    return tensorgrad.tensor(data, dtype=dtype, requires_grad=True)


# --- accumulation ---------------------------------------------------------------------------------


def test_gradients_add_up_in_place():
    x = leaf([1.0, 2.0])
    (x * 3).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad is first
    assert first.tolist() == [5.0, 7.0]


def test_a_leaf_used_several_times():
    x = leaf([2.0, 3.0])
    (x * x + x.exp() * 0 + x[0] * x[1] + x.sum() - x).sum().backward()
    # d/dx of x0² + x1² + 2 x0 x1 + 2 (x0 + x1) - (x0 + x1)
    assert x.grad.tolist() == [2 * 2 + 2 * 3 + 1, 2 * 3 + 2 * 2 + 1]


def test_no_gradient_shares_memory_with_anything():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    start = tensorgrad.ones(2, dtype=tensorgrad.float64)
    (x + y).backward(start)
    views = leaf(np.ones((2, 2)))
    views.T.reshape(2, 2).expand(3, 2, 2).sum().backward()
    arrays = [t.numpy() for t in (x.grad, y.grad, start, views.grad)]
    for i, a in enumerate(arrays):
        a += i  # writable
        assert not any(np.shares_memory(a, b) for b in arrays[:i])
    assert start.tolist() == [3.0, 3.0]
    assert x.grad.tolist() == [1.0, 1.0]


def test_no_gradient_shares_memory_with_a_saved_value():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    z = x * y  # the gradient of x is 1 * y
    z.backward(tensorgrad.ones(2, dtype=tensorgrad.float64), retain_graph=True)
    x.grad.zero_()
    assert y.tolist() == [3.0, 4.0]
    z.sum().backward()
    assert x.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_as_values_are_apart_too(create_graph):
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    u, v = x * 1.0, y * 1.0
    results = grad((u + v).sum(), [x, u, y, v])
    for i, r in enumerate(results):
        r.mul_(i)
    assert [r.tolist() for r in results] == [[float(i)] * 2 for i in range(4)]
    (x + y).sum().backward(create_graph=create_graph)
    x.grad.detach().mul_(5)
    assert y.grad.tolist() == [1.0, 1.0]


@st.composite
def broadcast_pairs(draw):
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
    return shapes.input_shapes


@given(broadcast_pairs())
def test_broadcasting_is_undone(shapes):
    """A gradient is summed over the elements that its one element was repeated to."""
    a, b = (leaf(np.arange(1.0, 1 + np.prod(s)).reshape(s)) for s in shapes)
    y = a * b
    y.sum().backward()
    for t, other in ((a, b), (b, a)):
        repeated = np.broadcast_to(other.detach().numpy(), y.shape)
        expected = np.zeros(t.shape)
        where = np.broadcast_to(np.arange(t.numel()).reshape(t.shape), y.shape)
        np.add.at(expected.reshape(-1), where.reshape(-1), repeated.reshape(-1))
        assert t.grad.shape == t.shape
        np.testing.assert_allclose(t.grad.numpy(), expected)


# --- backward and grad: what is asked for, and what is refused ------------------------------------


def test_backward_takes_a_gradient():
    x = leaf([1.0, 2.0, 3.0])
    (x * x).backward(tensorgrad.tensor([1.0, 0.0, -1.0]))
    assert x.grad.tolist() == [2.0, 0.0, -6.0]


def test_backward_of_several_tensors():
    x = leaf(2.0)
    autograd.backward([x * 3, x * x], [None, tensorgrad.tensor(10.0)])
    assert x.grad.item() == 3 + 10 * 4


def test_backward_of_a_leaf_itself():
    x = leaf(2.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_a_second_backward_needs_retain_graph():
    x = leaf(2.0)
    y = x.exp()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == pytest.approx(2 * np.exp(2.0))
    with pytest.raises(RuntimeError, match=r"second time through exp.*retain_graph=True"):
        y.backward()
    z = x + 1  # needs nothing, so nothing was freed
    z.backward()
    z.backward()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.backward(), r"backward: a gradient is implied only for .* shape \(2,\)"),
        (lambda x: x.detach().sum().backward(), "does not require grad and has no history"),
        (lambda x: x.backward(tensorgrad.ones(3)), r"gradient has shape \(3,\) and the tensor \(2"),
        (lambda x: grad(x * 1, x), "grad: a gradient is implied only for a tensor of one element"),
        (lambda x: grad(x.sum(), leaf(1.0)), r"do not depend on inputs \[0\].*allow_unused"),
        (lambda x: grad(x.sum(), [x, tensorgrad.ones(1)]), "input 1 does not require grad"),
        (lambda x: grad([x.sum()], x, [None, None]), "1 outputs but 2 grad_outputs"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(RuntimeError, match=message):
        call(leaf([1.0, 2.0]))


def test_grad_leaves_dot_grad_alone():
    x, y, unused = leaf(3.0), leaf(4.0), leaf(1.0)
    u = x * y
    z = u * x
    found = grad(z, [x, u, y, z, unused], allow_unused=True)
    assert [f if f is None else f.item() for f in found] == [24.0, 3.0, 9.0, 1.0, None]
    assert x.grad is y.grad is unused.grad is None


def test_grad_of_several_outputs():
    x = leaf([1.0, 2.0])
    (g,) = grad([x.sum(), x * x], x, [tensorgrad.tensor(3.0), tensorgrad.tensor([1.0, 10.0])])
    assert g.tolist() == [3 + 2, 3 + 40]


def test_grad_of_a_batch_of_gradients():
    x, unused = leaf([1.0, 2.0]), leaf(3.0)
    y = x * x
    (rows,) = grad(y, x, tensorgrad.eye(2), is_grads_batched=True)
    assert rows.tolist() == [[2.0, 0.0], [0.0, 4.0]]
    found = grad((x * 2).sum(), [x, unused], materialize_grads=True)
    assert [g.tolist() for g in found] == [[2.0, 2.0], 0.0]


def test_detach_cuts():
    x = leaf(3.0)
    (x * x.detach()).backward()
    assert x.grad.item() == 3.0
    assert not x.detach().requires_grad


def test_results_of_integers_have_no_history():
    x = leaf([1.5, 2.5])
    for y in (x.long(), x > 2, x.argmax(), x.bool(), x.argsort()):
        assert not y.requires_grad
        assert y.is_leaf


# --- derivatives of derivatives -------------------------------------------------------------------


def derivatives(function, x, orders=3):
    """The values of f(x), f'(x), f''(x), … with respect to the scalar ``x``."""
    y, values = function(x), []
    for _ in range(orders):
        values.append(y.item())
        y = grad(y, x, create_graph=True)[0] if y.requires_grad else x.detach() * 0
    return [*values, y.item()]


X = 0.7
E, S, C, T = np.exp(X), np.sin(X), np.cos(X), np.tanh(X)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.sin(), [S, C, -S, -C]),
        (lambda x: x.exp(), [E, E, E, E]),
        (lambda x: x**4, [X**4, 4 * X**3, 12 * X**2, 24 * X]),
        (lambda x: x**2.5, [X**2.5, 2.5 * X**1.5, 3.75 * X**0.5, 1.875 * X**-0.5]),
        (lambda x: x * x, [X * X, 2 * X, 2, 0]),
        (lambda x: 1 / x, [1 / X, -1 / X**2, 2 / X**3, -6 / X**4]),
        (lambda x: x.log(), [np.log(X), 1 / X, -1 / X**2, 2 / X**3]),
        (lambda x: x.sqrt(), [X**0.5, X**-0.5 / 2, -(X**-1.5) / 4, 3 * X**-2.5 / 8]),
        (lambda x: x.tanh(), [T, 1 - T**2, -2 * T * (1 - T**2), (1 - T**2) * (6 * T**2 - 2)]),
        (lambda x: x.relu(), [X, 1, 0, 0]),
        # softmax of (x, 0) is the logistic function σ: σ' = σ(1-σ), σ'' = σ'(1-2σ), …
        (
            lambda x: ops.stack([x, x * 0]).softmax(0)[0],
            [
                (s := 1 / (1 + np.exp(-X))),
                (d := s * (1 - s)),
                d * (1 - 2 * s),
                d * (1 - 2 * s) ** 2 - 2 * d**2,
            ],
        ),
    ],
)
def test_closed_forms_up_to_third_order(function, expected):
    np.testing.assert_allclose(derivatives(function, leaf(X)), expected, rtol=1e-12, atol=1e-14)


def test_a_chain_of_matrix_products():
    """x'A x has the gradient (A + A')x and the Hessian A + A'; (x'A x)² has 2vv' + 2q(A + A')."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 3))
    x = leaf(rng.standard_normal(3))
    s = a + a.T
    q = x @ tensorgrad.tensor(a) @ x
    (v,) = grad(q**2, x, create_graph=True)
    hessian = np.stack([grad(v[i], x, retain_graph=True)[0].numpy() for i in range(3)])
    n = x.detach().numpy()
    np.testing.assert_allclose(v.detach().numpy(), 2 * (n @ a @ n) * (s @ n))
    np.testing.assert_allclose(hessian, 2 * np.outer(s @ n, s @ n) + 2 * (n @ a @ n) * s)


@pytest.mark.parametrize("enabled", [True, False])
def test_layer_norm_to_third_order(enabled, monkeypatch):
    """Of (x, 0) with eps: y0 = c / sqrt(c² + eps) with c = x/2, through kernel and composite."""
    monkeypatch.setattr(kernels, "enabled", enabled)
    eps, c = 0.3, X / 2

    def function(x):
        return ops.layer_norm(ops.stack([x, x * 0]), None, None, eps=eps)[0]

    r = c * c + eps
    expected = [c * r**-0.5, eps * r**-1.5 / 2, -3 * eps * c * r**-2.5 / 4,
                -3 * eps * (r**-2.5 - 5 * c * c * r**-3.5) / 8]  # fmt: skip
    np.testing.assert_allclose(derivatives(function, leaf(X)), expected, rtol=1e-10)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_fused_op_whose_inputs_depend_on_each_other(enabled, monkeypatch):
    """linear(x, w) with w = x² elementwise is Σ x³: 3x² and then 6x."""
    monkeypatch.setattr(kernels, "enabled", enabled)
    x = leaf([[0.5, -1.0, 2.0]])
    y = ops.linear(x, x * x, None)
    (first,) = grad(y.sum(), x, create_graph=True)
    (second,) = grad(first.sum(), x, create_graph=True)
    (third,) = grad(second.sum(), x)
    n = x.detach().numpy()
    np.testing.assert_allclose(y.item(), (n**3).sum())
    np.testing.assert_allclose(first.detach().numpy(), 3 * n**2)
    np.testing.assert_allclose(second.detach().numpy(), 6 * n)
    np.testing.assert_allclose(third.numpy(), np.full_like(n, 6.0))


def test_create_graph_makes_dot_grad_differentiable():
    x, penalty = leaf(3.0), leaf(2.0)
    (x**3 * penalty).backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = grad(x.grad, x, retain_graph=True)
    assert second.item() == 6 * 3.0 * 2.0
    assert grad(x.grad, penalty)[0].item() == 3 * 3.0**2


def test_a_second_derivative_does_not_use_overwritten_values():
    for overwritten in (lambda x, c, y: c, lambda x, c, y: y, lambda x, c, y: x):
        x, c = leaf(0.5), tensorgrad.tensor(3.0, dtype=tensorgrad.float64)
        y = (x * c).exp()
        (first,) = grad(y, x, create_graph=True)
        with tensorgrad.no_grad():
            overwritten(x, c, y).mul_(2)
        if overwritten(x, c, y) is x:  # neither exp nor a product with c needs x itself
            assert grad(first, x)[0].item() == pytest.approx(9 * np.exp(1.5))
        else:
            with pytest.raises(RuntimeError, match="mul_ has overwritten"):
                grad(first, x)


@pytest.mark.parametrize("overwritten", ["y", "c"])
def test_what_a_first_derivative_saved_is_guarded_too(overwritten):
    """Its derivative with respect to the gradient that entered passes through no other node."""
    x, c, start = leaf(0.5), tensorgrad.tensor(3.0, dtype=tensorgrad.float64), leaf(1.0)
    y = (x * c).exp()
    (first,) = grad(y, x, start, create_graph=True)  # start * y * c
    assert grad(first, start, retain_graph=True)[0].item() == pytest.approx(3 * np.exp(1.5))
    with tensorgrad.no_grad():
        {"y": y, "c": c}[overwritten].mul_(2)
    with pytest.raises(RuntimeError, match="mul_ has overwritten"):
        grad(first, start)


# --- modes ----------------------------------------------------------------------------------------


def recording():
    """Whether operations are recorded, by what is said and by what is done."""
    said, done = tensorgrad.is_grad_enabled(), (leaf(1.0) * 2).requires_grad
    assert said == done
    return said


def test_modes_nest_and_end_with_errors():
    assert recording()
    with tensorgrad.no_grad():
        assert not recording()
        with tensorgrad.enable_grad():
            assert recording()
            with tensorgrad.set_grad_enabled(False):
                assert not recording()
            assert recording()
        assert not recording()
    with pytest.raises(KeyError), tensorgrad.no_grad():
        raise KeyError
    assert recording()
    same = tensorgrad.no_grad()
    with same, same:
        assert not recording()
    assert recording()


def test_set_grad_enabled_as_a_call():
    try:
        tensorgrad.set_grad_enabled(False)
        assert not recording()
    finally:
        tensorgrad.set_grad_enabled(True)
    assert recording()


@pytest.mark.parametrize(
    ("decorator", "expected"),
    [
        (tensorgrad.no_grad, False),
        (tensorgrad.no_grad(), False),
        (tensorgrad.enable_grad, True),
        (tensorgrad.enable_grad(), True),
        (lambda f: tensorgrad.set_grad_enabled(False)(f), False),
        (lambda f: tensorgrad.set_grad_enabled(True)(f), True),
    ],
)
def test_modes_as_decorators(decorator, expected):
    @decorator
    def function(depth=2):
        """A docstring."""
        return recording() if not depth else function(depth - 1)

    @decorator
    def values():
        try:
            while True:
                received = yield recording()
                assert recording() == expected
                if received == "last":
                    return "result"
        except KeyError:
            yield recording()
        finally:
            assert recording() == expected

    assert function.__doc__ == "A docstring."
    for around in (True, False):
        with tensorgrad.set_grad_enabled(around):
            assert function() == expected
            generator = values()
            assert next(generator) == expected
            assert recording() == around  # between two values the mode is the caller's
            assert generator.send("next") == expected
            assert generator.throw(KeyError()) == expected
            assert recording() == around
            generator.close()
            generator = values()
            next(generator)
            with pytest.raises(StopIteration, match="result"):
                generator.send("last")
            assert recording() == around


def test_no_grad_remembers_what_needs_gradients():
    x = leaf(2.0)
    with tensorgrad.no_grad():
        y = x * 3
    assert not y.requires_grad
    assert y.is_leaf
    (x * y).backward()
    assert x.grad.item() == 6.0


def test_each_thread_has_its_mode_and_its_graph():
    found, ready = {}, threading.Barrier(3)

    def work(k):
        x = leaf(np.full(50, float(k)))
        with tensorgrad.set_grad_enabled(k != 1):
            ready.wait()
            y = x
            for _ in range(100):
                y = y * 1.01 + x
            ready.wait()
            if k != 1:
                y.sum().backward()
        found[k] = x.grad

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert tensorgrad.is_grad_enabled()
    assert found[1] is None
    expected = sum(1.01**n for n in range(100)) + 1.01**100
    for k in (0, 2):
        np.testing.assert_allclose(found[k].numpy(), expected)


# --- every op -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(core.registry))
def test_results_and_gradients_are_new_arrays(name):
    """Or views that the storage knows of, or else writes in place would go unnoticed."""
    op = core.registry[name]
    for args, params in op.samples(Source()):
        given = [tensorgrad.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in args]
        tensors = [a for a in given if isinstance(a, tensorgrad.Tensor)]
        for t in tensors:
            t.requires_grad = t.is_floating_point()
        y = op(*given, **params)
        for t in tensors:
            if np.shares_memory(y.array, t.array):
                assert op.view
                assert y.storage is t.storage
                assert y.family is t.family
        if y.requires_grad:
            before = [t.array.copy() for t in tensors]
            start = tensorgrad.ones(y.shape, dtype=y.dtype)
            y.backward(start)
            grads = [t.grad.array for t in tensors if t.grad is not None]
            others = [start.array, y.array, *(t.array for t in tensors)]
            for i, g in enumerate(grads):
                g += 1
                assert not any(np.shares_memory(g, a) for a in others + grads[:i])
            for t, array in zip(tensors, before, strict=True):
                np.testing.assert_array_equal(t.array, array)
