"""Derivatives: as values, of functions, through functions with a backward of their own."""

from __future__ import annotations

from ..mode import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)
from ..testing import gradcheck, gradgradcheck
from . import function, functional
from .derivatives import backward, grad
from .function import Function
