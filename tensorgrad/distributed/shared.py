"""Averages of arrays over the processes of one machine, through memory that they share.

The memory has a part for each process and one for the results. Of arrays that lie there one after
the other, every process

1. copies its own into its part, and all meet;
2. sums its share of all parts, in the order of the ranks, into the results, and all meet;
3. copies the results to where its arrays are.

So each sum is made once, and is the same everywhere, to the bit. A process that is at step 1 again
spoils nothing: who has summed needs its part no more, and the results are written after the next
meeting, to which all come with what they have copied.

Two processes have it simpler. Each copies half of its numbers, all meet, and each adds both parts
straight into its arrays, in the same order; then they meet again before the next numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..backend import xp
from .group import Group, Window

LINE = 64  # bytes of which a processor writes one at a time: no two processes share any
CHUNK = 1 << 16  # elements that are summed at a time, so that they stay close to the processor


def room(sizes: Sequence[int], dtype: Any) -> int:
    """The bytes that arrays of so many elements take of each part."""
    return -(-sum(sizes) * travelling(dtype).itemsize // LINE) * LINE


def travelling(dtype: Any) -> Any:
    """The dtype that sums are made in."""
    return xp.dtype(xp.float32) if dtype == xp.float16 else xp.dtype(dtype)


class Place:
    """Where some arrays of one dtype lie in a window, and whose share of them is which.

    Before :meth:`average`, each array is :meth:`put` there.

    Args:
        start: the first of its bytes, of ``room(sizes, dtype)``, in each part.
    """

    def __init__(self, window: Window, start: int, shapes: Sequence[Any], dtype: Any) -> None:
        world, self.window = window.world, window
        dtype = travelling(dtype)
        ends = [0]
        for shape in shapes:
            ends.append(ends[-1] + xp.empty(shape, bool).size)
        self.parts, result = (
            [p[start : start + ends[-1] * dtype.itemsize].view(dtype) for p in parts]
            for parts in (window.parts, [window.result])
        )
        self.result = result[0]
        step = -(-ends[-1] // world.size * dtype.itemsize // LINE) * LINE // dtype.itemsize
        self.share = range(ends[-1])[world.rank * step : (world.rank + 1) * step]
        # Those of each rank, in the arrays' shapes, and the results.
        *self.given, self.averages = (
            [flat[a:b].reshape(shape) for a, b, shape in zip(ends, ends[1:], shapes)]
            for flat in (*self.parts, self.result)
        )
        self.own = self.given[world.rank]

    def put(self, position: int, array: Any) -> None:
        """Copy the array at that position into this process's part."""
        own = self.own[position]
        if len(self.parts) == 2:
            xp.multiply(array, 0.5, out=own, dtype=own.dtype)  # as exact as to halve the sum
        else:
            own[...] = array

    def average(self, arrays: Sequence[Any]) -> Averaging:
        """Begin to overwrite the arrays with the means of what all processes have put there.

        All of them begin, and ask how far it is, in the same order of places.
        """
        steps = self._of_two if len(self.parts) == 2 else self._of_more
        return Averaging(self.window.world, steps(arrays))

    # What follows the first copies; what is yielded is to be awaited.

    def _of_two(self, arrays: Sequence[Any]) -> Iterator[Any]:
        yield from self.window.meet(0)
        with xp.errstate(all="ignore"):
            for array, first, second in zip(arrays, *self.given):
                xp.add(first, second, out=array, casting="same_kind")
        yield from self.window.meet(1)  # from now on, each may put other numbers there

    def _of_more(self, arrays: Sequence[Any]) -> Iterator[Any]:
        yield from self.window.meet(0)
        self._sum()
        yield from self.window.meet(1)
        with xp.errstate(all="ignore"):
            for array, average in zip(arrays, self.averages):
                xp.copyto(array, average, casting="same_kind")

    def _sum(self) -> None:
        first, *others = self.parts
        with xp.errstate(all="ignore"):
            for start in self.share[::CHUNK]:
                piece = slice(start, min(start + CHUNK, self.share.stop))
                total = self.result[piece]
                xp.add(first[piece], others[0][piece], out=total)
                for other in others[1:]:
                    total += other[piece]
                total /= len(self.parts)


class Averaging:
    """Steps under way, as a :class:`Work`: between two of them is what has to be awaited."""

    def __init__(self, world: Group, steps: Iterator[Any]) -> None:
        self._world, self._steps = world, steps
        self._request: Any = None
        self._ended = False
        self._step()

    def _step(self) -> None:
        try:
            self._request = next(self._steps)
        except StopIteration:
            self._ended = True

    def is_completed(self) -> bool:
        """Whether all is done; asking lets it go on, for nobody else works at it."""
        while not self._ended and self._world.done(self._request):
            self._step()
        return self._ended

    def wait(self) -> bool:
        """Return True when all is done; RuntimeError if another process does not take part."""
        while not self._ended:
            self._world.wait(self._request, "all_reduce")
            self._step()
        return True
