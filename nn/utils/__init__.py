"""Helpers for training: gradients clipped, parameters as one vector, sequences padded."""

from __future__ import annotations

from tensorgrad.optim import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)

from . import rnn
from .convert_parameters import parameters_to_vector, vector_to_parameters
