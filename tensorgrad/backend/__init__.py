"""The seam to the array library: within tensorgrad only this folder imports NumPy.

``xp`` is the namespace of the formulas, ``kernels`` holds hand-tuned versions of fused ops, and
``promotion`` says which dtype an operation has.
"""

from __future__ import annotations

from . import kernels, xp
from .allocator import keep_freed_memory
from .memory import is_view_of, overlap
from .promotion import CATEGORY, DEFAULT_FLOAT, DTYPES, known_dtype, promote, result_dtype

__all__ = [
    "CATEGORY", "DEFAULT_FLOAT", "DTYPES", "is_view_of", "kernels", "known_dtype", "overlap",
    "promote", "result_dtype", "xp",
]  # fmt: skip

keep_freed_memory()
