"""The seam to the array library: within tensorgrad only this folder imports NumPy.

``xp`` is the namespace of the formulas, ``kernels`` holds hand-tuned versions of fused ops, and
``promotion`` says which dtype an operation has.
"""

from __future__ import annotations

from . import kernels, xp
from .promotion import DEFAULT_FLOAT, promote, result_dtype

__all__ = ["DEFAULT_FLOAT", "kernels", "promote", "result_dtype", "xp"]
