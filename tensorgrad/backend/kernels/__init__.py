"""Hand-tuned versions of the fused ops: ``plain`` in NumPy, ``compiled`` in Numba.

A fused op asks :func:`find` for its :class:`Kernel`; an optimizer asks :func:`routine`
for a function of arrays. Numba's are taken where Numba is installed, unless ``use`` or
the environment variable ``TENSORGRAD_BACKEND`` say otherwise; what Numba has none for, NumPy does.
Nothing imports Numba before one of its kernels has to be compiled.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any

from .. import products
from . import plain
from .attention import attention_kernel
from .kernel import Kernel
from .linear import linear_kernels

__all__ = ["Kernel", "current", "find", "routine", "use"]

BACKENDS = ("numpy", "numba")
PLAIN: dict[str, Any] = {**plain.KERNELS, "scaled_dot_product_attention": attention_kernel(plain)}
PLAIN.update(linear_kernels(lambda name: routine(name)))  # with the activations of either
# Named here, so that asking for another one does not import Numba.
COMPILED = frozenset(
    (
        "gelu",
        "relu_",
        "layer_norm",
        "rms_norm",
        "cross_entropy",
        "scaled_dot_product_attention",
        "adam",
        "sum_of_squares",
        "sgd",
        "scale",
        "add_rows",
        "product",
        "softmax",
        "softmax_vjp",
        "log_softmax",
        "log_softmax_vjp",
        "dropout",
    )
)

enabled = True  # False: every fused op runs as its composite
_backend = ""  # "" until a kernel is wanted, or chosen by use()
_table: dict[str, Any] = {}  # those that were wanted so far


def find(name: str) -> Any:
    """The kernel of the op called ``name``; None if there is none, or kernels are not wanted."""
    return routine(name) if enabled else None


def routine(name: str) -> Any:
    """The function or kernel called ``name``, or None."""
    if name not in _table:
        _table[name] = _compiled(name) if current() == "numba" and name in COMPILED else None
        _table[name] = _table[name] or PLAIN.get(name)
    return _table[name]


products.routine = routine  # the kernels use products, so these cannot ask for them by import


def current() -> str:
    """The name of the backend whose kernels are used, ``"numpy"`` or ``"numba"``."""
    if not _backend:
        use(os.environ.get("TENSORGRAD_BACKEND") or None)
    return _backend


def use(backend: str | None = None) -> None:
    """Choose where kernels come from: ``"numpy"``, ``"numba"``, or None for the better one here.

    What was recorded before keeps the kernels that it was recorded with.

    Raises:
        ValueError: there is no backend of that name.
        ModuleNotFoundError: Numba is not installed.

    >>> import tensorgrad
    >>> tensorgrad.backend.use("numpy")
    >>> tensorgrad.backend.current()
    'numpy'
    >>> tensorgrad.backend.use()
    """
    global _backend
    installed = importlib.util.find_spec("numba") is not None
    if backend is None:
        backend = "numba" if installed else "numpy"
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}: choose from {', '.join(BACKENDS)}")
    if backend == "numba" and not installed:
        raise ModuleNotFoundError(
            "the backend numba needs Numba: pip install 'tensorgrad-gpt[fast]', or choose numpy"
        )
    _backend = backend
    _table.clear()


def _compiled(name: str) -> Any:
    global _backend
    try:
        from . import compiled, loops

        loops.check()
    except Exception as error:  # a Numba that does not fit this Python or NumPy
        warnings.warn(
            f"Numba cannot be used ({type(error).__name__}: {error}); NumPy is, and slower",
            RuntimeWarning,
            stacklevel=2,
        )
        _backend = "numpy"
        return None
    return compiled.KERNELS[name]
