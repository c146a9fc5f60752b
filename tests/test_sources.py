"""Text from files: kinds, order, pieces; and what is no text is refused in a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import sources
from gpt.sources import Source, read_pieces


def texts(path: Path, **options) -> list[str]:
    return ["".join(document.pieces) for document in Source(path, **options).documents()]


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), st.integers(1, 5)
)
def test_pieces_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    """A character that is cut at the end of a piece comes whole in the next."""
    path = tmp_path_factory.getbasetemp() / "text.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE", size)
        assert "".join(read_pieces(path)) == text.removeprefix("\ufeff")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"ab\0", "byte 2 is zero"),
        ("潮".encode() + b"\xff!", r"byte 3 \(0xff\)"),
        (b"abc\xe6\xbd!", r"byte 3 \(0xe6\)"),
        (b"abc \xe6\xbd", r"byte 4 \(0xe6\)"),
    ],
)
def test_the_place_is_the_files(
    raw: bytes, complaint: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the piece in which it was noticed."""
    monkeypatch.setattr(sources, "PIECE", size)
    path = tmp_path / "text.txt"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=complaint):
        list(read_pieces(path))
    if b"\0" not in raw:
        assert "".join(read_pieces(path, "replace")) == raw.decode(errors="replace")


def test_a_folder(tmp_path: Path) -> None:
    """Sorted by name, whatever the order on the disk; no blank, hidden or other files."""
    for name, text in {
        "b.txt": "B\r\n", "a/z.md": "Z", "a.txt": "潮", "a/blank.txt": " \n", "a/empty.txt": "",
        ".hidden.txt": "no", ".git/x.txt": "no", "c.png": "no", "d.py": "pass",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "e.txt.gz").write_bytes(gzip.compress("Ü".encode()))
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n\n"two"\n'))
    assert texts(tmp_path) == ["Z", "潮", "B\r\n", "Ü", "one", "two"]
    assert texts(tmp_path, globs=["*.py"]) == ["pass"]
    source = Source(tmp_path)
    assert [list(d.pieces) for d in source.documents()] == [
        list(d.pieces) for d in source.documents()
    ]


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [{"text": "a\u2028b", "body": "B"}, "\U0001f469\r\n", {"text": " "}, {"text": "x\0"}]
    path.write_text("\ufeff" + "\r\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert texts(path) == ["a\u2028b", "\U0001f469\r\n", "x\0"]
    path.write_text('{"body": "B"}')
    assert texts(path, field="body") == ["B"]
    path.write_bytes(b'"a\xff"')
    assert texts(path, invalid="replace") == ["a\ufffd"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", b'"ok"\n{"text": ', r"a\.jsonl, line 2 is not JSON .*each line"),
        ("a.jsonl", b'"ok"\n{"b": "B"}', "line 2 has no text under 'text'; it has 'b': .*--field"),
        ("a.jsonl", b'{"text": 3}', "line 1 has no text under 'text'"),
        ("a.jsonl", b"[1]", "line 1 has no text under 'text'"),
        ("a.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", b'"ok"\n"\xff"', r"is not UTF-8: byte 6 \(0xff\).*--invalid replace"),
        ("a.jsonl", b"\n \n", "has no text in it"),
        ("a.txt", b" \n", "has no text in it"),
        ("a.txt.gz", b"plain", r"a\.txt\.gz is no gzip file or a damaged one"),
        ("a.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], "is no gzip file or a damaged one"),
        ("a.txt.gz", gzip.compress(b"text\0", mtime=0), "is binary: byte 4 is zero"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "has no text in it"),
        ("a.txt.gz", b"", "has no text in it"),
    ],
)  # fmt: skip
def test_refused(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(ValueError, match=complaint):
            texts(path)


def test_absent(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", ""):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            Source(path)
    with pytest.raises(FileNotFoundError, match=r"has no file that matches \*\.py: .*--glob"):
        Source(tmp_path, globs=["*.py"])
