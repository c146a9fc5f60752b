"""What all processes do together with tensors, under PyTorch's names.

Every process has to call the same functions in the same order, with tensors of the same shapes
and dtypes. The tensors are overwritten in place, also those that are not contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from ..backend import is_view_of, xp
from ..mode import is_grad_enabled
from ..tensor import Tensor
from .group import Group
from .joining import joined


class ReduceOp(Enum):
    """How the elements of several processes become one; AVG is their mean."""

    SUM = "SUM"
    AVG = "AVG"
    PRODUCT = "PRODUCT"
    MIN = "MIN"
    MAX = "MAX"
    BAND = "BAND"
    BOR = "BOR"
    BXOR = "BXOR"


class Work:
    """An operation under way: until it has ended, its tensors are neither read nor written."""

    def __init__(self, group: Group, request: Any, name: str, finish: Callable[[], None]) -> None:
        self._group, self._request, self._name = group, request, name
        self._finish: Callable[[], None] | None = finish

    def is_completed(self) -> bool:
        """Whether it has ended; asking lets it go on, for nobody else works at it."""
        if self._finish is not None and self._group.done(self._request):
            self._end()
        return self._finish is None

    def wait(self) -> bool:
        """Return True when it has ended; RuntimeError if another process does not take part."""
        if self._finish is not None:
            self._group.wait(self._request, self._name)
            self._end()
        return True

    def _end(self) -> None:
        finish, self._finish, self._request = self._finish, None, None
        if finish is not None:
            finish()


def all_reduce(
    tensor: Tensor, op: ReduceOp = ReduceOp.SUM, group: None = None, async_op: bool = False
) -> Work | None:
    """Overwrite ``tensor`` with the sum (or ``op``) of those of all processes.

    Args:
        async_op: return a :class:`Work` at once; ``tensor`` is ready after its ``wait()``.

    >>> import tensorgrad
    >>> from tensorgrad import distributed
    >>> distributed.init_process_group()
    >>> losses = tensorgrad.tensor([1.0, 2.0])
    >>> distributed.all_reduce(losses, distributed.ReduceOp.AVG)
    >>> distributed.destroy_process_group()
    """
    world = joined(group)
    array = _carried(tensor, "all_reduce", op)
    request = world.all_reduce(array, _operation(tensor, op, "all_reduce"))
    return _started(world, request, "all_reduce", [(tensor, array)], op, async_op)


def reduce(
    tensor: Tensor,
    dst: int = 0,
    op: ReduceOp = ReduceOp.SUM,
    group: None = None,
    async_op: bool = False,
) -> Work | None:
    """As :func:`all_reduce`, but only the process ``dst`` gets the result."""
    world = joined(group)
    _check_rank("reduce", dst, world)
    array = _carried(tensor, "reduce", op)
    request = world.reduce(array, _operation(tensor, op, "reduce"), dst)
    results = [(tensor, array)] if world.rank == dst else []
    return _started(world, request, "reduce", results, op, async_op)


def broadcast(
    tensor: Tensor, src: int = 0, group: None = None, async_op: bool = False
) -> Work | None:
    """Overwrite ``tensor`` with that of the process ``src``."""
    world = joined(group)
    _check_rank("broadcast", src, world)
    array = _carried(tensor, "broadcast")
    request = world.broadcast(array, src)
    results = [(tensor, array)] if world.rank != src else []
    return _started(world, request, "broadcast", results, None, async_op)


def all_gather(
    tensor_list: Sequence[Tensor], tensor: Tensor, group: None = None, async_op: bool = False
) -> Work | None:
    """Write the tensors of all processes into ``tensor_list``, by rank."""
    world = joined(group)
    if len(tensor_list) != world.size:
        raise RuntimeError(
            f"all_gather: {world.size} processes need {world.size} tensors in tensor_list, "
            f"not {len(tensor_list)}"
        )
    for i, t in enumerate(tensor_list):
        _check_alike("all_gather", t, tensor.shape, tensor, f"tensor_list[{i}]")
    array = _carried(tensor, "all_gather", writes=False)
    out = xp.empty((world.size, *array.shape), dtype=array.dtype)
    request = world.all_gather(out, array)
    results = [(t, out[i, ...]) for i, t in enumerate(tensor_list)]
    return _started(world, request, "all_gather", results, None, async_op)


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: None = None, async_op: bool = False
) -> Work | None:
    """Write the tensors of all processes, [n, ...] each, into ``output_tensor``: [N * n, ...].

    A new first dimension, [N, n, ...], will do as well.
    """
    world, name = joined(group), "all_gather_into_tensor"
    shape = tuple(input_tensor.shape)
    joint = (world.size * shape[0], *shape[1:]) if shape else (world.size,)
    if tuple(output_tensor.shape) != (world.size, *shape):
        _check_alike(name, output_tensor, joint, input_tensor, "output_tensor")
    _check_alike(name, output_tensor, output_tensor.shape, input_tensor, "output_tensor")
    out, array = _carried(output_tensor, name), _carried(input_tensor, name, writes=False)
    request = world.all_gather(out, array)
    return _started(world, request, name, [(output_tensor, out)], None, async_op)


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: ReduceOp = ReduceOp.SUM,
    group: None = None,
    async_op: bool = False,
) -> Work | None:
    """Sum ``input``, [N * n, ...], over all processes; each gets its share of it, [n, ...]."""
    world, name = joined(group), "reduce_scatter_tensor"
    shape = tuple(output.shape)
    joint = (world.size * shape[0], *shape[1:]) if shape else (world.size,)
    if tuple(input.shape) != (world.size, *shape):
        _check_alike(name, input, joint, output, "input")
    _check_alike(name, input, input.shape, output, "input")
    out, array = _carried(output, name, op), _carried(input, name, op, writes=False)
    request = world.reduce_scatter(out, array, _operation(input, op, name))
    return _started(world, request, name, [(output, out)], op, async_op)


def barrier(group: None = None, async_op: bool = False) -> Work | None:
    """Wait until all processes are here."""
    world = joined(group)
    return _started(world, world.barrier(), "barrier", [], None, async_op)


# --- what they share ------------------------------------------------------------------------------


def _carried(tensor: Any, name: str, op: ReduceOp | None = None, writes: bool = True) -> Any:
    """The array that MPI sees: the tensor's own where it can be, else a contiguous copy."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if writes and tensor.node is not None and is_grad_enabled():
        raise RuntimeError(
            f"{name}: it overwrites a result of a recorded operation, and no gradient can flow "
            "through that; detach() the tensor first"
        )
    array = tensor.array
    if array.dtype == xp.float16 and op is not None:  # MPI cannot compute with it
        return array.astype(xp.float32)
    if array.dtype.kind == "b" or array.dtype == xp.float16:
        array = array.view(xp.uint8 if array.dtype.kind == "b" else xp.int16)
    usable = array.flags.c_contiguous and (array.flags.writeable or not writes)
    return array if usable else xp.ascontiguousarray(array).reshape(array.shape)


# Of what is true or false, seen as 0 and 1.
_LOGICAL = {"SUM": "MAX", "BOR": "MAX", "PRODUCT": "MIN", "BAND": "MIN"}


def _operation(tensor: Tensor, op: ReduceOp, name: str) -> str:
    """MPI's operation; RuntimeError if the dtype has none of that kind."""
    if not isinstance(op, ReduceOp):
        raise TypeError(f"{name}: op is a ReduceOp, not {op!r}")
    kind = tensor.array.dtype.kind
    if op is ReduceOp.AVG and kind != "f":
        raise RuntimeError(f"{name}: the mean of {tensor.dtype} would be no {tensor.dtype}")
    if op.value in ("BAND", "BOR", "BXOR") and kind == "f":
        raise RuntimeError(f"{name}: {op.value} needs integers, not {tensor.dtype}")
    if kind == "b":
        return _LOGICAL.get(op.value, op.value)
    return "SUM" if op is ReduceOp.AVG else op.value


def _started(
    world: Group,
    request: Any,
    name: str,
    results: list[tuple[Tensor, Any]],
    op: ReduceOp | None,
    async_op: bool,
) -> Work | None:
    """Wait for an operation, or hand out the Work; then ``results`` are written."""

    def finish() -> None:
        for tensor, array in results:
            if op is ReduceOp.AVG and world.size > 1:
                array /= world.size
            own = tensor.array
            if own.dtype.kind == "b" or (own.dtype == xp.float16 and array.dtype == xp.int16):
                array = array.view(own.dtype)
            if not is_view_of(array, own):
                with xp.errstate(over="ignore"):
                    xp.copyto(own, array.reshape(own.shape))
            tensor.wrote(f"distributed.{name}")

    work = Work(world, request, name, finish)
    if async_op:
        return work
    work.wait()
    return None


def _check_rank(name: str, rank: int, world: Group) -> None:
    if not 0 <= rank < world.size:
        raise RuntimeError(f"{name}: there is no rank {rank} among {world.size} processes")


def _check_alike(name: str, t: Any, shape: Sequence[int], model: Tensor, which: str) -> None:
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}: {which} must be a tensor, not {type(t).__name__}")
    if tuple(t.shape) != tuple(shape):
        raise RuntimeError(
            f"{name}: {which} has the shape {tuple(t.shape)}, needed is {tuple(shape)}"
        )
    if t.dtype != model.dtype:
        raise ValueError(f"{name}: {which} is of {t.dtype}, and the other tensor of {model.dtype}")
