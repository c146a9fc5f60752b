"""RMSprop: steps divided by a running root mean square of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import xp
from ..tensor import Tensor
from .optimizer import Optimizer, blocks, check_implementation, check_options


class RMSprop(Optimizer):
    """w ← w - lr g / (sqrt(s) + eps), with s the running mean of g² (Hinton's lecture 6e, 2012).

    Args:
        alpha: the decay rate of the mean.
        momentum: if not 0, the quotient is added to a velocity, which is the step.
        centered: subtract the squared running mean of g from s: the variance (Graves 2013).
        foreach: chooses nothing here: there is one way to compute it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(
            "RMSprop", lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha
        )
        check_implementation("RMSprop", foreach, None, capturable, differentiable)
        options = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, options)

    def update(self, p: Tensor, g: Any, group: dict[str, Any]) -> None:
        lr, alpha, momentum = group["lr"], group["alpha"], group["momentum"]
        self.count(p)
        square = self.buffer(p, "square_avg")
        velocity = self.buffer(p, "momentum_buffer") if momentum else square
        mean = self.buffer(p, "grad_avg") if group["centered"] else square
        for w, d, s, v, a in blocks(p.array, g, square, velocity, mean):
            if group["maximize"]:
                d = -d
            if group["weight_decay"]:
                d = d + group["weight_decay"] * w
            s *= alpha
            s += (1 - alpha) * d * d
            if group["centered"]:
                a *= alpha
                a += (1 - alpha) * d
                root = xp.sqrt(s - a * a)
            else:
                root = xp.sqrt(s)
            root += group["eps"]
            d = d / root
            if momentum:
                v *= momentum
                v += d
                d = v
            w -= lr * d
