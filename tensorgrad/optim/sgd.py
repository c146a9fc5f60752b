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

    def update_all(self, some: list[Tensor], group: dict[str, Any], factor: float) -> None:
        momentum, maximize = group["momentum"], group["maximize"]
        names = ["momentum_buffer"] if momentum else []
        fresh: list[list] = []  # the arrays of those that have no velocity yet
        going: list[list] = []
        for p in some:
            first = momentum and self.state[p].get("momentum_buffer") is None
            (fresh if first else going).append(self.arrays(p, names))
        routine = None if maximize else kernels.routine("sgd")
        for sets, share in (fresh, 1.0), (going, 1 - group["dampening"]):
            numbers = {
                "lr": group["lr"], "decay": group["weight_decay"], "momentum": momentum,
                "share": share, "nesterov": group["nesterov"], "factor": factor,
            }  # fmt: skip
            for arrays in routine(sets, **numbers) if routine else sets:
                _update(arrays, maximize, **numbers)


def _update(
    arrays: list, maximize: bool, *, lr: float, decay: float, momentum: float, share: float,
    nesterov: bool, factor: float,
) -> None:  # fmt: skip
    for w, d, *velocity in blocks(*arrays):
        if factor != 1:
            d = d * factor
        if maximize:
            d = -d
        if decay:
            d = d + decay * w
        if velocity:
            (v,) = velocity
            v *= momentum
            v += share * d if share != 1 else d
            d = d + momentum * v if nesterov else v
        w -= lr * d
