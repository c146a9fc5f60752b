"""Texts that grow by a token at a time, and what the model expects next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

import tensorgrad

from .decoder import Decoder, can_decode
from .model import GPT


class Prefixes:
    """Several sequences of tokens, of any lengths, and the logits of the token after each.

    The model sees the last ``context`` tokens of a sequence, at the positions from 0. While a
    sequence fits, a :class:`Decoder` keeps its past. Beyond that every step moves all positions, so
    that nothing of the past holds, and the window is read anew: each token then costs what the
    whole window does.

    With ``cache=False``, or if the model has parts that Decoder does not know, the model itself
    reads each sequence as a whole in every step. Both ways compute the same function. They add in
    another order, so that logits differ in their last bits (some 1e-6 of their size); a token can
    differ only where two candidates are that close.

    Args:
        rows: the sequences; none is empty.
        room: how many tokens will be appended to each, at most.

    Raises:
        ValueError: a sequence is empty.
        IndexError: a token is not in the vocabulary.
    """

    def __init__(
        self, model: GPT, rows: Iterable[Sequence[int]], room: int, cache: bool = True
    ) -> None:
        self.model, self.room = model, room
        self.rows = [[int(token) for token in row] for row in rows]
        self.context = model.config.context
        self.cache = cache and can_decode(model)
        size = model.config.vocab_size
        for row in self.rows:
            if not row:
                raise ValueError("generate needs at least one token to continue")
            if unknown := [token for token in row if not 0 <= token < size]:
                raise IndexError(
                    f"the token's index {unknown[0]} is out of range, the table has {size} rows"
                )
        self.decoder: Decoder | None = None
        self.decoded: list[int] = []  # row i of the decoder has read rows[decoded[i]]
        self.reader: Decoder | None = None  # of windows

    def logits(self) -> np.ndarray:
        """[rows, V]; to be called once after each change."""
        if not self.cache:
            return np.stack([self._read_by_model(row[-self.context :]) for row in self.rows])
        fitting = [i for i, row in enumerate(self.rows) if len(row) <= self.context]
        beyond = [i for i, row in enumerate(self.rows) if len(row) > self.context]
        logits = np.empty((len(self.rows), self.model.config.vocab_size), np.float64)
        if fitting:
            logits[fitting] = self._read_on(fitting)
        if beyond:
            logits[beyond] = self._read_anew([self.rows[i][-self.context :] for i in beyond])
        return logits

    def append(self, tokens: Iterable[int]) -> None:
        """One token more for every row."""
        for row, token in zip(self.rows, tokens, strict=True):
            row.append(token)

    def select(self, chosen: Sequence[int]) -> None:
        """Go on with these rows, in this order; one can be there twice."""
        if list(chosen) == list(range(len(self.rows))):
            return
        self.rows = [self.rows[i][:] for i in chosen]
        known = set(self.decoded)
        self._keep([i for i in chosen if i in known])
        self.decoded = [place for place, i in enumerate(chosen) if i in known]

    def _read_by_model(self, window: list[int]) -> np.ndarray:
        with tensorgrad.no_grad():
            return self.model(tensorgrad.tensor([window]))[0, -1].numpy()

    def _read_on(self, fitting: list[int]) -> np.ndarray:
        """Logits of the rows that fit into the context, from what the decoder has read of them."""
        rows = [self.rows[i] for i in fitting]
        if self.decoder is None:
            longest = max(map(len, rows))
            padding = [longest - len(row) for row in rows]
            self.decoder, self.decoded = Decoder(self.model, longest + self.room, padding), fitting
            return self.decoder.read([[0] * n + row for n, row in zip(padding, rows)])
        self._keep(fitting)
        return self.decoder.read([row[-1:] for row in rows])

    def _read_anew(self, windows: list[list[int]]) -> np.ndarray:
        """Logits of what follows windows as long as the context."""
        if self.reader is None:
            self.reader = Decoder(self.model, 0)
        return self.reader.read_whole(windows)

    def _keep(self, rows: list[int]) -> None:
        """Let the decoder forget all but these rows, which it has read."""
        if self.decoder is not None and rows and rows != self.decoded:
            self.decoder.cache.select([self.decoded.index(i) for i in rows])
        self.decoded = rows
