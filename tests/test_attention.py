"""Multi-head attention and the transformer's layers, against PyTorch's with the same weights."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from layer_twins import agree, twins

import nn
import tensorgrad
import tensorgrad.nn

# PyTorch advises its users to pass masks of one dtype, and batches first.
pytestmark = pytest.mark.filterwarnings("ignore:.*(nested_tensor|mismatched):UserWarning")

RNG = np.random.default_rng(0)
L, S, N, E = 3, 4, 2, 8
X, MEMORY = RNG.standard_normal((L, N, E)), RNG.standard_normal((S, N, E))
CAUSAL = np.triu(np.ones((L, L), bool), 1)
PADDING = np.array([[False, False, True, False], [False, False, False, False]])
PADDING_X = np.array([[False, False, True], [False, False, False]])
FLOATS = RNG.standard_normal((L, S))

ATTENTIONS = [
    ({}, (X, MEMORY, MEMORY), {}),
    ({}, (X, X, X), {"attn_mask": CAUSAL}),
    ({}, (X, X, X), {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False}),
    ({}, (X, MEMORY, MEMORY * 2), {"key_padding_mask": PADDING}),
    ({}, (X, MEMORY, MEMORY), {"key_padding_mask": PADDING, "need_weights": False}),
    ({}, (X, MEMORY, MEMORY), {"attn_mask": FLOATS, "average_attn_weights": False}),
    ({"bias": False}, (X, MEMORY, MEMORY), {"attn_mask": FLOATS[None].repeat(2 * N, 0)}),
    ({"batch_first": True}, (X, X, X * 2), {}),
    ({"add_bias_kv": True}, (X, MEMORY, MEMORY), {"attn_mask": FLOATS}),
    ({"add_zero_attn": True}, (X, MEMORY, MEMORY), {"need_weights": False}),
    ({"add_zero_attn": True, "add_bias_kv": True}, (X, MEMORY, MEMORY), {"attn_mask": FLOATS}),
    ({"kdim": 5, "vdim": 6}, (X, MEMORY[..., :5], MEMORY[..., :6]), {}),
    ({"kdim": 5}, (X, MEMORY[..., :5], MEMORY), {"need_weights": False}),
    ({"dropout": 0.5}, (X[:, 0], MEMORY[:, 0], MEMORY[:, 0]), {"key_padding_mask": PADDING[0]}),
]


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", range(len(ATTENTIONS)))
def test_multihead_attention(torch, case, dtype):
    options, inputs, call = ATTENTIONS[case]
    ours, theirs = twins(torch, "MultiheadAttention", E, 2, dtype=dtype, **options)
    agree(torch, ours.eval(), theirs.eval(), inputs, call, dtype)


LAYERS = [
    {},
    {"norm_first": True},
    {"activation": "gelu"},
    {"activation": "gelu", "norm_first": True, "bias": False, "layer_norm_eps": 1e-3},
]


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_layers_and_stacks(torch, options, mode):
    """Without dropout, so that training mode takes PyTorch's ordinary way too."""
    options = {"dropout": 0.0, **options}
    ours, theirs = twins(torch, "TransformerEncoderLayer", E, 2, 12, **options)
    agree(torch, getattr(ours, mode)(), getattr(theirs, mode)(), (X,), {"src_mask": CAUSAL})
    call = {"src_key_padding_mask": PADDING_X}
    agree(torch, ours, theirs, (X,), {**call, "src_mask": CAUSAL})

    ours, theirs = twins(torch, "TransformerDecoderLayer", E, 2, 12, **options)
    call = {"tgt_mask": CAUSAL, "memory_mask": FLOATS, "memory_key_padding_mask": PADDING}
    agree(torch, getattr(ours, mode)(), getattr(theirs, mode)(), (X, MEMORY), call)

    ours, theirs = twins(torch, "Transformer", E, 2, 2, 2, 12, **options)
    call = {"tgt_mask": CAUSAL, "src_key_padding_mask": PADDING}
    agree(torch, getattr(ours, mode)(), getattr(theirs, mode)(), (MEMORY, X), call)


@pytest.mark.torch
def test_batch_first(torch):
    for name, inputs in (
        ("TransformerEncoderLayer", (X,)),
        ("TransformerDecoderLayer", (X, X * 2)),
    ):
        ours, theirs = twins(torch, name, E, 4, 6, batch_first=True)
        agree(torch, ours.eval(), theirs.eval(), inputs)


@pytest.mark.torch
@pytest.mark.parametrize(
    "name",
    ["MultiheadAttention", "Transformer", "TransformerEncoder", "TransformerDecoder",
     "TransformerEncoderLayer", "TransformerDecoderLayer"],
)  # fmt: skip
def test_signatures(torch, name):
    """Names, order and defaults of the arguments; functions as defaults are each library's own."""
    for method in ("__init__", "forward"):
        ours, theirs = (
            [
                (p.name, p.kind, None if callable(p.default) else p.default)
                for p in inspect.signature(vars(getattr(lib.nn, name))[method]).parameters.values()
            ]
            for lib in (tensorgrad, torch)
        )
        assert ours == theirs


def test_a_causal_mask_hides_what_comes_later():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    assert mask[1].tolist() == [0.0, 0.0, -math.inf, -math.inf, -math.inf]
    x = tensorgrad.randn(1, 5, 8)
    before = layer(x, mask).detach().numpy()[:, :3]
    x[:, 3:] = 1.0
    np.testing.assert_array_equal(layer(x, mask).detach().numpy()[:, :3], before)


def test_weights_are_those_of_the_definition():
    """One head, no biases: softmax(q kᵀ / sqrt(d)) by hand."""
    attention = nn.MultiheadAttention(4, 1, bias=False, batch_first=True).double()
    x = tensorgrad.randn(1, 3, 4, dtype=tensorgrad.float64)
    y, weights = attention(x, x, x)
    wq, wk, wv = np.split(attention.in_proj_weight.detach().numpy(), 3)
    a = x.numpy()[0]
    scores = (a @ wq.T) @ (a @ wk.T).T / 2
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(weights.detach().numpy()[0], expected, rtol=1e-12)
    out = expected @ (a @ wv.T) @ attention.out_proj.weight.detach().numpy().T
    np.testing.assert_allclose(y.detach().numpy()[0], out, rtol=1e-12)


def test_dropout_acts_in_training_only():
    tensorgrad.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, dropout=0.5)
    x = tensorgrad.randn(6, 1, 8)
    weights = attention(x, x, x, average_attn_weights=False)[1]
    assert 0.2 < (weights == 0).float().mean().item() < 0.8
    assert not (attention.eval()(x, x, x)[1] == 0).any()


def test_processes_drop_what_one_would():
    """Each the weights of its own rows of the batch; afterwards all draw the same again."""
    q = tensorgrad.randn(5, 2, 8, 4)

    def attend_rows(start: int, stop: int) -> tuple[list, float]:
        generator = tensorgrad.Generator(3)
        with tensorgrad.distributed.drawing_rows(start, stop, 5, generator):
            x = q[start:stop]
            y = nn.functional.scaled_dot_product_attention(
                x, x, x, dropout_p=0.5, generator=generator
            )
        return y.tolist(), tensorgrad.rand((), generator=generator).item()

    (whole, after), first, second = (attend_rows(*rows) for rows in ((0, 5), (0, 2), (2, 5)))
    np.testing.assert_allclose(first[0] + second[0], whole, rtol=1e-6)
    assert after == first[1] == second[1]


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: nn.MultiheadAttention(6, 4), ValueError, "multiple of num_heads.*6 and 4"),
        (lambda: attend(X[..., :4]), AssertionError, r"widths \(8, 8, 8\).*\(3, 2, 4\)"),
        (lambda: attend(X, attn_mask=FLOATS), RuntimeError, r"has shape \(3, 4\).*\(3, 3"),
        (lambda: attend(X, key_padding_mask=PADDING), AssertionError, r"\(2, 4\).*be \(2, 3\)"),
        (lambda: attend(X, is_causal=True), RuntimeError, "give attn_mask"),
        (lambda: nn.TransformerEncoderLayer(4, 2, activation="elu"), RuntimeError, "not 'elu'"),
        (lambda: nn.Transformer(4, 2, 1, 1, 4)(*map(tensorgrad.zeros, ((2, 1, 4), (2, 3, 4)))),
         RuntimeError, "same batch size"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def attend(x, **options):
    x = tensorgrad.tensor(x)
    options = {k: tensorgrad.tensor(v) if k != "is_causal" else v for k, v in options.items()}
    return nn.MultiheadAttention(8, 2).double()(x, x, x, **options)
