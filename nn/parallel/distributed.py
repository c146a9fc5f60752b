"""Data parallelism: every process has the whole model and a part of each batch."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorgrad
from tensorgrad import Tensor, distributed

from ..module import Module


class DistributedDataParallel(Module):
    """``module`` in every process, with the gradients averaged over all of them.

    Parameters and buffers are those of rank 0 from the start. Each process calls it with its own
    part of a batch; when ``backward()`` returns, every ``.grad`` is the mean over the processes,
    so that the same optimizer makes the same step everywhere. It is the gradient of the mean loss
    over the whole batch if the parts are of equal size; a part of r of R rows weighs right if its
    mean loss is multiplied by ``r * world_size / R``.

    Processes of one machine average in memory that they share: on Linux in ``/dev/shm``, where the
    gradients take their own size once for each process and once more. If there is less of it, or
    the environment variable ``TENSORGRAD_SHARED_MEMORY`` is 0, or there are several machines, MPI
    averages them. Sums of more than two processes can differ by rounding then; in all processes
    they are the same, to the bit.

    Args:
        module: the model, the same in all processes.
        device_ids, output_device: have to be None: the processes compute on CPUs.
        broadcast_buffers: before each forward pass whose gradients are averaged, the buffers (the
            running statistics of a batch norm) become those of rank 0.
        bucket_cap_mb: gradients travel together in buckets of this many MiB; by default an eighth
            of all, but at least 1 and at most 25. One of more than 25 MiB is always MPI's, which
            averages it in its own memory.
        find_unused_parameters: allow parameters that get no gradient in a backward pass.
        gradient_as_bucket_view, static_graph: have no effect; gradients are views of the buckets
            that MPI averages, and of no shared memory.

    Raises:
        RuntimeError: no parameter requires grad, or another process has another model.

    >>> import nn, tensorgrad
    >>> tensorgrad.distributed.init_process_group()  # in each process that mpiexec has started
    >>> model = nn.parallel.DistributedDataParallel(nn.Linear(3, 1))
    >>> model(tensorgrad.ones(2, 3)).sum().backward()
    >>> model.module.bias.grad
    tensor([2.])
    >>> tensorgrad.distributed.destroy_process_group()
    """

    def __init__(
        self,
        module: Module,
        device_ids: Any = None,
        output_device: Any = None,
        dim: int = 0,
        broadcast_buffers: bool | None = None,
        init_sync: bool = True,
        process_group: None = None,
        bucket_cap_mb: float | None = None,
        find_unused_parameters: bool = False,
        check_reduction: bool = False,
        gradient_as_bucket_view: bool = False,
        static_graph: bool = False,
    ) -> None:
        super().__init__()
        if device_ids or output_device is not None:
            raise ValueError(
                "DistributedDataParallel: device_ids and output_device name GPUs, and the "
                "processes compute on CPUs: leave them out"
            )
        if not any(p.requires_grad for p in module.parameters()):
            raise RuntimeError(
                "DistributedDataParallel is not needed when a module doesn't have any parameter "
                "that requires a gradient"
            )
        if bucket_cap_mb is not None and bucket_cap_mb <= 0:
            raise ValueError(
                f"DistributedDataParallel: bucket_cap_mb is {bucket_cap_mb}, and must be above 0"
            )
        world_size = distributed.get_world_size(process_group)
        self.module = module
        self.broadcast_buffers = broadcast_buffers is not False
        self.require_backward_grad_sync = True
        self._buffers_differ = not init_sync
        named = list(module.named_parameters())
        if init_sync:
            tensors = [*named, *module.named_buffers()]
            _check_same_model(tensors)
            for _, t in tensors:
                distributed.broadcast(t.data)
        self._reducer = None
        if world_size > 1:
            self._reducer = distributed.Reducer(named, bucket_cap_mb, find_unused_parameters)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._buffers_differ and self.broadcast_buffers:
            for buffer in self.module.buffers():
                distributed.broadcast(buffer.data)
        self._buffers_differ = False
        if tensorgrad.is_grad_enabled() and self._reducer is not None:
            self._buffers_differ = self._reducer.enabled = self.require_backward_grad_sync
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Forward passes in here give gradients that are only added up in this process.

        The first pass after it averages them all.
        """
        before, self.require_backward_grad_sync = self.require_backward_grad_sync, False
        try:
            yield
        finally:
            self.require_backward_grad_sync = before


def check_replicas(module: Module) -> None:
    """RuntimeError, in all processes, if a parameter is not to the bit that of rank 0.

    It names the parameter and the process. Every process has to call it at the same time.
    """
    named = list(module.named_parameters())
    bits = (p.detach().contiguous().numpy().reshape(-1).view("uint8") for _, p in named)
    first, *others = _from_all(_crcs(bits))
    for rank, other in enumerate(others, 1):
        differing = [name for (name, _), a, b in zip(named, first, other) if a != b]
        if differing:
            more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
            raise RuntimeError(
                f"the parameter {differing[0]}{more} of rank {rank} is not that of rank 0: the "
                "processes' copies of the model have come apart"
            )


def _check_same_model(named: list[tuple[str, Tensor]]) -> None:
    """RuntimeError, in all processes, if one has other parameters or buffers than rank 0."""
    facts = [f"{name}: {p.dtype} {tuple(p.shape)} {p.requires_grad}" for name, p in named]
    counts = [count for (count,) in _from_all([len(facts)])]
    wrong = {f"{count} tensors, not {counts[0]}": rank for rank, count in enumerate(counts)}
    wrong.pop(f"{counts[0]} tensors, not {counts[0]}")
    if not wrong:
        first, *others = _from_all(_crcs(fact.encode() for fact in facts))
        for rank, other in enumerate(others, 1):
            for (name, _), a, b in zip(named, first, other):
                if a != b:
                    wrong.setdefault(f"another shape, dtype or name of {name}", rank)
    for what, rank in wrong.items():
        raise RuntimeError(
            "DistributedDataParallel: all processes need the same model, and the parameters and "
            f"buffers of rank {rank} are not those of rank 0: it has {what}"
        )


def _crcs(pieces: Iterable[Any]) -> list[int]:
    return [zlib.crc32(piece) for piece in pieces]


def _from_all(numbers: list[int]) -> list[list[int]]:
    """The lists of all processes, which are of one length."""
    own = tensorgrad.tensor(numbers, dtype=tensorgrad.int64)
    out = tensorgrad.zeros(distributed.get_world_size(), len(numbers), dtype=tensorgrad.int64)
    distributed.all_gather_into_tensor(out, own)
    return out.tolist()
