"""Named settings of a training run: a record of everything that can be chosen, and the presets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from .config import GPTConfig


def _option(default: Any, help: str, **extra: Any) -> Any:
    """A field with the text that the command line shows for it."""
    return field(default=default, metadata={"help": help, **extra})


@dataclass(frozen=True)
class RunConfig:
    """Every choice of a run; each field is a flag of the command line.

    >>> PRESETS["shakespeare-char-cpu"].steps
    2000
    """

    # the text
    data: str | None = _option(None, "UTF-8 text file; default: Python's language reference")
    tokenizer: str = _option("bpe", "bpe, char, or a tiktoken encoding such as gpt2, cl100k_base")
    vocab_size: int | None = _option(
        None, "tokens that bpe learns (default 1024); rows of the embedding for a tiktoken encoding"
    )
    # the model
    context: int = _option(64, "longest sequence, in tokens")
    width: int = _option(128, "size of a token's vector")
    layers: int = _option(4, "number of blocks")
    heads: int = _option(4, "attention heads; they divide the width")
    positions: str = _option("learned", "learned or sinusoidal")
    activation: str = _option("gelu", "gelu, gelu_tanh or relu")
    bias: bool = _option(True, "biases in linear and normalisation layers")
    tied: bool = _option(True, "output layer shares the embedding's weights")
    dropout: float = _option(0.0, "probability of dropping a value in training")
    init: str = _option("gpt2", "initial weights: gpt2 or torch")
    # the training
    batch: int = _option(12, "sequences in a batch")
    steps: int = _option(2000, "optimizer steps")
    lr: float = _option(1e-3, "highest learning rate")
    min_lr: float = _option(1e-4, "last learning rate of the cosine; equal to --lr: constant")
    warmup: int = _option(100, "steps of warm-up")
    weight_decay: float = _option(0.1, "decay of matrices (vectors are not decayed)")
    beta1: float = _option(0.9, "AdamW's decay of the first moment")
    beta2: float = _option(0.99, "AdamW's decay of the second moment")
    clip: float = _option(1.0, "largest norm of the gradients; 0: no clipping")
    seed: int = _option(1337, "seed of weights, batches, dropout and samples")
    # the reports
    eval_every: int = _option(200, "steps between evaluations")
    eval_batches: int = _option(20, "batches that an evaluation of each split averages over")
    save_every: int = _option(1000, "steps between checkpoints")
    sample_tokens: int = _option(300, "length of the samples at the end, in tokens")
    temperature: float = _option(0.8, "temperature of the samples")
    top_k: int | None = _option(None, "draw samples from the k likeliest tokens only")
    prompt: str = _option("\n", "text that the samples continue")

    def __post_init__(self) -> None:
        for name in ("batch", "steps", "eval_every", "eval_batches", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "min_lr", "warmup", "weight_decay", "clip", "sample_tokens"):
            if not getattr(self, name) >= 0:  # also refuses nan
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")

    def model(self, vocab_size: int) -> GPTConfig:
        """The model's part of the choices."""
        shared = {f.name for f in dataclasses.fields(GPTConfig)} - {"vocab_size"}
        return GPTConfig(vocab_size, **{name: getattr(self, name) for name in shared})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


PRESETS = {
    # About three minutes on two cores.
    "default": RunConfig(dropout=0.1, top_k=50),
    # nanoGPT's configuration for a CPU (config/train_shakespeare_char.py with the flags that its
    # README gives for a laptop); published validation loss: 1.88.
    "shakespeare-char-cpu": RunConfig(tokenizer="char", bias=False, sample_tokens=500),
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
        dropout=0.1,
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
        prompt="The salesperson",
    ),
}
