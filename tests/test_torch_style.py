"""Transformer code as people write it for PyTorch, unchanged: the name ``torch`` is bound to either
library, and what the code computes must be the same.

Weights are made from their names, so that they do not depend on a generator.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tensorgrad
import tensorgrad.nn
from benchmarks.worker import ported
from gpt.config import GPTConfig

SNIPPETS: dict[str, Callable] = {}


def snippet(function: Callable) -> Callable:
    SNIPPETS[function.__name__] = function
    return function


def settle(torch: Any, model: Any) -> Any:
    """The same weights in both libraries, from the names and shapes of the parameters."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            rng = np.random.default_rng(sum(map(ord, name)))
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)).astype("float32") * 0.3))
    return model


def draw(torch: Any, *shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return torch.from_numpy(rng.standard_normal(shape).astype("float32"))


@snippet
def causal_self_attention_with_a_buffer(torch):
    nn, F = torch.nn, torch.nn.functional

    class CausalSelfAttention(nn.Module):
        def __init__(self, n_embd, n_head, block_size):
            super().__init__()
            assert n_embd % n_head == 0
            self.c_attn = nn.Linear(n_embd, 3 * n_embd)
            self.c_proj = nn.Linear(n_embd, n_embd)
            self.attn_dropout = nn.Dropout(0.0)
            self.register_buffer(
                "bias",
                torch.tril(torch.ones(block_size, block_size)).view(1, 1, block_size, block_size),
            )
            self.n_head = n_head
            self.n_embd = n_embd

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
            k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            att = F.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
            y = y.transpose(1, 2).contiguous().view(B, T, C)
            return self.c_proj(y)

    model = settle(torch, CausalSelfAttention(8, 2, 6))
    y = model(draw(torch, 2, 5, 8))
    y.pow(2).mean().backward()
    return y, list(model.state_dict()), [p.grad for p in model.parameters()]


@snippet
def the_same_by_the_fused_function(torch):
    F = torch.nn.functional
    q, k, v = draw(torch, 3, 2, 2, 5, 4).requires_grad_().unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True)
    mask = torch.ones(5, 5, dtype=torch.bool).tril(diagonal=0)
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return y, z, torch.allclose(y, z, atol=1e-6)


@snippet
def heads_and_a_lower_triangle(torch):
    """The way of the tutorials: one module for each head."""
    nn, F = torch.nn, torch.nn.functional
    n_embd, block_size = 6, 4

    class Head(nn.Module):
        def __init__(self, head_size):
            super().__init__()
            self.key = nn.Linear(n_embd, head_size, bias=False)
            self.query = nn.Linear(n_embd, head_size, bias=False)
            self.value = nn.Linear(n_embd, head_size, bias=False)
            self.register_buffer("tril", torch.tril(torch.ones(block_size, block_size)))

        def forward(self, x):
            _, T, _ = x.shape
            k, q = self.key(x), self.query(x)
            wei = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5
            wei = wei.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
            return F.softmax(wei, dim=-1) @ self.value(x)

    class MultiHeadAttention(nn.Module):
        def __init__(self, num_heads, head_size):
            super().__init__()
            self.heads = nn.ModuleList([Head(head_size) for _ in range(num_heads)])
            self.proj = nn.Linear(head_size * num_heads, n_embd)

        def forward(self, x):
            return self.proj(torch.cat([h(x) for h in self.heads], dim=-1))

    model = settle(torch, MultiHeadAttention(2, 3))
    y = model(draw(torch, 2, 3, 6))
    y.sum().backward()
    return y, [p.grad for p in model.parameters()], str(model).count("Head(")


@snippet
def positions_in_a_buffer(torch):
    nn = torch.nn

    class PositionalEncoding(nn.Module):
        def __init__(self, d_model, dropout=0.0, max_len=50):
            super().__init__()
            self.dropout = nn.Dropout(p=dropout)
            pe = torch.zeros(max_len, d_model)
            position = torch.arange(0, max_len, dtype=torch.float).unsqueeze(1)
            div_term = torch.exp(
                torch.arange(0, d_model, 2).float() * (-math.log(10000.0) / d_model)
            )
            pe[:, 0::2] = torch.sin(position * div_term)
            pe[:, 1::2] = torch.cos(position * div_term)
            pe = pe.unsqueeze(0).transpose(0, 1)
            self.register_buffer("pe", pe)

        def forward(self, x):
            x = x + self.pe[: x.size(0), :]
            return self.dropout(x)

    model = PositionalEncoding(6)
    return model(draw(torch, 4, 2, 6)), model.pe.shape, list(model.state_dict().keys())


@snippet
def generation(torch):
    F = torch.nn.functional

    @torch.no_grad()
    def generate(model, idx, max_new_tokens, temperature=1.0, top_k=None, block_size=4):
        for _ in range(max_new_tokens):
            idx_cond = idx if idx.size(1) <= block_size else idx[:, -block_size:]
            logits = model(idx_cond)
            logits = logits[:, -1, :] / temperature
            if top_k is not None:
                v, _ = torch.topk(logits, min(top_k, logits.size(-1)))
                logits[logits < v[:, [-1]]] = -float("Inf")
            probs = F.softmax(logits, dim=-1)
            assert torch.multinomial(probs, num_samples=1).shape == (idx.size(0), 1)
            _, idx_next = torch.topk(probs, k=1, dim=-1)
            idx = torch.cat((idx, idx_next), dim=1)
        return idx, probs

    nn = torch.nn
    model = settle(torch, nn.Sequential(nn.Embedding(11, 8), nn.Tanh(), nn.Linear(8, 11)))
    start = torch.zeros((2, 1), dtype=torch.long)
    idx, probs = generate(model.eval(), start, 6, temperature=0.8, top_k=3)
    return idx, probs, (probs > 0).sum(dim=-1), probs.requires_grad, idx[0].tolist()


@snippet
def initialisation_and_groups_of_parameters(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1 = nn.LayerNorm(4)
            self.mlp = nn.ModuleDict(
                dict(  # noqa: C408
                    c_fc=nn.Linear(4, 16),
                    act=nn.GELU(approximate="tanh"),
                    c_proj=nn.Linear(16, 4),
                )
            )
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            m = self.mlp
            return x + self.scale * m.c_proj(m.act(m.c_fc(self.ln_1(x))))

    def init_weights(module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            torch.nn.init.zeros_(module.bias)
            torch.nn.init.ones_(module.weight)

    model = Block()
    model.apply(init_weights)
    for pn, p in model.named_parameters():
        if pn.endswith("c_proj.weight"):
            torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * 3))
    settle(torch, model)

    param_dict = {pn: p for pn, p in model.named_parameters() if p.requires_grad}
    decay_params = [p for n, p in param_dict.items() if p.dim() >= 2]
    nodecay_params = [p for n, p in param_dict.items() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": decay_params, "weight_decay": 0.1},
            {"params": nodecay_params, "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.95),
    )
    x, losses = draw(torch, 3, 4), []
    for it in range(4):
        lr = 1e-2 * 0.5 * (1.0 + math.cos(math.pi * it / 4))
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
        loss = ((model(x) - x.roll(1, dims=0)) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    n_params = sum(p.numel() for p in model.parameters())
    return losses, n_params, len(decay_params), len(nodecay_params), list(model.parameters())


@snippet
def a_state_that_is_filtered_and_transposed(torch):
    nn = torch.nn
    model = settle(torch, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)))
    model.register_buffer("mask", torch.ones(2))
    sd = {k: v for k, v in model.state_dict().items() if not k.endswith("mask")}
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3))
    theirs = other.state_dict()
    assert set(sd) == set(theirs)
    for k in sd:
        if k.endswith("0.weight"):
            with torch.no_grad():
                theirs[k].copy_(sd[k].t().contiguous().t())
        else:
            assert theirs[k].shape == sd[k].shape
            with torch.no_grad():
                theirs[k].copy_(sd[k])
    prefixed = {f"module.{k}": v for k, v in sd.items()}
    for k in list(prefixed):
        if k.startswith("module."):
            prefixed[k[len("module.") :]] = prefixed.pop(k)
    print_me = other.load_state_dict(prefixed)
    return other(draw(torch, 2, 3)), str(print_me)


@snippet
def rotary_embeddings_by_einsum(torch):
    def rotate_half(x):
        x1, x2 = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return torch.cat((-x2, x1), dim=-1)

    dim, T = 8, 5
    inv_freq = 1.0 / (10000 ** (torch.arange(0, dim, 2).float() / dim))
    freqs = torch.einsum("i,j->ij", torch.arange(T, dtype=torch.float32), inv_freq)
    emb = torch.cat((freqs, freqs), dim=-1)
    cos, sin = emb.cos()[None, None, :, :], emb.sin()[None, None, :, :]
    q = draw(torch, 2, 2, T, dim).requires_grad_()
    turned = (q * cos) + (rotate_half(q) * sin)
    scores = torch.einsum("bhid,bhjd->bhij", turned, turned)
    scores.sum().backward()
    return turned, scores, q.grad


@snippet
def root_mean_square_norm_and_gated_feed_forward(torch):
    nn, F = torch.nn, torch.nn.functional

    class RMSNorm(nn.Module):
        def __init__(self, dim, eps=1e-6):
            super().__init__()
            self.eps = eps
            self.weight = nn.Parameter(torch.ones(dim))

        def _norm(self, x):
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

        def forward(self, x):
            return self._norm(x.float()).type_as(x) * self.weight

    class FeedForward(nn.Module):
        def __init__(self, dim, hidden_dim, multiple_of=4):
            super().__init__()
            hidden_dim = multiple_of * ((int(2 * hidden_dim / 3) + multiple_of - 1) // multiple_of)
            self.w1 = nn.Linear(dim, hidden_dim, bias=False)
            self.w2 = nn.Linear(hidden_dim, dim, bias=False)
            self.w3 = nn.Linear(dim, hidden_dim, bias=False)

        def forward(self, x):
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    def repeat_kv(x, n_rep):
        bs, slen, n_kv_heads, head_dim = x.shape
        return (
            x[:, :, :, None, :]
            .expand(bs, slen, n_kv_heads, n_rep, head_dim)
            .reshape(bs, slen, n_kv_heads * n_rep, head_dim)
        )

    model = settle(torch, nn.Sequential(RMSNorm(6), FeedForward(6, 16)))
    x = draw(torch, 2, 3, 6).requires_grad_()
    y = x + model(x)
    y.mean().backward()
    mask = torch.full((3, 3), float("-inf"))
    mask = torch.triu(mask, diagonal=1)
    return y, x.grad, repeat_kv(draw(torch, 2, 3, 2, 2), 2), mask


@snippet
def the_sequence_to_sequence_tutorial(torch):
    nn = torch.nn

    class Seq2Seq(nn.Module):
        def __init__(self, vocab, d_model):
            super().__init__()
            self.src_emb = nn.Embedding(vocab, d_model, padding_idx=0)
            self.tgt_emb = nn.Embedding(vocab, d_model, padding_idx=0)
            self.transformer = nn.Transformer(
                d_model=d_model, nhead=2, num_encoder_layers=1, num_decoder_layers=1,
                dim_feedforward=12, dropout=0.0, batch_first=True,
            )  # fmt: skip
            self.generator = nn.Linear(d_model, vocab)

        def forward(self, src, tgt):
            tgt_mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
            src_pad, tgt_pad = src == 0, tgt == 0
            src_pad = torch.zeros_like(src_pad, dtype=torch.float).masked_fill_(
                src_pad, float("-inf")
            )
            out = self.transformer(
                self.src_emb(src) * math.sqrt(8), self.tgt_emb(tgt), tgt_mask=tgt_mask,
                src_key_padding_mask=src_pad, memory_key_padding_mask=src_pad,
            )  # fmt: skip
            return self.generator(out), tgt_pad

    model = settle(torch, Seq2Seq(9, 8))
    src, tgt = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]]), torch.tensor([[1, 8, 0], [1, 2, 3]])
    logits, pad = model(src, tgt[:, :-1])
    loss_fn = nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1)
    loss = loss_fn(logits.reshape(-1, logits.shape[-1]), tgt[:, 1:].reshape(-1))
    loss.backward()
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p.detach().clone())
    return logits, loss, pad, model.generator.weight.grad, model.src_emb.weight.grad[0]


@snippet
def a_training_loop_over_batches(torch):
    nn, F = torch.nn, torch.nn.functional
    torch.manual_seed(1337)
    data = torch.tensor([ord(c) % 13 for c in "attention is all you need " * 4], dtype=torch.long)
    n = int(0.9 * len(data))
    train_data, val_data = data[:n], data[n:]

    def get_batch(split, starts):
        d = train_data if split == "train" else val_data
        x = torch.stack([d[i : i + 4] for i in starts])
        y = torch.stack([d[i + 1 : i + 5] for i in starts])
        return x, y

    class Bigram(nn.Module):
        def __init__(self):
            super().__init__()
            self.token_embedding_table = nn.Embedding(13, 13)

        def forward(self, idx, targets=None):
            logits = self.token_embedding_table(idx)
            if targets is None:
                return logits, None
            B, T, C = logits.shape
            return logits, F.cross_entropy(logits.view(B * T, C), targets.view(B * T))

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(2)
            for k in range(2):
                _, loss = model(*get_batch(split, [k, k + 2]))
                losses[k] = loss.item()
            out[split] = losses.mean()
        model.train()
        return out

    model = settle(torch, Bigram())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5)
    for i in range(5):
        xb, yb = get_batch("train", [i, i + 7, i + 20])
        xb, yb = xb.to(device), yb.to(device)
        _, loss = model(xb, yb)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
    return {**estimate_loss(), "loss": loss, "lr": scheduler.get_last_lr()}


@snippet
def windows_with_a_relative_bias(torch):
    """Indices made by meshgrid and a table looked up by them."""
    window = 2
    coords_h = torch.arange(window)
    coords_w = torch.arange(window)
    coords = torch.stack(torch.meshgrid([coords_h, coords_w], indexing="ij"))
    coords_flatten = torch.flatten(coords, 1)
    relative_coords = coords_flatten[:, :, None] - coords_flatten[:, None, :]
    relative_coords = relative_coords.permute(1, 2, 0).contiguous()
    relative_coords[:, :, 0] += window - 1
    relative_coords[:, :, 1] += window - 1
    relative_coords[:, :, 0] *= 2 * window - 1
    index = relative_coords.sum(-1)
    table = torch.nn.Parameter(draw(torch, (2 * window - 1) ** 2, 3))
    bias = table[index.view(-1)].view(window * window, window * window, -1)
    bias = bias.permute(2, 0, 1).contiguous()
    bias.unsqueeze(0).sum().backward()
    return index, bias, table.grad


@snippet
def patches_and_a_class_token(torch):
    nn = torch.nn

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, 8, kernel_size=2, stride=2)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
            self.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
            layer = nn.TransformerEncoderLayer(
                8, 2, 16, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            cls_tokens = self.cls_token.expand(x.shape[0], -1, -1)
            x = torch.cat((cls_tokens, x), dim=1) + self.pos_embed
            return self.head(self.norm(self.encoder(x))[:, 0])

    model = settle(torch, ViT())
    y = model(draw(torch, 2, 3, 4, 4))
    torch.nn.functional.cross_entropy(y, torch.tensor([0, 2])).backward()
    return y, y.argmax(dim=-1), model.cls_token.grad, model.patch.weight.grad


# --- comparing ------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if hasattr(value, "detach"):
        return [str(value.dtype).rpartition(".")[2], plain(value.detach().tolist())]
    return value


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(equal(ours[k], theirs[k]) for k in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    if isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-5)
    return type(ours) is type(theirs) and ours == theirs


@pytest.mark.torch
@pytest.mark.parametrize("name", SNIPPETS)
def test_the_same_results(torch: ModuleType, name: str) -> None:
    ours, theirs = plain(SNIPPETS[name](tensorgrad)), plain(SNIPPETS[name](torch))
    assert equal(ours, theirs), f"{ours}\n{theirs}"


@pytest.mark.parametrize("name", SNIPPETS)
def test_it_runs(name: str) -> None:
    SNIPPETS[name](tensorgrad)


def test_only_the_import_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form of import that such files begin with."""
    monkeypatch.setitem(sys.modules, "torch", tensorgrad)
    for name in ("nn", "nn.functional", "nn.init", "nn.utils", "optim", "optim.lr_scheduler",
                 "utils", "utils.data", "utils.checkpoint", "autograd"):  # fmt: skip
        value: Any = tensorgrad
        for part in name.split("."):
            value = getattr(value, part)
        monkeypatch.setitem(sys.modules, f"torch.{name}", value)
    program = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch import Tensor
from torch.nn import functional, Module, Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torch.utils.checkpoint import checkpoint
from torch.autograd import Function
y = F.relu(nn.Linear(2, 3)(torch.ones(1, 2)))
"""
    scope: dict[str, Any] = {}
    exec(program, scope)
    assert isinstance(scope["y"], tensorgrad.Tensor)


def test_the_rival_of_the_benchmarks_with_other_imports() -> None:
    """``benchmarks.ported``: the file names PyTorch, and runs without."""
    step = ported(2, GPTConfig(7, context=4, width=8, layers=2, heads=2))
    times = step()
    assert times == sorted(times)
    assert len(times) == 4
