"""Tokenizers: BPE against a slow one written down here, tiktoken's against their published ids."""

from __future__ import annotations

import json
import random
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import requests
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt import data, tokenizer

TRICKY = (
    "I'll don’t 'x' a\r\n\t b  c 潮の音。 नमस्ते e\u0301 👩\u200d👩\u200d👧 1234567 ½ …--> "
    "<|endoftext|> \x00\x1c\x85\xa0"
)

# Few characters, so that merges are long and collide; and all of Unicode. Unassigned characters
# are left out where pieces are compared, because engines differ in how new their Unicode is.
REPETITIVE = st.text("ab '\n1潮", max_size=60)
ASSIGNED = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken finds no network, and nothing that another test has loaded."""

    def fail(path: str) -> bytes:
        raise requests.exceptions.ConnectionError(path)

    monkeypatch.setattr("tiktoken.load.read_file", fail)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})


# --------------------------------------------------------------------------------- the reference


def kind(character: str) -> str:
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f":  # Unicode's White_Space
        return "space"
    category = unicodedata.category(character)[0]
    return {"L": "word", "M": "word", "N": "number"}.get(category, "symbol")


def pieces(text: str) -> list[str]:
    """What the pattern says, without a regular expression."""
    found, start = [], 0
    while start < len(text):
        first = start
        if text[first] == " " and first + 1 < len(text) and kind(text[first + 1]) != "space":
            first += 1
        end, what = first + 1, kind(text[first])

        def more(position: int, what: str = what) -> bool:
            return position < len(text) and kind(text[position]) == what

        while more(end) and not (what == "number" and end == first + 3):
            end += 1
        while what == "word" and text[end : end + 1] in ("'", "’") and more(end + 1):
            end += 1
            while more(end):
                end += 1
        found.append(text[start:end])
        start = end
    return found


def merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged = []
    while ids:
        taken = 2 if tuple(ids[:2]) == pair else 1
        merged.append(new if taken == 2 else ids[0])
        ids = ids[taken:]
    return merged


def reference_train(text: str, vocab_size: int) -> list[tuple[int, int]]:
    """The pairs to merge, in order: count everything afresh after every merge."""
    words = [list(piece.encode()) for piece in pieces(text)]
    merges: list[tuple[int, int]] = []
    while 257 + len(merges) < vocab_size:
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        words = [merge(word, best, 256 + len(merges)) for word in words]
        merges.append(best)
    return merges


def reference_encode(merges: list[tuple[int, int]], text: str) -> list[int]:
    """Every merge in its turn, wherever it applies, as Sennrich et al. describe it."""
    ids = []
    for piece in pieces(text):
        word = list(piece.encode())
        for new, pair in enumerate(merges, start=256):
            word = merge(word, pair, new)
        ids += word
    return ids


def reference_tokens(merges: list[tuple[int, int]]) -> list[bytes]:
    tokens = [bytes([byte]) for byte in range(256)]
    for first, second in merges:
        tokens.append(tokens[first] + tokens[second])
    return tokens[256:]


# -------------------------------------------------------------------------------------------- bpe


@pytest.fixture(scope="module")
def corpus() -> str:
    return data.default_corpus()


@pytest.fixture(scope="module")
def bpe(corpus: str) -> tokenizer.BPETokenizer:
    return tokenizer.train_bpe(corpus)


@settings(max_examples=150)
@given(st.one_of(REPETITIVE, ASSIGNED), st.one_of(REPETITIVE, ASSIGNED))
@example("aaaaaaa aaaa aaa aa", "aaaaaa aaaaa")
@example("abababab bababa", "babab abab")
@example("l’e\u0301e\u0301 rock'n'roll " * 3, "l’e\u0301e\u0301 rock'n'roll")
@example(TRICKY * 2, TRICKY)
def test_bpe_is_the_reference(text: str, probe: str) -> None:
    merges = reference_train(text, 300)
    trained = tokenizer.train_bpe(text, 300)
    assert trained.tokens == reference_tokens(merges)
    for tested in (text, probe, text + probe):
        assert trained.encode(tested) == reference_encode(merges, tested)


def test_bpe_is_the_reference_on_prose(corpus: str) -> None:
    text = corpus[:8000]
    merges = reference_train(text, 330)
    trained = tokenizer.train_bpe(text, 330)
    assert trained.tokens == reference_tokens(merges)
    assert trained.encode(corpus[8000:12000]) == reference_encode(merges, corpus[8000:12000])


@settings(max_examples=200)
@given(ANY)
@example(TRICKY)
@example("")
def test_bpe_round_trip(bpe: tokenizer.BPETokenizer, text: str) -> None:
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert all(0 <= i < 1023 for i in ids)


def test_bpe_of_the_default_corpus(bpe: tokenizer.BPETokenizer, corpus: str) -> None:
    assert bpe.n_vocab == 1024
    ids = bpe.encode(corpus)
    assert bpe.decode(ids) == corpus
    assert 2.5 < len(corpus) / len(ids) < 4
    assert bpe.encode(" the") == [256 + bpe.tokens.index(b" the")]


def test_published_example() -> None:
    """The corpus of algorithm 1 in Sennrich et al., 2016, without their end-of-word symbol."""
    words = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    assert tokenizer.train_bpe("\n".join(words), 260).tokens == [b"es", b"est", b"lo"]


def test_ties_go_to_the_smallest_ids() -> None:
    assert tokenizer.train_bpe("zy zy ab ab", 260).tokens[0] == b" a"
    assert tokenizer.train_bpe("zy\nzy\nab\nab", 259).tokens == [b"ab", b"zy"]


def test_lone_surrogates() -> None:
    """They have no UTF-8, and can come from file names; nothing raises."""
    trained = tokenizer.train_bpe("a\ud800 " * 5, 260)
    assert trained.decode(trained.encode("a\ud800b")) == "a\ufffdb"


def test_words_keep_their_apostrophes_and_marks() -> None:
    """The splitter above is written from the pattern; this is written from intention."""
    text = "don't 'quote'  x=12345\n\nl’e\u0301te\u0301 rock'n'roll"
    expected = ["don't", " '", "quote", "'", "  ", "x", "=", "123", "45", "\n\n"]
    assert pieces(text) == [*expected, "l’e\u0301te\u0301", " rock'n'roll"]


def test_small_text_stops_early() -> None:
    assert tokenizer.train_bpe("", 1024).n_vocab == 257
    assert tokenizer.train_bpe("abc", 1024).n_vocab == 257
    assert tokenizer.train_bpe("abc\nabc", 1024).n_vocab == 259  # ab, abc


def test_smallest_vocabulary() -> None:
    smallest = tokenizer.train_bpe("aaaa", 257)
    assert smallest.n_vocab == 257
    assert smallest.encode("é") == [0xC3, 0xA9]
    with pytest.raises(ValueError, match=r"vocab_size is 256, .* alone make 257"):
        tokenizer.train_bpe("aaaa", 256)


def test_progress() -> None:
    calls: list[tuple[int, int]] = []
    tokenizer.train_bpe("abab\nabab", 300, progress=lambda *call: calls.append(call))
    assert calls == [(258, 300), (259, 300)]  # ab, abab


def test_a_word_is_visited_once_a_merge() -> None:
    """However often a pair is in it: a genome is one word. Else a merge took a second."""
    genome = "".join(random.Random(0).choices("acgt", k=100_000))
    began = time.thread_time()
    tokenizer.train_bpe(genome, 297)
    assert time.thread_time() - began < 2


@pytest.mark.parametrize("letters", ["ab Zé'’\u0301\n\x1c\x85\u3000]^-\\[09٣²ⅷ一😀𝒜_.,!", ""])
def test_words_are_those_of_the_pattern(letters: str) -> None:
    """By the standard library as by ``regex``, which has the last word on what a letter is."""
    letters = letters or "".join(chr(i) for i in range(3000))  # too many for a table
    rng = random.Random(0)
    for length in [*range(40), 2000]:
        text = "".join(rng.choices(letters, k=length))
        assert tokenizer._words(text).findall(text) == regex.findall(tokenizer.PATTERN, text)


@pytest.mark.parametrize("unit", ["a", " ", "=", "\n", "'a", "潮", "1"])
def test_long_runs(bpe: tokenizer.BPETokenizer, unit: str) -> None:
    """Patterns that backtrack overflow tiktoken's stack on these."""
    text = unit * 300_000
    assert bpe.decode(bpe.encode(text)) == text


def test_end_of_text_is_the_last_id(bpe: tokenizer.BPETokenizer) -> None:
    """It has an id of its own, which its name in a text does not get."""
    assert bpe.decode([1023]) == tokenizer.END_OF_TEXT == "<|endoftext|>"
    ids = bpe.encode("a<|endoftext|>b")
    assert 1023 not in ids
    assert bpe.decode(ids) == "a<|endoftext|>b"


def test_bpe_decode(bpe: tokenizer.BPETokenizer) -> None:
    assert bpe.decode([]) == ""
    assert bpe.decode(np.array([72, 105])) == "Hi"
    assert bpe.decode(iter([0xE6, 0xBD, 72])) == "\ufffdH"  # the beginning of 潮
    for wrong in (-1, 1024, 2**40):
        with pytest.raises(ValueError, match=rf"token id {wrong} .* 0 to 1023$"):
            bpe.decode([72, wrong])


@pytest.mark.parametrize("tokens", [[b"a"], [b""], [b"ab", b"ab"]])
def test_bpe_tokens_are_checked(tokens: list[bytes]) -> None:
    with pytest.raises(ValueError, match="distinct and at least two bytes"):
        tokenizer.BPETokenizer(tokens)


# ------------------------------------------------------------------------------------------- ranks


def encode_by_ranks(text: str, encoding: tiktoken.Encoding) -> list[int]:
    """What tiktoken promises: within a piece, the pair of the lowest rank is merged first."""
    ids: list[int] = []
    for piece in regex.findall(encoding._pat_str, text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while len(parts) > 1:
            ranks = [encoding._mergeable_ranks.get(a + b) for a, b in pairwise(parts)]
            best = min((rank for rank in ranks if rank is not None), default=None)
            if best is None:
                break
            at = ranks.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [encoding._mergeable_ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module", params=["bpe", "cl100k_base", "r50k_base"])
def ranked(request: pytest.FixtureRequest, bpe: tokenizer.BPETokenizer) -> tokenizer.Tokenizer:
    if request.param == "bpe":
        return bpe
    shared = request.getfixturevalue("shared") / "tiktoken"
    if not shared.is_dir():
        pytest.skip("the shared data have no tiktoken tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(shared))
        return tokenizer.TiktokenTokenizer(request.param)


WORDS = st.lists(
    st.sampled_from(["the", " statement", "潮の音", "don't", "\r\n", " \t", "👩\u200d👩", "."])
)


@settings(max_examples=150)
@given(st.one_of(ASSIGNED, REPETITIVE, WORDS.map("".join)))
@example(TRICKY)
def test_the_ranks_decide(ranked: tokenizer.Tokenizer, text: str) -> None:
    ids = ranked.encode(text)
    assert ids == encode_by_ranks(text, ranked.encoding)
    assert ranked.decode(ids) == text


@settings(max_examples=150)
@given(ANY)
def test_ranked_round_trip(ranked: tokenizer.Tokenizer, text: str) -> None:
    ids = ranked.encode(text)
    assert ranked.decode(ids) == text
    assert b"".join(map(ranked.token_bytes, ids)) == text.encode()


@given(st.binary(max_size=40), st.lists(st.integers(0, 1023)))
def test_bytes_that_are_no_text(
    bpe: tokenizer.BPETokenizer, content: bytes, ids: list[int]
) -> None:
    """A model may write any ids: their bytes are exact, and as text the broken ones U+FFFD."""
    assert b"".join(map(bpe.token_bytes, content)) == content
    assert bpe.decode(content) == content.decode(errors="replace")
    written = b"".join(map(bpe.token_bytes, ids))
    assert bpe.decode(ids) == written.decode(errors="replace")


# ------------------------------------------------------------------------------------------- char


@given(ANY.filter(bool))
def test_char_round_trip(text: str) -> None:
    char = tokenizer.CharTokenizer(text)
    ids = char.encode(text)
    assert char.decode(ids) == text
    assert char.n_vocab == len(set(text))
    assert sorted(set(zip(ids, text))) == list(enumerate(sorted(set(text))))


def test_char_refuses() -> None:
    char = tokenizer.CharTokenizer("abc")
    with pytest.raises(ValueError, match=r"'é' \(U\+00E9\) is not among the 3"):
        char.encode("abécd")
    with pytest.raises(ValueError, match=r"token id 3 .* 0 to 2$"):
        char.decode([0, 3])
    with pytest.raises(ValueError, match=r"token id -1 "):
        char.decode([-1])
    with pytest.raises(ValueError, match="at least one character"):
        tokenizer.CharTokenizer("")


# --------------------------------------------------------------------------------------- tiktoken


@pytest.mark.usefixtures("tiktoken_cache")
def test_cl100k() -> None:
    cl100k = tokenizer.TiktokenTokenizer("cl100k_base")
    assert cl100k.n_vocab == 100_277
    assert cl100k.encode("hello world") == [15339, 1917]
    assert cl100k.decode(cl100k.encode(TRICKY)) == TRICKY
    assert cl100k.decode([100_257]) == "<|endoftext|>"
    assert cl100k.decode([15339, 100_270, 1917]) == "hello\ufffd world"  # unassigned
    with pytest.raises(ValueError, match=r"token id 100277 "):
        cl100k.decode([100_277])


@pytest.mark.usefixtures("tiktoken_cache")
def test_textbook(shared_file: Callable[[str], Path]) -> None:
    text = data.read_text(shared_file("data/sales_textbook.txt"))
    ids = tokenizer.TiktokenTokenizer("cl100k_base").encode(text)
    assert (len(text), len(ids), len(set(ids)), max(ids)) == (460_319, 77_919, 3_771, 100_069)


@pytest.mark.usefixtures("tiktoken_cache")
@pytest.mark.parametrize("name", ["gpt2", "r50k_base"])
def test_gpt2(name: str) -> None:
    """The shared data have r50k_base only: it stands in for gpt2."""
    gpt2 = tokenizer.TiktokenTokenizer(name)
    assert gpt2.n_vocab == 50_257
    assert gpt2.encode("Hello world") == [15496, 995]
    assert gpt2.decode([50_256]) == "<|endoftext|>"
    assert gpt2.to_json() == {"tokenizer": name}


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"unknown tokenizer 'gpt5': .*bpe, char, .*cl100k_base"):
        tokenizer.build("gpt5", "text")


@pytest.mark.parametrize("name", ["gpt2", "o200k_base"])
def test_no_network(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match=rf"'{name}' .*TIKTOKEN_CACHE_DIR.*--tokenizer bpe") as e:
        tokenizer.TiktokenTokenizer(name)
    assert isinstance(e.value.__cause__, requests.exceptions.ConnectionError)


def test_damaged_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hotel's login page, say."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.load.read_file", lambda path: b"<html>")
    with pytest.raises(RuntimeError, match="cannot get the rank file"):
        tokenizer.TiktokenTokenizer("o200k_base")


# -------------------------------------------------------------------------------- build, save, load


def test_build(corpus: str) -> None:
    bpe = tokenizer.build("bpe", corpus[:20_000], vocab_size=300)
    assert (type(bpe), bpe.name, bpe.n_vocab) == (tokenizer.BPETokenizer, "bpe", 300)
    char = tokenizer.build("char", "banana", vocab_size=300)
    assert (type(char), char.name, char.n_vocab) == (tokenizer.CharTokenizer, "char", 3)


@pytest.mark.usefixtures("tiktoken_cache")
def test_build_tiktoken() -> None:
    r50k = tokenizer.build("r50k_base", "text")
    assert (type(r50k), r50k.name) == (tokenizer.TiktokenTokenizer, "r50k_base")


def test_save_bpe(bpe: tokenizer.BPETokenizer, tmp_path: Path) -> None:
    tokenizer.save(bpe, tmp_path / "bpe.json")
    loaded = tokenizer.load(tmp_path / "bpe.json")
    assert isinstance(loaded, tokenizer.BPETokenizer)
    assert (loaded.tokens, loaded.pattern, loaded.n_vocab) == (bpe.tokens, bpe.pattern, 1024)
    assert loaded.encode(TRICKY) == bpe.encode(TRICKY)
    assert '\n" the",\n' in (tmp_path / "bpe.json").read_text()  # for people to read


def test_save_keeps_the_pattern(tmp_path: Path) -> None:
    """A later version may split differently; what was saved goes on as it was."""
    whole = tokenizer.BPETokenizer([b"a ", b"a b"], pattern=r"(?s).+")
    assert whole.encode("a b") == [257]
    assert tokenizer.from_json(whole.to_json()).encode("a b") == [257]


@given(ANY)
def test_json_bpe(text: str) -> None:
    trained = tokenizer.train_bpe(text * 2, 270)
    loaded = tokenizer.from_json(json.loads(json.dumps(trained.to_json())))
    assert loaded.n_vocab == trained.n_vocab
    assert loaded.encode(text) == trained.encode(text)


@pytest.mark.parametrize("characters", ["banana", TRICKY, "a\ud800"])
def test_save_char(characters: str, tmp_path: Path) -> None:
    char = tokenizer.CharTokenizer(characters)
    tokenizer.save(char, tmp_path / "char.json")
    assert tokenizer.load(tmp_path / "char.json").encode(characters) == char.encode(characters)


@pytest.mark.usefixtures("tiktoken_cache")
def test_save_tiktoken(tmp_path: Path) -> None:
    tokenizer.save(tokenizer.TiktokenTokenizer("r50k_base"), tmp_path / "r50k.json")
    assert tokenizer.load(tmp_path / "r50k.json").encode("Hello world") == [15496, 995]


FOREIGN = {
    "empty": b"",
    "binary": b"\xff\x00",
    "cut off": b'{"tokenizer": "char", "chara',
    "list": b"[]",
    "other object": b'{"vocab": {}}',
    "unknown": b'{"tokenizer": "gpt5"}',
    "bpe without tokens": b'{"tokenizer": "bpe", "pattern": "a"}',
    "tokens of numbers": b'{"tokenizer": "bpe", "pattern": "a", "tokens": [1]}',
    "token of no bytes": '{"tokenizer": "bpe", "pattern": "a", "tokens": ["潮"]}'.encode(),
    "token twice": b'{"tokenizer": "bpe", "pattern": "a", "tokens": ["ab", "ab"]}',
    "broken pattern": b'{"tokenizer": "bpe", "pattern": "(", "tokens": []}',
    "no characters": b'{"tokenizer": "char", "characters": ""}',
    "characters of numbers": b'{"tokenizer": "char", "characters": [1]}',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_load_refuses(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.json is not a tokenizer file: "):
        tokenizer.load(path)


@pytest.mark.parametrize("token", ["潮", 1])
def test_from_json_says_what_a_token_is(token: object) -> None:
    with pytest.raises(ValueError, match="text of Latin-1 characters"):
        tokenizer.from_json({"tokenizer": "bpe", "pattern": "a", "tokens": [token]})
