"""Pictures of whole runs: what is seen, what is drawn, and whether the numbers are right."""

from __future__ import annotations

import math
import re
import weakref
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import nn
import tensorgrad
from gpt.config import GPT2_SIZES, GPTConfig
from gpt.model import GPT
from tensorgrad import Tensor, graph
from tensorgrad.graph.files import _advise
from tensorgrad.mode import state, unusual
from tests import make_graphs
from tests.make_graphs import gpt, pictures, tokens

pytest.importorskip("graphviz", reason="the package graphviz is not installed")


@pytest.fixture(autouse=True)
def nobody_watches_afterwards():
    yield
    assert unusual == []
    assert state.watcher is None


def names(run: graph.Run) -> list[str]:
    return [step.op.name for step in run.steps]


def labels(picture) -> str:
    """All that stands in boxes and over clusters, without markup."""
    found = re.findall(r"label=<(.*?)>(?: \w+=|\]|\n)", picture.source)
    return "\n".join(re.sub(r"<[^>]*>", " ", text) for text in found)


def edges(picture) -> list[tuple[str, str]]:
    return re.findall(r"\t(\w+) -> (\w+)", picture.source)


# --- what is seen ---------------------------------------------------------------------------------


def test_operations_without_gradients_are_seen():
    x, mask = tensorgrad.ones(2, 3), tensorgrad.tensor([True, False, True])
    with graph.record(names={"x": x}) as run, tensorgrad.no_grad():
        y = tensorgrad.where(mask, x * 2, 0.5)
        n = y.argmax(1)
    assert names(run) == ["multiply", "where", "argmax"]
    first, where, last = run.steps
    assert first.inputs[0].names == ["x"]
    assert first.inputs[1] == 2
    assert where.inputs[1] is first.output
    assert (where.inputs[0].kind, where.inputs[2]) == ("input", 0.5)
    assert (last.output.shape, last.output.dtype) == ((2,), n.dtype)
    assert [step.source.rpartition(":")[0][-17:] for step in run.steps] == ["test_graph_run.py"] * 3
    assert run.outputs == [last.output]


def test_modules_parameters_buffers_inputs_constants():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
            self.register_buffer("shift", tensorgrad.ones(3))

        def forward(self, first, *, other):
            return self.inner(first) * tensorgrad.full((3,), 2.0) + self.shift * other

    x, y = tensorgrad.ones(2, 3), tensorgrad.ones(3)
    run = graph.trace(Scaled(), x, other=y)
    assert [(s.call.path, s.call.kind, s.op.name) for s in run.steps] == [
        ("inner.0", "Linear", "linear"),
        ("inner.1", "Tanh", "tanh"),
        ("", "Scaled", "multiply"),
        ("", "Scaled", "multiply"),
        ("", "Scaled", "add"),
    ]
    kinds = {v.kind: v.names for s in run.steps for v in s.inputs}
    assert kinds["buffer"] == ["shift"]
    assert kinds["constant"] == []
    given = [" = ".join(v.names) for v in run.steps[0].inputs]
    assert given == ["first", "inner.0.weight", "inner.0.bias"]
    assert run.steps[3].inputs[1].names == ["other"]
    assert run.outputs == [run.steps[-1].output]
    assert run.result.shape == (2, 3)
    text = labels(graph.draw(run))
    for word in ("first", "other", "shift", "constant", "0.weight", "inner", "output"):
        assert word in text
    assert [c.path for c in run.root.calls()][1:] == ["", "inner", "inner.0", "inner.1"]
    with pytest.raises(KeyError, match=r"no module 'outer' was called; those .*: '', 'inner'"):
        run.find("outer")


def test_other_names_of_the_same_memory_and_writes():
    x = tensorgrad.ones(3)
    with graph.record() as run:
        y = x * 2
        z = y.detach() + 1
        z += 5
        w = z * z
        w[0] = 1.0
        _ = w.sum()
    assert names(run) == ["multiply", "add", "add", "multiply", "setitem", "sum"]
    assert all(a.output in b.inputs for a, b in pairwise(run.steps))


def test_writes_with_history():
    x = tensorgrad.ones(3, requires_grad=True)
    with graph.record() as run:
        y = x * 2
        y[0] = 5.0
        loss = (y * y).sum()
        loss.backward()
    by_name = {s.op.name: s for s in run.steps}
    assert by_name["update_index"].output in run.steps[-2].inputs
    assert by_name["sum"].output.gradient == 1.0
    assert by_name["update_index"].output.gradient == pytest.approx(2 * math.sqrt(33))


class Both(tensorgrad.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1, (x * 2).exp()

    @staticmethod
    def backward(ctx, g, h):
        return g


class Double(tensorgrad.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


@pytest.mark.parametrize("recording", [True, False])
def test_functions_are_one_operation(recording):
    x = tensorgrad.ones(2, requires_grad=True)
    with tensorgrad.set_grad_enabled(recording), graph.record() as run:
        a, b = Both.apply(Double.apply(x))
        y = (a * b).sum()
        if recording:
            y.backward()
    assert names(run) == ["Double", "Both", "Both[0]", "Both[1]", "multiply", "sum"]
    assert run.steps[0].output in run.steps[1].inputs
    if recording:
        assert run.steps[0].gradients[0] == pytest.approx(x.grad.norm().item())
    assert edges(graph.draw(run))


def test_a_checkpoint_computes_nothing_new():
    layer = nn.Linear(3, 3)
    x = tensorgrad.ones(2, 3, requires_grad=True)
    with graph.record(layer) as run:
        tensorgrad.utils.checkpoint.checkpoint(lambda t: layer(t).tanh(), x).sum().backward()
    assert names(run) == ["linear", "tanh", "sum"]
    assert run.steps[0].gradients[1] == pytest.approx(layer.weight.grad.norm().item())


def test_an_error_leaves_nothing_behind():
    class Breaks(nn.Module):
        def forward(self, x):
            raise ArithmeticError

    model = nn.Sequential(nn.Tanh(), Breaks())
    with pytest.raises(ArithmeticError):
        graph.trace(model, tensorgrad.ones(1))
    fields = [item for m in model.modules() for item in vars(m).items()]
    assert not [name for name, value in fields if "hook" in name and value]

    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = model, nn.Tanh()

        def forward(self, x):
            try:
                return self.inner(x)
            except ArithmeticError:
                return self.last(x) + 1

    run = graph.trace(Tries(), tensorgrad.ones(1))
    assert [(s.call.path, s.op.name) for s in run.steps[1:]] == [("last", "tanh"), ("", "add")]


def test_memory_goes_as_ever():
    with graph.record() as run:
        y = tensorgrad.ones(3, requires_grad=True).exp()
        seen, node = weakref.ref(y), weakref.ref(y.node)
        del y
        assert seen() is None
        assert node() is None
    assert names(run) == ["exp"]


def test_traces_change_no_gradients():
    model = nn.Linear(2, 2)
    graph.trace(model, tensorgrad.ones(1, 2), backward=True)
    assert model.weight.grad is None


def test_a_long_chain():
    y = tensorgrad.ones(1)
    with graph.record(values=False) as run:
        for _ in range(20_000):
            y = -y
    assert len(run.steps) == 20_000
    assert len(edges(graph.draw(run))) == 20_001


# --- the numbers ----------------------------------------------------------------------------------


def test_values_are_those_of_the_tensors():
    model = nn.Sequential(nn.Linear(5, 4), nn.Softmax(-1), nn.Linear(4, 3))
    seen: dict[str, np.ndarray] = {}
    for path, module in model.named_children():
        keep = lambda m, args, y, path=path: seen.update({path: y.detach().numpy()})
        module.register_forward_hook(keep)
    x = tensorgrad.randn(6, 5)
    run = graph.trace(model, x)
    seen |= {name: p.detach().numpy() for name, p in model.named_parameters()}
    seen["x"] = x.numpy()
    values = {s.call.path: s.output for s in run.steps}
    values |= {v.names[0]: v for s in run.steps for v in s.inputs if v.names}
    assert values.keys() == seen.keys()
    source = graph.draw(run).source
    for path, value in values.items():
        array = seen[path].astype(np.float64)
        stats = value.stats
        found = (stats.mean, stats.std, stats.min, stats.max, stats.norm)
        wanted = (array.mean(), array.std(), array.min(), array.max(), np.linalg.norm(array))
        assert found == pytest.approx(wanted, rel=1e-12)
        assert value.shape == array.shape
        shown = f"{array.mean():.4g}, std {array.std():.4g}, {array.min():.4g} to {array.max():.4g}"
        assert shown in source


def test_nan_and_inf_are_counted():
    x = tensorgrad.tensor([1.0, float("nan"), float("inf"), -float("inf"), 3.0])
    with graph.record() as run:
        x * 1
        tensorgrad.tensor([float("nan")]) * 1
        tensorgrad.ones(0) * 1
    stats = [s.output.stats for s in run.steps]
    assert stats[0] == graph.Stats(2.0, 1.0, 1.0, 3.0, math.sqrt(10), 1, 2)
    assert str(stats[0]) == "mean 2, std 1, 1 to 3, 1 nan, 2 inf"
    assert stats[1].nan == 1
    assert stats[2] is None


def test_gradients_are_those_of_the_tensors():
    """The residual: what comes back over each arrow, and the sum of it."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 3)), rng.normal(size=(3, 3))
    tx, tw = tensorgrad.tensor(x, requires_grad=True), tensorgrad.tensor(w, requires_grad=True)
    with graph.record(names={"w": tw}) as run:
        h = tx * 1.0
        y = h + h @ tw
        z = y @ tw
        z.sum().backward()
    first, product, add, last, _ = run.steps
    g_y = np.ones((4, 3)) @ w.T
    via = g_y @ w.T
    norm = np.linalg.norm
    assert last.gradients == pytest.approx({0: norm(g_y), 1: norm((x + x @ w).T @ np.ones((4, 3)))})
    assert add.gradients == pytest.approx({0: norm(g_y), 1: norm(g_y)})
    assert product.gradients[0] == pytest.approx(norm(via))
    assert first.output.gradient == pytest.approx(norm(g_y + via))
    used = product.inputs[1]
    assert used is last.inputs[1]
    assert used.gradient == pytest.approx(norm(tw.grad.numpy()))  # the sum of both uses
    text = graph.draw(run, direction="backward").source
    for number in (norm(g_y), norm(via), norm(tw.grad.numpy()), norm(g_y + via)):
        assert f"{number:.2g}" in text


def test_gradients_of_a_model():
    model = gpt()
    x, y = tokens(), tensorgrad.tensor([[2, 3, 4, 5]])
    run = graph.trace(model, x, y, backward=True)
    model(x, y).backward()
    for name, p in model.named_parameters():
        value = next(v for v in run.parameters if name in v.names)
        assert value.gradient == pytest.approx(p.grad.norm().item(), rel=1e-5), name
    shut = labels(graph.draw(run, depth=1, direction="backward", fold=False))
    for block in model.blocks:
        total = math.sqrt(sum(p.grad.double().norm().item() ** 2 for p in block.parameters()))
        assert f"gradient {total:.2g}" in shut


def test_the_gradient_that_leaves_a_shut_module_is_the_sum():
    class Residual(nn.Module):
        def forward(self, x):
            return x + x * 2

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Residual()

        def forward(self, x):
            return self.inner(x * 1)

    x = tensorgrad.ones(16, requires_grad=True)
    run = graph.trace(Model(), x, backward=True)
    back = graph.draw(run, depth=1, direction="backward", legend=False).source
    assert re.findall(r"(\w+) -> (\w+) \[label=\"  ([^\"]*)\"", back) == [
        ("input_1", "multiply_1", "12"), ("multiply_1", "Residual_1", "12"),
        ("Residual_1", "output_1", "4"),
    ]  # fmt: skip
    inside = graph.draw(run, direction="backward", legend=False).source
    assert {'"  4"', '"  8"'} <= set(re.findall(r'label=("[^"]*")', inside))


def test_a_gradient_that_is_broadcast_zero_or_nan():
    x = tensorgrad.ones(3, requires_grad=True)
    with graph.record() as run:
        y = x + tensorgrad.ones(2, 3)  # 2 gradients of 1 for each element
        z = (y * 0).sum() + (x * float("nan")).sum()
        z.backward()
    assert run.steps[0].gradients == {0: 0.0}
    assert math.isnan(next(s for s in run.steps if math.isnan(s.gradients.get(0, 0))).gradients[0])
    source = graph.draw(run, direction="backward").source
    assert "style=dotted" in source
    assert "style=dashed" in source
    with graph.record() as run:
        (x + tensorgrad.ones(2, 3)).sum().backward()
    assert run.steps[0].gradients == pytest.approx({0: math.sqrt(12)})


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.stem for path in make_graphs.FOLDER.glob("*.dot")))
def test_golden(name):
    """If a change is meant: python tests/make_graphs.py, and look at the difference."""
    frozen = (make_graphs.FOLDER / f"{name}.dot").read_text(encoding="utf-8")
    assert drawn()[name] == frozen


def drawn(made: dict[str, str] = {}) -> dict[str, str]:  # noqa: B006
    if not made:
        made.update(pictures())
    return made


def test_equal_blocks_are_folded():
    run = graph.trace(gpt(4), tokens(), values=False)
    text = labels(graph.draw(run, depth=2))
    assert "blocks.0…3" in text
    assert "Block × 4" in text
    assert text.count("norm1") == 1
    every = labels(graph.draw(run, depth=2, fold=False))
    assert every.count("norm1") == 4
    assert " × " not in every


def test_different_blocks_are_not_folded():
    def folds(*layers, wiring=None) -> bool:
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList(layers)

            def forward(self, x):
                first = x
                for layer in self.layers:
                    x = wiring(layer, x, first) if wiring else layer(x)
                return x

        return " × " in labels(graph.draw(graph.trace(Model(), tensorgrad.ones(2, 4)), depth=1))

    assert folds(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    assert not folds(nn.Linear(4, 4), nn.Linear(4, 4, bias=False))
    assert not folds(nn.Linear(4, 4), nn.Linear(4, 5))
    assert not folds(nn.GELU(), nn.GELU("tanh"))
    assert not folds(nn.GELU(), nn.Tanh())
    assert folds(nn.GELU(), nn.GELU())

    class Skip(nn.Module):
        def forward(self, x, other):
            return x.exp() + other

    def chained(layer, x, first):
        return layer(x, first)

    assert folds(Skip(), Skip(), Skip(), wiring=chained)
    own = [tensorgrad.ones(4), tensorgrad.ones(4)]
    assert folds(Skip(), Skip(), wiring=lambda layer, x, first: layer(x, own[layer is own]))

    def crossed(layer, x, first, calls=[]):  # noqa: B006
        calls.append(layer)
        return layer(x, first) if len(calls) % 2 else layer(first, x)

    assert not folds(Skip(), Skip(), wiring=crossed)


@pytest.mark.parametrize(("swapped", "folds"), [((), True), ((1,), False), ((1, 2), True)])
def test_copies_take_the_same_results_of_the_one_before(swapped, folds):
    class Pair(nn.Module):
        def forward(self, a, b):
            return a.exp(), b.sin() + a

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Pair() for _ in range(3))

        def forward(self, a, b):
            for i, layer in enumerate(self.layers):
                a, b = layer(b, a) if i in swapped else layer(a, b)
            return a + b

    run = graph.trace(Model(), tensorgrad.ones(2), tensorgrad.ones(2))
    assert ("Pair × 3" in labels(graph.draw(run, depth=1))) == folds


def test_copies_have_no_arrows_among_themselves():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.GELU()) for _ in range(3)))
    run = graph.trace(model, tensorgrad.ones(2, 4))
    picture = graph.draw(run)
    assert edges(picture) == [
        ("input_1", "linear_1"), ("parameter_1", "linear_1"), ("linear_1", "gelu_1"),
        ("gelu_1", "output_1"),
    ]  # fmt: skip
    layer = lambda: nn.Sequential(nn.Linear(4, 4), nn.GELU())
    nested = nn.Sequential(*(nn.Sequential(layer(), nn.Tanh(), nn.Tanh()) for _ in range(2)))
    assert len(edges(graph.draw(graph.trace(nested, tensorgrad.ones(2, 4))))) == 5


def test_the_124m_gpt2_fits_on_a_page():
    """At depth 2, with the real wiring; the width does not matter to the picture."""
    layers, heads, _ = GPT2_SIZES["small"]
    model = GPT(GPTConfig(vocab_size=99, context=16, width=24, layers=layers, heads=heads))
    run = graph.trace(model, tensorgrad.zeros(1, 16, dtype=tensorgrad.int64), values=False)
    picture = graph.draw(run, depth=2, title="GPT-2")
    assert "Block × 12" in labels(picture)
    boxes = set(sum(edges(picture), ()))
    assert len(boxes) < 20
    pygraphviz = pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    laid = graph.files._laid_out(picture, "svg")
    assert pygraphviz
    width, height = map(float, re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', laid).groups())
    assert width < 595 * 1.4  # A4 is 595 x 842 points: 9-point text is still 6 points high
    assert height < 842 * 1.4


def test_tied_weights_stand_once_with_two_uses():
    run = graph.trace(gpt(1), tokens())
    for depth in (1, None):
        picture = graph.draw(run, depth=depth)
        assert labels(picture).count("token_embedding.weight = output.weight") == 1
        (box,) = re.findall(r"(\w+) \[label=<<b>token_embedding.weight = ", picture.source)
        assert len([end for start, end in edges(picture) if start == box]) == 2


def test_one_module():
    run = graph.trace(gpt(), tokens(), backward=True)
    picture = graph.draw(run, module="blocks.1.attention")
    text = labels(picture)
    assert "qkv.weight" in text
    assert "blocks" not in text
    assert "input" in text
    assert "output" in text
    assert text.count("linear") == 2
    back = graph.draw(run, module="blocks.1.attention", direction="backward")
    assert len(edges(back)) == len(edges(picture))


def test_depth_0_is_one_box():
    run = graph.trace(gpt(), tokens())
    assert edges(graph.draw(run, depth=0)) == [("input_1", "GPT_1"), ("GPT_1", "output_1")]


def test_checks_of_the_input_are_not_drawn():
    class Checked(nn.Module):
        def forward(self, x):
            assert x.max() < 5
            return x * 2

    run = graph.trace(Checked(), tensorgrad.tensor([1, 4]))
    assert {"max", "multiply"} <= set(names(run))
    assert "max_1" not in graph.draw(run).source
    assert "max_1" in graph.draw(run, unused=True).source


def test_what_cannot_be_drawn():
    run = graph.trace(nn.Tanh(), tensorgrad.ones(1))
    with pytest.raises(ValueError, match="no gradient was seen; trace"):
        graph.draw(run, direction="backward")
    with pytest.raises(ValueError, match="one of forward, backward, both, not 'up'"):
        graph.draw(run, direction="up")


def test_svg_has_tooltips(tmp_path: Path):
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    run = graph.trace(nn.Linear(2, 2), tensorgrad.tensor([[1.0, 3.0]]))
    svg = graph.render(graph.draw(run, title="A <b> & c"), tmp_path / "x.svg").read_text("utf-8")
    assert "mean 2, std 1, 1 to 3" in svg
    assert "test_graph_run.py:" in svg
    assert "A &lt;b&gt; &amp; c" in svg


def test_jupyter(monkeypatch, tmp_path):
    picture = graph.draw(graph.trace(nn.Tanh(), tensorgrad.ones(1)))
    monkeypatch.setenv("PATH", str(tmp_path))
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    assert "<svg" in picture._repr_mimebundle_()["image/svg+xml"]
    monkeypatch.setitem(__import__("sys").modules, "pygraphviz", None)
    _advise.cache_clear()
    with pytest.warns(UserWarning, match="no Graphviz"):
        assert picture._repr_mimebundle_() == {"text/plain": picture.source}
    _advise.cache_clear()


# --- the package ----------------------------------------------------------------------------------


def test_public_names():
    assert isinstance(graph.trace(nn.Tanh(), tensorgrad.ones(1)), graph.Run)
    assert all(hasattr(graph, name) for name in graph.__all__)
    assert Tensor is tensorgrad.Tensor
