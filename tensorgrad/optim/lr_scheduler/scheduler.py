"""What all schedulers share: they set the rate of every parameter group, once per ``step``."""

from __future__ import annotations

import warnings
from types import FunctionType
from typing import Any

from ..optimizer import Optimizer

DEPRECATED = "step(epoch) is deprecated, as in PyTorch: call step() once per epoch instead"


class LRScheduler:
    """The base class. A scheduler defines :meth:`get_lr`, and begins with epoch 0 at once.

    ``optimizer`` has groups with rates; the first rate of each is kept as its ``initial_lr``.
    ``last_epoch`` is the epoch after which to go on, with an optimizer that was loaded; -1 starts.

    Most schedulers multiply the present rates, so that several of them can act on one optimizer,
    and a rate that was set by hand counts from then on.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        groups = _groups(optimizer)
        if last_epoch == -1:
            for group in groups:
                group.setdefault("initial_lr", group["lr"])
        for i, group in enumerate(groups):
            if "initial_lr" not in group:
                raise KeyError(
                    f"'initial_lr' is missing in param_groups[{i}], to go on after epoch "
                    f"{last_epoch}: load the optimizer's state first, or start with last_epoch=-1"
                )
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in groups]
        self.last_epoch = last_epoch
        self._start()

    def _start(self) -> None:
        self._step_count = 0
        self._is_initial = True  # the groups have the rates of this epoch already
        self.step()
        self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rate of each group in epoch ``last_epoch``, given those of the epoch before."""
        raise NotImplementedError(f"{type(self).__name__} has no rates of its own")

    def closed_form(self, base_lr: float) -> float:
        """The rate in epoch ``last_epoch`` from the first one; for those who do not go in steps."""
        raise NotImplementedError(f"{type(self).__name__} has no closed form")

    def step(self, epoch: int | None = None) -> None:
        """Go on by an epoch and set the rates; to be called after the optimizer's step.

        ``epoch``, which is deprecated, jumps to that epoch.
        """
        base_step = type(self.optimizer).step is Optimizer.step
        if self._step_count == 1 and base_step and not self.optimizer.has_stepped:
            warnings.warn(
                "the scheduler's step() before the optimizer's skips the first rate: call "
                "optimizer.step() first",
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is not None:
            warnings.warn(DEPRECATED, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if epoch is None or type(self).closed_form is LRScheduler.closed_form:
            rates = self.get_lr()
        else:
            rates = [self.closed_form(base) for base in self.base_lrs]
        self._set(rates)

    def _set(self, rates: list[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = rates

    def _scaled(self, factor: float) -> list[float]:
        """The present rates times ``factor``."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rates that were set last."""
        return self._last_lr

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer, whose rates are in its own state, and functions."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the optimizer's state is loaded by itself."""
        vars(self).update(state_dict)


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"a scheduler needs an Optimizer, not {type(optimizer).__name__}")
    return optimizer.param_groups


def per_group(name: str, optimizer: Any, value: Any) -> list[Any]:
    """An option as a list of one value per group."""
    n = len(_groups(optimizer))
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name} has {len(value)} values, and the optimizer {n} parameter groups")
    return list(value)


def function_state(function: Any) -> dict[str, Any] | None:
    """What to save of a callable: an object's attributes; nothing of a function, which is code."""
    return None if isinstance(function, FunctionType) else dict(getattr(function, "__dict__", {}))
