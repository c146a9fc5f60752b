"""How the pictures look: colours, shapes of boxes, and text in Graphviz' HTML-like labels."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# From the palette of Okabe and Ito, which colour-blind readers can tell apart: lines in its colours
# on tints of them. In print without colours shapes, borders and text say what a box is.
TEXT, FAINT, BLUE, ORANGE, GREEN = "#1a1a1a", "#555555", "#0072B2", "#E69F00", "#009E73"
PURPLE, VERMILION = "#CC79A7", "#D55E00"
FONT = "Helvetica,Arial,sans-serif"
GRAPH = {
    "nodesep": "0.2", "ranksep": "0.3", "labelloc": "t", "fontname": FONT, "fontsize": "14",
    "fontcolor": TEXT,
}  # fmt: skip
NODE = {
    "ordering": "in",  # arguments from left to right: q, k, v
    "shape": "box", "style": "rounded,filled", "color": BLUE, "fillcolor": "#DCEBF7",
    "height": "0.3", "margin": "0.12,0.06", "fontname": FONT, "fontsize": "11", "fontcolor": TEXT,
}  # fmt: skip
# The heavier edges are drawn straighter: values go down the middle, parameters come from the side.
EDGE = {
    "weight": "4", "color": FAINT, "arrowsize": "0.6", "fontname": FONT, "fontsize": "9",
    "fontcolor": FAINT,
}  # fmt: skip

OPERATION: dict[str, str] = {}
MOVE = {"fillcolor": "white"}
MODULE = {"style": "filled", "fillcolor": "#B9D7EC", "penwidth": "1.5"}
LEAF = {"color": ORANGE, "fillcolor": "#FDF0D5", "fontsize": "10"}
BUFFER = {"color": PURPLE, "fillcolor": "#F8EAF2", "fontsize": "10", "style": "filled,dashed"}
CONSTANT = {"color": FAINT, "fillcolor": "white", "fontsize": "10", "style": "filled,dotted"}
INPUT = {"color": TEXT, "fillcolor": "#EEEEEE", "shape": "ellipse", "margin": "0.05,0.03"}
OUTPUT = {"color": GREEN, "fillcolor": "#D5F0E6", "penwidth": "2"}
LEAF_EDGE = {"weight": "1", "color": ORANGE}
BUFFER_EDGE = {"weight": "1", "color": PURPLE}

BOXES: dict[str, tuple[Mapping[str, str], str]] = {  # the style of each kind and its meaning
    "operation": (OPERATION, "operation"),
    "move": (MOVE, "operation that only moves elements"),
    "module": (MODULE, "module: what is in it is not shown"),
    "input": (INPUT, "input"),
    "leaf": (LEAF, "leaf: a gradient is collected here"),
    "parameter": (LEAF, "parameter"),
    "buffer": (BUFFER, "buffer"),
    "constant": (CONSTANT, "constant"),
    "output": (OUTPUT, "output"),
}
HEADING = {"shape": "plain", "style": "solid", "fontsize": "13"}
CLUSTERS = ("#F5F7FA", "#E9EEF4")  # the ground of modules, alternating with their depth

# From small to large gradients, darker and darker: also without colours.
RAMP = ("#EFAE7E", "#E2813F", "#D55E00", "#A34600", "#6B2D00")
LONGEST = 40  # characters of an operation's parameters


# --- words ----------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text without the meaning that ``<``, ``&`` and a backslash have in a label."""
    return html.escape(text).replace("\\", "\\\\")


def bold(text: str) -> str:
    return f"<b>{plain(text)}</b>"


def faint(text: str) -> str:
    return f'<font point-size="9" color="{FAINT}">{plain(text)}</font>'


def shape_text(shape: Iterable) -> str:
    return "×".join(map(str, shape)) or "scalar"


def count_text(n: int) -> str:
    """A number of parameters: 2,304 or 7.09M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e5, "k")):
        if n >= size:
            return f"{n / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{n:,}"


def operation_text(op: Any, params: Mapping[str, Any], inputs: Sequence) -> tuple[str, str]:
    """The name of an operation, and its parameters that are not the default: ``axis=-1``."""
    words = [f"{v:.4g}" for v in inputs if type(v) in (int, float)]
    for name, value in params.items():
        text = shape_text(value) if name == "shape" else value_text(value)
        if name not in op.defaults or text != value_text(op.defaults[name]):
            words.append(name if value is True else f"{name}={text}")
    joined = ", ".join(words)
    return op.name, joined if len(joined) <= LONGEST else joined[: LONGEST - 1] + "…"


def value_text(value: Any) -> str:
    """A parameter in few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)[: 2 if value.step is None else 3]
        return ":".join("" if p is None else str(p) for p in parts)
    if value is Ellipsis:
        return "..."
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(value_text, value))})"
    if getattr(value, "shape", ()):  # an index array
        return f"{value.dtype} {shape_text(value.shape)}"
    return str(value)


def paths_text(paths: Sequence[str], within: str = "") -> str:
    """Names of modules in short: ``blocks.0…11``, without the name of the module around them."""
    prefix = f"{within}." if within else ""
    short = [path.removeprefix(prefix) for path in paths]
    last = short[-1].rpartition(".")[2] if len(short) > 1 else ""
    return f"{short[0]}…{last}" if last else short[0]


# --- gradients ------------------------------------------------------------------------------------


class Scale:
    """Norms of gradients as widths and colours, by their logarithm."""

    def __init__(self, norms: Iterable[float]) -> None:
        usual = [n for n in norms if 0 < n < math.inf]
        self.least, self.most = (min(usual), max(usual)) if usual else (0.0, 0.0)

    def place(self, norm: float) -> float:
        """Where a norm is between the least (0) and the largest (1)."""
        if self.most <= self.least * 1.000001:
            return 1.0
        span = math.log(self.most) - math.log(self.least)
        return (math.log(norm) - math.log(self.least)) / span

    def style(self, norm: float) -> dict[str, str]:
        if not norm < math.inf:
            return {"color": "black", "penwidth": "3", "style": "dashed"}
        if not norm:
            return {"color": FAINT, "penwidth": "1", "style": "dotted"}
        place = self.place(norm)
        colour = RAMP[min(int(place * len(RAMP)), len(RAMP) - 1)]
        return {"color": colour, "penwidth": f"{1 + 4 * place:.2f}"}

    def examples(self) -> list[float]:
        """Norms for the legend: the least, the one between, the largest."""
        if self.most <= self.least * 1.000001:
            return [self.most] if self.most else []
        return [self.least, math.sqrt(self.least * self.most), self.most]


def mean_norm(norms: Sequence[float]) -> float:
    """The geometric mean; 0 or not finite if one of them is."""
    if any(not n < math.inf for n in norms):
        return math.nan
    return math.exp(sum(map(math.log, norms)) / len(norms)) if all(norms) else 0.0


def norms_text(norms: Sequence[float]) -> str:
    """One norm, or from which to which."""
    ends = [f"{min(norms):.2g}", f"{max(norms):.2g}"]
    return ends[0] if ends[0] == ends[1] else "–".join(ends)


# --- the legend -----------------------------------------------------------------------------------


def legend(kinds: Iterable[str], lines: Sequence[tuple[str, Mapping[str, str]]]) -> str:
    """What boxes of these kinds and such lines mean: a table of two columns, in HTML-like words."""
    cells = [_swatch(*BOXES[kind]) for kind in BOXES if kind in set(kinds)]
    cells += [_stroke(looks, meaning) for meaning, looks in lines]
    half = (len(cells) + 1) // 2
    rows = [f"<tr>{''.join(cells[i::half])}</tr>" for i in range(half)]
    return (
        '<table border="1" color="#BBBBBB" cellborder="0" cellspacing="4" cellpadding="2">'
        f"{''.join(rows)}</table>"
    )


def _swatch(style: Mapping[str, str], meaning: str) -> str:
    looks = {**NODE, **style}
    corners = "rounded" if looks["shape"] == "ellipse" else looks["style"].replace("filled", "")
    return (
        f'<td border="{looks.get("penwidth", "1")[0]}" color="{looks["color"]}" '
        f'bgcolor="{looks["fillcolor"]}" style="{corners.strip(",") or "solid"}" width="30"></td>'
        f"{_meaning(meaning)}"
    )


def _stroke(looks: Mapping[str, str], meaning: str) -> str:
    height = max(1, round(float(looks.get("penwidth", "1"))))
    bar = f'<td bgcolor="{looks.get("color", FAINT)}" width="30" height="{height}"></td>'
    size = f'fixedsize="true" width="30" height="{height}"'
    table = f'<table border="0" cellborder="0" cellspacing="0" cellpadding="0" {size}>'
    return f"<td>{table}<tr>{bar}</tr></table></td>{_meaning(meaning)}"


def _meaning(text: str) -> str:
    return f'<td align="left"><font point-size="10">{plain(text)}</font></td>'
