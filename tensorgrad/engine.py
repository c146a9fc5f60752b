"""The chain rule: the backward pass walks the recorded nodes from last to first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from heapq import heappop, heappush
from typing import Any

from . import anomaly, errors
from .backend import xp as arrays_xp
from .hooks import Hooks, hooked
from .mode import set_detect_anomaly, set_grad_enabled, watching
from .mode import state as mode
from .node import Node, recorded
from .variable import Bound, Variable, wrap

ndarray = arrays_xp.ndarray

PARTS = 8  # of a gradient that wait to be put together; more would hold too much memory


def unbroadcast(xp: Any, g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its input was repeated."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        i for i, n in enumerate(shape, extra) if n == 1 != g.shape[i]
    )
    return xp.reshape(xp.sum(g, axis=axes), shape)


def _on_the_way(roots: Sequence[Any], inputs: Sequence[Any]) -> set[Any]:
    """The nodes between ``roots`` and ``inputs``, and what the latter's gradients go to."""
    needed: set[Any] = {t.node or t for t in inputs}
    for node in recorded(roots):
        if any(p in needed for p in node.parents):
            needed.add(node)
    return needed


def backward(
    roots: Sequence[Any],
    gradients: Sequence[Any],
    *,
    inputs: Sequence[Any] | None = None,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> list[Any]:
    """The reverse pass from ``roots``, whose gradients are given, with no recursion.

    Without ``inputs`` every leaf's gradient is added to its ``.grad``. With them, only the way to
    them is walked, and their gradients are returned (None where there is no way).
    """
    xp: Any = Bound.ops if create_graph else arrays_xp
    found: dict[int, Any] = {}
    needed: set[Any] | None = None
    if inputs is not None:
        targets = {id(t.node or t) for t in inputs}
        needed = _on_the_way(roots, inputs)

    pending: dict[Any, Any] = {}  # gradients of what was not visited yet
    owned: set[Any] = set()  # those whose pending gradient nobody else can see
    parts: dict[Any, list] = {}  # of nodes whose gradient came in pieces only so far
    complete: set[Any] = set()  # leaves for which somebody waits, when their turn comes
    queue: list[tuple] = []  # latest first
    first_uses: dict[Any, int] = {}
    watched, checking, watcher = bool(hooked), mode.checking, mode.watcher
    observed = checking or watcher is not None

    def ours(g: Any, fresh: bool) -> Any:
        """``g`` for the caller, who may write into it."""
        return g if fresh or create_graph else arrays_xp.array(g)

    def after_its_users(to: Any) -> tuple:
        """The turn of a leaf with hooks: right after the first node that used it."""
        if not first_uses:
            for node in reversed(recorded(roots)):
                first_uses.update((p, node.seq) for p in node.parents if isinstance(p, Variable))
        return 0.5 - first_uses.get(to, 0), id(to), to

    def assemble(to: Node) -> None:
        pending[to] = arrays_xp.assembled(parts.pop(to), to.strides)
        owned.add(to)

    def added(to: Any) -> None:
        """Those who wait for all of a leaf's ``.grad``, to which was added, have a turn."""
        if to.hooks.after and to not in complete:
            complete.add(to)
            heappush(queue, after_its_users(to))

    def received(to: Any, g: Any) -> bool:
        """Whether ``g``, which is not written yet, could be added to what is there, or can wait."""
        if not isinstance(to, Node) and inputs is None and not (watched and _is_seen(to)):
            if not _add_to_grad(to, g):
                return False
            if to.hooks:
                added(to)
            return True
        if to in owned and (g.shape, g.dtype) == (to.shape, pending[to].dtype):
            g.add_to(pending[to])
            return True
        if not isinstance(g, arrays_xp.Scattered) or not isinstance(to, Node):
            return False
        if to in parts and len(parts[to]) < PARTS:
            parts[to].append(g)
            return True
        if to in parts or to in pending:
            return False
        if needed is None or to in needed:
            parts[to] = [g]
            heappush(queue, (-to.seq, to))
        return True

    def receive(to: Any, g: Any, fresh: bool) -> None:
        """Add ``g`` to the gradient of a node or leaf; ``fresh``: ``g`` is ours to keep."""
        is_node = isinstance(to, Node)
        if isinstance(g, arrays_xp.Unwritten):
            if (is_node or to._grad is not None or watched) and received(to, g):
                return
            g, fresh = g.written((to if is_node else to.array).strides), True
        if g.shape != to.shape:
            g, fresh = unbroadcast(xp, g, to.shape), not create_graph
        dtype = to.dtype if is_node else to.array.dtype
        if g.dtype is not dtype and g.dtype != dtype:
            g, fresh = xp.astype(g, dtype), not create_graph
        if not is_node and not (watched and _is_seen(to)):
            if inputs is None:
                _add(to, g, fresh, create_graph)
                if to.hooks:
                    added(to)
            elif id(to) in targets:
                found[id(to)] = found[id(to)] + g if id(to) in found else ours(g, fresh)
            return
        if to in parts:
            assemble(to)
        if to not in pending:
            if needed is not None and to not in needed:
                return
            pending[to] = g
            if fresh and type(g) is ndarray:
                owned.add(to)
            heappush(queue, (-to.seq, to) if is_node else after_its_users(to))
        elif to in owned:
            arrays_xp.add(pending[to], g, out=pending[to])
        elif fresh and type(g) is ndarray:
            pending[to] = arrays_xp.add(pending[to], g, out=g)
            owned.add(to)
        else:
            pending[to] = total = pending[to] + g
            if type(total) is ndarray:  # not a Tensor, nor a NumPy scalar
                owned.add(to)

    # What the formulas do on the way is not searched for nan and inf, only what they give; and a
    # checkpoint that computes values again is no news.
    with (
        watching(watcher if create_graph else None) if watcher is not None else nullcontext(),
        set_grad_enabled(create_graph),
        set_detect_anomaly(False),
        arrays_xp.errstate(all="ignore"),
    ):
        for root, g in zip(roots, gradients, strict=True):
            receive(root.node or root, g if create_graph else g.array, False)
        while queue:
            node = heappop(queue)[-1]
            if node in complete:
                _tell(node)
                continue
            if node in parts:
                assemble(node)
            g = pending.pop(node)
            if needed is not None and isinstance(node, Node) and id(node) in targets:
                found[id(node)] = ours(g, node in owned)
            if watched and (hooks := getattr(node, "hooks", None)) is not None:
                g = _through(hooks, node, g, create_graph)
                if not isinstance(node, Node):
                    if inputs is None:
                        fresh = node in owned and not hooks.before  # which may have kept it
                        accumulate(node, g, fresh, create_graph)
                    else:
                        found[id(node)] = ours(g, False)
                    continue
            saved = node.op.reopened(node) if create_graph else node.values()
            pulled = node.op.pull(xp, g, node, saved)
            if observed:
                pulled = [(i, _written(gi)) for i, gi in pulled]
                if checking:
                    anomaly.check_gradients(node, g, saved, pulled)
                if watcher is not None:
                    watcher.differentiated(node, g, pulled)
            for i, gi in pulled:
                parent = node.parents[i]
                if parent is not None:
                    fresh = type(gi) is ndarray and gi.base is None and gi is not g
                    receive(parent, gi, fresh)
            pulled = gi = None  # and what they are computed from
            if not retain_graph and node.plan.keeps_values:
                del saved
                node.release()
    results = [found.get(id(t.node or t)) for t in inputs or ()]
    return [r if r is None or create_graph else wrap(arrays_xp.asarray(r)) for r in results]


def _written(g: Any) -> Any:
    """For those who look at it, perhaps several times."""
    return arrays_xp.asarray(g) if isinstance(g, arrays_xp.Unwritten) else g


def _add_to_grad(leaf: Any, g: Any) -> bool:
    """Add what is not written yet straight to the ``.grad`` that a leaf has.

    Whether that was possible. A product begins with the gradient of the batches before; and that
    of a large table, used also as output layer or by several batches, costs as much as the rows
    that were looked up, without zeros around them.
    """
    grad = leaf._grad
    if grad is None or grad.needs_grad or (grad.shape, grad.array.dtype) != (g.shape, g.dtype):
        return False
    g.add_to(grad.array)
    grad.wrote("the accumulation of gradients")
    return True


def _is_seen(leaf: Any) -> bool:
    """Whether hooks see the gradient before it is added to ``.grad``."""
    return leaf.hooks is not None and bool(leaf.hooks.before)


def accumulate(leaf: Any, g: Any, fresh: bool, create_graph: bool) -> None:
    """Add ``g`` to the ``.grad`` of a tensor, and tell those who wait for that."""
    _add(leaf, g, fresh, create_graph)
    if leaf.hooks:
        _tell(leaf)


def _add(leaf: Any, g: Any, fresh: bool, create_graph: bool) -> None:
    if create_graph:
        leaf._grad = Bound.ops.clone(g) if leaf._grad is None else leaf._grad + g
    elif leaf._grad is None:
        leaf._grad = wrap(arrays_xp.asarray(g) if fresh else arrays_xp.array(g))
    elif leaf._grad.needs_grad:
        leaf._grad = leaf._grad + wrap(arrays_xp.asarray(g))
    else:
        arrays_xp.add(leaf._grad.array, g, out=leaf._grad.array)
        leaf._grad.wrote("the accumulation of gradients")


def _tell(leaf: Any) -> None:
    for hook in list(leaf.hooks.after.values()):
        if (result := hook(leaf)) is not None:
            raise TypeError(
                "a post-accumulate-grad hook must return None, not a "
                f"{type(result).__name__}; it may change .grad of the tensor it is given"
            )


def _through(hooks: Hooks, to: Any, g: Any, create_graph: bool) -> Any:
    """The gradient of ``to`` after its hooks have seen it, and perhaps replaced it."""
    tensor = g if create_graph else wrap(arrays_xp.asarray(g))
    for hook in list(hooks.before.values()):
        given = hook(tensor)
        if given is not None:
            errors.check_replaced_gradient(hook, tensor, given)
            tensor = given
    g = tensor if create_graph else tensor.array
    for keeper in hooks.keepers:
        result = keeper()
        if result is not None and result.node is to:
            accumulate(result, g, False, create_graph)
    return g


def grad_of(tensor: Any, gradient: Any | None, name: str = "backward") -> Any:
    """The gradient to start from at ``tensor``: the one given, or 1 for a single element."""
    if not tensor.needs_grad:
        raise errors.no_history(name)
    if gradient is None:
        if tensor.array.size != 1:
            raise errors.wrong_gradient(name, tensor.shape, None)
        return wrap(arrays_xp.ones_like(tensor.array))
    if not isinstance(gradient, Variable):
        raise TypeError(f"{name}: a gradient must be a tensor, not {type(gradient).__name__}")
    if gradient.shape != tensor.shape:
        raise errors.wrong_gradient(name, tensor.shape, gradient.shape)
    return gradient
