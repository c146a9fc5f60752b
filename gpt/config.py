"""What a model is made of, as one small record that is saved beside its weights."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

Record = TypeVar("Record")


def from_json(kind: type[Record], fields: Any) -> Record:
    """The dataclass ``kind`` from what JSON held; ValueError if the fields are not its fields.

    >>> from_json(GPTConfig, {"vocab_size": "many"})
    Traceback (most recent call last):
    ValueError: vocab_size is 'many', which is not of the type int
    """
    hints = typing.get_type_hints(kind)
    if not isinstance(fields, dict):
        raise ValueError(f"a {kind.__name__} cannot be {fields!r}")
    if unknown := sorted(set(fields) - set(hints)):
        raise ValueError(f"unknown fields: {', '.join(unknown)}")
    for name, value in fields.items():
        types = typing.get_args(hints[name]) or (hints[name],)
        accepted = (*types, int) if float in types else types  # JSON writes 1.0 as it likes
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in types):
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise ValueError(f"{name} is {value!r}, which is not of the type {wanted}")
    try:
        return kind(**fields)
    except TypeError as error:  # a field without a default is missing
        raise ValueError(str(error).partition("() ")[2]) from None


# GPT-2's published sizes: blocks, heads, width (Radford et al. 2019, table 2).
GPT2_SIZES = {
    "small": (12, 12, 768),  # 124,439,808 parameters
    "medium": (24, 16, 1024),  # 354,823,168
    "large": (36, 20, 1280),  # 774,030,080
    "xl": (48, 25, 1600),  # 1,557,611,200
}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a decoder-only transformer.

    Args:
        vocab_size: the number of tokens, rows of the embedding.
        context: the longest sequence, in tokens.
        width: the size of a token's vector (d_model).
        layers: the number of blocks.
        heads: attention heads; they divide the width.
        positions: ``"learned"`` (GPT-2) or ``"sinusoidal"`` (Vaswani et al. 2017, section 3.5).
        activation: of the feed-forward layer: ``"gelu"``, ``"gelu_tanh"`` (GPT-2) or ``"relu"``.
        bias: whether linear and normalisation layers have biases.
        tied: whether the output layer uses the token embedding's weights (Press & Wolf 2017).
        dropout: the probability, in training, of dropping embeddings, attention weights and
            each sublayer's output.
        init: ``"gpt2"`` (normal, std 0.02, residual projections scaled down with depth) or
            ``"torch"`` (what PyTorch's layers start with).

    Raises:
        ValueError: a value is out of range; the sentence says which and why.

    >>> GPTConfig(vocab_size=65, context=64, width=128, layers=4, heads=4).head_size
    32
    """

    vocab_size: int
    context: int = 64
    width: int = 128
    layers: int = 4
    heads: int = 4
    positions: str = "learned"
    activation: str = "gelu"
    bias: bool = True
    tied: bool = True
    dropout: float = 0.0
    init: str = "gpt2"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "width", "layers", "heads"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        if self.width % self.heads:
            raise ValueError(
                f"{self.heads} heads do not divide the width {self.width}; "
                f"numbers of heads that do: {_divisors(self.width)}"
            )
        if self.positions == "sinusoidal" and self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width, not {self.width}")
        for name, allowed in (
            ("positions", ("learned", "sinusoidal")),
            ("activation", ("gelu", "gelu_tanh", "relu")),
            ("init", ("gpt2", "torch")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout}")

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    @classmethod
    def gpt2(cls, size: str = "small") -> GPTConfig:
        """The published GPT-2 of that size: ``"small"``, ``"medium"``, ``"large"`` or ``"xl"``.

        >>> GPTConfig.gpt2("xl").parameter_count()
        1557611200
        """
        if size not in GPT2_SIZES:
            raise ValueError(f"GPT-2 has the sizes {', '.join(GPT2_SIZES)}, not {size!r}")
        layers, heads, width = GPT2_SIZES[size]
        return cls(vocab_size=50257, context=1024, width=width, layers=layers, heads=heads,
                   activation="gelu_tanh", dropout=0.1)  # fmt: skip

    def parameter_counts(self) -> dict[str, int]:
        """How many numbers a model of this shape trains, part by part; no model is made."""
        C, bias = self.width, int(self.bias)
        norm = C + bias * C
        attention = (3 * C * C + bias * 3 * C) + (C * C + bias * C)  # q, k and v; their projection
        feed_forward = (4 * C * C + bias * 4 * C) + (4 * C * C + bias * C)
        return {
            "token embedding": self.vocab_size * C,
            "position embedding": self.context * C if self.positions == "learned" else 0,
            "blocks": self.layers * (attention + feed_forward + 2 * norm),
            "final norm": norm,
            "output": 0 if self.tied else self.vocab_size * (C + bias),
        }

    def parameter_count(self) -> int:
        """The sum of :meth:`parameter_counts`."""
        return sum(self.parameter_counts().values())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> GPTConfig:
        return from_json(cls, fields)


def _divisors(n: int) -> str:
    return ", ".join(str(d) for d in range(1, min(n, 64) + 1) if n % d == 0)
