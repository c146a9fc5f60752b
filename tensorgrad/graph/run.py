"""What ran: operations as steps, what they took and gave as values, calls of modules around."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any

from ..backend import xp
from ..source import line


@dataclass(frozen=True)
class Stats:
    """An array in a few numbers, of its finite elements; ``std`` divides by their number."""

    mean: float
    std: float
    min: float
    max: float
    norm: float
    nan: int
    inf: int

    def __str__(self) -> str:
        words = f"mean {self.mean:.4g}, std {self.std:.4g}, {self.min:.4g} to {self.max:.4g}"
        if self.min == self.max:
            words = f"value {self.mean:.4g}"
        for kind, n in (("nan", self.nan), ("inf", self.inf)):
            words += f", {n:,} {kind}" if n else ""
        return words


def stats_of(array: Any) -> Stats | None:
    """None for an array of no elements."""
    if not array.size:
        return None
    wide = xp.asarray(array, dtype="float64").reshape(-1)
    finite = xp.isfinite(wide)
    nan = inf = 0
    if not finite.all():
        nan = int(xp.sum(xp.isnan(wide)))
        inf = wide.size - nan - int(xp.sum(finite))
        wide = wide[finite]
        if not wide.size:
            wide = xp.asarray([xp.nan])
    mean = float(xp.mean(wide))
    centred = wide - mean
    return Stats(
        mean=mean,
        std=float(xp.sqrt(xp.vdot(centred, centred) / wide.size)),
        min=float(xp.min(wide)),
        max=float(xp.max(wide)),
        norm=float(xp.sqrt(xp.vdot(wide, wide))),
        nan=nan,
        inf=inf,
    )


def norm_of(array: Any) -> float:
    """The root of the sum of the squares of all elements."""
    wide = xp.asarray(array, dtype="float64").reshape(-1)
    return float(xp.sqrt(xp.vdot(wide, wide)))


class Value:
    """A tensor that took part.

    ``kind`` is "result", "parameter", "buffer", "input", "constant" or "leaf"; ``gradient`` is the
    norm of its gradient, once a backward pass was seen.
    """

    __slots__ = ("kind", "names", "shape", "dtype", "stats", "maker", "uses", "gradient", "parts",
                 "number")  # fmt: skip

    def __init__(self, kind: str, shape: Sequence, dtype: Any, maker: Step | None = None) -> None:
        self.kind, self.shape, self.dtype, self.maker = kind, tuple(shape), dtype, maker
        self.names: list[str] = []
        self.stats: Stats | None = None
        self.uses = 0
        self.gradient: float | None = None
        self.parts = 0  # that were added up to it
        self.number: float | None = None  # of a constant of no dims

    def __repr__(self) -> str:
        return f"<{self.kind} {' = '.join(self.names)} {list(self.shape)}>"

    @property
    def size(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n


class Step:
    """One operation: ``inputs`` are Values, numbers or None; ``output`` is a Value."""

    __slots__ = ("number", "op", "params", "inputs", "output", "call", "code", "offset",
                 "gradients", "kept")  # fmt: skip

    def __init__(
        self, number: int, op: Any, params: dict, inputs: list, call: Call,
        place: tuple[CodeType | None, int],
    ) -> None:  # fmt: skip
        self.number, self.op, self.params, self.inputs, self.call = number, op, params, inputs, call
        self.code, self.offset = place
        self.output: Value
        self.gradients: dict[int, float] = {}  # by argument: norms of what was sent back to it
        self.kept = 0  # bytes that only this step keeps for the backward pass

    def __repr__(self) -> str:
        return f"<{self.op.name} {list(self.output.shape)}>"

    @property
    def source(self) -> str:
        """``file:line`` of the user's program."""
        return line(self.code, self.offset)


class Call:
    """One call of a module; ``items`` are the steps and calls in it, in order."""

    def __init__(self, path: str, kind: str, about: str = "", parent: Call | None = None) -> None:
        self.path, self.kind, self.about, self.parent = path, kind, about, parent
        self.items: list[Step | Call] = []
        self.shapes: list[tuple] = []  # of the tensors that it returned
        self.own: list[Value] = []  # the parameters of the module and of those below it
        parents = parent.depth if parent else 0
        self.depth: int = parents + bool(path)  # how many modules it is in; the model is in none

    def __repr__(self) -> str:
        return f"<call of {self.path or self.kind}>"

    def steps(self) -> Iterator[Step]:
        """All operations in it, those in the modules below too."""
        stack: list[Iterator] = [iter(self.items)]
        while stack:
            for item in stack[-1]:
                if isinstance(item, Call):
                    stack.append(iter(item.items))
                    break
                yield item
            else:
                stack.pop()

    def outwards(self) -> Iterator[Call]:
        """This call, the one around it, and so on."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.parent

    def calls(self) -> Iterator[Call]:
        """This call and all in it, outer ones first, in order."""
        stack = [self]
        while stack:
            call = stack.pop()
            yield call
            stack.extend(item for item in reversed(call.items) if isinstance(item, Call))


class Run:
    """Everything that :func:`record` or :func:`trace` has seen.

    ``steps`` are the operations in order; each has ``op.name``, ``params``, ``inputs``, ``output``,
    ``call.path`` (of the module) and ``source``. ``result`` is what the traced model returned.
    """

    result: Any = None

    def __init__(self) -> None:
        self.root = Call("", "program")
        self.outputs: list[Value] = []
        self.parameters: list[Value] = []

    @cached_property
    def steps(self) -> list[Step]:
        return list(self.root.steps())

    def useful(self) -> set[Step]:
        """The operations that led to the outputs."""
        found: set[Step] = set()
        stack = [value.maker for value in self.outputs]
        while stack:
            step = stack.pop()
            if step is not None and step not in found:
                found.add(step)
                stack += [v.maker for v in step.inputs if isinstance(v, Value)]
        return found

    @property
    def top(self) -> Call:
        """The call of the model if all happened in it, or else the whole program."""
        items = self.root.items
        return items[0] if len(items) == 1 and isinstance(items[0], Call) else self.root

    def find(self, path: str) -> Call:
        """The first call of the module with a dotted name."""
        calls = list(self.root.calls())[1:]
        for call in calls:
            if call.path == path:
                return call
        known = ", ".join(dict.fromkeys(repr(c.path) for c in calls)) or "none"
        raise KeyError(f"no module {path!r} was called; those that were: {known}")
