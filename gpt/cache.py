"""The past of a text, as attention needs it: written once, looked at in every later step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HIDDEN = -1e30  # added to a score; not -inf, which would make 0/0 of a query that may see nothing


class KVCache:
    """Keys and values of several texts, for every layer an array [2, B, H, capacity, D].

    The arrays are made once. A step writes what is new behind what is there, and attention looks at
    a view of both: nothing of the past is copied. All rows end at the same column; a shorter text
    begins later, behind columns of padding that nobody looks at.

    >>> cache = KVCache(layers=1, rows=2, heads=1, capacity=8, head_size=4, padding=[0, 2])
    >>> cache.positions(3)
    array([[0, 1, 2],
           [0, 0, 0]])
    >>> (cache.hidden(3)[1, 0] < 0).astype(int)  # is key i hidden from query j?
    array([[1, 1, 1],
           [1, 1, 1],
           [1, 1, 0]])
    """

    def __init__(
        self, layers: int, rows: int, heads: int, capacity: int, head_size: int,
        padding: Sequence[int] | None = None, dtype: type | np.dtype = np.float32,
    ) -> None:  # fmt: skip
        shape = (2, rows, heads, capacity, head_size)
        self.layers = [np.zeros(shape, dtype) for _ in range(layers)]
        self.padding = np.zeros(rows, dtype=int) if padding is None else np.array(padding)
        self.length = 0

    def positions(self, count: int) -> np.ndarray:
        """Where the next ``count`` tokens of each text stand in it: [B, count]."""
        columns = np.arange(self.length, self.length + count)
        return np.maximum(columns - self.padding[:, None], 0)

    def hidden(self, count: int) -> np.ndarray | None:
        """What to add to the scores of the next ``count`` queries: [B, 1, length + count, count].

        None if there is nothing to hide: one query looks at everything, but for padding.
        """
        if count == 1 and not self.padding.any():
            return None
        keys = np.arange(self.length + count)[:, None]
        later = keys > keys[self.length :, 0]  # [length + count, count]
        before = keys < self.padding[:, None, None, None]  # [B, 1, length + count, 1]
        return np.where(later | before, HIDDEN, 0).astype(self.layers[0].dtype)

    def write(self, layer: int, new: np.ndarray) -> np.ndarray:
        """Put keys and values [2, B, H, T, D] behind the others; returns a view of all."""
        end = self.length + new.shape[-2]
        self.layers[layer][:, :, :, self.length : end] = new
        return self.layers[layer][:, :, :, :end]

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; one can be there twice. The only copy there is.

        Columns that are padding in all of them are dropped.
        """
        padding = self.padding[list(rows)]
        spare = int(padding.min())
        for i, old in enumerate(self.layers):
            kept = old[:, rows, :, spare : self.length]
            if len(rows) != old.shape[1]:
                shape = (2, len(rows), *old.shape[2:])
                self.layers[i] = np.zeros(shape, old.dtype)
            self.layers[i][:, :, :, : self.length - spare] = kept
        self.padding, self.length = padding - spare, self.length - spare
