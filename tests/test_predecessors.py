"""The example ``05_predecessors``: counts and networks are what their papers say.

What all examples have in common is tested in test_examples.py.
"""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from test_examples import predecessors as example

import tensorgrad
from gpt.data import Batches

NAMES = list(example.NETWORKS)
VOCAB, T = 7, example.CONTEXT


def build(name: str, width: int = 8, n_vocab: int = VOCAB):
    tensorgrad.manual_seed(0)
    return example.NETWORKS[name](n_vocab, width)


def characters(*shape: int) -> tensorgrad.Tensor:
    return tensorgrad.tensor(np.random.default_rng(1).integers(VOCAB, size=shape))


# -------------------------------------------------------------------------------- counting


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    """After what was seen, after what was not, and after nothing at all."""
    rng = random.Random(0)
    text = "".join(rng.choices("abcde", weights=[8, 4, 2, 1, 1], k=200))
    vocabulary = "abcdefg"  # two of them never seen
    ngram = example.NGram(text, order, len(vocabulary))
    contexts = ["", "g", "fg", "ga", *("".join(rng.choices(vocabulary, k=6)) for _ in range(50))]
    for context in [*contexts, *(text[i : i + 4] for i in range(20))]:
        p = [ngram.probability(context, character) for character in vocabulary]
        assert min(p) > 0
        assert sum(p) == pytest.approx(1, rel=1e-12)


def test_bigram_is_the_one_counted_by_hand() -> None:
    """abracadabra: ab and br twice, ra twice, ac, ca, ad and da once.

    Single characters count by what they follow: a after r, c and d, each other after one; 7 in all,
    so that with the discount of 3/4 and 5 characters 1/V = 1/5 gives P(a) = (9/4 + 3/4) / 7.
    """
    ngram = example.NGram("abracadabra", order=2, n_vocab=5)
    assert ngram.stored_counts() == 7 + 5
    for context, character, wanted in (
        ("", "a", 3 / 7),
        ("", "b", 1 / 7),
        ("a", "b", (2 - 0.75) / 4 + 0.75 * 3 / 4 * (1 / 7)),  # 4 after a: b twice, c, d
        ("a", "a", 0.75 * 3 / 4 * (3 / 7)),
        ("b", "r", (2 - 0.75) / 2 + 0.75 * 1 / 2 * (1 / 7)),
        ("bra", "c", (1 - 0.75) / 4 + 0.75 * 3 / 4 * (1 / 7)),  # only the last one matters
        ("x", "a", 3 / 7),
    ):
        assert ngram.probability(context, character) == pytest.approx(wanted), (context, character)


def test_lower_orders_count_what_stands_in_front() -> None:
    """Here n is as frequent as a, or more, but only after x (Chen & Goodman's "Francisco")."""
    ngram = example.NGram("xnxnxnxnbacada", order=2, n_vocab=6)
    assert ngram.probability("q", "n") < ngram.probability("q", "a") / 2


def test_ngrams_are_judged_by_the_second_halves() -> None:
    """Of windows of 64 characters and the one after; 1-grams have one probability for each."""
    ngram = example.NGram("aab", order=1, n_vocab=2)
    window = "a" * 33 + "b" * 32
    assert len(window) == T + 1
    p = [ngram.probability("", character) for character in window[33:]]
    assert ngram.loss([window, window]) == pytest.approx(-math.log(p[0]))
    assert ngram.probability("", "b") == pytest.approx((1 - 0.75) / 3 + 0.75 * 2 / 3 / 2)


def test_orders_are_tried_until_one_is_worse() -> None:
    """And the nearest in size, by ratio, is not the best."""
    rng = random.Random(0)
    words = ["tick", "tack", "tock", "tuck"]
    text = " ".join(rng.choices(words, k=400))
    windows = [" ".join(rng.choices(words, k=14))[: T + 1] for _ in range(20)]
    rows, nearest, best = example.choose_ngrams(text, 9, windows, wanted=10)
    assert [row["order"] for row in rows] == list(range(1, len(rows) + 1))
    losses = [row["loss"] for row in rows]
    assert losses[-1] > losses[-2] == best["loss"] == min(losses)
    assert best["order"] > 2
    assert nearest["order"] == 1


# ------------------------------------------------------------------------------ the networks


@pytest.mark.parametrize("n_vocab", [60, 103])
def test_parameters_are_equal(n_vocab: int) -> None:
    """Within 2 % of each other, and the widths are the nearest there are."""
    widths = example.equal_widths(n_vocab, 64)
    counts = {
        name: example.parameters(network, n_vocab, widths[name])
        for name, network in example.NETWORKS.items()
    }
    assert max(counts.values()) <= 1.02 * min(counts.values())
    rnn, V = widths["RNN"], n_vocab
    assert counts["RNN"] == 2 * rnn**2 + 2 * rnn + 2 * V * rnn + V  # W and U, biases, in, out
    for name, network in example.NETWORKS.items():
        if name != "transformer":
            for width in (widths[name] - 1, widths[name] + 1):
                difference = abs(example.parameters(network, V, width) - counts["transformer"])
                assert difference >= abs(counts[name] - counts["transformer"])


@pytest.mark.parametrize("name", NAMES)
def test_no_network_sees_the_future(name: str) -> None:
    """Another character changes no logit before it, and the ones from there on."""
    model, tokens, place = build(name), characters(2, T), 20
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % VOCAB
    before, after = (model(t).detach().numpy() for t in (tokens, changed))
    assert before.shape == (2, T, VOCAB)
    np.testing.assert_array_equal(before[:, :place], after[:, :place])
    assert (before[:, place] != after[:, place]).any()
    assert (before[:, place + 1] != after[:, place + 1]).any()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_future_is_exactly_zero(name: str) -> None:
    model, place = build(name), 20
    vectors = model.embedding(characters(2, T)).detach().requires_grad_()
    (gradient,) = tensorgrad.grad((model.read(vectors)[:, place] ** 2).sum(), vectors)
    sizes = abs(gradient.numpy()).max(axis=(0, 2))  # [T]
    assert (sizes[place + 1 :] == 0).all()
    assert (sizes[place - 5 : place + 1] > 0).all()


def test_receptive_field() -> None:
    """1 + the sum of (kernel - 1) · dilation; 0 beyond, and for the convolution only."""
    assert example.Convolution.RECEPTIVE_FIELD == 1 + (1 + 2 + 4 + 8 + 16)
    model = build("convolution")
    field = 1 + sum((pair.kernel_size[0] - 1) * pair.dilation[0] for pair in model.pairs)
    assert field == example.Convolution.RECEPTIVE_FIELD < T
    x, y = characters(4, T), characters(4, T)
    for name in NAMES:
        shares = example.gradient_by_distance(build(name), x, y)
        assert len(shares) == T
        assert min(shares[:field]) > 0
        assert (max(shares[field:]) == 0) == (name == "convolution")


def test_gradient_by_distance_has_the_closed_form() -> None:
    """A model that takes each character half as much as the next: shares of 1, 1/2, 1/4, ..."""

    class Halving(example.Predictor):
        def mix(self, x):
            weights = 0.5 ** np.arange(x.shape[1])[::-1]  # [T], 1 for the last
            last = (x * tensorgrad.tensor(weights).float().unsqueeze(1)).sum(dim=1, keepdim=True)
            return x.detach() * 0 + last

    shares = example.gradient_by_distance(Halving(VOCAB, 8), characters(3, T), characters(3, T))
    assert sum(shares) == pytest.approx(1)
    np.testing.assert_allclose(shares, 0.5 ** np.arange(1, T + 1), rtol=1e-4)


def test_within() -> None:
    shares = [0.5, 0.25, 0.125, 0.125]
    assert [example.within(shares, part) for part in (0.4, 0.5, 0.6, 0.75, 0.99)] == [1, 1, 2, 2, 4]


def test_networks_are_judged_by_the_second_halves() -> None:
    model, x, y = build("RNN"), characters(70, T), characters(70, T)
    logits = model(x).detach().double().numpy()[:, 32:]
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -np.take_along_axis(logp, y.numpy()[:, 32:, None], -1).mean()
    assert example.validation_loss(model, x, y) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "steps"), [("RNN", 60), ("LSTM", 60), ("convolution", 60), ("transformer", 120)]
)
def test_each_network_learns(name: str, steps: int) -> None:
    """aabaab…: two characters decide the next, and one does not."""
    ids = [0, 0, 1] * 30
    model = build(name, width=16, n_vocab=2)
    batches = Batches(ids, context=12, batch_size=4, seed=0)
    curve, seconds = example.train(model, batches, steps, judge=lambda: 0.0)
    assert [step for step, _ in curve] == list(range(0, steps + 1, steps // 20))
    assert seconds > 0
    x = tensorgrad.tensor([ids[:12]])
    predicted = model(x).argmax(dim=-1)[0].tolist()
    assert predicted[1:] == ids[2:13]
    margins = model(x).softmax(dim=-1).max(dim=-1).values[0, 2:]
    assert margins.min().item() > 0.9


def test_all_have_the_same_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """The results by name: each network's parameters, and its loss before the first step ln V."""
    text = "the quick brown fox jumps over the lazy dog. " * 40
    results = example.contest(text, width=4, steps=2, seed=0)
    assert [name for name in results if "curve" in results[name]] == NAMES
    for name in NAMES:
        row = results[name]
        (first, loss), *_ = row["curve"]
        assert first == 0
        assert loss == pytest.approx(math.log(len(set(text))), rel=0.3)
        assert row["loss"] == row["curve"][-1][1]
        assert sum(row["after"]) == pytest.approx(1)
    grams = [row for name, row in results.items() if name not in NAMES]
    assert min(row["loss"] for row in grams) < 0.2
    assert f"{grams[0]['counts']:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps must be"),
        (["--width", "6"], "multiple of the 4 heads"),
        (["--characters", "0"], "--characters must be"),
        (["--characters", "100"], "too few are left to validate on: 650 will do"),
        (["--data", "nowhere.txt"], "there is no file nowhere.txt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        example.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
