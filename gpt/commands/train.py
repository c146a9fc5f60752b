"""``python -m gpt train``: train a model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tensorgrad import distributed

from .. import expectations, folder, train, trial
from .flags import add_choices, add_starting_points, chosen, path, presets_as_flags


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
        "--out", type=path, metavar="DIR", help="folder of the run [runs/PRESET]; one that is "
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
        "every batch, by MPI; what they learn is what one would, but for rounding [before a "
        "long training, some steps are tried to see how many are fastest]"
    )  # fmt: skip
    add_choices(parser)


def workers_wanted(given: dict[str, Any]) -> int:
    """How many processes are to be started: 0 if they are there already, or one is enough.

    Where nobody has said it, a few steps tell how many a long training should have, and a run that
    is resumed has as many as before.

    Raises:
        ValueError: mpiexec has started another number; or a choice of the training is wrong.
    """
    wanted = given.pop("workers", None)
    if wanted is not None and wanted < 1:
        raise ValueError(f"workers must be at least 1, not {wanted}")
    there = distributed.launch_size()
    if wanted is None:
        return _fitting(given) if there == 1 else 0
    if there == 1:
        return wanted if wanted > 1 else 0
    if there != wanted:
        raise ValueError(
            f"mpiexec has started {there} workers, and --workers says {wanted}: leave it out"
        )
    return 0


def _fitting(given: dict[str, Any]) -> int:
    """As many as are fastest; of a run that is resumed, as many as before: the same numbers."""
    config, out, preset = begun(dict(given))
    if given["check"]:  # what that refuses need not be tried
        expectations.find(preset or "default", config)
    workers = folder.workers_before(out) if given["resume"] else trial.fitting(config)
    return workers if workers > 1 else 0


def begun(given: dict[str, Any]) -> tuple[train.RunConfig, Path, str | None]:
    """The config and the folder of a run, and the preset that was named, of all flags."""
    out, resume, _ = given.pop("out"), given.pop("resume"), given.pop("check")
    preset, given = chosen(given)
    return *train.choose(preset, given, out, resume), preset


def run(given: dict[str, Any]) -> int:
    """Train, or go on; returns the exit code.

    0: done. 1: done, and not as expected (``--check``). 128 and the number of a signal: stopped.
    """
    resume, check = given["resume"], given["check"]
    config, out, preset = begun(given)
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
