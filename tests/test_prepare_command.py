"""``prepare`` and ``tokenizer`` on the command line: what they make, show, and refuse."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from tiny_run import TEXT, Answer, assert_refused, flags, words

from gpt import corpus, tokenizer
from gpt.commands.tokenizer import named
from gpt.train import Trainer


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text, its tokenizer, and files that are none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    (tmp_path / "binary.txt").write_bytes(b"abc\0def")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "bad.jsonl").write_text('{"text": "one"}\n{"text"')
    (tmp_path / "bad.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:-20])
    tokenizer.save(tokenizer.train_bpe(TEXT, 270), tmp_path / "bpe.json")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("tiktoken.load.read_file", lambda path: b"")
    return tmp_path


BAD = {
    "no source": ("prepare --out made", "required: PATH"),
    "no out": ("prepare text.txt", "required: --out"),
    "absent": ("prepare absent.txt --out made", "there is no file absent.txt: name an existing"),
    "an empty name": ("prepare '' --out made", "there is no file ''"),
    "an empty file": ("prepare empty.txt --out made", "empty.txt has no text in it"),
    "an empty folder": ("prepare folder --out made", "has no file that matches .* --glob"),
    "no match": ("prepare . --glob *.rst --out made", r"has no file that matches \*\.rst"),
    "another encoding": ("prepare latin.txt --out made", "byte 3 .0xe9. .*--invalid replace"),
    "binary": ("prepare binary.txt --out made", "binary.txt is binary: byte 3 is zero"),
    "one of many": ("prepare . --glob *.txt --out made", "binary.txt is binary"),
    "no JSON": ("prepare bad.jsonl --out made", r"bad\.jsonl, line 2 is not JSON"),
    "no such field": ("prepare bad.jsonl --field x --out made", "line 1 has no text under 'x'"),
    "damaged gzip": ("prepare bad.txt.gz --out made", r"bad\.txt\.gz is no gzip file or a damaged"),
    "out is there": ("prepare text.txt --out folder", "folder is there already: choose another"),
    "out is a file": ("prepare text.txt --out bpe.json", "bpe.json is there already"),
    "out below a file": (
        "prepare text.txt --out text.txt/made",
        r"cannot write to text\.txt/made .*: choose another --out",
    ),
    "no such tokenizer": ("prepare text.txt --tokenizer gpt5 --out made", "unknown tokenizer"),
    "no such file": ("prepare text.txt --tokenizer x.json --out made", "there is no file x.json"),
    "a text for a tokenizer": (
        "prepare text.txt --tokenizer folder/../bad.json --out made",
        "there is no file",
    ),
    "vocabulary of a file": (
        "prepare text.txt --tokenizer bpe.json --vocab-size 300 --out made",
        "bpe.json has its tokens already: leave out --vocab-size",
    ),
    "vocabulary of characters": (
        "prepare text.txt --tokenizer char --vocab-size 300 --out made",
        "--vocab-size is for bpe: leave it out",
    ),
    "vocabulary too small": ("prepare text.txt --vocab-size 256 --out made", "vocab_size is 256"),
    "a negative one": ("prepare text.txt --vocab-size -1 --out made", "vocab_size is -1"),
    "no such split": (
        "prepare text.txt --split half --out made",
        "invalid choice: 'half'",
    ),
    "split of one": ("prepare text.txt --split documents --out made", "choose --split position"),
    "all validates": ("prepare text.txt --val-fraction 1 --out made", "val_fraction is 1.0"),
    "percent": ("prepare text.txt --val-fraction 10 --out made", "val_fraction is 10.0"),
    "nan": ("prepare text.txt --val-fraction nan --out made", "val_fraction is nan"),
    "empty shards": ("prepare text.txt --shard-tokens 0 --out made", "shard_tokens is 0"),
    "a word": ("prepare text.txt --shard-tokens x --out made", "--shard-tokens: invalid int"),
    "no such choice": ("prepare text.txt --invalid skip --out made", "--invalid: invalid choice"),
    "no action": ("tokenizer", "required: {train,inspect}"),
    "no such action": ("tokenizer learn", "invalid choice: 'learn'"),
    "train on nothing": ("tokenizer train absent.txt --out x.json", "there is no file absent.txt"),
    "train too little": (
        "tokenizer train text.txt --vocab-size 9 --out x.json",
        "is 9, but the",
    ),
    "overwrite": ("tokenizer train text.txt --out bpe.json", "bpe.json is there already"),
    "no folder": ("tokenizer train text.txt --out x/y.json", "there is no folder x: make it"),
    "no tokenizer": ("tokenizer inspect", "required: TOKENIZER"),
    "inspect nothing": ("tokenizer inspect absent.json text", "there is no file absent.json"),
    "inspect a text": ("tokenizer inspect text.txt text", "text.txt is not a tokenizer file"),
    "inspect a folder": ("tokenizer inspect folder text", "there is no tokenizer.json in folder"),
    "inspect a kind": ("tokenizer inspect bpe text", "a tokenizer bpe is made of a text"),
    "inspect a wrong name": ("tokenizer inspect gpt5 text", "unknown tokenizer 'gpt5'"),
    "two texts": ("tokenizer inspect bpe.json text --file text.txt", "are two texts"),
    "no text": ("tokenizer inspect bpe.json --file absent.txt", "there is no file absent.txt"),
    "not UTF-8": ("tokenizer inspect bpe.json --file latin.txt", "latin.txt is not UTF-8"),
}


@pytest.mark.parametrize(("line", "complaint"), BAD.values(), ids=BAD)
def test_bad_input(line: str, complaint: str, here: Path, call: Callable[..., Answer]) -> None:
    assert_refused(call, words(line), complaint, here)


def test_prepare_and_train(
    here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = call("prepare", "text.txt", "--out", "data/made", "--vocab-size", "280")
    assert (code, err) == (0, "")
    assert re.fullmatch(
        rf"1 document of {len(TEXT):,} characters: [\d,]+ tokens \(uint16\) of \d\.\d characters\n"
        r"tokenizer bpe: 280 tokens\n[\d,]+ train, [\d,]+ validate \(split by position\)\n"
        r"wrote data/made: train with --data data/made\n",
        out,
    )
    monkeypatch.setattr(Trainer, "_finish", lambda self, result: None)
    tiny = flags(data="data/made", steps=1, tokenizer="bpe")
    code, out, err = call("train", "--out", "run", *tiny)
    assert (code, err) == (0, "")
    assert "(bpe) from data/made" in out
    assert "vocabulary 280" in call("info", *tiny)[1]
    again = ("train", "--resume", "--out", "run", "--steps", "2")
    assert call(*again)[0] == 0
    call("prepare", "text.txt", "--out", "other", "--vocab-size", "270")
    code, out, err = call(*again, "--data", "other")
    assert code == 2
    assert "prepared with another tokenizer than the run's" in err
    assert "leave out --tokenizer" in call("train", *flags(data="other", tokenizer="char"))[2]
    (here / "other" / "all-00000.bin").write_bytes(b"")
    assert "not a file of tokens" in call("train", *flags(data="other", tokenizer="bpe"))[2]


def test_prepare_documents(here: Path, call: Callable[..., Answer]) -> None:
    lines = (json.dumps({"body": f"{i} is"}) + "\n" for i in range(99))
    (here / "x.jsonl").write_text("".join(lines))
    arguments = ("prepare", "x.jsonl", "--field", "body", "--tokenizer", "bpe.json")
    code, out, _ = call(*arguments, "--out", "made", "--shard-tokens", "50")
    assert code == 0
    assert "99 documents" in out
    assert "split by documents" in out
    assert (here / "made" / "val-00000.bin").exists()
    assert len(corpus.load_prepared("made").train.shards) > 1


def test_prepare_replaces(here: Path, call: Callable[..., Answer]) -> None:
    assert call("prepare", "latin.txt", "--invalid", "replace", "--out", "made")[0] == 0
    made = corpus.load_prepared("made")
    assert made.facts.characters == 500


def test_train_a_tokenizer(here: Path, call: Callable[..., Answer]) -> None:
    arguments = ("tokenizer", "train", "text.txt", "--out")
    assert call(*arguments, "new.json", "--vocab-size", "270")[:2] == (
        0,
        "wrote new.json: 270 tokens\n",
    )
    assert (here / "new.json").read_bytes() == (here / "bpe.json").read_bytes()
    (here / "text.txt").write_text("abc\nabc")
    _, out, _ = call(*arguments, "small.json")
    assert "no pair occurs twice any more: 259 tokens, not 1,024" in out


def test_inspect(here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way the text comes; joined again it is the text."""
    text = "12 times é\n"
    coder = tokenizer.load("bpe.json")
    tokens = [coder.token_bytes(i) for i in coder.encode(text)]
    (here / "some.txt").write_text(text, encoding="utf-8")
    said = f"11 characters, {len(tokens)} tokens of {11 / len(tokens):.1f} characters\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    for rest in ((text,), ("--file", "some.txt"), ()):
        answer = call("tokenizer", "inspect", "bpe.json", *rest)
        assert answer == (0, r"1|2| times| |\xc3|\xa9|\n" + "\n\n", said)
    _, out, _ = call("tokenizer", "inspect", "bpe.json", text, "--ids")
    listed = [line.split(maxsplit=2) for line in out.splitlines()]
    assert [int(i) for i, _, _ in listed] == coder.encode(text)
    assert [int(n) for _, n, _ in listed] == list(map(len, tokens))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"))
    code, _, err = call("tokenizer", "inspect", "bpe.json")
    assert code == 2
    assert re.fullmatch("error: the standard input is no text .*: give UTF-8\n", err)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_inspect_in_colours(
    no_color: str, here: Path, call: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, unless NO_COLOR is set; control characters of the text stay out of it."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, out, _ = call("tokenizer", "inspect", "bpe.json", "1 times\x1b[2J\n2")
    plain = re.sub(r"\x1b\[(0|30;48;5;\d+)m", "", out)
    if no_color:
        assert out == plain
        assert "1| times|\x1b" not in out
    else:
        assert plain == "1 times\ufffd[2J↵\n2\n"
        colours = re.findall(r"48;5;(\d+)m", out)
        assert len(colours) > 5
        assert all(a != b for a, b in pairwise(colours))
        assert not re.search(r"48;5;\d+m[^\x1b]*\n", out)  # none reaches beyond the end of a line


def test_inspect_knows_folders(call: Callable[..., Answer], here: Path) -> None:
    call("prepare", "text.txt", "--out", "made", "--tokenizer", "bpe.json")
    of_folder, of_file = (call("tokenizer", "inspect", x, "12") for x in ("made", "bpe.json"))
    assert of_folder == of_file
    assert named("made").to_json() == named("bpe.json").to_json()
