"""Complaints: the right exception, and one sentence that names the op, the shapes and the clash."""

from __future__ import annotations

import inspect
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import nn
import tensorgrad
from tensorgrad import arange, ones, ops, tensor, zeros
from tensorgrad.core import op
from tensorgrad.node import recorded
from tensorgrad.source import line

X = zeros(2, 3)

COMPLAINTS = [
    # shapes
    (lambda: X + zeros(2), RuntimeError,
     "add: shapes (2, 3) and (2,) do not broadcast: dimension -1 is 3 against 2; sizes must be "
     "equal or 1"),
    (lambda: zeros(4) / X, RuntimeError, "divide: shapes (4,) and (2, 3) do not broadcast"),
    (lambda: zeros(2, 3, 4) < zeros(3, 3, 1), RuntimeError, "dimension -3 is 2 against 3"),
    (lambda: tensorgrad.where(X > 0, zeros(3, 3), 0.0), RuntimeError,
     "where: shapes (2, 3) and (3, 3) do not broadcast: dimension -2 is 2 against 3"),
    (lambda: X @ X, RuntimeError, "matmul: shapes (2, 3) and (2, 3) do not fit: the first has 3 "
                                  "columns and the second 2 rows"),
    (lambda: X @ zeros(2), RuntimeError, "the first has 3 columns and the second 2 rows"),
    (lambda: zeros(3, 2, 3) @ zeros(2, 3, 2), RuntimeError,
     "batch dimensions (3,) and (2,) do not broadcast"),
    (lambda: X @ tensor(2.0), RuntimeError, "at least one dimension; * multiplies by a number"),
    (lambda: X.reshape(4), RuntimeError, "shape [4] is invalid for a tensor of 6 elements"),
    (lambda: X.reshape(-1, 4), RuntimeError, "shape [-1, 4] is invalid for a tensor of 6 elements"),
    (lambda: X.expand(3, 3), RuntimeError, "expand: shape (2, 3) does not expand to (3, 3)"),
    (lambda: X.permute(0, 0), RuntimeError, "permute: [0, 0] is no order of the 2 dims"),
    (lambda: X.flatten(1, 0), RuntimeError, "flatten: start_dim 1 comes after end_dim 0"),
    (lambda: X.narrow(1, 2, 2), RuntimeError, "narrow: start 2 and length 2 do not lie in dim 1 of "
                                              "shape (2, 3)"),
    (lambda: X.split([1, 1], 1), RuntimeError, "split: sizes of [1, 1] do not add up to 3"),
    (lambda: tensorgrad.stack([X, zeros(2)]), RuntimeError,
     "stack: shapes must be equal, got [[2, 3], [2]]"),
    (lambda: tensorgrad.cat([X, zeros(2, 2)]), RuntimeError,
     "cat: shapes (2, 3) and (2, 2) must be equal but for the size of dim 0"),
    (lambda: tensorgrad.cat([]), ValueError, "cat: expected at least one tensor"),
    (lambda: X.topk(4), RuntimeError, "topk: k is 4 but dim -1 of (2, 3) has 3 elements"),
    (lambda: X.gather(0, arange(3)), RuntimeError, "got shapes (3,) and (2, 3)"),
    (lambda: X.gather(1, arange(4).reshape(1, 4)), RuntimeError,
     "gather: index 3 is out of range for dim 1 of size 3"),
    (lambda: zeros(3).tril(), RuntimeError, "tril: needs two dims or more, this tensor has 1"),
    (lambda: X.item(), RuntimeError, "item() needs a single element, this tensor has 6"),
    (lambda: bool(X), RuntimeError, "the truth of a tensor of 6 elements is ambiguous"),
    (lambda: zeros(0, 3).argmax(0), IndexError, "argmax: nothing to choose from in shape (0, 3)"),
    (lambda: zeros(0).max(), RuntimeError, "max of shape (0,)"),
    (lambda: X.clone().add_(zeros(4, 2, 3)), RuntimeError,
     "add_: the result of shape (4, 2, 3) does not fit in place into a tensor of shape (2, 3)"),
    (lambda: X.clone().__setitem__(0, ones(2)), RuntimeError, "an assignment to an index of shape"),
    # dims and indices
    (lambda: X.sum(2), IndexError,
     "dim 2 is out of range for a tensor of shape (2, 3): expected -2 to 1"),
    (lambda: X.unsqueeze(4), IndexError, "dim 4 is out of range"),
    (lambda: X.softmax(-3), IndexError, "dim -3 is out of range for a tensor of shape (2, 3)"),
    (lambda: X[2], IndexError, "getitem of shape (2, 3): index 2 is out of bounds"),
    (lambda: X[0, 0, 0], IndexError, "getitem of shape (2, 3): too many indices"),
    (lambda: X[0.5], IndexError, "not by float"),
    (lambda: X[tensor(0.5)], IndexError, "not float32"),
    (lambda: X[tensor([True, False, True])], IndexError,
     "a mask of shape (3,) does not fit a tensor of shape (2, 3) at dim 0, where it is (2,)"),
    (lambda: zeros(()).unbind(), IndexError, "a 0-dim tensor has no dim"),
    # dtypes
    (lambda: arange(3).mean(), RuntimeError, "mean: needs a float dtype, not tensorgrad.int64"),
    (lambda: arange(3).var(), RuntimeError, "var: needs a float dtype, not tensorgrad.int64"),
    (lambda: arange(3).requires_grad_(), RuntimeError, "only tensors of a float dtype can require"),
    (lambda: -tensor([True]), RuntimeError, "negative: bools are no numbers; ~ negates them"),
    (lambda: tensor([True]) - tensor([True]), RuntimeError, "subtract: bools are no numbers"),
    (lambda: ~X, TypeError, "~ is for integers and bools, not for"),
    (lambda: arange(3) ** -1, RuntimeError, "integers have no power -1"),
    (lambda: arange(3).add_(0.5), RuntimeError,
     "add_: a result of tensorgrad.float32 cannot be stored in place in a tensor of tensorgrad."),
    (lambda: X.masked_fill(X, 0), RuntimeError, "masked_fill: the mask must be of dtype bool, not "
                                                "tensorgrad.float32"),
    # what is no tensor
    (lambda: X + None, TypeError, "add: expected a tensor or a number, got NoneType"),
    (lambda: [1, 2] * X, TypeError, "multiply: expected a tensor or a number, got list; "
                                    "tensorgrad.tensor(...) makes a tensor"),
    (lambda: X * 1j, TypeError, "multiply: expected a tensor or a number, got complex"),
    (lambda: X + np.array(["a"])[0], TypeError, "add: expected a tensor or a number, got str"),
    (lambda: tensorgrad.exp(X, 3), TypeError, "exp takes no 2 arguments"),
    (lambda: tensorgrad.maximum(X), TypeError, "missing 1 required positional argument: 'b'"),
    (lambda: X.__setitem__(0, None), TypeError, "float32 cannot hold a NoneType"),
    (lambda: tensor([[1, 2], [3]]), ValueError, "tensor: the nested lists are ragged"),
    (lambda: tensor("a"), TypeError, "tensors have no dtype <U1"),
    (lambda: tensor([1, None]), RuntimeError, "tensor: no dtype holds NoneType, int"),
    (lambda: X.to("complex64"), TypeError, "tensors have no dtype complex64; they have bool"),
    (lambda: tensorgrad.from_numpy([1]), TypeError, "from_numpy: expected an array, got list"),
    (lambda: X.sum().requires_grad_().backward(1.0), TypeError,
     "backward: a gradient must be a tensor, not float"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "sentence"), COMPLAINTS)
def test_complaint(call, kind, sentence):
    with pytest.raises(kind) as error:
        call()
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__ or not error.value.__context__


def test_a_complaint_comes_from_the_backward_pass_too():
    with pytest.raises(RuntimeError, match=r"gradient has shape \(3,\) and the tensor \(2, 3\)"):
        X.clone().requires_grad_().backward(ones(3))


# --- lines of the user's program ------------------------------------------------------------------


def here():
    """``file:line`` of the caller."""
    frame = inspect.currentframe().f_back
    return f"tests/test_errors.py:{frame.f_lineno}"


def test_every_node_knows_its_line():
    x = ones(3).requires_grad_()
    direct, line = x.exp(), here()
    assert direct.grad_fn.source.replace(os.sep, "/") == line
    operator, line = x * 2, here()
    assert operator.grad_fn.source.replace(os.sep, "/") == line
    composed, line = x.std(), here()  # by ops inside tensorgrad
    assert {n.source.replace(os.sep, "/") for n in recorded([composed])} == {line}
    layer = nn.Linear(3, 2)
    layered, line = layer(x), here()  # by ops inside nn
    assert layered.grad_fn.source.replace(os.sep, "/") == line
    (g,), line = tensorgrad.grad(x.exp().sum(), x, create_graph=True), here()
    assert g.grad_fn.source.replace(os.sep, "/") == line
    assert x.grad_fn is None


def test_lines_of_code_without_a_file():
    names = {"x": ones(3).requires_grad_()}
    exec(compile("\n\ny = x.exp()", "<typed>", "exec"), names)
    assert names["y"].grad_fn.source == "<typed>:3"
    exec(compile("y = (x\n  *\n  x)", "<typed>", "exec"), names)
    assert names["y"].grad_fn.source == "<typed>:1"  # where the expression begins
    assert line(None, 0) == "an unknown line"


def test_lines_of_cells_have_their_labels(monkeypatch):
    """The file that Jupyter compiles a cell under is no place that a user knows."""
    cells = {"kernel_7/12.py": ("Cell", "In[3]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=cells.get))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    names = {"x": ones(3).requires_grad_()}
    for file, wanted in (("kernel_7/12.py", "In[3]:2"), ("<typed>", "<typed>:2")):
        exec(compile("\ny = x.exp()", file, "exec"), names)
        assert names["y"].grad_fn.source == wanted


def test_a_value_overwritten_in_place_names_both_lines():
    x = ones(3).requires_grad_()
    y = x * 1
    z, saved_at = y.exp() * y, here()
    y[0], written_at = 5.0, here()
    with pytest.raises(RuntimeError) as error:
        z.sum().backward()
    message = str(error.value).replace(os.sep, "/")
    assert f"the backward pass of multiply (output shape (3,)), recorded at {saved_at}" in message
    assert f"an assignment to an index has overwritten in place since, at {written_at}" in message
    assert "\n" not in message


def test_a_freed_graph_names_its_line():
    x = ones(3).requires_grad_()
    y, recorded_at = x.exp(), here()
    y.sum().backward()
    with pytest.raises(RuntimeError) as error:
        y.sum().backward()
    assert str(error.value).replace(os.sep, "/") == (
        f"backward a second time through exp, recorded at {recorded_at}, whose saved values are "
        "freed; pass retain_graph=True to the first backward to keep them"
    )


# --- what an op's author gets wrong ---------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """A registry in which new ops may be entered for the time of a test."""
    registry = dict(tensorgrad.core.registry)
    monkeypatch.setattr(tensorgrad.core, "registry", registry)
    return registry


def samples(source):
    yield (source.normal(3),), {}


def test_an_op_is_registered_once(registry):
    with pytest.raises(ValueError, match="the op exp is registered twice"):

        @op(samples=samples)
        def exp(xp, x):
            return xp.exp(x)


def test_an_op_needs_samples():
    with pytest.raises(TypeError, match="samples"):
        op()


def test_a_formula_names_values_that_there_are(registry):
    @op(samples=samples)
    def twice(xp, x):
        return 2 * x

    assert registry["twice"] is twice.op
    x = ones(3).requires_grad_()
    with pytest.raises(RuntimeError, match="does not require grad"):
        twice(x).sum().backward()  # no vjp, so nothing was recorded
    twice.vjp(lambda xp, g, z: 2 * g)
    with pytest.raises(TypeError, match="a vjp of twice names 'z', which is none of its values"):
        twice(x)


def test_an_argument_without_a_formula_is_not_silently_constant(registry):
    @op(samples=samples, promotes="same")
    def half_known(xp, a, b):
        return a * b

    half_known.vjp(lambda xp, g, b: g * b, None)
    x = ones(3).requires_grad_()
    half_known(x, ones(3)).sum().backward()
    with pytest.raises(RuntimeError, match="half_known has no derivative with respect to 'b'"):
        half_known(ones(3), x)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        half_known.vjp(lambda xp, g: g)


def test_ops_have_a_repr():
    assert repr(ops.exp.op) == "<op exp>"
    x = ones(2, 3).requires_grad_()
    assert repr(x.exp().grad_fn) == "<exp [2, 3]>"
