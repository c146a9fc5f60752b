"""Checking derivatives against central finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .autograd.derivatives import grad
from .backend import xp
from .culprit import Culprit, Findings, find_culprit
from .tensor import Tensor
from .variable import wrap


class GradcheckError(RuntimeError):
    """A derivative disagrees with finite differences; the message says where and by how much."""


def _outputs(function: Callable, inputs: Sequence[Any]) -> list[Tensor]:
    out = function(*inputs)
    outs = list(out) if isinstance(out, (tuple, list)) else [out]
    floats = [o for o in outs if isinstance(o, Tensor) and o.dtype.kind == "f"]
    if not floats:
        raise ValueError("gradcheck: the function returns no tensor of a float dtype")
    return floats


def _checked(inputs: Sequence[Any]) -> list[tuple[int, Tensor]]:
    """The inputs that require grad, with their positions."""
    checked = [(i, t) for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not checked:
        raise ValueError("gradcheck: no input requires grad")
    for i, t in checked:
        if t.dtype != xp.float64:
            raise ValueError(
                f"gradcheck: input {i} is {t.dtype}, finite differences need float64; "
                "call .double() on it"
            )
    return checked


def gradcheck(
    function: Callable,
    inputs: Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
) -> bool:
    """Compare every entry of the Jacobian of ``function`` at ``inputs`` with (f(x+h)-f(x-h))/2h.

    Only inputs that require grad are checked; they should be float64, float32 is too coarse.

    Args:
        function: of the inputs, returns a tensor or several.
        eps: the step h.
        atol, rtol: |analytic - numeric| <= atol + rtol * |numeric|.
        raise_exception: raise :class:`GradcheckError` with the first wrong entry, and with the
            operation that is to blame (:func:`find_culprit`); else return False.

    >>> import tensorgrad
    >>> x = tensorgrad.tensor([0.3, 0.7], dtype=tensorgrad.float64, requires_grad=True)
    >>> gradcheck(lambda x: x.exp(), [x])
    True
    """
    checked = _checked(inputs)
    outs = _outputs(function, inputs)
    analytic = [[xp.zeros((o.numel(), t.numel())) for _, t in checked] for o in outs]
    for k, out in enumerate(outs):
        if not out.requires_grad:
            continue
        for row in range(out.numel()):
            unit = xp.zeros(out.numel(), dtype=out.dtype)
            unit[row] = 1
            rows = grad(
                out, [t for _, t in checked], wrap(unit.reshape(out.shape)),
                retain_graph=True, allow_unused=True,
            )  # fmt: skip
            for jacobian, g in zip(analytic[k], rows, strict=True):
                if g is not None:
                    jacobian[row] = g.detach().array.reshape(-1)

    for c, (i, t) in enumerate(checked):
        original = t.array
        for col in range(t.numel()):
            stepped = []
            for h in (eps, -eps):
                # A fresh array with the same strides: the function may save or alias its input.
                t.array = original.copy(order="K")
                t.array[xp.unravel_index(col, t.array.shape)] += h
                stepped.append([xp.array(o.array) for o in _outputs(function, inputs)])
                t.array = original
            for k, (up, down) in enumerate(zip(*stepped, strict=True)):
                numeric = ((up - down) / (2 * eps)).reshape(-1)
                found = analytic[k][c][:, col]
                wrong = ~(xp.abs(found - numeric) <= atol + rtol * xp.abs(numeric))
                if wrong.any():
                    if not raise_exception:
                        return False
                    row = int(xp.argmax(wrong))
                    raise GradcheckError(
                        f"the derivative of output {_element(k, row, up.shape)} with respect to "
                        f"input {_element(i, col, t.shape)} is {found[row]:.8g}, but finite "
                        f"differences give {numeric[row]:.8g}\n"
                        f"{find_culprit(lambda: _outputs(function, inputs))}"
                    )
    return True


def _element(tensor: int, position: int, shape: tuple[int, ...]) -> str:
    """Which element of which tensor: ``1[0, 2]``."""
    return f"{tensor}[{', '.join(str(int(i)) for i in xp.unravel_index(position, shape))}]"


def gradgradcheck(function: Callable, inputs: Sequence[Any], **options: Any) -> bool:
    """:func:`gradcheck` of the first derivatives: second derivatives against differences.

    The gradient that enters is an input too, a fixed irregular pattern. Options and errors are
    those of :func:`gradcheck`.
    """
    _checked(inputs)
    outs = _outputs(function, inputs)
    starts = []
    for o in outs:
        pattern = xp.cos(1.0 + 2.7 * xp.arange(o.numel())).reshape(o.shape)
        starts.append(wrap(xp.asarray(pattern, dtype=xp.float64)).requires_grad_())
    n = len(inputs)

    def first_derivatives(*values: Any) -> Any:
        given, starts = values[:n], values[n:]
        wanted = [v for v in given if isinstance(v, Tensor) and v.requires_grad]
        outs = list(_outputs(function, given))
        pairs = [(o, s) for o, s in zip(outs, starts, strict=True) if o.requires_grad]
        if not pairs:  # nothing depends on the inputs: nothing to be wrong
            return starts
        found = grad(
            [o for o, _ in pairs], wanted, [s for _, s in pairs],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        return tuple(g for g in found if g is not None)

    return gradcheck(first_derivatives, [*inputs, *starts], **options)


__all__ = [
    "Culprit", "Findings", "GradcheckError", "find_culprit", "gradcheck", "gradgradcheck",
]  # fmt: skip
