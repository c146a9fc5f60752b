"""``python -m gpt sample``: write with a trained model."""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import checkpoint, display, folder, tokenizer, train
from ..beam import beam_search
from ..model import GPT
from ..sampling import Sampling
from ..text import Piece, Transcript, complete, pieces_of, stream_text
from .flags import flag_of, or_none


def _bias(text: str) -> tuple[int, float]:
    """Reads TOKEN=VALUE."""
    token, _, value = text.partition("=")
    try:
        return int(token), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not TOKEN=VALUE with a token's number and a number, like 13=-2.5 or "
            "13=-inf"
        ) from None


# What a run's config does not have; the other choices are in the parser of `sample`.
SAMPLING_FLAGS: dict[str, dict[str, Any]] = {
    "top-p": {"type": float, "metavar": "X",
              "help": "draw from the likeliest tokens with this probability together"},
    "min-p": {"type": float, "metavar": "X",
              "help": "draw from tokens at least X times as likely as the likeliest"},
    "repetition-penalty": {"type": float, "metavar": "X", "default": 1.0,
                           "help": "above 1, tokens of the text so far are less likely"},
    "logit-bias": {"type": _bias, "metavar": "TOKEN=VALUE", "action": "append", "default": [],
                   "help": "add to a token's logit, -inf forbids it; can be repeated"},
    "stop": {"metavar": "TEXT", "action": "append", "default": [],
             "help": "end before this text; can be repeated"},
    "beams": {"type": int, "metavar": "N",
              "help": "search for the likeliest text among N, and draw nothing"},
    "best": {"action": "store_true", "help": "with the weights of the best validation loss"},
    "num": {"type": int, "metavar": "N", "default": 1, "help": "how many texts to write"},
    "show-probs": {"action": "store_true",
                   "help": "show how likely each piece was: in colours on a terminal, elsewhere "
                   "(or with NO_COLOR) in numbers, with the likeliest pieces of that place"},
}  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.description = "Write with a trained model."
    parser.add_argument("run", type=Path, metavar="DIR", help="folder of a run")
    for name, kind, help in (
        ("prompt", str, "text to continue [the run's]"),
        ("tokens", int, "how many to write [the run's]"),
        ("temperature", float, "below 1 bolder, above 1 more varied, 0 the likeliest [the run's]"),
        ("top-k", or_none(int), "draw from the N likeliest tokens only, or none [the run's]"),
        ("seed", int, "the same seed writes the same text [a new one each time]"),
    ):
        parser.add_argument(
            f"--{name}", type=kind, help=help, default=argparse.SUPPRESS,
            dest="sample_tokens" if name == "tokens" else None,
            metavar="TEXT" if kind is str else "X" if kind is float else "N",
        )  # fmt: skip
    for name, extra in SAMPLING_FLAGS.items():
        parser.add_argument(f"--{name}", **extra)


def run(given: dict[str, Any]) -> int:
    """Write the texts that the flags ask for."""
    out, num, beams = given.pop("run"), given.pop("num"), given.pop("beams")
    stop, show_probs, best = given.pop("stop"), given.pop("show_probs"), given.pop("best")
    choices: dict[str, Any] = {
        "top_p": given.pop("top_p"), "min_p": given.pop("min_p"),
        "repetition_penalty": given.pop("repetition_penalty"),
        "logit_bias": dict(given.pop("logit_bias")),
    }  # fmt: skip
    if num < 1:
        raise ValueError(f"num must be at least 1, not {num}")
    drawing: list[str] = [name for name in ("temperature", "top_k", "seed") if name in given]
    drawing += [name for name, value in choices.items() if value not in (None, 1.0, {})]
    if beams is not None and drawing:
        raise ValueError(
            f"--beams searches and draws nothing: leave out {', '.join(map(flag_of, drawing))}"
        )
    if beams is not None and num > max(beams, 1):
        raise ValueError(f"a search with {beams} beams finds as many texts at most, not {num}")
    config, model_config = folder.read_config(out)
    given.setdefault("seed", secrets.randbits(32))
    config = dataclasses.replace(config, **given)
    choices |= {"temperature": config.temperature, "top_k": config.top_k}
    Sampling(**choices).check(model_config.vocab_size)
    model = GPT(model_config)
    names = [folder.BEST] if best else [folder.CHECKPOINT, folder.PREVIOUS]
    path, bad = checkpoint.restore_first(
        [out / name for name in names],
        lambda path: checkpoint.restore_model(model, *checkpoint.read(path), path),
    )
    if bad:
        print(f"{bad}; writing with {path.name} instead", file=sys.stderr)
    coder = tokenizer.load(out / folder.TOKENIZER)
    prompt = train.prompt_tokens(coder, config.prompt)
    Transcript(coder, stop)  # complains about stop strings before anything is written
    rest = (model, coder, prompt, config.sample_tokens)
    top = display.TOP if show_probs else 0
    if beams is not None:
        texts = _search(*rest, beams, stop)[:num]
    elif num == 1:
        texts = [stream_text(*rest, stop=stop, top=top, seed=config.seed, **choices)]
    else:
        written = complete(model, coder, [prompt] * num, config.sample_tokens, stop=stop, top=top,
                           seed=config.seed, **choices)  # fmt: skip
        texts = [iter(pieces_of(coder, text, stop)) for text in written]
    start = coder.decode(prompt)
    for n, pieces in enumerate(texts, start=1):
        if num > 1:
            print(f"--- {n} of {num} ---")
        display.show(start, pieces, coder, show_probs)
    return 0


def _search(
    model: GPT, coder: tokenizer.Tokenizer, prompt: list[int], count: int, beams: int,
    stop: Sequence[str],
) -> list[Iterator[Piece]]:  # fmt: skip
    """The texts that a beam search finds; one that a stop string ends is complete."""

    def ends(tokens: list[int]) -> bool:
        transcript = Transcript(coder, stop)
        for token in tokens:
            transcript.feed(token)
        return transcript.stopped

    found = beam_search(model, prompt, count, beams, ends=ends)
    return [iter(pieces_of(coder, text, stop)) for text in found]
