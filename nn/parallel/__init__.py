"""Training with several processes."""

from __future__ import annotations

from .distributed import DistributedDataParallel, check_replicas

__all__ = ["DistributedDataParallel", "check_replicas"]
