"""explain: the parts of a gradient against closed forms, the backward pass and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nn
import tensorgrad
from gpt.config import GPTConfig
from gpt.model import GPT
from tensorgrad import autograd, explain, tensor
from tensorgrad.backend import kernels
from tensorgrad.core import registry
from tensorgrad.ops.samples import Source


def leaf(values, dtype="float64"):
    return tensor(values, dtype=dtype, requires_grad=True)


def contributions(why):
    return {(use.op, use.argument): use.contribution for use in why.uses}


# --- closed forms ---------------------------------------------------------------------------------


def test_every_use_has_its_share():
    """x³ + x e^x at 2: of the first 3 · 4 in three equal shares, of the second e^2 + 2 e^2."""
    x = leaf(2.0)
    loss = x * x * x + x * x.exp()
    why = explain(loss, x)
    assert sorted(use.op for use in why.uses) == ["exp"] + 4 * ["multiply"]
    e2 = math.exp(2)
    expected = sorted([4, 4, 4, e2, 2 * e2])
    assert sorted(use.contribution for use in why.uses) == pytest.approx(expected)
    assert why.gradient == pytest.approx(12 + 3 * e2)
    assert why.total == pytest.approx(why.gradient)
    assert why.adds_up
    assert why.finite_difference == pytest.approx(why.gradient, rel=1e-8)
    assert (why.value, why.loss) == (2.0, loss.item())
    assert x.grad is None


def test_paths_carry_the_local_derivatives():
    """loss = Σ_j (w x)_j² with w [2, 1]: of w_0 the one path is ×x ×2wx ×1."""
    w, x = leaf([[3.0], [4.0]]), leaf([[5.0]])
    loss = ((w @ x) ** 2).sum()
    why = explain(loss, w[0, 0])
    (path,) = why.paths
    assert [step.op for step in path.steps] == ["matmul", "power", "sum"]
    assert [step.derivative for step in path.steps] == [5, 30, 1]
    assert [step.gradient for step in path.steps] == [30, 1, 1]
    assert [step.index for step in path.steps] == [(0, 0), (0, 0), ()]
    assert path.contribution == why.gradient == 150


def test_paths_are_all_found_where_they_are_few_and_come_by_weight():
    a, b = leaf([1.0, -2.0]), leaf([[3.0, 1.0], [0.5, 2.0], [0.0, 7.0]])
    loss = (b @ (a * a)).exp().sum()
    why = explain(loss, a, 1, paths=20)
    # Through row r, by either factor: exp(b_r · a²) b_r1 a_1.
    rows = [math.exp(x + 4 * y) * y * -2 for x, y in b.tolist()]
    expected = sorted([*rows, *rows], key=lambda c: -abs(c))
    assert [p.contribution for p in why.paths] == pytest.approx(expected)
    assert sum(expected) == pytest.approx(why.gradient)
    assert [p.contribution for p in explain(loss, a, 1, paths=2).paths] == pytest.approx(
        expected[:2]
    )
    assert explain(loss, a, 1, paths=0).paths == []


def test_roads_are_the_paths_through_the_same_operations():
    """A residual block: x + tanh(W x), whose two roads are the identity and the branch."""
    x, w = leaf([0.5, -1.0]), leaf([[1.0, 2.0], [3.0, 0.5]])
    loss = (x + (w @ x).tanh()).square().sum()
    why = explain(loss, x[1], paths=50)
    slope = 1 - np.tanh(np.array([[1.0, 2.0], [3.0, 0.5]]) @ [0.5, -1.0]) ** 2
    y = np.array([0.5, -1.0]) + np.sqrt(1 - slope) * np.sign([-1.5, 1.0])
    assert {tuple(road.ops): road.contribution for road in why.roads} == {
        ("add", "square", "sum"): pytest.approx(2 * y[1]),
        ("matmul", "tanh", "add", "square", "sum"): pytest.approx((2 * y * slope) @ [2.0, 0.5]),
    }
    assert sum(r.contribution for r in why.roads) == pytest.approx(why.gradient)
    for road in why.roads:
        along = [p for p in why.paths if [s.number for s in p.steps] == road.numbers]
        assert sum(p.contribution for p in along) == pytest.approx(road.contribution)


def test_positions_are_those_of_the_batch_and_the_sequence():
    table = leaf([[1.0, 2.0], [3.0, 4.0]])
    tokens = tensor([[0, 1, 0], [1, 1, 0]])
    weights = tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype="float64")
    loss = (nn.functional.embedding(tokens, table).sum(-1) * weights).sum()
    (use,) = explain(loss, table[0, 1]).uses
    assert use.by_position.tolist() == [[1, 0, 3], [0, 0, 6]]
    assert use.shape == (2, 3, 2)
    assert use.contribution == 10
    assert "def test_positions" not in use.code
    assert "embedding(tokens, table)" in use.code


def test_views_are_looked_through():
    """The use is what computes with the element, not the transpose on the way there."""
    w = leaf([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    x = tensor([[1.0, 1.0], [2.0, 3.0]], dtype="float64")
    loss = (x @ w.T[1:].T).sum() + w.reshape(6)[2] * 7
    why = explain(loss, w[0, 2])
    assert {(u.op, u.through): u.contribution for u in why.uses} == {
        ("matmul", ("permute_dims", "getitem", "permute_dims")): 3,
        ("multiply", ("reshape", "getitem")): 7,
    }
    (use,) = [use for use in why.uses if use.op == "matmul"]
    assert use.by_position.tolist() == [1, 2]


# --- which element --------------------------------------------------------------------------------


def test_an_element_is_found_through_the_views_that_name_it():
    w = leaf(np.arange(24.0).reshape(2, 3, 4))
    loss = (w * w).sum()
    named = [
        w[1, 2, 0], w[1][2][0], w.T[0, 2, 1], w.reshape(4, 6)[3, 2], w[:, 2][1, :1], w[-1, -1, -4],
        w.view(24)[20:21], w[[1], [2], [0]],
    ]  # fmt: skip
    with tensorgrad.no_grad():
        named += [w[1, 2, 0], w[1].T[0, 2]]
    for element in named:
        why = explain(loss, element)
        assert why.index == (1, 2, 0)
        assert why.gradient == 40
    assert explain(loss, w, (1, 2, 0)).gradient == 40
    assert explain(loss, w[1], (2, 0)).gradient == 40
    assert explain(loss, w[0, 0, 0]).gradient == 0


def test_elements_of_results_can_be_explained_too():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    hidden = x @ x
    part = hidden[1]
    loss = (part * part).sum() + hidden.sum()
    why = explain(loss, part[0])
    assert why.gradient == 2 * 15
    assert (why.value, why.name) == (15, "the result of getitem")
    why = explain(loss, hidden[1, 0])
    assert why.gradient == 31
    assert why.finite_difference == pytest.approx(31)
    assert contributions(why) == {("multiply", "a"): 15, ("multiply", "b"): 15, ("sum", "x"): 1}
    assert explain(loss, loss).gradient == 1


def test_what_cannot_be_explained():
    x, other = leaf([1.0, 2.0]), leaf([1.0])
    loss = (x * x).sum()
    with pytest.raises(ValueError, match=r"which element of the tensor of shape \(2,\)"):
        explain(loss, x)
    with pytest.raises(ValueError, match="was not computed from this tensor"):
        explain(loss, other)
    with pytest.raises(ValueError, match="was not computed from this tensor"):
        explain(loss, x.clone(), 0)
    with pytest.raises(IndexError, match=r"explain: the tensor has the shape \(2,\)"):
        explain(loss, x, 2)
    with pytest.raises(TypeError, match="must be a tensor, not a float"):
        explain(loss, 1.0)
    for wrong in (x * x, x[0].detach(), 3.0 * tensor(1.0), leaf(1.0)):
        with pytest.raises(ValueError, match="a tensor of one element that operations"):
            explain(wrong, x, 0)


def test_the_graph_stays_as_it_is():
    x = leaf([1.0, 2.0])
    hidden = x * x
    hidden.retain_grad()
    calls = []
    hidden.register_hook(calls.append)
    loss = hidden.exp().sum()
    before = [explain(loss, x[0]).gradient for _ in range(2)]
    assert not calls
    assert x.grad is None
    assert hidden.grad is None
    loss.backward()
    assert before == [x.grad[0].item()] * 2
    assert len(calls) == 1
    with pytest.raises(RuntimeError, match=r"has freed what \w+, recorded at .*test_explain.py"):
        explain(loss, x[0])
    assert x.grad.tolist() == pytest.approx([2 * math.e, 4 * math.exp(4)])


# --- the sum is right for every operation ---------------------------------------------------------


@pytest.mark.parametrize("name", sorted(n for n in registry if registry[n].differentiable))
def test_parts_add_up_for_every_op(name):
    """And to what the backward pass gives, which for fused ops runs another formula."""
    op = registry[name]
    for args, params in op.samples(Source(seed=3)):
        leaves = [leaf(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
        tensors = [tensorgrad.from_numpy(a) if isinstance(a, np.ndarray) else a for a in leaves]
        y = op(*tensors, **params)
        if not y.requires_grad or not y.numel():
            continue
        loss = (y * tensor(np.cos(np.arange(y.numel())).reshape(y.shape), dtype="float64")).sum()
        if not np.isfinite(loss.item()):
            continue
        for x in tensors:
            if isinstance(x, tensorgrad.Tensor) and x.requires_grad and x.numel():
                (expected,) = tensorgrad.grad(loss, x, retain_graph=True)
                at = np.unravel_index(x.numel() // 2, x.shape)
                why = explain(loss, x, tuple(map(int, at)), paths=0)
                assert why.gradient == pytest.approx(expected[at].item(), rel=1e-10, abs=1e-12)
                assert why.total == pytest.approx(why.gradient, rel=1e-9, abs=1e-11)
                parts = [np.sum(use.by_position) for use in why.uses]
                assert sum(parts) == pytest.approx(why.gradient, rel=1e-9, abs=1e-11)


# --- functions of the user ------------------------------------------------------------------------


class Pair(autograd.Function):
    """Two results, and a backward of recorded operations."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x, factor * x

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        return 2 * x * g + ctx.factor * h, None


class ByNumpy(autograd.Function):
    """x² with a backward that no derivative leads through."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach().numpy()
        return x * x

    @staticmethod
    @autograd.function.once_differentiable
    def backward(ctx, g):
        return tensorgrad.from_numpy(2 * ctx.x * g.numpy())


class Clipping(ByNumpy):
    """A backward that is not linear in the gradient."""

    @staticmethod
    def backward(ctx, g):
        return g.clamp(-1.0, 1.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_the_user(dtype):
    x = leaf([[1.0, 2.0], [3.0, 4.0]], dtype)

    def loss():
        a, b = Pair.apply(x, 5)
        return (a * b).sum() + ByNumpy.apply(x * 2).sum()

    why = explain(loss(), x[1, 1])  # 15 x² + 8 x
    assert why.gradient == pytest.approx(240 + 32)
    assert contributions(why) == {
        ("Pair[0]", "x"): 160, ("Pair[1]", "x"): 80, ("multiply", "a"): 32,
    }  # fmt: skip
    assert why.adds_up
    assert why.paths[0].contribution == 160
    assert why.finite_difference is None
    assert "does not keep what" in why.no_difference
    assert explain(loss, x[1, 1]).finite_difference == pytest.approx(272, rel=1e-6)


def test_a_backward_that_is_not_linear_is_found_out():
    x = leaf([3.0])
    why = explain(lambda: (Clipping.apply(x) * 9).sum(), x)
    assert not why.adds_up
    assert "and not to it" in str(why)


def test_a_wrong_kernel_is_found_out(monkeypatch):
    """The gradient comes from the kernel, the parts from the composite that it stands for."""
    right = kernels.find("linear")

    def vjp(g, inputs, saved, needs):
        x, weight, bias = right.vjp(g, inputs, saved, needs)
        return x, 1.001 * np.asarray(weight), bias

    w = leaf([[1.0, 2.0], [3.0, 4.0]])
    loss = nn.functional.linear(leaf([[5.0, 6.0]]), w).exp().log().sum()
    assert explain(loss, w[0, 1]).adds_up
    monkeypatch.setitem(kernels._table, "linear", kernels.Kernel(right.forward, vjp))
    why = explain(nn.functional.linear(leaf([[5.0, 6.0]]), w).exp().log().sum(), w[0, 1])
    assert not why.adds_up
    assert (why.total, why.gradient) == (pytest.approx(6), pytest.approx(6.006))


def test_checkpoints():
    x = leaf([[1.0, 2.0]])
    loss = tensorgrad.utils.checkpoint.checkpoint(lambda t: t.exp().sin(), x).sum()
    why = explain(loss, x[0, 1])
    assert why.gradient == pytest.approx(math.cos(math.exp(2)) * math.exp(2))
    loss.backward()
    assert x.grad[0, 1].item() == pytest.approx(why.gradient)


# --- finite differences ---------------------------------------------------------------------------


def test_without_the_constants_the_text_says_so():
    x = leaf([1.0, 2.0])

    def loss():
        return ((x + 1) * (x * 3)).sum()

    why = explain(loss(), x[0])
    assert why.finite_difference is None
    assert "no finite difference: the graph does not keep the constant that add" in str(why)
    assert explain(loss, x[0]).finite_difference == pytest.approx(9, rel=1e-9)
    total = (x * x).sum()
    with tensorgrad.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match="overwritten in place since"):
        explain(total, x[0])
    total = (x + x).sum()
    with tensorgrad.no_grad():
        x += 1
    assert "was overwritten since" in explain(total, x[0]).no_difference


def test_differences_are_of_float64_whatever_was_recorded():
    x = leaf([1.0, 2.0], "float32")
    loss = ((x * 0.1).double().float().exp() / 3).sum()
    why = explain(loss, x[1])
    assert why.finite_difference == pytest.approx(0.1 * math.exp(0.2) / 3, rel=1e-7)
    assert why.gradient == pytest.approx(why.finite_difference, rel=1e-6)


# --- a GPT ----------------------------------------------------------------------------------------


def trained(tied, steps=10, dtype="float64", dropout=0.0, positions="learned", **shape):
    """A small GPT after some steps, and a function that computes its loss."""
    tensorgrad.manual_seed(1)
    shape = {"vocab_size": 20, "context": 6, "width": 8, "layers": 2, "heads": 2, **shape}
    model = GPT(GPTConfig(tied=tied, dropout=dropout, positions=positions, **shape))
    model.to(dtype)
    rng = np.random.default_rng(0)
    tokens = tensor(rng.integers(0, shape["vocab_size"], (2, shape["context"] + 1)))
    optimizer = tensorgrad.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(tokens[:, :-1], tokens[:, 1:]).backward()
        optimizer.step()
    return model, lambda: model(tokens[:, :-1], tokens[:, 1:])


def check_elements(model, loss, count, tolerance=1e-6):
    loss = loss()
    parameters = list(model.parameters())
    gradients = tensorgrad.grad(loss, parameters, retain_graph=True)
    rng = np.random.default_rng(2)
    sizes = np.array([p.numel() for p in parameters])
    for _ in range(count):
        k = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        at = tuple(int(rng.integers(n)) for n in parameters[k].shape)
        why = explain(loss, parameters[k], at, paths=0)
        found = gradients[k][at].item()
        # Those that are 0 but for rounding, as of key biases, have no relative error.
        floor = 1e-15 if tolerance < 1e-5 else 1e-7
        assert why.adds_up
        assert math.isclose(why.total, why.gradient, rel_tol=1e-6, abs_tol=1e-15)
        assert math.isclose(why.total, found, rel_tol=tolerance, abs_tol=floor)
        assert math.isclose(why.finite_difference, why.gradient, rel_tol=1e-3, abs_tol=1e-7)


@pytest.mark.parametrize("tied", [True, False])
def test_random_elements_of_a_gpt(tied):
    check_elements(*trained(tied), count=20)


def test_random_elements_of_a_gpt_of_float32():
    check_elements(*trained(True, dtype="float32"), count=10, tolerance=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_200_random_elements_of_a_larger_gpt(tied):
    shape = {"vocab_size": 65, "context": 32, "width": 32, "layers": 3, "heads": 4}
    check_elements(*trained(tied, steps=50, **shape), count=200)


def test_dropout_is_replayed_with_the_same_masks():
    _, loss = trained(True, dropout=0.5)
    model, loss = trained(True, dropout=0.5)
    why = explain(loss, model.token_embedding.weight[3, 2])
    assert why.finite_difference == pytest.approx(why.gradient, rel=1e-4)


def test_the_tied_embedding_has_two_roads():
    model, loss = trained(True)
    weight = model.token_embedding.weight
    why = explain(loss(), weight[7, 3], names=model)
    assert sorted(contributions(why)) == [("linear", "weight"), ("take_rows", "table")]
    assert all(use.module == "token_embedding = output" for use in why.uses)
    assert [use.by_position.shape for use in why.uses] == [(2, 6), (2, 6)]
    untied, loss = trained(False)
    why = explain(loss(), untied.output.weight[7, 3], names=untied)
    assert sorted(contributions(why)) == [("linear", "weight")]
    assert why.uses[0].module == "output"
    assert why.name == "output.weight"


def test_constant_positions_need_the_function():
    model, loss = trained(True, positions="sinusoidal")
    assert explain(loss(), model.norm.weight[0]).finite_difference is None
    why = explain(loss, model.norm.weight[0])
    assert why.finite_difference == pytest.approx(why.gradient, rel=1e-5)


# --- text and picture -----------------------------------------------------------------------------


def test_the_text():
    w = leaf([[3.0], [4.0]])
    w.name = "w"
    loss = ((w @ leaf([[5.0]])) ** 2).sum()
    lines = str(explain(loss, w[0, 0])).splitlines()
    assert lines[:2] == ["d loss / d w[0, 0] = 150", "    at w[0, 0] = 3, where the loss is 625"]
    assert lines[2].startswith("    finite difference: 150 (off by")
    assert lines[3] == "    the parts below add up to it"
    assert lines[6] == "         +150  matmul (as a)"
    assert lines[7].endswith("loss = ((w @ leaf([[5.0]])) ** 2).sum()")
    assert lines[9:] == [
        "by road, operation by operation (the heaviest that were followed; together 150)",
        "         +150  matmul → power → sum",
        "",
        "by path, element by element (the heaviest that were followed; together 150)",
        "         +150  ×5 matmul[0, 0] → ×30 power[0, 0] → ×1 sum",
    ]


def test_the_picture():
    pytest.importorskip("graphviz", reason="the package graphviz is not installed")
    a = leaf([1.0, -2.0])
    a.name = "a<b>"
    loss = (a * a).reshape(1, 2).exp().sum()
    picture = explain(loss, a[1]).graph("Why?").source
    assert "<b>Why?</b>" in picture
    assert "<b>a&lt;b&gt;[1]</b>" in picture
    assert picture.count("×-2") == 1  # both factors are one arrow
    assert picture.count(" -> ") == 4
