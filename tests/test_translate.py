"""The example that translates dates: its task, its schedule, its masks and its two decoders.

The dates are checked against the datetime module and hand-typed words, beam search against all
sequences there are. That the whole run ends above 99% is a slow test.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from test_examples import load

import nn.functional as F
import tensorgrad

translate = load("03_translate")
PAD, START, END, A, B = range(5)  # A and B: any two characters

DATES = [date(1950, 1, 1) + timedelta(days=i) for i in range(36525)]
SOME = DATES[::11]  # all days of the month and of the week, all months and years
FOUR_YEARS = DATES[18262:19723]  # 2000 to 2003, every day


@pytest.fixture
def model() -> translate.Translator:
    """Small and untrained, with weights large enough to make up its mind."""
    tensorgrad.manual_seed(0)
    model = translate.Translator(d_model=16, heads=2, layers=2).eval()
    with tensorgrad.no_grad():
        for weight in model.transformer.parameters():
            if weight.ndim > 1:
                weight *= 3
    return model


# ------------------------------------------------------------------------------- the task


def written(name: str) -> list[tuple[date, str]]:
    return [(day, translate.FORMATS[name](day)) for day in sorted({*SOME, *FOUR_YEARS})]


def test_a_format_is_named_by_its_example() -> None:
    for name, write in translate.FORMATS.items():
        assert write(date(1998, 3, 3)) == name


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("3 March 1998", "", " %B %Y"), ("Tuesday, 3 Mar 1998", "%A, ", " %b %Y")],
)
def test_names_of_days_and_months(name: str, before: str, after: str) -> None:
    for day, text in written(name):
        assert text == f"{day.strftime(before) if before else ''}{day.day}{day.strftime(after)}"


def test_numbers_alone() -> None:
    for day, text in written("3.3.1998"):
        assert date(*map(int, reversed(text.split(".")))) == day
    for day, text in written("1998/3/3"):
        assert date(*map(int, text.split("/"))) == day


def test_ordinal_numbers() -> None:
    endings = "st nd rd th th th th th th th " + "th " * 10 + "st nd rd th th th th th th th st"
    for day, text in written("March 3rd, 1998"):
        month, number, ending, year = re.fullmatch(r"(\w+) (\d+)(..), (\d+)", text).groups()
        assert (month, int(number), int(year)) == (day.strftime("%B"), day.day, day.year)
        assert ending == endings.split()[day.day - 1]


def test_roman_months() -> None:
    for day, text in written("3 III 1998"):
        number, month, year = text.split()
        values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in month]
        total = sum(-v if v < after else v for v, after in zip(values, [*values[1:], 0]))
        assert date(int(year), total, int(number)) == day


WORDS = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first
twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh twenty-eighth
twenty-ninth thirtieth thirty-first"""
NUMBERS = dict(zip(WORDS.split()[:27], [*range(1, 21), *range(30, 100, 10)]))
ORDINALS = dict(zip(WORDS.split()[27:], range(1, 32)))


def test_spelled_out() -> None:
    for day, text in written("the third of March nineteen ninety-eight"):
        number, month, year = re.fullmatch(r"the (\S+) of (\w+) (.*)", text).groups()
        assert (ORDINALS[number], month) == (day.day, day.strftime("%B"))
        if year.startswith("two thousand"):
            century, rest = 2000, year.removeprefix("two thousand").removeprefix(" and ")
        else:
            hundreds, rest = year.split()
            century = 100 * NUMBERS[hundreds]
        assert century + sum(NUMBERS[word] for word in rest.split("-") if word) == day.year


def test_no_input_has_two_answers() -> None:
    """Nor characters without a token, nor more of them than there are positions."""
    answers: dict[str, date] = {}
    for name in translate.FORMATS:
        for day, text in written(name):
            assert answers.setdefault(text, day) == day
    assert len(answers) > 4000 * len(translate.FORMATS)
    assert set("".join(answers)) | set("0123456789-") == set(translate.CHARACTERS)
    table = translate.Translator(d_model=4, heads=1, layers=1).positions
    assert max(map(len, answers)) + 1 <= table.max_len


def test_held_out_dates_are_never_trained_on() -> None:
    seen, held_out = translate.split_dates(random.Random(0))
    assert sorted(seen + held_out) == DATES
    assert len(held_out) == translate.HELD_OUT == len(DATES) // 10
    drawn = translate.batches(seen, 64, random.Random(0))
    pairs = [pair for _, batch in zip(range(100), drawn) for pair in batch]
    assert not {answer for _, answer in pairs} & {day.isoformat() for day in held_out}
    assert {len(batch) for _, batch in zip(range(20), drawn)} == {64}
    for source, answer in pairs:
        day = date.fromisoformat(answer)
        assert source in [write(day) for write in translate.FORMATS.values()]
    used = [sum(write(date.fromisoformat(a)) == s for s, a in pairs)
            for write in translate.FORMATS.values()]  # fmt: skip
    assert min(used) > 0.9 * len(pairs) / len(used)  # all formats, and equally often


def test_texts_become_tokens_and_texts_again() -> None:
    texts = ["1998-03-03", "3 III 1998", "May"]
    tokens = translate.to_tokens(texts)
    assert tokens.shape == (3, 11)
    assert tokens[2].tolist()[3:] == [END] + [PAD] * 7
    assert translate.to_texts(tokens) == texts


# ------------------------------------------------------------------------------ the model


def test_padding_changes_nothing(model: translate.Translator) -> None:
    """A source gives the same alone and beside a longer one."""
    short, long = "3.3.1998", "the third of March nineteen ninety-eight"
    target = tensorgrad.tensor([[START, 7, 8, 9]])
    alone = model(translate.to_tokens([short]), target).detach().numpy()
    both = model(translate.to_tokens([short, long]), target.repeat(2, 1)).detach().numpy()
    np.testing.assert_allclose(both[:1], alone, rtol=1e-4, atol=1e-5)
    assert abs(both[1] - both[0]).max() > 0.1
    _, padding = model.encode(translate.to_tokens([short, long]))
    assert padding.sum(dim=1).tolist() == [len(long) - len(short), 0]


def test_no_look_at_what_comes_later(model: translate.Translator) -> None:
    source = translate.to_tokens(["3.3.1998"])
    first = model(source, tensorgrad.tensor([[START, 7, 8, 9]])).detach().numpy()
    second = model(source, tensorgrad.tensor([[START, 7, 5, 6]])).detach().numpy()
    np.testing.assert_allclose(first[:, :2], second[:, :2], rtol=1e-4, atol=1e-5)
    assert abs(first[:, 2:] - second[:, 2:]).max() > 0.01


def test_cross_attention(model: translate.Translator) -> None:
    """Its rows are shares of the source; row t depends on the answer before t."""
    source = translate.to_tokens(["3.3.1998", "3 III 1998"])
    answer = translate.to_tokens(["1998-03-03", "1998-03-03"])
    weights = translate.cross_attention(model, source, answer).numpy()
    assert weights.shape == (2, 2, 11, 11)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert (weights[0, ..., 9:] == 0).all()  # padding
    assert weights[1, ..., 9:].min() > 0
    other = translate.to_tokens(["1998-04-03", "1998-04-03"])
    changed = abs(translate.cross_attention(model, source, other).numpy() - weights).max((0, 1, 3))
    assert changed[:7].max() < 1e-6 < changed[7]


# --------------------------------------------------------------------------- the training


def test_learning_rate_is_the_papers() -> None:
    """Linear up to step ``warmup``, then as the inverse root of the step."""
    rates = [translate.learning_rate(step, 512, 4000) for step in range(1, 20_001)]
    assert rates[3999] == max(rates) == pytest.approx(1 / math.sqrt(512 * 4000))
    np.testing.assert_allclose(rates[:4000], np.arange(1, 4001) * rates[3999] / 4000)
    np.testing.assert_allclose(rates[4000:], rates[3999] / np.sqrt(np.arange(4001, 20_001) / 4000))


def test_lowest_loss() -> None:
    """The loss of a model that says exactly what is asked for: 0.9 for one, 0.1 shared by all."""
    p = np.full(translate.VOCABULARY, 0.1 / translate.VOCABULARY)
    p[7] += 0.9
    logits = tensorgrad.tensor(np.log(p)).unsqueeze(0)
    loss = F.cross_entropy(logits, tensorgrad.tensor([7]), label_smoothing=0.1)
    assert translate.lowest_loss() == pytest.approx(loss.item(), rel=1e-9)


def test_training_lowers_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    tensorgrad.manual_seed(0)
    small = translate.Translator(d_model=32, heads=2, layers=1)
    losses, rates = translate.train(small, DATES, 30, 30, random.Random(0), batch=16)
    assert not small.training
    assert losses[0] > math.log(translate.VOCABULARY) - 0.5
    assert sum(losses[-5:]) / 5 < losses[0] - 1
    schedule = [translate.learning_rate(step, 32, 30) for step in range(1, 31)]
    assert rates == pytest.approx([0.4 * rate for rate in schedule])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 10
    assert f"{rates[-1]:.5f}" in printed[-1]


def test_trained_weights_are_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last checkpoints, 25 steps apart, the last step's among them."""
    kept = []

    def mean_of(checkpoints: list[dict]) -> dict:
        kept.extend(checkpoint["embedding.weight"].numpy() for checkpoint in checkpoints)
        return real(checkpoints)

    real = translate.mean_of
    monkeypatch.setattr(translate, "mean_of", mean_of)
    tiny = translate.Translator(d_model=4, heads=1, layers=1)
    translate.train(tiny, DATES, 30, 30, random.Random(0), batch=2)
    step_5, step_30 = kept
    assert abs(step_5 - step_30).max() > 0.1
    trained = tiny.embedding.weight.detach().numpy()
    np.testing.assert_allclose(trained, (step_5 + step_30) / 2, atol=1e-6)


# --------------------------------------------------------------------------- the decoding


class ByHand:
    """A model of A, B and END whose probabilities stand in a table: prefix → those of the next.

    One table for each source, which is nothing but its number.
    """

    def __init__(self, tables: list[dict[tuple[int, ...], list[float]]]) -> None:
        self.tables = tables

    def encode(self, source: tensorgrad.Tensor) -> tuple[tensorgrad.Tensor, tensorgrad.Tensor]:
        return source, source < 0

    def decode(
        self, target: tensorgrad.Tensor, memory: tensorgrad.Tensor, padding: tensorgrad.Tensor
    ) -> tensorgrad.Tensor:
        logits = tensorgrad.full((*target.shape, 5), -math.inf)
        for i, (row, (number,)) in enumerate(zip(target.tolist(), memory.tolist())):
            p = self.tables[number].get(tuple(row[1:]))
            if p is None:  # behind an END, or with a token of probability 0: must not matter
                logits[i, -1] = 0
            else:
                logits[i, -1, 2:] = tensorgrad.tensor(p).log()
        return logits

    def score(self, number: int, answer: tuple[int, ...], alpha: float) -> float:
        log_p = sum(math.log(self.tables[number][answer[:i]][token - END])
                    for i, token in enumerate(answer))  # fmt: skip
        return log_p / ((5 + len(answer)) / 6) ** alpha


def test_beam_search_finds_what_greedy_misses() -> None:
    """A is likelier than B, but what follows A is uncertain: 0.6 · 0.4 < 0.4 · 0.9."""
    table = {(): [1e-9, 0.6, 0.4], (A,): [0.4, 0.3, 0.3], (B,): [0.9, 0.05, 0.05]}
    by_hand, source = ByHand([table]), tensorgrad.tensor([[0]])
    assert translate.greedy(by_hand, source, longest=2).tolist() == [[A, END]]
    tokens, score = translate.beam_search(by_hand, source, width=2, longest=2, alpha=0)
    assert tokens.tolist() == [[B, END]]
    assert score.item() == pytest.approx(math.log(0.4 * 0.9))


def test_length_penalty_is_for_longer_answers() -> None:
    """0.5 ends at once; 0.5 · 0.9 · 0.9 is less likely, but not for its length."""
    table = {(): [0.5, 0.5, 1e-9], (A,): [0.1, 0.9, 1e-9], (A, A): [0.9, 0.1, 1e-9]}
    by_hand, source = ByHand([table]), tensorgrad.tensor([[0]])
    for alpha, best in ((0.0, [END]), (1.0, [A, A, END])):
        tokens, score = translate.beam_search(by_hand, source, 3, longest=3, alpha=alpha)
        assert [token for token in tokens[0].tolist() if token != PAD] == best
        assert score.item() == pytest.approx(by_hand.score(0, tuple(best), alpha), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all(alpha: float) -> None:
    """So wide that nothing is dropped; many sources at once, in which answers end early or late."""
    longest = 4
    random_numbers = np.random.default_rng(0)
    prefixes = [p for n in range(longest) for p in itertools.product((A, B), repeat=n)]
    tables = [{p: random_numbers.dirichlet([0.5] * 3).tolist() for p in prefixes}
              for _ in range(20)]  # fmt: skip
    by_hand = ByHand(tables)
    answers = [(*p, END) for p in prefixes] + [*itertools.product((A, B), repeat=longest)]
    source = tensorgrad.arange(len(tables)).unsqueeze(1)
    tokens, scores = translate.beam_search(by_hand, source, 31, longest=longest, alpha=alpha)
    lengths = set()
    for number, (row, score) in enumerate(zip(tokens.tolist(), scores.tolist())):
        best = max(answers, key=lambda answer: by_hand.score(number, answer, alpha))
        assert tuple(token for token in row if token != PAD) == best
        assert score == pytest.approx(by_hand.score(number, best, alpha), rel=1e-5)
        lengths.add(len(best))
    assert len(lengths) > 1


def test_a_beam_of_one_is_greedy(model: translate.Translator) -> None:
    days = DATES[::5000]
    source = translate.to_tokens([write(d) for d in days for write in translate.FORMATS.values()])
    greedy = translate.greedy(model, source)
    beam, score = translate.beam_search(model, source, width=1)
    np.testing.assert_array_equal(beam.numpy(), greedy.numpy())
    assert len({tuple(row) for row in greedy.tolist()}) > 3
    assert score.max().item() < 0


def test_the_score_is_the_models(model: translate.Translator) -> None:
    """That of the whole answer computed at once, not step by step."""
    source = translate.to_tokens(["3.3.1998", "the third of March nineteen ninety-eight"])
    tokens, score = translate.beam_search(model, source, width=3, alpha=0.6)
    start = tensorgrad.full((2, 1), START)
    logits = model(source, tensorgrad.cat([start, tokens[:, :-1]], dim=1)).detach()
    log_p = F.log_softmax(logits, dim=-1).gather(2, tokens.unsqueeze(-1)).squeeze(-1)
    for row, values, total in zip(tokens.tolist(), log_p.tolist(), score.tolist()):
        length = row.index(END) + 1 if END in row else len(row)
        wanted = sum(values[:length]) / ((5 + length) / 6) ** 0.6
        assert total == pytest.approx(wanted, rel=1e-4)


# ------------------------------------------------------------------------------- the whole


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--warmup", "-1"], "--warmup must be at least 1"),
        (["--beam", "0"], "--beam must be at least 1"),
        (["--test", "4000"], "--test must be at most 3652"),
    ],
)
def test_bad_arguments(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        translate.main([*arguments, "--out", str(tmp_path / "out")])
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_more_than_99_of_100_are_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    translate.main(["--out", str(tmp_path)])
    (line,) = re.findall("^exact match.*$", capsys.readouterr().out, re.MULTILINE)
    greedy, beam = re.findall(r"(\d+\.\d+)%", line)
    assert float(greedy) > 99
    assert float(beam) > 99
