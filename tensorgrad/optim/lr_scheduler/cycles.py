"""Rates that go up and down between bounds, with the momentum going the other way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..optimizer import Optimizer
from .scheduler import LRScheduler, function_state, per_group


class _Cycle(LRScheduler):
    """With ``momentum``, or the first of ``betas``, moving against the rate."""

    def _use_momentum(
        self, cycle: bool, base_momentum: Any, max_momentum: Any, fresh: bool
    ) -> None:
        """Note the bounds in the groups and begin with the upper one."""
        self.cycle_momentum = cycle
        if not cycle:
            return
        options = self.optimizer.defaults
        if "momentum" not in options and "betas" not in options:
            raise ValueError(
                f"cycle_momentum: {type(self.optimizer).__name__} has neither momentum nor betas; "
                "give cycle_momentum=False"
            )
        self.use_beta1 = "betas" in options
        self.base_momentums = per_group("base_momentum", self.optimizer, base_momentum)
        self.max_momentums = per_group("max_momentum", self.optimizer, max_momentum)
        if fresh:
            bounds = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums)
            for group, low, high in bounds:
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_Cycle):
    """In a line from ``base_lr`` up to ``max_lr`` and down again, over and over (Smith 2017).

    Args:
        base_lr, max_lr: one for all groups, or a list of one per group.
        step_size_up, step_size_down: the steps of the way up, and down (None: as many).
        mode: ``"triangular"``, ``"triangular2"`` (half as high in every cycle) or ``"exp_range"``
            (the height times ``gamma ** step``).
        scale_fn: a function of the cycle's number (from 1) or of the step, as ``scale_mode`` says
            (``"cycle"`` or ``"iterations"``), that gives the height instead of ``mode``.
        cycle_momentum: move the momentum from ``max_momentum`` down to ``base_momentum`` as the
            rate goes up.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        low = per_group("base_lr", optimizer, base_lr)
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(
                f"mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}"
            )
        self.optimizer = optimizer
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, low):
                group["lr"] = lr
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up) + float(down)
        self.step_ratio = float(step_size_up) / self.total_size
        self.mode, self.gamma = mode, gamma
        self._scale_fn_custom = scale_fn
        by_step = scale_mode != "cycle" if scale_fn else mode == "exp_range"
        self.scale_mode = "iterations" if by_step else "cycle"
        self._use_momentum(cycle_momentum, base_momentum, max_momentum, last_epoch == -1)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = low

    def scale_fn(self, x: float) -> float:
        """The height of the cycle of number ``x``, or at step ``x``."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "exp_range":
            return self.gamma**x
        return 1 / 2.0 ** (x - 1) if self.mode == "triangular2" else 1.0

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle  # the part of the cycle that is over
        if x <= self.step_ratio:
            rise = x / self.step_ratio
        else:
            rise = (x - 1) / (self.step_ratio - 1)
        height = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            bounds = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums)
            for group, low, high in bounds:
                self._set_momentum(group, high - (high - low) * rise * height)
        return [
            low + (high - low) * rise * height for low, high in zip(self.base_lrs, self.max_lrs)
        ]

    def state_dict(self) -> dict[str, Any]:
        function = self._scale_fn_custom
        saved = None if function is None else function_state(function)
        return {**super().state_dict(), "_scale_fn_custom": saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        function = self._scale_fn_custom
        vars(function).update(state_dict["_scale_fn_custom"] or {}) if function else None
        super().load_state_dict({**state_dict, "_scale_fn_custom": function})


class OneCycleLR(_Cycle):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to that first rate divided by
    ``final_div_factor`` at the last of ``total_steps`` (Smith & Topin 2018).

    Args:
        max_lr: one for all groups, or a list of one per group.
        total_steps: of the whole cycle; or ``epochs`` times ``steps_per_epoch``.
        pct_start: the part of the steps that goes up.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: move the momentum from ``max_momentum`` down to ``base_momentum`` as the
            rate goes up, and back.
        three_phase: go down to the first rate as fast as up, and to the last rate after that.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        highest = per_group("max_lr", optimizer, max_lr)
        self.optimizer = optimizer
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start must be a float between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        self._anneal_func_type = anneal_strategy
        up, end = float(pct_start * self.total_steps) - 1, self.total_steps - 1
        # Each phase: its last step, then the options of the group that it begins and ends with.
        rise = [up, "initial_lr", "max_lr", "max_momentum", "base_momentum"]
        if three_phase:
            back = 2 * pct_start * self.total_steps - 2
            fall = [back, "max_lr", "initial_lr", "base_momentum", "max_momentum"]
            tail = [end, "initial_lr", "min_lr", "max_momentum", "max_momentum"]
            phases = [rise, fall, tail]
        else:
            phases = [rise, [end, "max_lr", "min_lr", "base_momentum", "max_momentum"]]
        names = ("end_step", "start_lr", "end_lr", "start_momentum", "end_momentum")
        self._schedule_phases: list[dict[str, Any]] = [dict(zip(names, phase)) for phase in phases]
        if last_epoch == -1:
            for group, high in zip(optimizer.param_groups, highest):
                group["initial_lr"], group["max_lr"] = high / div_factor, high
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._use_momentum(cycle_momentum, base_momentum, max_momentum, last_epoch == -1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step, start = self.last_epoch, 0.0
        if step > self.total_steps:
            raise ValueError(f"step {step} is after the end: the cycle has {self.total_steps}")
        for phase in self._schedule_phases:
            if step <= phase["end_step"] or phase is self._schedule_phases[-1]:
                break
            start = phase["end_step"]
        progress = (step - start) / (phase["end_step"] - start)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._anneal(group[phase["start_lr"]], group[phase["end_lr"]], progress))
            if self.cycle_momentum:
                low, high = group[phase["start_momentum"]], group[phase["end_momentum"]]
                self._set_momentum(group, self._anneal(low, high, progress))
        return rates

    def _anneal(self, start: float, end: float, progress: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * progress + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * progress) + 1)


def _total_steps(total: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total is not None:
        given = {"total_steps": total}
    elif epochs is not None and steps_per_epoch is not None:
        given = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    else:
        raise ValueError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
    for name, value in given.items():
        if not isinstance(value, int) or value <= 0:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    return math.prod(given.values())
