"""The checkers are checked: what is right passes, and every planted error is found."""

from __future__ import annotations

import numpy as np
import pytest

import tensorgrad
from tensorgrad import ops, tensor
from tensorgrad.core import fused, op
from tensorgrad.testing import GradcheckError, gradcheck, gradgradcheck

CHECKS = [gradcheck, gradgradcheck]


def leaf(*shape, seed=0):
    return tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: x.sin() * x, [leaf(2, 3)]),
        (lambda x, y: x @ y, [leaf(2, 3), leaf(3, 2, seed=1)]),
        (lambda x, y: (x * y, x.sum(), [1, 2], x.argmax()), [leaf(2, 3), leaf(3, seed=1)]),
        (
            lambda x, y: [x.exp(), y * 2],
            [leaf(2), leaf(2, seed=1)],
        ),
        (lambda x, i: x[i], [leaf(4, 2), tensor([0, 2, 0])]),
        (lambda x, number: x * number, [leaf(3), 2.5]),
        (lambda x: x * x, [leaf()]),
        (lambda x: x * x, [leaf(0, 2)]),
        (lambda x: x.softmax(-1), [leaf(3, 2).T.detach().requires_grad_()]),  # not contiguous
        (lambda x: (x * x).T, [leaf(3, 2) * 2]),  # not a leaf
        (lambda x: tensor([1.0, 2.0], dtype="float64"), [leaf(2)]),  # a constant
        (lambda x: x.detach() * 0, [leaf(2)]),
    ],
)
def test_what_is_right_passes(check, function, inputs):
    before = [t.tolist() for t in inputs if isinstance(t, tensorgrad.Tensor)]
    assert check(function, inputs)
    assert before == [t.tolist() for t in inputs if isinstance(t, tensorgrad.Tensor)]


@pytest.fixture
def plant(monkeypatch):
    """Makes an op with given formulas, for the time of a test."""
    monkeypatch.setattr(tensorgrad.core, "registry", {})

    def make(forward, *formulas):
        return op(samples=lambda source: (), promotes="same")(forward).vjp(*formulas)

    return make


def product(xp, a, b):
    return a * b


def cube(xp, x):
    return x * x * x


ERRORS = {
    "a factor": (product, lambda xp, g, b: 2 * g * b, lambda xp, g, a: g * a),
    "a sign": (product, lambda xp, g, b: g * b, lambda xp, g, a: -g * a),
    "the wrong argument": (product, lambda xp, g, b: g * b, lambda xp, g, b: g * b),
    "no dependence on g": (product, lambda xp, g, b: b + 0 * g, lambda xp, g, a: g * a),
    "zero": (cube, lambda xp, g, x: g * 0.0),
    "nan": (cube, lambda xp, g, x: g * float("nan")),
    "one element": (cube, lambda xp, g, x: g * 3 * x * x + (x > 0.6) * 0.1),
    "a tenth of a percent and more": (cube, lambda xp, g, x: g * 3.01 * x * x),
}


@pytest.mark.parametrize("name", ERRORS)
def test_planted_errors_are_found(plant, name):
    forward, *formulas = ERRORS[name]
    wrong = plant(forward, *formulas)
    inputs = [leaf(2, 3), leaf(2, 3, seed=1)][: len(formulas)]
    with pytest.raises(GradcheckError):
        gradcheck(wrong, inputs)
    assert not gradcheck(wrong, inputs, raise_exception=False)


@pytest.mark.parametrize(
    "formula",
    [
        lambda xp, g, x: g * 3 * x * getattr(x, "detach", lambda: x)(),
        lambda xp, g, x: getattr(g, "detach", lambda: g)() * 3 * x * x,
        lambda xp, g, x: g * 3 * getattr(x * x, "detach", lambda: x * x)(),
    ],
)
def test_errors_of_the_second_order_are_found(plant, formula):
    """The first derivative has the right value; its own history is cut somewhere."""
    wrong = plant(cube, formula)
    assert gradcheck(wrong, [leaf(3)])
    with pytest.raises(GradcheckError):
        gradgradcheck(wrong, [leaf(3)])


def test_an_error_in_the_second_of_several_outputs_is_found(plant):
    wrong = plant(cube, lambda xp, g, x: g * x)
    with pytest.raises(GradcheckError, match=r"of output 1\["):
        gradcheck(lambda x: (x * x, wrong(x)), [leaf(3)])


def test_an_error_in_a_kernel_is_found(plant, monkeypatch):
    @fused(samples=lambda source: ())
    def cubed(xp, x):
        return x * x * x

    kernel = tensorgrad.backend.kernels.Kernel(
        lambda x: (x * x * x, ()), lambda g, inputs, saved, needs: (2 * g * inputs[0] ** 2,)
    )
    monkeypatch.setitem(tensorgrad.backend.kernels._table, "cubed", kernel)
    with pytest.raises(GradcheckError):
        gradcheck(cubed, [leaf(3)])
    monkeypatch.setattr(tensorgrad.backend.kernels, "enabled", False)
    assert gradcheck(cubed, [leaf(3)])


def test_the_message_names_the_element(plant):
    wrong = plant(cube, lambda xp, g, x: g * x * xp.where(x > 1.99, 1.0, 3 * x))
    x = tensor([[1.0, 1.5], [1.25, 2.0]], dtype="float64", requires_grad=True)
    with pytest.raises(GradcheckError) as error:
        gradcheck(lambda n, x: wrong(x).reshape(4), [3, x])
    first, second = str(error.value).split("\n")
    assert first == (
        "the derivative of output 0[3] with respect to input 1[1, 1] is 2, but finite differences "
        "give 12"
    )
    assert second.startswith("the derivative of cube by x[1, 1], recorded at ")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (
            ops.exp,
            [tensor([1.0], requires_grad=True)],
            "input 0 is .*float32.* need float64",
        ),
        (ops.exp, [tensor([1.0], dtype="float64")], "no input requires grad"),
        (lambda x: x.argmax(), [leaf(3)], "no tensor of a float dtype"),
        (lambda x: x.tolist(), [leaf(3)], "no tensor of a float dtype"),
    ],
)
def test_what_cannot_be_checked(check, function, inputs, message):
    with pytest.raises(ValueError, match=message):
        check(function, inputs)


def test_options():
    x = leaf(3)
    assert gradcheck(lambda x: x**3, [x], eps=1e-4, rtol=1e-6, atol=1e-7)
    with pytest.raises(GradcheckError):  # the error of the differences is of the order of eps²
        gradcheck(lambda x: x**3, [x], eps=1e-2, rtol=1e-6, atol=1e-7)
