"""The GPT: token and position embeddings, pre-norm blocks, a final norm and an output layer.

In the shape comments B is the batch, T the tokens of a sequence, C the width, H the heads, D the
size of a head and V the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import nn
import nn.functional as F
import tensorgrad
from tensorgrad import Tensor, graph
from tensorgrad.utils.checkpoint import checkpoint

from .config import GPTConfig

MOST = 10**12  # parameters; to make very many layers takes for ever before the memory is full

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "relu": nn.ReLU,
}


class CausalSelfAttention(nn.Module):
    """Every position gathers from itself and the ones before it: [B, T, C] → [B, T, C]."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout_p = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.proj = nn.Linear(config.width, config.width, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, C // self.heads)  # [B, T, 3, H, D]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # 3 times [B, H, T, D]
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=self.dropout_p if self.training else 0.0
        )  # [B, H, T, D]
        y = y.transpose(1, 2).reshape(B, T, C)  # the heads side by side again
        return self.dropout(self.proj(y))


class Block(nn.Module):
    """Attention, then a feed-forward layer four times as wide, each added to its input."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, bias=config.bias)
        self.attention = CausalSelfAttention(config)
        self.norm2 = nn.LayerNorm(config.width, bias=config.bias)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, 4 * config.width, bias=config.bias),
            ACTIVATIONS[config.activation](),
            nn.Linear(4 * config.width, config.width, bias=config.bias),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class GPT(nn.Module):
    """A decoder-only transformer that predicts the next token.

    >>> import tensorgrad
    >>> model = GPT(GPTConfig(vocab_size=11, context=8, width=16, layers=2, heads=2))
    >>> tokens = tensorgrad.tensor([[1, 2, 3]])
    >>> model(tokens).shape
    (1, 3, 11)

    While ``recompute`` is true, the backward pass computes each block again, of which the forward
    pass kept its input only: the same numbers from less memory, in more time.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if (count := config.parameter_count()) > MOST:
            raise MemoryError(f"no machine holds {count:.1e} parameters")
        self.config, self.recompute = config, False
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context, config.width)
        else:
            table = nn.sinusoidal_positions(config.context, config.width)
            self.register_buffer("positions", table, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=config.bias)
        self.output = nn.Linear(
            config.width, config.vocab_size, bias=config.bias and not config.tied
        )
        if config.tied:
            self.output.weight = self.token_embedding.weight
        if config.init == "gpt2":
            self.apply(_init_gpt2)
            for block in self.blocks:
                # Each block adds two results to the residual stream, whose variance would grow
                # with the depth (Radford et al. 2019, section 2.3).
                for layer in (block.attention.proj, block.feed_forward[2]):
                    nn.init.normal_(layer.weight, std=0.02 / math.sqrt(2 * config.layers))

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Tensor:
        """The logits [B, T, V] of the next tokens; or, with ``targets`` [B, T], the mean loss.

        Raises:
            ValueError: the sequence is longer than the context.
            IndexError: a token is not in the vocabulary.
        """
        B, T = tokens.shape
        if self.config.context < T:
            raise ValueError(
                f"a sequence of {T} tokens does not fit into the context of {self.config.context}"
            )
        x = self.token_embedding(tokens)  # [B, T, C]
        if self.config.positions == "learned":
            x = x + self.position_embedding.weight[:T]
        else:
            x = x + self.positions[:T]
        x = self.dropout(x)
        for block in self.blocks:
            x = checkpoint(block, x) if self.recompute else block(x)
        logits = self.output(self.norm(x))  # [B, T, V]
        if targets is None:
            return logits
        return F.cross_entropy(logits.view(B * T, -1), targets.reshape(B * T))

    def parameter_count(self) -> int:
        """Trainable numbers; tied weights count once."""
        return sum(p.numel() for p in self.parameters())

    def _repr_html_(self) -> str:
        """What Jupyter shows: the layers as they read a short text, of equal blocks one in full."""
        mode, recompute = self.training, self.recompute
        tokens = tensorgrad.zeros(1, min(self.config.context, 64), dtype=tensorgrad.int64)
        try:
            self.eval()
            self.recompute = False
            found = graph.summary(self, tokens)
        finally:
            self.train(mode)
            self.recompute = recompute
        found.layers = [x for x in found.layers if x.depth < 2 or x.path.startswith("blocks.0.")]
        return found._repr_html_()


def _init_gpt2(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
