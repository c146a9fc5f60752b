"""Named settings of a training run: a record of everything that can be chosen, and the presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from .config import GPTConfig, from_json

LINE_BREAK = "\n"


def _option(default: Any, help: str, metavar: str = "", choices: tuple[str, ...] = ()) -> Any:
    """A field with what the command line shows of it."""
    metadata = {"help": help, "metavar": metavar, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class RunConfig:
    """Every choice of a run; each field is a flag of the command line.

    Raises:
        ValueError: a value is out of range; the sentence says which and why.

    >>> PRESETS["shakespeare-char-cpu"].steps
    2000
    """

    # the text
    data: str | None = _option(
        None,
        "UTF-8 text (also .gz), lines of JSON (.jsonl), a folder of these, or one that "
        "`prepare` has made; without it, Python's language reference",
        metavar="PATH",
    )
    tokenizer: str = _option(
        "bpe", "bpe, char, or an encoding of tiktoken: gpt2, cl100k_base, ...", metavar="NAME"
    )
    vocab_size: int | None = _option(
        None, "tokens that bpe learns (none: 1024), or rows of the embedding for an encoding of "
        "tiktoken (none: all its tokens; never less than the text needs); char ignores it",
    )  # fmt: skip
    # the model
    context: int = _option(64, "longest sequence, in tokens")
    width: int = _option(128, "size of a token's vector")
    layers: int = _option(4, "number of blocks")
    heads: int = _option(4, "attention heads; they divide the width")
    positions: str = _option("learned", "how positions are told", choices=("learned", "sinusoidal"))
    activation: str = _option(
        "gelu", "of the feed-forward layers", choices=("gelu", "gelu_tanh", "relu")
    )
    bias: bool = _option(True, "biases in linear and normalisation layers")
    tied: bool = _option(True, "the output layer uses the embedding's weights")
    dropout: float = _option(0.0, "probability of dropping a value in training")
    init: str = _option("gpt2", "how weights begin", choices=("gpt2", "torch"))
    # the training
    batch: int = _option(12, "sequences in a batch")
    accumulate: int = _option(1, "batches whose gradients make one step, as one batch that large")
    steps: int = _option(1300, "optimizer steps; the cosine of the learning rate ends there")
    lr: float = _option(2e-3, "highest learning rate")
    min_lr: float = _option(2e-4, "learning rate at the end; from --lr on: a constant rate")
    warmup: int = _option(100, "steps in which the learning rate rises to --lr")
    weight_decay: float = _option(0.1, "AdamW's decay of matrices (vectors do not decay)")
    beta1: float = _option(0.9, "AdamW's memory of gradients")
    beta2: float = _option(0.99, "AdamW's memory of their squares")
    clip: float = _option(1.0, "largest norm of the gradients; 0: no limit")
    spike: float = _option(3.0, "stop at a loss this far above the mean of the last 100; 0: never")
    patience: int = _option(0, "stop after N evaluations without a better val loss; 0: never")
    recompute: bool = _option(
        False, "compute each block again in the backward pass instead of keeping what is in it: "
        "less memory, more time, the same numbers",
    )  # fmt: skip
    shard_optimizer: bool = _option(
        False, "of several workers each keeps AdamW's memory of its share of the parameters only: "
        "less memory, more messages, the same numbers",
    )  # fmt: skip
    seed: int = _option(1337, "seed of weights, batches, dropout and samples")
    # the reports
    eval_every: int = _option(200, "steps between evaluations, which go to metrics.jsonl")
    eval_batches: int = _option(20, "batches that an evaluation of each split averages over")
    save_every: int = _option(1000, "steps between checkpoints")
    tensorboard: bool = _option(False, "write the metrics for TensorBoard, too, with tensorboardX")
    pictures: bool = _option(
        True, "draw the metrics (of two evaluations or more) and a block of the model at the end"
    )
    # the samples at the end
    prompt: str = _option(LINE_BREAK, "text to continue", metavar="TEXT")
    sample_tokens: int = _option(300, "tokens to write")
    temperature: float = _option(0.8, "below 1 bolder, above 1 more varied, 0 the likeliest token")
    top_k: int | None = _option(50, "draw from the N likeliest tokens only; none: from all")

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "steps", "eval_every", "eval_batches", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("warmup", "patience", "seed", "sample_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        for name in ("lr", "min_lr", "weight_decay", "clip", "spike", "temperature"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:  # nan is neither
                raise ValueError(f"{name} must be a number of at least 0, not {value}")
        if not self.lr:
            raise ValueError("lr must be above 0: nothing would be learnt")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        for name in ("vocab_size", "top_k"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not self.prompt:
            raise ValueError("prompt must not be empty: there would be nothing to continue")
        self.model(vocab_size=1)  # checks what is the model's

    def model(self, vocab_size: int) -> GPTConfig:
        """The model's part of the choices."""
        shared = {f.name for f in dataclasses.fields(GPTConfig)} - {"vocab_size"}
        return GPTConfig(vocab_size, **{name: getattr(self, name) for name in shared})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> RunConfig:
        return from_json(cls, fields)


PRESETS = {
    # About three minutes on two cores.
    "default": RunConfig(),
    # nanoGPT's configuration for a CPU (config/train_shakespeare_char.py with the flags that its
    # README gives for a laptop) but for the learning rate, which is twice nanoGPT's: with 1e-3 the
    # whole validation text has a loss of 1.91 to 1.93 here (three seeds; PyTorch: 1.90 to 1.91),
    # with 2e-3 one of 1.81.
    "shakespeare-char-cpu": RunConfig(
        tokenizer="char",
        bias=False,
        steps=2000,
        lr=2e-3,
        min_lr=1e-4,
        sample_tokens=500,
        top_k=None,
    ),
    # The tutorial's model: every layer with a bias, its own output layer, constant rate.
    "textbook": RunConfig(
        tokenizer="cl100k_base",
        vocab_size=100_070,
        context=16,
        width=64,
        layers=8,
        heads=4,
        positions="sinusoidal",
        activation="relu",
        tied=False,
        dropout=0.0,
        init="torch",
        batch=4,
        steps=5000,
        lr=1e-3,
        min_lr=1e-3,
        warmup=0,
        weight_decay=0.01,
        beta2=0.999,
        clip=0.0,
        eval_every=50,
        sample_tokens=100,
        top_k=None,
        prompt="The salesperson",
    ),
}
