"""Samplers: in which order the samples of a dataset come, and which share a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from ...random import Generator
from ...sampling import randint, randperm
from ...tensor import Tensor

T = TypeVar("T")


class Sampler(Generic[T]):
    """The indices of samples, or lists of them, in some order: define ``__iter__``.

    A :class:`DataLoader` has a length if its sampler has one.
    """

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__()")


class SequentialSampler(Sampler[int]):
    """0, 1, ..., ``len(data_source)`` - 1."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """The indices of ``data_source`` in random order, another one each time.

    Args:
        data_source: only its length counts.
        replacement: draw each index from all, so that some repeat and others are missing.
        num_samples: how many to draw, as many as there are by default. Without replacement, none
            comes a second time before all have come once.
        generator: draws them, or else the default generator.

    The draws are made when the first index is asked for: to repeat an order, restore the state
    that the generator had before.

    >>> generator = Generator(0)
    >>> state = generator.get_state()
    >>> first = list(RandomSampler(range(100), generator=generator))
    >>> second = list(RandomSampler(range(100), generator=generator))
    >>> generator = generator.set_state(state)
    >>> list(RandomSampler(range(100), generator=generator)) == first != second
    True
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: replacement is True or False, not {replacement!r}")
        check_positive(self.num_samples, "RandomSampler: num_samples")

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, left = len(self.data_source), self.num_samples
        if self.replacement:
            yield from _ints(randint(n, size=(left,), generator=self.generator))
            return
        while left > 0:
            yield from _ints(randperm(n, generator=self.generator)[:left])
            left -= n

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list]):
    """Lists of ``batch_size`` indices; the last is shorter, or missing with ``drop_last``.

    >>> list(BatchSampler(range(7), batch_size=3, drop_last=False))
    [[0, 1, 2], [3, 4, 5], [6]]
    """

    def __init__(self, sampler: Iterable, batch_size: int, drop_last: bool) -> None:
        check_positive(batch_size, "BatchSampler: batch_size")
        if not isinstance(drop_last, bool):
            raise ValueError(f"BatchSampler: drop_last is True or False, not {drop_last!r}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list]:
        return batches(self.sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        return number_of_batches(self.sampler, self.batch_size, self.drop_last)


def _ints(indices: Tensor) -> Iterator[int]:
    """The elements of a vector; Python numbers take four times its memory, so not all at once."""
    for start in range(0, len(indices), 4096):
        yield from indices[start : start + 4096].tolist()


def batches(items: Iterable[T], batch_size: int, drop_last: bool) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, batch_size)):
        if len(batch) == batch_size or not drop_last:
            yield batch


def number_of_batches(items: Any, batch_size: int, drop_last: bool) -> int:
    return (len(items) + (0 if drop_last else batch_size - 1)) // batch_size


def check_positive(value: Any, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
