"""Pictures of recorded graphs: what is drawn, what is written, what happens without Graphviz."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tensorgrad
from tensorgrad import Tensor, graph, ops
from tensorgrad.graph import draw, render

pytest.importorskip("graphviz", reason="the package graphviz is not installed")


def leaf(*shape: int, name: str | None = None) -> Tensor:
    made = tensorgrad.ones(*shape).requires_grad_()
    made.name = name
    return made


def without_lines(source: str) -> str:
    """DOT text with LINE for every place in this file."""
    return re.sub(r'[^\\"]*test_graph\.py:\d+', "nLINE", source)


def arrows(picture) -> list[tuple[str, str, str]]:
    """(start, end, label) of every edge, in the order of the text."""
    edge = re.compile(r'\t(\w+) -> (\w+)(?: \[(?:label=" ([^"]*)")?[^\]]*\])?\n')
    return [(start, end, label or "") for start, end, label in edge.findall(picture.source)]


def boxes(picture) -> dict[str, str]:
    """The text in every box, one line per line."""
    found = re.findall(r"\t(\w+) \[label=<(.*)>[^>]*\]\n", picture.source)
    lines = {name: re.sub(r"<br[^>]*/>", "\n", label).strip() for name, label in found}
    return {
        name: re.sub(r" *\n *", "\n", re.sub(r"<[^>]*>", "", label)).strip()
        for name, label in lines.items()
    }


# --- what is drawn --------------------------------------------------------------------------------

GOLDEN = """\
digraph tensorgrad {
	graph [fontcolor="#1a1a1a" fontname="Helvetica,Arial,sans-serif" fontsize=14 labelloc=t \
nodesep=0.2 rankdir=TB ranksep=0.3]
	node [color="#0072B2" fillcolor="#DCEBF7" fontcolor="#1a1a1a" \
fontname="Helvetica,Arial,sans-serif" fontsize=11 height=0.3 margin="0.12,0.06" ordering=in \
shape=box style="rounded,filled"]
	edge [arrowsize=0.6 color="#555555" fontcolor="#555555" \
fontname="Helvetica,Arial,sans-serif" fontsize=9 weight=4]
	label=<<b>A layer</b>>
	linear_1 [label=<<b>linear</b>> tooltip="linear\\nfloat32 4×2\\nLINE"]
	leaf_1 [label=<<b>leaf</b> <font point-size="9" color="#555555">4×3</font>> color="#E69F00" \
fillcolor="#FDF0D5" fontsize=10 tooltip="float32 4×3"]
	leaf_2 [label=<<b>fc.weight</b> <font point-size="9" color="#555555">2×3</font><br \
align="left"/><b>fc.bias</b> <font point-size="9" color="#555555">2</font><br align="left"/>> \
color="#E69F00" fillcolor="#FDF0D5" fontsize=10 tooltip="fc.weight\\nfloat32 \
2×3\\nfc.bias\\nfloat32 2"]
	reshape_1 [label=<<b>reshape</b><br/> <font point-size="9" color="#555555">shape=8</font> > \
fillcolor=white tooltip="reshape\\nfloat32 8\\nLINE"]
	gelu_1 [label=<<b>gelu</b><br/> <font point-size="9" color="#555555">approximate=tanh</font> \
> tooltip="gelu\\nfloat32 8\\nLINE"]
	leaf_1 -> linear_1 [color="#E69F00" tooltip="float32 4×3" weight=1]
	leaf_2 -> linear_1 [color="#E69F00" tooltip="fc.weight\\nfloat32 2×3" weight=1]
	linear_1 -> reshape_1 [label=" 4×2" labeltooltip="float32 4×2" tooltip="float32 4×2"]
	reshape_1 -> gelu_1 [label=" 8" labeltooltip="float32 8" tooltip="float32 8"]
	output_1 [label=<<b>output</b> <font point-size="9" color="#555555">8</font>> \
color="#009E73" fillcolor="#D5F0E6" penwidth=2 tooltip="float32 8"]
	gelu_1 -> output_1
}
"""


def layer() -> tuple[Tensor, dict[str, Tensor]]:
    x, w, b = leaf(4, 3), leaf(2, 3), leaf(2)
    y = ops.gelu(ops.linear(x, w, b).reshape(8), approximate="tanh")
    return y, {"fc.weight": w, "fc.bias": b}


def test_golden():
    y, names = layer()
    assert without_lines(draw(y, names, title="A layer").source) == GOLDEN
    y.sum().backward()  # the saved values are gone
    assert without_lines(draw(y, names.items(), title="A layer").source) == GOLDEN
    again, names = layer()
    assert without_lines(draw([again], iter(names.items()), title="A layer").source) == GOLDEN


def test_edges_carry_the_shapes_of_the_tensors():
    steps = [leaf(2, 3, 4) * 2.0]
    for step in (
        lambda x: x.reshape(6, 4),
        lambda x: x.transpose(0, 1),
        lambda x: x @ leaf(6, 5),
        lambda x: x.unsqueeze(1),
        lambda x: tensorgrad.cat([x, x], 1),
        lambda x: x[:, :0],
        lambda x: x.sum(),
        lambda x: x.exp(),
    ):
        steps.append(step(steps[-1]))
    found = {(start, end): label for start, end, label in arrows(draw(steps[-1]))}
    names = ["multiply_1", "reshape_1", "swapaxes_1", "matmul_1", "expand_dims_1", "concat_1"]
    names += ["getitem_1", "sum_1", "exp_1"]
    shapes = ["2×3×4", "6×4", "4×6", "4×5", "4×1×5", "4×2×5", "4×0×5", "scalar"]
    for step, start, end, shape in zip(steps, names, names[1:], shapes):
        assert shape == ("×".join(str(n) for n in step.shape) or "scalar")
        assert found[start, end] == shape
    assert found["exp_1", "output_1"] == ""  # the boxes of leaves and results say theirs
    assert boxes(draw(steps[-1]))["output_1"] == "output scalar"


def test_a_tied_leaf_appears_once():
    w, table = leaf(2, 2, name="w"), leaf(5, 2)
    h = ops.linear(ops.take_rows(table, tensorgrad.tensor([0, 1])), w, leaf(2))
    y = ops.linear(ops.linear(h, w, leaf(2)), table, None)
    picture = draw(y, [("wte", table), ("head", table)])
    text = list(boxes(picture).values())
    assert text.count("w 2×2") == 1
    assert text.count("wte = head 5×2") == 1
    assert text.count("leaf 2") == 2  # the biases, which are nobody else's
    uses = [(boxes(picture)[start], end) for start, end, _ in arrows(picture)]
    assert [end for start, end in uses if start == "w 2×2"] == ["linear_1", "linear_2"]
    assert [end for start, end in uses if start == "wte = head 5×2"] == ["take_rows_1", "linear_3"]


def test_both_arguments_the_same():
    x = leaf(3)
    assert arrows(draw(x * x))[:2] == [("leaf_1", "multiply_1", "")] * 2
    h = x.exp()
    assert arrows(draw(h * h))[1:3] == [("exp_1", "multiply_1", "3")] * 2


def test_constants_are_not_drawn():
    picture = draw(tensorgrad.ones(4, 3) @ leaf(3, 2) + 1.0)
    assert list(boxes(picture)) == ["matmul_1", "leaf_1", "add_1", "output_1"]


def test_names():
    x, y = leaf(2, name="own"), leaf(2)
    h = x * y
    total = h.sum()
    picture = draw(total, {"given": x, "h": h, "loss": total})
    assert boxes(picture) == {
        "multiply_1": "multiply",
        "leaf_1": "given 2",
        "leaf_2": "leaf 2",
        "sum_1": "sum",
        "output_1": "loss scalar",
    }
    assert ("multiply_1", "sum_1", "h 2") in arrows(picture)
    total.name = "E"
    unnamed = boxes(draw(total, {"": x}))
    assert (unnamed["leaf_1"], unnamed["output_1"]) == ("own 2", "E scalar")


def test_awkward_names_are_text():
    """No markup and no escapes, in boxes and on arrows; a real parser sees this further down."""
    x = leaf(2)
    h = x.exp()
    source = draw(h.sum(), {"<b>&\\N": x, "<\\N": h}).source
    assert "<b>&lt;b&gt;&amp;\\\\N</b>" in source
    assert 'label=" <\\\\N 2"' in source


def test_several_results():
    x = leaf(3)
    h = x.exp()
    picture = draw([h.sum(), h, x])
    assert [a for a in arrows(picture) if a[1].startswith("output")] == [
        ("sum_1", "output_1", ""),
        ("exp_1", "output_2", ""),
        ("leaf_1", "output_3", ""),
    ]
    assert len(boxes(picture)) == 6


def test_a_weight_that_is_a_result_has_its_own_box():
    w, b = leaf(2, 3), leaf(2)
    picture = draw([ops.linear(tensorgrad.ones(4, 3), w, b), w])
    assert sorted(boxes(picture)) == ["leaf_1", "leaf_2", "linear_1", "output_1", "output_2"]


X = leaf(2, 3)


@pytest.mark.parametrize(
    ("compute", "text"),
    [
        (lambda: X.sum(), "sum"),
        (lambda: X.sum(1), "sum\naxis=1"),
        (lambda: X.mean((0, -1), keepdim=True), "mean\naxis=(0, 1), keepdims"),
        (lambda: X.reshape(3, -1), "reshape\nshape=3×-1"),
        (lambda: X.permute(1, 0), "permute_dims\naxes=(1, 0)"),
        (lambda: X[0], "getitem\nindex=0"),
        (lambda: X[:, None, 1:2], "getitem\nindex=(:, None, 1:2)"),
        (lambda: X[..., ::2], "getitem\nindex=(..., ::2)"),
        (lambda: X[tensorgrad.tensor([0, 1, 1])], "getitem\nindex=int64 3"),
        (lambda: X[(None,) * 30], "getitem\nindex=(None, None, None, None, None, No…"),
        (lambda: X.double(), "astype\ndtype=float64"),
        (lambda: X.var(unbiased=False), "var\ncorrection=0"),
        (lambda: ops.gelu(X), "gelu"),
        (lambda: ops.layer_norm(X, None, None, 1e-5), "layer_norm"),
        (lambda: ops.layer_norm(X, None, None, 1e-6), "layer_norm\neps=1e-06"),
        (
            lambda: ops.scaled_dot_product_attention(X, X, X, None, None, 3**-0.5, causal=True),
            "scaled_dot_product_attention\ncausal, scale=0.5774",
        ),
    ],
)
def test_parameters_that_are_not_the_default(compute, text):
    name = text.partition("\n")[0]
    assert boxes(draw(compute()))[f"{name}_1"] == text


def test_moves_are_white():
    fills = dict(
        re.findall(r"\t(\w+) \[label=<<b>\w+</b>.* fillcolor=(\w+)", draw(X.T.exp()).source)
    )
    assert fills == {"permute_dims_1": "white"}


def test_title_and_direction():
    assert "\tlabel=" not in draw(X.exp()).source
    assert "\tlabel=<<b>a &lt; b</b>>" in draw(X.exp(), title="a < b").source
    assert "rankdir=LR" in draw(X.exp(), rankdir="LR").source


def test_a_derivative_can_be_drawn():
    x = leaf(3, name="x")
    (x**3).sum().backward(create_graph=True)
    assert "x 3" in boxes(draw(x.grad)).values()


def test_a_long_chain_does_not_overflow():
    y = leaf(1)
    for _ in range(10_000):  # ten times what Python lets a function call itself
        y = -y
    found = arrows(draw(y))
    assert len(found) == 10_001
    assert found[-2:] == [
        ("negative_9999", "negative_10000", "1"),
        ("negative_10000", "output_1", ""),
    ]


def test_what_is_used_twice_is_walked_once():
    y = leaf(1)
    for _ in range(100):  # 2**100 ways lead from the result to the leaf
        y = y + y
    assert len(arrows(draw(y))) == 201


def test_a_picture_keeps_nothing_alive():
    y = leaf(3).exp().sum()
    node = weakref.ref(y.node)
    picture = draw(y)
    del y
    assert node() is None
    assert picture.source


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match=r"no history .* shape \(2,\).*no_grad"):
        draw(tensorgrad.ones(2))
    with pytest.raises(ValueError, match="no history"):
        draw([X.exp(), X.detach()])
    with pytest.raises(TypeError, match="expected a tensor or several, got a str"):
        draw(["loss"])
    with pytest.raises(TypeError, match="'w' is a int, not a tensor"):
        draw(X.exp(), {"w": 1})


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without Graphviz' program."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def nothing(no_dot: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without the package that carries the engine, either, and not yet told so."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    graph.files._advise.cache_clear()
    yield
    graph.files._advise.cache_clear()


@pytest.fixture
def block() -> Callable[[], object]:
    """What a transformer block does, in small."""
    x, w, b = leaf(2, 4, 8, name="x"), leaf(8, 8, name="<weight>"), leaf(8, name="b & \\N")
    h = ops.layer_norm(x, leaf(8), leaf(8))
    q, k, v = (ops.linear(h, leaf(8, 8), None).reshape(2, 4, 2, 4).transpose(1, 2) for _ in "qkv")
    a = ops.scaled_dot_product_attention(q, k, v, None, None, scale=0.5, causal=True)
    a = a.transpose(1, 2).reshape(2, 4, 8)
    return draw(x + ops.gelu(ops.linear(a, w, b)), {"a <\\N": a}, title="A block & more")


@pytest.mark.usefixtures("no_dot")
def test_pygraphviz_needs_no_dot(block, tmp_path, capfd):
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    before = block.source
    written = render(block, tmp_path / "block.svg")
    assert written == tmp_path / "block.svg"
    svg = written.read_text(encoding="utf-8")
    words = [word.strip() for word in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    for op in ("layer_norm", "linear", "scaled_dot_product_attention", "gelu", "add", "output"):
        assert op in words
    for text in ("A block &amp; more", "&lt;weight&gt;", "b &amp; \\N", "a &lt;\\N 2×4×8"):
        assert text in words
    assert "causal, scale=0.5" in words
    assert render(block, str(tmp_path / "block.PNG")).read_bytes().startswith(b"\x89PNG\r\n")
    assert render(block, tmp_path / "block.pdf").read_bytes().startswith(b"%PDF")
    assert block.source == before  # the resolution of the PNG is not the picture's
    assert capfd.readouterr() == ("", "")  # a Fontconfig of its own may have complaints


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for dot is a shell script")
def test_dot_is_preferred(tmp_path, monkeypatch):
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\necho "$@"\nwhile read -r line; do echo "$line"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    picture = draw(X.exp())
    svg = render(picture, tmp_path / "x.svg").read_text(encoding="utf-8")
    assert svg.splitlines()[:2] == ["-Kdot -Tsvg", "digraph tensorgrad {"]
    assert "dpi" not in svg
    assert "dpi=192" in render(picture, tmp_path / "x.png").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for dot is a shell script")
@pytest.mark.parametrize(("script", "mode"), [("#!/bin/sh\nexit 1\n", 0o755), ("not a program", 0)])
def test_a_dot_that_does_not_work(tmp_path, monkeypatch, script, mode, nothing):
    program = tmp_path / "dot"
    program.write_text(script)
    program.chmod(mode)
    with pytest.warns(UserWarning, match="no Graphviz"):
        assert render(draw(X.exp()), tmp_path / "x.svg") == tmp_path / "x.dot"


@pytest.mark.usefixtures("no_dot")
def test_standard_error_is_back_after_the_layout(tmp_path, capfd):
    pytest.importorskip("pygraphviz", reason="pygraphviz is not installed")
    render(draw(X.exp()), tmp_path / "x.svg")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


@pytest.mark.usefixtures("nothing")
def test_without_graphviz_the_text_is_left(tmp_path):
    picture = draw(X.reshape(3, 2))
    with pytest.warns(UserWarning, match=r"pip install 'pygraphviz>=2' or .* dot") as told:
        written = render(picture, tmp_path / "x.svg")
    assert [w.filename for w in told] == [__file__]  # the warning points at the caller
    assert written == tmp_path / "x.dot"
    assert written.read_text(encoding="utf-8") == picture.source
    assert not (tmp_path / "x.svg").exists()
    again = render(picture, tmp_path / "y.png")  # a second warning would be an error here
    assert again == tmp_path / "y.dot"


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("suffix", ["dot", "gv"])
def test_the_text_itself(tmp_path, suffix):
    picture = draw(X.reshape(3, 2))
    path = tmp_path / f"x.{suffix}"
    assert render(picture, path) == path
    assert path.read_text(encoding="utf-8") == picture.source


@pytest.mark.parametrize("name", ["x.bmp", "x", "x.svg.bak"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(ValueError, match=r"no format .*; use \.svg, \.png, \.pdf, \.dot, \.gv$"):
        render(draw(X.exp()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_path(tmp_path):
    path = tmp_path / "missing" / "x.dot"
    with pytest.raises(FileNotFoundError, match=r"cannot be written: No such file.*missing"):
        render(draw(X.exp()), path)


def test_nothing_is_imported_before_it_is_needed(root):
    """Drawing is for some; ``import tensorgrad`` is for all."""
    code = "import sys, tensorgrad; print({'graphviz', 'pygraphviz'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (ran.stdout.strip(), ran.stderr) == ("set()", "")
