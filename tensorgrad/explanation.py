"""The gradient of one element taken apart, as data, as text and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .backend import xp
from .core import registry
from .graph.files import blank
from .graph.style import LEAF, MOVE, OUTPUT, bold, faint

if TYPE_CHECKING:
    import graphviz

Index = tuple[int, ...]

_TOLERANCE = 1e-6  # of the sum of the parts, relative to the gradient
_WIDTH = 85  # of the last column of the text


@dataclass
class Use:
    """What one operation that an element goes into contributes to its gradient.

    ``by_position`` has the shape of the operation's result without its last axis: in a GPT the
    batch and the sequence. Its sum is the contribution.
    """

    op: str
    argument: str  # which of the operation's arguments the element belongs to
    through: tuple[str, ...]  # the views on the way there
    source: str  # file:line
    code: str  # what stands there
    module: str  # the layer, if names tell
    shape: tuple[int, ...]  # of the operation's result
    contribution: float
    by_position: Any


@dataclass
class Road:
    """A way through the graph, operation by operation: all paths along it together."""

    ops: list[str]
    numbers: list[int]  # of the operations, in the order of recording
    modules: list[str]  # their layers, if names tell
    contribution: float


@dataclass
class Step:
    """One operation on a path, and the element of its result that the path goes through."""

    op: str
    number: int  # of the operation, in the order of recording
    index: Index
    derivative: float  # of this element by the one before
    gradient: float  # of the loss by this element
    view: bool  # the operation only moves elements
    source: str


@dataclass
class Path:
    """A way from the element to the loss: its contribution is the product of the derivatives."""

    steps: list[Step]
    contribution: float


@dataclass
class Explanation:
    """The gradient of one element taken apart; ``str()`` of it is a table."""

    name: str
    index: Index
    value: float
    loss: float
    gradient: float  # in float64, from the values that the graph has saved
    uses: list[Use]  # the heaviest first; these and the roads and paths below
    roads: list[Road]  # each a sum of paths
    paths: list[Path]
    finite_difference: float | None  # of the recorded operations evaluated in float64
    no_difference: str = ""  # why there is none
    total: float = field(init=False)  # of the uses

    def __post_init__(self) -> None:
        self.total = math.fsum(use.contribution for use in self.uses)

    @property
    def adds_up(self) -> bool:
        """Whether the parts give the gradient, but for rounding."""
        largest = max((abs(u.contribution) for u in self.uses), default=0.0)
        rounding = 1e-12 * largest  # of parts that cancel
        return abs(self.total - self.gradient) <= _TOLERANCE * abs(self.gradient) + rounding

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def graph(self, title: str | None = None) -> graphviz.Digraph:
        """The heaviest paths as a picture, for :func:`tensorgrad.graph.render`.

        On the arrows stand the local derivatives, in the boxes the elements and their gradients;
        the more of the gradient goes along an arrow, the thicker it is.
        """
        return _picture(self, title)


def unravelled(position: int, shape: Index) -> Index:
    """The index of the element at a flat position."""
    return tuple(int(i) for i in xp.unravel_index(position, shape)) if shape else ()


# --- in words -------------------------------------------------------------------------------------


def _at(index: Iterable[int]) -> str:
    return f"[{', '.join(map(str, index))}]"


def _lines(why: Explanation) -> Iterator[str]:
    name = f"{why.name}{_at(why.index) if why.index else ''}"
    yield f"d loss / d {name} = {why.gradient:.6g}"
    yield f"    at {name} = {why.value:.6g}, where the loss is {why.loss:.6g}"
    if why.finite_difference is None:
        yield f"    no finite difference: {why.no_difference}"
    else:
        off = abs(why.finite_difference - why.gradient)
        yield f"    finite difference: {why.finite_difference:.6g} (off by {off:.1g})"
    if why.adds_up:
        yield "    the parts below add up to it"
    else:
        yield (
            f"    the parts below add up to {why.total:.6g} and not to it: one of the backward "
            "functions on the way is wrong, or not linear"
        )
    yield ""
    yield "by use"
    for use in why.uses:
        through = f" through {', '.join(use.through)}" if use.through else ""
        layer = f", in {use.module}" if use.module else ""
        yield f"{use.contribution:>+13.6g}  {use.op} (as {use.argument}{through}){layer}"
        yield f"{'':15}{use.source}  {use.code}"
        yield from _positions(use)
    yield from _ways("road, operation by operation", why.roads)
    yield from _ways("path, element by element", why.paths)


def _ways(kind: str, ways: Sequence[Road | Path]) -> Iterator[str]:
    if ways:
        found = math.fsum(way.contribution for way in ways)
        yield ""
        yield f"by {kind} (the heaviest that were followed; together {found:.6g})"
    for way in ways:
        words = _road_in_words(way) if isinstance(way, Road) else _path_in_words(way)
        # A line may end after an arrow, and not within a step.
        steps = [word.replace(" ", "\xa0") for word in _counted(words)]
        lines = wrap(" → ".join(steps), _WIDTH)
        weight = f"{way.contribution:>+13.6g}  "
        for i, line in enumerate(lines or [""]):
            yield ("" if i else weight).ljust(15) + line.replace("\xa0", " ")


def _road_in_words(road: Road) -> list[str]:
    views = {name for name in road.ops if name in registry and registry[name].view}
    return [
        f"{op} ({module})" if module else op
        for op, module in zip(road.ops, road.modules)
        if op not in views
    ]


def _path_in_words(path: Path) -> list[str]:
    return [
        f"×{step.derivative:.4g} {step.op}{_at(step.index) if step.index else ''}"
        for step in path.steps
        if not step.view
    ]


def _counted(words: list[str]) -> Iterator[str]:
    """Words that follow one another as one, with their number."""
    for word, same in groupby(words):
        n = len(list(same))
        yield word if n == 1 else f"{word} ({n} times)"


def _positions(use: Use) -> Iterator[str]:
    """Where in the result of an operation its contribution arises, if in several places."""
    parts = xp.asarray(use.by_position)
    flat = parts.reshape(-1)
    nonzero = int(xp.sum(flat != 0))
    if nonzero < 2:
        return
    heavy = xp.argsort(-xp.abs(flat))[: min(3, nonzero)]
    listed = ", ".join(f"{_at(unravelled(int(k), parts.shape))} {flat[k]:+.3g}" for k in heavy)
    shape = "×".join(map(str, parts.shape))
    yield f"{'':15}from {nonzero} of {shape} positions: {listed}{', …' if nonzero > 3 else ''}"


def _picture(why: Explanation, title: str | None) -> graphviz.Digraph:
    picture = blank(title)
    name = f"{why.name}{_at(why.index) if why.index else ''}"
    label = f"{bold(name)}<br/>{faint(f'gradient {why.gradient:.4g}')}"
    picture.node("element", f"<{label}>", _attributes=LEAF)
    boxes: set[str] = set()
    arrows: dict[tuple[str, str], list[float]] = {}
    for path in why.paths:
        start = "element"
        for step in path.steps:
            end = f"{step.op}_{step.number}_{'_'.join(map(str, step.index))}".rstrip("_")
            if end not in boxes:
                boxes.add(end)
                what = bold(step.op) + (f" {faint(_at(step.index))}" if step.index else "")
                label = f"{what}<br/>{faint(f'gradient {step.gradient:.4g}')}"
                style = OUTPUT if step is path.steps[-1] else MOVE if step.view else {}
                picture.node(end, f"<{label}>", _attributes=style)
            arrow = arrows.setdefault((start, end), [step.derivative, 0.0])
            arrow[1] += abs(path.contribution)
            start = end
    most = max((weight for _, weight in arrows.values()), default=1.0) or 1.0
    for (start, end), (local, weight) in arrows.items():
        width = f"{0.5 + 3.5 * weight / most:.2f}"
        picture.edge(start, end, f" ×{local:.4g}", _attributes={"penwidth": width})
    return picture
