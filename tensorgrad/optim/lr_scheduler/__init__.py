"""Learning rates that change while one trains, with PyTorch's names, arguments and numbers.

A scheduler sets the rate of every group when it is made, and again at each ``step()``, which
follows the optimizer's.
"""

from __future__ import annotations

from .composed import ChainedScheduler, SequentialLR
from .cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts, warmup_cosine
from .cycles import CyclicLR, OneCycleLR
from .factors import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau
from .scheduler import LRScheduler
