"""How long a training step takes with N workers: a model of it, from what one worker does alone.

    step(N) = compute(rows) + waiting(N) + what the backward pass does not hide of the all-reduce

- ``compute(rows) = fixed + per_row * rows`` is measured with one process and one thread, at the
  numbers of rows that are the shares of 1, 2 and 4 workers (:func:`fitted`). On a machine with
  fewer cores than workers it takes workers / cores times as long, and ``busy`` times as long where
  all cores compute, for they share memory and clock: one number for a machine, measured.
- ``waiting(N)``: all wait for the slowest of N. Where the computing times of the workers are
  normal and independent, with a standard deviation of ``spread * compute``, the slowest is
  ``spread * compute * E[largest of N normal numbers]`` later than the mean.
- To average a bucket takes as long as was measured between processes of one machine, on straight
  lines from size to size. Over a network it is MPICH's all-reduce: above 2 kB a reduce-scatter by
  halving and an all-gather by doubling,
  ``2 log2(N) latency + 2 (N-1)/N bytes / bandwidth + (N-1)/N bytes * adding``; below it doubling
  alone, ``log2(N) (latency + bytes / bandwidth + bytes * adding)`` (Thakur, Rabenseifner and
  Gropp 2005). If N is no power of 2, the workers above one fold theirs in before, and get the
  result after. Two all-reduces of a few bytes are in every step besides: the loss, and whether to
  go on. To copy gradients into buckets takes time as well, which nothing hides; on one machine it
  is part of what was measured.
- A bucket leaves when its gradients are there and the one before it has arrived. What is under
  way when the backward pass ends is not hidden. Between processes of one machine nothing is: to
  copy and to add is the work of the same cores. Over a network it is hidden as far as there is a
  backward pass, which is the best case, for MPI goes on only when it is asked.

What is left out: several workers that share one link, congestion, reading the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, median
from typing import Any

import numpy as np

AllReduce = Callable[[float, int], float]  # (bytes, workers) → seconds

SHORT = 2048  # bytes, up to which MPICH only doubles
SMALL = (8, 16)  # bytes of the two small all-reduces of a step


@dataclass(frozen=True)
class Work:
    """What one worker has to do in a step, as measured of a process by itself; in seconds.

    Args:
        buckets: in the order in which they leave, their bytes, and the share of a forward and
            backward pass after which their gradients are all there.
        update: the part of ``fixed`` that comes after the backward pass.
        copying: what several workers do besides, to copy gradients into buckets.
        at_once: rows that go through a pass together; of more, the gradients are accumulated, and
            only the last pass hides communication.
    """

    fixed: float
    per_row: float
    update: float
    buckets: tuple[tuple[float, float], ...]
    copying: float = 0.0
    spread: float = 0.0
    at_once: float = math.inf

    def compute(self, rows: float) -> float:
        return self.fixed + self.per_row * rows

    def faster(self, times: float) -> Work:
        """The same by a worker that is so many times as fast."""
        seconds = ("fixed", "per_row", "update", "copying")
        return replace(self, **{name: getattr(self, name) / times for name in seconds})


@dataclass(frozen=True)
class Network:
    """What joins the workers, each with a link of its own."""

    name: str
    latency: float  # seconds
    bandwidth: float  # bytes a second, in each direction
    adding: float = 0.0  # seconds for each byte of numbers that a worker adds to its own

    def all_reduce(self, size: float, workers: int) -> float:
        """Seconds until all have the sum of all."""
        if workers == 1:
            return 0.0
        doublings = math.floor(math.log2(workers))
        power = 2**doublings
        there, back = size / self.bandwidth, size * self.adding
        folding = 0.0 if power == workers else 2 * (self.latency + there) + back
        if size <= SHORT:
            return folding + doublings * (self.latency + there + back)
        halves = (power - 1) / power
        return folding + 2 * doublings * self.latency + halves * (2 * there + back)


# Assumptions, not measurements: what such networks commonly reach between two programs.
NETWORKS = (
    Network("1 Gbit/s Ethernet", 50e-6, 0.117e9),
    Network("10 Gbit/s Ethernet", 25e-6, 1.17e9),
    Network("100 Gbit/s InfiniBand", 2e-6, 12e9),
)


@dataclass(frozen=True)
class Step:
    """The parts of a step, in seconds."""

    compute: float
    waiting: float
    communication: float  # that nothing hides

    @property
    def seconds(self) -> float:
        return self.compute + self.waiting + self.communication


def step(
    work: Work,
    rows: float,
    workers: int,
    all_reduce: AllReduce,
    hidden: bool = True,
    slower: float = 1.0,
) -> Step:
    """A step of N workers with ``rows`` rows each, computing ``slower`` times as long as alone.

    Args:
        hidden: whether communication goes on behind the backward pass.

    >>> work = Work(fixed=1.0, per_row=0.5, update=0.5, buckets=((1e6, 1.0),))
    >>> network = Network("slow", 0.0, 1e6)
    >>> step(work, 4, 1, network.all_reduce)
    Step(compute=3.0, waiting=0.0, communication=0.0)
    >>> round(step(work, 2, 2, network.all_reduce).seconds, 3)
    3.0
    """
    compute = slower * work.compute(rows)
    waiting = work.spread * compute * largest_of(workers)
    if workers == 1:
        return Step(compute, waiting, 0.0)
    passes = compute - slower * work.update
    last = min(passes, slower * work.per_row * work.at_once)
    arrived = passes - last if hidden else passes
    for size, share in work.buckets:
        there = passes - last * (1 - share) if hidden else passes
        arrived = max(arrived, there) + all_reduce(size, workers)
    small = sum(all_reduce(size, workers) for size in SMALL)
    return Step(compute, waiting, max(arrived - passes, 0.0) + small + slower * work.copying)


def largest_of(count: int) -> float:
    """The expected largest of so many standard normal numbers (Blom 1958, to 5%).

    >>> largest_of(1)
    0.0
    """
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def strong(
    work: Work, rows: int, workers: int, all_reduce: AllReduce, hidden: bool = True
) -> float:
    """The part of N times one worker's speed that N reach on the same batch of ``rows``."""
    own = math.ceil(rows / workers)  # the largest share decides
    together = step(work, own, workers, all_reduce, hidden).seconds
    return work.compute(rows) / (workers * together)


def weak(work: Work, rows: int, workers: int, all_reduce: AllReduce, hidden: bool = True) -> float:
    """The same where every worker has ``rows`` of its own, so that the batch grows with them."""
    return work.compute(rows) / step(work, rows, workers, all_reduce, hidden).seconds


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(a, b) with ``a + b * x`` near the points (x, y): the least sum of relative errors squared.

    Neither is below 0.

    >>> a, b = fitted([(1, 3.0), (2, 5.0), (4, 9.0)])
    >>> round(a, 9), round(b, 9)
    (1.0, 2.0)
    """
    # With u = 1/y and v = x/y, a u + b v is to be 1 everywhere.
    u, v = [1 / y for _, y in points], [x / y for x, y in points]
    uu, uv, vv = (sum(map(float.__mul__, p, q)) for p, q in ((u, u), (u, v), (v, v)))
    su, sv, det = sum(u), sum(v), uu * vv - uv * uv
    a, b = (su * vv - sv * uv) / det, (sv * uu - su * uv) / det
    if a < 0:
        return 0.0, sv / vv
    return (a, b) if b >= 0 else (su / uu, 0.0)


# --- from what benchmarks.workers has measured ----------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A measured step beside the model's."""

    config: str
    workers: int
    measured: float  # seconds
    model: Step

    @property
    def error(self) -> float:
        return self.model.seconds / self.measured - 1


def work_of(found: dict[str, Any], config: dict[str, Any], at_once: float = math.inf) -> Work:
    """The work of a configuration."""
    fixed, per_row = fitted([(float(rows), seconds) for rows, seconds in config["alone"].items()])
    profile = config["profile"]
    buckets = tuple((size, share) for size, share, _ in profile["buckets"])
    copied = sum(size for size, _, members in profile["buckets"] if members > 1)
    copying = copied * found["copying"]
    return Work(
        fixed, per_row, profile["update"], buckets, copying, config["spread"], at_once
    )  # fmt: skip


def shared_memory(found: dict[str, Any]) -> AllReduce:
    """What averaging takes between the processes of the machine that was measured."""

    def all_reduce(size: float, workers: int) -> float:
        sizes, seconds = zip(*found["reduce"][str(workers)])
        most = max(size / sizes[-1], 1.0)
        return most * float(np.interp(size / most, sizes, seconds))

    return all_reduce


def crowded(found: dict[str, Any], workers: int) -> float:
    """How many times as long a worker computes if there are fewer cores than workers."""
    return max(1.0, workers / found["cores"])


def busy(found: dict[str, Any]) -> float:
    """How many times as long a core computes as alone, when all the others do as well."""
    return median(
        factor / crowded(found, int(workers))
        for config in found["configs"].values()
        for workers, factor in config["slower"].items()
    )


def reproduced(found: dict[str, Any]) -> list[Point]:
    """What the model makes of the steps that were measured."""
    factor, carrier, points = busy(found), shared_memory(found), []
    for name, config in found["configs"].items():
        work = replace(work_of(found, config), copying=0.0)  # within the averaging
        for side, seconds in config["seconds"].items():
            if not side.startswith("workers "):
                continue
            workers = int(side.split()[1])
            slower = crowded(found, workers) * factor if workers > 1 else 1.0
            rows = config["batch"] / workers
            hidden = found.get("network", False)
            model = step(work, rows, workers, carrier, hidden, slower)
            points.append(Point(name, workers, seconds, model))
    return points


def networks(found: dict[str, Any]) -> list[Network]:
    """The networks, whose workers add as fast as the machine that was measured."""
    return [replace(network, adding=found["adding"]) for network in NETWORKS]
