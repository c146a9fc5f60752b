"""Datasets, and the loader that makes shuffled batches of them, as in ``torch.utils.data``.

A map-style dataset has ``__getitem__`` and ``__len__``: a :class:`Dataset`, or any list. An
:class:`IterableDataset` has ``__iter__`` only. A sampler says in which order the samples of a
map-style dataset come, ``default_collate`` makes one batch of several samples, and
:class:`DataLoader` puts these together.
"""

from __future__ import annotations

import copy
import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import accumulate, islice
from typing import Any, Generic, TypeVar

from ..backend import xp
from ..backend.dtypes import float64
from ..creation import from_numpy, tensor
from ..functions import stack
from ..random import Generator
from ..sampling import randint, randperm
from ..tensor import Tensor

T = TypeVar("T")

# --- datasets -------------------------------------------------------------------------------------


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
        return _samples(self.dataset, [self.indices[i] for i in indices])

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


def _samples(dataset: Any, indices: list[Any]) -> list[Any]:
    """Several samples of a map-style dataset, at once if it can."""
    if callable(several := getattr(dataset, "__getitems__", None)):
        return several(indices)
    return [dataset[i] for i in indices]


# --- samplers -------------------------------------------------------------------------------------


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
        _check_positive(self.num_samples, "RandomSampler: num_samples")

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
        _check_positive(batch_size, "BatchSampler: batch_size")
        if not isinstance(drop_last, bool):
            raise ValueError(f"BatchSampler: drop_last is True or False, not {drop_last!r}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list]:
        return _batches(self.sampler, self.batch_size, self.drop_last)

    def __len__(self) -> int:
        return _number_of_batches(self.sampler, self.batch_size, self.drop_last)


def _ints(indices: Tensor) -> Iterator[int]:
    """The elements of a vector; Python numbers take four times its memory, so not all at once."""
    for start in range(0, len(indices), 4096):
        yield from indices[start : start + 4096].tolist()


def _batches(items: Iterable[T], batch_size: int, drop_last: bool) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, batch_size)):
        if len(batch) == batch_size or not drop_last:
            yield batch


def _number_of_batches(items: Any, batch_size: int, drop_last: bool) -> int:
    return (len(items) + (0 if drop_last else batch_size - 1)) // batch_size


def _check_positive(value: Any, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


# --- batches --------------------------------------------------------------------------------------


def default_collate(batch: Sequence[Any]) -> Any:
    """One batch of a list of samples.

    Tensors and arrays of one shape are stacked, with the samples as the new first dim; numbers
    become a vector (ints int64, floats float64, NumPy scalars of their dtype). Strings and bytes
    stay as they are. Dicts, named tuples and sequences are collated entry by entry; a tuple
    becomes a list.

    Raises:
        RuntimeError: shapes or lengths differ; the message says between which samples.
        TypeError: the samples differ in kind, or are of a kind that is not listed here.

    >>> default_collate([{"x": (0, "a")}, {"x": (1, "b")}])
    {'x': [tensor([0, 1]), ('a', 'b')]}
    """
    return _collate(batch, "")


def _collate(batch: Sequence[Any], at: str) -> Any:
    """``default_collate``; ``at`` says where in the samples these entries stand: " at ['x'][0]"."""
    if not batch:
        raise ValueError("default_collate: the batch is empty")
    first = batch[0]
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Tensor):
        _check_kind(batch, Tensor, at)
        _check_same([tuple(t.shape) for t in batch], "shapes", at)
        if len({t.dtype for t in batch}) == 1 and not any(t.requires_grad for t in batch):
            return from_numpy(xp.stack([t.array for t in batch]))  # the same, ten times faster
        return stack(batch)
    if isinstance(first, xp.ndarray):
        _check_kind(batch, xp.ndarray, at)
        return _collate([from_numpy(array) for array in batch], at)
    if isinstance(first, xp.generic):
        return from_numpy(xp.asarray(batch))
    if isinstance(first, (int, float)):
        _check_kind(batch, (int, float), at)
        return tensor(batch, dtype=float64 if isinstance(first, float) else None)
    if isinstance(first, Mapping):
        _check_kind(batch, Mapping, at)
        for i, sample in enumerate(batch):
            if missing := [key for key in first if key not in sample]:
                raise KeyError(f"default_collate: sample {i}{at} lacks {missing}, sample 0 has it")
        return _like(
            first, {k: _collate([s[k] for s in batch], f"{at or ' at '}[{k!r}]") for k in first}
        )
    if isinstance(first, Sequence):
        _check_kind(batch, Sequence, at)
        _check_same([len(sample) for sample in batch], "lengths", at)
        entries = [_collate(entry, f"{at or ' at '}[{i}]") for i, entry in enumerate(zip(*batch))]
        if isinstance(first, tuple):
            return type(first)(*entries) if hasattr(first, "_fields") else entries
        return _like(first, entries)
    raise TypeError(
        f"default_collate: samples{at} are of type {type(first).__name__}; a batch can be made of "
        "tensors, arrays, numbers, strings, dicts, tuples and lists, others need a collate_fn"
    )


def _like(container: Any, entries: Any) -> Any:
    """A container of the type of another, or a plain one if that cannot be made of entries."""
    try:
        if isinstance(container, MutableMapping):  # what else it has is kept, as a default is
            clone = copy.copy(container)
            clone.update(entries)
            return clone
        return type(container)(entries)
    except TypeError:
        return entries


def _check_kind(batch: Sequence[Any], kind: Any, at: str) -> None:
    for i, sample in enumerate(batch):
        if not isinstance(sample, kind):
            raise TypeError(
                f"default_collate: sample 0{at} is a {type(batch[0]).__name__} and sample {i} a "
                f"{type(sample).__name__}"
            )


def _check_same(facts: list[Any], what: str, at: str) -> None:
    for i, fact in enumerate(facts):
        if fact != facts[0]:
            raise RuntimeError(
                f"default_collate: samples 0 and {i} have the {what} {facts[0]} and {fact}{at}, "
                "and a batch needs them equal; pad them, or pass a collate_fn"
            )


def default_convert(sample: Any) -> Any:
    """A sample with its NumPy arrays and scalars as tensors, for loading without batches.

    >>> import numpy
    >>> default_convert({"x": numpy.arange(2), "name": "a"})
    {'x': tensor([0, 1]), 'name': 'a'}
    """
    if isinstance(sample, (str, bytes, Tensor)):
        return sample
    if isinstance(sample, (xp.ndarray, xp.generic)):
        return sample if sample.dtype.kind in "SUO" else from_numpy(xp.asarray(sample))
    if isinstance(sample, Mapping):
        return _like(sample, {key: default_convert(value) for key, value in sample.items()})
    if isinstance(sample, Sequence):
        entries = [default_convert(entry) for entry in sample]
        if isinstance(sample, tuple):
            return type(sample)(*entries) if hasattr(sample, "_fields") else entries
        return _like(sample, entries)
    return sample


class DataLoader(Generic[T]):
    """Goes through a dataset in batches, in a new order each time with ``shuffle``.

    Args:
        dataset: an :class:`IterableDataset`, or anything with ``__getitem__`` and ``__len__``.
        batch_size: samples in a batch. None gives the samples themselves, without batches.
        shuffle: random order, drawn by ``generator``.
        sampler: gives the indices in another order.
        batch_sampler: gives a list of indices for each batch, and so stands in for all of
            ``batch_size``, ``shuffle``, ``sampler`` and ``drop_last``.
        num_workers: 0; the batches are made in this process, when they are asked for.
        collate_fn: makes a batch of a list of samples, :func:`default_collate` by default. Without
            batches it gets a single sample, :func:`default_convert` by default.
        drop_last: leave out a last batch that is shorter.
        generator: draws the order, or else the default generator. It does so once in an epoch,
            before the first batch: with its state of then, the epoch can be repeated.

    Raises:
        ValueError: arguments that exclude each other, or sizes that are none.
        TypeError: ``dataset`` has neither indices nor is it an :class:`IterableDataset`.

    >>> import tensorgrad
    >>> dataset = TensorDataset(tensorgrad.arange(10).float().reshape(5, 2), tensorgrad.arange(5))
    >>> loader = DataLoader(dataset, batch_size=2, shuffle=True, generator=Generator(0))
    >>> len(loader)
    3
    >>> [tuple(x.shape) for x, y in loader]
    [(2, 2), (2, 2), (1, 2)]
    """

    # Each of these has gone into the others.
    _fixed = ("dataset", "batch_size", "sampler", "batch_sampler", "drop_last")

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable | None = None,
        batch_sampler: Iterable | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if num_workers != 0:
            raise ValueError(
                f"DataLoader: num_workers is {num_workers!r}, and there are no workers here: "
                "leave it 0, and batches are made in this process"
            )
        if batch_size is not None:
            _check_positive(batch_size, "DataLoader: batch_size")
        elif drop_last:
            raise ValueError("DataLoader: drop_last has no meaning without batches")
        self._streams = isinstance(dataset, IterableDataset)
        if self._streams:
            if shuffle or sampler is not None or batch_sampler is not None:
                raise ValueError(
                    "DataLoader: the samples of an IterableDataset come in its own order: neither "
                    "shuffle nor sampler nor batch_sampler can change it"
                )
        elif not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"DataLoader: a {type(dataset).__name__} has no samples by index; subclass Dataset "
                "or IterableDataset"
            )
        if sampler is not None and shuffle:
            raise ValueError("DataLoader: a sampler says the order, so shuffle must not be given")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "DataLoader: a batch_sampler says what each batch is, so batch_size, shuffle, "
                    "sampler and drop_last must not be given"
                )
            batch_size = None
        if sampler is None and not self._streams:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else (
                SequentialSampler(dataset))  # fmt: skip
        if batch_size is not None and sampler is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        if collate_fn is None:
            whole = batch_size is None and batch_sampler is None
            collate_fn = default_convert if whole else default_collate
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.sampler: Any = sampler
        self.batch_sampler: Any = batch_sampler
        self.num_workers, self.collate_fn, self.generator = num_workers, collate_fn, generator

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fixed and name in self.__dict__:
            raise ValueError(f"DataLoader: {name} cannot change any more; make another loader")
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[T]:
        for samples in self._uncollated():
            yield self.collate_fn(samples)

    def _uncollated(self) -> Iterator[Any]:
        """Lists of samples, or single ones without batches."""
        if self.batch_sampler is not None:
            return (_samples(self.dataset, indices) for indices in self.batch_sampler)
        if not self._streams:
            return (self.dataset[index] for index in self.sampler)
        if self.batch_size is not None:
            return _batches(self.dataset, self.batch_size, self.drop_last)
        return iter(self.dataset)

    def __len__(self) -> int:
        """The number of batches; TypeError if the dataset or the sampler has no length."""
        if not self._streams:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        if self.batch_size is None:
            return len(self.dataset)
        return _number_of_batches(self.dataset, self.batch_size, self.drop_last)
