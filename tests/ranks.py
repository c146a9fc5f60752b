"""Programs for several processes: ``mpiexec -n N python -m tests.ranks collectives training``.

The functions are the programs: every process calls those that are named, one after the other, and
each fails by raising. What takes arguments, as ``ends:raise:1``, gets them as strings.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import nn
import tensorgrad as tg
from gpt.callbacks import Callback, Callbacks
from gpt.divergence import Diverged
from gpt.train import Trainer
from tensorgrad import distributed as dist
from tensorgrad.distributed import ReduceOp, mpi
from tensorgrad.distributed.joining import joined
from tensorgrad.distributed.optim import ZeroRedundancyOptimizer
from tests import tiny_run


def _here() -> tuple[int, int]:
    return dist.get_rank(), dist.get_world_size()


# --- collectives ----------------------------------------------------------------------------------


def collectives() -> None:
    """Against NumPy on the data of all processes, which each of them knows."""
    rank, size = _here()
    reductions = {
        ReduceOp.SUM: lambda x: x.sum(0, dtype=x.dtype if x.dtype.kind == "b" else None),
        ReduceOp.PRODUCT: lambda x: x.prod(0),
        ReduceOp.MIN: lambda x: x.min(0),
        ReduceOp.MAX: lambda x: x.max(0),
        ReduceOp.AVG: lambda x: x.mean(0),
        ReduceOp.BAND: np.bitwise_and.reduce,
        ReduceOp.BOR: np.bitwise_or.reduce,
        ReduceOp.BXOR: np.bitwise_xor.reduce,
    }
    for dtype in ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool"):
        drawn = np.random.default_rng(0).integers(0, 3, size=(size, 3, 4))
        everyone = drawn.astype(bool) if dtype == "bool" else drawn.astype(dtype)
        for op, reduction in reductions.items():
            t = tg.from_numpy(everyone[rank].copy())
            is_float = dtype.startswith("float")
            if (op is ReduceOp.AVG) > is_float or (op.value[0] == "B" and is_float):
                _refused(RuntimeError, partial(dist.all_reduce, t, op))
                continue
            dist.all_reduce(t, op)
            expected = reduction(everyone).astype(dtype)
            np.testing.assert_allclose(t.numpy(), expected, rtol=1e-3 if dtype == "float16" else 0)
            transposed = tg.from_numpy(everyone[rank].T.copy()).t()
            dist.all_reduce(transposed, op)
            assert transposed.equal(t)
        for src in range(size):
            t = tg.from_numpy(everyone[rank].copy())
            dist.broadcast(t, src)
            np.testing.assert_array_equal(t.numpy(), everyone[src])
            base = tg.zeros(3, 8, dtype=t.dtype)
            base[:, ::2] = tg.from_numpy(everyone[rank])
            dist.broadcast(base[:, ::2], src)
            np.testing.assert_array_equal(base[:, ::2].numpy(), everyone[src])
            assert not base[:, 1::2].any()
        parts = [tg.zeros(4, 3, dtype=t.dtype).t() for _ in range(size)]
        dist.all_gather(parts, tg.from_numpy(everyone[rank]))
        for part, own in zip(parts, everyone, strict=True):
            np.testing.assert_array_equal(part.numpy(), own)
        for shape in ((size * 3, 4), (size, 3, 4)):
            joint = tg.zeros(shape, dtype=t.dtype)
            dist.all_gather_into_tensor(joint, tg.from_numpy(everyone[rank]))
            np.testing.assert_array_equal(joint.numpy(), everyone.reshape(shape))
        if dtype != "bool":
            share = tg.zeros(2, dtype=t.dtype)
            whole = np.arange(size * 2).astype(dtype)
            dist.reduce_scatter_tensor(share, tg.from_numpy(whole))
            np.testing.assert_array_equal(share.numpy(), whole[2 * rank : 2 * rank + 2] * size)


def small_shapes() -> None:
    rank, size = _here()
    number = tg.tensor(float(rank))
    dist.all_reduce(number)
    assert number.item() == size * (size - 1) / 2
    numbers = [tg.tensor(0.0) for _ in range(size)]
    dist.all_gather(numbers, tg.tensor(float(rank)))
    assert [t.item() for t in numbers] == list(range(size))
    dist.all_reduce(tg.zeros(0))
    dist.broadcast(tg.zeros(2, 0), size - 1)
    total = tg.tensor(rank)
    dist.reduce(total, size - 1)
    assert total.item() == (size * (size - 1) // 2 if rank == size - 1 else rank)


def asynchronous() -> None:
    """Several operations under way, of which the first started is awaited last."""
    rank, size = _here()
    tensors = [tg.full((1000, n), float(rank)) for n in (1, 100, 300)]
    works = [dist.all_reduce(t, dist.ReduceOp.AVG, async_op=True) for t in tensors]
    while not works[-1].is_completed():
        pass
    for work in reversed(works):
        assert work.wait() is True
        assert work.is_completed()
    for t in tensors:
        assert bool((t == (size - 1) / 2).all())
    before = tensors[0]._version
    assert dist.barrier(async_op=True).wait()
    dist.all_reduce(tensors[0])
    assert tensors[0]._version > before


def refusals() -> None:
    rank, size = _here()
    assert "one group" in _refused(ValueError, dist.init_process_group)
    assert f"rank {size} among {size}" in _refused(
        RuntimeError, lambda: dist.broadcast(tg.ones(1), size)
    )
    assert "expected a tensor" in _refused(TypeError, lambda: dist.all_reduce([1.0]))
    result = tg.ones(2, requires_grad=True) * 2
    assert "recorded" in _refused(RuntimeError, lambda: dist.all_reduce(result))
    ones = tg.ones(2)
    assert f"need {size} tensors" in _refused(RuntimeError, lambda: dist.all_gather([], ones))
    shapes = [tg.ones(3)] * size
    assert "needed is (2,)" in _refused(RuntimeError, lambda: dist.all_gather(shapes, ones))
    dtypes = [ones.double()] * size
    assert "float64" in _refused(ValueError, lambda: dist.all_gather(dtypes, ones))
    assert "mean of" in _refused(RuntimeError, lambda: dist.all_reduce(tg.arange(2), ReduceOp.AVG))
    # A model of another shape on one rank, and then one with more layers: all hear of it.
    for layer, what in (
        (nn.Linear(3, 4 if rank == size - 1 else 5), f"rank {size - 1} are not those of rank 0"),
        (nn.Sequential(*[nn.Linear(2, 2)] * (1 + rank)), "4 tensors, not 2"),
    ):
        if isinstance(layer, nn.Sequential):
            layer = nn.Sequential(*[nn.Linear(2, 2) for _ in range(1 + (rank > 0))])
        assert what in _refused(
            RuntimeError, lambda model=layer: nn.parallel.DistributedDataParallel(model)
        )


def _refused(kind: type[Exception], call: Callable[[], object]) -> str:
    """What the error says."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


# --- data parallelism -----------------------------------------------------------------------------


class _Net(nn.Module):
    """Weights of several sizes, one of them used twice, and a batch norm."""

    def __init__(self, vocabulary: int = 50) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 8)
        self.first, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        x = self.embedding(ids)
        return self.head(self.norm(self.first(x).tanh() + x))


def _loss(model: nn.Module, ids: tg.Tensor) -> tg.Tensor:
    return nn.functional.cross_entropy(model(ids), (ids * 7 + 1) % 50)


def _batches(steps: int, rows: int) -> list[tg.Tensor]:
    drawn = np.random.default_rng(1)
    return [tg.from_numpy(drawn.integers(0, 50, size=rows)) for _ in range(steps)]


def _optimizer(model: nn.Module) -> tg.optim.Optimizer:
    return tg.optim.AdamW(model.parameters(), lr=0.01)


def _one_process(batches: list[tg.Tensor], accumulate: int = 1) -> tuple[nn.Module, list[float]]:
    """What the others are compared with: the whole batch here."""
    tg.manual_seed(3)
    model, losses = _Net(), []
    optimizer = _optimizer(model)
    for i, ids in enumerate(batches):
        loss = _loss(model, ids)
        losses.append(loss.item())
        (loss / accumulate).backward()
        if (i + 1) % accumulate == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    return model, losses


def _assert_alike(model: nn.Module, reference: nn.Module) -> None:
    for (name, own), p in zip(model.named_parameters(), reference.parameters(), strict=True):
        np.testing.assert_allclose(own.detach().numpy(), p.detach().numpy(), 1e-4, 2e-6, name)


def training() -> None:
    """Buckets of all sizes; the same losses and weights as one process, and equal replicas."""
    rank, size = _here()
    batches = _batches(4, 2 * size + 3)  # uneven: the last rows are of the first processes
    reference, losses = _one_process(batches)
    for cap, set_to_none in ((1e-5, True), (3e-4, False), (3e-4, True), (25, True), (25, False)):
        tg.manual_seed(3 + rank)  # of no consequence: rank 0's weights are everyone's
        inner = _Net()
        model = nn.parallel.DistributedDataParallel(inner, bucket_cap_mb=cap)
        optimizer = _optimizer(model)
        for ids, expected in zip(batches, losses):
            part = ids[rank::size]
            loss = _loss(model, part) * (len(part) * size / len(ids))
            loss.backward()
            total = loss.detach()
            dist.all_reduce(total, ReduceOp.AVG)
            np.testing.assert_allclose(total.item(), expected, 1e-5)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad(set_to_none)
        nn.parallel.check_replicas(model)
        _assert_alike(inner, reference)


def accumulation() -> None:
    """Gradients added up under no_sync, and averaged with those of the last pass."""
    rank, size = _here()
    batches = _batches(6, 4 * size)
    reference, _ = _one_process(batches, accumulate=3)
    tg.manual_seed(3)
    model = nn.parallel.DistributedDataParallel(_Net(), bucket_cap_mb=3e-4)
    optimizer = _optimizer(model)
    for i, ids in enumerate(batches):
        if (i + 1) % 3:
            with model.no_sync():
                (_loss(model, ids[rank::size]) / 3).backward()
            alone = _gathered(model.module.first.bias.grad)
            assert not alone[0].equal(alone[1])
            continue
        (_loss(model, ids[rank::size]) / 3).backward()
        together = _gathered(model.module.first.bias.grad)
        assert all(t.equal(together[0]) for t in together)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    _assert_alike(model.module, reference)


def _gathered(t: tg.Tensor) -> list[tg.Tensor]:
    out = [tg.zeros_like(t) for _ in range(dist.get_world_size())]
    dist.all_gather(out, t)
    return out


def gradients() -> None:
    """Where they lie when MPI averages them, and whose they are."""
    rank, size = _here()
    inner = nn.Sequential(nn.Embedding(3000, 100), nn.Linear(100, 3), nn.Linear(3, 2))
    model = nn.parallel.DistributedDataParallel(inner, bucket_cap_mb=1)
    ids = tg.tensor([rank, 2999])
    model(ids).sum().backward()
    large, *small = (p.grad.numpy() for p in inner.parameters())
    assert len({id(g.base) for g in small}) == 1, "one flat array"
    assert small[0].base.size == sum(g.size for g in small)
    assert large.base is None, "as large as a bucket: in its own memory"
    kept, before = [p.grad for p in inner.parameters()], [g.copy() for g in (large, *small)]
    model.zero_grad()
    model(ids * 0).sum().backward()
    for tensor, values in zip(kept, before, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), values, "an old gradient stays as it was")
    flat = inner[2].bias.grad.numpy().base
    for p in inner.parameters():
        p.grad = p.grad.detach().zero_()
    model(ids).sum().backward()
    assert inner[2].bias.grad.numpy().base is flat, "gradients that stay are not copied"
    for p, values in zip(inner.parameters(), before, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), values, 1e-6)
    # The mean of what each process would have by itself, with what was there before added.
    model.zero_grad()
    inner[2].bias.grad = tg.full((2,), float(rank))
    model(ids).sum().backward()
    assert inner[2].bias.grad.tolist() == [2 + (size - 1) / 2] * 2
    wrapped_again = nn.parallel.DistributedDataParallel(inner)
    del model
    inner.zero_grad()
    wrapped_again(ids).sum().backward()
    assert inner[2].bias.grad.tolist() == [2.0, 2.0]


def sharded() -> None:
    """Each process keeps a share of the optimizer's state; the steps are those of the whole."""
    _sharded(tg.optim.AdamW, lr=0.01)
    _sharded(tg.optim.SGD, lr=0.1, momentum=0.9)
    _sharded(tg.optim.SGD, lr=0.1)


def _sharded(kind: type[tg.optim.Optimizer], **options: float) -> None:
    rank, size = _here()
    models, optimizers = [], []
    for wrapped in (False, True):
        tg.manual_seed(3)
        model = _Net()
        groups = [{"params": [p], "weight_decay": p.ndim * 0.1} for p in model.parameters()]
        groups, last = groups[:-1], groups[-1]
        if wrapped:
            optimizer = ZeroRedundancyOptimizer(groups, kind, **options)
        else:
            optimizer = kind(groups, **options)
        optimizer.add_param_group(last)
        models.append(model)
        optimizers.append(optimizer)
    plain, divided = optimizers
    rates = [tg.optim.LambdaLR(o, lambda step: 1 / (1 + step)) for o in optimizers]

    def steps(batches: list[tg.Tensor]) -> None:
        for ids in batches:
            for model, optimizer, rate in zip(models, optimizers, rates):
                loss = optimizer.step(partial(_closure, model, optimizer, ids), factor=0.7)
                assert loss.item() > 0
                rate.step()
        for a, b in zip(*(model.parameters() for model in models)):
            assert a.equal(b)

    steps(_batches(3, 8))
    own = sum(t.numel() for s in divided.state.values() for t in s.values())
    every = sum(t.numel() for s in plain.state.values() for t in s.values())
    (total,) = _gathered_numbers(own)
    assert total == every
    assert own < every or not every
    assert "consolidate_state_dict" in _refused(RuntimeError, divided.state_dict)
    divided.consolidate_state_dict(to=size - 1)
    if rank < size - 1:
        _refused(RuntimeError, divided.state_dict)
    else:
        mine, theirs = divided.state_dict(), plain.state_dict()
        assert mine["param_groups"] == theirs["param_groups"]
        assert list(mine["state"]) == sorted(theirs["state"])
        for i, fields in theirs["state"].items():
            assert mine["state"][i].keys() == fields.keys()
            assert all(mine["state"][i][name].equal(fields[name]) for name in fields)
    divided.load_state_dict(plain.state_dict())
    steps(_batches(2, 8))


def _closure(model: nn.Module, optimizer: tg.optim.Optimizer, ids: tg.Tensor) -> tg.Tensor:
    optimizer.zero_grad()
    loss = _loss(model, ids)
    loss.backward()
    return loss


def _gathered_numbers(*numbers: float) -> list[float]:
    total = tg.tensor(numbers)
    dist.all_reduce(total)
    return total.tolist()


def unused() -> None:
    """Parameters without a gradient: in one process, and in all."""
    rank, size = _here()
    inner = nn.ModuleDict({"all": nn.Linear(2, 2), "one": nn.Linear(2, 2), "none": nn.Linear(2, 2)})

    def forward(x: tg.Tensor) -> tg.Tensor:
        x = inner["all"](x)
        return inner["one"](x) if rank == size - 1 else x

    inner.forward = forward
    x = tg.ones(1, 2)
    model = nn.parallel.DistributedDataParallel(inner, find_unused_parameters=True)
    for _ in range(2):
        model(x).sum().backward()
        together = _gathered(inner["one"].bias.grad)
        for t in together:
            np.testing.assert_allclose(t.numpy(), [1 / size] * 2, 1e-6)
        assert inner["none"].bias.grad is None
        inner.zero_grad()
    assert inner["all"].weight.grad is None
    if size == 2:  # the third gets no gradient anywhere: an error, and no bad step
        del model
        strict = nn.parallel.DistributedDataParallel(inner)
        message = _refused(RuntimeError, lambda: strict(x).sum().backward())
        assert "none.weight, none.bias" in message
        assert "find_unused_parameters" in message


def buffers() -> None:
    """Running statistics are those of rank 0, as of the forward pass before."""
    rank, _ = _here()
    for broadcast in (True, False):
        norm = nn.BatchNorm1d(1, momentum=1.0)
        model = nn.parallel.DistributedDataParallel(norm, broadcast_buffers=broadcast)
        x = tg.tensor([[rank - 1.0], [rank + 1.0]])
        model(x).sum().backward()
        assert norm.running_mean.item() == rank
        with model.no_sync(), tg.no_grad():
            model.eval()
            model(x)
        assert norm.running_mean.item() == (0 if broadcast else rank)


def replicas() -> None:
    rank, size = _here()
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    nn.parallel.check_replicas(model)
    assert next(iter(model.state_dict())) == "module.0.weight"
    if rank == size - 1:
        with tg.no_grad():
            model.module[1].bias[0] += 1e-6
    message = _refused(RuntimeError, lambda: nn.parallel.check_replicas(model))
    assert f"the parameter module.1.bias of rank {size - 1} is not that of rank 0" in message


def interrupted() -> None:
    """A backward pass that fails leaves nothing behind for the next."""
    rank, size = _here()
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model = nn.parallel.DistributedDataParallel(inner, bucket_cap_mb=1e-5)
    x = tg.ones(1, 2)

    def fail(gradient: tg.Tensor) -> None:
        raise KeyError("planted")

    handle = inner[0].weight.register_hook(fail)
    _refused(KeyError, lambda: model(x).sum().backward())
    handle.remove()
    inner.zero_grad()
    (model(x).sum() * rank).backward()
    assert inner[1].bias.grad.tolist() == [(size - 1) / 2] * 2
    inner.zero_grad()
    model(x).sum().backward(inputs=list(inner.parameters()))
    assert inner[1].bias.grad.tolist() == [1.0, 1.0]
    message = _refused(RuntimeError, lambda: model(x).sum().backward(create_graph=True))
    assert "no_sync" in message


# --- training -------------------------------------------------------------------------------------


def _trainer(out: str, resume: bool = False, **changes: object) -> Trainer:
    text = Path(out).parent / "text.txt"
    if dist.get_rank() == 0:
        text.parent.mkdir(exist_ok=True)
        text.write_text(tiny_run.TEXT)
    dist.barrier()
    return tiny_run.trainer(Path(out), resume, **changes)


def trains(out: str, until: str, resume: str, sharded: str = "") -> None:
    """A run of the trainer, from its start or its checkpoint to a step."""

    def stop(trainer: object, step: int, metrics: object) -> None:
        if step == int(until):
            trainer.stop()

    tg.set_default_dtype(tg.float64)
    trainer = _trainer(out, resume == "resume", **SHARED_RUN, shard_optimizer=bool(sharded))
    trainer.callbacks = Callbacks(trainer.callbacks.own, [stop])
    trainer.fit()
    if sharded:
        known = sum(p.numel() for p in trainer.optimizer.state)
        assert known < trainer.model.parameter_count() * 0.7, "each remembers its share only"


def first_draws(out: str) -> None:
    """A callback of the first worker alone; the others are called in each."""

    class Writes(Callback):
        first_only = True

        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_step_end(self, trainer: Trainer, step: int, metrics: object) -> None:
            self.steps.append(step)

    one, every = Writes(), []
    listeners = [one, lambda trainer, step, metrics: every.append(step)]
    _trainer(out, **SHARED_RUN, callbacks=listeners).fit()
    assert every == list(range(1, 9))
    assert one.steps == (every if dist.get_rank() == 0 else [])


def comes_apart(out: str) -> None:
    """A weight that changes in one worker only: all stop at the next evaluation."""

    def spoil(trainer: object, step: int, metrics: object) -> None:
        if step == 3 and trainer.workers.rank == 1:
            with tg.no_grad():
                trainer.model.norm.bias[0] += 1e-7

    trainer = _trainer(out, **SHARED_RUN)
    trainer.callbacks = Callbacks(trainer.callbacks.own, [spoil])
    message = _refused(RuntimeError, trainer.fit)
    assert "the parameter norm.bias of rank 1 is not that of rank 0" in message
    assert trainer.step == 4


def diverges(out: str) -> None:
    """nan in the rows of one worker: all end, and all know the layer."""
    trainer = _trainer(out, **SHARED_RUN)
    if trainer.workers.rank == 1:

        def spoil(module: object, args: object, output: tg.Tensor) -> tg.Tensor:
            spoilt = trainer.step == 2 and module.training
            return output * float("nan") if spoilt else output

        trainer.model.blocks[0].feed_forward[0].register_forward_hook(spoil)
    message = _refused(Diverged, trainer.fit)
    assert "diverged in step 3" in message
    assert "layer blocks.0.feed_forward.0" in message


def begins_otherwise(out: str) -> None:
    """Another seed, and another checkpoint, in one worker."""
    rank, _ = _here()
    message = _refused(RuntimeError, lambda: _trainer(out, **{**SHARED_RUN, "seed": rank}))
    assert "worker 1 has another config than worker 0" in message
    message = _refused(ValueError, lambda: _trainer(out, batch=1))
    assert "2 workers cannot share a batch of 1" in message


# Uneven rows for two and for three workers, dropout, clipping, accumulated batches.
SHARED_RUN = {"batch": 5, "accumulate": 2, "pictures": False}


# --- the end of one is the end of all -------------------------------------------------------------


def ends(how: str, who: str) -> None:
    """One process ends, by an error, by itself or by a signal; the others wait for it."""
    mpi.GRACE = 0.5  # nothing is on its way from it
    if dist.get_rank() == int(who):
        if how == "raise":
            raise ValueError("planted")
        if how == "exit":
            sys.exit(3)
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def on_two_hosts() -> None:
    """They share no memory; what follows is sent while a thread lets MPI go on."""
    assert not joined().on_one_machine
    assert joined().window(1 << 10) is None
    mpi.LONG = 0


def asked() -> None:
    """By the thread, as long as there was something to ask for."""
    progress = joined().progress
    assert progress._thread is not None
    assert progress._thread.is_alive()
    assert not progress._under_way


def late() -> None:
    """To end early is no fault where nobody waits for it, nor is it to write a file meanwhile."""
    dist.barrier()
    if dist.get_rank() == 0:
        time.sleep(1)


def farewells() -> None:
    """All hear of it: over a network MPI complains about messages that nobody has received."""
    world = joined()
    started = time.process_time()
    if dist.get_rank() == 0:
        time.sleep(0.5)
    world._say_goodbye()
    assert not any(world._who_left() is not None for _ in range(1000))
    assert time.process_time() - started < 0.25  # the core is left to those who work
    dist.barrier()


if __name__ == "__main__":
    dist.init_process_group()
    for program in sys.argv[1:]:
        name, *arguments = program.split(":")
        globals()[name](*arguments)
    sys.stdout.write("fine\n")
