"""Tools around training: ``data`` makes batches of datasets, ``checkpoint`` saves memory."""

from __future__ import annotations

from . import checkpoint, data, hooks

__all__ = ["checkpoint", "data", "hooks"]
