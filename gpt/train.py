"""Training: text in, a folder with a model, its metrics and its pictures out."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad
from tensorgrad.optim import AdamW, LambdaLR, clip_grad_norm_, warmup_cosine

from . import checkpoint, data, folder, reporting, tokenizer
from .folder import CHECKPOINT, METRICS, SUMMARY, TOKENIZER
from .generate import generate
from .interrupts import interruptible
from .model import GPT
from .presets import LINE_BREAK, RunConfig

WINDOWS = 2000  # of the validation split, at most, for the loss at the end

# What a run began with, and a checkpoint therefore holds. All other choices can change on resuming.
FIXED = ("tokenizer", "vocab_size", "context", "width", "layers", "heads", "positions",
         "activation", "bias", "tied", "init", "seed")  # fmt: skip


class Trainer:
    """One run: its data, model, optimizer and folder.

    A run that was interrupted and resumed ends with the same weights and metrics, to the bit, as
    one that was not. The learning rate is a function of the step and of ``config`` (its ``steps``
    is where the cosine ends), so a finished run that is resumed with more steps continues on the
    longer cosine: its rate jumps up and falls again.

    Args:
        config: all choices; on resuming, those in ``FIXED`` must be the run's own.
        out: the folder that everything of the run goes to.
        resume: continue the run in that folder from its checkpoint.
        say: receives the lines meant for the user.
        command: starts a program that trains, for the sentence that says how to go on.

    Raises:
        ValueError, OSError, RuntimeError: one sentence that names the problem and the remedy;
            nothing in the folder has been touched.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        resume: bool = False,
        say: Callable[[str], object] = reporting.say_at_once,
        command: str = "python -m gpt train",
    ) -> None:
        self.config, self.out, self.say, self.command = config, out, say, command
        self.step, self.seconds = 0, 0.0
        if resume:
            self._check_fixed(folder.read_config(self.out)[0])
            saved = checkpoint.read(self.out / CHECKPOINT)

        text = data.default_corpus() if config.data is None else data.read_text(config.data)
        if resume:
            self.tokenizer = tokenizer.load(self.out / TOKENIZER)
        else:
            self.tokenizer = tokenizer.build(
                config.tokenizer, text, 1024 if config.vocab_size is None else config.vocab_size
            )
        ids = self.tokenizer.encode(text)
        self.characters, self.tokens = len(text), len(ids)
        self.prompt = prompt_tokens(self.tokenizer, config.prompt)
        train, val = data.train_val_split(ids)
        self.model_config = config.model(self._vocab_size(max([*ids, *self.prompt])))
        seeds = (config.seed, config.seed + 1, config.seed + 2)
        shape = (config.context, config.batch)
        self.batches = data.Batches(train, *shape, seed=seeds[0])
        # Evaluations draw from generators of their own: how often one evaluates changes nothing.
        self.eval_batches = {
            "train": data.Batches(train, *shape, seed=seeds[1]),
            "val": data.Batches(val, *shape, seed=seeds[2]),
        }

        tensorgrad.manual_seed(config.seed)
        self.model = GPT(self.model_config)
        self.optimizer = self._optimizer()
        if resume:
            self._restore(*saved)
        floor = min(1.0, config.min_lr / config.lr)
        self.schedule = LambdaLR(
            self.optimizer,
            warmup_cosine(config.warmup, config.steps, floor),
            last_epoch=self.step - 1,
        )
        record = {"run": config.to_json(), "model": self.model_config.to_json()}
        if resume:
            folder.reopen(out, record, self.step)
            say(f"resumed {out} at step {self.step}")
        elif kept := folder.create(out, self.tokenizer, record):
            say(f"kept the earlier run in {out} as {kept}")

    def _check_fixed(self, saved: RunConfig) -> None:
        """ValueError if a choice is not the run's own that cannot change any more."""
        clashes = [
            f"{name} is {getattr(saved, name)!r} there and {getattr(self.config, name)!r} here"
            for name in FIXED
            if getattr(saved, name) != getattr(self.config, name)
        ]
        if clashes:
            raise ValueError(
                f"the run in {self.out} has another config: {'; '.join(clashes)}; "
                "leave these choices out to resume it, or --resume to start another run"
            )

    def _vocab_size(self, largest: int) -> int:
        """The embedding's rows: the tokenizer's vocabulary, or for a ready-made one the choice."""
        known, chosen = self.tokenizer.n_vocab, self.config.vocab_size
        if self.config.tokenizer in ("bpe", "char") or chosen is None:
            return known
        if chosen > known:
            name = self.tokenizer.name
            raise ValueError(f"vocab_size is {chosen}, but the tokenizer {name} has {known} tokens")
        if largest >= chosen:
            self.say(
                f"the text has tokens up to {largest:,}: the vocabulary is {largest + 1:,}, "
                f"not {chosen:,}"
            )
        return max(chosen, largest + 1)

    def _optimizer(self) -> AdamW:
        """AdamW that decays matrices only: biases and norms have no scale to keep small."""
        parameters = list(self.model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim >= 2]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        c = self.config
        return AdamW(
            # The schedule scales the first rate, also when it goes on in the middle of a run.
            [{**g, "initial_lr": c.lr} for g in groups if g["params"]],
            lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay,
        )  # fmt: skip

    # --- the checkpoint --------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the checkpoint: weights, optimizer, step and all random states."""
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "random": {
                "torch": tensorgrad.get_rng_state().tolist(),
                "batches": self.batches.state_dict(),
                **{k: b.state_dict() for k, b in self.eval_batches.items()},
            },
        }
        path = self.out / CHECKPOINT
        checkpoint.save(path, self.model, self.optimizer, facts)
        return path

    def _restore(self, header: dict[str, Any], arrays: dict[str, Any]) -> None:
        path = self.out / CHECKPOINT
        checkpoint.restore_model(self.model, header, arrays, path)
        try:
            checkpoint.restore_optimizer(self.optimizer, header, arrays)
            facts = header["facts"]
            self.step, self.seconds = int(facts["step"]), float(facts["seconds"])
            state = tensorgrad.tensor(facts["random"]["torch"], dtype=tensorgrad.uint8)
            tensorgrad.set_rng_state(state)
            self.batches.load_state_dict(facts["random"]["batches"])
            for name, batches in self.eval_batches.items():
                batches.load_state_dict(facts["random"][name])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}): restore it from a copy") from None
        if self.config.steps < self.step:
            raise ValueError(
                f"the run in {self.out} has done {self.step} steps already: "
                f"give --steps {self.step} or more"
            )

    # --- the work ---------------------------------------------------------------------------------

    # A run that diverges is noticed by its loss, and not by NumPy's warnings on the way there.
    @np.errstate(all="ignore")
    def train_step(self) -> tuple[float, float]:
        """One batch, one update; returns the loss and the gradients' norm before clipping.

        Raises:
            RuntimeError: one of them is not finite; the weights are those before the step.
        """
        self.model.train()
        x, y = (tensorgrad.from_numpy(a) for a in self.batches.next())
        loss = self.model(x, y)
        loss.backward()
        norm = float(clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf))
        value = loss.item()
        self._check_finite(value, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        return value, norm

    def _check_finite(self, *values: float) -> None:
        if not all(map(math.isfinite, values)):
            kept = self.out / CHECKPOINT
            raise RuntimeError(
                f"the training has diverged after {self.step} steps (the loss is {values[0]}): "
                "try a lower --lr or a longer --warmup"
                + (f"; the last checkpoint, {kept}, is kept" if kept.exists() else "")
            )

    @np.errstate(all="ignore")
    def evaluate(self) -> dict[str, float]:
        """The mean loss on fresh random batches of each split, without dropout."""
        self.model.eval()
        losses = {}
        with tensorgrad.no_grad():
            for split, batches in self.eval_batches.items():
                total = 0.0
                for _ in range(self.config.eval_batches):
                    x, y = (tensorgrad.from_numpy(a) for a in batches.next())
                    total += self.model(x, y).item()
                losses[f"{split}_loss"] = total / self.config.eval_batches
        self._check_finite(*losses.values())
        return losses

    @np.errstate(all="ignore")
    def validate(self) -> tuple[float, int]:
        """The mean loss over the validation split in windows side by side, and its tokens.

        A long split is represented by ``WINDOWS`` windows spread over it. Unlike the few random
        batches of :meth:`evaluate`, this is a number that two runs can be compared by.
        """
        self.model.eval()
        x, y = data.windows(self.eval_batches["val"].tokens, self.config.context, WINDOWS)
        total, size = 0.0, self.config.batch
        with tensorgrad.no_grad():
            for i in range(0, len(x), size):
                part = (tensorgrad.from_numpy(a[i : i + size]) for a in (x, y))
                total += self.model(*part).item() * len(x[i : i + size])
        return total / len(x), x.size

    def run(self) -> bool:
        """Train to the last step and write everything; False if the user interrupted it.

        Seconds and tokens per second are of the training steps alone: forward pass, backward pass
        and update, without evaluations, checkpoints and start. A rate is the mean since the
        previous line of the metrics.
        """
        c, m = self.config, self.model_config
        self.say(
            f"{self.model.parameter_count():,} parameters: layers {m.layers}, heads {m.heads}, "
            f"width {m.width}, context {m.context}, vocabulary {m.vocab_size:,}\n"
            f"{self.tokens:,} tokens of {self.characters / self.tokens:.1f} characters "
            f"({self.tokenizer.name}) from {c.data or 'the Python language reference'}"
        )
        with interruptible() as interrupted, reporting.progress(self.step, c.steps) as bar:
            tokens, spent = 0, 0.0
            while self.step < c.steps and not interrupted:
                lr = self.schedule.get_last_lr()[0]
                started = time.perf_counter()
                loss, norm = self.train_step()
                elapsed = time.perf_counter() - started
                self.seconds += elapsed
                spent += elapsed
                tokens += c.batch * c.context
                bar.set_description_str(f"loss {loss:.3f}, {tokens / spent:,.0f} tokens/s", False)
                bar.update(1)
                if self.step % c.eval_every == 0 or self.step in (1, c.steps):
                    line = self._measure(lr, norm, tokens / spent)
                    tokens, spent = 0, 0.0
                    with bar.external_write_mode():
                        self._say_or_save(line)
                if self.step % c.save_every == 0 and self.step < c.steps:
                    self.save()
        path = self.save()
        if interrupted:
            self.say(f"stopped after step {self.step:,} of {c.steps:,}; saved {path}")
            self.say(f"to go on: {self.command} --resume --out {shlex.quote(str(self.out))}")
            return False
        self._finish()
        return True

    def _measure(self, lr: float, norm: float, rate: float) -> str:
        """Evaluate, add a line to the metrics, and return one for the user."""
        metrics = {
            "step": self.step,
            **self.evaluate(),
            "lr": lr,
            "grad_norm": norm,
            "tokens_per_second": rate,
            "seconds": self.seconds,
        }
        folder.append_metrics(self.out, metrics)
        return (
            f"step {self.step:>6,}   train loss {metrics['train_loss']:.4f}   "
            f"val loss {metrics['val_loss']:.4f}   {rate:>8,.0f} tokens/s   "
            f"{self.seconds:>5.0f} s"
        )

    def _say_or_save(self, line: str) -> None:
        """Say a line; if nobody listens any more (``| head``), save before giving up."""
        try:
            self.say(line)
        except BrokenPipeError:
            self.save()
            raise

    def _finish(self) -> None:
        """Validate, draw, sample, and list what there is."""
        loss, tokens = self.validate()
        self.say(
            f"validation loss {loss:.4f} over {tokens:,} tokens "
            f"(in the lines above: over {self.config.eval_batches} random batches)"
        )
        summary = {"step": self.step, "val_loss": loss, "val_tokens": tokens}
        (self.out / SUMMARY).write_text(json.dumps(summary) + "\n", encoding="utf-8")
        title = f"{self.out.resolve().name}: {self.model.parameter_count():,} parameters"
        pictures, advice = reporting.draw(self.out, title, self.model_config)
        written = [*(self.out / name for name in (CHECKPOINT, METRICS, SUMMARY)), *pictures]
        sample = self.sample()
        (self.out / "sample.txt").write_text(sample, encoding="utf-8")
        self.say(f"\n{' sample ':-^80}\n{reporting.printable(sample)}\n{'-' * 80}")
        self.say(f"wrote {self.out}: {', '.join(p.name for p in written)}, sample.txt")
        for line in advice:
            self.say(line)

    def sample(self) -> str:
        """The prompt and what the model continues it with."""
        c = self.config
        written = generate(
            self.model, self.prompt, c.sample_tokens, c.temperature, c.top_k, seed=c.seed
        )
        return self.tokenizer.decode([*self.prompt, *written])


def prompt_tokens(coder: tokenizer.Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; if characters have no line break, the default prompt is the first."""
    try:
        return coder.encode(prompt)
    except ValueError as error:
        if prompt == LINE_BREAK:
            return [0]
        raise ValueError(f"the prompt cannot be encoded: {error}") from None
