"""Optimizers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

from . import lr_scheduler
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .clip import (
    clip_factor,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from .lion import Lion
from .lr_scheduler import LambdaLR, warmup_cosine
from .muon import Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD
