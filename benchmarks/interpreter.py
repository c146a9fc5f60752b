"""How fast Python itself is here, without which ratios of small models say little.

A build with profile-guided optimization (of python.org, a Linux distribution, conda) takes half to
two thirds of the time of one that was compiled without (pyenv's and asdf's default).
"""

from __future__ import annotations

import platform
import time

TURNS = 200_000


def said() -> str:
    """Python's version and its speed, in a line."""
    return f"Python {platform.python_version()}, {nanoseconds():.0f} ns for a turn of an empty loop"


def nanoseconds() -> float:
    """What a turn of ``for i in range(n): total += i`` takes, the best of ten times."""
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        total = 0
        for i in range(TURNS):
            total += i
        taken.append(time.perf_counter() - started)
    return min(taken) / TURNS * 1e9
