"""The seam to the array library: within tensorgrad only this folder imports NumPy.

``xp`` is the namespace of the formulas, ``kernels`` holds hand-tuned versions of fused ops,
``dtypes`` says which dtypes there are, and ``promotion`` which one an operation has.
"""

from __future__ import annotations

from . import launch  # before NumPy is loaded: it says how many threads that may have

# isort: split
from . import kernels, xp
from .allocator import keep_freed_memory
from .dtypes import DTYPE, default_float, known_dtype
from .kernels import current, use
from .memory import is_view_of, overlap
from .promotion import CATEGORY, promote, promote_types, result_dtype

__all__ = [
    "CATEGORY", "DTYPE", "current", "default_float", "is_view_of", "kernels", "known_dtype",
    "launch", "overlap", "promote", "promote_types", "result_dtype", "use", "xp",
]  # fmt: skip

keep_freed_memory()
