"""Random numbers: generators with a state that can be saved, and draws as raw arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from .backend import default_float, known_dtype, xp
from .devices import CPU, require_cpu
from .variable import Variable, wrap


class Generator:
    """A source of random numbers (PCG64) whose state can be saved and restored.

    The numbers differ from PyTorch's for the same seed. ``Generator(3)`` is short for
    ``Generator().manual_seed(3)``; as in PyTorch a device can be named, which is the CPU.
    """

    device = CPU
    share: tuple[int, int, int] | None = None  # see drawing_rows

    def __init__(self, seed: Any = 0, *, device: Any = None) -> None:
        require_cpu(device)
        if not isinstance(seed, int):
            require_cpu(seed)
            seed = 0
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start from ``seed``; a negative one counts as itself + 2**64."""
        self._seed = int(seed) % 2**64
        self.rng = xp.Generator(xp.PCG64(self._seed))
        return self

    def seed(self) -> int:
        """Start from a seed of the operating system's, and return it."""
        self.manual_seed(int(xp.SeedSequence().generate_state(1, "uint64")[0]))
        return self._seed

    def initial_seed(self) -> int:
        """The seed that it started from."""
        return self._seed

    def get_state(self) -> Any:
        """The state as a tensor of bytes."""
        state = self.rng.bit_generator.state
        parts = [(self._seed, 8), (state["state"]["state"], 16), (state["state"]["inc"], 16),
                 (state["has_uint32"], 1), (state["uinteger"], 4)]  # fmt: skip
        written = b"".join(number.to_bytes(size, "little") for number, size in parts)
        return wrap(xp.array(bytearray(written), dtype="uint8"))

    def set_state(self, new_state: Any) -> Generator:
        """Go on from a state that :meth:`get_state` gave."""
        if not isinstance(new_state, Variable) or new_state.array.dtype != xp.uint8:
            raise TypeError("set_state: expected a tensor of uint8, as get_state() returns")
        if new_state.shape != (45,):
            raise RuntimeError(
                f"set_state: a state has 45 bytes, this tensor is of shape {new_state.shape}"
            )
        read = new_state.array.tobytes()
        ends = [0, 8, 24, 40, 41, 45]
        numbers = [int.from_bytes(read[a:b], "little") for a, b in pairwise(ends)]
        self._seed, state, inc, has_uint32, uinteger = numbers
        self.rng.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": inc},
            "has_uint32": has_uint32,
            "uinteger": uinteger,
        }
        return self

    def clone_state(self) -> Generator:
        """Another generator in the same state."""
        return Generator().set_state(self.get_state())


default_generator = Generator(0)

# The same for the generator that random functions use when they are given none.
manual_seed = default_generator.manual_seed
seed = default_generator.seed
initial_seed = default_generator.initial_seed
get_rng_state = default_generator.get_state


def set_rng_state(new_state: Any) -> None:
    """Let the default generator go on from a state that :func:`get_rng_state` gave."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """What is drawn within leaves the default generator as it was; ``devices`` means nothing."""
    state = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(state)


@contextmanager
def drawing_rows(
    start: int, stop: int, total: int, generator: Generator | None = None
) -> Iterator[None]:
    """Within, uniform draws for a batch of ``stop - start`` rows are rows of those for ``total``.

    So each of several processes draws for its rows what one process would draw for them, and all
    generators end in the same state. It goes by the first size: what is as long as the rows are
    many counts as a batch, whatever else is drawn alike everywhere. Dropout is drawn so.

    >>> import tensorgrad
    >>> whole = tensorgrad.rand(5, 2, generator=Generator(3))
    >>> other = Generator(3)
    >>> with drawing_rows(1, 3, 5, other):
    ...     part = tensorgrad.rand(2, 2, generator=other)
    >>> bool((part == whole[1:3]).all())
    True
    """
    if not 0 <= start < stop <= total:
        raise ValueError(f"drawing_rows: there are no rows {start} to {stop} among {total}")
    owner = generator or default_generator
    before, owner.share = owner.share, (start, stop, total)
    try:
        yield
    finally:
        owner.share = before


# --- draws as arrays ------------------------------------------------------------------------------


def rng_of(generator: Generator | None) -> Any:
    """The backend's generator behind ``generator``, or behind the default one."""
    return (generator or default_generator).rng


def draw_uniform(shape: tuple[int, ...], dtype: Any, generator: Generator | None) -> Any:
    """An array of draws from [0, 1)."""
    if dtype == xp.float16:  # draws just below 1 would be rounded up to it
        wide = draw_uniform(shape, xp.float32, generator)
        return (xp.floor(wide * 2048) / 2048).astype(xp.float16)
    share = (generator or default_generator).share
    if share is None or not shape or shape[0] != share[1] - share[0]:
        return _draw("rand", rng_of(generator).random, shape, dtype)
    rng, (start, stop, total) = rng_of(generator), share
    row = math.prod(shape[1:])
    wide = (default_float() if dtype is None else known_dtype(dtype)) == xp.float64
    _skip(rng, start * row, wide)
    drawn = _draw("rand", rng.random, shape, dtype)
    _skip(rng, (total - stop) * row, wide)
    return drawn


def _skip(rng: Any, count: int, wide: bool) -> None:
    """Go on as if so many uniform draws of 64 bits, or else of 32, had been made.

    PCG64 gives 64 bits at a time: two draws of 32, of which it remembers the second.
    """
    source = rng.bit_generator
    before = source.state
    if wide:
        source.advance(count)  # forgets what it remembers
        source.state = {**before, "state": source.state["state"]}
    elif count:
        count -= before["has_uint32"]
        source.advance(count // 2)
        if count % 2:
            rng.random(dtype=xp.float32)


def draw_normal(shape: tuple[int, ...], dtype: Any, generator: Generator | None) -> Any:
    """An array of draws from the standard normal distribution."""
    return _draw("randn", rng_of(generator).standard_normal, shape, dtype)


def _draw(name: str, draw: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    dtype = default_float() if dtype is None else known_dtype(dtype)
    if dtype.kind != "f":
        raise NotImplementedError(f"{name}: draws are of a float dtype, not {dtype}")
    direct = xp.float64 if dtype == xp.float64 else xp.float32
    return xp.asarray(draw(shape, dtype=direct), dtype=dtype)
