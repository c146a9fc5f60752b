"""The example that fills in blanks: its text, its blanks, its encoder and its classifier.

The shares of blanks are checked by chi-square, the loss and the counts against loops that spell
them out. That the whole run beats the counts is a slow test.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from test_examples import load

import nn.functional as F
import tensorgrad
from gpt.data import default_corpus

fill = load("04_fill_in_the_blank")

TEXT = [["the", "cat", "sat", "on", "the", "mat", "."], ["a", "dog", "saw", "the", "cat", "."]]


@pytest.fixture(scope="module")
def paragraphs() -> list[list[str]]:
    return fill.passages(default_corpus())


@pytest.fixture
def vocabulary() -> fill.Vocabulary:
    return fill.Vocabulary(TEXT, least=1)


@pytest.fixture
def model(vocabulary: fill.Vocabulary) -> fill.Bert:
    tensorgrad.manual_seed(0)
    return fill.Bert(vocabulary, width=16, layers=2, heads=2)


# ------------------------------------------------------------------------------- the text


def test_repetitions_are_left_out() -> None:
    """Word for word, in other lines, and nearly so; a short one too."""
    long = "one two three four five six seven eight nine ten eleven twelve"
    other = "a paragraph of its own: it is kept, whatever stands around it"
    text = "\n\n".join([long, "See also:", other, long.replace(" ", "\n  "), "see  also:",
                        long + " thirteen", f"Here {long[4:]}"])  # fmt: skip
    assert fill.passages(text) == [long.split(), ["see", "also", ":"], [
        "a", "paragraph", "of", "its", "own", ":", "it", "is", "kept", ",", "whatever", "stands",
        "around", "it",
    ]]  # fmt: skip


def test_words_and_signs() -> None:
    (words,) = fill.passages("The -----\n'__init__' method, (3.14)...")
    assert words == ["the", "-----", "'", "__init__", "'", "method", ",", "(", "3", ".", "14",
                     ")", "..."]  # fmt: skip


def test_the_three_texts_are_disjoint(paragraphs: list[list[str]]) -> None:
    """Every paragraph is in one of them; and of the held-out runs of 8 words, few are in another.

    With the repetitions, a third would be. (The text is that of the Python that runs, and so the
    share too: 3.11 has less than 4 %, 3.13 has 5 %.)
    """
    parts = fill.deal(paragraphs)
    dealt = [tuple(words) for part in parts for words in part]
    assert len(set(dealt)) == len(dealt)
    assert sorted(dealt) == sorted(map(tuple, paragraphs))
    sizes = np.array([sum(map(len, part)) for part in parts]) / sum(map(len, dealt))
    np.testing.assert_allclose(sizes, [0.8, 0.1, 0.1], atol=0.03)

    def runs(part: list[list[str]]) -> list[tuple[str, ...]]:
        return [tuple(words[i : i + 8]) for words in part for i in range(len(words) - 7)]

    for one, others in ((2, (0, 1)), (1, (0,))):
        known = {run for other in others for run in runs(parts[other])}
        assert np.mean([run in known for run in runs(parts[one])]) < 0.1


def test_rows(vocabulary: fill.Vocabulary) -> None:
    names = ["the", "cat", ".", "sat", "on", "mat", "a", "dog", "saw"]
    assert vocabulary.names == [*names, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    row, *rest = vocabulary.rows([["the", "fox", "saw", "the", "dog"], ["too", "short"]])
    assert rest == []
    assert [vocabulary.names[i] for i in row] == [
        "[CLS]", "the", "[UNK]", "saw", "the", "dog", "[SEP]"
    ]  # fmt: skip
    pieces = vocabulary.rows([["cat"] * 10 + ["dog"] * 10])  # no piece is longer than 14
    assert [len(piece) for piece in pieces] == [12, 12]
    assert vocabulary.padded([[1], [2, 3]]).tolist() == [[1, vocabulary.pad], [2, 3]]
    assert fill.Vocabulary(TEXT, least=2).names[:-5] == ["the", "cat", "."]


def test_batches_hold_every_row_once() -> None:
    rows = [[i] * (1 + i % 9) for i in range(50)]
    parts = list(fill.batches(rows, 8, np.random.default_rng(0)))
    assert {len(part) for part in parts} <= {7, 8}
    assert sorted(row[0] for part in parts for row in part) == list(range(50))


# ------------------------------------------------------------------------------- the blanks


def drawn_blanks(vocabulary: fill.Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    tokens = generator.integers(len(vocabulary.names), size=(400, 500))
    return tokens, *fill.hide(tokens, vocabulary, generator)


def test_shares_of_blanks(vocabulary: fill.Vocabulary) -> None:
    """15 % of the words; of those 80 % [MASK], 10 % by chance (one in 9 of which is the same word
    again) and 10 % unchanged. The words by chance are evenly spread.
    """
    tokens, hidden, labels = drawn_blanks(vocabulary)
    chosen = labels != fill.IGNORED
    words = vocabulary.n_words
    masked = hidden[chosen] == vocabulary.mask
    same = hidden[chosen] == tokens[chosen]
    found = np.array([(~chosen & (tokens < words)).sum(), masked.sum(), (~masked & ~same).sum(),
                      same.sum()])  # fmt: skip
    chance = 0.1 * (1 - 1 / words)
    shares = np.array([0.85, 0.15 * 0.8, 0.15 * chance, 0.15 * (0.2 - chance)])
    wanted = shares * (tokens < words).sum()
    assert ((found - wanted) ** 2 / wanted).sum() < 16.3  # one in a thousand, 3 degrees of freedom
    others = np.bincount(hidden[chosen][~masked & ~same], minlength=words)
    even = others.mean()
    assert ((others - even) ** 2 / even).sum() < 26.1  # the same for 8


def test_only_words_are_hidden_and_guessed(vocabulary: fill.Vocabulary) -> None:
    tokens, hidden, labels = drawn_blanks(vocabulary)
    chosen = labels != fill.IGNORED
    assert (labels[chosen] == tokens[chosen]).all()
    assert (labels[~chosen] == -100).all()
    assert (hidden[~chosen] == tokens[~chosen]).all()
    assert (tokens[chosen] < vocabulary.n_words).all()
    assert set(np.unique(hidden[chosen])) <= {*range(vocabulary.n_words), vocabulary.mask}


def test_every_word_is_a_blank_once(vocabulary: fill.Vocabulary) -> None:
    rows = vocabulary.rows(TEXT * 4)
    found = Counter()
    for tokens, labels in fill.blank_out(rows, vocabulary):
        chosen = labels != fill.IGNORED
        assert (tokens[chosen] == vocabulary.mask).all()
        assert (tokens[~chosen] != vocabulary.mask).all()
        found.update(labels[chosen].tolist())
    assert found == Counter(t for row in rows for t in row if t < vocabulary.n_words)


# ------------------------------------------------------------------------------- the encoder


def test_it_looks_both_ways(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    """The guess at a blank depends on what is left of it and on what is right."""
    cat, dog, mask = vocabulary.ids["cat"], vocabulary.ids["dog"], vocabulary.mask
    tokens = tensorgrad.tensor(
        [[cat, mask, cat, cat], [dog, mask, cat, cat], [cat, mask, cat, dog]]
    )
    usual, left, right = model.guess(model(tokens)[:, 1]).detach().numpy()
    assert abs(usual - left).max() > 1e-3
    assert abs(usual - right).max() > 1e-3


def test_padding_changes_nothing(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    row = vocabulary.rows(TEXT)[0]
    alone = model(tensorgrad.tensor([row])).detach().numpy()
    padded = model(tensorgrad.tensor([row + [vocabulary.pad] * 4])).detach().numpy()
    np.testing.assert_allclose(padded[:, : len(row)], alone, atol=1e-6)


def test_the_output_layer_is_the_embedding(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    """One parameter of its shape, and its gradient comes from both uses."""
    shape = (len(vocabulary.names), 16)
    assert [tuple(p.shape) for p in model.parameters()].count(shape) == 1
    dog = vocabulary.ids["dog"]  # in no input: its gradient is the output layer's
    tokens = np.array([[vocabulary.mask, vocabulary.ids["cat"]]])
    labels = np.array([[dog, fill.IGNORED]])
    F.cross_entropy(*fill.masked_logits(model, tokens, labels)).backward()
    rows = abs(model.tokens.weight.grad.numpy()).max(axis=1)
    assert (rows > 0).all()
    model.zero_grad()
    model(tensorgrad.tensor(tokens)).square().sum().backward()  # without the head
    assert np.nonzero(model.tokens.weight.grad.numpy().any(axis=1))[0].tolist() == sorted(
        {vocabulary.mask, vocabulary.ids["cat"]}
    )


def test_the_loss_ignores_what_is_not_chosen(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    """Logits at the chosen positions only make the loss that ignore_index makes of all."""
    tokens = vocabulary.padded(vocabulary.rows(TEXT * 4))
    hidden, labels = fill.hide(tokens, vocabulary, np.random.default_rng(3))
    assert 1 < (labels != -100).sum() < labels.size
    logits = model.guess(model(tensorgrad.tensor(hidden)))  # [B, T, vocabulary]
    every = F.cross_entropy(logits.flatten(0, 1), tensorgrad.tensor(labels).flatten())
    some = F.cross_entropy(*fill.masked_logits(model, hidden, labels))
    assert some.item() == pytest.approx(every.item(), rel=1e-5)


def test_it_learns_a_batch_by_heart(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    tokens = vocabulary.padded(vocabulary.rows(TEXT))
    labels = np.where((tokens < vocabulary.n_words) & (np.arange(tokens.shape[1]) % 3 == 1),
                      tokens, fill.IGNORED)  # fmt: skip
    hidden = np.where(labels == fill.IGNORED, tokens, vocabulary.mask)
    training = fill.Training(model, 80, rate=1e-2)
    losses = []
    for _ in range(80):
        loss = F.cross_entropy(*fill.masked_logits(model, hidden, labels))
        training.step(loss)
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(len(vocabulary.names)), rel=0.1)
    assert losses[-1] < 0.05
    assert fill.masked_accuracy(model, [(hidden, labels)]) == 1


def test_the_rate_rises_and_falls(model: fill.Bert) -> None:
    training = fill.Training(model, 100, rate=1.0)
    rates = []
    for _ in range(100):
        rates.append(training.optimizer.param_groups[0]["lr"])
        training.optimizer.step()
        training.schedule.step()
    np.testing.assert_allclose(rates[:11], np.arange(1, 12) / 11)
    np.testing.assert_allclose(np.diff(rates[10:]), -1 / 90, rtol=1e-6)
    assert rates[-1] > 0


def test_candidates(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    """The five likeliest at the blank, whatever stood there; the row itself stays."""
    row = vocabulary.rows(TEXT)[0]
    given = list(row)
    found = fill.candidates(model, row, 2, vocabulary)
    assert row == given
    row[2] = vocabulary.ids["dog"]
    assert fill.candidates(model, row, 2, vocabulary) == found
    row[2] = vocabulary.mask
    p = F.softmax(model.guess(model(tensorgrad.tensor([row]))), dim=-1).detach().numpy()[0, 2]
    best = np.argsort(-p)[:5]
    assert [name for name, _ in found] == [vocabulary.names[i] for i in best]
    np.testing.assert_allclose([value for _, value in found], p[best], rtol=1e-5)


def test_counts_of_neighbours_fill_blanks() -> None:
    """After "b" comes "c" most often, but between "b" and "e" comes "d"."""
    text = ["a b c a", "a b c c", "a b d e", "c b c a", "x b c"]
    vocabulary = fill.Vocabulary([line.split() for line in text], least=1)
    rows = [[vocabulary.ids[word] for word in line.split()] for line in text]
    mask = vocabulary.mask
    questions = ["b _ e d", "b _ x c", "x _ b a", "b _ a c"]  # with the answers
    tests = []
    for question in questions:
        left, _, right, answer = question.split()
        row = [vocabulary.ids[left], mask, vocabulary.ids[right]]
        tests.append((np.array([row]), np.array([[-100, vocabulary.ids[answer], -100]])))
    accuracies = list(fill.counting(rows, tests, vocabulary).values())
    # Most frequent in the middle is b; after b comes c; b _ e is d, and after x is b.
    assert accuracies == [0, 0.5, 0.75]


# ------------------------------------------------------------------------------- the classifier


def test_examples_of_order(vocabulary: fill.Vocabulary) -> None:
    rows = vocabulary.rows(TEXT)
    rows.append([vocabulary.cls, 0, vocabulary.unknown, 0, 0, vocabulary.sep])  # none to swap
    examples = fill.examples_of_order(rows, vocabulary, np.random.default_rng(0))
    assert [label for _, label in examples] == [0, 1, 0, 1]
    for (row, _), (swapped, _) in zip(examples[::2], examples[1::2]):
        assert row in rows[:2]
        i, j = (k for k, (a, b) in enumerate(zip(row, swapped)) if a != b)
        assert j == i + 1
        assert (row[i], row[j]) == (swapped[j], swapped[i])
        assert max(row[i], row[j]) < vocabulary.n_words


def test_a_frozen_encoder_stays(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    examples = fill.examples_of_order(
        vocabulary.rows(TEXT * 8), vocabulary, np.random.default_rng(0)
    )
    before = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    for frozen in (True, False):
        classifier = fill.Classifier(model, frozen)
        output = classifier.output.weight.detach().numpy().copy()
        curve = fill.fine_tune(classifier, examples, examples, vocabulary, 2, 1e-2, seed=0)
        assert len(curve) == 3
        assert (classifier.output.weight.detach().numpy() != output).any()
        moved = {n for n, p in model.named_parameters() if (p.detach().numpy() != before[n]).any()}
        head = {"bias", *(n for n in before if n.startswith("transform"))}  # of the guesses
        assert moved == (set() if frozen else set(before) - head)


def test_classifier_ignores_padding(model: fill.Bert, vocabulary: fill.Vocabulary) -> None:
    classifier = fill.Classifier(model)
    row = vocabulary.rows(TEXT)[0]
    alone = classifier(tensorgrad.tensor([row])).detach().numpy()
    padded = classifier(tensorgrad.tensor([row + [vocabulary.pad] * 3])).detach().numpy()
    np.testing.assert_allclose(padded, alone, atol=1e-6)


def test_counts_cannot_or_can_tell_order(paragraphs: list[list[str]]) -> None:
    """The words of both are the same, the pairs of neighbours are not."""
    train, labelled, held_out = fill.deal(paragraphs[:600])
    vocabulary = fill.Vocabulary(train)
    generator = np.random.default_rng(0)
    text = vocabulary.rows(train)
    examples = [fill.examples_of_order(vocabulary.rows(part), vocabulary, generator)
                for part in (labelled, held_out)]  # fmt: skip
    words = [fill.bag_of_words(part, vocabulary) for part in examples]
    np.testing.assert_array_equal(words[0][::2], words[0][1::2])
    assert fill.regression(words, examples) == 0.5
    pairs = [fill.counts_of_pairs(part, text) for part in examples]
    assert 0.55 < fill.regression(pairs, examples) < 0.75


# ------------------------------------------------------------------------------- the pictures


def test_a_panel_for_each_blank(vocabulary: fill.Vocabulary) -> None:
    """Its passage, bars as long as the probabilities, and the text's word in another colour."""
    figure = pytest.importorskip("matplotlib.figure").Figure(layout="constrained")
    row, dog = vocabulary.rows(TEXT)
    found = [("cat", 0.5), ("mat", 0.25), (".", 0.125), ("the", 0.1), ("$x$", 0.0)]
    fill.draw_fill(figure, [(row, 2, found), (dog, 2, found)], vocabulary)
    first, second, *rest = figure.axes
    for axes in (first, second):
        assert axes.axison
        assert [bar.get_width() for bar in axes.patches] == [p for _, p in found[::-1]]
    assert first.get_title(loc="left") == "the ____ sat on the mat ."
    assert second.get_title(loc="left") == "a ____ saw the cat .   (in the text: dog)"
    assert len({bar.get_facecolor() for bar in first.patches}) == 2
    assert len({bar.get_facecolor() for bar in second.patches}) == 1
    assert not any(axes.axison for axes in rest)


# ------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--paragraphs", "10"], "--paragraphs must be at least 100"),
    ],
)
def test_bad_arguments(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        fill.main([*arguments, "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pre_training_pays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The encoder guesses more than any count, and what it has learned helps to tell the order."""
    fill.main(["--out", str(tmp_path)])
    rows = re.findall(r"^ +(\d+\.\d)%  (.*)$", capsys.readouterr().out, re.MULTILINE)
    reached = {name: float(value) for value, name in rows}
    guesses = [float(value) for value, _ in rows[:4]]
    assert rows[3][1] == "the encoder"
    assert guesses == sorted(guesses)
    assert reached["the encoder"] > reached["… between both"] + 3
    assert reached["pre-trained, fine-tuned"] > reached["from random weights"] + 5
    assert reached["pre-trained, fine-tuned"] > reached["counts of words"] + 10
