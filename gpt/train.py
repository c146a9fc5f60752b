"""Training: text in, a folder with a model, its metrics and its pictures out."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorgrad
from tensorgrad import graph
from tensorgrad.optim import AdamW, LambdaLR, clip_grad_norm_, warmup_cosine

from . import checkpoint, curves, data, tokenizer
from .config import GPTConfig
from .generate import generate
from .model import GPT, Block
from .presets import RunConfig

CHECKPOINT, CONFIG, TOKENIZER, METRICS = (
    "checkpoint.safetensors", "config.json", "tokenizer.json", "metrics.jsonl"
)  # fmt: skip


class Trainer:
    """One run: its data, model, optimizer and folder.

    Args:
        config: all choices.
        out: the folder that everything of the run goes to.
        resume: continue the run in that folder from its checkpoint.
        say: receives the lines meant for the user.

    Raises:
        ValueError, OSError, RuntimeError: one sentence that names the problem and the remedy;
            nothing in the folder has been touched.
    """

    def __init__(
        self, config: RunConfig, out: Path, resume: bool = False, say: Callable = print
    ) -> None:
        self.config, self.out, self.say = config, out, say
        self.step, self.seconds = 0, 0.0
        saved = checkpoint.read(out / CHECKPOINT) if resume else None

        text = data.default_corpus() if config.data is None else data.read_text(config.data)
        if resume:
            self.tokenizer = tokenizer.load(out / TOKENIZER)
        else:
            self.tokenizer = tokenizer.build(config.tokenizer, text, config.vocab_size or 1024)
        ids = self.tokenizer.encode(text)
        self.characters_per_token = len(text) / max(1, len(ids))
        train, val = data.train_val_split(ids)
        self.model_config = config.model(self._vocab_size(max(ids, default=0)))
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
        floor = min(1.0, config.min_lr / config.lr) if config.lr else 1.0
        self.schedule = LambdaLR(self.optimizer, warmup_cosine(config.warmup, config.steps, floor))
        if saved is not None:
            self._restore(*saved)
        self._open_folder(resume)

    def _vocab_size(self, largest: int) -> int:
        """The embedding's rows: the tokenizer's vocabulary, or for a ready-made one the choice."""
        known = self.tokenizer.n_vocab
        if self.config.tokenizer in ("bpe", "char") or self.config.vocab_size is None:
            return known
        if not largest < self.config.vocab_size <= known:
            raise ValueError(
                f"vocab_size {self.config.vocab_size} does not fit: the text uses tokens up to "
                f"{largest}, so it must be from {largest + 1} to {known}"
            )
        return self.config.vocab_size

    def _optimizer(self) -> AdamW:
        """AdamW that decays matrices only: biases and norms have no scale to keep small."""
        parameters = list(self.model.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim >= 2]},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        c = self.config
        return AdamW(
            [g for g in groups if g["params"]],
            lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay,
        )  # fmt: skip

    # --- the folder -------------------------------------------------------------------------------

    def _open_folder(self, resume: bool) -> None:
        """Make the folder; an earlier run in it is kept under another name."""
        try:
            if not resume and (self.out / CONFIG).exists():
                n = 1
                while (kept := self.out.with_name(f"{self.out.name}-{n}")).exists():
                    n += 1
                self.out.rename(kept)
                self.say(f"kept the earlier run in {self.out} as {kept}")
            self.out.mkdir(parents=True, exist_ok=True)
            record = {"run": self.config.to_json(), "model": self.model_config.to_json()}
            checkpoint.write_atomically(
                self.out / CONFIG, json.dumps(record, indent=2).encode() + b"\n"
            )
        except OSError as error:
            raise OSError(
                f"cannot write to the folder {self.out} ({error.strerror}); "
                "choose another with --out"
            ) from None
        if not resume:
            tokenizer.save(self.tokenizer, self.out / TOKENIZER)
            (self.out / METRICS).write_text("")

    def save(self) -> Path:
        """Write the checkpoint: weights, optimizer, step and all random states."""
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "schedule": self.schedule.state_dict(),
            "random": {
                "torch": tensorgrad.default_generator.get_state(),
                "batches": self.batches.state_dict(),
                **{k: b.state_dict() for k, b in self.eval_batches.items()},
            },
        }
        path = self.out / CHECKPOINT
        checkpoint.save(path, self.model, self.optimizer, facts)
        return path

    def _restore(self, header: dict[str, Any], arrays: dict[str, Any]) -> None:
        path = self.out / CHECKPOINT
        facts = header["facts"]
        checkpoint.restore_model(self.model, arrays, path)
        checkpoint.restore_optimizer(self.optimizer, header, arrays)
        self.step, self.seconds = facts["step"], facts["seconds"]
        self.schedule.load_state_dict(facts["schedule"])
        tensorgrad.default_generator.set_state(facts["random"]["torch"])
        self.batches.load_state_dict(facts["random"]["batches"])
        for name, batches in self.eval_batches.items():
            batches.load_state_dict(facts["random"][name])
        # Metrics written after the checkpoint will be measured again.
        metrics = [m for m in curves.read_metrics(self.out / METRICS) if m["step"] <= self.step]
        lines = "".join(json.dumps(m) + "\n" for m in metrics)
        checkpoint.write_atomically(self.out / METRICS, lines.encode())
        self.say(f"resumed {self.out} at step {self.step}")

    # --- the work ---------------------------------------------------------------------------------

    def train_step(self) -> tuple[float, float]:
        """One batch, one update; returns the loss and the gradients' norm before clipping."""
        self.model.train()
        x, y = (tensorgrad.from_numpy(a) for a in self.batches.next())
        loss = self.model(x, y)
        loss.backward()
        norm = float(clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf))
        value = loss.item()
        if not math.isfinite(value + norm):
            raise RuntimeError(
                f"the loss is {value} and the gradients' norm {norm} at step {self.step + 1}: "
                "the run has diverged; try a lower --lr or a longer --warmup "
                f"(the last checkpoint in {self.out} is kept)"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step += 1
        return value, norm

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
        return losses

    def run(self) -> bool:
        """Train to the last step and write everything; False if the user interrupted it."""
        c = self.config
        m = self.model_config
        self.say(
            f"{self.model.parameter_count():,} parameters: {m.layers} blocks, {m.heads} heads, "
            f"width {m.width}, context {m.context}, vocabulary {m.vocab_size:,} "
            f"({self.tokenizer.name}, {self.characters_per_token:.1f} characters a token)"
        )
        with _interruptible() as interrupted, _progress(self.step, c.steps) as bar:
            tokens, spent = 0, 0.0
            while self.step < c.steps and not interrupted:
                started = time.perf_counter()
                loss, norm = self.train_step()
                elapsed = time.perf_counter() - started
                self.seconds += elapsed
                spent += elapsed
                tokens += c.batch * c.context
                bar.update(1)
                bar.set_postfix_str(f"loss {loss:.3f}, {tokens / spent:,.0f} tokens/s", False)
                if self.step % c.eval_every == 0 or self.step in (1, c.steps):
                    self._report(norm, tokens / spent, bar)
                    tokens, spent = 0, 0.0
                if self.step % c.save_every == 0:
                    self.save()
        path = self.save()
        if interrupted:
            self.say(f"\nstopped at step {self.step}; saved {path}")
            self.say(f"to go on: python examples/train_gpt.py --resume --out {self.out}")
            return False
        self._finish()
        return True

    def _report(self, norm: float, rate: float, bar: Any) -> None:
        metrics = {
            "step": self.step,
            **self.evaluate(),
            "lr": self.schedule.get_last_lr()[0],
            "grad_norm": norm,
            "tokens_per_second": rate,
            "seconds": self.seconds,
        }
        with open(self.out / METRICS, "a") as file:
            file.write(json.dumps(metrics) + "\n")
        bar.write(
            f"step {self.step:>6,}   train loss {metrics['train_loss']:.4f}   "
            f"val loss {metrics['val_loss']:.4f}   {rate:>8,.0f} tokens/s   "
            f"{self.seconds:>5.0f} s"
        )

    def _finish(self) -> None:
        title = f"{self.out.name}: {self.model.parameter_count():,} parameters"
        written: list[Path] = [self.out / METRICS, self.out / CHECKPOINT]
        try:
            written += curves.save_loss_curve(self.out, title)
        except ImportError as missing:
            self.say(str(missing))
        written.append(draw_block(self.model_config, self.out / "block.svg"))
        sample = self.sample()
        (self.out / "sample.txt").write_text(sample, encoding="utf-8")
        self.say(f"\n--- sample {'-' * 69}\n{sample}\n{'-' * 80}")
        self.say(f"wrote {self.out}: " + ", ".join(p.name for p in written) + ", sample.txt")

    def sample(self) -> str:
        """The prompt and what the model continues it with."""
        c = self.config
        try:
            prompt = self.tokenizer.encode(c.prompt) or [0]
        except ValueError:  # a character tokenizer that has not seen the prompt's characters
            prompt = [0]
        written = generate(self.model, prompt, c.sample_tokens, c.temperature, c.top_k, seed=c.seed)
        return self.tokenizer.decode([*prompt, *written])


def draw_block(config: GPTConfig, path: Path) -> Path:
    """Draw the computation graph of one transformer block; returns the path written."""
    block = Block(dataclasses.replace(config, dropout=0.0))
    x = tensorgrad.zeros(1, config.context, config.width, requires_grad=True)
    x.name = "input"
    return Path(graph.render(graph.draw(block(x), names=block.named_parameters()), path))


@contextmanager
def _interruptible() -> Iterator[list]:
    """A list that is filled by the first Ctrl-C, so that a step is never cut in half.

    A second Ctrl-C interrupts at once.
    """
    interrupted: list = []

    def handler(signum: int, frame: Any) -> None:
        interrupted.append(signum)
        signal.signal(signal.SIGINT, previous)

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
    """A progress bar on a terminal, plain lines elsewhere."""
    from tqdm import tqdm

    bar = tqdm(
        initial=done, total=total, unit="step", disable=not sys.stderr.isatty(),
        dynamic_ncols=True, leave=False,
    )  # fmt: skip
    if not sys.stderr.isatty():
        bar.write = lambda line: print(line, flush=True)
    return bar
