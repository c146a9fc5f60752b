"""Muon: momentum whose matrix is made nearly orthogonal before the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..backend import xp
from ..tensor import Tensor
from .optimizer import Optimizer, check_options


def orthogonalized(
    matrix: Any, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Any:
    """U S' Vᵀ from the array U S Vᵀ, with singular values S' near 1: [n, m] → [n, m].

    A quintic Newton-Schulz iteration, x ← a x + b (x xᵀ) x + c (x xᵀ)² x, which drives every
    singular value in (0, 1] into a neighbourhood of 1 within a few steps (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/).
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # the smaller Gram matrix
    x = x / max(math.sqrt(xp.vdot(x, x)), eps)  # no singular value above 1
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


class Muon(Optimizer):
    """SGD with momentum, each step orthogonalized; for the matrices of hidden layers.

    Vectors, embeddings and the output layer are better left to AdamW. The iteration runs in the
    dtype of the parameter; PyTorch's rounds to bfloat16 on the way, so that its steps differ from
    these in the third digit.

    Args:
        params: matrices [n, m].
        nesterov: orthogonalize a mean of gradient and momentum, and not the momentum alone.
        ns_coefficients, ns_steps: of :func:`orthogonalized`.
        eps: the least norm that a matrix is divided by.
        adjust_lr_fn: ``"original"`` (or None) multiplies the rate by sqrt(max(1, n / m)),
            ``"match_rms_adamw"`` by 0.2 sqrt(max(n, m)), so that AdamW's rates can be used
            (Liu et al. 2025, "Muon is scalable for LLM training").
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check_options("Muon", lr=lr, momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                "Muon: adjust_lr_fn must be None, 'original' or 'match_rms_adamw', "
                f"got {adjust_lr_fn!r}"
            )
        options = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, options)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        for p in group["params"]:
            if p.ndim != 2:
                raise ValueError(
                    f"Muon: a parameter of shape {tuple(p.shape)} is no matrix: give it to AdamW"
                )
        if len(group["ns_coefficients"]) != 3:
            raise ValueError(f"Muon: ns_coefficients are three, got {group['ns_coefficients']}")
        if not 0 <= group["ns_steps"] < 100:
            raise ValueError(f"Muon: ns_steps must be less than 100, got {group['ns_steps']}")

    def update(self, p: Tensor, g: Any, group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        m = self.buffer(p, "momentum_buffer")
        m *= momentum
        m += (1 - momentum) * g
        d = (1 - momentum) * g + momentum * m if group["nesterov"] else m
        d = orthogonalized(d, group["ns_coefficients"], group["ns_steps"], group["eps"])
        n, k = p.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(n, k))
        else:
            scale = math.sqrt(max(1, n / k))
        p.array *= 1 - lr * group["weight_decay"]
        p.array -= lr * scale * d
