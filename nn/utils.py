"""Helpers for training."""

from __future__ import annotations

from tensorgrad.optim import clip_grad_norm_

__all__ = ["clip_grad_norm_"]
