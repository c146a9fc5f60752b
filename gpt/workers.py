"""The processes that train one model together: who computes which rows, and what all agree on.

A run is the same however many there are: its batches, its dropout and its evaluations are those of
one process, and each worker computes its rows of them. Rank 0 alone writes and speaks.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import nn
import tensorgrad
from tensorgrad import distributed
from tensorgrad.distributed.optim import ZeroRedundancyOptimizer
from tensorgrad.optim import Optimizer

from .model import GPT


class Workers:
    """Those that mpiexec has started, or this process alone; joins them if nobody has yet."""

    def __init__(self) -> None:
        if distributed.launch_size() > 1 and not distributed.is_initialized():
            distributed.init_process_group()
        joined = distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def check_batch(self, rows: int) -> None:
        """ValueError if there are more workers than rows."""
        if rows < self.size:
            raise ValueError(
                f"{self.size} workers cannot share a batch of {rows}: give --batch {self.size} or "
                f"more, or {rows} workers"
            )

    def rows(self, total: int) -> slice:
        """Which of so many rows are this worker's; none has two more than another."""
        return slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def drawing(self, total: int) -> AbstractContextManager[None]:
        """In here, dropout is drawn for this worker's rows of a batch of ``total``."""
        if self.size == 1:
            return nullcontext()
        own = self.rows(total)
        return distributed.drawing_rows(own.start, own.stop, total)

    def parallel(self, model: GPT) -> nn.Module:
        """The model that is called in training steps: gradients are those of the whole batch."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)

    def averaging(self, parallel: nn.Module, wanted: bool) -> AbstractContextManager[None]:
        """In here, passes through the parallel model average the gradients, or add them up."""
        if isinstance(parallel, nn.parallel.DistributedDataParallel) and not wanted:
            return parallel.no_sync()
        return nullcontext()

    def divided(self, kind: type[Optimizer], wanted: bool) -> Callable[..., Optimizer]:
        """What makes an optimizer of that kind, whose state is divided among the workers or not."""
        if self.size == 1 or not wanted:
            return kind
        return partial(ZeroRedundancyOptimizer, optimizer_class=kind)

    def gather(self, optimizer: Optimizer) -> None:
        """Let the first worker have the whole state of an optimizer, to save it; all call this."""
        if isinstance(optimizer, ZeroRedundancyOptimizer):
            optimizer.consolidate_state_dict()

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all workers, in float64: the same in all of them, to the bit."""
        if self.size == 1:
            return list(numbers)
        total = tensorgrad.tensor(list(numbers), dtype=tensorgrad.float64)
        distributed.all_reduce(total)
        return total.tolist()

    def largest(self, *numbers: int) -> list[int]:
        """For each of the numbers, the largest that a worker has given."""
        if self.size == 1:
            return list(numbers)
        found = tensorgrad.tensor(numbers)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return found.tolist()

    def first_text(self, text: str) -> str:
        """The first of all workers' texts that is not empty."""
        if self.size == 1:
            return text
        written = text.encode()
        (length,) = self.largest(len(written))
        own = tensorgrad.tensor(list(written.ljust(length)), dtype=tensorgrad.uint8)
        every = tensorgrad.zeros(self.size, length, dtype=tensorgrad.uint8)
        distributed.all_gather_into_tensor(every, own)
        texts = (bytes(row).decode().rstrip() for row in every.tolist())
        return next(filter(None, texts), "")

    def check_same(self, what: dict[str, Any]) -> None:
        """RuntimeError, in all workers, if one's facts are not those of rank 0; it names them."""
        if self.size == 1:
            return
        crcs = [zlib.crc32(json.dumps(value, sort_keys=True).encode()) for value in what.values()]
        every = tensorgrad.zeros(self.size, len(crcs), dtype=tensorgrad.int64)
        distributed.all_gather_into_tensor(every, tensorgrad.tensor(crcs))
        for rank, other in enumerate(every.tolist()):
            wrong = [name for name, a, b in zip(what, every[0].tolist(), other) if a != b]
            if wrong:
                raise RuntimeError(
                    f"worker {rank} has another {' and '.join(wrong)} than worker 0: all need the "
                    "same files"
                )

    def check_replicas(self, model: GPT) -> None:
        """RuntimeError, in all workers, if a parameter is not the same in all; it is named."""
        if self.size > 1:
            nn.parallel.check_replicas(model)

    def wait(self) -> None:
        """Return when all workers are here."""
        if self.size > 1:
            distributed.barrier()
