"""Schedulers made of schedulers: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..optimizer import Optimizer
from .plateau import ReduceLROnPlateau
from .scheduler import LRScheduler


class _Composed(LRScheduler):
    """What both share: the parts, all of one optimizer, and their states."""

    _schedulers: Sequence[Any]

    def _take(self, optimizer: Optimizer | None, schedulers: Sequence[Any]) -> None:
        name = type(self).__name__
        if not schedulers:
            raise ValueError(f"{name} needs at least one scheduler")
        for i, part in enumerate(schedulers):
            if not hasattr(part, "optimizer"):
                raise TypeError(f"{name}: number {i} has no optimizer: {type(part).__name__}")
            if isinstance(part, ReduceLROnPlateau):
                raise ValueError(
                    f"{name}: number {i} is ReduceLROnPlateau, whose step takes a metric"
                )
            optimizer = optimizer or part.optimizer
            if part.optimizer is not optimizer:
                raise ValueError(f"{name}: number {i} belongs to another optimizer")
        assert optimizer is not None
        self._schedulers, self.optimizer = schedulers, optimizer

    def get_lr(self) -> list[float]:
        raise NotImplementedError(
            f"{type(self).__name__} cannot begin at a milestone: only the first of a SequentialLR "
            "may be made of others"
        )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            part.load_state_dict(state)
        super().load_state_dict({**state_dict, "_schedulers": self._schedulers})


class SequentialLR(_Composed):
    """One scheduler after the other: number k + 1 begins at epoch ``milestones[k]``.

    >>> import tensorgrad
    >>> from tensorgrad.optim.lr_scheduler import ExponentialLR, LinearLR
    >>> optimizer = tensorgrad.optim.SGD([tensorgrad.zeros(1)], lr=1.0)
    >>> warmup = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> decay = ExponentialLR(optimizer, gamma=0.5)
    >>> scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[2])
    >>> for epoch in range(5):
    ...     print(scheduler.get_last_lr())
    ...     optimizer.step()
    ...     scheduler.step()
    [0.5]
    [0.75]
    [1.0]
    [0.5]
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[Any],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self._take(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} "
                f"milestones, got {len(milestones)}"
            )
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        # Each part has begun when it was made; all of that is undone, and the first begins again.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(self)
        self._start()

    def _start(self) -> None:
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._start()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:  # type: ignore[override]
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        part = self._schedulers[i]
        if i and self._milestones[i - 1] == self.last_epoch:
            part._update_lr(0)
        else:
            part.step()
        self._last_lr = part.get_last_lr()


def _undo(scheduler: LRScheduler) -> None:
    """Take back the first step of a scheduler, or of its parts."""
    if isinstance(scheduler, _Composed):
        for part in scheduler._schedulers:
            _undo(part)
    else:
        scheduler.last_epoch -= 1


class ChainedScheduler(_Composed):
    """Several schedulers at once: each changes the rates that the one before has set."""

    def __init__(self, schedulers: Sequence[Any], optimizer: Optimizer | None = None) -> None:
        self._take(optimizer, schedulers)
        self._last_lr = self._scaled(1)

    def _start(self) -> None:
        for part in self._schedulers:
            part._start()
        self._last_lr = self._scaled(1)

    def step(self) -> None:  # type: ignore[override]
        for part in self._schedulers:
            part.step()
        self._last_lr = self._scaled(1)
