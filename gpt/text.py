"""Tokens become text while they are written: whole characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .beam import Hypothesis
from .generate import draw, generators_for
from .model import GPT
from .sampling import Sampling
from .tokenizer import Tokenizer


class Piece(NamedTuple):
    """Some text, and the log-probability that the model gave to the tokens it took."""

    text: str
    logprob: float = 0.0
    top: Sequence[tuple[int, float]] = ()  # the likeliest tokens for the last of them


class Transcript:
    """The text of tokens that come one by one.

    Bytes that are the beginning of a character wait for the rest of it; those that cannot become
    one are U+FFFD. Text that is the beginning of a stop string waits until it is clear whether it
    becomes one. The first stop string to be completed ends the text before itself.

    >>> from gpt.tokenizer import CharTokenizer
    >>> coder = CharTokenizer("a.\\n")
    >>> transcript = Transcript(coder, stop=[".\\n"])
    >>> [[piece.text for piece in transcript.feed(token)] for token in coder.encode("a.a.\\n")]
    [['a'], [], ['.', 'a'], [], []]
    >>> transcript.text, transcript.stopped
    ('a.a', True)
    """

    def __init__(self, coder: Tokenizer, stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise ValueError("a stop string must not be empty")
        self.coder, self.stop = coder, list(stop)
        self.text, self.stopped = "", False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[Piece] = []
        self._logprob = 0.0  # of tokens whose bytes wait

    def feed(self, token: int, logprob: float = 0.0, top: Any = ()) -> list[Piece]:
        """What has become certain by this token."""
        self._logprob += logprob
        return self._release(self._decoder.decode(self.coder.token_bytes(token)), top)

    def end(self) -> list[Piece]:
        """What has waited; nothing comes any more."""
        return self._release(self._decoder.decode(b"", final=True), (), final=True)

    def _release(self, new: str, top: Any, final: bool = False) -> list[Piece]:
        if self.stopped:
            return []
        if new:
            self._waiting.append(Piece(new, self._logprob, top))
            self._logprob = 0.0
        text = "".join(piece.text for piece in self._waiting)
        found = [(text.find(s) + len(s), text.find(s)) for s in self.stop if s in text]
        if found:
            certain, self.stopped = min(found)[1], True
        else:
            certain = len(text) if final else len(text) - self._possible_stop(text)
        released = []
        while self._waiting and certain > 0:
            piece = self._waiting.pop(0)
            released.append(piece._replace(text=piece.text[:certain]))
            if piece.text[certain:]:
                self._waiting.insert(0, piece._replace(text=piece.text[certain:]))
            certain -= len(piece.text)
        self.text += "".join(piece.text for piece in released)
        return released

    def _possible_stop(self, text: str) -> int:
        """How many characters at the end of ``text`` may be the beginning of a stop string."""
        longest = max(map(len, self.stop), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(s.startswith(text[-size:]) for s in self.stop):
                return size
        return 0


@dataclass(frozen=True)
class Completion:
    """A text that was written.

    ``tokens`` are all that were drawn; if a stop string ended the text, it is in them and not in
    ``text``. ``logprobs`` are what the model itself gave them, before temperature and filters;
    ``top`` has for each place the likeliest tokens with their log-probabilities.
    """

    tokens: list[int]
    text: str
    logprobs: list[float]
    top: list[list[tuple[int, float]]]
    stopped: bool


def stream_text(
    model: GPT,
    coder: Tokenizer,
    prompt: str | Sequence[int],
    max_new_tokens: int,
    *,
    stop: Sequence[str] = (),
    top: int = 0,
    seed: int | None = None,
    cache: bool = True,
    **sampling: Any,
) -> Iterator[Piece]:
    """Yield the text that continues a prompt piece by piece, as soon as each is certain.

    Args:
        prompt: a text, or its tokens.
        stop: strings that end the text; no part of one is yielded.
        top: how many of the likeliest tokens to name with each piece.
        sampling: the choices of :class:`Sampling`.
    """
    (text,) = stream_texts(
        model, coder, [prompt], max_new_tokens, stop=stop, top=top, seed=seed, cache=cache,
        **sampling,
    )  # fmt: skip
    return text


def stream_texts(
    model: GPT,
    coder: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    max_new_tokens: int,
    *,
    stop: Sequence[str] = (),
    top: int = 0,
    seed: int | Sequence[int] | None = None,
    cache: bool = True,
    **sampling: Any,
) -> list[Iterator[Piece]]:
    """The same for several prompts: for each its pieces; arguments as in :func:`complete`.

    They are written together, as far as the one that is asked for next needs it: the first is there
    piece by piece, and what the others have by then waits for their turn.
    """
    transcripts = [Transcript(coder, stop) for _ in prompts]
    waiting: list[deque[Piece]] = [deque() for _ in prompts]
    steps = draw(
        model, [_tokens(coder, prompt) for prompt in prompts], max_new_tokens,
        Sampling(**sampling), generators_for(seed, len(prompts)), cache,
        lambda row, drawn: transcripts[row].stopped,
    )  # fmt: skip

    def pieces(row: int) -> Iterator[Piece]:
        while not transcripts[row].stopped:
            yield from _taken(waiting[row])
            if (step := next(steps, None)) is None:
                break
            for i, drawn in step.items():
                waiting[i] += transcripts[i].feed(
                    drawn.token, drawn.logprob, drawn.alternatives(top)
                )
        yield from _taken(waiting[row])
        yield from transcripts[row].end()

    return [pieces(row) for row in range(len(prompts))]


def _taken(pieces: deque[Piece]) -> Iterator[Piece]:
    while pieces:
        yield pieces.popleft()


def complete(
    model: GPT,
    coder: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    max_new_tokens: int,
    *,
    stop: Sequence[str] = (),
    top: int = 0,
    seed: int | Sequence[int] | None = None,
    cache: bool = True,
    **sampling: Any,
) -> list[Completion]:
    """Continue several prompts together; arguments as in :func:`stream_text`, seeds as in
    :func:`generate`: each text is the one that its prompt alone would have got."""
    transcripts = [Transcript(coder, stop) for _ in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    tops: list[list[list[tuple[int, float]]]] = [[] for _ in prompts]
    for step in draw(
        model, [_tokens(coder, prompt) for prompt in prompts], max_new_tokens,
        Sampling(**sampling), generators_for(seed, len(prompts)), cache,
        lambda row, drawn: transcripts[row].stopped,
    ):  # fmt: skip
        for row, drawn in step.items():
            transcripts[row].feed(drawn.token)
            tokens[row].append(drawn.token)
            logprobs[row].append(drawn.logprob)
            tops[row].append(drawn.alternatives(top))
    for transcript in transcripts:
        transcript.end()
    return [
        Completion(t, transcript.text, p, alternatives, transcript.stopped)
        for transcript, t, p, alternatives in zip(transcripts, tokens, logprobs, tops)
    ]


def pieces_of(
    coder: Tokenizer, written: Completion | Hypothesis, stop: Sequence[str]
) -> list[Piece]:
    """A text that is complete, in the pieces that it would have been streamed in."""
    transcript = Transcript(coder, stop)
    tops = written.top if isinstance(written, Completion) else [[] for _ in written.tokens]
    pieces = []
    for token, logprob, top in zip(written.tokens, written.logprobs, tops):
        pieces += transcript.feed(token, logprob, top)
    return pieces + transcript.end()


def _tokens(coder: Tokenizer, prompt: str | Sequence[int]) -> Sequence[int]:
    return coder.encode(prompt) if isinstance(prompt, str) else prompt
