"""Why a gradient is what it is: :func:`explain` takes one element's gradient apart.

The backward pass adds up what every use of an element sends back. Here the same sum is followed the
other way, from the element to the loss: a small change of the element is pushed through one
operation after another, and what arrives at a result, times the gradient there, is that part of
the whole.

>>> import tensorgrad
>>> w = tensorgrad.tensor([3.0, 5.0], requires_grad=True)
>>> loss = (w * w[0]).sum()
>>> print(tensorgrad.explain(loss, w[0], names={"w": w}).gradient)  # of w[0]² + w[0] w[1]
11.0
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from .backend import overlap
from .backend import xp as arrays_xp
from .explanation import Explanation, Index, Path, Road, Step, Use, unravelled
from .node import Node
from .replay import NotKept, Replay, watched
from .source import text
from .tensor import Tensor
from .variable import Variable
from .walk import Walk, owner_of, unit

_STEP = 1e-5  # of the finite difference, for elements up to 1
_BRANCHES = 64  # of a path at one element: the heaviest


def explain(
    loss: Tensor | Callable[[], Tensor],
    element: Tensor,
    index: int | Index | None = None,
    *,
    names: Any = None,
    paths: int = 3,
    effort: int = 100,
) -> Explanation:
    """Take the gradient of one element apart: by use, by position, along the heaviest paths.

    Nothing of the graph is consumed and no ``.grad`` is touched; hooks are not called. All is
    computed in float64 from the values that the graph has saved.

    Args:
        loss: a tensor of one element; or a function that computes it, whose constants are then
            kept too, so that there always is a finite difference.
        element: ``parameter[i, j]``, a tensor of one element, or a tensor of which ``index`` says
            the element; a leaf or any tensor that the loss was computed from.
        names: what to call the leaves: a mapping, pairs, or a module.
        paths: how many paths to give, from element to element, and how many roads, each of which
            is all paths through the same operations.
        effort: how often to branch in the search for the heaviest; there can be very many.

    Raises:
        ValueError: it is not one element, or the loss does not depend on it.
        RuntimeError: backward() has freed the graph.

    >>> import tensorgrad
    >>> w = tensorgrad.tensor([3.0, 5.0], requires_grad=True)
    >>> why = tensorgrad.explain(lambda: (w * w).sum() + w.prod(), w, 0)
    >>> [(use.op, use.argument, use.contribution) for use in why.uses]
    [('prod', 'x', 5.0), ('multiply', 'a', 3.0), ('multiply', 'b', 3.0)]
    >>> why.gradient, round(why.finite_difference, 6)
    (11.0, 11.0)
    """
    operands = None
    if not isinstance(loss, Variable):
        loss, operands = watched(loss)
    if not isinstance(loss, Tensor) or loss.array.size != 1 or loss.node is None:
        raise ValueError(
            "explain: the loss must be a tensor of one element that operations were recorded for"
        )
    walk = Walk(loss.node)
    base, position = _resolved(element, index, walk)
    called = _called(names)
    uses = list(_uses(walk, base, position, called))
    uses.sort(key=lambda use: -abs(use.contribution))
    value, difference, why_not = _difference(walk, operands, base, position)
    return Explanation(
        name=_name(base, called),
        index=unravelled(position, base.shape),
        value=value,
        loss=loss.item(),
        gradient=float(walk.gradients[base].reshape(-1)[position]),
        uses=uses,
        roads=_roads(walk, base, position, paths, effort, called),
        paths=_paths(walk, base, position, paths, effort),
        finite_difference=difference,
        no_difference=why_not,
    )


# --- which element --------------------------------------------------------------------------------


def _resolved(element: Any, index: Any, walk: Walk) -> tuple[Any, int]:
    """The node or leaf of the graph that an element belongs to, and its position there, flat.

    ``parameter[i, j]`` was recorded after the loss. The views are followed back to what the loss
    knows, and an array of numbered places is led the same way forward again.
    """
    if not isinstance(element, Tensor):
        raise TypeError(f"explain: the element must be a tensor, not a {type(element).__name__}")
    what, views = element.node or element, []
    while what not in walk.users and isinstance(what, Node) and what.op.view and what.parents:
        views.append(what)
        what = what.parents[0]
    if what in walk.users:
        places = _numbered(what.shape)
        for view in reversed(views):
            places = view.op.forward(arrays_xp, places, **view.params)
    else:
        what, places = _in_memory(element, walk)
    if index is not None:
        try:
            places = places[index]
        except IndexError as error:
            raise IndexError(
                f"explain: the tensor has the shape {element.shape}: {error}"
            ) from None
    if places.size != 1:
        raise ValueError(
            f"explain: which element of the tensor of shape {tuple(places.shape)}? Pass one, as "
            "parameter[i, j], or its index: explain(loss, parameter, (i, j))"
        )
    return what, int(places.reshape(-1)[0])


def _in_memory(element: Tensor, walk: Walk) -> tuple[Any, Any]:
    """The same for a view without a history, made under no_grad: by where it lies in memory."""
    for tensor in element._relatives():
        what = tensor.node or tensor
        if what in walk.users and tensor is not element:
            found = overlap(element.array, tensor.array)
            if found is not None and found[0].all():
                return what, found[1].reshape(element.shape)
    raise ValueError(
        f"explain: the loss was not computed from this tensor of shape {tuple(element.shape)}, or "
        "not in a way that gradients flow along"
    )


def _numbered(shape: Index) -> Any:
    return arrays_xp.arange(math.prod(shape)).reshape(shape)


# --- by use and by position -----------------------------------------------------------------------


def _uses(walk: Walk, base: Any, position: int, called: Mapping[int, list]) -> Iterator[Use]:
    """The operations that an element goes into; through views, to those that compute with it."""
    stack: list[tuple[Any, Any, tuple[str, ...]]] = [(base, unit(position, base.shape), ())]
    while stack:
        what, change, through = stack.pop()
        for node, i in walk.users[what]:
            arrived = walk.push(node, i, change)
            owner = owner_of(node)
            if owner.op.view and walk.users[node]:
                stack.append((node, arrived, (*through, owner.op.name)))
                continue
            parts = walk.gradients[node] * arrived
            names = owner.op.arguments
            yield Use(
                op=node.op.name,
                argument=names[i] if i < len(names) else str(i),
                through=through,
                source=owner.source,
                code=text(owner.code, owner.offset),
                module=_module(owner, called),
                shape=tuple(node.shape),
                contribution=float(arrays_xp.sum(parts)),
                by_position=arrays_xp.sum(parts, axis=-1) if parts.ndim else parts,
            )


def _called(names: Any) -> dict[int, list[str]]:
    """The names of leaves by their id; of a module's parameters all that they have."""
    if hasattr(names, "named_parameters"):
        names = names.named_parameters(remove_duplicate=False)
    called: dict[int, list[str]] = {}
    for name, t in names.items() if isinstance(names, Mapping) else names or ():
        called.setdefault(id(t.node or t), []).append(name)
    return called


def _name(base: Any, called: Mapping[int, list[str]]) -> str:
    if id(base) in called:
        return called[id(base)][0]
    return f"the result of {base.op.name}" if isinstance(base, Node) else base.name or "leaf"


def _module(node: Node, called: Mapping[int, list[str]]) -> str:
    """The layer that an operation belongs to: what the names of its parameters have in common."""
    layers: list[str] = []
    for parent in node.parents:
        for name in called.get(id(parent), ()):
            layer = name.rpartition(".")[0]
            if layer and layer not in layers:
                layers.append(layer)
    return " = ".join(layers)


# --- along roads and paths ------------------------------------------------------------------------


@dataclass
class _Beginning:
    """A path or road as far as it was followed: all paths that begin so have this ``weight``."""

    what: Any
    state: Any  # a path: the position; a road: the change that has arrived
    factor: float  # a path: the product of its derivatives
    weight: float
    steps: tuple


def _heaviest(start: _Beginning, root: Node, wanted: int, effort: int, go_on: Callable) -> list:
    """Complete paths, the heaviest of those that are found by going on where most is at stake.

    When the effort is spent, the beginnings at hand are finished by their heaviest branches.
    """
    number = count()  # so that equal weights are not compared further
    complete: list[_Beginning] = []
    heap = [(-math.inf, next(number), start)]
    branched = 0
    while heap and len(complete) < wanted:
        _, _, begun = heapq.heappop(heap)
        if begun.what is root:
            complete.append(begun)
            continue
        branches = sorted(go_on(begun), key=lambda b: -abs(b.weight))
        branched += 1
        if branched > effort:
            branches = branches[:1]
            heap = heapq.nsmallest(2 * wanted, heap)
        for branch in branches:
            heapq.heappush(heap, (-abs(branch.weight), next(number), branch))
    return sorted(complete, key=lambda found: -abs(found.weight))


def _roads(
    walk: Walk, base: Any, position: int, wanted: int, effort: int, called: Mapping[int, list]
) -> list[Road]:
    def go_on(begun: _Beginning) -> Iterator[_Beginning]:
        for node, i in walk.users[begun.what]:
            arrived = walk.push(node, i, begun.state)
            weight = float(arrays_xp.sum(arrived * walk.gradients[node]))
            yield _Beginning(node, arrived, 1.0, weight, (*begun.steps, node))

    start = _Beginning(base, unit(position, base.shape), 1.0, 1.0, ())
    return [
        Road(
            ops=[node.op.name for node in found.steps],
            numbers=[node.seq for node in found.steps],
            modules=[_module(owner_of(node), called) for node in found.steps],
            contribution=found.weight,
        )
        for found in _heaviest(start, walk.root, wanted, effort, go_on)
    ]


def _paths(walk: Walk, base: Any, position: int, wanted: int, effort: int) -> list[Path]:
    known: dict[tuple[Any, int], list] = {}

    def branches_of(what: Any, at: int) -> list[tuple]:
        """(node, position, derivative) of the elements that an element goes into."""
        if (what, at) not in known:
            known[what, at] = found = []
            for node, i in walk.users[what]:
                local = walk.push(node, i, unit(at, what.shape)).reshape(-1)
                weights = arrays_xp.abs(local * walk.gradients[node].reshape(-1))
                heavy = arrays_xp.argsort(-weights)[:_BRANCHES]
                found += [(node, int(k), float(local[k])) for k in heavy if weights[k]]
        return known[what, at]

    def go_on(begun: _Beginning) -> Iterator[_Beginning]:
        for node, k, local in branches_of(begun.what, begun.state):
            factor = begun.factor * local
            weight = factor * float(walk.gradients[node].reshape(-1)[k])
            yield _Beginning(node, k, factor, weight, (*begun.steps, (node, k, local)))

    start = _Beginning(base, position, 1.0, 1.0, ())
    return [
        Path([_step(walk, *step) for step in found.steps], found.weight)
        for found in _heaviest(start, walk.root, wanted, effort, go_on)
    ]


def _step(walk: Walk, node: Node, position: int, local: float) -> Step:
    owner = owner_of(node)
    return Step(
        op=node.op.name,
        number=node.seq,
        index=unravelled(position, node.shape),
        derivative=local,
        gradient=float(walk.gradients[node].reshape(-1)[position]),
        view=bool(owner.op.view),
        source=owner.source,
    )


# --- the finite difference ------------------------------------------------------------------------


def _difference(
    walk: Walk, operands: Any, base: Any, position: int
) -> tuple[float, float | None, str]:
    """The element's value, and the central difference of the recorded operations in float64."""
    value = math.nan if isinstance(base, Node) else float(base.array.reshape(-1)[position])
    try:
        replay = Replay(walk.root, operands)
    except NotKept as error:
        return value, None, f"{error}; explain(lambda: ..., element) keeps everything"
    except RuntimeError as error:
        return value, None, str(error)

    def loss_at(h: float) -> float:
        def moved(what: Any, array: Any) -> Any:
            nonlocal value
            if what is not base:
                return array
            array = arrays_xp.array(array)
            if not h:
                value = float(array.reshape(-1)[position])
            array[arrays_xp.unravel_index(position, array.shape)] += h
            return array

        return float(replay.run(moved)[walk.root].reshape(-1)[0])

    loss_at(0.0)
    h = _STEP * max(1.0, abs(value))
    return value, (loss_at(h) - loss_at(-h)) / (2 * h), ""
