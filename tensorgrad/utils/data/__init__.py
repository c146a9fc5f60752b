"""Datasets, and the loader that makes shuffled batches of them, as in ``torch.utils.data``.

A map-style dataset has ``__getitem__`` and ``__len__``: a :class:`Dataset`, or any list. An
:class:`IterableDataset` has ``__iter__`` only. A sampler says in which order the samples of a
map-style dataset come, ``default_collate`` makes one batch of several samples, and
:class:`DataLoader` puts these together.
"""

from __future__ import annotations

from .datasets import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from .distributed import DistributedSampler
from .loader import DataLoader, default_collate, default_convert
from .samplers import BatchSampler, RandomSampler, Sampler, SequentialSampler
