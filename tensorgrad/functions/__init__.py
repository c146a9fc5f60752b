"""Functions with PyTorch's names and arguments over the ops, which have NumPy's.

One file per family. Each says at its end which names it exports; they are functions of
``tensorgrad`` and methods of Tensor, whose first argument is the tensor, but for those in
``FUNCTIONS_ONLY`` and ``METHODS_ONLY``. Those in ``IN_PLACE`` have a form with an underscore too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import casting, counting, elementwise, indexing, joining, moving, reductions, shapes, sorting
from .casting import *
from .counting import *
from .elementwise import *
from .indexing import *
from .joining import *
from .moving import *
from .reductions import *
from .shapes import *
from .sorting import *

FAMILIES: tuple[Any, ...] = (
    casting, elementwise, reductions, sorting, counting, shapes, moving, joining, indexing
)  # fmt: skip

METHODS: dict[str, Callable] = {
    name: getattr(family, name)
    for family in FAMILIES
    for name in (*family.__all__, *family.METHODS_ONLY)
    if name not in family.FUNCTIONS_ONLY
}
IN_PLACE: dict[str, Callable] = {
    f"{name}_": getattr(family, name) for family in FAMILIES for name in family.IN_PLACE
}

__all__ = [name for family in FAMILIES for name in family.__all__]
