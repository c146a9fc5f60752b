"""Programs for several processes about averages in shared memory, as those of ``tests.ranks``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import numpy as np

import nn
import tensorgrad as tg
from tensorgrad import distributed as dist
from tensorgrad.distributed import joining, mpi, reducer
from tests import ranks

SWITCH = "TENSORGRAD_SHARED_MEMORY"
# Of less than a cache line and more, of odd sizes, with no element at all, and above a chunk.
SHAPES = [(1,), (3, 5), (), (17,), (0, 4), (2, 129, 3), (70_001,), (300, 300)]


@contextmanager
def _switched(value: str) -> Iterator[None]:
    os.environ[SWITCH] = value
    try:
        yield
    finally:
        del os.environ[SWITCH]


def _kinds(model: nn.Module) -> set[str]:
    return {type(bucket).__name__ for bucket in model._reducer.buckets}


class _Several(nn.Module):
    """Parameters whose gradients are what the call gives."""

    def __init__(self, shapes: list[tuple[int, ...]], dtypes: list[tg.dtype]) -> None:
        super().__init__()
        self.several = nn.ParameterList(
            nn.Parameter(tg.zeros(shape, dtype=dtype)) for shape in shapes for dtype in dtypes
        )

    def forward(self, gradients: list[tg.Tensor]) -> tg.Tensor:
        return sum((p * g).sum().double() for p, g in zip(self.several, gradients))


def means() -> None:
    """Of all sizes and dtypes, in buckets of all sizes: to the bit the sums in order of ranks."""
    rank, size = dist.get_rank(), dist.get_world_size()
    dtypes = [tg.float32, tg.float64, tg.float16]
    inner = _Several(SHAPES, dtypes)
    drawn = np.random.default_rng(0)
    for cap in (1e-6, 1e-4, 0.01, None):
        model = nn.parallel.DistributedDataParallel(inner, bucket_cap_mb=cap)
        assert _kinds(model) == {"SharedBucket"}
        for _ in range(3):
            every = [
                [drawn.normal(size=p.shape).astype(p.detach().numpy().dtype) for _ in range(size)]
                for p in inner.several
            ]
            model([tg.from_numpy(of_ranks[rank]) for of_ranks in every]).backward()
            for p, of_ranks in zip(inner.several, every):
                half = p.dtype == tg.float16
                total = np.zeros(p.shape, np.float32 if half else of_ranks[0].dtype)
                for one in of_ranks:
                    total = total + one
                expected = (total / size).astype(of_ranks[0].dtype)
                np.testing.assert_array_equal(p.grad.numpy(), expected)
            inner.zero_grad()


def as_mpi() -> None:
    """MPI's averages, which are those of two processes to the bit, and of more but for rounding."""
    rank, size = dist.get_rank(), dist.get_world_size()
    found = {}
    for value, kind in (("1", "SharedBucket"), ("0", "Bucket")):
        with _switched(value):
            tg.manual_seed(5)
            inner = nn.Sequential(nn.Embedding(500, 30), nn.Linear(30, 64), nn.Linear(64, 3))
            model = nn.parallel.DistributedDataParallel(inner, bucket_cap_mb=0.02)
        assert _kinds(model) == {kind}
        for step in range(2):
            model(tg.tensor([rank + step, 7, 11 * rank])).exp().sum().backward()
        found[kind] = [p.grad.numpy() for p in inner.parameters()]
    for ours, theirs in zip(*found.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, 0 if size == 2 else 1e-5)


def by_mpi() -> None:
    """What is done where memory cannot be shared, with the programs that train."""
    with _switched("0"):
        for program in (ranks.training, ranks.accumulation, ranks.gradients, ranks.unused):
            program()


def kept() -> None:
    """A gradient that was kept stays as it was, and lies in nobody's memory but its own."""
    rank = dist.get_rank()
    inner = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model = nn.parallel.DistributedDataParallel(inner)
    x = tg.full((1, 3), float(rank))
    model(x).sum().backward()
    old, before = (
        [p.grad for p in inner.parameters()],
        [p.grad.tolist() for p in inner.parameters()],
    )
    version = old[0]._version
    model.zero_grad()
    model(x + 5).sum().backward()
    assert [g.tolist() for g in old] == before
    assert old[0]._version == version
    inner.zero_grad(set_to_none=False)
    own = inner[1].bias.grad
    model(x).sum().backward()
    assert inner[1].bias.grad is own
    assert own.tolist() == [1.0, 1.0]
    del model
    again = nn.parallel.DistributedDataParallel(inner)
    again(x).sum().backward()
    assert own.tolist() == [2.0, 2.0]


def stopped() -> None:
    """A pass that is cut short leaves no copy behind that the next would take for its own."""
    rank, size = dist.get_rank(), dist.get_world_size()
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model = nn.parallel.DistributedDataParallel(inner, find_unused_parameters=True)
    x = tg.full((1, 2), 1.0 + rank)
    handle = inner[0].weight.register_hook(_fail)
    ranks._refused(KeyError, lambda: model(x).sum().backward())
    handle.remove()
    inner.zero_grad()
    inner[1].weight.grad = tg.full((2, 2), float(rank))
    with model.no_sync():
        model(x)
    model(x)  # its result is not used: only the first layer gets a gradient
    inner[0](x).sum().backward()
    assert inner[1].weight.grad.tolist() == [[(size - 1) / 2] * 2] * 2
    assert inner[0].bias.grad.tolist() == [1.0, 1.0]


def _fail(gradient: tg.Tensor) -> None:
    raise KeyError("planted")


def two_models() -> None:
    """In one pass, with buckets of both under way."""
    rank = dist.get_rank()
    inner = [nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)]) for _ in range(2)]
    models = [nn.parallel.DistributedDataParallel(m, bucket_cap_mb=1e-5) for m in inner]
    for _ in range(20):
        x = tg.full((1, 4), float(rank))
        models[1](models[0](x)).sum().backward()
        assert inner[1][2].bias.grad.tolist() == [1.0] * 4
        for gradient in (p.grad for m in inner for p in m.parameters()):
            assert all(t.equal(gradient) for t in ranks._gathered(gradient))
        for m in inner:
            m.zero_grad()


def memory() -> None:
    """It is given back when no process needs it, and not had where there is too little."""
    world = joining.joined()
    wrap = nn.parallel.DistributedDataParallel
    models = [wrap(nn.Linear(3, 3)) for _ in range(3)]
    assert len(world.windows) == 3
    del models[1]
    models.append(wrap(nn.Linear(3, 3)))
    assert len(world.windows) == 3
    if dist.get_rank() == 0:
        models.clear()  # here, and not yet elsewhere
    last = wrap(nn.Linear(3, 3))
    assert len(world.windows) == 4
    models.clear()
    assert _kinds(last) == {"SharedBucket"}
    full = SimpleNamespace(f_bavail=1, f_frsize=100)
    original = getattr(os, "statvfs", None)
    for name, object, attribute, value in (
        ("too little", os, "statvfs", lambda path: full),
        ("no windows", mpi.SharedWindow, "__init__", _no_window(world)),
        ("large", reducer, "LARGEST", 1e-6),
    ):
        before = getattr(object, attribute, None)
        if name != "too little" or dist.get_rank() == 1:  # one is enough
            setattr(object, attribute, value)
        refused = wrap(nn.Linear(3, 3))
        if before is not None:
            setattr(object, attribute, before)
        assert _kinds(refused) == {"Bucket"}, name
        refused(tg.ones(1, 3)).sum().backward()
        assert refused.module.bias.grad.tolist() == [1.0] * 3
    assert getattr(os, "statvfs", None) is original


def ends(how: str, who: str) -> None:
    """One process ends, and the others wait for its gradients."""
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 3))
    model(tg.ones(1, 3)).sum().backward()
    assert _kinds(model) == {"SharedBucket"}
    if dist.get_rank() == int(who):
        if how == "exit":
            sys.exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    model(tg.ones(1, 3)).sum().backward()


def _no_window(world: mpi.World) -> Callable[..., None]:
    def refuse(self: mpi.SharedWindow, *arguments: object) -> None:
        raise world.mpi.Exception(world.mpi.ERR_RMA_SHARED)

    return refuse


if __name__ == "__main__":
    dist.init_process_group()
    for program in sys.argv[1:]:
        name, *arguments = program.split(":")
        partial(globals()[name], *arguments)()
    sys.stdout.write("fine\n")
