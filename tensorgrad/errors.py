"""The backend's complaints as sentences that teach."""

from __future__ import annotations

from collections.abc import Sequence

from .backend import xp


def explained(op: str, values: Sequence, broadcasts: bool, error: Exception) -> Exception:
    """The backend's complaint as one sentence that names the op and the shapes."""
    shapes = [tuple(v.shape) for v in values if isinstance(v, xp.ndarray)]
    listed = " and ".join(str(s) for s in shapes)
    if isinstance(error, ValueError) and len(shapes) > 1 and broadcasts:
        for axis in range(1, 1 + max(len(s) for s in shapes)):
            sizes = [s[-axis] for s in shapes if len(s) >= axis]
            if len(set(sizes) - {1}) > 1:
                clash = " against ".join(str(n) for n in sizes)
                return RuntimeError(
                    f"{op}: shapes {listed} do not broadcast: dimension -{axis} is {clash}; "
                    "sizes must be equal or 1"
                )
    kind = type(error) if isinstance(error, (IndexError, TypeError)) else RuntimeError
    return kind(f"{op} of shape {listed}: {error}" if shapes else f"{op}: {error}")
