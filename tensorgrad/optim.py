"""Optimizers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from .backend import xp
from .mode import no_grad
from .tensor import Tensor
from .variable import wrap

_BLOCK = 32768  # elements updated at a time: parameter, gradient and moments stay in the cache


class Optimizer:
    """What all optimizers share: parameter groups, ``zero_grad`` and the state's way to a file.

    ``params`` are tensors or dicts ``{"params": [...], option: value}``, one per group; options
    that a group does not name have the optimizer's values.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError("an optimizer takes a list of tensors or of dicts, not one tensor")
        given = list(params)
        if not given:
            raise ValueError("the optimizer got no parameters")
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self.defaults = defaults
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        seen: set[int] = set()
        for group in groups:
            members = group["params"]
            members = [members] if isinstance(members, Tensor) else list(members)
            for p in members:
                if not isinstance(p, Tensor):
                    raise TypeError(f"an optimizer updates tensors, not {type(p).__name__}")
                if not p.is_leaf:
                    raise ValueError("an optimizer can only update leaf tensors")
                if id(p) in seen:
                    raise ValueError("a parameter appears twice among the optimizer's groups")
                seen.add(id(p))
            self.param_groups.append({**defaults, **group, "params": members})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or set them to 0)."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None if set_to_none or p.grad is None else p.grad.detach().zero_()

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        with no_grad(), xp.errstate(under="ignore"):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.update(p, p.grad.array, self.state.setdefault(p, {}), group)
                        p.wrote(f"{type(self).__name__}.step")

    def update(self, p: Tensor, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Change ``p.array`` in place, given its gradient's array."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to update a parameter")

    def state_dict(self) -> dict[str, Any]:
        """State and options, with parameters numbered in the order of the groups."""
        numbers = {id(p): i for i, p in enumerate(self._parameters())}
        return {
            "state": {
                numbers[id(p)]: {k: wrap(v) if isinstance(v, xp.ndarray) else v
                                 for k, v in s.items()}
                for p, s in self.state.items()
            },
            "param_groups": [
                {**g, "params": [numbers[id(p)] for p in g["params"]]} for g in self.param_groups
            ],
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the groups must have the same sizes."""
        groups = state_dict["param_groups"]
        sizes = [len(g["params"]) for g in groups]
        if sizes != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                f"the loaded state has parameter groups of sizes {sizes}, this optimizer "
                f"{[len(g['params']) for g in self.param_groups]}"
            )
        parameters = self._parameters()
        for mine, theirs in zip(self.param_groups, groups, strict=True):
            mine.update({k: v for k, v in theirs.items() if k != "params"})
        self.state = {
            parameters[int(i)]: {
                k: xp.array(v.array) if isinstance(v, Tensor) else v for k, v in s.items()
            }
            for i, s in state_dict["state"].items()
        }

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    Args:
        params: tensors, or dicts for groups.
        lr: the learning rate.
        betas: decay rates of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: each step first multiplies the parameter by ``1 - lr * weight_decay``.

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
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                "AdamW: lr, eps and weight_decay must not be negative and betas lie in [0, 1), "
                f"got lr={lr}, betas={betas}, eps={eps}, weight_decay={weight_decay}"
            )
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options)

    def update(self, p: Tensor, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(p.array), exp_avg_sq=xp.zeros_like(p.array))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        step_size = group["lr"] / (1 - beta1 ** state["step"])
        root_correction = 1 / math.sqrt(1 - beta2 ** state["step"])
        decay = 1 - group["lr"] * group["weight_decay"]
        for w, d, m, v in _blocks(p.array, g, state["exp_avg"], state["exp_avg_sq"]):
            m *= beta1
            m += (1 - beta1) * d
            v *= beta2
            d = d * d
            d *= 1 - beta2
            v += d
            # w = decay w - step_size m / (sqrt(v) root_correction + eps)
            xp.sqrt(v, out=d)
            d *= root_correction
            d += group["eps"]
            xp.divide(m, d, out=d)
            d *= step_size
            w *= decay
            w -= d


def _blocks(*arrays: Any, size: int | None = None) -> Iterable[list[Any]]:
    """The same pieces of arrays of one shape, writable, each small enough for the cache."""
    if not all(a.flags.c_contiguous for a in arrays):
        return [list(arrays)]
    flat, size = [a.reshape(-1) for a in arrays], size or _BLOCK
    return ([a[i : i + size] for a in flat] for i in range(0, flat[0].size, size))


# --- schedules ------------------------------------------------------------------------------------


class LambdaLR:
    """Set each group's rate to its first one times ``lr_lambda(step)``, at every :meth:`step`."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float], last_epoch: int = -1
    ) -> None:
        self.optimizer, self.lr_lambda = optimizer, lr_lambda
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def step(self) -> None:
        self.last_epoch += 1
        factor = self.lr_lambda(self.last_epoch)
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * factor

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "base_lrs": self.base_lrs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base_lrs = state_dict["base_lrs"]
        self.last_epoch = state_dict["last_epoch"] - 1
        self.step()


def warmup_cosine(warmup: int, total: int, floor: float = 0.0) -> Callable[[int], float]:
    """A factor for :class:`LambdaLR`: a line up to 1, then half a cosine down to ``floor``.

    Args:
        warmup: steps of the line: step 0 has the factor 1 / (warmup + 1).
        total: the step from which on the factor is ``floor``.
        floor: the last factor (GPT-3: 0.1).

    >>> factor = warmup_cosine(warmup=1, total=3, floor=0.1)
    >>> [round(factor(step), 3) for step in range(4)]
    [0.5, 1.0, 0.55, 0.1]
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if step >= total:
            return floor
        progress = (step - warmup) / max(1, total - warmup)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


# --- clipping -------------------------------------------------------------------------------------


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale the gradients in place so that their joint Euclidean norm is at most ``max_norm``.

    Returns the norm before scaling, a 0-dim tensor. (Pascanu et al. 2013.)
    """
    given = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in given if p.grad is not None]
    flat = [g.array.reshape(-1) for g in grads]
    with xp.errstate(over="ignore"):
        # In the gradients' dtype only within a small block: in float32 a long sum loses digits.
        squares = (float(xp.vdot(b, b)) for g in flat for (b,) in _blocks(g, size=4096))
        total = math.sqrt(sum(squares))
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total}")
    factor = max_norm / (total + 1e-6)
    if not factor >= 1:  # also when it is nan: no gradient is to look healthy then
        with xp.errstate(invalid="ignore"):
            for g in grads:
                g.array *= factor
                g.wrote("clip_grad_norm_")
    return wrap(xp.asarray(total, dtype=grads[0].dtype if grads else "float32"))
