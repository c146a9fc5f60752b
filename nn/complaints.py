"""Complaints of layers: a call that fails names the layer, what it expects and what it got."""

from __future__ import annotations

import sys
from types import CodeType, TracebackType
from typing import Any

from tensorgrad import Tensor

KINDS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, AttributeError)

# Whose frames may lie between a layer and a mistake in what it was called with.
LIBRARY = {"nn", "tensorgrad", "numpy", *sys.stdlib_module_names}

SIZES = {1: "L", 2: "H, W", 3: "D, H, W"}


def channels_first(channels: Any, dims: int, batched: bool = False) -> str:
    """The shape that layers over ``dims`` dims expect; ``batched``: only with the batch."""
    whole = f"[N, {channels}, {SIZES[dims]}]"
    return whole if batched else f"{whole} or [{channels}, {SIZES[dims]}]"


def complaint(layer: Any, error: Exception, args: tuple, kwargs: dict, call: CodeType) -> Exception:
    """``error`` with the layer in front of its message, if it is the layer's own.

    It is not where a layer inside has spoken already, or where code of a user's was called on the
    way: an activation, a module in a container, a hook. ``call`` is the code of Module.__call__.
    """
    if _root(getattr(layer.forward, "__module__", None)) != "nn":
        return error
    if error.__traceback__ is None or not _direct(error.__traceback__.tb_next, call):
        return error
    given = [_described(value) for value in (*args, *kwargs.values())]
    given = [text for text in given if text]
    name = type(layer).__name__
    text = f"{name}({layer.extra_repr()})"
    if layer._expects:
        text += f" expects {layer._expects.format(layer)},"
    text += f" got {' and '.join(given) or 'no tensor'}"
    if isinstance(error, AttributeError):  # of something that is no tensor
        strangers = [v for v in args if not isinstance(v, Tensor) and v is not None]
        return TypeError(f"{text}: what it computes with are tensors") if strangers else error
    if len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (f"{text}: {error.args[0].removeprefix(f'{name}: ')}",)
    return error


def _direct(step: TracebackType | None, call: CodeType) -> bool:
    while step is not None:
        frame, step = step.tb_frame, step.tb_next
        if frame.f_code is call or _root(frame.f_globals.get("__name__")) not in LIBRARY:
            return False
    return True


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _described(value: Any) -> str:
    """A tensor by dtype and shape, several in brackets, a stranger by its type."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).rpartition('.')[2]} {tuple(value.shape)}"
    if isinstance(value, (tuple, list)) and value and all(isinstance(v, Tensor) for v in value):
        return f"({', '.join(map(_described, value))})"
    return "" if value is None or isinstance(value, (bool, int, str)) else type(value).__name__
