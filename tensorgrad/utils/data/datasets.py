"""Datasets: samples by index, or one after the other."""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from ...random import Generator
from ...sampling import randperm
from ...tensor import Tensor

T = TypeVar("T")


class Dataset(Generic[T]):
    """Samples by index: define ``__getitem__`` and, for most uses, ``__len__``.

    ``__getitems__(indices)``, which returns the list of several samples, is optional; where it is
    defined, a :class:`DataLoader` calls it once for a batch. ``a + b`` is a :class:`ConcatDataset`.

    >>> class Squares(Dataset):
    ...     def __len__(self):
    ...         return 5
    ...
    ...     def __getitem__(self, index):
    ...         return index**2
    >>> from tensorgrad.utils.data import DataLoader
    >>> list(DataLoader(Squares(), batch_size=3))
    [tensor([0, 1, 4]), tensor([ 9, 16])]
    """

    def __getitem__(self, index: Any) -> T:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__()")

    def __add__(self, other: Dataset[T]) -> ConcatDataset[T]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T]):
    """Samples one after the other, as of a stream: define ``__iter__``, and ``__len__`` if known.

    >>> class Countdown(IterableDataset):
    ...     def __iter__(self):
    ...         return iter([3, 2, 1])
    >>> from tensorgrad.utils.data import DataLoader
    >>> list(DataLoader(Countdown(), batch_size=2))
    [tensor([3, 2]), tensor([1])]
    """

    def __iter__(self) -> Iterator[T]:
        raise NotImplementedError(f"{type(self).__name__} does not define __iter__()")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Sample i is the tuple of the i-th entries of ``tensors``: [n, ...] each.

    >>> import tensorgrad
    >>> TensorDataset(tensorgrad.zeros(3, 2), tensorgrad.arange(3))[1]
    (tensor([0., 0.]), tensor(1))
    """

    def __init__(self, *tensors: Tensor) -> None:
        shapes = [tuple(t.shape) for t in tensors]
        if () in shapes or len({shape[0] for shape in shapes}) != 1:
            raise ValueError(
                f"TensorDataset: the tensors must have the same first size, got shapes {shapes}"
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class Subset(Dataset[T]):
    """The samples of ``dataset`` at ``indices``, in that order.

    >>> list(Subset("abcde", [3, 0, 3]))
    ['d', 'a', 'd']
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T]:
        if type(self).__getitem__ is not Subset.__getitem__:  # a subclass that changes samples
            return [self[i] for i in indices]
        return samples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T]):
    """Datasets one behind the other.

    >>> joined = ConcatDataset([range(3), range(10, 12)])
    >>> len(joined), joined[3], joined[-1]
    (5, 10, 11)
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: there are no datasets to join")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                raise TypeError(
                    "ConcatDataset: its samples have indices, and those of the IterableDataset "
                    f"{type(dataset).__name__} do not"
                )
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index: int) -> T:
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"ConcatDataset: there is no sample {index} among {len(self)}")
        which = bisect_right(self.cumulative_sizes, position)
        return self.datasets[which][position - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset]:
    """Split a dataset at random into parts that share no sample.

    Args:
        dataset: a map-style dataset of n samples.
        lengths: of the parts, n together; or fractions, 1 together. Parts by fraction are rounded
            down, and what is left over goes to the parts in turn, one sample each.
        generator: draws the split, or else the default generator.

    Raises:
        ValueError: the lengths do not add up to n, or one is negative.

    >>> parts = random_split(range(10), [0.75, 0.25])
    >>> [len(part) for part in parts]
    [8, 2]
    """
    n = len(dataset)
    if min(lengths, default=0) < 0:
        raise ValueError(f"random_split: no length can be negative, got {list(lengths)}")
    if math.isclose(math.fsum(lengths), 1):
        sizes = [math.floor(n * fraction) for fraction in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
        for i, size in enumerate(sizes):
            if size == 0:
                warnings.warn(
                    f"random_split: part {i}, the fraction {lengths[i]} of {n} samples, is empty",
                    stacklevel=2,
                )
    elif sum(lengths) == n and all(isinstance(length, int) for length in lengths):
        sizes = [int(length) for length in lengths]
    else:
        raise ValueError(
            f"random_split: lengths must be integers that add up to the {n} samples of the "
            f"dataset, or fractions that add up to 1, got {list(lengths)}"
        )
    order = randperm(n, generator=generator).tolist()
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, accumulate(sizes))]


def samples(dataset: Any, indices: list[Any]) -> list[Any]:
    """Several samples of a map-style dataset, at once if it can."""
    if callable(several := getattr(dataset, "__getitems__", None)):
        return several(indices)
    return [dataset[i] for i in indices]
