"""Sample inputs of the ops: what every automatic check of the registry runs on.

A sample function takes a :class:`Source` and yields ``(arguments, params)``. Sizes are tiny, for
finite differences cost one evaluation per element; shapes cover 0-dim, empty, size-1, broadcast
and non-contiguous inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..backend import xp

Sample = tuple[tuple, dict]
SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3), (1, 3), (0, 2), (2, 1, 2))
BROADCASTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 1)), ((2, 1, 2), (3, 1)), ((0, 2), (2,)),
    ((), (2, 2)), ((1,), (2,)),
)  # fmt: skip


class Source:
    """Random float64 arrays of several kinds, reproducible from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = xp.Generator(xp.PCG64(seed))

    def normal(self, *shape: int) -> Any:
        return xp.asarray(self.rng.standard_normal(shape))

    def uniform(self, low: float, high: float, *shape: int) -> Any:
        return xp.asarray(self.rng.uniform(low, high, shape))

    def distinct(self, *shape: int) -> Any:
        """Values apart from each other and from 0: for ops with kinks there."""
        n = 1
        for s in shape:
            n *= s
        values = (self.rng.permutation(n) - n // 2 + 0.5) * 0.3
        return xp.asarray(xp.reshape(values, shape))

    def integers(self, high: int, *shape: int) -> Any:
        return xp.asarray(self.rng.integers(0, high, shape))

    def mask(self, *shape: int) -> Any:
        return xp.asarray(self.rng.integers(0, 2, shape) > 0)


def _strided(x: Any) -> Any:
    """The same values behind non-contiguous strides."""
    return xp.permute_dims(xp.asarray(xp.permute_dims(x, (1, 0)), order="C", copy=True), (1, 0))


def unary(kind: Callable[..., Any]) -> Callable[[Source], Iterator[Sample]]:
    """Samples of one tensor: every shape, and non-contiguous strides."""

    def samples(source: Source) -> Iterator[Sample]:
        for shape in SHAPES:
            yield (kind(source, *shape),), {}
        yield (_strided(kind(source, 2, 3)),), {}

    return samples


def binary(
    kind: Callable[..., Any], other: Callable[..., Any] | None = None, number: float = 2.5
) -> Callable[[Source], Iterator[Sample]]:
    """Samples of two tensors over the broadcasting patterns, and with a Python number."""

    def samples(source: Source) -> Iterator[Sample]:
        for a, b in BROADCASTS:
            yield (kind(source, *a), (other or kind)(source, *b)), {}
        yield (_strided(kind(source, 2, 3)), (other or kind)(source, 2, 3)), {}
        yield (kind(source, 3), number), {}
        yield (number - 1, (other or kind)(source, 3)), {}

    return samples


def reduction(kind: Callable[..., Any]) -> Callable[[Source], Iterator[Sample]]:
    """Samples of one tensor reduced over no, one, several and negative axes."""

    def samples(source: Source) -> Iterator[Sample]:
        for shape, axis in (
            ((), None), ((3,), None), ((2, 3), 0), ((2, 3), -1), ((2, 3, 2), (0, 2)), ((1, 3), 0),
        ):  # fmt: skip
            for keepdims in (False, True):
                yield (kind(source, *shape),), {"axis": axis, "keepdims": keepdims}
        yield (_strided(kind(source, 2, 3)),), {"axis": 1, "keepdims": False}

    return samples


def normal(source: Source, *shape: int) -> Any:
    return source.normal(*shape)


def distinct(source: Source, *shape: int) -> Any:
    return source.distinct(*shape)


def between(source: Source, *shape: int) -> Any:
    """Values that never equal those of :func:`distinct`: the other side of a comparison."""
    return source.distinct(*shape) + 0.1


def positive(source: Source, *shape: int) -> Any:
    return source.uniform(0.5, 2.5, *shape)


def away_from_zero(source: Source, *shape: int) -> Any:
    return xp.asarray(source.uniform(0.5, 2.5, *shape) * xp.where(source.mask(*shape), 1.0, -1.0))


def inside_one(source: Source, *shape: int) -> Any:
    return source.uniform(-0.9, 0.9, *shape)


def above_one(source: Source, *shape: int) -> Any:
    return source.uniform(1.2, 3.0, *shape)
