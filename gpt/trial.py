"""How many workers pay off: some steps with one process and with several, before a training."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorgrad
from tensorgrad import distributed
from tensorgrad.optim import AdamW, clip_factor

from . import choices, corpus, launcher
from .costs import flops_per_token
from .model import GPT
from .presets import RunConfig
from .reporting import say_at_once
from .train import adamw
from .workers import Workers

LONG = 60.0  # seconds; a training that is shorter than this is not worth trying
SPEED = 5e10  # operations a second, about what two cores do: tells long trainings from short ones
TIMED = 1.5  # seconds of steps that are timed for each number of workers
PATIENCE = 90.0  # seconds, compiling included, after which a number of workers is given up
WORTH = 1.05  # several workers have to be so many times as fast as one process

Measure = Callable[[RunConfig, int, int], "float | None"]


def fitting(
    config: RunConfig,
    say: Callable[[str], object] = say_at_once,
    measure: Measure | None = None,
) -> int:
    """How many workers a training should have: 1 unless more are clearly faster, as measured.

    Nothing is tried for trainings that are likely to be short, or where there is one core.

    Args:
        config: the training.
        say: receives what was measured, in one line.
        measure: the seconds of a step with a config, a vocabulary and a number of workers, None
            where that number does not work; by default :func:`measured`.
    """
    most = min(tensorgrad.get_num_threads(), config.batch)
    if config.data is not None and not Path(config.data).exists():
        return 1  # the training will say so
    if most < 2 or config.steps * likely_seconds(config, vocab := likely_vocabulary(config)) < LONG:
        return 1
    if not fits(config, vocab, 2):
        return 1  # nor will more
    try:
        launcher.mpiexec()
    except RuntimeError as error:
        say(f"training in one process; {error}, and they may be faster")
        return 1
    measure = measure or measured
    say("trying how many workers are fastest (--workers N chooses) ...")
    one = measure(config, vocab, 1)
    if one is None:
        return 1  # if something is wrong, the training will say what
    if config.steps * one < LONG:
        say(
            f"a step takes {1e3 * one:,.0f} ms, and the training less than {LONG:.0f} s: "
            f"training {_words(1)}"
        )
        return 1
    found = {1: one}
    for count in numbers(most):
        if not fits(config, vocab, count):
            break
        several = measure(config, vocab, count)
        if several is None:
            break
        found[count] = several
        if several > min(found.values()):
            break  # more would not be faster either
    best, seconds = min(found.items(), key=lambda item: item[1])
    if seconds * WORTH > one:
        best = 1
    say(
        f"a step takes {', '.join(f'{1e3 * s:,.0f} ms {_words(n)}' for n, s in found.items())}: "
        f"training {_words(best)}"
    )
    return best


def _words(workers: int) -> str:
    return f"with {workers} workers" if workers > 1 else "in one process"


def numbers(most: int) -> Iterator[int]:
    """The numbers of workers to try: powers of two, and the largest.

    >>> list(numbers(6)), list(numbers(1))
    ([2, 4, 6], [])
    """
    count = 2
    while count < most:
        yield count
        count *= 2
    if most > 1:
        yield most


def likely_seconds(config: RunConfig, vocab: int) -> float:
    """About how long a step takes on two ordinary cores."""
    tokens = config.batch * config.context * config.accumulate
    return tokens * flops_per_token(config.model(vocab))[1] / SPEED


def likely_vocabulary(config: RunConfig) -> int:
    """How many tokens the model will have; of characters, which are not counted yet, a guess."""
    if config.tokenizer == "char" and not (config.data and corpus.is_prepared(config.data)):
        return 128
    return choices.vocabulary(config)


def fits(config: RunConfig, vocab: int, workers: int) -> bool:
    """Whether so many copies (weights, gradients, two moments) take less than half the memory."""
    parameters = flops_per_token(config.model(vocab))[0] / 2  # about: an operation pair for each
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # where nobody tells
        return True
    return 16 * parameters * workers < memory / 2


def measured(config: RunConfig, vocab: int, workers: int) -> float | None:
    """The seconds of a training step, in processes of their own; None if these fail."""
    command = [sys.executable, "-m", "gpt.trial", json.dumps([config.to_json(), vocab])]
    if workers > 1:
        command = [launcher.mpiexec(), "-n", str(workers), *command]
    # One process tells of compiling; mpiexec tells more of what fails than anyone wants to know.
    complaints = subprocess.DEVNULL if workers > 1 else None
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints,
            env={**os.environ, **launcher.share(workers)}, timeout=PATIENCE, check=True,
        )  # fmt: skip
        return float(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


def step_seconds(config: RunConfig, vocab: int) -> float:
    """The median time of a training step on random tokens, of the slowest worker."""
    workers = Workers()
    tensorgrad.manual_seed(config.seed)
    model = GPT(config.model(vocab))
    model.recompute = config.recompute
    kind = workers.divided(AdamW, config.shard_optimizer)
    parallel, optimizer = workers.parallel(model), adamw(model, config, kind)
    own, parameters = workers.rows(config.batch), list(model.parameters())
    x = tensorgrad.randint(0, vocab, (own.stop - own.start, config.context))

    def step() -> float:
        start = time.perf_counter()
        for i in range(config.accumulate):
            last = i == config.accumulate - 1
            with workers.drawing(config.batch), workers.averaging(parallel, last):
                parallel(x, x).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        optimizer.step(factor=clip_factor(gradients, config.clip or math.inf)[1])
        optimizer.zero_grad()
        return time.perf_counter() - start

    for _ in range(2):  # kernels are loaded, buffers found
        step()
    (microseconds,) = workers.largest(round(1e6 * step()))
    count = min(30, max(3, round(TIMED / (1e-6 * microseconds))))
    middle = statistics.median(step() for _ in range(count))
    return 1e-6 * workers.largest(round(1e6 * middle))[0]


if __name__ == "__main__":
    choices_, vocabulary_ = json.loads(sys.argv[1])
    try:
        seconds = step_seconds(RunConfig.from_json(choices_), vocabulary_)
    except Exception:  # whatever it is: the training itself will say it better
        sys.exit(1)
    if not distributed.launch_rank():
        print(seconds)
