"""How a token is chosen: each filter by hand, and what is drawn by chi-square.

Truths: probabilities computed here with fractions or NumPy from the definitions, and Hugging Face's
order of the filters.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt.sampling as s
from gpt.sampling import Sampling
from tensorgrad import Generator

LOGITS = np.array([0.5, -1.0, 2.0, 0.0, 1.0, -0.5])
INF = math.inf


def probabilities_of(logits: list[float] | np.ndarray) -> np.ndarray:
    weights = np.array([math.exp(x) if x > -INF else 0.0 for x in logits])
    return weights / weights.sum()


def chi_square(counts: np.ndarray, p: np.ndarray) -> float:
    """Pearson's statistic in standard deviations from its mean: about normal."""
    assert (counts[p == 0] == 0).all(), "what is impossible was drawn"
    expected = counts.sum() * p[p > 0]
    freedom = len(expected) - 1
    statistic = ((counts[p > 0] - expected) ** 2 / expected).sum()
    return (statistic - freedom) / math.sqrt(2 * max(freedom, 1))


def draw(sampling: Sampling, seen: tuple = (), n: int = 1500, seed: int = 1) -> np.ndarray:
    generator = Generator(seed)
    return np.bincount([sampling.draw(LOGITS, seen, generator) for _ in range(n)], minlength=6)


# --- each filter ----------------------------------------------------------------------------------


def test_bias() -> None:
    assert s.add_bias(LOGITS, {1: 2.0, 4: -INF}).tolist() == [0.5, 1.0, 2.0, 0.0, -INF, -0.5]


def test_repetition_makes_a_token_less_likely() -> None:
    """Also where its logit is negative; a token that occurs twice is penalised once."""
    found = s.penalise_repetition(LOGITS, [2, 1, 3, 2], 2.0)
    assert found.tolist() == [0.5, -2.0, 1.0, 0.0, 1.0, -0.5]
    assert s.penalise_repetition(LOGITS, [], 2.0).tolist() == LOGITS.tolist()


def test_top_k() -> None:
    assert s.keep_top_k(LOGITS, 2).tolist() == [-INF, -INF, 2.0, -INF, 1.0, -INF]
    assert s.keep_top_k(LOGITS, 6).tolist() == LOGITS.tolist()
    assert s.keep_top_k(LOGITS, 60).tolist() == LOGITS.tolist()
    equal = np.array([1.0, 3.0, 1.0, 1.0])
    assert s.keep_top_k(equal, 2).tolist() == [1.0, 3.0, -INF, -INF]


def test_top_p() -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8: the token that reaches p is kept, the next is not."""
    logits = np.log([1 / 8, 1 / 2, 1 / 8, 1 / 4])
    kept = {p: np.flatnonzero(s.keep_top_p(logits, p) > -INF).tolist() for p in
            (1e-9, 0.49, 0.51, 0.74, 0.76, 0.87, 0.88, 0.9999)}  # fmt: skip
    assert list(kept.values()) == [[1], [1], [1, 3], [1, 3], [0, 1, 3], [0, 1, 3], [0, 1, 2, 3],
                                   [0, 1, 2, 3]]  # fmt: skip


def test_min_p() -> None:
    logits = np.log([1 / 8, 1 / 2, 1 / 16, 5 / 16])
    assert np.flatnonzero(s.keep_min_p(logits, 0.24) > -INF).tolist() == [0, 1, 3]
    assert np.flatnonzero(s.keep_min_p(logits, 0.26) > -INF).tolist() == [1, 3]
    assert np.flatnonzero(s.keep_min_p(logits, 1.0) > -INF).tolist() == [1]


@given(
    st.lists(st.one_of(st.floats(-50, 50), st.sampled_from([0.0, 1.0, -INF])), min_size=1),
    st.floats(0.01, 1.0),
    st.integers(1, 10),
)
def test_filters_keep_the_likeliest(logits: list[float], p: float, k: int) -> None:
    """Any logits: what is kept is at least as likely as what is not, and the input stays."""
    x = np.array(logits)
    if x.max() == -INF:
        return
    before = x.copy()
    for kept in (s.keep_top_k(x, k), s.keep_top_p(x, p), s.keep_min_p(x, p)):
        inside = kept > -INF
        assert (kept[inside] == x[inside]).all()
        assert inside[x.argmax()]
        if not inside.all():
            assert x[inside].min() >= x[~inside].max()
    assert np.count_nonzero(s.keep_top_k(x, k) > -INF) == min(k, np.count_nonzero(x > -INF))
    nucleus = s.keep_top_p(x, p) > -INF
    probabilities = probabilities_of(x - x.max())
    assert probabilities[nucleus].sum() >= p - 1e-9  # enough, and not without the last of them
    assert probabilities[nucleus].sum() - probabilities[nucleus].min() < p + 1e-9
    np.testing.assert_array_equal(x, before)


# --- all together ---------------------------------------------------------------------------------

CHOICES = {
    "all": (Sampling(), LOGITS),
    "bolder": (Sampling(0.5), LOGITS / 0.5),
    "more varied": (Sampling(2.0), LOGITS / 2),
    "top-k": (Sampling(top_k=3), [0.5, -INF, 2, -INF, 1, -INF]),
    "top-k, varied": (Sampling(1.5, 2), [-INF, -INF, 2 / 1.5, -INF, 1 / 1.5, -INF]),
    "top-k of more": (Sampling(top_k=9), LOGITS),
    # The probabilities are 0.120, 0.027, 0.538, 0.073, 0.198, 0.044.
    "top-p": (Sampling(top_p=0.73), [-INF, -INF, 2, -INF, 1, -INF]),
    "top-p of all": (Sampling(top_p=1.0), LOGITS),
    "min-p": (Sampling(min_p=0.2), [0.5, -INF, 2, -INF, 1, -INF]),
    "min-p of all": (Sampling(min_p=0.0), LOGITS),
    "penalty": (Sampling(repetition_penalty=2.0), [0.5, -2, 1, 0, 1, -0.5]),
    "bias": (Sampling(logit_bias={5: 3.0, 2: -INF}), [0.5, -1, -INF, 0, 1, 2.5]),
    # The bias comes before the penalty: (-1 + 3) / 2, and not -2 + 3.
    "bias, then penalty": (
        Sampling(repetition_penalty=2.0, logit_bias={1: 3.0}), [0.5, 1, 1, 0, 1, -0.5],
    ),
    # At this temperature the nucleus of 0.65 has three tokens, at 1 two.
    "temperature, then top-p": (Sampling(2.0, top_p=0.65), [0.25, -INF, 1, -INF, 0.5, -INF]),
    # Of the three left by top-k the first two have 0.86, of all six 0.74.
    "top-k, then top-p": (Sampling(top_k=3, top_p=0.85), [-INF, -INF, 2, -INF, 1, -INF]),
    "everything": (
        Sampling(0.8, 4, 0.97, 0.13, 1.5, {0: -INF, 3: 0.9}),
        [-INF, -INF, 2 / 1.5 / 0.8, 0.9 / 1.5 / 0.8, 1 / 0.8, -INF],
    ),
}  # fmt: skip
SEEN = {"penalty": (1, 2, 2, 3), "bias, then penalty": (1, 2, 2, 3), "everything": (2, 3)}


@pytest.mark.parametrize("name", CHOICES)
def test_probabilities(name: str) -> None:
    sampling, expected = CHOICES[name]
    found = sampling.probabilities(LOGITS, SEEN.get(name, ()))
    np.testing.assert_allclose(found, probabilities_of(expected), rtol=1e-12)


@pytest.mark.parametrize("name", CHOICES)
def test_tokens_are_drawn_with_their_probabilities(name: str) -> None:
    sampling, expected = CHOICES[name]
    counts = draw(sampling, SEEN.get(name, ()))
    assert chi_square(counts, probabilities_of(expected)) < 4
    # the check can fail: another temperature is told apart
    assert chi_square(counts, probabilities_of(np.array(expected) / 1.5)) > 4


def test_the_likeliest() -> None:
    """Temperature 0 draws nothing; of equal tokens it takes the first; bias and penalty count."""
    generator = Generator(1)
    before = generator.get_state()
    assert Sampling(0).draw(LOGITS, (), generator) == 2
    assert Sampling(0.0, 3, 0.5, 0.5).draw(LOGITS, (), generator) == 2
    assert Sampling(0).draw(np.zeros(4), (), generator) == 0
    assert Sampling(0, logit_bias={0: 9.0}).draw(LOGITS, (), generator) == 0
    assert Sampling(0, repetition_penalty=3.0).draw(LOGITS, (2,), generator) == 4
    assert generator.get_state().equal(before)
    assert Sampling(0).probabilities(LOGITS).tolist() == [0, 0, 1, 0, 0, 0]
    for bold in (Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(min_p=1.0)):
        assert (draw(bold, n=20) == [0, 0, 20, 0, 0, 0]).all()


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-250, 5e-324])
def test_cold_is_greedy(temperature: float) -> None:
    assert (draw(Sampling(temperature), n=20) == [0, 0, 20, 0, 0, 0]).all()


def test_equal_logits_do_not_add_candidates() -> None:
    drawn = [Sampling(top_k=2).draw(np.zeros(6), (), Generator(seed)) for seed in range(40)]
    assert set(drawn) == {0, 1}


def test_a_draw_takes_one_number() -> None:
    """So that what one token needs does not depend on how many candidates there are."""
    a, b = Generator(3), Generator(3)
    for sampling in (Sampling(), Sampling(top_k=1), Sampling(0.7, top_p=0.5)):
        sampling.draw(LOGITS, (), a)
        b.rng.random()
    assert a.get_state().equal(b.get_state())


def test_large_vocabularies_and_logits() -> None:
    """float32 logits of any size; what has a probability of 0 is not drawn."""
    logits = np.full(100_000, -1e30, np.float32)
    logits[[7, 99_999]] = 3e38
    drawn = [Sampling(1.0, 50, 0.9, 0.01).draw(logits, (), Generator(n)) for n in range(20)]
    assert set(drawn) == {7, 99_999}


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"temperature": -1.0}, "temperature must not be negative, got -1.0"),
        ({"temperature": math.nan}, "temperature must not be negative, got nan"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1, got 1.1"),
        ({"min_p": -0.1}, "min_p must be from 0 to 1, got -0.1"),
        ({"min_p": math.nan}, "min_p must be from 0 to 1, got nan"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty must be above 0 .*, got 0.0"),
        ({"logit_bias": {3: INF}}, "logit_bias of the token 3 must be a number or -inf, got inf"),
        ({"logit_bias": {3: math.nan}}, "logit_bias of the token 3 .* got nan"),
    ],
)
def test_bad_choices_are_explained(choice: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**choice)


def test_bad_logits_are_explained() -> None:
    with pytest.raises(ValueError, match="names the token 6, and there are the tokens 0 to 5"):
        Sampling(logit_bias={6: 1.0}).draw(LOGITS)
    with pytest.raises(ValueError, match="names the token -1"):
        Sampling(logit_bias={-1: 1.0}).draw(LOGITS)
    with pytest.raises(ValueError, match="logit_bias forbids every token"):
        Sampling(logit_bias=dict.fromkeys(range(6), -INF)).draw(LOGITS)
    for broken in (math.nan, INF):
        for temperature in (0, 1):
            with pytest.raises(RuntimeError, match="logits are not finite numbers"):
                Sampling(temperature).draw(np.array([0.0, broken]))
