"""The part of a dataset that one of several processes sees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...distributed import get_rank, get_world_size
from ...random import Generator
from ...sampling import randperm
from .samplers import Sampler


class DistributedSampler(Sampler[int]):
    """Every ``num_replicas``-th index of ``dataset``, from ``rank`` on: a part for each process.

    All parts have the same length: the first indices come twice where the samples do not suffice,
    or the last ones not at all with ``drop_last``.

    Args:
        dataset: only its length counts.
        num_replicas, rank: those of ``tensorgrad.distributed`` by default.
        shuffle: in random order, another one for each epoch that :meth:`set_epoch` is told.
        seed: of that order; the same in all processes.
        drop_last: leave samples out instead of repeating some.

    >>> [list(DistributedSampler(range(5), 2, rank, shuffle=False)) for rank in range(2)]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.num_replicas = get_world_size() if num_replicas is None else num_replicas
        self.rank = get_rank() if rank is None else rank
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(
                f"DistributedSampler: there is no rank {self.rank} among {self.num_replicas}"
            )
        self.dataset, self.shuffle, self.seed, self.drop_last = dataset, shuffle, seed, drop_last
        self.epoch = 0
        left_out = self.num_replicas - 1 if drop_last else 0
        self.num_samples = -(-(len(dataset) - left_out) // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        if self.shuffle:
            order = randperm(n, generator=Generator(self.seed + self.epoch)).tolist()
        else:
            order = list(range(n))
        places = range(self.rank, self.total_size, self.num_replicas)
        return iter([order[place % n] for place in places])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes: without it, all have the same order."""
        self.epoch = epoch
