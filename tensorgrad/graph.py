"""The recorded graph as a picture: :func:`draw` turns it into DOT, :func:`render` into a file.

>>> import tensorgrad
>>> w = tensorgrad.tensor([2.0, -1.0], requires_grad=True)
>>> loss = (w ** 2).sum()
>>> picture = tensorgrad.graph.draw(loss, names={"w": w, "loss": loss})
>>> path = tensorgrad.graph.render(picture, "loss.dot")  # or .svg, .png, .pdf
>>> 'power_1 -> sum_1 [label=" 2"]' in path.read_text(encoding="utf-8")
True

Inputs stand on top and results at the bottom. Blue boxes are operations, white ones those that only
move elements (reshape, transpose, ...); orange leaves are what gradients are collected in; green is
a result. An arrow carries the shape of what flows along it. Nothing is drawn of values without a
gradient, which the graph does not record: to see an input, let it require grad.
"""

from __future__ import annotations

import functools
import html
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .node import Node, recorded
from .tensor import Tensor
from .variable import Variable

if TYPE_CHECKING:
    import graphviz

# From the palette of Okabe and Ito, which colour-blind readers can tell apart: lines in its colours
# on tints of them. In print without colours the text says what a box is.
_TEXT, _FAINT, _BLUE, _ORANGE, _GREEN = "#1a1a1a", "#555555", "#0072B2", "#E69F00", "#009E73"
_FONT = "Helvetica,Arial,sans-serif"
_GRAPH = {
    "nodesep": "0.2", "ranksep": "0.3", "labelloc": "t", "fontname": _FONT, "fontsize": "14",
    "fontcolor": _TEXT,
}  # fmt: skip
_NODE = {
    "ordering": "in",  # arguments from left to right: q, k, v
    "shape": "box", "style": "rounded,filled", "color": _BLUE, "fillcolor": "#DCEBF7",
    "height": "0.3", "margin": "0.12,0.06", "fontname": _FONT, "fontsize": "11", "fontcolor": _TEXT,
}  # fmt: skip
_MOVE = {"fillcolor": "white"}
_LEAF = {"color": _ORANGE, "fillcolor": "#FDF0D5", "fontsize": "10"}
_OUTPUT = {"color": _GREEN, "fillcolor": "#D5F0E6", "penwidth": "2"}
# The heavier edges are drawn straighter: values go down the middle, parameters come from the side.
_EDGE = {
    "weight": "4", "color": _FAINT, "arrowsize": "0.6", "fontname": _FONT, "fontsize": "9",
    "fontcolor": _FAINT,
}  # fmt: skip
_LEAF_EDGE = {"weight": "1", "color": _ORANGE}

_LONGEST = 40  # characters of an operation's parameters
_FORMATS = ("svg", "png", "pdf")
_TEXTS = ("dot", "gv")
_PNG_DPI = "192"  # twice the resolution of a screen, so that small print stays legible

Names = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]


def draw(
    tensor: Tensor | Sequence[Tensor],
    names: Names | None = None,
    *,
    title: str | None = None,
    rankdir: str = "TB",
) -> graphviz.Digraph:
    """The operations that ``tensor`` was computed by, from the leaves to the result.

    Every recorded operation is a box with its name and those of its parameters that are not the
    default. A leaf stands in a box with its name and shape, once, however often it is used; a
    weight and a bias that only one operation uses share a box. The same graph gives the same DOT
    text, before and after ``backward()``.

    Args:
        tensor: the result, or several.
        names: what to call the tensors, as a mapping or as pairs: ``model.named_parameters()``.
            Without it a tensor's own ``name`` is used, or else "leaf" and "output". The name of a
            value in between is written on its arrows.
        title: a line above the picture.
        rankdir: the direction of the arrows: "TB" is from top to bottom, "LR" from left to right.

    Returns:
        A ``graphviz.Digraph``: its ``source`` is the DOT text, :func:`render` makes a file of it.

    >>> import tensorgrad
    >>> x = tensorgrad.ones(4, 3)
    >>> w = tensorgrad.ones(3, 2)
    >>> w.requires_grad = True
    >>> picture = tensorgrad.graph.draw((x @ w).tanh(), names=[("w", w)], title="One layer")
    >>> for line in picture.source.splitlines():
    ...     if "->" in line:
    ...         print(line.strip())
    leaf_1 -> matmul_1 [color="#E69F00" weight=1]
    matmul_1 -> tanh_1 [label=" 4×2"]
    tanh_1 -> output_1
    """
    import graphviz

    outputs, called = _outputs(tensor), _called(names)
    nodes = recorded(outputs)
    uses = Counter(id(parent) for node in nodes for parent in node.parents)
    uses.update(id(output) for output in outputs)
    picture = blank(title, rankdir)
    boxes: dict[int, str] = {}  # what the box of a node or leaf is called in the DOT text
    number = Counter[str]()

    def box(kind: str, label: str, style: Mapping[str, str]) -> str:
        number[kind] += 1
        made = f"{kind}_{number[kind]}"
        picture.node(made, f"<{label}>", _attributes=style)
        return made

    def line(t: Any, default: str) -> str:
        """The name and the shape of a leaf or an output."""
        words = called.get(id(t.node or t)) or [t.name or default]
        return f"{_bold(' = '.join(words))} {_faint(_shape(t.shape))}"

    def arrow(source: Any, end: str) -> None:
        if isinstance(source, Node):
            words = [*called.get(id(source), ()), _shape(source.shape)]
            label = graphviz.escape(" " + " ".join(words))  # the first space keeps it off the line
            picture.edge(boxes[id(source)], end, label)
        else:  # leaves that share a box, which says their shapes
            first = id(source[0])
            if first not in boxes:
                lines = [line(t, "leaf") for t in source]
                label = '<br align="left"/>'.join([*lines, ""] if lines[1:] else lines)
                boxes[first] = box("leaf", label, _LEAF)
            picture.edge(boxes[first], end, _attributes=_LEAF_EDGE)

    for node in nodes:
        style = _MOVE if node.op.view else {}
        boxes[id(node)] = end = box(node.op.name, _operation(node), style)
        for source in _sources(node, uses):
            arrow(source, end)
    for output in outputs:
        end = box("output", line(output, "output"), _OUTPUT)
        if output.node:
            picture.edge(boxes[id(output.node)], end)
        else:
            arrow([output], end)
    return picture


def render(picture: graphviz.Digraph, path: str | Path) -> Path:
    """Write a picture made by :func:`draw` as SVG, PNG or PDF, by the suffix of ``path``.

    Graphviz' program ``dot`` makes the layout where it works, and the package pygraphviz where it
    does not. With neither, the DOT text is left under the suffix .dot, and a warning says
    once what to install. The suffixes .dot and .gv ask for that text.

    Returns:
        The path of the file written.
    """
    path = Path(path)
    form = path.suffix[1:].lower()
    if form not in _FORMATS + _TEXTS:
        known = ", ".join(f".{f}" for f in _FORMATS + _TEXTS)
        raise ValueError(f"render: no format has the suffix {path.suffix!r} of {path}; use {known}")
    text = picture.source.encode()
    if form in _TEXTS:
        return _write(path, text)
    content = _laid_out(picture, form)
    if content is not None:
        return _write(path, content)
    path = _write(path.with_suffix(".dot"), text)
    _advise()
    return path


def blank(title: str | None = None, rankdir: str = "TB") -> graphviz.Digraph:
    """An empty picture in the style of all of them."""
    import graphviz

    picture = graphviz.Digraph(
        "tensorgrad",
        graph_attr={"rankdir": rankdir, **_GRAPH},
        node_attr=_NODE,
        edge_attr=_EDGE,
    )
    if title:
        picture.attr(label=f"<{_bold(title)}>")
    return picture


# --- what is drawn --------------------------------------------------------------------------------


def _outputs(tensor: Any) -> list[Any]:
    tensors = [tensor] if isinstance(tensor, Variable) else list(tensor)
    for t in tensors:
        if not isinstance(t, Tensor):
            raise TypeError(f"draw: expected a tensor or several, got a {type(t).__name__}")
        if not t.needs_grad:
            raise ValueError(
                f"draw: no history is recorded for the tensor of shape {tuple(t.shape)}; was it "
                "computed under no_grad, or from tensors without requires_grad=True?"
            )
    return tensors


def _called(names: Names | None) -> dict[int, list[str]]:
    """The names of each leaf or node by its id; tied parameters can have several."""
    called: dict[int, list[str]] = {}
    for name, t in names.items() if isinstance(names, Mapping) else names or ():
        if not isinstance(t, Variable):
            raise TypeError(f"draw: names: {name!r} is a {type(t).__name__}, not a tensor")
        if name:
            called.setdefault(id(t.node or t), []).append(str(name))
    return called


def _sources(node: Node, uses: Mapping[int, int]) -> list[Any]:
    """What the arrows to an operation come from: nodes, and lists of leaves that share a box.

    A weight and a bias that nothing else uses are one box, or else they would fill the page.
    """
    own = [
        parent
        for name, parent in zip(node.op.arguments, node.parents)
        if name in ("weight", "bias") and isinstance(parent, Variable) and uses[id(parent)] == 1
    ]
    sources: list[Any] = []
    for parent in node.parents:
        if isinstance(parent, Node):
            sources.append(parent)
        elif own and parent is own[0]:
            sources.append(own)
        elif parent is not None and not any(parent is leaf for leaf in own):
            sources.append([parent])
    return sources


# --- what stands in the boxes, in Graphviz' HTML-like labels --------------------------------------


def _plain(text: str) -> str:
    """Text without the meaning that ``<``, ``&`` and a backslash have in a label."""
    return html.escape(text).replace("\\", "\\\\")


def _bold(text: str) -> str:
    return f"<b>{_plain(text)}</b>"


def _faint(text: str) -> str:
    return f'<font point-size="9" color="{_FAINT}">{_plain(text)}</font>'


def _operation(node: Node) -> str:
    """The name of an operation, and below it its parameters."""
    name, params = _bold(node.op.name), _params(node)
    # The spaces around the lower line, in the larger font, keep it off the upper one.
    return f"{name}<br/> {_faint(params)} " if params else name


def _shape(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _params(node: Node) -> str:
    """The parameters of an operation that are not the default: ``axis=-1, keepdims``."""
    words = []
    for name, value in node.params.items():
        text = _shape(value) if name == "shape" else _value(value)
        if name not in node.op.defaults or text != _value(node.op.defaults[name]):
            words.append(name if value is True else f"{name}={text}")
    joined = ", ".join(words)
    return joined if len(joined) <= _LONGEST else joined[: _LONGEST - 1] + "…"


def _value(value: Any) -> str:
    """A parameter in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)[: 2 if value.step is None else 3]
        return ":".join("" if p is None else str(p) for p in parts)
    if value is Ellipsis:
        return "..."
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_value, value))})"
    if getattr(value, "shape", ()):  # an index array
        return f"{value.dtype} {_shape(value.shape)}"
    return str(value)


# --- files ----------------------------------------------------------------------------------------


def _laid_out(picture: graphviz.Digraph, form: str) -> bytes | None:
    """The picture in a format; None where nothing is installed that could lay it out."""
    import graphviz

    if form == "png":
        picture = picture.copy()
        picture.graph_attr["dpi"] = _PNG_DPI
    try:
        return picture.pipe(format=form)
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError, OSError):
        pass  # not installed, or not so that it works
    try:
        import pygraphviz
    except ImportError:
        return None
    with _quiet():
        return pygraphviz.AGraph(string=picture.source).draw(format=form, prog="dot")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what C libraries write to the standard error.

    The wheels of pygraphviz bring a Fontconfig of their own, which complains of what it does not
    know in the files of the system's newer one. An error in the picture is raised all the same.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # the program has no standard error
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _write(path: Path, content: bytes) -> Path:
    try:
        path.write_bytes(content)
    except OSError as error:
        reason = f"the picture cannot be written: {error.strerror}"
        raise type(error)(error.errno, reason, str(path)) from None
    return path


@functools.cache  # once is enough
def _advise() -> None:
    warnings.warn(
        "there is no Graphviz to lay the picture out, so its DOT text is left in a .dot file; "
        "pip install 'pygraphviz>=2' or install Graphviz' program dot",
        stacklevel=3,
    )
