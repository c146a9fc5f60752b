"""autograd.Function: derivatives that the user writes."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import tensorgrad
from tensorgrad.autograd import Function
from tensorgrad.autograd.function import once_differentiable
from tensorgrad.node import recorded
from tensorgrad.testing import gradcheck, gradgradcheck


def leaf(m, values=(0.5, -1.0, 2.0)):
    return m.tensor(list(values), dtype=m.float64).requires_grad_()


def functions(m):
    """The same classes for PyTorch and for tensorgrad."""
    base = m.autograd.Function
    once = m.autograd.function.once_differentiable

    class Scale(base):  # an argument that is no tensor
        @staticmethod
        def forward(ctx, x, factor, flag=None):
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None, None

    class Cube(base):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    class Exp(base):  # saves its result
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    class Product(base):  # asks what is needed
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            first = g * b if ctx.needs_input_grad[0] else None
            return first, g * a if ctx.needs_input_grad[1] else None

    class SumAndExp(base):  # several outputs, one of which is saved
        @staticmethod
        def forward(ctx, a, b):
            y = (a * b).exp()
            ctx.save_for_backward(a, b, y, None)
            return a + b, y, "not a tensor"

        @staticmethod
        def backward(ctx, s, g, nothing):
            assert nothing is None
            a, b, y, none = ctx.saved_tensors
            assert none is None
            return s + g * y * b, s + g * y * a

    class Lazy(base):  # the gradients that are missing are None
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, g, h):
            return (0 if g is None else g * 2) + (0 if h is None else h * 3)

    class Sorted(base):  # integers, and a float output without a gradient
        @staticmethod
        def forward(ctx, x):
            order = x.argsort()
            scale = x * 0 + 2
            ctx.mark_non_differentiable(scale)
            ctx.save_for_backward(order)
            return x[order], order, scale

        @staticmethod
        def backward(ctx, g, *others):
            (order,) = ctx.saved_tensors
            back = order.argsort()
            return g[back]

    class Doubled(base):  # in place
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    class Squared(base):  # the newer style
        @staticmethod
        def forward(x):
            return x**2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0], output)

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return 2 * g * y / x

    class Once(base):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2 * x

    class Same(base):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return -g

    class Wide(base):  # a gradient that has to be summed, of another dtype
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return (g * 2).expand(4, 3).float()

    return SimpleNamespace(**{k: v for k, v in locals().items() if isinstance(v, type)})


PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


@program
def no_tensor(m, F, x, z):
    return F.Scale.apply(x, 3.0), F.Scale.apply(x, z.detach(), "flag")


@program
def saved_input_and_output(m, F, x, z):
    return F.Cube.apply(x * 2), F.Exp.apply(x) * F.Exp.apply(z)


@program
def partly_needed(m, F, x, z):
    return F.Product.apply(x, z), F.Product.apply(x.detach(), z), F.Product.apply(x, z.detach())


@program
def several_outputs(m, F, x, z):
    total, product, word = F.SumAndExp.apply(x * 1, z)
    assert word == "not a tensor"
    return total * product


@program
def one_of_several_outputs(m, F, x, z):
    return F.SumAndExp.apply(x, z)[1], F.Lazy.apply(x)[1] * z, F.Lazy.apply(x * z)[0]


@program
def outputs_without_gradient(m, F, x, z):
    values, order, scale = F.Sorted.apply(x * z)
    assert not order.requires_grad
    assert not scale.requires_grad
    return values * scale


@program
def a_write_in_place(m, F, x, z):
    y = x * z
    out = F.Doubled.apply(y)
    assert out is y
    return y * x


@program
def a_write_into_a_view(m, F, x, z):
    y = x * z
    F.Doubled.apply(y[1:])
    return y * x


@program
def newer_style(m, F, x, z):
    return F.Squared.apply(x * z) + F.Squared.apply(z)


@program
def an_argument_as_the_result(m, F, x, z):
    y = F.Same.apply(x)
    assert y is not x
    return y * z


@program
def a_gradient_to_sum(m, F, x, z):
    return F.Wide.apply(x)


@program
def once(m, F, x, z):
    return F.Once.apply(x * z)


@program
def nothing_to_record(m, F, x, z):
    assert not F.Cube.apply(x.detach()).requires_grad
    with m.no_grad():
        assert not F.Cube.apply(x).requires_grad
    return x


def outcome(m, function):
    """Values, first derivatives and second derivatives."""
    x, z = leaf(m), leaf(m, (1.5, 0.3, -0.7))
    out = function(m, functions(m), x, z)
    outs = out if isinstance(out, tuple) else (out,)
    total = sum((o * m.arange(1, o.numel() + 1)).sum() for o in outs)
    if function is once:
        found = m.autograd.grad(total, (x, z))
    else:
        found = m.autograd.grad(total, (x, z), create_graph=True, allow_unused=True)
        second = sum((g * g).sum() for g in found if g is not None and g.requires_grad)
        if hasattr(second, "requires_grad"):
            found += m.autograd.grad(second, (x, z), allow_unused=True)
    return [None if t is None else np.asarray(t.detach()) for t in (*outs, *found)]


@pytest.mark.torch
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(torch, name):
    ours, theirs = (outcome(m, PROGRAMS[name]) for m in (tensorgrad, torch))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_finite_differences():
    F = functions(tensorgrad)
    for function in (
        F.Cube.apply, F.Exp.apply, F.Squared.apply, lambda x: F.Product.apply(x, x * 2),
        lambda x: F.SumAndExp.apply(x, x * x)[:2], lambda x: F.SumAndExp.apply(x, x * x)[1],
    ):  # fmt: skip
        gradcheck(function, [leaf(tensorgrad)])
        gradgradcheck(function, [leaf(tensorgrad)])


def make(forward=None, backward=None):
    """A Function of two arguments with something wrong."""
    right = SimpleNamespace(
        forward=lambda ctx, a, b: a * b, backward=lambda ctx, g: (g, g if forward else None)
    )
    body = {
        "forward": staticmethod(forward or right.forward),
        "backward": staticmethod(backward or right.backward),
    }
    return lambda m: type("Wrong", (m.autograd.Function,), body)


MISTAKES = {
    "too few": (make(backward=lambda ctx, g: g), "expected 2, got 1"),
    "too many": (make(backward=lambda ctx, g: (g, None, g)), "expected 2, got 3"),
    "for a number": (make(backward=lambda ctx, g: (g, g)), "None for argument 1, which is no ten"),
    "shape": (make(backward=lambda ctx, g: (g[:2], None)), r"shape \(2,\) for argument 0, which"),
    "a number": (make(backward=lambda ctx, g: (3.0, None)), "gradient 0 is a float"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_backward(name):
    wrong, message = MISTAKES[name]
    with pytest.raises(RuntimeError, match=f"Wrong: backward .*{message}"):
        wrong(tensorgrad).apply(leaf(tensorgrad), 2).sum().backward()


@pytest.mark.torch
@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_backward_on_torch(torch, name):
    with pytest.raises(RuntimeError):
        MISTAKES[name][0](torch).apply(leaf(torch), 2).sum().backward()


def test_other_mistakes():
    x = leaf(tensorgrad)
    F = functions(tensorgrad)
    none_too_many = make(backward=lambda ctx, g: (g, None, None))(tensorgrad)
    none_too_many.apply(x, 2).sum().backward()
    unfinished = type("Unfinished", (Function,), {"forward": staticmethod(lambda ctx, x: x * 1)})
    with pytest.raises(NotImplementedError, match="static method backward"):
        unfinished.apply(x).sum().backward()
    with pytest.raises(NotImplementedError, match="static method forward"):
        type("Empty", (Function,), {}).apply(x)
    dirty = make(lambda ctx, a, b: ctx.mark_dirty(a.add_(b)))(tensorgrad)
    with pytest.raises(RuntimeError, match="Wrong: forward must return every tensor"):
        dirty.apply(x * 1, 2)
    with pytest.raises(RuntimeError, match="a leaf tensor that requires grad"):
        F.Doubled.apply(x)
    saves = make(lambda ctx, a, b: ctx.save_for_backward(a, b))(tensorgrad)
    with pytest.raises(TypeError, match="argument 1 is a int"):
        saves.apply(x, 2)


def test_a_function_is_a_node_like_any_other():
    x = leaf(tensorgrad)
    F = functions(tensorgrad)
    y = F.Cube.apply(x)
    assert repr(y).endswith("grad_fn=<Cube>)")
    assert "test_function.py" in y.grad_fn.source
    picture = tensorgrad.graph.draw((F.SumAndExp.apply(x, x)[0] * y).sum())
    assert {"Cube", "SumAndExp", "SumAndExp[0]"} <= {
        word.split(">")[-1] for word in picture.source.split("</b>")
    }
    y.sum().backward()
    with pytest.raises(RuntimeError, match="second time through Cube"):
        y.sum().backward()
    w = x * 1
    y = F.Cube.apply(w)
    w.add_(1)
    with pytest.raises(RuntimeError, match=r"backward pass of Cube .* that add_ has overwritten"):
        y.sum().backward()
    assert F.Scale.apply(x, 2).grad_fn.saved == []
    F.Scale.apply(x, 2).sum().backward()


def test_once_differentiable_refuses_the_second_derivative():
    x, start = leaf(tensorgrad), leaf(tensorgrad)
    (g,) = tensorgrad.grad(functions(tensorgrad).Once.apply(x), x, start, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), [0.5, 2.0, 8.0])
    with pytest.raises(RuntimeError, match="marked once_differentiable"):
        tensorgrad.grad(g.sum(), start)
    assert once_differentiable(lambda ctx, g: g)(None, 3) == 3


def test_the_arrays_of_the_user_are_not_written_to():
    constant = tensorgrad.ones(3, dtype=tensorgrad.float64)
    body = {
        "forward": staticmethod(lambda ctx, x: x * 2),
        "backward": staticmethod(lambda ctx, g: constant),
    }
    keeps = type("Keeps", (Function,), body)
    x = leaf(tensorgrad)
    w = x * 1
    (keeps.apply(w) + keeps.apply(w) + keeps.apply(x) + keeps.apply(x)).sum().backward()
    assert constant.tolist() == [1.0] * 3
    assert x.grad.tolist() == [4.0] * 3


@pytest.mark.parametrize("create_graph", [False, True])
def test_reference_counts_free_it(create_graph):
    gc.collect()
    gc.disable()
    try:
        x = leaf(tensorgrad)
        F = functions(tensorgrad)
        gc.collect()  # the classes are cycles
        y = x * 1
        out = F.Exp.apply(y) + F.SumAndExp.apply(y, y)[1] + F.Once.apply(y)
        if not create_graph:
            y += out  # y now depends on nodes that have saved y
        alive = [weakref.ref(n) for n in recorded([y, out])]
        assert len(alive) >= 7
        if create_graph:
            (g,) = tensorgrad.grad(out.sum(), x, create_graph=True)
            alive += [weakref.ref(n) for n in recorded([g])]
            del g
        del y, out
        assert not [r for r in alive if r() is not None]
    finally:
        gc.enable()


def test_in_threads_at_once():
    import threading

    F = functions(tensorgrad)
    found = {}

    def work(k):
        x = leaf(tensorgrad, [1e-3 * k] * 3)
        y = x
        for _ in range(50):
            y = F.Scale.apply(F.Cube.apply(y), 0.5) + y
        (y.sum()).backward()
        found[k] = x.grad.tolist()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    once_more = dict(found)
    for k in range(4):
        work(k)
    assert found == once_more
