"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import kernels
from ..tensor import Tensor
from .optimizer import Optimizer, blocks, check_implementation, check_options


class SGD(Optimizer):
    """w ← w - lr v, with v ← momentum v + (1 - dampening) g; v begins as the first g.

    Nesterov's version steps along g + momentum v (Sutskever et al. 2013, with the momentum applied
    before the rate). ``weight_decay`` adds a multiple of w to g. ``foreach`` and ``fused`` choose
    nothing here: there is one way to compute it.

    >>> import tensorgrad
    >>> w = tensorgrad.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1, momentum=0.9)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_options("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
        check_implementation("SGD", foreach, fused, differentiable=differentiable)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                "SGD: nesterov needs a momentum above 0 and no dampening, got "
                f"momentum={momentum}, dampening={dampening}"
            )
        options = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach,
            "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, options)

    def update(self, p: Tensor, g: Any, group: dict[str, Any]) -> None:
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        first, velocity = False, g
        if momentum:
            first = self.state[p].get("momentum_buffer") is None
            velocity = self.buffer(p, "momentum_buffer")
        routine = kernels.routine("sgd")
        if routine and not group["maximize"] and routine(
            p.array, g, velocity if momentum else None, lr=lr, decay=decay, momentum=momentum,
            share=1.0 if first else 1 - group["dampening"], nesterov=group["nesterov"],
        ):  # fmt: skip
            return
        for w, d, v in blocks(p.array, g, velocity):
            if group["maximize"]:
                d = -d
            if decay:
                d = d + decay * w
            if momentum:
                v *= momentum
                v += d if first else (1 - group["dampening"]) * d
                d = d + momentum * v if group["nesterov"] else v
            w -= lr * d
