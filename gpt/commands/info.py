"""``python -m gpt info``: what a model would cost, or a run's does."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from .. import costs, folder, train
from ..model import GPT
from ..presets import PRESETS
from .flags import add_choices, add_starting_points, chosen, path


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.usage = "%(prog)s [DIR] [--preset NAME] [--config FILE] [FLAG ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Tell a model's parameters, its operations per token and its memory in\n"
        "training: of the run in DIR, or of one with these choices."
    )
    parser.add_argument("run", type=path, metavar="DIR", nargs="?", help="folder of a run")
    add_starting_points(parser)
    add_choices(parser)


def run(given: dict[str, Any]) -> int:
    """Tell of the run in DIR, or of one with these choices."""
    out = given.pop("run")
    preset, given = chosen(given)
    if out:
        if preset or given:
            raise ValueError("info tells of a run or of choices: leave out the one or the other")
        config, model_config = folder.read_config(out)
    else:
        config = dataclasses.replace(PRESETS[preset or "default"], **given)
        model_config = config.model(train.vocabulary(config))
    for line in costs.described(GPT(model_config), config.batch, config.recompute):
        print(line)
    return 0
