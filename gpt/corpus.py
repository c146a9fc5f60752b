"""What a run learns from: a text made into tokens, in a part to train on and one to validate on.

The two parts share no token, and a window lies within one of them. Split by ``position``, the end
of the text validates; split by ``documents``, a document's first characters decide on its part, so
that a document that occurs twice is never in both.

``prepare`` writes the tokens to a folder once, and ``load`` reads that folder, or makes the same
tokens of a text in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import text_cache, tokenizer
from .data import default_corpus, train_val_split
from .shards import SHARD, ShardWriter, Tokens, dtype_for, fingerprint, open_shard
from .sources import Document, Source, is_json_lines
from .stream import encoded, separated
from .tokenizer import Tokenizer

INDEX, CODER, VERSION = "prepared.json", "tokenizer.json", 1
SPLITS = ("position", "documents")
VAL_FRACTION = 0.1
SAMPLE = 10_000_000  # characters that BPE learns from, at most
HEAD = 4096  # characters of a document that decide on its part


@dataclass
class Facts:
    """What was counted while a text became tokens.

    ``tokens`` has those between documents too; ``crc`` is zlib's CRC-32 of all of them as uint32.
    """

    documents: int = 0
    characters: int = 0
    tokens: int = 0
    largest: int = 0
    crc: int = 0


@dataclass
class Corpus:
    """Tokens to train and to validate on, what made them and what they are of."""

    tokenizer: Tokenizer
    train: Any  # an array or Tokens
    val: Any
    facts: Facts


# --- a text into tokens ---------------------------------------------------------------------------


def default_split(path: Path) -> str:
    """``documents`` for lines of JSON, which are many, and ``position`` for anything else."""
    return "documents" if is_json_lines(path) else "position"


def part_of(document: Document, val_fraction: float) -> tuple[str, Document]:
    """The part that a document belongs to, by its first characters; and it, once more."""
    pieces = iter(document.pieces)
    head = ""
    while len(head) < HEAD and (piece := next(pieces, "")):
        head += piece
    digest = hashlib.sha256(head[:HEAD].encode(errors="surrogatepass")).digest()
    drawn = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    part = "val" if drawn < val_fraction else "train"
    return part, Document(document.name, chain([head], pieces))


def _parts(source: Source, split: str, val_fraction: float) -> Iterator[tuple[str, Document]]:
    for document in source.documents():
        yield part_of(document, val_fraction) if split == "documents" else ("all", document)


def learn(
    name: str,
    source: Source,
    vocab_size: int | None,
    split: str,
    val_fraction: float,
    progress: Callable[[int, int], None] | None = None,
) -> Tokenizer:
    """The tokenizer called ``name``, as ``tokenizer.build`` makes it, of the text of a source.

    "bpe" learns from the first ``SAMPLE`` characters of it, and never from documents that validate.
    "char" has to know every character.
    """
    if name == "char":
        characters: set[str] = set()
        for document in source.documents():
            for piece in document.pieces:
                characters.update(piece)
        return tokenizer.CharTokenizer("".join(characters))
    if name != "bpe":
        return tokenizer.build(name, "")
    left = SAMPLE

    def sample() -> Iterator[str]:
        nonlocal left
        for part, document in _parts(source, split, val_fraction):
            if part == "val":
                continue
            for piece in separated(document.pieces, tokenizer.BPETokenizer([])):
                yield piece[:left]
                left -= len(piece)
                if left <= 0:
                    return

    return tokenizer.train_bpe(sample(), 1024 if vocab_size is None else vocab_size, progress)


def tokenise(
    source: Source, coder: Tokenizer, split: str, val_fraction: float, facts: Facts
) -> Iterator[tuple[str, npt.NDArray[np.uint32]]]:
    """The tokens of a source in order, each array with its part; what there was goes to ``facts``.

    Parts are "train" and "val", or "all" where the position decides. Between two documents of a
    part stands the end-of-text token, or for characters a line break if they have one.
    """
    between = np.array(_between(coder), np.uint32)
    begun: set[str] = set()
    for part, document in _parts(source, split, val_fraction):
        arrays = encoded(_counted(document, facts), coder)
        for ids in chain([between] if part in begun else [], arrays):
            facts.tokens += len(ids)
            facts.crc = zlib.crc32(ids.astype("<u4").data, facts.crc)
            facts.largest = max(facts.largest, int(ids.max(initial=0)))
            yield part, ids
        begun.add(part)
        facts.documents += 1


def _counted(document: Document, facts: Facts) -> Iterator[str]:
    for piece in document.pieces:
        facts.characters += len(piece)
        yield piece


def _between(coder: Tokenizer) -> list[int]:
    if coder.end_of_text is not None:
        return [coder.end_of_text]
    try:
        return coder.encode("\n")
    except ValueError:
        return []


# --- a folder of them -----------------------------------------------------------------------------


def prepare(
    source: Source,
    out: Path,
    coder: Tokenizer,
    split: str,
    val_fraction: float = VAL_FRACTION,
    size: int = SHARD,
    progress: Callable[[Facts], object] = lambda facts: None,
) -> Corpus:
    """Write the tokens of a source to the new folder ``out``, and load it.

    The folder appears when it is complete. What is in memory at a time does not grow with the text.

    Raises:
        FileExistsError: ``out`` exists.
        OSError, ValueError: the source cannot be read or the folder not written.
    """
    check(out, split, val_fraction, size)
    unfinished = out.with_name(f"{out.name}.{secrets.token_hex(4)}.tmp")
    writers: dict[str, ShardWriter] = {}
    try:
        try:
            unfinished.mkdir(parents=True)
        except OSError as error:
            raise OSError(
                f"cannot write to {out} ({error.strerror or error}): choose another --out"
            ) from None
        maker, facts = fingerprint(coder), Facts()
        for part in ("all",) if split == "position" else ("train", "val"):
            writers[part] = ShardWriter(unfinished, part, coder.n_vocab, maker, size)
        for part, ids in tokenise(source, coder, split, val_fraction, facts):
            writers[part].write(ids)
            progress(facts)
        for part, writer in writers.items():
            writer.close()
            if not writer.tokens and (part == "train" or val_fraction):
                raise ValueError(
                    f"of {facts.documents} documents none is for {part}: choose --split position, "
                    "or another --val-fraction"
                )
        tokenizer.save(coder, unfinished / CODER)
        index = {
            "version": VERSION,
            "split": split,
            "val_fraction": val_fraction,
            "facts": asdict(facts),
            "parts": {part: _described(part, writers, val_fraction) for part in ("train", "val")},
        }
        (unfinished / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        unfinished.rename(out)
    except BaseException:  # Ctrl-C included
        for writer in writers.values():
            writer.abandon()
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return load_prepared(out)


def _described(part: str, writers: dict[str, ShardWriter], val_fraction: float) -> dict[str, Any]:
    """Where a part is: its shards, and the first of their tokens that is in it and not in it."""
    if part in writers:
        return {"shards": writers[part].names, "start": 0, "stop": writers[part].tokens}
    tokens = writers["all"].tokens
    cut = int(tokens * (1 - val_fraction))
    start, stop = (0, cut) if part == "train" else (cut, tokens)
    return {"shards": writers["all"].names, "start": start, "stop": stop}


def check(out: Path, split: str, val_fraction: float, size: int) -> None:
    """ValueError or FileExistsError if ``prepare`` would refuse these."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, but must be {' or '.join(SPLITS)}")
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}, but must be at least 0 and below 1")
    if size < 1:
        raise ValueError(f"shard_tokens is {size}, but a shard needs at least 1 token")
    if os.path.lexists(out):
        raise FileExistsError(f"{out} is there already: choose another --out, or remove it")


def is_prepared(path: str | Path) -> bool:
    """Whether a path is a folder that ``prepare`` has written."""
    return (Path(path) / INDEX).is_file()


def load_prepared(folder: str | Path) -> Corpus:
    """Open a folder that ``prepare`` has written; its tokens stay on the disk.

    Raises:
        ValueError, OSError: something of it is missing, damaged or does not belong together.
    """
    path = Path(folder) / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version, facts, parts = index["version"], Facts(**index["facts"]), index["parts"]
        places = [
            (parts[p]["shards"], parts[p]["start"], parts[p]["stop"]) for p in ("train", "val")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}): prepare the text again") from None
    if version != VERSION:
        raise ValueError(
            f"{path} has the format {version}, but this program reads {VERSION}: use the version "
            "of the program that wrote it"
        )
    coder = tokenizer.load(path.with_name(CODER))
    maker = fingerprint(coder)
    names = sorted({name for shards, _, _ in places for name in shards})
    opened = {name: open_shard(path.with_name(Path(name).name), maker) for name in names}
    try:
        train, val = (
            Tokens([opened[name] for name in shards], start, stop) for shards, start, stop in places
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): prepare the text again") from None
    return Corpus(coder, train, val, facts)


# --- what --data names ----------------------------------------------------------------------------


def load(
    path: str | Path | None, name: str, vocab_size: int | None, coder: Tokenizer | None = None
) -> Corpus:
    """The corpus that a run is told to learn from.

    Args:
        path: a prepared folder, any ``Source``, or None for the default text.
        name: of the tokenizer to make; a prepared folder has one already.
        vocab_size: for "bpe"; None: 1024.
        coder: the tokenizer, on resuming.

    Raises:
        ValueError: a prepared folder has another tokenizer.
        and all that ``Source``, ``load_prepared`` and ``tokenizer.build`` raise.
    """
    if path is not None and is_prepared(path):
        return _fitting(load_prepared(path), path, name, vocab_size, coder)
    source = source_of(path)
    split = "position" if path is None else default_split(Path(path))
    if coder is None and name == "bpe":
        return _kept(source, vocab_size, split)
    return _made(source, coder or learn(name, source, vocab_size, split, VAL_FRACTION), split)


def _kept(source: Source, vocab_size: int | None, split: str) -> Corpus:
    """What ``_made`` makes of BPE that is learnt now, or was when the text was last loaded."""
    folder = text_cache.place(source, "bpe", vocab_size, split, VAL_FRACTION)
    if folder is not None:
        try:
            return _in_memory(load_prepared(folder))
        except (OSError, ValueError):  # it is not there, or damaged
            shutil.rmtree(folder, ignore_errors=True)
    coder = learn("bpe", source, vocab_size, split, VAL_FRACTION)
    if folder is not None:
        try:
            found = _in_memory(prepare(source, folder, coder, split))
            text_cache.make_room(folder)
            return found
        except (OSError, ValueError):  # a full disk, another run that does the same, an empty part
            pass
    return _made(source, coder, split)


def _in_memory(corpus: Corpus) -> Corpus:
    return replace(corpus, train=corpus.train.read(), val=corpus.val.read())


def _made(source: Source, coder: Tokenizer, split: str) -> Corpus:
    facts, dtype = Facts(), dtype_for(coder.n_vocab)
    parts = {part: bytearray() for part in ("all", "train", "val")}
    for part, ids in tokenise(source, coder, split, VAL_FRACTION, facts):
        parts[part] += ids.astype(dtype).data
    tokens = {part: np.frombuffer(content, dtype) for part, content in parts.items()}
    if split == "position":
        tokens["train"], tokens["val"] = train_val_split(tokens["all"], VAL_FRACTION)
    return Corpus(coder, tokens["train"], tokens["val"], facts)


def source_of(path: str | Path | None) -> Source:
    """The documents at a path; of None, the default text."""
    return _Text(default_corpus()) if path is None else Source(path)


def _fitting(
    corpus: Corpus, path: str | Path, name: str, vocab_size: int | None, coder: Tokenizer | None
) -> Corpus:
    """``corpus``, or ValueError if the run wants another tokenizer than it was prepared with."""
    own = corpus.tokenizer
    if coder is not None and fingerprint(coder) != fingerprint(own):
        raise ValueError(
            f"{path} was prepared with another tokenizer than the run's: prepare the text with the "
            "tokenizer.json in the run's folder"
        )
    # "bpe" is the default: it asks for nothing.
    if name not in ("bpe", own.name):
        raise ValueError(
            f"{path} was prepared with the tokenizer {own.name}, not {name}: leave out "
            "--tokenizer, or prepare the text again"
        )
    if own.name == "bpe" and vocab_size not in (None, own.n_vocab):
        raise ValueError(
            f"{path} was prepared with {own.n_vocab:,} tokens, not {vocab_size:,}: leave out "
            "--vocab-size, or prepare the text again"
        )
    return corpus


class _Text(Source):
    """A text that is in memory already."""

    def __init__(self, text: str) -> None:
        self.text = text

    def documents(self) -> Iterator[Document]:
        yield Document("the text", [self.text])
