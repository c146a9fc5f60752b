"""A text that was made into tokens once is not made again, and comes out the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TEXT

from gpt import corpus, text_cache, tokenizer
from gpt.corpus import Corpus, load
from gpt.sources import Document, Source


class Texts(Source):
    """Documents in pieces, of which nobody has a file."""

    def __init__(self, *documents: list[str]) -> None:
        self.texts = documents

    def documents(self):  # type: ignore[no-untyped-def]
        for pieces in self.texts:
            yield Document("a name", iter(pieces))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where short texts are kept, too."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(text_cache, "SHORTEST", 1)
    return tmp_path / "cache" / "tensorgrad"


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What BPE was learnt for."""
    learnt, learn = [], corpus.learn
    monkeypatch.setattr(corpus, "learn", lambda *a: learnt.append(a[0]) or learn(*a))
    return learnt


def not_kept(path: Path) -> Corpus:
    """The corpus as it is where nothing can be kept."""
    coder = tokenizer.train_bpe(path.read_text(), 270)
    return load(path, "bpe", 270, coder)


def same(one: Corpus, other: Corpus) -> None:
    assert one.tokenizer.to_json() == other.tokenizer.to_json()
    assert one.facts == other.facts
    for ours, theirs in ((one.train, other.train), (one.val, other.val)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_second_time(folder: Path, text: Path, learning: list[str]) -> None:
    expected = not_kept(text)
    same(load(text, "bpe", 270), expected)
    assert learning == ["bpe"]
    assert [path.suffix for path in folder.iterdir()] == [""]
    same(load(text, "bpe", 270), expected)
    assert learning == ["bpe"]


def test_default_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is long enough."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = load(None, "bpe", 300)
    monkeypatch.setattr(corpus, "learn", lambda *a: pytest.fail("it is known"))
    same(load(None, "bpe", 300), first)


def test_another_text_or_size(folder: Path, text: Path, learning: list[str]) -> None:
    load(text, "bpe", 270)
    assert load(text, "bpe", 260).tokenizer.n_vocab == 260
    text.write_text(TEXT + "!")
    same(load(text, "bpe", 270), not_kept(text))
    assert len(learning) == len(list(folder.iterdir())) == 3


def test_another_program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Texts([TEXT])
    before = text_cache.place(source, "bpe")
    assert before is not None
    assert before == text_cache.place(Texts([TEXT[:5], TEXT[5:]]), "bpe")
    monkeypatch.setattr(text_cache, "_program", lambda: b"of tomorrow")
    assert text_cache.place(source, "bpe") != before


def test_documents_are_told_apart(folder: Path) -> None:
    texts = Texts(["ab"], ["c"]), Texts(["a"], ["bc"]), Texts(["abc"])
    assert len({text_cache.place(text) for text in texts}) == 3


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _flip(folder / "all-00000.bin"),
        lambda folder: (folder / "all-00000.bin").unlink(),
        lambda folder: (folder / "prepared.json").write_text('{"version": 1}'),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        lambda folder: (folder / "prepared.json").write_bytes(b"\xff"),
    ],
    ids=["a token", "no tokens", "no facts", "no tokenizer", "empty", "no text"],
)
def test_damaged(
    damage: Callable[[Path], object], folder: Path, text: Path, learning: list[str]
) -> None:
    """It is made anew, and kept again."""
    load(text, "bpe", 270)
    damage(*folder.iterdir())
    for _ in range(2):
        same(load(text, "bpe", 270), not_kept(text))
    assert len(learning) == 2


def test_nothing_can_be_written(folder: Path, text: Path) -> None:
    folder.parent.write_text("not a folder")
    same(load(text, "bpe", 270), not_kept(text))
    assert folder.parent.read_text() == "not a folder"


def test_nobody_is_at_home(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("there is no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert text_cache.place(Texts([TEXT * 1000])) is None


def test_what_is_not_kept(folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts and very long ones; characters, and a tokenizer that a run has already."""
    load(text, "char", None)
    load(text, "bpe", 270, tokenizer.train_bpe(TEXT, 260))
    monkeypatch.setattr(text_cache, "SHORTEST", len(TEXT) + 1)
    load(text, "bpe", 270)
    monkeypatch.setattr(text_cache, "SHORTEST", len(TEXT))
    monkeypatch.setattr(text_cache, "LONGEST", len(TEXT) - 1)
    load(text, "bpe", 270)
    assert not folder.exists()
    monkeypatch.setattr(text_cache, "LONGEST", len(TEXT))
    load(text, "bpe", 270)
    assert folder.exists()


def test_a_part_without_documents(folder: Path, tmp_path: Path) -> None:
    """It cannot be prepared, and is read as ever: whether that is enough, others say."""
    path = tmp_path / "one.jsonl"
    path.write_text('{"text": "' + "a text " * 40 + '"}\n')
    found = load(path, "bpe", 270)
    assert sorted((len(found.train), len(found.val)))[0] == 0
    assert not list(folder.iterdir())


def test_the_oldest_make_room(folder: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "MOST", 2)
    kept = []
    for i, size in enumerate((257, 258, 259, 260)):
        load(text, "bpe", size)
        (newest,) = set(folder.iterdir()) - set(kept)
        os.utime(newest, (i, i))
        kept.append(newest)
    assert set(folder.iterdir()) == set(kept[2:])


def test_several_at_once(folder: Path, text: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(text, "bpe", 270), range(4)))
    for each in found:
        same(each, not_kept(text))
    assert len(list(folder.iterdir())) == 1
