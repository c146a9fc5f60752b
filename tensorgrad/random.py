"""Random numbers: generators with a state that can be saved, and draws as raw arrays."""

from __future__ import annotations

from typing import Any

from .backend import DEFAULT_FLOAT, xp


class Generator:
    """A source of random numbers (PCG64) whose state can be saved and restored.

    The numbers differ from PyTorch's for the same seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        self.rng = xp.Generator(xp.PCG64(seed))
        return self

    def get_state(self) -> dict:
        """The state as a dict of numbers and strings."""
        return dict(self.rng.bit_generator.state)

    def set_state(self, state: dict) -> Generator:
        self.rng.bit_generator.state = state
        return self


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the generator that random functions use when they are given none."""
    return default_generator.manual_seed(seed)


def rng_of(generator: Generator | None) -> Any:
    """The backend's generator behind ``generator``, or behind the default one."""
    return (generator or default_generator).rng


def draw_uniform(shape: tuple[int, ...], dtype: Any, generator: Generator | None) -> Any:
    """An array of draws from [0, 1)."""
    return _draw(rng_of(generator).random, shape, dtype)


def draw_normal(shape: tuple[int, ...], dtype: Any, generator: Generator | None) -> Any:
    """An array of draws from the standard normal distribution."""
    return _draw(rng_of(generator).standard_normal, shape, dtype)


def _draw(draw: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    dtype = xp.dtype(dtype or DEFAULT_FLOAT)
    direct = dtype if dtype in (xp.float32, xp.float64) else xp.dtype(xp.float64)
    return xp.asarray(draw(shape, dtype=direct.type), dtype=dtype)
