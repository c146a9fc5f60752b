"""Training: text in, a folder with a model, its metrics and its pictures out."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad
from tensorgrad.optim import AdamW, LambdaLR, clip_grad_norm_, warmup_cosine

from . import checkpoint, corpus, data, folder, reporting, tokenizer
from .costs import peak_memory
from .divergence import Diverged, first_fault, layer_norms, spoilt
from .folder import BEST, CHECKPOINT, METRICS, PREVIOUS, SUMMARY, TOKENIZER
from .generate import generate
from .interrupts import interruptible
from .label import label
from .model import GPT
from .presets import LINE_BREAK, RunConfig
from .stopping import Patience, Spikes

Batch = list[tuple[tensorgrad.Tensor, tensorgrad.Tensor]]

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
        self.stopped_by = 0  # the signal that ended the run before its time
        self.patience, self.spikes = Patience(config.patience), Spikes(config.spike)
        self.layer_norms: dict[str, float] = {}  # of the gradients, when last measured
        if resume:
            self._check_fixed(folder.read_config(self.out)[0])

        coder = tokenizer.load(self.out / TOKENIZER) if resume else None
        found = corpus.load(config.data, config.tokenizer, config.vocab_size, coder)
        self.tokenizer, train, val = coder or found.tokenizer, found.train, found.val
        self.characters, self.tokens = found.facts.characters, found.facts.tokens
        self.prompt = prompt_tokens(self.tokenizer, config.prompt)
        self.model_config = config.model(self._vocab_size(max(found.facts.largest, *self.prompt)))
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
        self.optimizer = self._optimizer()
        problem = self._restore() if resume else ""
        floor = min(1.0, config.min_lr / config.lr)
        self.schedule = LambdaLR(
            self.optimizer,
            warmup_cosine(config.warmup, config.steps, floor),
            last_epoch=self.step - 1,
        )
        sessions = folder.read_sessions(out) if resume else []
        record = {
            "run": config.to_json(),
            "model": self.model_config.to_json(),
            "sessions": [*sessions, {"step": self.step, **label(config.seed)}],
        }
        if resume:
            folder.reopen(out, record, self.step)
            if problem:
                kept = folder.set_aside(out)
                say(problem + (f"; the bad file is kept as {kept}" if kept else ""))
            if self.text_then != self.text_crc:
                say("the text is not the one that the run has learnt from until now")
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
        if self.tokenizer.name in ("bpe", "char") or chosen is None:
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

    # --- the checkpoints --------------------------------------------------------------------------

    def save(self) -> Path:
        """Write the last checkpoint; the one before it is kept under another name."""
        return self._save(self.out / CHECKPOINT, self.out / PREVIOUS)

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
            "random": {
                "torch": tensorgrad.get_rng_state().tolist(),
                "batches": self.batches.state_dict(),
                **{k: b.state_dict() for k, b in self.eval_batches.items()},
            },
        }
        checkpoint.save(path, self.model, self.optimizer, facts, previous)
        return path

    def _restore(self) -> str:
        """Go back to the last checkpoint, or to the one before it; returns what was bad, if so."""
        paths = [self.out / CHECKPOINT, self.out / PREVIOUS]
        path, problem = checkpoint.restore_first(paths, self._restore_from)
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
            state = tensorgrad.tensor(facts["random"]["torch"], dtype=tensorgrad.uint8)
            tensorgrad.set_rng_state(state)
            self.batches.load_state_dict(facts["random"]["batches"])
            for name, batches in self.eval_batches.items():
                batches.load_state_dict(facts["random"][name])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error!r}): restore it from a copy") from None

    # --- the work ---------------------------------------------------------------------------------

    # A run that diverges is noticed by its loss, and not by NumPy's warnings on the way there.
    @np.errstate(all="ignore")
    def train_step(self) -> tuple[float, float]:
        """One update; returns the loss and the gradients' norm before clipping.

        Raises:
            Diverged: one of them is not finite, or the loss has jumped; the weights are those
                before the step.
        """
        self.model.train()
        batch = [self._tensors(self.batches.next()) for _ in range(self.config.accumulate)]
        random = tensorgrad.get_rng_state()
        loss = self._backward(batch)
        if self._is_measured(self.step + 1):
            self.layer_norms = layer_norms(self.model.named_parameters())
        norm = float(clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf))
        self._check_step(loss, norm, batch, random)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        return loss, norm

    def _backward(self, batch: Batch) -> float:
        """Add the gradients of the mean loss over all of ``batch``; returns that loss."""
        total = 0.0
        for x, y in batch:
            loss = self.model(x, y)
            total += loss.item()
            (loss if len(batch) == 1 else loss / len(batch)).backward()
        return total / len(batch)

    @staticmethod
    def _tensors(arrays: Any) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
        x, y = (tensorgrad.from_numpy(a) for a in arrays)
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
            where = first_fault(self.model, lambda: self._backward(batch))
            what = f"the loss is {loss}" if not math.isfinite(loss) else "the gradients are too big"
            raise self._diverged(self.step + 1, what, where)
        if (usual := self.spikes.above(loss)) is not None:
            norms = layer_norms(self.model.named_parameters())  # clipped, by one factor for all
            layer = max(norms, key=lambda name: norms[name])
            scale = norm / (math.sqrt(sum(n * n for n in norms.values())) or 1.0)
            before = self.layer_norms.get(layer)
            raise self._diverged(
                self.step + 1,
                f"the loss is {loss:.3f} and was {usual:.3f} on average lately",
                f"the largest gradient is that of the layer {layer}, of norm "
                f"{norms[layer] * scale:.3g}"
                + (f" (when last measured: {before:.3g})" if before else ""),
                ", or --spike 0 to go on through it",
            )

    def _diverged(self, step: int, what: str, where: str, remedy: str = "") -> Diverged:
        """One paragraph: what was seen, where it came from, what is kept, how to go on."""
        kept = self.out / CHECKPOINT
        lr = self.optimizer.param_groups[0]["lr"]
        again = f"{self.command} --resume --out {shlex.quote(str(self.out))} --lr {lr / 4:.1g}"
        return Diverged(
            f"the training has diverged in step {step}: {what}"
            + (f"; {where}" if where else "; no single operation gives nan or inf")
            + f". The learning rate is {lr:.3g}: try a lower --lr, a longer --warmup, a smaller "
            f"--clip{remedy}. "
            + (
                f"The last good checkpoint, {kept}, is kept; to go on from it: {again}"
                if kept.exists()
                else "There is no checkpoint yet: begin again"
            )
        )

    @np.errstate(all="ignore")
    def evaluate(self) -> dict[str, float]:
        """The mean loss on fresh random batches of each split, without dropout.

        Raises:
            Diverged: one of them is not finite.
        """
        self.model.eval()
        losses = {}
        for split, batches in self.eval_batches.items():
            total = 0.0
            for _ in range(self.config.eval_batches):
                x, y = self._tensors(batches.next())
                with tensorgrad.no_grad():
                    loss = self.model(x, y).item()
                if not math.isfinite(loss):
                    where = first_fault(self.model, partial(self.model, x, y))
                    what = f"in the evaluation after it the loss is {loss}"
                    raise self._diverged(self.step, what, where)
                total += loss
            losses[f"{split}_loss"] = total / self.config.eval_batches
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
        """Train to the last step and write everything; False if a signal (``stopped_by``) ended it.

        Seconds and tokens per second are of the training steps alone: forward pass, backward pass
        and update, without evaluations, checkpoints and start. A rate is the mean since the
        previous line of the metrics.

        Raises:
            Diverged: one paragraph that says why; the last good checkpoint is kept.
        """
        c, m = self.config, self.model_config
        self.say(
            f"{self.model.parameter_count():,} parameters: layers {m.layers}, heads {m.heads}, "
            f"width {m.width}, context {m.context}, vocabulary {m.vocab_size:,}\n"
            f"{self.tokens:,} tokens of {self.characters / self.tokens:.1f} characters "
            f"({self.tokenizer.name}) from {c.data or 'the Python language reference'}"
        )
        if c.recompute:
            self.say(self._memory_saved())
        with interruptible() as received, reporting.progress(self.step, c.steps) as bar:
            tokens, spent = 0, 0.0
            while self.step < c.steps and not received and not self.patience.exhausted:
                lr = self.schedule.get_last_lr()[0]
                started = time.perf_counter()
                loss, norm = self.train_step()
                elapsed = time.perf_counter() - started
                self.seconds += elapsed
                spent += elapsed
                tokens += c.batch * c.accumulate * c.context
                bar.set_description_str(f"loss {loss:.3f}, {tokens / spent:,.0f} tokens/s", False)
                bar.update(1)
                if self._is_measured(self.step):
                    line = self._measure(lr, norm, tokens / spent)
                    tokens, spent = 0, 0.0
                    with bar.external_write_mode():
                        self._say_or_save(line)
                if self.step % c.save_every == 0 and self.step < c.steps:
                    self.save()
        path = self.save()
        if received:
            self.stopped_by = received[0]
            self.say(f"stopped after step {self.step:,} of {c.steps:,}; saved {path}")
            self.say(f"to go on: {self.command} --resume --out {shlex.quote(str(self.out))}")
            return False
        self._finish()
        return True

    def _measure(self, lr: float, norm: float, rate: float) -> str:
        """Evaluate, add a line to the metrics, and return one for the user."""
        metrics: dict[str, Any] = {
            "step": self.step,
            **self.evaluate(),
            "lr": lr,
            "grad_norm": norm,
            "grad_norms": self.layer_norms,
            "tokens_per_second": rate,
            "seconds": self.seconds,
        }
        folder.append_metrics(self.out, metrics)
        if self.patience.better(self.step, metrics["val_loss"]):
            self._save(self.out / BEST)
        return (
            f"step {self.step:>6,}   train loss {metrics['train_loss']:.4f}   "
            f"val loss {metrics['val_loss']:.4f}   {rate:>8,.0f} tokens/s   "
            f"{self.seconds:>5.0f} s"
        )

    def _memory_saved(self) -> str:
        """What --recompute saves, measured."""
        size = self.config.batch
        less, more = (peak_memory(self.model, size, on) / 2**20 for on in (True, False))
        return (
            f"recompute: a batch takes {less:,.1f} MiB beside the weights, without it {more:,.1f} "
            f"MiB: {1 - less / more:.0%} saved (peaks measured with tracemalloc)"
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
        best = {"step": self.patience.step, "val_loss": self.patience.loss}
        if self.patience.exhausted:
            self.say(
                f"stopped early after step {self.step:,}: the {self.patience.since} evaluations "
                f"since step {best['step']:,} found no better loss than {best['val_loss']:.4f}; "
                f"its weights are in {self.out / BEST}"
            )
        summary = {
            "step": self.step, "val_loss": loss, "val_tokens": tokens, "best": best,
            **label(self.config.seed),
        }  # fmt: skip
        text = json.dumps(summary, indent=2) + "\n"
        (self.out / SUMMARY).write_text(text, encoding="utf-8")
        title = f"{self.out.resolve().name}: {self.model.parameter_count():,} parameters"
        pictures, advice = reporting.draw(self.out, title, self.model_config)
        names = (CHECKPOINT, PREVIOUS, BEST, METRICS, SUMMARY)
        written = [*(self.out / name for name in names if (self.out / name).exists()), *pictures]
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


def vocabulary(config: RunConfig) -> int:
    """How many tokens the model of a run will have, as far as that is known without its text.

    Of bpe it is what is asked for: of a short text it may learn fewer. Of an encoding of tiktoken
    it is what is asked for, too: the text may need more.
    """
    if config.data is not None and corpus.is_prepared(config.data):
        return tokenizer.load(Path(config.data) / corpus.CODER).n_vocab
    if config.tokenizer == "bpe":
        return 1024 if config.vocab_size is None else config.vocab_size
    if config.tokenizer != "char" and config.vocab_size is not None:
        return config.vocab_size
    source = corpus.source_of(config.data)
    return corpus.learn(config.tokenizer, source, None, "position", 0.0).n_vocab


def prompt_tokens(coder: tokenizer.Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; if characters have no line break, the default prompt is the first."""
    try:
        return coder.encode(prompt)
    except ValueError as error:
        if prompt == LINE_BREAK:
            return [0]
        raise ValueError(f"the prompt cannot be encoded: {error}") from None
