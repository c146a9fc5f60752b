"""A text as tokens in two parts: prepared or in memory, whole, and without a leak between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_run import TEXT, TINY, metrics, trainer

from gpt import checkpoint, corpus, data, sources, tokenizer
from gpt.corpus import INDEX, Facts, load, load_prepared, prepare, tokenise
from gpt.sources import Source
from gpt.train import CHECKPOINT, Trainer

BPE = tokenizer.train_bpe(TEXT, 270)


def all_of(tokens) -> list[int]:
    return tokens[np.arange(len(tokens))].tolist()


def lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps(text) + "\n" for text in texts))
    return path


@pytest.fixture
def made(text: Path, tmp_path: Path) -> Path:
    prepare(Source(text), tmp_path / "made", BPE, "position", size=300)
    return tmp_path / "made"


# ------------------------------------------------------------------------------------ the same text


@pytest.mark.parametrize("piece", [7, 64, sources.PIECE])
@pytest.mark.parametrize("name", ["bpe", "char"])
def test_prepared_is_what_it_was(
    name: str, piece: int, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Split and tokens are those of the whole text, in whatever pieces it is read."""
    monkeypatch.setattr(sources, "PIECE", piece)
    coder = corpus.learn(name, Source(text), 270, "position", 0.1)
    assert coder.to_json() == tokenizer.build(name, TEXT, 270).to_json()
    train, val = data.train_val_split(coder.encode(TEXT))
    prepared = prepare(Source(text), tmp_path / "made", coder, "position", size=100)
    for found in (prepared, load(tmp_path / "made", name, None), load(text, name, 270)):
        assert all_of(found.train) == train.tolist()
        assert all_of(found.val) == val.tolist()
        assert found.tokenizer.to_json() == coder.to_json()
        largest = max(coder.encode(TEXT))
        crc = zlib.crc32(np.array(coder.encode(TEXT), "<u4").tobytes())
        assert found.facts == Facts(1, len(TEXT), len(train) + len(val), largest, crc)
    assert len(prepared.train.shards) > 1


def test_a_run_on_shards_is_a_run_on_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, also when it is resumed."""
    monkeypatch.setattr(Trainer, "_finish", lambda self, result: None)
    constant = {"warmup": 0, "min_lr": TINY.lr}
    trainer(tmp_path / "straight", **constant).run()
    coder = tokenizer.load(tmp_path / "straight" / "tokenizer.json")
    made = tmp_path / "made"
    prepare(Source(tmp_path / "text.txt"), made, coder, "position", size=700)
    shards = {"data": str(made), "tokenizer": "bpe", **constant}  # the default names none
    trainer(tmp_path / "run", **shards, steps=4).run()
    trainer(tmp_path / "run", resume=True, **shards).run()
    times = ("tokens_per_second", "seconds")
    assert metrics(tmp_path / "run", but=times) == metrics(tmp_path / "straight", but=times)
    ours, theirs = (checkpoint.read(tmp_path / d / CHECKPOINT)[1] for d in ("run", "straight"))
    np.testing.assert_equal(ours, theirs)


def test_invalid_bytes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("a\r\nb\rc 潮\U0001f469\u200d\U0001f469 ".encode() + b"\xff\xe6 end\r\n")
    with pytest.raises(ValueError, match="--invalid replace"):
        prepare(Source(path), tmp_path / "made", BPE, "position")
    made = prepare(Source(path, invalid="replace"), tmp_path / "made", BPE, "position", 0.0)
    expected = "a\r\nb\rc 潮\U0001f469\u200d\U0001f469 \ufffd\ufffd end\r\n"
    assert BPE.decode(all_of(made.train)) == expected


# ---------------------------------------------------------------------------------------- the split

DOCUMENT = st.text("ab \n", min_size=1).filter(str.strip)


@settings(max_examples=40)
@given(st.lists(DOCUMENT, min_size=1, max_size=30), st.integers(1, 5))
def test_documents_never_leak(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], copies: int
) -> None:
    """Every document is in one part, its copies in the same, whatever their order."""
    folder = tmp_path_factory.mktemp("documents")
    coder = tokenizer.BPETokenizer([])
    parts: list[dict[str, list[str]]] = []
    for order in (texts * copies, texts[::-1]):
        source = Source(lines(folder / "x.jsonl", order))
        tokens: dict[str, list[int]] = {"train": [], "val": []}
        for part, ids in tokenise(source, coder, "documents", 0.4, Facts()):
            tokens[part] += ids.tolist()
        split = {p: coder.decode(i).split("<|endoftext|>") if i else [] for p, i in tokens.items()}
        assert sorted(split["train"] + split["val"]) == sorted(order)
        assert not set(split["train"]) & set(split["val"])
        parts.append(split)
    assert set(parts[0]["val"]) == set(parts[1]["val"])


def test_a_part_of_the_documents_validates() -> None:
    documents = (sources.Document("", [f"text {i}"]) for i in range(4000))
    drawn = [corpus.part_of(document, 0.25)[0] for document in documents]
    assert abs(drawn.count("val") - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_the_beginning_decides_however_it_is_read() -> None:
    long = [f"{i} " * 5000 for i in range(20)]
    for text in long:
        parts = set()
        for size in (1, 1000, 10**6):
            pieces = [text[i : i + size] for i in range(0, len(text), size)]
            part, again = corpus.part_of(sources.Document("", pieces), 0.5)
            assert "".join(again.pieces) == text
            parts.add(part)
        assert len(parts) == 1


def test_windows_stay_in_their_part(tmp_path: Path) -> None:
    """A text of which each character says where it is: none of the other part is ever drawn."""
    path = tmp_path / "text.txt"
    path.write_text("".join(map(chr, range(0x4E00, 0x4E00 + 500))))
    char = corpus.learn("char", Source(path), None, "position", 0.1)
    made = prepare(Source(path), tmp_path / "made", char, "position", size=64)
    for part, low, high in ((made.train, 0, 450), (made.val, 450, 500)):
        batches = data.Batches(part, context=8, batch_size=4000, seed=0)
        x, y = batches.next()
        assert (x.min(), y.max()) == (low, high - 1)
        x, y = data.windows(part, 8, 1000)
        assert low <= x.min() <= y.max() < high


def test_bpe_does_not_learn_from_what_validates(tmp_path: Path) -> None:
    texts = [f"zq{chr(97 + i)} " * 50 for i in range(26)]
    source = Source(lines(tmp_path / "x.jsonl", texts))
    learnt = corpus.learn("bpe", source, 400, "documents", 0.5)
    assert isinstance(learnt, tokenizer.BPETokenizer)
    for text in texts:
        part, _ = corpus.part_of(sources.Document("", [text]), 0.5)
        assert (text.strip()[:3].encode() in b"".join(learnt.tokens)) == (part == "train")


def test_bpe_learns_from_a_sample(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "SAMPLE", 1000)
    learnt = corpus.learn("bpe", Source(text), 280, "position", 0.1)
    assert learnt.to_json() == tokenizer.train_bpe(TEXT[:1000], 280).to_json()


@pytest.mark.parametrize(
    ("coder", "between"),
    [(BPE, [269]), (tokenizer.CharTokenizer("ab\n"), [0]), (tokenizer.CharTokenizer("ab"), [])],
)
def test_between_documents(coder: tokenizer.Tokenizer, between: list[int], tmp_path: Path) -> None:
    source = Source(lines(tmp_path / "x.jsonl", ["a", "b", "a"]))
    facts = Facts()
    ids = [i for _, ids in tokenise(source, coder, "position", 0.1, facts) for i in ids]
    a, b = coder.encode("a"), coder.encode("b")
    assert ids == [*a, *between, *b, *between, *a]
    assert facts == Facts(3, 3, len(ids), max(ids), facts.crc)


# -------------------------------------------------------------------------------------- the folder


def test_the_folder(made: Path) -> None:
    names = sorted(os.listdir(made))
    assert names[0] == "all-00000.bin"
    assert names[-2:] == ["prepared.json", "tokenizer.json"]
    again = made.with_name("again")
    prepare(Source(made.with_name("text.txt")), again, BPE, "position", size=300)
    for name in names:
        assert (again / name).read_bytes() == (made / name).read_bytes()


def test_all_or_nothing(text: Path, tmp_path: Path) -> None:
    class Stop(BaseException): ...

    def stop(facts: Facts) -> None:
        raise Stop

    with pytest.raises(Stop):
        prepare(Source(text), tmp_path / "made", BPE, "position", progress=stop)
    assert os.listdir(tmp_path) == ["text.txt"]


REFUSED = {
    "no split": ({"split": "thirds"}, "split is 'thirds', but must be position or documents"),
    "all of it": ({"val_fraction": 1.0}, "val_fraction is 1.0, but must be"),
    "nan": ({"val_fraction": float("nan")}, "val_fraction is nan"),
    "empty shards": ({"size": 0}, "shard_tokens is 0"),
    "one document": ({"split": "documents"}, r"none is for (train|val): choose --split position"),
}


@pytest.mark.parametrize(("changes", "complaint"), REFUSED.values(), ids=REFUSED)
def test_refused(changes: dict, complaint: str, text: Path, tmp_path: Path) -> None:
    options = {"split": "position", **changes}
    with pytest.raises(ValueError, match=complaint):
        prepare(Source(text), tmp_path / "made", BPE, **options)
    assert os.listdir(tmp_path) == ["text.txt"]


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        change(index)
        (folder / INDEX).write_text(json.dumps(index))

    return edit


DAMAGE = {
    "cut index": (lambda f: (f / INDEX).write_text("{"), r"prepared\.json is damaged"),
    "no facts": (edited(lambda i: i.pop("facts")), r"prepared\.json is damaged"),
    "list": (lambda f: (f / INDEX).write_text("[]"), r"prepared\.json is damaged"),
    "newer": (edited(lambda i: i.update(version=2)), "has the format 2"),
    "beyond the end": (edited(lambda i: i["parts"]["val"].update(stop=10**6)), "is damaged"),
    "words for numbers": (edited(lambda i: i["parts"]["val"].update(stop="x")), "is damaged"),
    "no shard": (lambda f: (f / "all-00001.bin").unlink(), r"no file .*all-00001\.bin"),
    "cut shard": (
        lambda f: (f / "all-00001.bin").write_bytes((f / "all-00001.bin").read_bytes()[:-2]),
        "prepare the text again",
    ),
    "another tokenizer": (
        lambda f: tokenizer.save(tokenizer.train_bpe(TEXT, 271), f / "tokenizer.json"),
        "was made by another tokenizer",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "is not a tokenizer file"),
}


@pytest.mark.parametrize(("spoil", "complaint"), DAMAGE.values(), ids=DAMAGE)
def test_damage(spoil: Callable[[Path], object], complaint: str, made: Path) -> None:
    load_prepared(made)
    spoil(made)
    with pytest.raises((ValueError, OSError), match=complaint):
        load_prepared(made)


def test_another_tokenizer_than_the_runs(made: Path) -> None:
    assert (
        load(made, "bpe", None, BPE).tokenizer.n_vocab == load(made, "bpe", 270).tokenizer.n_vocab
    )
    with pytest.raises(ValueError, match="with another tokenizer than the run's"):
        load(made, "bpe", None, tokenizer.train_bpe(TEXT, 269))
    with pytest.raises(ValueError, match="with the tokenizer bpe, not char: leave out --tokenizer"):
        load(made, "char", None)
    with pytest.raises(ValueError, match="with 270 tokens, not 300: leave out --vocab-size"):
        load(made, "bpe", 300)


def test_load_of_a_folder_of_text(tmp_path: Path) -> None:
    """Without preparing it, the tokens are the same."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    lines(folder / "b.jsonl", ["one", "two"])
    found = load(folder, "bpe", 270)
    made = prepare(Source(folder), tmp_path / "made", found.tokenizer, "position")
    assert all_of(found.train) == all_of(made.train)
    assert all_of(found.val) == all_of(made.val)
    shutil.rmtree(tmp_path / "made")
    documents = load(lines(tmp_path / "c.jsonl", [f"{i} is" for i in range(99)]), "bpe", 270)
    assert 0 < len(documents.val) < len(documents.train)


# -------------------------------------------------------------------------------------- the memory

PEAK = """
import re, sys
from pathlib import Path
from gpt import corpus, data, tokenizer
from gpt.sources import Source

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

coder = tokenizer.BPETokenizer([b"ab", b"abab", b"abababab"])
for name in ("small", "large"):
    made = corpus.prepare(Source(name + ".txt"), Path(name), coder, "position")
    batches = data.Batches(made.train, 64, 4, seed=0)
    for _ in range(8):
        batches.next()
    print(peak())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_memory_does_not_grow_with_the_text(root: Path, tmp_path: Path) -> None:
    """12 MB on a single line take what 1 MB did, and no more than the tokens that are mapped."""
    line = "abababab" * 15 + "  "
    for name, size in (("small", 10**6), ("large", 12 * 10**6)):
        (tmp_path / f"{name}.txt").write_text(line * (size // len(line)))
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    small, large = map(int, done.stdout.split())
    mapped = (tmp_path / "large" / "all-00000.bin").stat().st_size // 1000
    assert large - small < mapped + 1500  # kilobytes
