"""Tensors at random: new ones as functions, and draws written into a tensor as methods.

All draw from the ``generator`` given, or else from the one that ``manual_seed`` seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backend import known_dtype, xp
from .creation import dtype_or_that_of, factory, shape_of
from .random import Generator, draw_normal, draw_uniform, rng_of
from .variable import Variable, wrap

if TYPE_CHECKING:
    from .tensor import Tensor


# --- of a shape -----------------------------------------------------------------------------------


@factory
def rand(*sizes: Any, size: Any = None, generator: Generator | None = None,
         dtype: Any = None) -> Any:  # fmt: skip
    """Uniform draws from [0, 1)."""
    return draw_uniform(shape_of(sizes, size), dtype, generator)


@factory
def randn(*sizes: Any, size: Any = None, generator: Generator | None = None,
          dtype: Any = None) -> Any:  # fmt: skip
    """Draws from the standard normal distribution."""
    return draw_normal(shape_of(sizes, size), dtype, generator)


@factory
def randint(low: Any = None, high: Any = None, size: Any = None, *,
            generator: Generator | None = None, dtype: Any = None) -> Any:  # fmt: skip
    """Integers from [low, high), int64; ``randint(high, size)`` starts at 0."""
    if size is None and not isinstance(high, int):
        high, size = None, high
    if low is None or high is None:
        low, high = 0, low if high is None else high
    if size is None:
        raise TypeError("randint: the size is missing, as in randint(10, (2, 3))")
    return _integers(low, high, shape_of((size,)), dtype or xp.int64, generator)


def _integers(low: int, high: int, shape: Any, dtype: Any, generator: Generator | None) -> Any:
    if low >= high:
        raise RuntimeError(f"randint: there is no integer in [{low}, {high})")
    return rng_of(generator).integers(low, high, shape).astype(known_dtype(dtype))


@factory
def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None) -> Any:
    """The integers 0..n-1 in random order, int64."""
    (n,) = shape_of((n,))
    return rng_of(generator).permutation(n).astype(known_dtype(dtype or xp.int64))


# --- of the shape of a tensor ---------------------------------------------------------------------


@factory
def rand_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None) -> Any:
    """Uniform draws from [0, 1), of the shape and dtype of ``input``."""
    return draw_uniform(input.shape, dtype_or_that_of(dtype, input), generator)


@factory
def randn_like(input: Tensor, *, generator: Generator | None = None, dtype: Any = None) -> Any:
    """Draws from the standard normal distribution, of the shape and dtype of ``input``."""
    return draw_normal(input.shape, dtype_or_that_of(dtype, input), generator)


@factory
def randint_like(input: Tensor, low: int, high: int | None = None, *,
                 generator: Generator | None = None, dtype: Any = None) -> Any:  # fmt: skip
    """Integers from [low, high), or from [0, low), of the shape and dtype of ``input``."""
    low, high = (0, low) if high is None else (low, high)
    return _integers(low, high, input.shape, dtype_or_that_of(dtype, input), generator)


# --- with parameters for each element -------------------------------------------------------------


def bernoulli(input: Tensor, p: float | None = None, *,
              generator: Generator | None = None) -> Tensor:  # fmt: skip
    """1 with the probability that each element of ``input`` gives, or ``p``, else 0; same dtype."""
    if p is None and input.array.dtype.kind != "f":
        raise NotImplementedError(f"bernoulli: probabilities are floats, not {input.dtype}")
    return wrap(_trials(input.array if p is None else p, input.array, generator))


def _trials(p: Any, like: Any, generator: Generator | None) -> Any:
    """1 with probability ``p`` and else 0, of the shape and dtype of ``like``."""
    if not xp.all((p >= xp.asarray(0)) & (p <= xp.asarray(1))):
        raise RuntimeError("bernoulli: the probabilities must lie between 0 and 1")
    return (rng_of(generator).random(like.shape) < p).astype(like.dtype)


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           dtype: Any = None, **where: Any) -> Tensor:  # fmt: skip
    """Draws from normal distributions: ``normal(0.0, 1.0, (2, 3))``, or a mean and a standard
    deviation for each element, of which one may be a number."""
    given = [a.array for a in (mean, std) if isinstance(a, Variable)]
    if not given:
        if size is None:
            raise TypeError("normal: the size is missing, as in normal(0.0, 1.0, (2, 3))")
        return randn(*size, generator=generator, dtype=dtype, **where) * _deviation(std) + mean
    if size is not None or dtype is not None:
        raise TypeError("normal: with a tensor of means or deviations, size and dtype are its own")
    shape = xp.broadcast_shapes(*(a.shape for a in given))
    drawn = wrap(draw_normal(shape, xp.result_type(*given), generator))
    mean, std = (a.detach() if isinstance(a, Variable) else a for a in (mean, std))  # type: ignore[attr-defined]
    return drawn * _deviation(std) + mean


def _deviation(std: Any) -> Any:
    if not xp.all(xp.asarray(std.array if isinstance(std, Variable) else std) >= 0):
        raise RuntimeError(f"normal: a standard deviation cannot be negative, got {std}")
    return std


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Draws from the Poisson distributions whose rates are the elements of ``input``."""
    if not (input.array >= 0).all():
        raise RuntimeError("poisson: a rate cannot be negative")
    return wrap(xp.asarray(rng_of(generator).poisson(input.array)).astype(input.array.dtype))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Indices drawn with the weights in each row: [classes] or [n, classes] → [..., num_samples].

    The weights need not sum to 1.
    """
    if input.array.dtype.kind != "f" or input.ndim not in (1, 2):
        raise RuntimeError(
            "multinomial: the weights must be floats of shape [classes] or [n, classes], not "
            f"{input.dtype} of shape {tuple(input.shape)}"
        )
    if num_samples <= 0:
        raise RuntimeError(f"multinomial: cannot draw {num_samples} samples")
    rows = input.array.astype(xp.float64).reshape(-1, input.shape[-1])
    if not (xp.isfinite(rows).all() and (rows >= 0).all() and (rows.sum(-1) > 0).all()):
        raise RuntimeError("multinomial: the weights must be finite, not negative, and not all 0")
    if not replacement and num_samples > int((rows > 0).sum(-1).min()):
        raise RuntimeError(
            f"multinomial: cannot draw {num_samples} different indices, fewer have a weight above 0"
        )
    rng = rng_of(generator)
    drawn = [rng.choice(len(p), num_samples, replace=replacement, p=p / p.sum()) for p in rows]
    return wrap(xp.asarray(drawn, dtype="int64").reshape(*input.shape[:-1], num_samples))


# --- written into a tensor, as methods ------------------------------------------------------------


def _overwrite(self: Tensor, drawn: Any, name: str) -> Tensor:
    """What was drawn, in the dtype of ``self``."""
    return self._become(wrap(xp.asarray(drawn).astype(self.array.dtype)), name)


def _require(holds: bool, name: str, rule: str, given: Any) -> None:
    if not holds:
        raise RuntimeError(f"{name}: {rule}, got {given}")


def _float_only(self: Tensor, name: str) -> None:
    if self.array.dtype.kind != "f":
        raise NotImplementedError(f"{name}: the draws are floats, this tensor is {self.dtype}")


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Overwrite with draws from a normal distribution."""
    _float_only(self, "normal_")
    drawn = draw_normal(self.shape, self.dtype, generator)
    return _overwrite(self, drawn * _deviation(std) + mean, "normal_")


def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Overwrite with draws whose logarithms have this mean and standard deviation."""
    _float_only(self, "log_normal_")
    _require(std > 0, "log_normal_", "the standard deviation must be above 0", std)
    return _overwrite(self, rng_of(generator).lognormal(mean, std, self.shape), "log_normal_")


def uniform_(self: Tensor, low: float = 0.0, high: float = 1.0, *,
             generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Overwrite with draws from the uniform distribution on [low, high)."""
    _float_only(self, "uniform_")
    _require(low <= high, "uniform_", "the bounds must be in order", (low, high))
    drawn = draw_uniform(self.shape, self.dtype, generator)
    return _overwrite(self, drawn * (high - low) + low, "uniform_")


def exponential_(self: Tensor, lambd: float = 1.0, *,
                 generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Overwrite with draws from the exponential distribution of the rate ``lambd``."""
    if self.array.dtype.kind != "f":
        raise RuntimeError(f"exponential_: the draws are floats, this tensor is {self.dtype}")
    _require(lambd > 0, "exponential_", "the rate must be above 0", lambd)
    drawn = rng_of(generator).exponential(1 / lambd, self.shape)
    return _overwrite(self, drawn, "exponential_")


def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *,
            generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Overwrite with draws from a Cauchy distribution."""
    if self.array.dtype.kind != "f":
        raise RuntimeError(f"cauchy_: the draws are floats, this tensor is {self.dtype}")
    _require(sigma > 0, "cauchy_", "the width must be above 0", sigma)
    drawn = rng_of(generator).standard_cauchy(self.shape) * sigma + median
    return _overwrite(self, drawn, "cauchy_")


def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with the numbers of trials up to the first success, which has probability ``p``."""
    _require(0 < p < 1, "geometric_", "the probability must lie between 0 and 1", p)
    return _overwrite(self, rng_of(generator).geometric(p, self.shape), "geometric_")


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Overwrite with 1 with probability ``p``, a number or a tensor, and else with 0."""
    p = p.array if isinstance(p, Variable) else p
    return _overwrite(self, _trials(p, self.array, generator), "bernoulli_")


def _largest(dtype: Any) -> int:
    """The largest integer up to which a dtype holds all."""
    if dtype.kind == "f":
        return 2 ** (xp.finfo(dtype).nmant + 1)
    return 1 if dtype.kind == "b" else int(xp.iinfo(dtype).max)


def random_(self: Tensor, low: int = 0, high: int | None = None, *,
            generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Overwrite with integers: ``random_()``, ``random_(high)`` or ``random_(low, high)``.

    Without bounds they are all that the dtype holds from 0 on; a float's, all that are exact.
    """
    dtype = self.array.dtype
    if high is None and low:
        low, high = 0, low
    elif high is None:
        high = 1 + _largest(dtype)
    _require(low < high, "random_", "the bounds must be in order", (low, high))
    return _overwrite(self, rng_of(generator).integers(low, high, self.shape), "random_")


__all__ = [
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like",
    "bernoulli", "normal", "poisson", "multinomial",
]  # fmt: skip
METHODS = {
    method.__name__: method
    for method in (bernoulli, multinomial, normal_, log_normal_, uniform_, exponential_, cauchy_,
                   geometric_, bernoulli_, random_)
}  # fmt: skip
