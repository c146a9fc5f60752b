"""Rates along a cosine: once down, down and up again, or down with restarts."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..optimizer import Optimizer
from .scheduler import LRScheduler


def _between(low: float, high: float, progress: float) -> float:
    """Half a cosine: ``high`` at 0, ``low`` at 1."""
    return low + (high - low) * (1 + math.cos(math.pi * progress)) / 2


class CosineAnnealingLR(LRScheduler):
    """From the first rates down to ``eta_min`` at epoch ``T_max``, and up again after it
    (Loshchilov & Hutter 2017, without the restarts)."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        epoch, period, low = self.last_epoch, self.T_max, self.eta_min
        rates = self._scaled(1)
        if self._is_initial:
            return rates
        if self._step_count == 1 and epoch > 0:
            return [self.closed_form(base) for base in self.base_lrs]
        if (epoch - 1 - period) % (2 * period) == 0:  # from the minimum no factor leads up
            first = (1 - math.cos(math.pi / period)) / 2
            return [lr + (base - low) * first for lr, base in zip(rates, self.base_lrs)]
        before = 1 + math.cos(math.pi * (epoch - 1) / period)
        factor = (1 + math.cos(math.pi * epoch / period)) / before
        return [factor * (lr - low) + low for lr in rates]

    def closed_form(self, base_lr: float) -> float:
        return _between(self.eta_min, base_lr, self.last_epoch / self.T_max)


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the first rates down towards ``eta_min`` within ``T_0`` epochs, then again from the
    first, each time within ``T_mult`` times as many epochs (Loshchilov & Hutter 2017).

    ``step(epoch)`` is meant to be used here: fractions of an epoch set the rate of a batch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value}")
        if not isinstance(eta_min, (int, float)):
            raise ValueError(f"eta_min must be a number, got {type(eta_min).__name__}")
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self.T_i: float = T_0  # the length of the present descent
        self.T_cur: float = last_epoch  # the epochs of it that are over
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [_between(self.eta_min, base, self.T_cur / self.T_i) for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ValueError(f"an epoch is not negative, got {epoch}")
        else:
            self._locate(epoch)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _locate(self, epoch: float) -> None:
        """The descent that ``epoch`` lies in: they are T_0, T_0 T_mult, T_0 T_mult², … long."""
        if self.T_mult == 1:
            self.T_i, self.T_cur = self.T_0, epoch % self.T_0
            return
        ratio = self.T_mult
        n = max(0, int(math.log(epoch / self.T_0 * (ratio - 1) + 1, ratio)))
        self.T_cur = epoch - self.T_0 * (ratio**n - 1) / (ratio - 1)
        self.T_i = self.T_0 * ratio**n


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
