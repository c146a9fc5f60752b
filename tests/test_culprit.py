"""The search for a wrong derivative is tested by planting them: it names the op and the error."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest

import nn
import nn.functional as F
import tensorgrad
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad import autograd, tensor
from tensorgrad.backend import kernels
from tensorgrad.core import registry
from tensorgrad.ops.samples import Source
from tensorgrad.testing import GradcheckError, find_culprit, gradcheck


def leaf(*shape, seed=0, dtype="float64"):
    values = np.random.default_rng(seed).standard_normal(shape)
    return tensor(values, dtype=dtype, requires_grad=True)


@pytest.fixture
def plant(monkeypatch):
    """Gives an op other formulas, or a kernel another vjp, for the time of a test."""
    planted = {}

    def make(name, *formulas):
        op = registry[name]
        planted.setdefault(name, dict(op.formulas))
        names = [op.variadic] if op.variadic else op.arguments
        right = [planted[name].get(n) for n in names]
        op.vjp(*[f or r for f, r in zip([*formulas, *[None] * len(right)], right)])

    yield make
    for name, formulas in planted.items():
        op = registry[name]
        op.vjp(*[formulas.get(n) for n in ([op.variadic] if op.variadic else op.arguments)])


@pytest.fixture
def plant_kernel(monkeypatch):
    def make(name, change):
        """``change(gradients, g, inputs)`` gives the wrong gradients from the right ones."""
        right = kernels.find(name)

        def vjp(g, inputs, saved, needs, **params):
            found = list(right.vjp(g, inputs, saved, needs, **params))
            return change(found, g, inputs)

        monkeypatch.setitem(kernels._table, name, kernels.Kernel(right.forward, vjp))

    return make


def one(function, *shapes):
    """A small program with ``function`` in the middle, on leaves of these shapes."""
    leaves = [leaf(*shape, seed=i + 1) for i, shape in enumerate(shapes)]

    def loss():
        y = function(*[x * 1.5 + 0.1 for x in leaves])
        return (y.exp() * 0.3).sum()

    return loss


def swapped(xp, x):
    return xp.swapaxes(x, 0, 1)


# name: op, argument that is blamed, a pattern for the hint, formulas, program
PLANTED = {
    # signs
    "sign of multiply": (
        "multiply", "b", "a wrong sign", [None, lambda xp, g, a: -g * a],
        one(lambda a, b: a.cos() * b.cos(), (2, 3), (3,)),
    ),
    "sign of sin": (
        "sin", "x", "a wrong sign", [lambda xp, g, x: -g * xp.cos(x)], one(lambda x: x.sin(), (4,)),
    ),
    "sign of subtract": (
        "subtract", "b", "a wrong sign", [None, lambda xp, g: g],
        one(lambda a, b: a - b, (2, 3), (2, 1)),
    ),
    "sign of matmul": (
        "matmul", "a", "a wrong sign", [lambda xp, g, b: -g @ xp.swapaxes(b, 0, 1)],
        one(lambda a, b: a @ b, (2, 3), (3, 4)),
    ),
    # factors
    "factor of square": (
        "square", "x", "1/2 times", [lambda xp, g, x: g * x], one(lambda x: x.square(), (2, 3)),
    ),
    "factor of mean": (
        "mean", "x", "6 times", [lambda xp, g, x_shape: xp.broadcast_to(g, x_shape)],
        one(lambda x: x.mean(), (2, 3)),
    ),
    "factor of tanh": (
        "tanh", "x", "minus 3 times", [lambda xp, g, y: -3.0 * g * (1 - y * y)],
        one(lambda x: x.tanh(), (5,)),
    ),
    "a factor of a tenth of a percent": (
        "sigmoid", "x", "1.001 times", [lambda xp, g, y: g * y * (1 - y) * 1.001],
        one(lambda x: x.sigmoid(), (5,)),
    ),
    "another argument's": (
        "divide", "a", "it is the derivative by b", [lambda xp, g, a, b: -g * (a / b) / b],
        one(lambda a, b: a / b, (2, 3), (2, 3)),
    ),
    # transposed
    "transposed matmul, square": (
        "matmul", "a", "transposed", [lambda xp, g, b: swapped(xp, g @ swapped(xp, b))],
        one(lambda a, b: a @ b, (3, 3), (3, 3)),
    ),
    "transposed matmul": (
        "matmul", "b", "transposed", [None, lambda xp, g, a: swapped(xp, g) @ a],
        one(lambda a, b: a @ b, (4, 2), (2, 3)),
    ),
    "transposed permutation": (
        "permute_dims", "x", "transposed", [lambda xp, g, axes: xp.permute_dims(g, axes)],
        one(lambda x: x.permute(1, 2, 0), (3, 3, 3)),
    ),
    "transposed running sum": (
        "cumsum", "x", "transposed: the Jacobian",
        [lambda xp, g, axis: xp.cumsum(g, axis=axis)], one(lambda x: x.cumsum(1), (2, 4)),
    ),
    "transposed solution": (
        "solve", "b", "transposed: the Jacobian", [None, lambda xp, g, a: xp.linalg.solve(a, g)],
        one(lambda a, b: tensorgrad.linalg.solve(a, b), (3, 3), (3, 2)),
    ),
    # sums that are missing
    "un-broadcast of multiply": (
        "multiply", "b", r"only index 0 of axis 0 .* \(un-broadcasting\)",
        [None, lambda xp, g, a: (g * a)[0]], one(lambda a, b: a.cos() * b.cos(), (4, 3), (3,)),
    ),
    "un-broadcast of add": (
        "add", "b", r"only index 3 of axis 0 .* \(un-broadcasting\)",
        [None, lambda xp, g: g[-1]], lambda: (leaf(4, 3) + leaf(3, seed=1)).exp().sum(),
    ),
    "un-broadcast of matmul": (
        "matmul", "b", r"only index 0 of axis 0 .* \(un-broadcasting\)",
        [None, lambda xp, g, a: swapped(xp, a[0]) @ g[0]],
        one(lambda a, b: a @ b, (4, 2, 3), (3, 2)),
    ),
    "repeated rows": (
        "take_rows", "table", "only the last of several uses",
        [lambda xp, g, indices, table_shape: _last_rows(g, indices, table_shape)],
        one(lambda t: F.embedding(tensor([[0, 1, 0], [2, 0, 2]]), t), (4, 3)),
    ),
    # axes
    "axis of softmax": (
        "softmax", "x", "a wrong axis: it would be right for axis 0",
        [lambda xp, g, y: y * (g - xp.sum(g * y, axis=0, keepdims=True))],
        one(lambda x: x.softmax(-1), (3, 4)),
    ),
    "axis of log_softmax": (
        "log_softmax", "x", "a wrong axis: it would be right for axis 1",
        [lambda xp, g, y: g - xp.exp(y) * xp.sum(g, axis=1, keepdims=True)],
        one(lambda x: x.log_softmax(0), (2, 3)),
    ),
    "axis of sum": (
        "sum", "x", "transposed|a wrong axis",
        [lambda xp, g, x_shape: xp.broadcast_to(xp.expand_dims(g, axis=-1), x_shape)],
        lambda: leaf(3, 3).sum(0).exp().prod(),
    ),
    "axis of a running product": (
        "logcumsumexp", "x", "a wrong axis|none of|right in",
        [lambda xp, g, y, x: xp.flip(xp.cumsum(xp.flip(g * xp.exp(-y), axis=0), axis=0), axis=0)
         * xp.exp(x)],
        one(lambda x: x.logcumsumexp(1), (3, 3)),
    ),
    # elements
    "element of getitem": (
        "getitem", "x", "shifted by one along axis 0",
        [lambda xp, g, x_shape, index: xp.scatter(g, index=_next(index), shape=x_shape)],
        one(lambda x: x[1], (5, 3)),
    ),
    "order of flip": (
        "flip", "x", "in the reverse order along axis 1", [lambda xp, g: g],
        one(lambda x: x.flip(1), (2, 3)),
    ),
    "element of max": (
        "max", "x", "right in|shifted|reverse",
        [lambda xp, g, y, x, axis: (x == xp.min(x, axis=axis, keepdims=True))
         * xp.expand_dims(g, axis=axis)],
        one(lambda x: x.amax(1), (3, 5)),
    ),
    "from some value on": (
        "exp", "x", r"right in \d+ of the 40 elements that were checked, wrong from 0\.\d+ on",
        [lambda xp, g, y: g * xp.where(y > 2, 0.9 * y, y)], one(lambda x: x.exp() * 1.0, (40,)),
    ),
    # others
    "zero": ("log1p", "x", "0 everywhere", [lambda xp, g, x: 0.0 * g],
             one(lambda x: x.square().log1p(), (3,))),
    "nan": ("sqrt", "x", "nan or inf", [lambda xp, g, y: g * xp.nan],
            one(lambda x: x.square().sqrt(), (3,))),
    "g is forgotten": ("sin", "x", "not proportional", [lambda xp, g, x: xp.cos(x)],
                       one(lambda x: x.sin(), (3,))),
    "an error": ("sin", "", "IndexError", [lambda xp, g, x: g[17]], one(lambda x: x.sin(), (3,))),
}  # fmt: skip


def _next(index):
    return index + 1


def _last_rows(g, indices, shape):
    out = np.zeros(shape)
    out[indices] = g
    return out


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_named(plant, name):
    op, argument, pattern, formulas, loss = PLANTED[name]
    assert find_culprit(loss).culprit is None
    plant(op, *formulas)
    findings = find_culprit(loss)
    culprit = findings.culprit
    assert (culprit.op, culprit.argument) == (op, argument)
    assert re.search(pattern, culprit.hint), culprit.hint
    assert culprit.source.startswith("tests/test_culprit.py:")
    assert f"{op}" in str(culprit)
    if argument:
        assert not np.isclose(culprit.got, culprit.expected, rtol=1e-5)


KERNELS = {
    "bias of linear": (
        "linear", "bias", r"only row 0 of the result",
        lambda found, g, inputs: (*found[:2], g.reshape(-1, g.shape[-1])[0]),
    ),
    "weight of linear": (
        "linear", "weight", "a wrong sign",
        lambda found, g, inputs: (found[0], -np.asarray(found[1]), found[2]),
    ),
    "scale of layer_norm": (
        "layer_norm", "weight", "1/6 times",
        lambda found, g, inputs: (found[0], found[1] / 6, found[2]),
    ),
    "heads of attention": (
        "scaled_dot_product_attention", "k", "it is the derivative by q",
        lambda found, g, inputs: (found[0], found[0], *found[2:]),
    ),
    "slope of gelu": (
        "gelu", "x", "none of the usual errors",  # for each gradient of the layer before is a mix
        lambda found, g, inputs: (np.minimum(found[0], g),),
    ),
}  # fmt: skip


def model_loss(dtype="float32", activation="gelu"):
    tensorgrad.manual_seed(0)
    config = GPTConfig(
        vocab_size=7, context=3, width=4, layers=1, heads=2, activation=activation, init="torch"
    )
    model = GPT(config).to(dtype)
    tokens = tensor([[1, 2, 3], [3, 1, 1]])
    return lambda: model(tokens, tokens)


@pytest.mark.parametrize("name", KERNELS)
def test_errors_in_kernels_are_named_in_a_whole_model(plant_kernel, name):
    op, argument, pattern, change = KERNELS[name]
    loss = model_loss()
    assert find_culprit(loss).culprit is None
    plant_kernel(op, change)
    culprit = find_culprit(loss).culprit
    at_once = {"gelu": "linear_gelu"}  # what the activation is part of
    assert (culprit.op, culprit.argument) == (at_once.get(op, op), argument)
    assert re.search(pattern, culprit.hint), culprit.hint
    assert culprit.source.startswith("gpt/model.py:")
    assert culprit.code


def test_the_first_of_several_is_named(plant):
    plant("sin", lambda xp, g, x: -g * xp.cos(x))
    plant("exp", lambda xp, g, y: 2 * g * y)
    x = leaf(3)
    assert find_culprit(lambda: x.exp().sin().sum()).culprit.op == "exp"
    assert find_culprit(lambda: x.sin().exp().sum()).culprit.op == "sin"


def test_one_wrong_element_among_many_is_found(plant):
    """Of a large argument few elements are moved one by one; sums over halves do the rest."""
    x = leaf(50, 60)
    bad = np.tanh(x.array[41, 7])
    plant("tanh", lambda xp, g, y: g * (1 - y * y) * xp.where(y == bad, 1.3, 1))
    culprit = find_culprit(lambda: x.tanh().sum()).culprit
    assert (culprit.op, culprit.index) == ("tanh", (41, 7))


# --- functions of the user ------------------------------------------------------------------------


def function(backward, forward=lambda x, w: x * w):
    class Mine(autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return forward(x, w)

    def backward_of(ctx, g):
        return backward(g, *ctx.saved_tensors)

    Mine.backward = staticmethod(backward_of)
    return Mine.apply


FUNCTIONS = {
    "right": (None, "", lambda g, x, w: (g * w, g * x)),
    "sign": ("x", "a wrong sign", lambda g, x, w: (-g * w, g * x)),
    "factor": ("w", "2 times", lambda g, x, w: (g * w, 2 * g * x)),
    "un-broadcast": ("w", "only index 2 of axis 0", lambda g, x, w: (g * w, (g * x)[-1])),
    "element": ("x", "shifted by one along axis 1", lambda g, x, w: ((g * w).roll(1, 1), g * x)),
    "transposed": ("x", "transposed", lambda g, x, w: ((g * w).T, g * x)),
    "reverse": ("w", "in the reverse order", lambda g, x, w: (g * w, (g * x).sum(0).flip(0))),
    "forgotten": ("w", "0 everywhere", lambda g, x, w: (g * w, None)),
    "of the wrong shape": ("", "Mine: backward has", lambda g, x, w: (g * w, g[0, 0])),
    "missing": ("", "as many gradients as forward has arguments", lambda g, x, w: g * w),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_user(name):
    argument, pattern, backward = FUNCTIONS[name]
    x, w, apply = leaf(3, 3), leaf(3, seed=1), function(backward)
    culprit = find_culprit(lambda: apply(x.cos(), w.cos()).exp().sum()).culprit
    if argument is None:
        assert culprit is None
    else:
        assert (culprit.op, culprit.argument) == ("Mine", argument)
        assert re.search(pattern, culprit.hint), culprit.hint


def test_functions_with_several_results_or_writes_in_place():
    class Split(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x[:2], x[2:] * 2

        @staticmethod
        def backward(ctx, g, h):
            return tensorgrad.cat([g, h * (2 if right else 3)])

    class Double(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = leaf(5)

    def loss():
        a, b = Split.apply(x)
        return a.exp().sum() + Double.apply(b.exp()).sum()

    right = True
    assert find_culprit(loss).culprit is None
    right = False
    culprit = find_culprit(loss).culprit
    assert culprit.op == "Split"
    assert culprit.got == pytest.approx(1.5 * culprit.expected)
    assert culprit.hint == "right in 2 of the 5 elements that were checked"


# --- who is not blamed ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(n for n in registry if registry[n].differentiable))
def test_no_right_derivative_is_blamed(name):
    for args, params in registry[name].samples(Source(seed=4)):
        given = [tensorgrad.from_numpy(a) if isinstance(a, np.ndarray) else a for a in args]
        for t in given:
            if isinstance(t, tensorgrad.Tensor) and t.dtype.kind == "f":
                t.requires_grad_()
        y = registry[name](*given, **params)
        if y.requires_grad:
            findings = find_culprit(partial(registry[name], *given, **params))
            assert findings.culprit is None, str(findings)


KINKS = {
    "relu at 0": (lambda x: x.relu(), [0.0, 1.0, -1.0, 0.0], 2),
    "relu beside 0": (lambda x: x.relu(), [1e-8, -2e-8, 1.0], 2),
    "a kink within the step": (lambda x: x.relu(), [6e-7], 0),
    "abs at 0": (lambda x: x.abs(), [0.0, 2.0], 1),
    "max with ties": (lambda x: x.max(), [3.0, 3.0, 1.0], 2),
    "maximum with a tie": (lambda x: tensorgrad.maximum(x, tensor(2.0)), [2.0, 1.0], 1),
    "clamp at the edge": (lambda x: x.clamp(-1, 1), [-1.0, 0.5, 1.0], 2),
    "sqrt at 0": (lambda x: x.sqrt(), [0.0, 4.0], 1),
    "a jump": (lambda x: x.floor() * x, [2.0, 2.5], 1),
    "square at 0 is smooth": (lambda x: x * x, [0.0], 0),
    "a cube at 0 is smooth": (lambda x: x**3, [0.0], 0),
}


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kinks_are_recognised_and_not_blamed(name):
    function, values, kinks = KINKS[name]
    x = tensor(values, dtype="float64", requires_grad=True)
    findings = find_culprit(lambda: function(x).sum())
    assert findings.culprit is None
    assert findings.kinks == kinks
    assert ("left out that lie at a kink" in str(findings)) == bool(kinks)


def test_an_error_beside_a_kink_is_still_found(plant):
    plant("relu", lambda xp, g, y: xp.where(y <= 0, 0.5 * g, g))
    x = tensor([0.0, -1.0, 2.0], dtype="float64", requires_grad=True)
    findings = find_culprit(lambda: x.relu().sum())
    assert (findings.culprit.op, findings.culprit.index, findings.kinks) == ("relu", (1,), 1)


@pytest.mark.parametrize("activation", ["relu", "gelu_tanh"])
def test_whole_models_are_right(activation):
    findings = find_culprit(model_loss("float32", activation))
    assert findings.culprit is None
    assert findings.operations > 20
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    x = leaf(2, 1, 6, 6, dtype="float32")
    assert find_culprit(lambda: layers(x).log_softmax(-1)[:, 0]).culprit is None


def test_what_rounding_hides_is_not_blamed():
    x = tensor([1e12, 1.0, 3.0], dtype="float64", requires_grad=True)
    assert find_culprit(lambda: (x * 0.5).sum().square()).culprit is None


def test_a_relu_with_many_elements_around_its_kink():
    x = leaf(400, 50)
    with tensorgrad.no_grad():
        x[::7] *= 1e-7
    findings = find_culprit(lambda: x.relu().sum())
    assert findings.culprit is None
    assert findings.kinks


def test_masks_of_infinity_and_dropout():
    x = leaf(3, 3)
    mask = tensor([[True, False, False], [False, True, False], [False, False, False]])
    findings = find_culprit(
        lambda: F.dropout(x.masked_fill(mask, -np.inf).softmax(-1).cos(), 0.3).sum()
    )
    assert findings.culprit is None
    assert findings.operations >= 5


# --- how it is called -----------------------------------------------------------------------------


def test_a_tensor_does_where_its_graph_keeps_every_constant(plant):
    x, w = leaf(2, 3), leaf(3, 4, seed=1)
    plant("tanh", lambda xp, g, y: -g * (1 - y * y))
    y = (x @ w).tanh().sum()
    assert find_culprit(y).culprit.op == "tanh"
    assert find_culprit([y, x.exp()]).culprit.op == "tanh"
    with pytest.raises(ValueError, match="does not keep the constant that add was given"):
        find_culprit((x + 1).tanh())
    with pytest.raises(ValueError, match="nothing was recorded"):
        find_culprit(lambda: tensor(1.0))
    assert x.grad is None
    y.backward()


def test_gradcheck_names_the_culprit(plant):
    plant("tanh", lambda xp, g, y: g * (1 - y))
    x = leaf(2, 3)
    with pytest.raises(GradcheckError) as error:
        gradcheck(lambda x: x.exp().tanh() * 2, [x])
    first, second = str(error.value).split("\n")
    assert first.startswith("the derivative of output 0[0, 0] with respect to input 0[0, 0] is")
    assert second.startswith("the derivative of tanh by x[")
    assert "(gradcheck(lambda x: x.exp().tanh() * 2, [x]))" in second
    assert "tests/test_culprit.py:" in second


def test_gradcheck_says_where_no_single_operation_is_wrong():
    with pytest.raises(GradcheckError, match="every recorded operation is right by itself"):
        gradcheck(lambda x: x * x.detach(), [leaf(2)])
