"""Tools around training: ``data`` makes batches of datasets."""

from __future__ import annotations

from . import data

__all__ = ["data"]
