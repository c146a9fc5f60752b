"""Tensors as text, laid out as PyTorch prints them.

Four decimals, none where all numbers are whole, powers of ten where they are far apart; corners
only of what has more than 1000 elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .backend import default_float, xp


class _Options:
    precision = 4  # decimals
    threshold: float = 1000  # elements; more are cut short
    edgeitems = 3  # what is left at each end of a dim that is cut short
    linewidth = 80  # columns
    sci_mode: bool | None = None  # powers of ten: always, never, or where numbers are far apart


options = _Options()
_PROFILES: dict[str, dict[str, float]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": float("inf"), "edgeitems": 3, "linewidth": 80},
}


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors are printed: decimals, how many elements, how wide, powers of ten.

    ``profile`` is ``"default"``, ``"short"`` or ``"full"``; what else is given goes on top.
    ``sci_mode`` is back to automatic unless given.
    """
    if profile is not None and profile not in _PROFILES:
        raise ValueError(f"set_printoptions: there is no profile {profile!r}, only {[*_PROFILES]}")
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems,
             "linewidth": linewidth}  # fmt: skip
    new: dict = dict(_PROFILES[profile]) if profile else {}
    new |= {name: value for name, value in given.items() if value is not None}
    options.__dict__.update(new, sci_mode=sci_mode)


def described(array: Any, notes: Sequence[str]) -> str:
    """``tensor(...)`` with the elements, what is unusual about their type, and ``notes``."""
    head = "tensor("
    unusual = [default_float()] if not array.size else [default_float(), xp.int64, xp.bool_]
    if array.dtype not in unusual:
        notes = [f"dtype=tensorgrad.{array.dtype}", *notes]
    if not array.size and array.ndim != 1:
        notes = [f"size={array.shape}", *notes]
    short = array.size > options.threshold
    cell, width = _style(_corners(array) if short else array)
    text = head + (_block(array, cell, width, len(head), short) if array.size else "[]")
    column = len(text) - text.rfind("\n") + 1  # with the last note's ", " or ")"
    for note in notes:
        if column + len(note) + 2 > options.linewidth:
            text, column = f"{text},\n{' ' * len(head)}{note}", len(head) + len(note)
        else:
            text, column = f"{text}, {note}", column + len(note) + 2
    return text + ")"


def _style(x: Any) -> tuple[Callable[[Any], str], int]:
    """How to write an element of ``x``, and how wide that is."""
    style: Callable[[Any], str] = str
    counted = x
    if x.dtype.kind == "f":
        counted = x[xp.isfinite(x) & (x != 0)].astype(xp.float64)
        sizes = xp.abs(counted) if counted.size else xp.ones(1)
        low, high = sizes.min(), sizes.max()
        scattered = high > 1000 * low or high > 1e8 or low < 1e-4
        if scattered if options.sci_mode is None else options.sci_mode:
            style = f"{{:.{options.precision}e}}".format
        elif (sizes == xp.floor(sizes)).all():
            style = lambda v: f"{v:.0f}." if xp.isfinite(v) else str(v)
        else:
            style = f"{{:.{options.precision}f}}".format
    width = max((len(style(v)) for v in counted.reshape(-1).tolist()), default=1)
    return (lambda v: style(v).rjust(width)), width


def _corners(x: Any) -> Any:
    """The elements that are shown of a tensor cut short."""
    edge = options.edgeitems
    for axis, n in enumerate(x.shape):
        if n > 2 * edge:
            ends = [slice(0, edge), slice(n - edge, n)]
            x = xp.concat([x[(slice(None),) * axis + (end,)] for end in ends], axis=axis)
    return x


def _block(x: Any, cell: Callable[[Any], str], width: int, indent: int, short: bool) -> str:
    if not x.ndim:
        return cell(x.item())
    n, edge = len(x), options.edgeitems
    cut = short and n > 2 * edge
    shown = [*x[:edge], *x[n - edge :]] if cut else list(x)
    inner = [_block(v, cell, width, indent + 1, short) for v in shown]
    if cut:
        inner.insert(edge, "..." if x.ndim > 1 else " ...")
    if x.ndim > 1:
        return "[" + ("," + "\n" * (x.ndim - 1) + " " * (indent + 1)).join(inner) + "]"
    per_line = max(1, (options.linewidth - indent) // (width + 2))
    lines = [", ".join(inner[i : i + per_line]) for i in range(0, len(inner), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
