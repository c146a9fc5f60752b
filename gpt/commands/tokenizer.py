"""``python -m gpt tokenizer``: train one, and see how it cuts a text."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import corpus, data, tokenizer
from ..reporting import printable
from ..tokenizer import Tokenizer
from . import prepare
from .flags import path

# Backgrounds of the 256 colours that terminals have, light enough for black letters.
COLOURS = (153, 157, 223, 218, 159, 229)

INSPECT = """\
Show how a tokenizer cuts a text: in colours on a terminal, elsewhere (or with
NO_COLOR) with a bar between two tokens, or with --ids in a line for each token.

    python -m gpt tokenizer inspect runs/default "The lowest tide"
    python -m gpt tokenizer inspect gpt2 --file my.txt --ids | less
"""

TRAIN = """\
Learn a byte-level BPE tokenizer from a text, and write it to a file.

    python -m gpt tokenizer train books/ --vocab-size 8192 --out books.json
    python -m gpt prepare books/ --tokenizer books.json --out data/books
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Its two actions."""
    parser.description = "Train a tokenizer, or see how one cuts a text."
    actions = parser.add_subparsers(dest="action", required=True, metavar="{train,inspect}")
    layout: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    train = actions.add_parser("train", help="learn from a text", description=TRAIN, **layout)
    train.add_argument("source", metavar="PATH", help="a text file, .jsonl, .gz or a folder")
    train.add_argument("--out", type=path, required=True, metavar="FILE", help="a new .json file")
    train.add_argument(
        "--vocab-size", type=int, default=1024, metavar="N", help="tokens to learn, from the first "
        f"{corpus.SAMPLE // 10**6} million characters [1024]"
    )  # fmt: skip
    prepare.add_source_flags(train)
    inspect = actions.add_parser(
        "inspect", help="show how a text is cut", description=INSPECT, **layout
    )
    inspect.add_argument(
        "coder", metavar="TOKENIZER", help="a file that `train` wrote, the folder of a run or of "
        "`prepare`, or the name of an encoding of tiktoken: gpt2, cl100k_base, ..."
    )  # fmt: skip
    inspect.add_argument("text", nargs="?", metavar="TEXT", help="the text [the standard input]")
    inspect.add_argument("--file", metavar="FILE", help="take the text from a UTF-8 file")
    inspect.add_argument("--ids", action="store_true", help="a line for each token: id and bytes")


def run(given: dict[str, Any]) -> int:
    """Train one, or show what one does."""
    return {"train": _train, "inspect": _inspect}[given.pop("action")](given)


def _train(given: dict[str, Any]) -> int:
    out, vocab_size = given["out"], given["vocab_size"]
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another --out, or remove it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder {out.parent}: make it, or choose another --out"
        )
    coder = corpus.learn("bpe", prepare.source_of(given), vocab_size, "position", 0.0)
    tokenizer.save(coder, out)
    if coder.n_vocab < vocab_size:
        print(f"no pair occurs twice any more: {coder.n_vocab:,} tokens, not {vocab_size:,}")
    print(f"wrote {out}: {coder.n_vocab:,} tokens")
    return 0


def _inspect(given: dict[str, Any]) -> int:
    coder = named(given["coder"])
    if given["text"] is not None and given["file"] is not None:
        raise ValueError("a text and --file are two texts: leave one out")
    if given["file"] is not None:
        text = data.read_text(given["file"])
    elif given["text"] is not None:
        text = given["text"]
    else:
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise ValueError(f"the standard input is no text ({error}): give UTF-8") from None
    ids = coder.encode(text)
    if given["ids"]:
        for line in listed(ids, coder):
            print(line)
    else:
        colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print((coloured if colours else barred)(ids, coder))
    rate = f" of {len(text) / len(ids):.1f} characters" if ids else ""
    print(f"{len(text):,} characters, {len(ids):,} tokens{rate}", file=sys.stderr)
    return 0


def named(name: str) -> Tokenizer:
    """The tokenizer in a file or a folder, or tiktoken's of that name."""
    path = Path(name)
    if name in ("bpe", "char") and not path.exists():
        raise ValueError(
            f"a tokenizer {name} is made of a text: name its file, or the folder of its run"
        )
    if path.is_dir() and not (path / corpus.CODER).is_file():
        raise FileNotFoundError(
            f"there is no {corpus.CODER} in {name}: name the folder of a run or of `prepare`"
        )
    if not path.exists():
        if "/" in name or path.suffix:
            raise FileNotFoundError(f"there is no file {name}: `tokenizer train` makes one")
        return tokenizer.TiktokenTokenizer(name)
    return tokenizer.load(path / corpus.CODER if path.is_dir() else path)


def shown(token: int, coder: Tokenizer) -> str:
    """A token as text; bytes that are no character by themselves as \\x and two digits."""
    return coder.token_bytes(token).decode("utf-8", errors="backslashreplace")


def barred(ids: Sequence[int], coder: Tokenizer) -> str:
    """The tokens with bars between them, and line breaks also in letters.

    >>> from gpt.tokenizer import BPETokenizer
    >>> barred([257, 32, 0xC3, 0xA9], BPETokenizer([b"he", b"hel"]))
    'hel| |\\\\xc3|\\\\xa9'
    """
    return printable("|".join(shown(i, coder).replace("\n", "\\n\n") for i in ids))


def coloured(ids: Sequence[int], coder: Tokenizer) -> str:
    """The tokens on backgrounds that change from one to the next."""
    painted = []
    for n, i in enumerate(ids):
        lines = printable(shown(i, coder)).replace("\n", "↵\n").split("\n")
        # A background that is still on at the end of a line would fill the line.
        start = f"\x1b[30;48;5;{COLOURS[n % len(COLOURS)]}m"
        painted.append("\n".join(f"{start}{line}\x1b[0m" if line else "" for line in lines))
    return "".join(painted)


def listed(ids: Sequence[int], coder: Tokenizer) -> Iterator[str]:
    """A line for each token: its number, how many bytes it has, and which."""
    for i in ids:
        content = coder.token_bytes(i)
        yield f"{i:>7} {len(content):>3}  {shown(i, coder)!r}"
