"""Tensors in another dtype, and facts about dtypes; devices, of which there is the CPU."""

from __future__ import annotations

import builtins
from typing import Any

from .. import ops
from ..backend import DTYPE, known_dtype, result_dtype, xp
from ..devices import device, require_cpu, require_ordinary
from ..variable import Variable

# By the names that `Tensor.type()` gives, as PyTorch's are: 'tensorgrad.FloatTensor'.
_TYPE_NAMES = {
    "BoolTensor": "bool", "ByteTensor": "uint8", "CharTensor": "int8", "ShortTensor": "int16",
    "IntTensor": "int32", "LongTensor": "int64", "HalfTensor": "float16",
    "FloatTensor": "float32", "DoubleTensor": "float64",
}  # fmt: skip


def to(
    self: Any, *args: Any, device: Any = None, dtype: Any = None, other: Any = None,
    non_blocking: Any = False, copy: Any = False, memory_format: Any = None,
) -> Any:  # fmt: skip
    """This tensor in another dtype; itself if nothing changes and no copy is asked for.

    ``to(dtype)``, ``to('cpu')``, ``to(device, dtype)`` or ``to(other)``, which means the dtype of
    another tensor; then ``non_blocking``, which means nothing here, and ``copy``.
    """
    rest = list(args)
    if rest and isinstance(rest[0], Variable):
        other = rest.pop(0)
    elif rest and _names_device(rest[0]):
        device = rest.pop(0)
        if rest and not isinstance(rest[0], builtins.bool):
            dtype = rest.pop(0)
    elif rest:
        dtype = rest.pop(0)
    if len(rest) > 2 or not all(isinstance(flag, builtins.bool) for flag in rest):
        raise TypeError(
            f"to: expected (dtype), (device, dtype) or (other), then non_blocking and copy; got "
            f"{', '.join(builtins.type(arg).__name__ for arg in args)}"
        )
    copy = rest[1] if len(rest) == 2 else copy
    require_ordinary(device, memory_format=memory_format)
    wanted = self.array.dtype
    if other is not None:
        wanted = other.array.dtype
    elif dtype is not None:
        wanted = known_dtype(dtype)
    if wanted != self.array.dtype:
        return ops.astype(self, wanted)
    return ops.clone(self) if copy else self


def _names_device(value: Any) -> builtins.bool:
    if isinstance(value, str):
        return value.partition(":")[0] in ("cpu", "cuda", "mps", "xpu", "meta")
    return value is None or isinstance(value, (device, builtins.int))


def cpu(self: Any, memory_format: Any = None) -> Any:
    """This tensor itself: it is there already."""
    require_ordinary(memory_format=memory_format)
    return self


def cuda(self: Any, device: Any = None, non_blocking: builtins.bool = False) -> Any:
    """Complains: there is no GPU here."""
    require_cpu("cuda" if device is None else device)
    return self


def type_as(self: Any, other: Any) -> Any:
    """This tensor in the dtype of another."""
    if not isinstance(other, Variable):
        raise TypeError(f"type_as: expected a tensor, got {builtins.type(other).__name__}")
    return to(self, other)


def type(self: Any, dtype: Any = None, non_blocking: builtins.bool = False) -> Any:
    """This tensor in another dtype; without one, the name 'tensorgrad.FloatTensor' or so."""
    if dtype is None:
        names = {kind: name for name, kind in _TYPE_NAMES.items()}
        return f"tensorgrad.{names[self.array.dtype.name]}"
    if isinstance(dtype, str):
        dtype = _TYPE_NAMES.get(dtype.rpartition(".")[2], dtype)
    return to(self, dtype)


def half(self: Any, memory_format: Any = None) -> Any:
    """This tensor in float16."""
    return to(self, "float16", memory_format=memory_format)


def float(self: Any, memory_format: Any = None) -> Any:
    """This tensor in float32."""
    return to(self, "float32", memory_format=memory_format)


def double(self: Any, memory_format: Any = None) -> Any:
    """This tensor in float64."""
    return to(self, "float64", memory_format=memory_format)


def byte(self: Any, memory_format: Any = None) -> Any:
    """This tensor in uint8."""
    return to(self, "uint8", memory_format=memory_format)


def char(self: Any, memory_format: Any = None) -> Any:
    """This tensor in int8."""
    return to(self, "int8", memory_format=memory_format)


def short(self: Any, memory_format: Any = None) -> Any:
    """This tensor in int16."""
    return to(self, "int16", memory_format=memory_format)


def int(self: Any, memory_format: Any = None) -> Any:
    """This tensor in int32."""
    return to(self, "int32", memory_format=memory_format)


def long(self: Any, memory_format: Any = None) -> Any:
    """This tensor in int64."""
    return to(self, "int64", memory_format=memory_format)


def bool(self: Any, memory_format: Any = None) -> Any:
    """Where this tensor is not 0."""
    return to(self, "bool", memory_format=memory_format)


# --- facts ----------------------------------------------------------------------------------------


def is_tensor(obj: Any) -> builtins.bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Variable)


def is_floating_point(input: Any) -> builtins.bool:
    """Whether the dtype is a float."""
    return input.array.dtype.kind == "f"


def is_complex(input: Any) -> builtins.bool:
    """False: there are no complex tensors."""
    return input.dtype.is_complex


def is_signed(input: Any) -> builtins.bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


def numel(input: Any) -> builtins.int:
    """The number of elements."""
    return input.array.size


def result_type(tensor1: Any, tensor2: Any) -> Any:
    """The dtype that arithmetic gives to two tensors or numbers.

    >>> import tensorgrad
    >>> tensorgrad.result_type(tensorgrad.arange(3), 0.5)
    tensorgrad.float32
    """
    values = [v.array if isinstance(v, Variable) else v for v in (tensor1, tensor2)]
    return DTYPE[xp.dtype(result_dtype(*values))]


__all__ = ["is_tensor", "is_floating_point", "is_complex", "is_signed", "numel", "result_type"]
METHODS_ONLY = (
    "to", "cpu", "cuda", "type", "type_as", "half", "float", "double", "byte", "char", "short",
    "int", "long", "bool",
)  # fmt: skip
FUNCTIONS_ONLY = ("is_tensor", "result_type")
IN_PLACE = ()
