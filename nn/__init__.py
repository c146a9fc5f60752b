"""Layers with PyTorch's names, arguments, defaults and initialisation, on tensorgrad.

>>> import nn, tensorgrad
>>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
>>> model(tensorgrad.ones(5, 2)).shape
(5, 1)
"""

from __future__ import annotations

from . import functional, init, utils
from .activation import GELU, ReLU
from .containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from .dropout import Dropout
from .linear import Embedding, Linear
from .loss import CrossEntropyLoss
from .module import Module, Parameter
from .norm import LayerNorm
