"""A text encoded in pieces has the tokens of the whole: for every pattern, wherever it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from gpt import data, stream, tokenizer

# What the patterns treat differently stands side by side often: letters of several scripts, marks,
# digits, apostrophes and contractions, white space and line breaks, punctuation.
CHARACTERS = "aZsé潮ひ가न\u093e\u0301 \t\r\n\u00a0\u3000'’.,!/-。１1²\U0001f469\u200d\x85"
TRICKY = st.text(CHARACTERS, max_size=40)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TEXTS = st.lists(st.one_of(TRICKY, ANY, st.sampled_from(["'ll ", "don't", "a\n\nb", "  \n x"])))


PATTERNS = ("bpe", "r50k_base", "cl100k_base", "o200k_base")


def split_by(name: str) -> tokenizer.TiktokenTokenizer:
    """One of tiktoken's encodings with its own pattern, and tokens learnt here: no download."""
    with pytest.MonkeyPatch.context() as patch:
        for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
            patch.setattr(openai_public, loader, lambda *args, **kwargs: {})
        pattern = openai_public.ENCODING_CONSTRUCTORS[name]()["pat_str"]
    # Every pair of bytes that these texts have in them is a token: any other cut would show.
    raw = sorted(set((CHARACTERS + "tmlvr").encode()))
    pairs = [bytes([x, y]) for x in raw for y in raw]
    ranks = {token: i for i, token in enumerate([*(bytes([i]) for i in range(256)), *pairs])}
    made = object.__new__(tokenizer.TiktokenTokenizer)
    special = {tokenizer.END_OF_TEXT: len(ranks)}
    encoding = tiktoken.Encoding(
        name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special
    )
    tokenizer._EncodingTokenizer.__init__(made, name, encoding)
    return made


@pytest.fixture(scope="module", params=[*PATTERNS])
def coder(request: pytest.FixtureRequest) -> tokenizer.Tokenizer:
    if request.param == "bpe":
        return tokenizer.train_bpe(data.default_corpus()[:20_000] + "潮ひ가न\u093e" * 3, 400)
    return split_by(request.param)


def joined(pieces: list[str], coder: tokenizer.Tokenizer) -> list[int]:
    return [int(i) for ids in stream.encoded(pieces, coder) for i in ids]


@settings(max_examples=100)
@given(TEXTS)
@example(["a", "'", "ll b"])
@example(["one", "\n", "\ntwo  ", " \n three"])
@example(["a\u093e", "b, c."])
def test_pieces_are_the_whole(coder: tokenizer.Tokenizer, pieces: list[str]) -> None:
    assert joined(pieces, coder) == coder.encode("".join(pieces))
    assert "".join(stream.separated(pieces, coder)) == "".join(pieces)


def test_the_known_patterns_are_those() -> None:
    known, tested = (
        {split_by(name).encoding._pat_str for name in names}
        for names in (stream.KNOWN, PATTERNS[1:])
    )
    assert known == tested


@given(st.lists(st.text("ban'\n潮")))
def test_characters(pieces: list[str]) -> None:
    char = tokenizer.CharTokenizer("ban'\n潮")
    assert joined(pieces, char) == char.encode("".join(pieces))
    assert list(stream.separated(pieces, char)) == [piece for piece in pieces if piece]


@pytest.mark.parametrize("name", ["bpe", "cl100k_base", "o200k_base"])
def test_every_place_of_a_long_text(name: str) -> None:
    """Also one token too many would be noticed: the text is cut after each few characters."""
    text = data.default_corpus()[:3000] + "Ça va? 潮の音、「そう」。 it's\r\n\r\n 'tis  \n"
    made = tokenizer.train_bpe(text, 500) if name == "bpe" else split_by(name)
    whole = made.encode(text)
    for size in (1, 2, 7, 50):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert joined(pieces, made) == whole
        cuts = list(stream.separated(pieces, made))
        assert len(cuts) > len(text) / max(size, 6) / 4  # it does cut


def test_a_wrong_place_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property above can fail: cut after any letter, a word falls apart."""
    import regex

    monkeypatch.setattr(stream, "_place", lambda: regex.compile(r"(?r)(?<=\p{L})."))
    made = tokenizer.train_bpe("lower " * 9, 262)
    assert joined(["low", "er low"], made) != made.encode("lower low")


def test_a_pattern_of_its_own_is_not_cut() -> None:
    whole = tokenizer.BPETokenizer([b"a ", b"a b"], pattern=r"(?s).+")
    assert list(stream.separated(["a", " ", "b, c"], whole)) == ["a b, c"]
    assert joined(["a", " b"], whole) == [257]


def test_no_more_is_held_than_needed() -> None:
    """What comes out is about as long as what goes in, in a single line too."""
    bpe = tokenizer.BPETokenizer([])
    held: list[int] = []
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for _ in range(1000):
            taken += 60
            yield "words and words, on one line " * 2 + "x "

    given_back = 0
    for piece in stream.separated(endless(), bpe):
        given_back += len(piece)
        held.append(taken - given_back)
    assert max(held) < 60
    assert held[-1] == 0


def test_learning_from_pieces() -> None:
    """The tokenizer that a stream teaches is that of the whole text."""
    text = data.default_corpus()[:30_000]
    pieces: Any = [text[i : i + 1000] for i in range(0, len(text), 1000)]
    learnt = tokenizer.train_bpe(stream.separated(pieces, tokenizer.BPETokenizer([])), 400)
    assert learnt.tokens == tokenizer.train_bpe(text, 400).tokens
