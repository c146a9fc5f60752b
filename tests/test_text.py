"""Tokens as text: characters whole, stop strings unseen, each text with what is known of it.

Truths: ``bytes.decode``, ``str.find``, and the tokenizer's own ``decode``.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad
from gpt import tokenizer
from gpt.config import GPTConfig
from gpt.generate import generate
from gpt.model import GPT
from gpt.sampling import Sampling
from gpt.text import Completion, Transcript, complete, pieces_of, stream_text, stream_texts

BYTES = tokenizer.BPETokenizer([b"ab", "潮".encode()[:2]])
LETTERS = tokenizer.CharTokenizer("abc \n")


def shown(transcript: Transcript, tokens: list[int]) -> list[str]:
    pieces = ["".join(p.text for p in transcript.feed(token)) for token in tokens]
    return [*pieces, "".join(p.text for p in transcript.end())]


# --- characters -----------------------------------------------------------------------------------


def test_characters_are_shown_whole() -> None:
    tokens = [*"潮a".encode(), *"é".encode(), 0xE6, 0xBD]
    pieces = ["", "", "潮", "a", "", "é", "", "", "�"]
    assert shown(Transcript(BYTES), tokens) == pieces


def test_bytes_that_are_no_character() -> None:
    assert shown(Transcript(BYTES), [0xFF, 0xE6, 0x61]) == ["�", "", "�a", ""]


@given(st.lists(st.one_of(st.integers(0, 258), st.sampled_from([*"潮é😀".encode()]))))
def test_streaming_gives_the_decoded_text(tokens: list[int]) -> None:
    """Any bytes: what is shown in pieces is what is decoded at once."""
    transcript = Transcript(BYTES)
    assert "".join(shown(transcript, tokens)) == BYTES.decode(tokens) == transcript.text


@given(st.text(alphabet="潮é😀aß\u0301 ", max_size=20))
def test_every_character_is_shown_at_its_last_byte(text: str) -> None:
    transcript = Transcript(BYTES)
    for character in text:
        *first, last = character.encode()
        assert [transcript.feed(byte) for byte in first] == [[]] * len(first)
        assert [piece.text for piece in transcript.feed(last)] == [character]


def test_token_bytes() -> None:
    for coder in (BYTES, LETTERS):
        for token in range(coder.n_vocab):
            assert coder.token_bytes(token).decode(errors="replace") == coder.decode([token])
        with pytest.raises(ValueError, match=f"token id {coder.n_vocab} is out of range"):
            coder.token_bytes(coder.n_vocab)


# --- stop strings ---------------------------------------------------------------------------------


def stopped(text: str, stop: list[str]) -> tuple[str, bool]:
    """By definition: the first stop string to be complete, of two the longer."""
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stop if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(
    st.text(alphabet="abc", max_size=12),
    st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    st.data(),
)
def test_stop_strings(text: str, stop: list[str], data: st.DataObject) -> None:
    """Whatever the tokens are that the text is made of; nothing of the stop string is shown."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    words = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]

    class Words:
        def token_bytes(self, token: int) -> bytes:
            return words[token].encode()

    expected, ended = stopped(text, stop)
    transcript = Transcript(Words(), stop)
    seen = ""
    for token in range(len(words)):
        seen += "".join(piece.text for piece in transcript.feed(token))
        assert expected.startswith(seen)
        # what waits could become a stop string, so no more waits than must
        waits = stopped("".join(words[: token + 1]), stop)[0][len(seen) :]
        assert transcript.stopped or not waits or any(s.startswith(waits) for s in stop)
    seen += "".join(piece.text for piece in transcript.end())
    assert (seen, transcript.stopped, transcript.text) == (expected, ended, expected)


def test_a_stop_string_across_tokens() -> None:
    tokens = LETTERS.encode("ab ac b\nca")
    assert shown(Transcript(LETTERS, ["b\nc", "zz"]), tokens) == [
        "a", "", "b ", "a", "c", " ", "", "", "", "", "",
    ]  # fmt: skip
    assert Transcript(LETTERS, []).stopped is False
    with pytest.raises(ValueError, match="a stop string must not be empty"):
        Transcript(LETTERS, ["a", ""])


# --- what is known of a text ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> GPT:
    tensorgrad.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=5, context=8, width=12, layers=2, heads=3))
    with tensorgrad.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.3)
    return model


def test_completions(model: GPT) -> None:
    """Tokens are those of generate; log-probabilities are the model's, place by place."""
    prompts = ["ab", [0, 1, 2], "c b a c b a c"]
    found = complete(model, LETTERS, prompts, 12, seed=3, temperature=0.7, top_k=3, top=2)
    tokens = [LETTERS.encode(p) if isinstance(p, str) else p for p in prompts]
    assert [c.tokens for c in found] == generate(model, tokens, 12, 0.7, 3, seed=3)
    for c, prompt in zip(found, tokens):
        assert c.text == LETTERS.decode(c.tokens)
        assert not c.stopped
        for n, token in enumerate(c.tokens):
            window = [*prompt, *c.tokens[:n]][-8:]
            with tensorgrad.no_grad():
                logprobs = model(tensorgrad.tensor([window]))[0, -1].log_softmax(-1).numpy()
            assert c.logprobs[n] == pytest.approx(logprobs[token], abs=1e-4)
            assert [t for t, _ in c.top[n]] == np.argsort(-logprobs)[:2].tolist()
            assert [p for _, p in c.top[n]] == pytest.approx(np.sort(-logprobs)[:2] * -1, abs=1e-4)


def test_completions_stop(model: GPT) -> None:
    """Each where its own stop string is; all drawn tokens are kept."""
    whole = complete(model, LETTERS, ["a", "b c"], 40, seed=1)
    cut = complete(model, LETTERS, ["a", "b c"], 40, seed=1, stop=["aa", "b "])
    for w, c in zip(whole, cut):
        assert (c.text, c.stopped) == stopped(w.text, ["aa", "b "])
        assert c.tokens == w.tokens[: len(c.tokens)]
        assert LETTERS.decode(c.tokens).startswith(c.text)
    assert any(c.stopped for c in cut)


def test_streamed_text(model: GPT) -> None:
    (whole,) = complete(model, LETTERS, ["ab"], 30, seed=2, top=3)
    pieces = list(stream_text(model, LETTERS, "ab", 30, seed=2, top=3))
    assert [(p.text, p.logprob, p.top) for p in pieces] == list(
        zip(whole.text, whole.logprobs, whole.top)
    )
    assert pieces == pieces_of(LETTERS, whole, [])
    (cut,) = complete(model, LETTERS, ["ab"], 30, seed=2, stop=["a"])
    pieces = list(stream_text(model, LETTERS, "ab", 30, seed=2, stop=["a"]))
    assert "".join(p.text for p in pieces) == cut.text != whole.text


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_several_streams(
    order: tuple[int, ...], model: GPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as if complete had written it, whichever is read first; and that one as it comes."""
    prompts, choice = ["ab", "b c", "c"], {"seed": 3, "top": 2, "stop": ["aa", "b "]}
    wanted = [pieces_of(LETTERS, w, choice["stop"]) for w in complete(
        model, LETTERS, prompts, 40, **choice)]  # fmt: skip
    assert len({len(pieces) for pieces in wanted}) > 1  # they do not end together
    drawn: list[int] = []
    real = Sampling.draw
    monkeypatch.setattr(Sampling, "draw", lambda *given: drawn.append(real(*given)) or drawn[-1])
    texts = stream_texts(model, LETTERS, prompts, 40, **choice)
    assert next(texts[order[0]]) == wanted[order[0]].pop(0)
    assert len(drawn) <= 6  # two steps: a character may wait for its stop string
    for row in order:
        assert list(texts[row]) == wanted[row]


def test_a_character_of_several_tokens_has_their_probability() -> None:
    written = Completion([*"é".encode(), 0x61], "éa", [-1.0, -2.0, -0.5], [[]] * 3, False)
    assert [(p.text, p.logprob) for p in pieces_of(BYTES, written, [])] == [("é", -3), ("a", -0.5)]
