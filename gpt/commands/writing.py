"""What `sample` and `chat` share: the model that writes, and the flags that say how."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import secrets
import sys
from typing import Any, NamedTuple

from .. import trained
from ..presets import RunConfig
from ..sampling import Sampling
from ..text import Transcript
from ..tokenizer import Tokenizer
from ..trained import Trained
from .flags import or_none, path


def _bias(given: str) -> tuple[int | str, float]:
    """Reads TOKEN=VALUE: digits are a token's number, all else is text, in quotes or not."""
    token, _, value = given.rpartition("=")
    try:
        bias = float(value)
        if token.isdecimal():
            return int(token), bias
        if token[:1] in ("'", '"') and token[1:].endswith(token[0]):
            token = ast.literal_eval(token)
        if not token or not isinstance(token, str):
            raise ValueError
    except (ValueError, SyntaxError):
        raise argparse.ArgumentTypeError(
            f"{given!r} is not TOKEN=VALUE with a token's number or text and a number, like "
            "13=-2.5, ' the'=-5 or 13=-inf"
        ) from None
    return token, bias


# One that a run's config has, too, is there only if it was given.
FLAGS: dict[str, dict[str, Any]] = {
    "tokens": {"type": int, "metavar": "N", "dest": "sample_tokens", "default": argparse.SUPPRESS,
               "help": "how many to write [the run's]"},
    "temperature": {"type": float, "metavar": "X", "default": argparse.SUPPRESS,
                    "help": "below 1 bolder, above 1 more varied, 0 the likeliest [the run's]"},
    "top-k": {"type": or_none(int), "metavar": "N", "default": argparse.SUPPRESS,
              "help": "draw from the N likeliest tokens only, or none [the run's]"},
    "top-p": {"type": float, "metavar": "X",
              "help": "draw from the likeliest tokens with this probability together"},
    "min-p": {"type": float, "metavar": "X",
              "help": "draw from tokens at least X times as likely as the likeliest"},
    "repetition-penalty": {"type": float, "metavar": "X", "default": 1.0,
                           "help": "above 1, tokens of the text so far are less likely"},
    "logit-bias": {"type": _bias, "metavar": "TOKEN=VALUE", "action": "append", "default": [],
                   "help": "add to the logit of a token, which is named by its number or its text "
                   "(' the'=-5); -inf forbids it; can be repeated"},
    "stop": {"metavar": "TEXT", "action": "append", "default": [],
             "help": "end before this text; can be repeated"},
    "seed": {"type": int, "metavar": "N", "default": argparse.SUPPRESS,
             "help": "the same seed writes the same text [a new one each time]"},
    "best": {"action": "store_true", "help": "with the weights of the best validation loss"},
    "show-probs": {"action": "store_true",
                   "help": "show how likely each piece was: in colours on a terminal, elsewhere "
                   "(or with NO_COLOR) in numbers, with the likeliest pieces of that place"},
}  # fmt: skip


class Writing(NamedTuple):
    """A model and how it is to write."""

    run: Trained
    config: RunConfig  # the run's, with what the flags change
    sampling: Sampling
    stop: list[str]
    show_probs: bool


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The run, and how to write with it."""
    parser.add_argument(
        "run", type=path, metavar="RUN", help="folder of a run, or a checkpoint file in one"
    )
    for name, extra in FLAGS.items():
        parser.add_argument(f"--{name}", **extra)


def load(given: dict[str, Any]) -> Writing:
    """The model that the flags name; a damaged checkpoint is told of.

    Raises:
        OSError, ValueError: one sentence about what cannot be read, or what a flag cannot be.
    """
    run = trained.load(given["run"], given["best"])
    given.setdefault("seed", secrets.randbits(32))
    fields = RunConfig.__dataclass_fields__
    config = dataclasses.replace(run.config, **{k: v for k, v in given.items() if k in fields})
    sampling = Sampling(
        config.temperature, config.top_k, given["top_p"], given["min_p"],
        given["repetition_penalty"],
        {_token(token, run.tokenizer): value for token, value in given["logit_bias"]},
    )  # fmt: skip
    sampling.check(run.model.config.vocab_size)
    Transcript(run.tokenizer, given["stop"])  # complains about stop strings
    if run.problem:
        print(run.problem, file=sys.stderr)
    return Writing(run, config, sampling, given["stop"], given["show_probs"])


def _token(named: int | str, coder: Tokenizer) -> int:
    """The token of a bias; ValueError if a text is not exactly one."""
    if isinstance(named, int):
        return named
    tokens = coder.encode(named)
    if len(tokens) != 1:
        parts = ", ".join(f"{coder.decode([t])!r} ({t})" for t in tokens[:8])
        raise ValueError(
            f"logit_bias is for one token, and {named!r} is {len(tokens)}: {parts}"
            f"{', ...' if len(tokens) > 8 else ''}; give one of them, by its text or number"
        )
    return tokens[0]
