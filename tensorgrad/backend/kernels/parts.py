"""What loops are made of, written down for Numba without importing it.

A ``part`` is a function of the same file that loops call. Things that only Numba knows are
``borrowed`` from ``lanes`` and ``tiles``, which are imported when something is compiled.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

CONSTANT = "="  # before a number, the kind of an argument that is always that


class Part:
    """A function that loops call; Numba compiles it with them."""

    def __init__(self, function: Callable) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        """As Python does it."""
        return self.function(*arguments)


class Borrowed:
    """What another file defines for Numba, which is imported when that compiles."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    @property
    def real(self) -> Any:
        return getattr(importlib.import_module(f".{self.module}", __package__), self.name)


def part(function: Callable) -> Any:
    """A function that loops call."""
    return Part(function)


def borrowed(module: str, *names: str) -> Any:
    """What these names, or this name, stand for in that file of this folder."""
    found = [Borrowed(module, name) for name in names]
    return found if len(found) > 1 else found[0]
