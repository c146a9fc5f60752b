"""Tokens as short labels in which nothing is invisible, and the text that a picture is about.

A character that the font lacks is drawn as a box: ``matplotlib.rcParams["font.family"]`` takes a
list of fonts, of which each is asked after the one before.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ..model import GPT
from ..tokenizer import Tokenizer

LONGEST = 12  # characters of a label
VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "←"}


def token_label(token: int, coder: Tokenizer, longest: int = LONGEST) -> str:
    """A token as a label; bytes that are no character by themselves as \\x and two digits.

    >>> from ..tokenizer import BPETokenizer
    >>> coder = BPETokenizer([b" the", b"\\n\\n"])
    >>> [token_label(t, coder) for t in (256, 257, 0xE9, 0)]
    ['␣the', '↵↵', '\\\\xe9', '\\\\x00']
    """
    text = coder.token_bytes(token).decode("utf-8", errors="backslashreplace")
    shown = "".join(VISIBLE.get(c) or (c if _prints(c) else _escaped(c)) for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _prints(c: str) -> bool:
    return unicodedata.category(c)[0] not in "CZ"


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode()


def token_labels(tokens: Sequence[int], coder: Tokenizer, longest: int = LONGEST) -> list[str]:
    """The labels of several tokens."""
    return [token_label(token, coder, longest) for token in tokens]


def read(
    text: str | Sequence[int], coder: Tokenizer, model: GPT, most: int | None = None
) -> tuple[list[int], str]:
    """The first tokens of a text, or of tokens, and a notice if they are not all.

    Args:
        most: how many the picture has room for; never more than the model's context. None: all,
            for a picture that does not have the model read them.

    Raises:
        ValueError: there is no token, or one that the model does not have.
    """
    tokens = coder.encode(text) if isinstance(text, str) else [int(t) for t in text]
    if not tokens:
        raise ValueError("the text is empty: there is nothing to draw")
    rows = model.config.vocab_size
    if strange := [t for t in tokens if not 0 <= t < rows]:
        raise ValueError(
            f"the text has the token {strange[0]}, but the model has {rows:,} tokens only: give "
            "another text, or the model's own tokenizer"
        )
    room = len(tokens) if most is None else min(most, model.config.context)
    notice = f" (the first {room} tokens)" if len(tokens) > room else ""
    return tokens[:room], notice
