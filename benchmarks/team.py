"""The workers of ``benchmarks.workers``, as ``-m benchmarks.team CONFIG CONTEXT ROWS TEXT OUT``.

Started alone or by mpiexec, they train as ``gpt train --workers N`` does: it is the trainer's own
loop, on a text of random characters that has as many different ones as the model has tokens. A
callback holds it between turns. It says ``ready`` after some steps, and then, for every line of
standard input, a list in JSON, what came of it, as JSON too:

- ``["steps", n]``: the seconds of the next n steps, from the end of one to the end of the other.
- ``["apart", n]``: those of n steps of its own, taken apart: [computation, waiting, communication].
- ``["reduce", bytes, n]``: those that averaging a gradient of so many bytes takes, n times.
- ``["profile", n]``: what a step consists of, for the model in ``benchmarks.scaling``.
- ``["copying", bytes, n]``: [to copy so many, to add them to others].
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import fields
from pathlib import Path
from statistics import median
from typing import Any

import tensorgrad
from gpt.callbacks import Callback
from gpt.config import GPTConfig
from gpt.garbage import search_rarely
from gpt.presets import RunConfig
from gpt.train import Trainer
from nn.parallel import DistributedDataParallel
from tensorgrad import distributed
from tensorgrad.optim import clip_factor

from .worker import CONFIGS

NAP = 0.02  # seconds between two looks for an order: who waits takes no time from who works
FOREVER = 10**9  # steps
OTHERS = 1 << 23  # bytes of other numbers that a step reads and writes, more than a cache of a core
FIRST_CHARACTER = 0x10000  # from here on, any of them is one


class Turns(Callback):
    """Holds the run after each step that was ordered, and takes the next order."""

    def __init__(self, warm_up: int) -> None:
        self.left, self.taken, self.since = warm_up, [], 0.0
        self.warm = False

    def on_step_end(self, trainer: Trainer, step: int, metrics: dict[str, Any]) -> None:
        self.taken.append(time.perf_counter() - self.since)
        self.left -= 1
        if self.left == 0:
            tell(trainer, self.taken if self.warm else "ready")
            self.warm, self.taken = True, []
            self._obey(trainer)
        self.since = time.perf_counter()

    def _obey(self, trainer: Trainer) -> None:
        """Do what is ordered, until it is to go on."""
        while True:
            what, *arguments = next_order(trainer)
            trainer.workers.wait()
            if what == "steps":
                (self.left,) = arguments
                return
            tell(trainer, ORDERS[what](trainer, *arguments))


def next_order(trainer: Trainer) -> list[Any]:
    """The next line of the first worker's standard input; all end if there is none."""
    workers = trainer.workers
    line = sys.stdin.readline() if workers.first else ""
    if workers.size > 1:
        there = distributed.barrier(async_op=True)
        assert there is not None
        while not there.is_completed():
            time.sleep(NAP)
        line = workers.first_text(line)
    if not line:
        raise SystemExit(0)
    return json.loads(line)


def tell(trainer: Trainer, what: Any) -> None:
    if trainer.workers.first:
        print(what if isinstance(what, str) else json.dumps(what), flush=True)


# --- the orders -----------------------------------------------------------------------------------


def apart(trainer: Trainer, count: int) -> list[list[float]]:
    """Steps in which nothing overlaps; of each the means over the workers.

    The backward pass averages nothing, then all wait for the slowest at a barrier, and then the
    same buckets as ever are averaged, one after the other, copying included.
    """
    found = []
    for _ in range(count):
        started = time.perf_counter()
        batch = [trainer._tensors(trainer.batches.next())]
        losses = trainer._backward(batch, averaged=False)
        ready = time.perf_counter()
        trainer.workers.wait()
        together = time.perf_counter()
        if isinstance(trainer.parallel, DistributedDataParallel):
            buckets = trainer.parallel._reducer.buckets
            for bucket in buckets:
                bucket.send()
            for bucket in buckets:
                bucket.end()
        trainer.workers.summed(losses)
        averaged = time.perf_counter()
        _update(trainer)
        done = time.perf_counter()
        parts = [ready - started + done - averaged, together - ready, averaged - together]
        found.append([t / trainer.workers.size for t in trainer.workers.summed(parts)])
    return found


def _update(trainer: Trainer) -> None:
    """What follows a backward pass."""
    gradients = [p.grad for p in trainer.parameters if p.grad is not None]
    trainer.optimizer.step(factor=clip_factor(gradients, trainer.config.clip)[1])
    trainer.optimizer.zero_grad()


def profile(trainer: Trainer, count: int) -> dict[str, Any]:
    """The seconds of forward and backward pass and of the update, and when buckets are full."""
    named = list(trainer.model.named_parameters())
    buckets = distributed.Reducer(named, None, False).buckets
    came = {}
    handles = [
        p.register_post_accumulate_grad_hook(lambda p: came.update({id(p): time.perf_counter()}))
        for _, p in named
    ]
    passes, updates, shares = [], [], []
    for _ in range(count):
        started = time.perf_counter()
        trainer._backward([trainer._tensors(trainer.batches.next())], averaged=False)
        passed = time.perf_counter()
        _update(trainer)
        passes.append(passed - started)
        updates.append(time.perf_counter() - passed)
        full = [max(came[id(p)] for p in bucket.parameters) for bucket in buckets]
        # None leaves before those in front of it.
        in_order = [max(full[: i + 1]) for i in range(len(full))]
        shares.append([(t - started) / passes[-1] for t in in_order])
    for handle in handles:
        handle.remove()
    sizes = [sum(p.detach().numpy().nbytes for p in bucket.parameters) for bucket in buckets]
    return {
        "parameters": trainer.model.parameter_count(),
        "passes": median(passes),
        "update": median(updates),
        "buckets": [
            [size, median(share), len(bucket.parameters)]
            for size, share, bucket in zip(sizes, zip(*shares), buckets)
        ],
    }


def reduce(trainer: Trainer, size: int, count: int) -> list[float]:
    """The seconds to average a gradient of so many bytes, from a barrier on; of each the mean.

    As the model's are: through memory that the processes share, if it is not too large, or by MPI.
    Each has emptied its caches before, as the rest of a step does.
    """
    others = tensorgrad.zeros(OTHERS // 4)
    parameter, found = tensorgrad.zeros(size // 4, requires_grad=True), []
    parameter.grad = tensorgrad.zeros(size // 4)
    reducer = distributed.Reducer([("parameter", parameter)], None, False)
    (bucket,) = reducer.buckets
    for i in range(1 + count):
        others += 1
        trainer.workers.wait()
        started = time.perf_counter()
        bucket.send()
        bucket.end()
        taken = time.perf_counter() - started
        if i == 0:  # touches the memory for the first time
            continue
        found.append(trainer.workers.summed([taken])[0] / trainer.workers.size)
    return found


def copying(trainer: Trainer, size: int, count: int) -> list[list[float]]:
    """The seconds to copy so many bytes, and to add them to others."""
    source, target = tensorgrad.ones(size // 4), tensorgrad.zeros(size // 4)
    found = []
    with tensorgrad.no_grad():
        for _ in range(count):
            started = time.perf_counter()
            target.copy_(source)
            copied = time.perf_counter()
            target += source
            found.append([copied - started, time.perf_counter() - copied])
    return found


ORDERS = {"apart": apart, "profile": profile, "reduce": reduce, "copying": copying}


# --- the run --------------------------------------------------------------------------------------


def run_config(model: GPTConfig, rows: int, text: str) -> RunConfig:
    """A run of that model, which is neither evaluated nor saved."""
    chosen = {f.name: getattr(model, f.name) for f in fields(model) if f.name != "vocab_size"}
    return RunConfig(
        data=text, tokenizer="char", batch=rows, steps=FOREVER, eval_every=FOREVER,
        save_every=FOREVER, eval_batches=1, spike=0.0, pictures=False, **chosen,
    )  # fmt: skip


def write_text(path: Path, characters: int, context: int) -> None:
    """A text of so many different characters, long enough to validate on its end."""
    drawn = random.Random(0)
    text = list(range(characters))
    drawn.shuffle(text)
    text += drawn.choices(range(characters), k=max(20 * context, 20_000))
    path.write_text("".join(chr(FIRST_CHARACTER + i) for i in text), encoding="utf-8")


def main(name: str, context: str, rows: str, text: str, out: str, warm_up: str = "2") -> None:
    search_rarely()
    model = GPTConfig(**{**CONFIGS[name][1].to_json(), "context": int(context)})
    config, turns = run_config(model, int(rows), text), Turns(int(warm_up))
    trainer = Trainer(config, out, say=lambda line: None, callbacks=[turns])
    assert trainer.model_config == model, "the text has another vocabulary"
    trainer.step = 1  # the first step would be evaluated, and the best weights saved
    trainer.fit()


if __name__ == "__main__":
    main(*sys.argv[1:])
