"""Training: text in, a folder with a model, its metrics and its pictures out."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shlex
import signal
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

import tensorgrad
from tensorgrad import graph
from tensorgrad.optim import AdamW, LambdaLR, clip_grad_norm_, warmup_cosine

from . import checkpoint, curves, data, tokenizer
from .config import GPTConfig
from .generate import generate
from .model import GPT, Block
from .presets import LINE_BREAK, RunConfig

CHECKPOINT, CONFIG, TOKENIZER, METRICS, SUMMARY = (
    "checkpoint.safetensors", "config.json", "tokenizer.json", "metrics.jsonl", "summary.json"
)  # fmt: skip
FILES = (CHECKPOINT, CONFIG, TOKENIZER, METRICS, SUMMARY,
         "loss.svg", "loss.png", "block.svg", "block.dot", "sample.txt")  # fmt: skip

WINDOWS = 2000  # of the validation split, at most, for the loss at the end

# What a run began with, and a checkpoint therefore holds. All other choices can change on resuming.
FIXED = ("tokenizer", "vocab_size", "context", "width", "layers", "heads", "positions",
         "activation", "bias", "tied", "init", "seed")  # fmt: skip


def say_at_once(line: str) -> None:
    """Print a line that is read while the program goes on."""
    print(line, flush=True)


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
        say: Callable[[str], object] = say_at_once,
        command: str = "python -m gpt train",
    ) -> None:
        self.config, self.out, self.say, self.command = config, out, say, command
        self.step, self.seconds = 0, 0.0
        if resume:
            self._check_fixed(read_config(self.out)[0])
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
        if resume:
            self._reopen_folder()
        else:
            self._open_folder()

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

    # --- the folder -------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        """Make the folder of a new run; an earlier run there is kept under another name."""
        kept = None
        if any((self.out / name).exists() for name in FILES):
            kept = self._name_for_earlier_run()
        try:
            if kept is not None:
                self.out.rename(kept)
            made = not self.out.exists()
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                tokenizer.save(self.tokenizer, self.out / TOKENIZER)
                self._write_records([])
            except BaseException:
                for name in (TOKENIZER, METRICS, CONFIG):
                    with suppress(OSError):
                        (self.out / name).unlink()
                if made:
                    with suppress(OSError):
                        self.out.rmdir()
                if kept is not None:
                    kept.rename(self.out)
                raise
        except OSError as error:
            raise OSError(
                f"cannot write to the folder {self.out} ({error.strerror or error}): "
                "choose another with --out"
            ) from None
        if kept is not None:
            self.say(f"kept the earlier run in {self.out} as {kept}")

    def _name_for_earlier_run(self) -> Path:
        """A free name beside the folder; ValueError if what is in the folder is not a run."""
        try:
            read_config(self.out)
        except (OSError, ValueError):
            raise ValueError(
                f"the folder {self.out} has files that would be overwritten, and they are not of a "
                "run: choose another with --out"
            ) from None
        folder = Path(os.path.normpath(self.out))
        if Path.cwd().is_relative_to(folder.absolute().resolve()):
            raise ValueError(
                f"the run in {self.out} cannot be moved aside while you are in that folder: "
                "choose another with --out"
            )
        n = 1
        while (name := folder.with_name(f"{folder.name}-{n}")).exists():
            n += 1
        return name

    def _reopen_folder(self) -> None:
        """Go on in the folder of a run."""
        # What was measured after the checkpoint will be measured again.
        metrics = curves.read_metrics(self.out / METRICS)
        self._write_records([m for m in metrics if m["step"] <= self.step])
        self.say(f"resumed {self.out} at step {self.step}")

    def _write_records(self, metrics: list[dict[str, Any]]) -> None:
        record = {"run": self.config.to_json(), "model": self.model_config.to_json()}
        lines = "".join(json.dumps(m) + "\n" for m in metrics)
        checkpoint.replace(
            {
                self.out / METRICS: lines.encode(),
                self.out / CONFIG: json.dumps(record, indent=2).encode() + b"\n",
            }
        )

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
        with _interruptible() as interrupted, _progress(self.step, c.steps) as bar:
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
        path = self.out / METRICS
        try:
            with open(path, "a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise OSError(f"{path} cannot be written ({error.strerror or error})") from None
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
        metrics = self.out / METRICS
        title = f"{self.out.resolve().name}: {self.model.parameter_count():,} parameters"
        written, advice = [self.out / CHECKPOINT, metrics, self.out / SUMMARY], []
        try:
            if curves.read_metrics(metrics):
                written += curves.save_loss_curve(self.out, title)
        except ImportError as missing:
            advice.append(str(missing))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            written.append(draw_block(self.model_config, self.out / "block.svg"))
        advice += [str(w.message) for w in caught]
        sample = self.sample()
        (self.out / "sample.txt").write_text(sample, encoding="utf-8")
        self.say(f"\n{' sample ':-^80}\n{printable(sample)}\n{'-' * 80}")
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


def read_config(folder: Path) -> tuple[RunConfig, GPTConfig]:
    """The choices of the run in a folder, and its model's config.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: the file is not the config of a run.
    """
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return RunConfig.from_json(record["run"]), GPTConfig.from_json(record["model"])
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no run in {folder}: {path} is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the config of a run ({error}): restore it from a copy"
        ) from None


def prompt_tokens(coder: tokenizer.Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt; if characters have no line break, the default prompt is the first."""
    try:
        return coder.encode(prompt)
    except ValueError as error:
        if prompt == LINE_BREAK:
            return [0]
        raise ValueError(f"the prompt cannot be encoded: {error}") from None


def printable(text: str) -> str:
    """Text without the control characters that do things to a terminal."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c
        for c in text.replace("\r\n", "\n")
    )


def draw_block(config: GPTConfig, path: Path) -> Path:
    """Draw the computation graph of one transformer block; returns the path written."""
    block = Block(dataclasses.replace(config, dropout=0.0))
    x = tensorgrad.zeros(1, config.context, config.width, requires_grad=True)
    x.name = "input"
    return Path(graph.render(graph.draw(block(x), names=block.named_parameters()), path))


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that is filled by the first Ctrl-C, so that a step is never cut in half.

    A second Ctrl-C interrupts at once.
    """
    interrupted: list[int] = []

    def handler(signum: int, frame: Any) -> None:
        interrupted.append(signum)
        signal.signal(signal.SIGINT, previous)
        with suppress(OSError, ValueError):  # print could be in the middle of a line; this not
            os.write(2, b"\nstopping after this step (Ctrl-C again: at once, without saving)\n")

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not in the main thread: nobody can press Ctrl-C here
        yield interrupted
        return
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def _progress(done: int, total: int) -> Any:
    """A progress bar, shown on terminals only."""
    from tqdm import tqdm

    return tqdm(
        initial=done,
        total=total,
        disable=None,
        dynamic_ncols=True,
        leave=False,
        desc="starting",
        bar_format="{percentage:3.0f}% |{bar:30}| {n:,}/{total:,} steps, {remaining} left, {desc}",
    )
