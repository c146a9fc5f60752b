"""What is returned where a hook is registered."""

from __future__ import annotations

from ..hooks import RemovableHandle

__all__ = ["RemovableHandle"]
