"""Adagrad: steps divided by the root of the sum of all squared gradients so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import xp
from ..tensor import Tensor
from .optimizer import Optimizer, blocks, check_implementation, check_options


class Adagrad(Optimizer):
    """w ← w - lr_t g / (sqrt(s) + eps), with s ← s + g² (Duchi et al. 2011).

    Args:
        lr_decay: the rate of step t is ``lr / (1 + (t - 1) lr_decay)``.
        initial_accumulator_value: where s begins.
        foreach, fused: choose nothing here: there is one way to compute it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_options(
            "Adagrad", lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps,
            initial_accumulator_value=initial_accumulator_value,
        )  # fmt: skip
        check_implementation("Adagrad", foreach, fused, differentiable=differentiable)
        options = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, options)
        for p in self._parameters():  # the only optimizer that has a state before the first step
            self.count(p, 0)
            self.buffer(p, "sum", initial_accumulator_value)

    def update(self, p: Tensor, g: Any, group: dict[str, Any]) -> None:
        rate = group["lr"] / (1 + (self.count(p) - 1) * group["lr_decay"])
        total = self.buffer(p, "sum", group["initial_accumulator_value"])
        for w, d, s in blocks(p.array, g, total):
            if group["maximize"]:
                d = -d
            if group["weight_decay"]:
                d = d + group["weight_decay"] * w
            s += d * d
            root = xp.sqrt(s)
            root += group["eps"]
            w -= rate * d / root
