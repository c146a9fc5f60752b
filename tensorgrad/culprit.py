"""The search for the operation whose derivative is wrong.

Every recorded operation is checked on its own, in float64, on the values that it was given: its
derivative, by the road that a backward pass takes, against differences of its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .backend import xp
from .hints import Local, Wrong, at_index, hint
from .node import Node
from .replay import Replay, before, evaluated, parameters, watched
from .source import text
from .tensor import Tensor
from .variable import Variable, wrap

__all__ = ["Culprit", "Findings", "find_culprit"]

_ALL = 64  # elements of an argument that are all moved one by one;
_SOME = 16  # of more only these,
_ROOM = 4_000_000  # or less where their derivatives are more numbers than this


@dataclass
class Culprit:
    """The first operation with a wrong derivative, and the element where it is worst."""

    op: str
    argument: str  # empty where the formula raises
    source: str  # file:line
    code: str  # what stands there
    index: tuple[int, ...]
    got: float
    expected: float  # from finite differences
    hint: str

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        place = f"recorded at {self.source}{code},"
        if not self.argument:
            return f"the derivative of {self.op}, {place} raises {self.hint}"
        return (
            f"the derivative of {self.op} by {self.argument}{at_index(self.index)}, {place} is "
            f"{self.got:.8g} and should be {self.expected:.8g}: {self.hint}"
        )


@dataclass
class Findings:
    """What :func:`find_culprit` has found; ``culprit`` is None where every derivative is right."""

    culprit: Culprit | None
    operations: int = 0  # that were checked
    elements: int = 0
    kinks: int = 0  # elements at a kink, a jump or the edge of a domain: they cannot be judged

    def __str__(self) -> str:
        found = str(self.culprit) if self.culprit else "every recorded operation is right by itself"
        counted = f"{self.elements} elements of {self.operations} operations were checked"
        kinks = f", {self.kinks} left out that lie at a kink or jump" if self.kinks else ""
        return f"{found} ({counted}{kinks})"


def find_culprit(function: Callable[[], Any] | Tensor | Sequence[Tensor]) -> Findings:
    """Say which recorded operation has the wrong derivative: the first, with its line and a hint.

    It takes the time of some hundred forward passes. Elements at a kink (relu at 0, a tied max) are
    counted and not judged. Of a large argument some elements are moved, and all at once along one
    direction, which leads to a wrong one among them.

    Args:
        function: computes one tensor or several, as a loss, and is called once; or such a tensor,
            if its graph has kept every constant.

    Raises:
        ValueError: nothing was recorded, or a constant is not kept and a function is needed.

    >>> import tensorgrad
    >>> class Halved(tensorgrad.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x / 2
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> x = tensorgrad.tensor([1.0, 4.0], requires_grad=True)
    >>> print(find_culprit(lambda: (Halved.apply(x.sqrt()) ** 2).sum()).culprit)
    the derivative of Halved by x[1], recorded at <doctest ...>:1..., is ... and should be
    ...: 4 times what it should be
    """
    findings = Findings(None)
    for node, values in _given(function):
        findings.operations += 1
        findings.culprit = _check(node, values, findings)
        if findings.culprit:
            break
    return findings


def _given(function: Any) -> Iterator[tuple[Node, list]]:
    """The recorded operations in their order, with their operands."""
    if callable(function) and not isinstance(function, Variable):
        out, operands = watched(function)
        nodes = {node for root in _roots(out) for node in before(root)}
        for node in sorted(nodes, key=lambda node: node.seq):
            if node in operands:
                yield node, operands[node]
        return
    for root in _roots(function):
        replay = Replay(root)
        values = replay.run()
        for node in replay.nodes:
            if node in replay.constants:
                yield node, replay.operands(node, values)


def _roots(out: Any) -> list[Node]:
    tensors = [out] if isinstance(out, Variable) else list(out)
    roots = [t.node for t in tensors if isinstance(t, Tensor) and t.node is not None]
    if not roots:
        raise ValueError("find_culprit: nothing was recorded that gradients flow through")
    return roots


# --- one operation --------------------------------------------------------------------------------


def _check(node: Node, values: list, findings: Findings) -> Culprit | None:
    local = Local(lambda given: evaluated(node, given), values, _moved(node, values))
    if not local.moved or not local.result.size:
        return None

    culprit = Culprit(node.op.name, "", node.source, text(node.code, node.offset), (), 0, 0, "")
    try:
        got = local.derivatives()
    except Exception as error:  # whatever it is, it comes from the formula
        return replace(culprit, hint=f"{type(error).__name__}: {error}")
    names = node.op.arguments
    for i in local.moved:
        wrong = _wrong(local, i, got[i], findings)
        if wrong is not None:
            position = wrong.positions[wrong.worst]
            return replace(
                culprit,
                argument=names[i] if i < len(names) else str(i),
                index=tuple(int(k) for k in xp.unravel_index(position, values[i].shape)),
                got=float(wrong.got[wrong.worst]),
                expected=float(wrong.expected[wrong.worst]),
                hint=hint(local, wrong, names, _along(node, values)),
            )
    return None


def _moved(node: Node, values: list) -> list[int]:
    """The arguments to check: those that a gradient goes to."""
    return [
        i for i, (parent, value) in enumerate(zip(node.parents, values))
        if parent is not None and value.size
    ]  # fmt: skip


def _wrong(local: Local, i: int, got: Any, findings: Findings) -> Wrong | None:
    """The elements of an argument that were checked, if any of them is wrong."""
    positions = _chosen(local, i, got)
    found = [(k, *local.column(i, k)) for k in positions]
    smooth = [(k, column) for k, column, kink in found if not kink]
    findings.elements += len(found)
    findings.kinks += len(found) - len(smooth)
    if not smooth:
        return None
    wrong = Wrong(
        argument=i,
        positions=[k for k, _ in smooth],
        columns=xp.stack([column for _, column in smooth]),
        derivative=got,
        local=local,
    )
    return wrong if wrong.is_wrong.any() else None


def _chosen(local: Local, i: int, got: Any) -> list[int]:
    """The elements to move: all, or of many some, and one that a wrong sum over all leads to."""
    n, room = got.size, max(4, _ROOM // local.result.size)
    if n <= min(_ALL, room):
        return list(range(n))
    some = {int(k) for k in xp.linspace(0, n - 1, min(_SOME, room))}
    some.add(int(xp.argmax(xp.abs(got.reshape(-1)))))
    places = xp.arange(n)
    if local.disagrees(i, got, places):
        while len(places) > 1:
            first, second = xp.split(places, [len(places) // 2])
            if local.disagrees(i, got, first):
                places = first
            elif local.disagrees(i, got, second):
                places = second
            else:
                break
        some.update(int(k) for k in places[:1])
    return sorted(some)


def _along(node: Node, values: list) -> Callable[[int], Local] | None:
    """The same operation along another axis, if it has one."""
    params = parameters(node)
    if not isinstance(params.get("axis"), int):
        return None

    def along(axis: int) -> Local:
        changed = {**params, "axis": axis}
        function = lambda given: node.op.apply(*map(_tensor, given), **changed)
        return Local(function, values, _moved(node, values))

    return along


def _tensor(value: Any) -> Any:
    return wrap(value) if isinstance(value, xp.ndarray) else value
