"""The loader: batches of a dataset's samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, Generic, TypeVar

from ...backend import xp
from ...backend.dtypes import float64
from ...creation import from_numpy, tensor
from ...functions import stack
from ...random import Generator
from ...tensor import Tensor
from .datasets import IterableDataset, samples
from .samplers import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    batches,
    check_positive,
    number_of_batches,
)

T = TypeVar("T")


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
    >>> from tensorgrad.utils.data import TensorDataset
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
            check_positive(batch_size, "DataLoader: batch_size")
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
        for several in self._uncollated():
            yield self.collate_fn(several)

    def _uncollated(self) -> Iterator[Any]:
        """Lists of samples, or single ones without batches."""
        if self.batch_sampler is not None:
            return (samples(self.dataset, indices) for indices in self.batch_sampler)
        if not self._streams:
            return (self.dataset[index] for index in self.sampler)
        if self.batch_size is not None:
            return batches(self.dataset, self.batch_size, self.drop_last)
        return iter(self.dataset)

    def __len__(self) -> int:
        """The number of batches; TypeError if the dataset or the sampler has no length."""
        if not self._streams:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        if self.batch_size is None:
            return len(self.dataset)
        return number_of_batches(self.dataset, self.batch_size, self.drop_last)
