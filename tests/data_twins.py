"""What the tests of ``tensorgrad.utils.data`` and of PyTorch's have in common."""

from __future__ import annotations

from collections import UserList
from types import ModuleType
from typing import Any


def plain(value: Any) -> Any:
    """What there is to compare: tensors as (dtype, values), containers with their types."""
    if hasattr(value, "tolist"):
        return str(value.dtype).rpartition(".")[2], value.tolist()
    if hasattr(value, "items"):
        return type(value), [(k, plain(v)) for k, v in value.items()]
    if isinstance(value, (list, tuple, UserList)):
        return type(value), [plain(v) for v in value]
    return value


def stream_of(data: ModuleType, n: int) -> Any:
    """0, 1, ..., n - 1 without a length; either library wants a subclass of its own."""
    return type("Stream", (data.IterableDataset,), {"__iter__": lambda self: iter(range(n))})()
