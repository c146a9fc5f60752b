"""autograd.functional and func: against PyTorch, closed forms and each other."""

from __future__ import annotations

import numpy as np
import pytest

import nn
import tensorgrad
from tensorgrad import func, tensor
from tensorgrad.utils import pytree

X, Y = [0.5, -1.0, 2.0], [1.5, 0.3, -0.7]


def environment(m):
    """What the expressions below name. ``A`` is autograd.functional, ``F`` is func."""

    def t(values):
        return m.tensor(values, dtype=m.float64)

    return {
        "m": m,
        "A": m.autograd.functional,
        "F": m.func,
        "t": t,
        "x": t(X),
        "y": t(Y),
        "r": t(X).requires_grad_(),
        "M": t([X, Y]),
        "s": t(0.7),
        "cubes": lambda x: (x * x * x).sum(),
        "mixed": lambda x, y: (x * y).exp().sum() + (x * x * y).sum(),
        "both": lambda x, y: (x * y, (x.sin() * y.sum()).sum()),
        "tree": lambda p: {"a": p["u"] * p["v"][0], "b": [p["u"].sum()]},
        "params": {"u": t(X), "v": (t(Y),)},
    }


EXPRESSIONS = """
A.jacobian(lambda x: x.exp() * 2, x)
A.jacobian(both, (x, y))
A.jacobian(lambda x: (x.sum(), x.detach() * 2), x)
A.jacobian(lambda x: x * 2, x, vectorize=True, strategy='reverse-mode')
A.jacobian(lambda x: x * x, r, create_graph=True)
A.jacobian(lambda x: x * x, r)
A.jacobian(lambda x: x * x, M)
A.jacobian(lambda x: x[:, None] * x, x)
A.hessian(cubes, x)
A.hessian(mixed, (x, y))
A.hessian(lambda x: x.sum(), x)
A.hessian(lambda x: (x * x).sum().reshape(1), x)
A.hessian(cubes, M)
A.jacobian(cubes, x, vectorize=True, strategy='forward-mode')
A.vjp(lambda x: x * x, x, y)
A.vjp(both, (x, y), (y, s))
A.vjp(cubes, x)
A.vjp(lambda x: x.detach() * 2, x, y)
A.vjp(lambda x: x * x, r, y, create_graph=True)
A.jvp(lambda x: x * x, x, y)
A.jvp(both, (x, y), (y, x))
A.jvp(lambda x: x * 3, x, y)
A.jvp(lambda x: x.detach(), x, y)
A.jvp(lambda x: x * x, s)
A.vhp(cubes, x, y)
A.vhp(mixed, (x, y), (y, x))
A.vhp(lambda x: x.sum(), x, y)
A.hvp(cubes, x, y)
A.hvp(mixed, (x, y), (y, x))
A.hvp(lambda x: x.sum(), x, y)
F.grad(cubes)(x)
F.grad(mixed, argnums=1)(x, y)
F.grad(mixed, argnums=(1, 0))(x, y)
F.grad(mixed, argnums=-1)(x, y)
F.grad(lambda x: (x.sum(), x * 2), has_aux=True)(x)
F.grad(lambda x, k=1: (x * k).sum())(x, k=3)
F.grad(lambda x: m.ones(()))(x)
F.grad(lambda p: tree(p)['a'].sum())(params)
F.grad_and_value(cubes)(x)
F.grad_and_value(lambda x: (x.sum(), x * 2), has_aux=True)(x)
F.grad(F.grad(lambda x: x * x * x * x))(s)
F.grad(F.grad(F.grad(lambda x: x.exp() * x)))(s)
F.grad(lambda x: F.grad(lambda y: x * x * y * y)(x))(s)
F.grad(lambda x: x * F.grad(lambda y: x + y)(s))(s)
F.grad(lambda x: (x * r).sum())(x)
F.grad(cubes)(r)
m.autograd.grad(F.grad(cubes)(r).sum(), r)
m.autograd.grad(F.grad(lambda x: (x * r * r).sum())(x).sum(), r)
F.vjp(both, x, y)[1]((y, s))
F.vjp(lambda x: x * x, x)[0], F.vjp(lambda x: x * x, x)[1](y)
F.vjp(tree, params)[1]({'a': x, 'b': [s]})
F.vjp(lambda x: (x * x, s), x, has_aux=True)[2]
F.grad(lambda x: F.vjp(lambda z: z * z, x)[1](y)[0].sum())(x)
F.jvp(both, (x, y), (y, x))
F.jvp(lambda x: x * 3, (x,), (y,))
F.jvp(lambda x: (x * x, s), (x,), (y,), has_aux=True)
F.grad(lambda x: F.jvp(cubes, (x,), (y,))[1])(x)
F.jvp(F.grad(cubes), (x,), (y,))[1]
F.jacrev(lambda x: x * x)(x)
F.jacrev(both, argnums=(0, 1))(x, y)
F.jacrev(tree)(params)
F.jacrev(lambda x: (x * x, s), has_aux=True)(x)
F.jacfwd(both)(x, y)
F.hessian(cubes)(x)
F.hessian(mixed, argnums=(0, 1))(x, y)
F.jacrev(F.jacrev(F.jacrev(cubes)))(x)
F.vmap(lambda a: a.sum())(M)
F.vmap(lambda a: a.sum(), in_dims=1)(M)
F.vmap(lambda a, b: a * b, in_dims=(0, None))(M, x)
F.vmap(lambda a, b: a * b, in_dims=(-2, None))(M, 2)
F.vmap(lambda a, b: (a * b, {'k': a.sum()}), out_dims=(1, 0))(M, M)
F.vmap(lambda p: p['a'] * p['b'][0], in_dims=({'a': 0, 'b': None},))({'a': M, 'b': (x,)})
F.vmap(lambda a: x)(M)
F.vmap(lambda a: a * 2)(M[:0])
F.vmap(lambda a, b: (a, b), in_dims=(0, None), out_dims=(0, None))(x, 2)
F.vmap(F.vmap(lambda a: a * a))(M)
F.vmap(F.grad(cubes))(M)
F.vmap(F.hessian(cubes))(M)
F.vmap(F.grad(mixed), in_dims=(0, None))(M, y)
F.grad(lambda x: F.vmap(lambda a: a * x)(M).sum())(x)
F.jacrev(F.vmap(lambda a: a * a))(x)
m.autograd.grad(F.vmap(lambda a: a * r)(M).sum(), r)
F.vmap(lambda a, b: a * b)(x, r)
"""


def evaluated(m, line):
    result = eval(line, environment(m))
    plain = []
    for v in pytree.leaves(result):
        is_tensor = hasattr(v, "detach")
        plain.append((np.asarray(v.detach()), v.requires_grad) if is_tensor else v)
    return pytree.rebuilt(result, [0] * len(plain)), plain


# PyTorch compiles its forward mode when it is first used.
compiles = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.mark.torch
@compiles
@pytest.mark.parametrize("line", EXPRESSIONS.strip().splitlines())
def test_expression(torch, line):
    (structure, ours), (expected, theirs) = (evaluated(m, line) for m in (tensorgrad, torch))
    assert structure == expected
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, tuple):
            assert a[0].shape == b[0].shape
            np.testing.assert_allclose(a[0], b[0], rtol=1e-9, atol=1e-12)
            assert a[1] == b[1], "requires_grad"
        else:
            assert a == b


REFUSED = """
A.jacobian(lambda x: 3, x)
A.jacobian(lambda x: x, [x, 3])
A.jacobian(lambda x: x.detach(), x, strict=True)
A.jacobian(lambda x, y: x * 2, (x, y), strict=True)
A.jacobian(lambda x: x * 2, x, create_graph=True, strict=True)
A.jacobian(lambda x: x, x, strategy='forward-mode')
A.jacobian(lambda x: x, x, strategy='sideways')
A.hessian(lambda x: x, x)
A.hessian(lambda x: x.sum(), x, strict=True)
A.vjp(lambda x: x, x)
A.vjp(lambda x: x, x, x[:2])
A.vjp(lambda x: x, x, (x, x))
A.vjp(lambda x: x.detach(), x, x, strict=True)
A.jvp(lambda x: x, x)
A.jvp(lambda x: x, x, x[:2])
A.vhp(lambda x: x * 2, x, x)
A.vhp(lambda x: x.sum(), x, x, strict=True)
A.hvp(lambda x: x.sum(), x, x, strict=True)
F.grad(lambda x: x)(x)
F.grad(lambda x: 3.0)(x)
F.grad(lambda x: x.sum())(m.arange(3))
F.grad(lambda x: x.sum(), argnums=2)(x)
F.grad(lambda x: x.sum())(3.0)
F.jacrev(lambda x: 3)(x)
F.jvp(lambda x: x, (x,), (x[:2],))
F.jvp(lambda x: x, x, x)
F.vmap(lambda a: a, in_dims=2)(M)
F.vmap(lambda a, b: a.sum() + b)(M, x)
F.vmap(lambda a: 3.0)(M)
F.vmap(lambda a: a, in_dims=None)(M)
F.vmap(lambda a: a, in_dims=(0, 0))(M)
F.vmap(lambda a: a, out_dims=2)(M)
F.vmap(lambda a: a + m.rand(1))(M)
F.vmap(lambda a, b: a + b)(M, 2)
F.vmap(lambda a: a, randomness='some')(M)
"""


@pytest.mark.torch
@compiles
@pytest.mark.parametrize("line", REFUSED.strip().splitlines())
def test_refused(torch, line):
    kinds = []
    for m in (tensorgrad, torch):
        with pytest.raises(Exception) as error:  # noqa: PT011
            eval(line, environment(m))
        known = (IndexError, ValueError, TypeError, NotImplementedError, RuntimeError)
        kinds.append(next((k for k in known if isinstance(error.value, k)), type(error.value)))
    assert kinds[0] == kinds[1], error.value


def test_closed_forms():
    """Without PyTorch: x'Ax has the gradient (A + A')x and the Hessian A + A'."""
    a = np.random.default_rng(0).standard_normal((3, 3))
    m, x = tensor(a), tensor(X, dtype="float64")

    def quadratic(x):
        return x @ m @ x

    s = a + a.T
    hessians = (
        func.hessian(quadratic)(x),
        func.jacrev(func.grad(quadratic))(x),
        tensorgrad.autograd.functional.hessian(quadratic, x),
    )
    for h in hessians:
        np.testing.assert_allclose(h.numpy(), s)
    products = (
        func.jvp(func.grad(quadratic), (x,), (x,))[1],
        tensorgrad.autograd.functional.hvp(quadratic, x, x)[1],
        tensorgrad.autograd.functional.vhp(quadratic, x, x)[1],
        func.grad(quadratic)(x),
    )
    for p in products:
        np.testing.assert_allclose(p.numpy(), s @ np.array(X))
    rows = tensor(np.stack([X, Y]))
    np.testing.assert_allclose(
        func.vmap(func.grad(quadratic))(rows).numpy(), np.stack([X, Y]) @ s.T
    )


def test_a_jacobian_of_nothing():
    """PyTorch refuses it."""
    assert tensorgrad.autograd.functional.jacobian(lambda x: x[:0], tensor(X)).shape == (0, 3)


def test_vmap_of_random_numbers():
    rows = tensorgrad.zeros(4, 3)

    def draw(row):
        return row + tensorgrad.rand(3)

    tensorgrad.manual_seed(0)
    different = func.vmap(draw, randomness="different")(rows)
    same = func.vmap(draw, randomness="same")(rows)
    assert len(set(map(tuple, different.tolist()))) == 4
    assert len(set(map(tuple, same.tolist()))) == 1
    with pytest.raises(RuntimeError, match="draws random numbers"):
        func.vmap(draw)(rows)


def test_a_derivative_under_no_grad_is_a_plain_tensor():
    x, w = tensor(X, requires_grad=True), tensor(Y, requires_grad=True)
    with tensorgrad.no_grad():
        g = func.grad(lambda x: (x * x * w).sum())(x)
    assert not g.requires_grad
    np.testing.assert_allclose(g.numpy(), 2 * np.array(X) * np.array(Y), rtol=1e-6)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("scale", tensorgrad.ones(3))

    def forward(self, x, power=1):
        return self.second(self.first(x)) * self.scale**power


def test_functional_call():
    module, x = Tied(), tensorgrad.ones(2, 3)
    before, weight = module(x).tolist(), module.first.weight
    parameters = dict(module.named_parameters())
    zero = {"first.weight": weight * 0}
    assert func.functional_call(module, zero, x).tolist() == np.zeros((2, 3)).tolist()
    untied = func.functional_call(module, zero, (x,), {"power": 2}, tie_weights=False)
    bias = module.first.bias.detach().numpy()
    np.testing.assert_allclose(
        untied.detach().numpy(), [bias @ weight.detach().numpy().T] * 2, rtol=1e-5
    )
    doubled = func.functional_call(module, [parameters, {"scale": module.scale * 2}], x)
    np.testing.assert_allclose(doubled.tolist(), 2 * np.array(before), rtol=1e-6)
    with pytest.raises(RuntimeError, match=r"no tensors of the names \['nonsense'\]"):
        func.functional_call(module, {"nonsense": x}, x)
    with pytest.raises(RuntimeError, match="strict, but without the tensors"):
        func.functional_call(module, zero, x, strict=True)
    with pytest.raises(TypeError):
        func.functional_call(module, zero, (x, 1, 2, 3))
    assert module.first.weight is module.second.weight is weight
    assert module(x).tolist() == before


def test_gradients_for_each_example():
    """What func is for: vmap of grad of a functional call, against a loop of backward."""
    module, xs, ts = nn.Linear(3, 2), tensorgrad.randn(5, 3), tensorgrad.arange(5) % 2

    def loss(parameters, x, t):
        return nn.functional.cross_entropy(func.functional_call(module, parameters, x), t)

    parameters = {name: p.detach() for name, p in module.named_parameters()}
    found = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(parameters, xs, ts)
    for k in range(5):
        module.zero_grad()
        nn.functional.cross_entropy(module(xs[k]), ts[k]).backward()
        for name, p in module.named_parameters():
            np.testing.assert_allclose(found[name][k].numpy(), p.grad.numpy(), rtol=1e-5)
