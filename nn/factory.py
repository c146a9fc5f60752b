"""How layers make their parameters."""

from __future__ import annotations

from typing import Any

import tensorgrad

from .module import Parameter


def new_parameter(*sizes: int, device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter that has a shape and no values yet; there is one device, the CPU."""
    if device is not None and str(device) != "cpu":
        raise RuntimeError(f"a parameter on {device}: tensors live on the CPU only")
    return Parameter(tensorgrad.empty(*sizes, dtype=dtype))
