"""Training: text in, a folder with a model, its metrics and its pictures out."""

from __future__ import annotations

import html
import json
import math
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad
from tensorgrad.optim import AdamW, LambdaLR, Optimizer, clip_factor, warmup_cosine

from . import checkpoint, choices, corpus, data, divergence, folder, reporting, tokenizer
from .callbacks import Callback, Callbacks, Function, Metrics, Result
from .choices import FIXED, choose, prompt_tokens, vocabulary
from .divergence import Diverged, first_fault, layer_norms, spoilt
from .evaluation import windows_at_once
from .folder import BEST, CHECKPOINT, PREVIOUS, SAMPLE, SUMMARY, TOKENIZER
from .generate import generate
from .interrupts import interruptible
from .label import label
from .last_sample import LastSample
from .lock import Lock
from .model import GPT
from .presets import RunConfig
from .stopping import Patience, Spikes
from .tensorboard import TensorBoard
from .workers import Workers

__all__ = ["FIXED", "Result", "Trainer", "choose", "prompt_tokens", "vocabulary"]

Batch = list[tuple[tensorgrad.Tensor, tensorgrad.Tensor]]

WINDOWS = 2000  # of the validation split, at most, for the loss at the end


class Trainer:
    """One run: its data, model, optimizer and folder.

    >>> import pathlib
    >>> _ = pathlib.Path("my.txt").write_text("one two three four five " * 20)
    >>> trainer = Trainer(
    ...     data="my.txt", tokenizer="char", context=8, width=8, layers=1, heads=1, steps=2,
    ...     eval_batches=1, pictures=False, out="runs/mine", say=lambda line: None,
    ... )
    >>> trainer.fit().losses["step"]
    [1, 2]

    A run that was interrupted and resumed ends with the same weights and metrics, to the bit, as
    one that was not. The learning rate is a function of the step and of ``config`` (its ``steps``
    is where the cosine ends), so a finished run that is resumed with more steps continues on the
    longer cosine: its rate jumps up and falls again.

    Args:
        config: all choices; instead of it, a ``preset``, or nothing for the default one.
        out: the folder that everything of the run goes to; ``runs/`` and the preset's name.
        resume: continue the run in that folder from its checkpoint; its choices are the run's own,
            and those in ``FIXED`` must stay so.
        say: receives the lines meant for the user.
        command: starts a program that trains, for the sentence that says how to go on.
        callbacks: listen to the run; a function is called after each step with the trainer, the
            step's number and its metrics.
        given: choices that differ from the preset's: fields of RunConfig.

    Several processes, started by mpiexec, train together: each computes its rows of every batch,
    and what comes of it is what one process would have made, but for the rounding of sums. The
    first of them writes and speaks; callbacks are called in all, but for those that only the first
    calls (:class:`Callback`).

    Raises:
        ValueError, OSError, RuntimeError: one sentence that names the problem and the remedy;
            nothing in the folder has been touched.
    """

    def __init__(
        self,
        config: RunConfig | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        say: Callable[[str], object] = reporting.say_at_once,
        command: str = "python -m gpt train",
        *,
        preset: str | None = None,
        callbacks: Iterable[Callback | Function] = (),
        **given: Any,
    ) -> None:
        if config is None:
            config, out = choose(preset, given, out, resume)
        elif preset is not None:
            raise ValueError("a config and a preset are two: leave out one of them")
        else:
            config, out = choices.changed(config, given), Path(out or "runs/default")
        self.workers = Workers()
        self.workers.check_batch(config.batch)
        if not self.workers.first:
            say = _silence
        self.config, self.out, self.say, self.command = config, out, say, command
        own: list[Callback] = []
        if self.workers.first:
            own = [reporting.Report(), *([TensorBoard()] if config.tensorboard else [])]
        self.callbacks = Callbacks(own, callbacks, self.workers.first)
        self.step, self.seconds = 0, 0.0
        self.stopped_by = 0  # the signal that ended the run before its time
        self.patience, self.spikes = Patience(config.patience), Spikes(config.spike)
        self.layer_norms: dict[str, float] = {}  # of the gradients, when last measured
        self._stopping = False
        self._before_callbacks: dict[str, Any] | None = None  # the random states, while one runs
        self.lock = Lock(self.out, needed=self.workers.first)
        self.lock.take()
        if resume:
            choices.check_fixed(folder.read_config(self.out)[0], config, self.out)

        coder = tokenizer.load(self.out / TOKENIZER) if resume else None
        found = corpus.load(config.data, config.tokenizer, config.vocab_size, coder)
        self.tokenizer, train, val = coder or found.tokenizer, found.train, found.val
        self.characters, self.tokens = found.facts.characters, found.facts.tokens
        self.prompt = prompt_tokens(self.tokenizer, config.prompt)
        largest = max(found.facts.largest, *self.prompt)
        rows, remark = choices.embedding_rows(self.tokenizer, config.vocab_size, largest)
        if remark:
            say(remark)
        self.model_config = config.model(rows)
        seeds = (config.seed, config.seed + 1, config.seed + 2)
        shape = (config.context, config.batch)
        self.batches = data.Batches(train, *shape, seed=seeds[0])
        # Evaluations draw from generators of their own: how often one evaluates changes nothing.
        self.eval_batches = {
            "train": data.Batches(train, *shape, seed=seeds[1]),
            "val": data.Batches(val, *shape, seed=seeds[2]),
        }

        self.text_crc = self.text_then = found.facts.crc
        tensorgrad.manual_seed(config.seed)
        self.model = GPT(self.model_config)
        self.model.recompute = config.recompute
        self.parameters = list(self.model.parameters())
        kind = self.workers.divided(AdamW, config.shard_optimizer)
        self.optimizer = adamw(self.model, config, kind)
        problem = self._restore() if resume else ""
        self.schedule = LambdaLR(self.optimizer, rate_factor(config), last_epoch=self.step - 1)
        self.metrics: list[Metrics] = []  # the objects of metrics.jsonl
        self._agree(resume)
        self.parallel = self.workers.parallel(self.model)
        if self.workers.first:
            self._open_folder(resume, problem)

    def _agree(self, resume: bool) -> None:
        """RuntimeError in all workers if one of them has begun with something else."""
        facts = {"config": self.config.to_json(), "text": self.text_crc}
        if resume:
            facts["checkpoint"] = [self.step, self._random_states()]
        self.workers.check_same(facts)
        if resume:
            self.workers.check_replicas(self.model)

    def _open_folder(self, resume: bool, problem: str) -> None:
        """Make the folder, or go on in it; ``problem`` is what was wrong with a checkpoint."""
        config, out, say = self.config, self.out, self.say
        sessions = folder.read_sessions(out) if resume else []
        record = {
            "run": config.to_json(),
            "model": self.model_config.to_json(),
            "sessions": [
                *sessions,
                {"step": self.step, "workers": self.workers.size, **label(config.seed)},
            ],
        }
        if resume:
            self.metrics = folder.reopen(out, record, self.step)
            if problem:
                kept = folder.set_aside(out)
                say(problem + (f"; the bad file is kept as {kept}" if kept else ""))
            if self.text_then != self.text_crc:
                say("the text is not the one that the run has learnt from until now")
            say(f"resumed {out} at step {self.step}")
        elif kept := folder.create(out, self.tokenizer, record, self.lock):
            say(f"kept the earlier run in {out} as {kept}")

    # --- the checkpoints --------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the last checkpoint; the one before it is kept under another name."""
        path = self._save(self.out / CHECKPOINT, self.out / PREVIOUS)
        self._tell("on_checkpoint", path)
        return path

    def _save(self, path: Path, previous: Path | None = None) -> Path:
        """Write a checkpoint: weights, optimizer, step and all random states.

        Raises:
            Diverged: there are weights that are not finite; the checkpoints are left as they are.
        """
        if spoilt(self.model):
            where = first_fault(self.model, lambda: None)
            raise self._diverged(self.step, "there is nothing good to save", where)
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "text": self.text_crc,
            "best": self.patience.state_dict(),
            "losses": self.spikes.state_dict(),
            "random": self._before_callbacks or self._random_states(),
        }
        self.workers.gather(self.optimizer)
        if self.workers.first:
            checkpoint.save(path, self.model, self.optimizer, facts, previous)
        return path

    def _restore(self) -> str:
        """Go back to the last checkpoint, or to the one before it; returns what was bad, if so."""
        paths = [self.out / CHECKPOINT, self.out / PREVIOUS]
        try:
            path, problem = checkpoint.restore_first(paths, self._restore_from)
        except ValueError as error:
            if not (self.out / BEST).exists():
                raise
            raise ValueError(
                f"{error}; {BEST} beside it is an earlier checkpoint: under the name {CHECKPOINT} "
                "the run can go on from it"
            ) from None
        if self.config.steps < self.step:
            raise ValueError(
                f"the run in {self.out} has done {self.step} steps already: "
                f"give --steps {self.step} or more"
            )
        return f"{problem}; going on from {path.name} instead" if problem else ""

    def _restore_from(self, path: Path) -> None:
        header, arrays = checkpoint.read(path)
        checkpoint.restore_model(self.model, header, arrays, path)
        try:
            checkpoint.restore_optimizer(self.optimizer, header, arrays)
            facts = header["facts"]
            self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
            self.text_then = facts.get("text", self.text_crc)
            if "best" in facts:
                self.patience.load_state_dict(facts["best"])
            self.spikes.load_state_dict(facts.get("losses", []))
            self._set_random_states(facts["random"])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}): restore it from a copy") from None

    def _random_states(self) -> dict[str, Any]:
        """All that the next random numbers of the run depend on, as JSON can hold it."""
        return {
            "torch": tensorgrad.get_rng_state().tolist(),
            "batches": self.batches.state_dict(),
            **{k: b.state_dict() for k, b in self.eval_batches.items()},
        }

    def _set_random_states(self, states: dict[str, Any]) -> None:
        state = tensorgrad.tensor(states["torch"], dtype=tensorgrad.uint8)
        tensorgrad.set_rng_state(state)
        self.batches.load_state_dict(states["batches"])
        for name, batches in self.eval_batches.items():
            batches.load_state_dict(states[name])

    # --- the work ---------------------------------------------------------------------------------

    # A run that diverges is noticed by its loss, and not by NumPy's warnings on the way there.
    @np.errstate(all="ignore")
    def train_step(self) -> tuple[float, float]:
        """One update; returns the loss and the gradients' norm before clipping.

        Raises:
            Diverged: one of them is not finite, or the loss has jumped; the weights are those
                before the step.
        """
        if not self.model.training:
            self.model.train()
        batch = [self._tensors(self.batches.next()) for _ in range(self.config.accumulate)]
        random = tensorgrad.get_rng_state()
        loss = sum(self.workers.summed(self._backward(batch))) / len(batch)
        if self._is_measured(self.step + 1):
            self.layer_norms = layer_norms(self.model.named_parameters())
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm, factor = clip_factor(gradients, self.config.clip or math.inf)
        self._check_step(loss, norm, batch, random)
        self.optimizer.step(factor=factor)
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        return loss, norm

    def _backward(self, batch: Batch, averaged: bool = True) -> list[float]:
        """Add the gradients of the mean loss over all of ``batch``, the average of all workers'.

        Returns this worker's share of the loss of each part.
        """
        losses, workers, rows = [], self.workers, self.config.batch
        for i, (x, y) in enumerate(batch, 1):
            average = averaged and i == len(batch)
            with workers.drawing(rows), workers.averaging(self.parallel, average):
                loss = self.parallel(x, y)
                losses.append(loss.item() * (len(x) / rows))
                parts = len(batch) * rows / (len(x) * workers.size)
                (loss if parts == 1 else loss / parts).backward()
        return losses

    def _tensors(self, arrays: Any) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
        """This worker's rows of a batch."""
        x, y = (tensorgrad.from_numpy(a[self.workers.rows(len(a))]) for a in arrays)
        return x, y

    def _is_measured(self, step: int) -> bool:
        """Whether the metrics get a line after this step."""
        return step % self.config.eval_every == 0 or step in (1, self.config.steps)

    def _check_step(self, loss: float, norm: float, batch: Batch, random: Any) -> None:
        """Diverged if the loss or the norm of the gradients is not finite, or the loss jumps."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            for p in self.model.parameters():
                p.grad = None
            tensorgrad.set_rng_state(random)  # the same dropout
            where = first_fault(self.model, lambda: self._backward(batch, averaged=False))
            where = self.workers.first_text(where)
            what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradients are too big"
            raise self._diverged(self.step + 1, what, where)
        if (usual := self.spikes.above(loss)) is not None:
            raise self._diverged(
                self.step + 1,
                f"the loss is {loss:.3f} and was {usual:.3f} on average lately",
                divergence.largest(layer_norms(self.model.named_parameters()), self.layer_norms),
                ", or --spike 0 to go on through it",
            )

    def _diverged(self, step: int, what: str, where: str, remedy: str = "") -> Diverged:
        lr, kept = self.optimizer.param_groups[0]["lr"], self.out / CHECKPOINT
        remedy = (", a smaller --clip" if self.config.clip else ", a --clip of 1") + remedy
        return divergence.explained(step, what, where, lr, kept, self.how_to_go_on, remedy)

    @np.errstate(all="ignore")
    def evaluate(self) -> dict[str, float]:
        """The mean loss on fresh random batches of each split, without dropout.

        Raises:
            Diverged: one of them is not finite.
        """
        self.model.eval()
        means, size, batch = {}, self.config.eval_batches, self.config.batch
        together = max(1, windows_at_once(self.model_config) // batch)
        for split, batches in self.eval_batches.items():
            losses, spoiling = [], None
            for done in range(0, size, together):
                x, y = self._tensors(batches.next(min(together, size - done)))
                with tensorgrad.no_grad():
                    losses.append(self.model(x, y).item() * (len(x) / batch))
                if spoiling is None and not math.isfinite(losses[-1]):
                    spoiling = partial(self.model, x, y)
            total = sum(self.workers.summed(losses))
            if not math.isfinite(total):
                where = first_fault(self.model, spoiling) if spoiling else ""
                what = f"in the evaluation after it the loss is {total}"
                raise self._diverged(self.step, what, self.workers.first_text(where))
            means[f"{split}_loss"] = total / size
        return means

    @np.errstate(all="ignore")
    def validate(self) -> tuple[float, int]:
        """The mean loss over the validation split in windows side by side, and its tokens.

        A long split is represented by ``WINDOWS`` windows spread over it. Unlike the few random
        batches of :meth:`evaluate`, this is a number that two runs can be compared by.
        """
        self.model.eval()
        x, y = data.windows(self.eval_batches["val"].tokens, self.config.context, WINDOWS)
        total, size = 0.0, max(self.config.batch, windows_at_once(self.model_config))
        with tensorgrad.no_grad():
            for i in range(0, len(x), size):
                part = self._tensors(a[i : i + size] for a in (x, y))
                if len(part[0]):  # the last batch can have fewer rows than there are workers
                    total += self.model(*part).item() * len(part[0])
        return sum(self.workers.summed([total])) / len(x), x.size

    def fit(self) -> Result:
        """Train to the last step and write everything, unless a signal or a callback ends it.

        Ctrl-C and SIGTERM let the step end and save it: ``stopped_by`` is the signal then, and
        ``fit`` again goes on. Seconds and tokens per second are of the training steps alone:
        forward pass, backward pass and update, without evaluations, checkpoints and start. A rate
        is the mean since the previous line of the metrics.

        Raises:
            Diverged: one paragraph that says why; the last good checkpoint is kept.
        """
        self._stopping, self.stopped_by, self.callbacks.failed = False, 0, ""
        self._last_sample: LastSample | None = None
        self.optimizer.zero_grad()
        self.lock.take_again()
        self.lock.in_use = True
        try:
            with interruptible(self.workers.first) as received:
                self._tell("on_train_begin")
                self._train(received)
            self.save()
            result = Result(self.out, self.model, self.step, "steps", [*self.metrics], {}, "")
            (self.stopped_by,) = self.workers.largest(received[0] if received else 0)
            if self.stopped_by:
                result.reason = "interrupted"
            else:
                if self.patience.exhausted:
                    result.reason = "patience"
                elif self.step < self.config.steps:
                    result.reason = "stop"
                self._finish(result)
            self._tell("on_train_end", result)
            return result
        except Exception as error:
            self._tell_of_failed_callback(error)
            raise
        finally:
            self.lock.in_use = False
            self.lock.release()
            self.callbacks.close()

    def run(self) -> bool:
        """:meth:`fit`; False if a signal ended the run before its time."""
        return self.fit().reason != "interrupted"

    def stop(self) -> None:
        """End the run after this step, as if it were the last; for callbacks."""
        self._stopping = True

    def _train(self, received: list[int]) -> None:
        """Take steps until the last one, a signal, a callback or the patience ends it."""
        c = self.config
        tokens, spent = 0, 0.0
        while not self._is_over(received):
            lr = self.schedule.get_last_lr()[0]
            started = time.perf_counter()
            loss, norm = self.train_step()
            elapsed = time.perf_counter() - started
            self.seconds += elapsed
            spent += elapsed
            tokens += c.batch * c.accumulate * c.context
            rate = tokens / spent
            measured = self._is_measured(self.step)
            if measured:
                self._measure(lr, norm, rate)
                tokens, spent = 0, 0.0
            now = {"loss": loss, "lr": lr, "grad_norm": norm, "tokens_per_second": rate}
            try:
                self._tell("on_step_end", self.step, now)
                if measured:
                    self._tell("on_evaluation", self.step, self.metrics[-1])
            except Exception:  # the step is done, and need not be done again
                if isinstance(self.optimizer, AdamW):  # whole, so that no other worker is needed
                    self._save(self.out / CHECKPOINT, self.out / PREVIOUS)
                raise
            if self.step % c.save_every == 0 and self.step < c.steps:
                self.save()

    def _is_over(self, received: list[int]) -> bool:
        """Whether no step follows; the workers agree, though only one may have got a signal."""
        signal, stopping = self.workers.largest(received[0] if received else 0, int(self._stopping))
        self._stopping = bool(stopping)
        return bool(signal or stopping) or self.step >= self.config.steps or self.patience.exhausted

    def _measure(self, lr: float, norm: float, rate: float) -> None:
        """Evaluate, add a line to the metrics, and keep the weights if they are the best."""
        self.workers.check_replicas(self.model)
        if self.workers.first and self.step == self.config.steps:
            self._last_sample = LastSample(self.sample, self.model)  # written meanwhile
        metrics: Metrics = {
            "step": self.step,
            **self.evaluate(),
            "lr": lr,
            "grad_norm": norm,
            "grad_norms": self.layer_norms,
            "tokens_per_second": rate,
            "seconds": self.seconds,
        }
        if self.workers.first:
            folder.append_metrics(self.out, metrics)
        self.metrics.append(metrics)
        if self.patience.better(self.step, metrics["val_loss"]):
            self._tell("on_checkpoint", self._save(self.out / BEST))

    def _tell(self, event: str, *arguments: Any) -> None:
        """Call the callbacks; the random states and the gradients are afterwards as before."""
        if self._before_callbacks is not None:  # a callback has called what tells callbacks
            return
        self._before_callbacks = before = self._random_states()
        try:
            self.callbacks.tell(self, event, *arguments)
        finally:
            self._before_callbacks = None
            self._set_random_states(before)
            self.optimizer.zero_grad()

    def _tell_of_failed_callback(self, error: Exception) -> None:
        """Say which callback has ended the run, if it was one, and how to go on without it."""
        if self.callbacks.failed:
            kept = (self.out / CHECKPOINT).exists()
            then = f"to go on: {self.how_to_go_on}" if kept else "there is no checkpoint yet"
            with suppress(OSError):
                self.say(
                    f"{self.callbacks.failed} after step {self.step:,} "
                    f"({type(error).__name__}: {error}); {then}"
                )

    def _finish(self, result: Result) -> None:
        """Validate, write a sample if it is not there yet, and record both."""
        loss, tokens = self.validate()
        if not self.workers.first:
            return
        there = self._last_sample if self.sample_step == self.step else None
        result.sample = there.text() if there else self.sample()
        (self.out / SAMPLE).write_text(result.sample, encoding="utf-8")
        result.summary = {
            "step": self.step,
            "val_loss": loss,
            "val_tokens": tokens,
            "best": {"step": self.patience.step, "val_loss": self.patience.loss},
            "sample_step": self.sample_step,
            **label(self.config.seed),
        }
        text = json.dumps(result.summary, indent=2) + "\n"
        (self.out / SUMMARY).write_text(text, encoding="utf-8")

    @property
    def how_to_go_on(self) -> str:
        """The command that resumes the run."""
        return f"{self.command} --resume --out {shlex.quote(str(self.out))}"

    def sample(
        self, prompt: str | None = None, tokens: int | None = None, seed: int | None = None,
        **sampling: Any,
    ) -> str:  # fmt: skip
        """A prompt and what the model continues it with, by the weights of ``sample_step``.

        What is left out is the config's: ``prompt``, ``sample_tokens``, ``seed``, ``temperature``,
        ``top_k``. The other arguments are those of :class:`~gpt.sampling.Sampling`.
        """
        c = self.config
        start = self.prompt if prompt is None else prompt_tokens(self.tokenizer, prompt)
        written = generate(
            self.model if self.sample_step == self.step else self._best_model(),
            start,
            c.sample_tokens if tokens is None else tokens,
            seed=c.seed if seed is None else seed,
            **{"temperature": c.temperature, "top_k": c.top_k, **sampling},
        )
        return self.tokenizer.decode([*start, *written])

    @property
    def sample_step(self) -> int:
        """The step whose weights write samples: the last, or the best if the patience is over."""
        best = self.patience.exhausted and (self.out / BEST).exists()
        return self.patience.step if best else self.step

    def _best_model(self) -> GPT:
        random = tensorgrad.get_rng_state()
        model = GPT(self.model_config)
        tensorgrad.set_rng_state(random)  # a model begins with random weights
        path = self.out / BEST
        checkpoint.restore_model(model, *checkpoint.read(path), path)
        return model

    def __repr__(self) -> str:
        return (
            f"Trainer({self.out}: step {self.step:,} of {self.config.steps:,}, "
            f"{self.model.parameter_count():,} parameters, {self.tokens:,} tokens)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.model._repr_html_()}"


def adamw(model: GPT, config: RunConfig, kind: Callable[..., Optimizer] = AdamW) -> Optimizer:
    """AdamW that decays matrices only: biases and norms have no scale to keep small."""
    parameters = list(model.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return kind(
        # The schedule scales the first rate, also when it goes on in the middle of a run.
        [{**g, "initial_lr": config.lr} for g in groups if g["params"]],
        lr=config.lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay,
    )  # fmt: skip


def rate_factor(config: RunConfig) -> Callable[[int], float]:
    """The part of ``config.lr`` that is the learning rate of each step, counted from 0."""
    return warmup_cosine(config.warmup, config.steps, min(1.0, config.min_lr / config.lr))


def _silence(line: str) -> None:
    """What all workers but the first say."""
