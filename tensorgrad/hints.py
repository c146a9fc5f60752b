"""What is wrong with a derivative: an operation's result when its operands are moved, and guesses.

Each guess is a hypothesis that the numbers confirm or refute; the first that they confirm is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .autograd.derivatives import grad
from .backend import xp
from .mode import enable_grad, no_grad
from .tensor import Tensor
from .variable import wrap

_STEP = 1e-6  # of the differences, for elements up to 1


class Local:
    """One operation at one place: its result, its derivatives, and its differences.

    Several results are one long array. ``function`` takes the operands, arrays or tensors.
    """

    def __init__(self, function: Callable, values: list, moved: list[int]) -> None:
        self.function, self.values, self.moved = function, values, moved
        self.result = self._at(values)
        self.shape = self._shapes[0] if len(self._shapes) == 1 else self.result.shape
        # Irregular, so that no two errors cancel.
        self.cotangent = xp.cos(1.0 + 2.7 * xp.arange(self.result.size))
        # How far differences can be off by rounding alone: those of each element of the result.
        self.rounding = 1e-9 * xp.abs(xp.where(xp.isfinite(self.result), self.result, 0.0))

    def _at(self, values: list) -> Any:
        with no_grad(), xp.errstate(all="ignore"):
            results = [r.array for r in _floats(self.function(values))]
        self._shapes = [r.shape for r in results]
        parts = [xp.asarray(r, dtype="float64").reshape(-1) for r in results]
        return xp.concat(parts) if parts else xp.zeros(0)

    def derivatives(self, scale: float = 1.0) -> dict[int, Any]:
        """The gradients that a backward pass gives of the arguments, by position."""
        given = list(self.values)
        leaves = []
        with enable_grad(), xp.errstate(all="ignore"):
            for i in self.moved:
                leaves.append(wrap(self.values[i]).requires_grad_())
                given[i] = leaves[-1]
            results = [r for r in _floats(self.function(given)) if r.needs_grad]
        starts, begin = [], 0
        for r in results:
            part = scale * self.cotangent[begin : begin + r.array.size]
            starts.append(wrap(part.reshape(r.shape).astype(r.array.dtype)))
            begin += r.array.size
        found = grad(results, leaves, starts, materialize_grads=True)
        return {i: g.array for i, g in zip(self.moved, found)}

    def column(self, i: int, position: int) -> tuple[Any, bool]:
        """The result's derivative by one element, and whether that is at a kink, so that it has
        none: there the differences to both sides disagree, however small the step."""
        x = float(self.values[i].reshape(-1)[position])
        if not math.isfinite(x):
            return xp.zeros(self.result.size), True
        h = _STEP * max(1.0, abs(x))
        floor = 1e-8 + 10 * float(xp.max(self.rounding))
        central, gap, scale = self._sides(i, position, h)
        if gap <= 1e-3 * scale + floor:
            return central, False
        # A curve closes the gap in proportion to the step, as at the bottom of a parabola.
        closer, closer_gap, scale = self._sides(i, position, h / 10)
        if closer_gap <= 1e-3 * scale + 10 * floor:
            return closer, False
        return central, not abs(closer_gap / gap - 0.1) < 0.01

    def _sides(self, i: int, position: int, h: float) -> tuple[Any, float, float]:
        unit = xp.zeros(self.values[i].size)
        unit[position] = 1.0
        up, down = self._step(i, unit, h), self._step(i, unit, -h)
        with xp.errstate(all="ignore"):
            right, left = _change(up, self.result) / h, _change(self.result, down) / h
            gap = float(xp.max(xp.abs(right - left), initial=0.0))
            scale = float(xp.max(xp.abs(right) + xp.abs(left), initial=0.0))
            return (right + left) / 2, math.inf if math.isnan(gap) else gap, scale

    def _step(self, i: int, direction: Any, h: float) -> Any:
        moved = list(self.values)
        x = self.values[i]
        moved[i] = xp.asarray(x + h * direction.reshape(x.shape))  # of a scalar, too
        return self._at(moved)

    def disagrees(self, i: int, got: Any, places: Any) -> bool:
        """Whether the derivative along a direction through ``places`` is wrong, kinks aside."""
        direction = xp.zeros(got.size)
        direction[places] = xp.cos(0.5 + 1.3 * places)
        up, down = self._step(i, direction, _STEP), self._step(i, direction, -_STEP)
        with xp.errstate(all="ignore"):
            change = float(xp.sum(self.cotangent * _change(up, down))) / (2 * _STEP)
            parts = got.reshape(-1) * direction
        # Errors of rounding, and of what the differences leave out, add up like random ones.
        slack = 1e-6 * _norm(parts) + 10 * _norm(self.rounding) + 1e-9
        return not abs(change - float(xp.sum(parts))) <= slack


def _norm(array: Any) -> float:
    return float(xp.sqrt(xp.sum(array * array)))


def _change(up: Any, down: Any) -> Any:
    """The difference, 0 also between two equal infinities."""
    return xp.where(up == down, 0.0, up - down)


def _floats(results: Any) -> list[Tensor]:
    results = results if isinstance(results, tuple) else (results,)
    return [r for r in results if isinstance(r, Tensor) and r.array.dtype.kind == "f"]


class Wrong:
    """The elements of one argument that were checked: what a derivative is and should be."""

    def __init__(
        self, argument: int, positions: list[int], columns: Any, derivative: Any, local: Local
    ) -> None:
        self.argument, self.positions, self.columns = argument, positions, columns
        self.derivative = derivative
        self.parts = columns * local.cotangent  # [elements, results]
        rounding = 10 * local.rounding
        moved = xp.sum(xp.where(columns == 0, 0.0, rounding), axis=1)
        self.slack = 1e-7 + moved + xp.max(rounding)  # which may have hidden a change
        self.expected = xp.sum(self.parts, axis=1)
        self.got = derivative.reshape(-1)[positions]
        self.is_wrong = ~self.close(self.got)
        with xp.errstate(all="ignore"):
            off = xp.abs(self.got - self.expected)
        off = xp.where(xp.isnan(off), xp.inf, off)
        self.worst = int(xp.argmax(xp.where(self.is_wrong, off, -1.0)))

    def close(self, found: Any, expected: Any = None) -> Any:
        """Where ``found`` is what it should be, as far as differences can tell."""
        expected = self.expected if expected is None else expected
        size = xp.sum(xp.abs(self.parts), axis=1)
        with xp.errstate(all="ignore"):
            return xp.abs(found - expected) <= 1e-4 * xp.abs(expected) + 1e-6 * size + self.slack

    def agree(self, found: Any, expected: Any = None) -> bool:
        return bool(xp.all(self.close(found, expected)))

    def rearranged(self, array: Any) -> bool:
        """Whether another arrangement of the derivative would be right."""
        return self.agree(array.reshape(-1)[self.positions])

    @property
    def all_checked(self) -> bool:
        return len(self.positions) == self.derivative.size


def hint(local: Local, wrong: Wrong, names: Sequence[str], along: Callable | None) -> str:
    """What the error looks like, in a few words."""
    guesses = _guesses(local, wrong, names, along)
    return next(guesses, "it is none of the usual errors")


def _guesses(
    local: Local, wrong: Wrong, names: Sequence[str], along: Callable | None
) -> Iterator[str]:
    got, expected = wrong.got, wrong.expected
    if bool(xp.all(~xp.isfinite(got))):
        yield "it is nan or inf everywhere"
        return
    if not xp.any(got):
        yield "it is 0 everywhere, as if nothing depended on this argument"
    doubled = local.derivatives(2.0)[wrong.argument]
    if not xp.all(xp.isclose(doubled, 2 * wrong.derivative, rtol=1e-6, atol=1e-9, equal_nan=True)):
        yield "it is not proportional to the gradient that comes in"
    yield from _factors(wrong)
    yield from _other_arguments(local, wrong, names)
    yield from _unsummed(local, wrong)
    yield from _arrangements(wrong)
    yield from _jacobian(local, wrong)
    yield from _axes(local, wrong, along)
    difference = got - expected
    if len(got) > 1 and wrong.agree(difference, xp.zeros(len(got)) + difference[0]):
        yield f"it is off by {difference[0]:.4g} everywhere"
    yield from _some_elements(local, wrong)


def _factors(wrong: Wrong) -> Iterator[str]:
    got, expected = wrong.got, wrong.expected
    if wrong.agree(-got):
        yield "a wrong sign"
    square = float(xp.sum(expected * expected))
    c = float(xp.sum(got * expected)) / square if square else 0.0
    informative = xp.sum(xp.abs(expected) > wrong.slack) > 1 or len(expected) == 1
    if c and informative and wrong.agree(got / c):
        minus = "minus " if c < 0 else ""
        inverse = round(1 / abs(c)) if abs(c) < 1 else 0
        exact = inverse > 1 and abs(abs(c) * inverse - 1) < 1e-4
        yield f"{minus}{f'1/{inverse}' if exact else f'{abs(c):.6g}'} times what it should be"


def _other_arguments(local: Local, wrong: Wrong, names: Sequence[str]) -> Iterator[str]:
    """The gradient of another argument."""
    shape = local.values[wrong.argument].shape
    for j in local.moved:
        if j != wrong.argument and local.values[j].shape == shape:
            columns = [local.column(j, k)[0] for k in wrong.positions]
            if wrong.agree(wrong.got, xp.stack(columns) @ local.cotangent):
                yield f"it is the derivative by {names[j] if j < len(names) else j}"


def _unsummed(local: Local, wrong: Wrong) -> Iterator[str]:
    """Only a part of the sum over an axis of the result."""
    views = [(f"index {{}} of axis {axis}", axis, local.shape) for axis in range(len(local.shape))]
    if len(local.shape) > 2:
        rows = math.prod(local.shape[:-1])
        views.append(("row {}", 0, (rows, local.shape[-1])))
    for words, axis, shape in views:
        parts = wrong.parts.reshape(len(wrong.parts), *shape)
        others = tuple(a + 1 for a in range(len(shape)) if a != axis)
        slices = xp.sum(parts, axis=others)  # [elements, n]
        for k in {0, shape[axis] - 1} if shape[axis] > 1 else ():
            if wrong.agree(wrong.got, slices[:, k]):
                yield (
                    f"only {words.format(k)} of the result counts: the sum over the others is "
                    "missing (un-broadcasting)"
                )
    last, used = xp.zeros(len(wrong.parts)), xp.zeros(len(wrong.parts))
    for k, row in enumerate(wrong.parts):
        places = xp.nonzero(row)[0]
        used[k] = len(places)
        last[k] = row[places[-1]] if len(places) else 0.0
    if xp.any(used > 1) and wrong.agree(wrong.got, last):
        yield "only the last of several uses of an element counts: they are not added up"


def _arrangements(wrong: Wrong) -> Iterator[str]:
    g = wrong.derivative
    for a in range(g.ndim):
        for b in range(a):
            if g.shape[a] == g.shape[b] and wrong.rearranged(xp.swapaxes(g, a, b)):
                yield f"transposed: axes {b} and {a} are exchanged"
            elif g.ndim == 2:
                turned = xp.swapaxes(g.reshape(g.shape[::-1]), 0, 1)
                if wrong.rearranged(turned):
                    yield "transposed: the rows of the gradient are its columns"
    for axis, n in enumerate(g.shape):
        if n > 1 and wrong.rearranged(xp.flip(g, axis=axis)):
            yield f"in the reverse order along axis {axis}"
        for shift in (1, -1) if n > 2 else ():
            if wrong.rearranged(xp.roll(g, shift, axis=axis)):
                yield f"shifted by one along axis {axis}"


def _jacobian(local: Local, wrong: Wrong) -> Iterator[str]:
    """J g in the place of Jᵀ g."""
    square = wrong.all_checked and wrong.columns.shape == (wrong.derivative.size,) * 2
    if square and wrong.agree(wrong.got, xp.swapaxes(wrong.columns, 0, 1) @ local.cotangent):
        yield "transposed: the Jacobian is applied to the gradient, and not its transpose"


def _axes(local: Local, wrong: Wrong, along: Callable | None) -> Iterator[str]:
    g = wrong.derivative
    if wrong.all_checked and g.ndim > 1:
        right = wrong.expected.reshape(g.shape)
        for a in range(g.ndim):
            for b in range(g.ndim):
                if a != b and _constant(right, a) and _constant(g, b) and not _constant(right, b):
                    yield f"a wrong axis: it is the same along axis {b}, and not along {a}"
    for axis in range(g.ndim) if along else ():
        try:
            other = along(axis)  # type: ignore[misc]
            found = other.derivatives()[wrong.argument]
            columns = [other.column(wrong.argument, k)[0] for k in wrong.positions]
        except Exception:  # the formula cannot do it, so this is not the reason
            continue
        if wrong.agree(found.reshape(-1)[wrong.positions], xp.stack(columns) @ other.cotangent):
            yield f"a wrong axis: it would be right for axis {axis}"


def _constant(array: Any, axis: int) -> bool:
    first = xp.take_along_axis(array, xp.zeros((1,) * array.ndim, dtype="int64"), axis=axis)
    return array.shape[axis] > 1 and bool(xp.all(xp.isclose(array, first, rtol=1e-5, atol=1e-8)))


def _some_elements(local: Local, wrong: Wrong) -> Iterator[str]:
    n, bad = len(wrong.is_wrong), int(xp.sum(wrong.is_wrong))
    if bad == n:
        return
    words = f"right in {n - bad} of the {n} elements that were checked"
    values = local.values[wrong.argument].reshape(-1)[wrong.positions]
    low, high = values[~wrong.is_wrong], values[wrong.is_wrong]
    if n > 2 and xp.max(low) < xp.min(high):
        words += f", wrong from {xp.min(high):.4g} on"
    elif n > 2 and xp.max(high) < xp.min(low):
        words += f", wrong up to {xp.max(high):.4g}"
    yield words


def at_index(index: Sequence[int]) -> str:
    """``[1, 2]``, and nothing for a scalar."""
    return f"[{', '.join(map(str, index))}]" if index else ""
