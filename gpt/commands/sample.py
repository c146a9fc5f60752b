"""``python -m gpt sample``: write with a trained model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from .. import display, train
from ..beam import beam_search
from ..text import Piece, Transcript, pieces_of, stream_texts
from . import writing
from .flags import flag_of
from .writing import Writing

# What has nothing to say to a search, and what it is where it was not given.
DRAWING: dict[str, Any] = {
    "top_p": None,
    "min_p": None,
    "repetition_penalty": 1.0,
    "logit_bias": [],
}


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Write with a trained model."
    parser.add_argument(
        "--prompt", metavar="TEXT", default=argparse.SUPPRESS, help="text to continue [the run's]"
    )
    writing.add_flags(parser)
    parser.add_argument(
        "--num", type=int, metavar="N", default=1, help="how many texts to write: together, and "
        "shown one after the other"
    )  # fmt: skip
    parser.add_argument(
        "--beams", type=int, metavar="N", help="search for the likeliest text among N, and draw "
        "nothing"
    )  # fmt: skip


def run(given: dict[str, Any]) -> int:
    """Write the texts that the flags ask for."""
    num, beams = given["num"], given["beams"]
    if num < 1:
        raise ValueError(f"num must be at least 1, not {num}")
    drawing: list[str] = [name for name in ("temperature", "top_k", "seed") if name in given]
    drawing += [name for name, usual in DRAWING.items() if given[name] != usual]
    if beams is not None and drawing:
        raise ValueError(
            f"--beams searches and draws nothing: leave out {', '.join(map(flag_of, drawing))}"
        )
    if beams is not None and num > max(beams, 1):
        raise ValueError(f"a search with {beams} beams finds as many texts at most, not {num}")
    work = writing.load(given)
    coder, config = work.run.tokenizer, work.config
    prompt = train.prompt_tokens(coder, config.prompt)
    if beams is not None:
        texts = _search(work, prompt, beams)[:num]
    else:
        texts = stream_texts(
            work.run.model, coder, [prompt] * num, config.sample_tokens, stop=work.stop,
            top=display.TOP if work.show_probs else 0, seed=[config.seed + i for i in range(num)],
            **vars(work.sampling),
        )  # fmt: skip
    start = coder.decode(prompt)
    for n, pieces in enumerate(texts, start=1):
        if num > 1:
            print(f"--- {n} of {num} ---")
        display.show(start, pieces, coder, work.show_probs)
    return 0


def _search(work: Writing, prompt: list[int], beams: int) -> list[Iterator[Piece]]:
    """The texts that a beam search finds; one that a stop string ends is complete."""
    coder, stop = work.run.tokenizer, work.stop

    def ends(tokens: list[int]) -> bool:
        transcript = Transcript(coder, stop)
        for token in tokens:
            transcript.feed(token)
        return transcript.stopped

    found = beam_search(work.run.model, prompt, work.config.sample_tokens, beams, ends=ends)
    return [iter(pieces_of(coder, text, stop)) for text in found]
