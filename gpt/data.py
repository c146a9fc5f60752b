"""The text a model learns from, and the batches cut from its tokens.

>>> train, val = train_val_split(range(1000))
>>> x, y = next(Batches(train, context=8, batch_size=4, seed=0))
>>> x.shape, bool((y == x + 1).all())
((4, 8), True)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .shards import Tokens
from .sources import read_pieces


def default_corpus() -> str:
    """Python's language reference, which comes with every Python: about 465,000 characters."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise RuntimeError(
            "this Python lacks pydoc_data.topics, the default text: name a text file instead"
        ) from error
    return "\n\n".join(topics[topic] for topic in sorted(topics))


def read_text(path: str | Path) -> str:
    """The UTF-8 text file at ``path``, its line ends as they are.

    A missing file raises FileNotFoundError, a folder IsADirectoryError, and a file that is blank or
    not UTF-8 text ValueError. A byte order mark is left out.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name one text file in it")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}: name an existing UTF-8 text file")
    text = "".join(read_pieces(path))
    if not text.strip():
        raise ValueError(f"{path} has no text in it: give a file with something to learn from")
    return text


def train_val_split(
    ids: Sequence[int] | npt.NDArray[np.integer], val_fraction: float = 0.1
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """The front of ``ids`` to train on, the last ``val_fraction`` to validate on (as nanoGPT does).

    >>> [part.tolist() for part in train_val_split(range(10), val_fraction=0.2)]
    [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    """
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}, but must be at least 0 and below 1")
    tokens = np.asarray(ids)
    cut = int(len(tokens) * (1 - val_fraction))
    return tokens[:cut], tokens[cut:]


def windows(
    ids: Sequence[int] | npt.NDArray[np.integer] | Tokens, context: int, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The text cut into windows side by side: (x, y), both int64 [n, context], y one token later.

    ``n`` is at most ``most``; of more windows, that many spread evenly over the text.

    >>> x, y = windows(range(8), context=2, most=100)
    >>> x.tolist(), y.tolist()
    ([[0, 1], [2, 3], [4, 5]], [[1, 2], [3, 4], [5, 6]])
    """
    tokens = ids if isinstance(ids, Tokens) else np.asarray(ids)
    n = (len(tokens) - 1) // context
    starts = np.arange(n)[:, None] if n <= most else np.arange(most)[:, None] * n // most
    positions = starts * context + np.arange(context)  # [n, context]
    return tokens[positions].astype(np.int64), tokens[positions + 1].astype(np.int64)


def _small(tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """The tokens as uint16 or uint32; ValueError if they are not token ids."""
    if tokens.dtype in (np.uint16, np.uint32):
        return tokens
    if not np.issubdtype(tokens.dtype, np.integer) or tokens.min() < 0:
        raise ValueError("token ids must be integers of at least 0")
    return tokens.astype(np.uint16 if tokens.max() < 2**16 else np.uint32)


class Batches:
    """Endless random windows of a token array: pairs (x, y) of int64 arrays [batch_size, context].

    y is x one token later: the target at each position is the next token. Windows are drawn
    uniformly, with replacement, from a generator of this object's own: ``seed`` decides them, and
    ``state_dict`` resumes them exactly. Tokens in shards stay on the disk; what else is uint16 or
    uint32 is not copied.

    >>> batches = Batches([7, 8, 9], context=2, batch_size=1, seed=0)
    >>> [array.tolist() for array in batches.next()]
    [[[7, 8]], [[8, 9]]]
    """

    def __init__(
        self,
        ids: Sequence[int] | npt.NDArray[np.integer] | Tokens,
        context: int,
        batch_size: int,
        seed: int,
    ) -> None:
        if context < 1 or batch_size < 1:
            raise ValueError(f"context {context} and batch size {batch_size} must be at least 1")
        if len(ids) <= context:
            raise ValueError(
                f"a context of {context} needs at least {context + 1} tokens, and this part of the "
                f"text has {len(ids)}: give a shorter --context or more text"
            )
        self.tokens = ids if isinstance(ids, Tokens) else _small(np.asarray(ids))
        self.context = context
        self.batch_size = batch_size
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def next(self, count: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The next (x, y); or the next ``count`` of them, one below the other."""
        rows = count * self.batch_size
        starts = self._rng.integers(len(self.tokens) - self.context, size=(rows, 1))
        positions = starts + np.arange(self.context)  # [rows, context]
        return self.tokens[positions].astype(np.int64), self.tokens[positions + 1].astype(np.int64)

    __next__ = next

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        return self

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, as JSON can hold it."""
        return {"rng": dict(self._rng.bit_generator.state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``state`` was taken."""
        self._rng.bit_generator.state = state["rng"]
