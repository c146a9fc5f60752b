"""Text, split and batches."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import data

# ------------------------------------------------------------------------------------------- text


def test_default_corpus() -> None:
    from pydoc_data.topics import topics

    corpus = data.default_corpus()
    assert 400_000 < len(corpus) < 700_000
    assert len(corpus) == sum(map(len, topics.values())) + 2 * (len(topics) - 1)
    position = 0
    for _, text in sorted(topics.items()):
        position = corpus.index(text, position) + len(text)
    assert position == len(corpus)


def test_default_corpus_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order a Python's own file has."""
    monkeypatch.setattr("pydoc_data.topics.topics", {"b": "2\n", "a": "1\n"})
    assert data.default_corpus() == "1\n\n\n2\n"


def test_python_without_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(RuntimeError, match="name a text file instead"):
        data.default_corpus()


def test_read_text_keeps_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("a\r\nb\rc\n\u2028潮 ".encode())
    assert data.read_text(path) == data.read_text(str(path)) == "a\r\nb\rc\n\u2028潮 "


def test_read_text_drops_the_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("text", encoding="utf-8-sig")
    assert data.read_text(path) == "text"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "has no text in it"),
        (b" \r\n\t\n", "has no text in it"),
        (b"abc\0def", "byte 3 is zero"),
        (b"\xff\xfeh\0i\0", "byte 3 is zero"),  # UTF-16
        (b"caf\xe9!", r"byte 3 \(0xe9\)"),  # Latin-1
        (b"text \xe6\xbd", r"byte 5 \(0xe6\)"),  # cut off within a character
    ],
)
def test_read_text_refuses(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"text\.txt .*{complaint}"):
        data.read_text(path)


def test_read_text_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.txt"):
        data.read_text(tmp_path / "absent.txt")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        data.read_text(tmp_path)


# ------------------------------------------------------------------------------------------ split


@given(st.integers(0, 10_000))
def test_split_is_nanogpts(n: int) -> None:
    ids = np.arange(n)
    train, val = data.train_val_split(ids)
    assert train.tolist() == ids[: int(n * 0.9)].tolist()
    assert val.tolist() == ids[int(n * 0.9) :].tolist()


def test_split_fraction() -> None:
    assert [len(part) for part in data.train_val_split([1] * 8, val_fraction=0.25)] == [6, 2]
    assert [len(part) for part in data.train_val_split([1] * 8, val_fraction=0)] == [8, 0]
    for wrong in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="val_fraction is"):
            data.train_val_split([1] * 8, val_fraction=wrong)


# ---------------------------------------------------------------------------------------- batches


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**64))
def test_batches_are_windows(context: int, batch_size: int, extra: int, seed: int) -> None:
    n = context + extra
    ids = np.random.default_rng(0).permutation(n)
    where = np.argsort(ids)  # where[token] is its place in the text
    x, y = data.Batches(ids, context, batch_size, seed).next()
    assert x.dtype == y.dtype == np.int64
    assert x.shape == y.shape == (batch_size, context)
    starts = where[x[:, :1]]
    assert (where[x] == starts + np.arange(context)).all()
    assert (where[y] == where[x] + 1).all()


def test_all_windows_are_as_likely() -> None:
    """The first and the last token included: 10 windows of 4 in 14 tokens, within 5 sigma."""
    x, y = data.Batches(range(14), context=4, batch_size=10_000, seed=0).next()
    counts = np.bincount(x[:, 0])
    assert len(counts) == 10
    assert abs(counts - 1000).max() < 5 * np.sqrt(10_000 * 0.1 * 0.9)
    assert y.max() == 13


@pytest.mark.parametrize(
    ("largest", "dtype"),
    [(1, np.uint16), (2**16 - 1, np.uint16), (2**16, np.uint32), (2**32 - 1, np.uint32)],
)
def test_tokens_are_stored_small(largest: int, dtype: type) -> None:
    batches = data.Batches([0, largest], context=1, batch_size=1, seed=0)
    assert batches.tokens.dtype == dtype
    x, y = batches.next()
    assert (x.item(), y.item()) == (0, largest)


def test_seed_decides() -> None:
    def draw(seed: int) -> np.ndarray:
        batches = data.Batches(range(1000), context=4, batch_size=8, seed=seed)
        return np.stack([next(batches)[0] for _ in range(5)])

    first = draw(0)
    np.random.seed(0)  # noqa: NPY002 (another generator's seed does not matter)
    assert (draw(0) == first).all()
    assert (draw(1) != first).any()
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize("drawn", [0, 1, 7])
def test_resume_is_exact(drawn: int) -> None:
    batches = data.Batches(range(1000), context=4, batch_size=3, seed=1)
    for _ in range(drawn):
        batches.next()
    state = json.loads(json.dumps(batches.state_dict()))
    expected = [batches.next() for _ in range(5)]
    resumed = data.Batches(range(1000), context=4, batch_size=3, seed=2)
    resumed.load_state_dict(state)
    np.testing.assert_array_equal([resumed.next() for _ in range(5)], expected)


def test_several_batches_are_those_that_come_one_by_one() -> None:
    one, several = (data.Batches(range(5000), context=3, batch_size=5, seed=7) for _ in range(2))
    for count in (1, 2, 7):
        pairs = zip(*(one.next() for _ in range(count)))
        np.testing.assert_equal(several.next(count), tuple(map(np.concatenate, pairs)))
        assert one.state_dict() == several.state_dict()


def test_batches_iterate() -> None:
    batches = data.Batches(range(100), context=4, batch_size=2, seed=0)
    drawn = [x for (x, _), _ in zip(batches, range(3))]
    again = data.Batches(range(100), context=4, batch_size=2, seed=0)
    np.testing.assert_array_equal(drawn, [again.next()[0] for _ in range(3)])


def test_text_too_short() -> None:
    x, y = data.Batches(range(9), context=8, batch_size=2, seed=0).next()  # just enough
    assert (x == np.arange(8)).all()
    assert (y == np.arange(1, 9)).all()
    message = r"a context of 8 needs at least 9 tokens, .* has 8: give a shorter --context or more"
    with pytest.raises(ValueError, match=message):
        data.Batches(range(8), context=8, batch_size=2, seed=0)
    with pytest.raises(ValueError, match="has 0:"):
        data.Batches([], context=1, batch_size=1, seed=0)


def test_wrong_batches() -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        data.Batches(range(9), context=0, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="must be at least 1"):
        data.Batches(range(9), context=1, batch_size=0, seed=0)
    with pytest.raises(ValueError, match="token ids must be integers"):
        data.Batches([3, -1], context=1, batch_size=1, seed=0)
    with pytest.raises(ValueError, match="token ids must be integers"):
        data.Batches(np.array([0.5, 1.5]), context=1, batch_size=1, seed=0)
