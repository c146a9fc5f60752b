"""``python -m gpt prepare``: a text made into tokens once, for runs that map them into memory."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from .. import corpus, tokenizer
from ..corpus import Facts
from ..shards import SHARD, dtype_for
from ..sources import GLOBS, INVALID, Source
from .flags import path

DESCRIPTION = """\
Cut a text into tokens and write them to a folder that `train --data` takes.

    python -m gpt prepare books/ --out data/books --vocab-size 8192
    python -m gpt train --data data/books

The source is a UTF-8 text file, which is one document; a file .jsonl, in which
each line is a document; one of these compressed (.gz); or a folder of them. It
is read piece by piece, so it may be larger than the memory.
"""

EPILOG = """\
the folder:
  Files .bin hold the tokens, after a header with the checksum, as uint16, or as
  uint32 if there can be more than 65,536; tokenizer.json holds the tokenizer,
  prepared.json says which part is where. Training checks that they are whole
  and belong together. The folder appears when all of it is written.

the split:
  position   the end of the text validates
  documents  each document as a whole trains or validates; its first characters
             decide, so that copies of a document are all on one side
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.usage = "%(prog)s PATH --out DIR [FLAG ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("source", metavar="PATH", help="a text file, .jsonl, .gz or a folder")
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="the new folder")
    parser.add_argument(
        "--tokenizer", default="bpe", metavar="NAME", help="bpe, char, an encoding of tiktoken, or "
        "a file tokenizer.json that is there already [bpe]"
    )  # fmt: skip
    parser.add_argument(
        "--vocab-size", type=int, metavar="N", help=f"tokens that bpe learns, from the first "
        f"{corpus.SAMPLE // 10**6} million characters [1024]"
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=corpus.SPLITS, help="what validates, see below [documents for .jsonl, "
        "otherwise position]"
    )  # fmt: skip
    parser.add_argument(
        "--val-fraction", type=float, default=corpus.VAL_FRACTION, metavar="X",
        help=f"how much of it validates [{corpus.VAL_FRACTION}]",
    )  # fmt: skip
    parser.add_argument(
        "--shard-tokens", type=int, default=SHARD, metavar="N",
        help=f"most tokens in a file [{SHARD}]",
    )  # fmt: skip
    add_source_flags(parser)


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """How a source is read."""
    parser.add_argument(
        "--glob", action="append", metavar="PATTERN", help="files of a folder to take; can be "
        f"repeated [{' '.join(GLOBS)}]"
    )  # fmt: skip
    parser.add_argument(
        "--field", default="text", metavar="NAME", help="where an object of .jsonl has its text "
        "[text]"
    )  # fmt: skip
    parser.add_argument(
        "--invalid", choices=INVALID, default="refuse",
        help="what happens to bytes that are not UTF-8: replace makes them U+FFFD [refuse]",
    )  # fmt: skip


def source_of(given: dict[str, Any]) -> Source:
    """The source that the flags name."""
    return Source(
        given["source"], given["glob"] or GLOBS, field=given["field"], invalid=given["invalid"]
    )


def maker_of(
    name: str, source: Source, vocab_size: int | None, split: str, val_fraction: float
) -> tokenizer.Tokenizer:
    """The tokenizer that ``--tokenizer`` names: from its file, or learnt from the source."""
    if not name.endswith(".json"):
        if vocab_size is not None and name != "bpe":
            raise ValueError(f"--vocab-size is for bpe: leave it out with --tokenizer {name}")
        return corpus.learn(name, source, vocab_size, split, val_fraction)
    if vocab_size is not None:
        raise ValueError(f"{name} has its tokens already: leave out --vocab-size")
    if not Path(name).is_file():
        raise FileNotFoundError(f"there is no file {name}: --tokenizer bpe makes a tokenizer")
    return tokenizer.load(name)


def run(given: dict[str, Any]) -> int:
    """Make the folder that the flags ask for."""
    source, out = source_of(given), given["out"]
    split = given["split"] or corpus.default_split(source.path)
    fraction, size = given["val_fraction"], given["shard_tokens"]
    corpus.check(out, split, fraction, size)
    coder = maker_of(given["tokenizer"], source, given["vocab_size"], split, fraction)
    with _Progress() as progress:
        made = corpus.prepare(source, out, coder, split, fraction, size, progress)
    facts = made.facts
    print(
        f"{facts.documents:,} document{'s' * (facts.documents != 1)} of {facts.characters:,} "
        f"characters: {facts.tokens:,} tokens ({dtype_for(coder.n_vocab)}) of "
        f"{facts.characters / facts.tokens:.1f} characters\n"
        f"tokenizer {coder.name}: {coder.n_vocab:,} tokens\n"
        f"{len(made.train):,} train, {len(made.val):,} validate (split by {split})\n"
        f"wrote {out}: train with --data {out}"
    )
    return 0


class _Progress:
    """A line that counts characters, on terminals only."""

    def __enter__(self) -> _Progress:
        self.shown = 0.0
        return self

    def __call__(self, facts: Facts) -> None:
        if sys.stderr.isatty() and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            line = f"{facts.characters:,} characters, {facts.tokens:,} tokens"
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *exception: object) -> None:
        if self.shown:
            print(f"\r{'':60}\r", end="", file=sys.stderr, flush=True)
