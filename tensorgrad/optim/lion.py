"""Lion: steps of one size, in the direction that two running means agree on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import xp
from ..tensor import Tensor
from .optimizer import Optimizer, blocks, check_implementation, check_options


class Lion(Optimizer):
    """w ← w - lr (sign(β₁ m + (1 - β₁) g) + weight_decay w), then m ← β₂ m + (1 - β₂) g.

    Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2. PyTorch has no
    Lion; the arguments are those of the authors' implementation. Every element moves by ``lr``, so
    that a good rate is 3 to 10 times smaller than AdamW's, and the weight decay larger by as much.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
    ) -> None:
        check_options("Lion", betas, lr=lr, weight_decay=weight_decay)
        check_implementation("Lion", foreach, differentiable=differentiable)
        options = {
            "lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize,
            "foreach": foreach, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, options)

    def update(self, p: Tensor, g: Any, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        shrink = 1 - lr * group["weight_decay"]
        for w, d, m in blocks(p.array, g, self.buffer(p, "exp_avg")):
            if group["maximize"]:
                d = -d
            direction = xp.sign(beta1 * m + (1 - beta1) * d)
            w *= shrink
            w -= lr * direction
            m *= beta2
            m += (1 - beta2) * d
