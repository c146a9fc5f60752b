"""Reasons to end a run before its last step: it learns nothing any more, or its loss jumps."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

RECENT = 100  # losses that a new one is compared with
FEWEST = 10  # of them; before, a loss must be twice their mean as well


class Patience:
    """The best validation loss so far, and how many evaluations came after it.

    >>> patience = Patience(limit=2)
    >>> [patience.better(step, loss) for step, loss in enumerate([3.0, 2.0, 2.1, 2.2])]
    [True, True, False, False]
    >>> patience.exhausted, patience.step
    (True, 1)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit  # 0: none
        self.step, self.loss, self.since = 0, math.inf, 0

    def better(self, step: int, loss: float) -> bool:
        """Whether the loss of an evaluation is the best."""
        if loss < self.loss:
            self.step, self.loss, self.since = step, loss, 0
            return True
        self.since += 1
        return False

    @property
    def exhausted(self) -> bool:
        return 0 < self.limit <= self.since

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "loss": self.loss, "since": self.since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.since = int(state["step"]), int(state["since"])
        self.loss = float(state["loss"])


class Spikes:
    """Finds a training loss more than ``limit`` nats above the mean of the recent ones.

    The first few losses of a model can scatter; but one that explodes at once is found as well.

    >>> spikes = Spikes(limit=3.0)
    >>> [spikes.above(loss) for loss in [2.0] * 20 + [4.0, 5.9]][-2:]
    [None, 2.0952380952380953]
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit  # 0: none
        self.recent: deque[float] = deque(maxlen=RECENT)

    def above(self, loss: float) -> float | None:
        """The mean that ``loss`` is too far above, or None; an ordinary loss is remembered."""
        if self.limit and self.recent:
            mean = sum(self.recent) / len(self.recent)
            usual = mean if len(self.recent) >= FEWEST else 2 * mean
            if loss > max(usual, mean + self.limit):
                return mean
        self.recent.append(loss)
        return None

    def state_dict(self) -> list[float]:
        return list(self.recent)

    def load_state_dict(self, state: list[float]) -> None:
        self.recent = deque(map(float, state), maxlen=RECENT)
