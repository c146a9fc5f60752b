"""The model, its configuration, and writing with it (against PyTorch: ``test_oracle.py``).

Truths: closed formulas for parameter counts, the numbers that the tutorial prints for its position
table, and what a causal model cannot do. How tokens are drawn: ``test_sampling.py``; the cache,
batches and beams: ``test_generate.py``.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest

import nn
import tensorgrad
from gpt.config import GPTConfig
from gpt.generate import generate, stream
from gpt.model import GPT
from nn import sinusoidal_positions
from tensorgrad import Generator

SMALL = {"vocab_size": 11, "context": 8, "width": 12, "layers": 2, "heads": 3}


def small(**fields: object) -> GPT:
    """A model with weights large enough for its parts to matter."""
    tensorgrad.manual_seed(0)
    model = GPT(GPTConfig(**{**SMALL, **fields}))
    with tensorgrad.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.3)
    return model


def some_tokens(*shape: int, seed: int = 0) -> tensorgrad.Tensor:
    return tensorgrad.randint(11, size=shape, generator=Generator(seed))


# --- the function ---------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_no_token_sees_a_later_one(positions: str) -> None:
    """Changing token t leaves the logits before t exactly as they were, and changes the others."""
    model, tokens = small(positions=positions), some_tokens(2, 8)
    before = model(tokens).detach().numpy()
    assert before.shape == (2, 8, 11)
    for t in range(8):
        other = tokens.numpy().copy()
        other[:, t] = (other[:, t] + 1) % 11
        after = model(tensorgrad.from_numpy(other)).detach().numpy()
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 1e-6).all()


def test_causality_of_gradients() -> None:
    attention = small().blocks[0].attention
    x = tensorgrad.randn(1, 6, 12, requires_grad=True)
    attention(x)[0, 3].sum().backward()
    assert (x.grad[0, 4:] == 0).all()
    assert (x.grad[0, :4].abs().sum(-1) > 1e-6).all()


def test_a_prefix_has_the_same_logits() -> None:
    model, tokens = small(), some_tokens(1, 8)
    whole = model(tokens).detach().numpy()
    for t in range(1, 9):
        part = model(tokens[:, :t]).detach().numpy()
        np.testing.assert_allclose(part, whole[:, :t], rtol=1e-4, atol=1e-5)


def test_sequences_of_a_batch_are_independent() -> None:
    model, tokens = small(), some_tokens(3, 8)
    together = model(tokens).detach().numpy()
    for i in range(3):
        alone = model(tokens[i : i + 1]).detach().numpy()
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_positions_matter() -> None:
    """Without them, attention of one layer would see the earlier tokens as a set."""
    for positions in ("learned", "sinusoidal"):
        model = small(positions=positions, layers=1)
        a, b = (model(tensorgrad.tensor([t]))[0, -1] for t in ([1, 2, 3], [2, 1, 3]))
        assert (a - b).abs().max().item() > 1e-3


def test_the_loss_is_the_mean_over_all_tokens() -> None:
    model, tokens, targets = small(), some_tokens(2, 8), some_tokens(2, 8, seed=1)
    log_p = model(tokens).log_softmax(-1).detach().numpy()
    expected = -np.take_along_axis(log_p, targets.numpy()[..., None], -1).mean()
    assert model(tokens, targets).item() == pytest.approx(expected, rel=1e-6)


def test_slices_of_a_corpus_are_inputs_and_targets() -> None:
    model, corpus = small(), some_tokens(2, 9)
    whole = model(corpus[:, :-1].clone(), corpus[:, 1:].clone()).item()
    assert model(corpus[:, :-1], corpus[:, 1:]).item() == whole


def test_an_untrained_model_guesses() -> None:
    """With GPT-2's small initial weights every token is about equally likely: loss log V."""
    tensorgrad.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, context=16, width=32, layers=3, heads=4))
    tokens = tensorgrad.randint(50, size=(8, 17))
    assert model(tokens[:, :-1], tokens[:, 1:]).item() == pytest.approx(math.log(50), rel=0.01)


@pytest.mark.parametrize("kind", [{}, {"positions": "sinusoidal", "tied": False, "init": "torch"}])
def test_it_learns_a_batch_by_heart(kind: dict) -> None:
    tensorgrad.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=11, context=8, width=32, layers=2, heads=4, **kind))
    optimizer = tensorgrad.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    batch = some_tokens(4, 9)
    batch[:, 0] = tensorgrad.arange(4)  # each sequence is recognised by its first token
    for _ in range(120):
        loss = model(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    written = [generate(model, [i], 8, temperature=0) for i in range(4)]
    assert written == batch[:, 1:].tolist()


def test_activations_are_what_the_config_says() -> None:
    printed = {"gelu": "GELU(approximate='none')", "gelu_tanh": "GELU(approximate='tanh')"}
    for name, expected in {**printed, "relu": "ReLU()"}.items():
        assert repr(small(activation=name).blocks[0].feed_forward[1]) == expected


# --- the position table ---------------------------------------------------------------------------

# Rows of the "Position Embedding Look-Up Table" that the tutorial prints for 16 positions and a
# width of 64: the first ten columns and the last ten.
PRINTED = {
    0: "0.000000 1.000000 0.000000 1.000000 0.000000 1.000000 0.000000 1.000000 0.000000 1.000000 "
    "0.000000 1.000000 0.000000 1.000000 0.000000 1.000000 0.000000 1.000000 0.000000 1.000000",
    1: "0.841471 0.540302 0.681561 0.731761 0.533168 0.846009 0.409309 0.912396 0.310984 0.950415 "
    "0.000422 1.000000 0.000316 1.000000 0.000237 1.000000 0.000178 1.000000 0.000133 1.000000",
    7: "0.656987 0.753902 -0.859313 0.511449 -0.713721 -0.700430 0.188581 -0.982058 0.800422 "
    "-0.599437 0.002952 0.999996 0.002214 0.999998 0.001660 0.999999 0.001245 0.999999 0.000933 "
    "1.000000",
    15: "0.650288 -0.759688 -0.968206 0.250154 0.835838 -0.548975 0.042249 0.999107 -0.999519 "
    "0.031022 0.006325 0.999980 0.004743 0.999989 0.003557 0.999994 0.002667 0.999996 0.002000 "
    "0.999998",
}


def test_the_position_table_is_the_tutorials() -> None:
    table = sinusoidal_positions(16, 64)
    assert table.dtype == tensorgrad.float32
    assert table.shape == (16, 64)
    for row, text in PRINTED.items():
        printed = np.array([float(number) for number in text.split()])
        ends = np.concatenate([table[row].numpy()[:10], table[row].numpy()[-10:]])
        # The tutorial rounds to six digits, and before that to float32 at every step.
        assert np.abs(ends - printed).max() < 1.5e-6


@pytest.mark.parametrize(("context", "width"), [(1, 2), (50, 6), (1024, 768)])
def test_the_position_table_is_the_papers(context: int, width: int) -> None:
    """sin(p / 10000^(2i/width)) and cos of the same, correctly rounded."""
    p, i = np.arange(context)[:, None], np.arange(width // 2)
    angles = p / 10000.0 ** (2 * i / width)
    table = sinusoidal_positions(context, width).numpy()
    assert np.abs(table[:, 0::2] - np.sin(angles)).max() < 4e-8
    assert np.abs(table[:, 1::2] - np.cos(angles)).max() < 4e-8


def test_the_position_table_is_not_trained_nor_saved() -> None:
    model = small(positions="sinusoidal")
    assert (model.positions == sinusoidal_positions(8, 12)).all()
    assert not model.positions.requires_grad
    assert not any("position" in name for name in model.state_dict())
    assert "position_embedding.weight" in small().state_dict()


# --- parameters -----------------------------------------------------------------------------------


def formula(c: GPTConfig) -> int:
    """The number of parameters: matrices, then biases and norms."""
    matrices = 12 * c.width**2 * c.layers + c.vocab_size * c.width * (1 if c.tied else 2)
    if c.positions == "learned":
        matrices += c.context * c.width
    norms = (2 * c.layers + 1) * c.width
    if not c.bias:
        return matrices + norms
    biases = (3 + 1 + 4 + 1) * c.width * c.layers + (0 if c.tied else c.vocab_size)
    return matrices + 2 * norms + biases


GPT2 = GPTConfig(vocab_size=50257, context=1024, width=768, layers=12, heads=12)


def test_parameter_counts() -> None:
    for tied in (True, False):
        for bias in (True, False):
            for positions in ("learned", "sinusoidal"):
                model = small(tied=tied, bias=bias, positions=positions)
                assert model.parameter_count() == formula(model.config)
    assert formula(GPT2) == 124_439_808  # what Hugging Face counts for "gpt2"


@pytest.mark.slow
def test_parameter_count_of_gpt2() -> None:
    """Made for real: half a gigabyte."""
    assert GPT(GPT2).parameter_count() == 124_439_808


def test_tied_weights_are_one() -> None:
    model = small()
    assert model.output.weight is model.token_embedding.weight
    assert model.output.bias is None
    untied = small(tied=False)
    assert untied.output.weight is not untied.token_embedding.weight
    assert untied.output.bias is not None


def test_initial_weights_of_gpt2() -> None:
    """Normal with std 0.02, residual projections 0.02 / sqrt(2 layers), biases 0, norms 1."""
    tensorgrad.manual_seed(0)
    config = GPTConfig(vocab_size=64, context=64, width=64, layers=8, heads=4, tied=False)
    for name, p in GPT(config).named_parameters():
        values = p.detach().numpy()
        residual = name.endswith(("proj.weight", "feed_forward.2.weight"))
        if values.ndim == 1:
            assert (values == (1 if "norm" in name and name.endswith("weight") else 0)).all()
        else:
            std = 0.02 / 4 if residual else 0.02
            error = 5 / math.sqrt(values.size)  # of a mean in units of std, five sigma
            assert abs(values.mean()) < error * std, name
            assert abs(values.std() / std - 1) < error, name
    torch_like = GPT(GPTConfig(**{**SMALL, "init": "torch"}))
    assert torch_like.token_embedding.weight.std().item() > 0.5


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a positive integer, not 0"),
        ({"context": -1}, "context must be a positive integer"),
        ({"width": 12.0}, "width must be a positive integer, not 12.0"),
        ({"layers": "2"}, "layers must be a positive integer, not '2'"),
        ({"heads": 5}, r"5 heads do not divide the width 12; .* 1, 2, 3, 4, 6, 12"),
        ({"width": 9, "positions": "sinusoidal"}, "even width, not 9"),
        ({"positions": "rotary"}, "positions must be one of learned, sinusoidal, not 'rotary'"),
        ({"activation": "swish"}, "activation must be one of gelu, gelu_tanh, relu"),
        ({"init": "zeros"}, "init must be one of gpt2, torch"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1.0"),
        ({"dropout": -0.1}, "dropout must be in"),
    ],
)
def test_a_bad_config_is_explained(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPTConfig(**{**SMALL, **fields})


def test_config_round_trip() -> None:
    config = GPTConfig(**SMALL, positions="sinusoidal", tied=False, dropout=0.25)
    assert GPTConfig.from_json(config.to_json()) == config
    assert config.head_size == 4
    with pytest.raises(ValueError, match="unknown fields: depth, rope"):
        GPTConfig.from_json({**config.to_json(), "rope": True, "depth": 3})


def test_a_sequence_too_long() -> None:
    model = small()
    model(some_tokens(1, 8))
    with pytest.raises(ValueError, match="9 tokens does not fit into the context of 8"):
        model(some_tokens(1, 9))


@pytest.mark.parametrize("token", [11, 1000, -1])
def test_a_token_out_of_range(token: int) -> None:
    model, good = small(), some_tokens(1, 3)
    bad = tensorgrad.tensor([[0, token, 1]])
    with pytest.raises(IndexError, match=f"{token} is out of range"):
        model(bad)
    with pytest.raises(IndexError, match=f"{token} is out of range"):
        model(good, bad)


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_is_for_training() -> None:
    model, tokens = small(dropout=0.5), some_tokens(2, 8)
    plain = small()(tokens)
    a, b = model(tokens), model(tokens)
    assert (a != b).any()
    assert (a != plain).any()
    model.eval()
    assert (model(tokens) == plain).all()
    model.train()
    tensorgrad.manual_seed(3)
    again = model(tokens)
    tensorgrad.manual_seed(3)
    assert (model(tokens) == again).all()


def test_dropout_keeps_the_expectation() -> None:
    """Of everything that is linear in what is dropped: attention weights and each result."""
    attention = small(dropout=0.3).blocks[0].attention
    x = tensorgrad.randn(1, 4, 12)
    draws = attention(x.expand(3000, 4, 12)).detach().numpy()
    expected = attention.eval()(x).detach().numpy()[0]
    error = draws.std(axis=0) / math.sqrt(len(draws))
    assert (error > 0).all()
    assert (np.abs(draws.mean(axis=0) - expected) < 5 * error).all()
    assert (np.abs(draws.mean(axis=0) * 0.7 - expected) > 5 * error).any()  # unscaled


def test_dropout_is_in_four_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings, attention weights, and the results of attention and feed-forward layer."""
    seen = Counter()
    for name in ("kept", "dropout_seeds"):
        original = getattr(nn.functional.noise, name)
        monkeypatch.setattr(
            nn.functional.noise,
            name,
            lambda shape, *rest, f=original: seen.update([(shape, rest[0])]) or f(shape, *rest),
        )
    small(dropout=0.25)(some_tokens(2, 8))
    assert seen == {((2, 8, 12), 0.25): 1 + 2 * 2, ((2, 3), None): 2}


# --- writing --------------------------------------------------------------------------------------


def test_the_seed_decides_what_is_written() -> None:
    model = small()
    first = generate(model, [1, 2], 30, seed=5)
    assert len(first) == 30
    assert set(first) <= set(range(11))
    assert all(type(token) is int for token in first)
    assert generate(model, [1, 2], 30, seed=5) == first
    assert generate(model, [1, 2], 30, seed=6) != first
    assert generate(model, [1, 2], 30, seed=0) == generate(model, [1, 2], 30, seed=0)
    tensorgrad.manual_seed(5)
    assert generate(model, [1, 2], 30) == first  # the global generator, seeded alike
    assert generate(model, [1, 2], 30) != first  # which has moved on
    state = tensorgrad.default_generator.get_state()
    generate(model, [1, 2], 5, seed=5)
    assert tensorgrad.default_generator.get_state().equal(state)  # a seed leaves it alone


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}])
def test_greedy_writing_is_the_argmax(options: dict) -> None:
    """Step by step by hand, beyond the context, of which only the last 8 tokens are seen."""
    model = small()
    written = [3]
    for _ in range(20):
        logits = model(tensorgrad.tensor([written[-8:]]))[0, -1]
        written.append(int(np.argmax(logits.detach().numpy())))
    assert generate(model, [3], 20, **options) == written[1:]
    assert len(set(written)) > 2


def test_a_long_prompt_is_cropped() -> None:
    model = small()
    prompt = some_tokens(20).tolist()
    assert generate(model, prompt, 12, seed=1) == generate(model, prompt[-8:], 12, seed=1)
    other = [(prompt[0] + 1) % 11, *prompt[1:]]
    assert generate(model, other, 12, seed=1) == generate(model, prompt, 12, seed=1)


def test_the_prompt_stays_as_it_was() -> None:
    prompt = [1, 2]
    generate(small(), prompt, 5)
    assert prompt == [1, 2]
    assert generate(small(), prompt, 0) == []
    assert generate(small(), (1, 2), 5, seed=1) == generate(small(), prompt, 5, seed=1)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored(training: bool) -> None:
    """Also when writing is broken off, and when it fails; while writing there is no dropout."""
    model = small(dropout=0.5).train(training)
    seen = []
    model.forward = lambda tokens: seen.append(model.training) or GPT.forward(model, tokens)
    written = generate(model, [1], 5, temperature=0)
    assert seen == [False] * 5
    assert all(module.training == training for module in model.modules())
    assert written == generate(small(), [1], 5, temperature=0)
    for _ in islice(stream(model, [1], 5), 2):
        pass
    assert model.training == training
    with pytest.raises(IndexError):
        generate(model, [99], 5)
    assert model.training == training


def test_writing_records_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    model, recorded = small(), []
    model.forward = lambda tokens: (
        recorded.append(tensorgrad.is_grad_enabled()) or GPT.forward(model, tokens)
    )
    for _ in stream(model, [1], 3):
        assert tensorgrad.is_grad_enabled()  # between tokens the caller's mode holds
    assert recorded == [False] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": -1.0}, "temperature must not be negative, got -1.0"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"tokens": []}, "at least one token"),
    ],
)
def test_bad_arguments_are_explained(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(small(), **{"tokens": [1], "max_new_tokens": 3, **arguments})
