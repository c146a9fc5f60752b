"""Complaints as sentences that teach: what was asked, what clashed, what would have worked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .backend import xp


def explained(op: str, values: Sequence, broadcasts: bool, error: Exception) -> Exception:
    """The backend's complaint as one sentence that names the op and the shapes."""
    shapes = [tuple(v.shape) for v in values if isinstance(v, xp.ndarray)]
    listed = " and ".join(map(str, shapes))
    if "numpy boolean" in str(error):
        return RuntimeError(f"{op}: bools are no numbers; ~ negates them, ^ tells where two differ")
    if isinstance(error, ValueError) and op == "matmul":
        return RuntimeError(f"matmul: shapes {listed} do not fit: {_mismatch(*shapes)}")
    if isinstance(error, ValueError) and len(shapes) > 1 and broadcasts:
        for axis in range(1, 1 + max(len(s) for s in shapes)):
            sizes = [s[-axis] for s in shapes if len(s) >= axis]
            if len(set(sizes) - {1}) > 1:
                clash = " against ".join(map(str, sizes))
                return RuntimeError(
                    f"{op}: shapes {listed} do not broadcast: dimension -{axis} is {clash}; "
                    "sizes must be equal or 1"
                )
    if "ufunc" in str(error).lower():  # an operation that this dtype does not have
        kind: type[Exception] = RuntimeError
    else:
        kind = next((k for k in (IndexError, TypeError) if isinstance(error, k)), RuntimeError)
    return kind(f"{op} of shape {listed}: {error}" if shapes else f"{op}: {error}")


def _mismatch(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    """Why two shapes have no matrix product."""
    if not a or not b:
        return "both must have at least one dimension; * multiplies by a number"
    rows = b[-2] if len(b) > 1 else b[0]
    if a[-1] != rows:
        return f"the first has {a[-1]} columns and the second {rows} rows"
    return f"their batch dimensions {a[:-2]} and {b[:-2]} do not broadcast"


def freed(op: str, where: str) -> RuntimeError:
    """A second backward pass after the first one let go of the saved values."""
    return RuntimeError(
        f"backward a second time through {op}, recorded at {where}, whose saved values are freed; "
        "pass retain_graph=True to the first backward to keep them"
    )


def overwritten(
    op: str, shape: tuple[int, ...], where: str, writer: str, wrote: str
) -> RuntimeError:
    """A backward pass that needs what an in-place write has replaced."""
    return RuntimeError(
        f"the backward pass of {op} (output shape {tuple(shape)}), recorded at {where}, needs a "
        f"value that {writer} has overwritten in place since, at {wrote}; use the operation that "
        "makes a new tensor, or clone() before writing"
    )


def recomputed_from_overwritten(writer: str, wrote: str) -> RuntimeError:
    """A checkpoint whose function would now be called with other values."""
    return RuntimeError(
        f"checkpoint: an input or parameter of the function was overwritten in place by {writer}, "
        f"at {wrote}, before the backward pass that calls it again"
    )


def inference_saved(op: str) -> RuntimeError:
    """An operation is to be recorded whose derivative needs a tensor of inference mode."""
    return RuntimeError(
        f"{op}: a tensor made in inference_mode cannot be saved for the backward pass; clone() it, "
        "or make it under no_grad"
    )


def inference_written(writer: str) -> RuntimeError:
    """A write to a tensor of inference mode from outside."""
    return RuntimeError(
        f"{writer}: a tensor made in inference_mode is written in place only there; clone() it, or "
        "make it under no_grad"
    )


def check_replaced_gradient(hook: Any, before: Any, given: Any) -> None:
    """A hook may replace a gradient by another of the same shape and dtype."""
    name = getattr(hook, "__name__", type(hook).__name__)
    if not hasattr(given, "array"):
        raise TypeError(f"the hook {name} must return a tensor or None, not {type(given).__name__}")
    if given.shape != before.shape or given.dtype != before.dtype:
        raise RuntimeError(
            f"the hook {name} has replaced a gradient of shape {tuple(before.shape)} and "
            f"{before.dtype} by one of shape {tuple(given.shape)} and {given.dtype}; they must be "
            "equal"
        )


def no_history(name: str) -> RuntimeError:
    """A derivative of something that no gradient flows to."""
    return RuntimeError(
        f"{name}: the tensor does not require grad and has no history; was it computed under "
        "no_grad, or from tensors without requires_grad=True?"
    )


def wrong_gradient(name: str, shape: tuple[int, ...], given: Sequence | None) -> RuntimeError:
    """A start of the backward pass that does not fit, or is not given though it must be."""
    if given is None:
        return RuntimeError(
            f"{name}: a gradient is implied only for a tensor of one element, this one has shape "
            f"{tuple(shape)}; reduce it, say with .sum(), or pass the gradient"
        )
    return RuntimeError(
        f"{name}: the gradient has shape {tuple(given)} and the tensor {tuple(shape)}; they must "
        "be equal"
    )
