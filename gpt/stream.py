"""A text encoded piece by piece, into the tokens that the whole text would have had.

A tokenizer first cuts a text by a pattern, and no token reaches across these cuts. Where the text
must be cut in any case, each side can be encoded without the other. In all patterns known here a
letter ends its piece if what follows is neither a letter, a mark, a digit nor an apostrophe; and as
no pattern looks back, and looks ahead only from white space, neither side notices the other's
absence.

>>> from .tokenizer import CharTokenizer
>>> list(separated(["one, t", "wo"], BPETokenizer([])))
['one', ', two']
>>> [ids.tolist() for ids in encoded(["ban", "ana"], CharTokenizer("ban"))]
[[1, 0, 2], [0, 2, 0]]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .tokenizer import PATTERN, BPETokenizer, CharTokenizer, TiktokenTokenizer, Tokenizer

# Letters, and what may follow, that every version of Unicode's tables has agreed upon for long:
# engines differ in how new theirs are. It is no loss if a text has more places than are found.
LETTER = (
    "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u0391-\u03a1\u03a3-\u03a9\u03b1-\u03c9\u0410-\u044f"
    "\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u0905-\u0939\u0e01-\u0e30\u3041-\u3094\u30a1-\u30fa"
    "\u4e00-\u9fa5\uac00-\ud7a3"
)
FOLLOWS = r" \t\r\n!-&(-/:-@\[-_{-~\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"

# The encodings whose patterns have been looked at.
KNOWN = ("gpt2", "r50k_base", "p50k_base", "p50k_edit", "cl100k_base", "o200k_base",
         "o200k_harmony")  # fmt: skip


def separated(pieces: Iterable[str], coder: Tokenizer) -> Iterator[str]:
    """The same text in pieces that ``coder`` can encode one by one.

    They are about as long as those that come in; longer where there is no place to cut, and the
    whole text for a tokenizer with a pattern of its own.
    """
    if isinstance(coder, CharTokenizer):
        yield from filter(None, pieces)
        return
    if isinstance(coder, BPETokenizer):
        known = coder.pattern == PATTERN
    else:
        known = isinstance(coder, TiktokenTokenizer) and coder.name in KNOWN
    held = ""
    for piece in pieces:
        looked = max(len(held) - 1, 0)
        held += piece
        place = _place().search(held, looked) if known else None
        if place is not None:
            yield held[: place.start()]
            held = held[place.start() :]
    if held:
        yield held


def encoded(pieces: Iterable[str], coder: Tokenizer) -> Iterator[npt.NDArray[np.uint32]]:
    """The tokens of the text that ``pieces`` make together, in several arrays."""
    for piece in separated(pieces, coder):
        yield np.array(coder.encode(piece), np.uint32)


@cache
def _place() -> Any:
    """Finds the last place of a text where it can be cut."""
    import regex  # type: ignore[import-untyped]

    return regex.compile(f"(?r)(?<=[{LETTER}])[{FOLLOWS}]")  # (?r): from the end backwards
