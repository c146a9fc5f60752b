"""Adam and AdamW: steps along the gradient's running mean, divided by its root mean square."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..backend import kernels, xp
from ..tensor import Tensor
from .optimizer import Optimizer, blocks, check_implementation, check_options


class Adam(Optimizer):
    """w ← w - lr m̂ / (sqrt(v̂) + eps) (Kingma & Ba 2015, algorithm 1).

    Args:
        params: tensors, or dicts for groups.
        lr: the learning rate.
        betas: decay rates of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: adds a multiple of w to the gradient.
        amsgrad: divide by the largest second moment so far (Reddi et al. 2018).
        maximize: go up instead of down.
        foreach, fused: choose nothing here: there is one way to compute it.
        decoupled_weight_decay: the decay of :class:`AdamW` instead.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        name = type(self).__name__
        check_options(name, betas, lr=lr, eps=eps, weight_decay=weight_decay)
        check_implementation(name, foreach, fused, capturable, differentiable)
        options = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, options)

    def update_all(self, some: list[Tensor], group: dict[str, Any], factor: float) -> None:
        amsgrad, maximize = group["amsgrad"], group["maximize"]
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * amsgrad
        taken: dict[float, list] = {}  # steps → the arrays of those that have taken so many
        for p in some:
            taken.setdefault(self.count(p), []).append(self.arrays(p, names))
        beta1, beta2 = group["betas"]
        l2, shrink = group["weight_decay"], 1.0
        if group["decoupled_weight_decay"]:
            l2, shrink = 0, 1 - group["lr"] * group["weight_decay"]
        routine = None if amsgrad or maximize else kernels.routine("adam")
        for steps, sets in taken.items():
            numbers = {
                "beta1": beta1, "beta2": beta2, "step_size": group["lr"] / (1 - beta1**steps),
                "root_correction": 1 / math.sqrt(1 - beta2**steps), "eps": group["eps"],
                "l2": l2, "shrink": shrink, "factor": factor,
            }  # fmt: skip
            for arrays in routine(sets, **numbers) if routine else sets:
                _update(arrays, maximize, **numbers)


def _update(
    arrays: list, maximize: bool, *, beta1: float, beta2: float, step_size: float,
    root_correction: float, eps: float, l2: float, shrink: float, factor: float,
) -> None:  # fmt: skip
    """w = shrink w - step_size m / (sqrt(v) root_correction + eps), with new m and v."""
    for w, d, m, v, *largest in blocks(*arrays):
        if factor != 1:
            d = d * factor
        if maximize:
            d = -d
        if l2:
            d = d + l2 * w
        m *= beta1
        m += (1 - beta1) * d
        v *= beta2
        d = d * d
        d *= 1 - beta2
        v += d
        if largest:
            v = xp.maximum(largest[0], v, out=largest[0])
        xp.sqrt(v, out=d)
        d *= root_correction
        d += eps
        xp.divide(m, d, out=d)
        d *= step_size
        if shrink != 1:
            w *= shrink
        w -= d


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    The arguments are those of :class:`Adam`, but that each step first multiplies the parameter by
    ``1 - lr * weight_decay``.

    >>> import tensorgrad
    >>> w = tensorgrad.tensor([1.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.1, weight_decay=0.0)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=foreach,
            capturable=capturable, differentiable=differentiable, fused=fused,
            decoupled_weight_decay=True,
        )  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["decoupled_weight_decay"] = True  # also with a state that comes from Adam
