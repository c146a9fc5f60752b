"""Layers as functions, with PyTorch's names and arguments: one file per family."""

from __future__ import annotations

from . import (
    activation,
    attention,
    classification,
    conv,
    noise,
    norm,
    pooling,
    regression,
    resampling,
    vectors,
)
from .activation import *
from .attention import *
from .classification import *
from .conv import *
from .noise import *
from .norm import *
from .pooling import *
from .regression import *
from .resampling import *
from .vectors import *

__all__ = [
    *activation.__all__, *attention.__all__, *classification.__all__, *conv.__all__,
    *noise.__all__, *norm.__all__, *pooling.__all__, *regression.__all__, *resampling.__all__,
    *vectors.__all__,
]  # fmt: skip
