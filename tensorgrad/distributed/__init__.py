"""Several processes, on one machine or many, that work on one model, as in torch.distributed.

``mpiexec -n 4 python program.py`` starts them; the program calls :func:`init_process_group`.
:class:`nn.parallel.DistributedDataParallel` trains with them.

>>> from tensorgrad import distributed
>>> distributed.init_process_group()
>>> distributed.get_rank(), distributed.get_world_size()  # without mpiexec
(0, 1)
>>> distributed.destroy_process_group()
"""

from __future__ import annotations

from ..backend.launch import rank as launch_rank
from ..backend.launch import size as launch_size
from ..random import drawing_rows
from .collectives import (
    ReduceOp,
    Work,
    all_gather,
    all_gather_into_tensor,
    all_reduce,
    barrier,
    broadcast,
    reduce,
    reduce_scatter_tensor,
)
from .joining import (
    destroy_process_group,
    get_backend,
    get_rank,
    get_world_size,
    init_process_group,
    is_available,
    is_initialized,
    is_mpi_available,
)
from .reducer import Reducer

__all__ = [
    "ReduceOp", "Reducer", "Work", "all_gather", "all_gather_into_tensor", "all_reduce", "barrier",
    "broadcast", "destroy_process_group", "drawing_rows", "get_backend", "get_rank",
    "get_world_size", "init_process_group", "is_available", "is_initialized", "is_mpi_available",
    "launch_rank", "launch_size", "reduce", "reduce_scatter_tensor",
]  # fmt: skip
