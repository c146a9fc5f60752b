"""Objects through a file and back, for the tests of saving and loading."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

from tensorgrad import Tensor
from tensorgrad.serialization import load, save

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def same(a: Any, b: Any) -> bool:
    """Equal, of the same types all the way down; nan equals nan, and 0.0 is not -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return (a.dtype, a.shape, a.requires_grad) == (b.dtype, b.shape, b.requires_grad) and (
            a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
        )
    if isinstance(a, dict):
        return list(map(key_of, a)) == list(map(key_of, b)) and all(
            map(same, a.values(), b.values())
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return key_of(a) == key_of(b)


def key_of(value: Any) -> Any:
    return type(value), repr(value) if isinstance(value, float) else value


def through_bytes(obj: Any) -> Any:
    file = io.BytesIO()
    save(obj, file)
    return load(io.BytesIO(file.getvalue()))


def header_of(content: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])
