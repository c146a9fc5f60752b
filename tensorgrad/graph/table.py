"""A model as a table of its layers: :func:`summary`."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .flops import flops
from .recording import trace
from .run import Run
from .style import shape_text

_HEADS = ("layer", "class", "result", "parameters", "FLOPs", "kept for backward")


@dataclass
class Layer:
    """One line: a module, with what happens in the modules below it."""

    path: str
    kind: str
    depth: int
    shapes: list[tuple]  # of the tensors that it returned
    parameters: int  # of it and below, each once in the model
    flops: int  # see tensorgrad.graph.flops
    memory: int  # bytes kept for the backward pass


@dataclass
class Summary:
    """The layers of a model as a table: of text, and in Jupyter of HTML.

    The totals are of all that ran.
    """

    layers: list[Layer]
    parameters: int
    flops: int
    memory: int

    def __str__(self) -> str:
        rows = [("  " * depth + name, *others) for depth, (name, *others) in self._rows()]
        widths = [max(map(len, column)) for column in zip(_HEADS, *rows)]
        rule = "─" * (sum(widths) + 2 * len(widths) - 2)
        head, *lines = (_line(row, widths) for row in (_HEADS, *rows))
        return "\n".join([head, rule, *lines[:-1], rule, lines[-1]])

    def _repr_html_(self) -> str:
        """What Jupyter shows."""
        head = "".join(_cell("th", text, i) for i, text in enumerate(_HEADS))
        body = (
            "".join(_cell("td", text, i, depth) for i, text in enumerate(cells))
            for depth, cells in self._rows()
        )
        rows = "\n".join(f"<tr>{cells}</tr>" for cells in (head, *body))
        return f"<table>\n{rows}\n</table>"

    def _rows(self) -> list[tuple[int, tuple[str, ...]]]:
        """The depth and the cells of each line; the last has the totals."""
        paths = {layer.path for layer in self.layers}
        rows = [
            (layer.depth, _cells(_short(layer.path, paths), layer.kind, layer.shapes, layer))
            for layer in self.layers
        ]
        return [*rows, (0, _cells("total", "", [], self))]

    __repr__ = __str__


def summary(model: Callable, *inputs: Any, depth: int | None = None, **keywords: Any) -> Summary:
    """What ``model(*inputs, **keywords)`` does, layer by layer, as a table.

    It has the shapes of the results, the number of parameters (tied ones once in the
    total), the floating point operations of the forward pass (those of a training step are three
    times as many; what counts is told at :func:`~tensorgrad.graph.flops.flops`) and the memory that
    is kept for the backward pass: arrays that are neither parameters nor kept already.

    Args:
        depth: leave out the modules below this level.

    >>> import tensorgrad, nn
    >>> model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.GELU())
    >>> found = summary(model, tensorgrad.ones(2, 4))
    >>> found.parameters, found.flops
    (32, 128)
    """
    run = trace(model, *inputs, values=False, **keywords)
    return Summary(
        layers=_layers(run, depth),
        parameters=sum(v.size for v in run.parameters),
        flops=sum(map(flops, run.steps)),
        memory=sum(step.kept for step in run.steps),
    )


def _layers(run: Run, depth: int | None) -> list[Layer]:
    """A line for each module; one that is called several times has the sum of all calls."""
    found: dict[str, Layer] = {}
    calls = [c for c in run.root.calls() if c is not run.root]
    for call in calls:
        if depth is None or call.depth <= depth:
            size = sum(v.size for v in call.own)
            layer = Layer(call.path, call.kind, call.depth, call.shapes, size, 0, 0)
            found.setdefault(call.path, layer).shapes = call.shapes
    for step in run.steps:
        count = flops(step)
        for path in {c.path for c in step.call.outwards() if c is not run.root}:
            if path in found:
                found[path].flops += count
                found[path].memory += step.kept
    return list(found.values())


# --- as text --------------------------------------------------------------------------------------


def _short(path: str, known: set[str]) -> str:
    """A module's name without that of the module around it, which stands above."""
    outer = path
    while outer:
        outer = outer.rpartition(".")[0]
        if outer and outer in known:
            return path.removeprefix(f"{outer}.")
    return path or "(model)"


def _cells(name: str, kind: str, shapes: list[tuple], counts: Layer | Summary) -> tuple[str, ...]:
    n = counts.parameters
    return (
        name, kind, ", ".join(map(shape_text, shapes)), f"{n:,}" if n else "–",
        scaled(counts.flops), in_bytes(counts.memory),
    )  # fmt: skip


def _cell(tag: str, text: str, column: int, depth: int = 0) -> str:
    """A cell of HTML: words to the left, numbers to the right, and names indented."""
    style = f"text-align: {'left' if column < 3 else 'right'}"
    if depth and not column:
        style += f"; padding-left: {1 + 1.5 * depth}em"
    return f'<{tag} style="{style}">{html.escape(text)}</{tag}>'


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, numbers to the right."""
    return "  ".join(
        f"{c:<{w}}" if i < 3 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths))
    ).rstrip()


def scaled(n: int) -> str:
    """A number of operations: ``1.23 G``."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.2f} {letter}"
    return str(n) if n else "–"


def in_bytes(n: int) -> str:
    for size, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n} B" if n else "–"
