"""A text on the terminal, while it is written: plain, or with the probability of each piece."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator

from .reporting import printable
from .text import Piece
from .tokenizer import Tokenizer

TOP = 3  # alternatives that are shown beside a piece

# From never to certain: backgrounds of the 256 colours that terminals have, red to green.
COLOURS = (196, 202, 208, 214, 220, 226, 190, 154, 118, 82, 46)


def painted(text: str, probability: float) -> str:
    """``text`` on a background from red (unlikely) to green (certain), in black.

    >>> painted("an", 0.5)
    '\\x1b[30;48;5;226man\\x1b[0m'
    """
    colour = COLOURS[round(probability * (len(COLOURS) - 1))]
    # A background that is still on at the end of a line would fill the line.
    lines = (f"\x1b[30;48;5;{colour}m{line}\x1b[0m" if line else "" for line in text.split("\n"))
    return "\n".join(lines)


def numbered(piece: Piece, coder: Tokenizer) -> str:
    """A line for a piece: its probability, the text, and what was likeliest in its place."""
    others = "  ".join(f"{math.exp(p):.3f} {coder.decode([t])!r}" for t, p in piece.top)
    return f"{math.exp(piece.logprob):.3f}  {piece.text!r:<16} of {others}".removesuffix(" of ")


def show(prompt: str, pieces: Iterator[Piece], coder: Tokenizer, with_probs: bool = False) -> None:
    """Print a prompt and the pieces that continue it, each as it comes.

    A pipe gets the text as it is, a terminal without what would confuse it. With probabilities, a
    terminal gets colours; a pipe, or one with NO_COLOR (see no-color.org), a line for each piece.
    """
    terminal = sys.stdout.isatty()
    clean = printable if terminal else str
    if with_probs and not (terminal and not os.environ.get("NO_COLOR")):
        print(f"prompt {prompt!r}")
        for piece in pieces:
            print(numbered(piece, coder).rstrip(), flush=True)
        return
    print(clean(prompt), end="", flush=True)
    for piece in pieces:
        text = clean(piece.text)
        print(painted(text, math.exp(piece.logprob)) if with_probs else text, end="", flush=True)
    print(flush=True)
