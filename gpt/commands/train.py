"""``python -m gpt train``: train a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .. import expectations, train
from .flags import add_choices, add_starting_points, chosen, presets_as_flags


def add(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    parser.usage = (
        "%(prog)s [--preset NAME] [--config FILE] [--out DIR]\n"
        "       [--resume] [--check] [FLAG ...]"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Train a GPT. Without arguments: on the Python language reference that every\n"
        "Python carries, in about three minutes on two cores.\n\n"
        "In brackets: the values of the preset `default`."
    )
    parser.epilog = "presets:\n" + "\n".join(presets_as_flags())
    add_starting_points(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the run [runs/PRESET]; one that is "
        "there already is kept under another name"
    )  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true", help="go on in --out from its checkpoint, with its "
        "choices; another --steps, --lr and the like can be given"
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true", help="tell at the end, number by number, whether the run "
        "did what the preset is expected to do (docs/presets.md); exit code 1 if not"
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, metavar="N", default=argparse.SUPPRESS, help="processes that share "
        "every batch, by MPI; what they learn is what one would, but for rounding [1]"
    )  # fmt: skip
    add_choices(parser)


def run(given: dict[str, Any]) -> int:
    """Train, or go on; returns the exit code.

    0: done. 1: done, and not as expected (``--check``). 128 and the number of a signal: stopped.
    """
    out, resume, check = given.pop("out"), given.pop("resume"), given.pop("check")
    preset, given = chosen(given)
    config, out = train.choose(preset, given, out, resume)
    expected = None
    notes: list[str] = []
    if check:
        expected, notes = expectations.find(preset or "default", config)
    script = Path(sys.argv[0])
    command = f"python {script}" if script.name == "train_gpt.py" else "python -m gpt train"
    trainer = train.Trainer(config, out, resume, command=command)
    speaks = trainer.workers.first
    for note in notes if speaks else []:
        print(note)
    if not trainer.run():
        return 128 + trainer.stopped_by
    if expected is None or not speaks:
        return 0
    lines, fits = expectations.report(expected, out)
    for line in lines:
        print(line)
    return 0 if fits else 1
