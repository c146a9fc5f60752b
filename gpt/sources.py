"""Where text comes from: a file, a folder, JSON lines, gzip; read piece by piece.

No more than a piece of a file is in memory at a time, however long its lines are. Only a line of
``.jsonl`` is read as a whole, because it is one document.
"""

from __future__ import annotations

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import IO

PIECE = 1 << 18  # bytes that are read at a time

GLOBS = ("*.txt", "*.md", "*.jsonl", "*.txt.gz", "*.md.gz", "*.jsonl.gz")

INVALID = ("refuse", "replace")


@dataclass(frozen=True)
class Document:
    """A text that belongs together. Its pieces can be read once, before the next document."""

    name: str
    pieces: Iterable[str]


class Source:
    """The documents of a file or a folder, in an order that depends on the names alone.

    A text file is one document; each line of a ``.jsonl`` file is one, which is its string, or the
    string that its object has under ``field``. Either may be compressed (``.gz``). Of a folder, all
    files below it that match one of ``globs`` are taken, sorted; names that begin with a dot are
    left out, and so are documents that are blank.

    Args:
        path: the file or folder.
        globs: patterns of file names.
        field: where an object of a ``.jsonl`` file has its text.
        invalid: whether bytes that are not UTF-8 are refused or read as U+FFFD ("replace").

    Raises:
        FileNotFoundError: there is no such file, or none in the folder matches.
        ValueError: while reading; one sentence that names the file, the place and the remedy.
    """

    def __init__(
        self,
        path: str | Path,
        globs: Sequence[str] = GLOBS,
        field: str = "text",
        invalid: str = "refuse",
    ) -> None:
        self.path, self.field, self.invalid = Path(path), field, invalid
        if not str(path) or not self.path.exists():
            named = str(path) or "''"
            raise FileNotFoundError(
                f"there is no file {named}: name an existing UTF-8 text file, or a folder of them"
            )
        self.files = _below(self.path, globs) if self.path.is_dir() else [self.path]
        if not self.files:
            raise FileNotFoundError(
                f"the folder {path} has no file that matches {' or '.join(globs)}: name one text "
                "file in it, or prepare it with another --glob"
            )

    def documents(self) -> Iterator[Document]:
        """Every document that is not blank; ValueError if all are."""
        some = False
        for file in self.files:
            for document in self._of(file):
                some = True
                yield document
        if not some:
            raise ValueError(
                f"{self.path} has no text in it: give a file with something to learn from"
            )

    def _of(self, file: Path) -> Iterator[Document]:
        if is_json_lines(file):
            yield from _json_documents(file, self.field, self.invalid)
            return
        pieces = read_pieces(file, self.invalid)
        blank: list[str] = []
        for piece in pieces:
            if piece.strip():
                yield Document(str(file), chain(blank, [piece], pieces))
                return
            blank.append(piece)


def is_json_lines(path: Path) -> bool:
    """Whether each line of a file is a document."""
    return path.name.removesuffix(".gz").endswith(".jsonl")


def read_pieces(path: Path, invalid: str = "refuse") -> Iterator[str]:
    """A UTF-8 file as a row of strings, line ends as they are, without a byte order mark.

    What is binary or, unless ``invalid`` is "replace", not UTF-8 raises ValueError.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace" if invalid == "replace" else "strict")
    done, first = 0, True
    with _opened(path) as file:
        while True:
            raw = file.read(PIECE)
            if (zero := raw.find(b"\0")) >= 0:
                raise ValueError(
                    f"{path} is binary: byte {done + zero} is zero; give plain text in UTF-8"
                )
            waiting = len(decoder.getstate()[0])  # the beginning of a character
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                raise _not_utf8(path, done - waiting, error) from error
            done += len(raw)
            if first and text:
                text, first = text.removeprefix("\N{BYTE ORDER MARK}"), False
            if text:
                yield text
            if not raw:
                return


def _not_utf8(path: Path, start: int, error: UnicodeDecodeError) -> ValueError:
    return ValueError(
        f"{path} is not UTF-8: byte {start + error.start} (0x{error.object[error.start]:02x}) is "
        "out of place; give plain text in UTF-8, or prepare it with --invalid replace"
    )


def _json_documents(path: Path, field: str, invalid: str) -> Iterator[Document]:
    done = 0
    with _opened(path) as file:
        for number, raw in enumerate(file, start=1):
            name = f"{path}, line {number}"
            try:
                line = raw.decode("utf-8", "replace" if invalid == "replace" else "strict")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, done, error) from error
            done += len(raw)
            line = line.removeprefix("\N{BYTE ORDER MARK}") if number == 1 else line
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{name} is not JSON ({error}): each line must be a string, or an object with "
                    f"the text under {field!r}"
                ) from None
            text = value.get(field) if isinstance(value, dict) else value
            if not isinstance(text, str):
                known = f"; it has {', '.join(map(repr, value))}" if isinstance(value, dict) else ""
                raise ValueError(
                    f"{name} has no text under {field!r}{known}: prepare it with another --field"
                )
            if text.strip():
                yield Document(name, [text])


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if it is compressed; ValueError if it is damaged."""
    file: IO[bytes] = gzip.open(path) if path.name.endswith(".gz") else open(path, "rb")  # type: ignore[assignment]  # noqa: SIM115
    with file:
        try:
            yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(
                f"{path} is no gzip file or a damaged one ({error}): compress it again"
            ) from None


def _below(folder: Path, globs: Sequence[str]) -> list[Path]:
    """The files in a folder and its folders whose names match, sorted by their path in it."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(root, name)
            for name in names
            if not name.startswith(".") and any(fnmatch(name, glob) for glob in globs)
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)
