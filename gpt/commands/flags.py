"""The choices of a run on the command line: a flag for each, a preset, and a file of choices."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import settings
from ..presets import PRESETS, RunConfig

# The headings of --help, each with the first of its fields.
GROUPS = {
    "data": "the text",
    "context": "the model",
    "batch": "the training",
    "eval_every": "the reports",
    "prompt": "the samples at the end",
}


def or_none(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Reads what ``kind`` reads, and ``none``."""

    def read(text: str) -> Any:
        try:
            return None if text == "none" else kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor none") from None

    return read


def path(text: str) -> Path:
    """Reads a path; an empty one, which would be the folder one is in, is a variable not set."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty: is a variable not set? . is this folder")
    return Path(text)


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(value: Any) -> str:
    """A default as one would write it after its flag; a flag without one is yes or no."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return repr(value) if isinstance(value, str) and not value.isprintable() else f"{value}"


def add_choices(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of RunConfig; one that is not given leaves no trace."""
    hints = typing.get_type_hints(RunConfig)
    group: Any = parser
    for f in dataclasses.fields(RunConfig):
        if f.name in GROUPS:
            group = parser.add_argument_group(GROUPS[f.name])
        kind, *other = typing.get_args(hints[f.name]) or (hints[f.name],)
        shown = _shown(getattr(PRESETS["default"], f.name))
        extra: dict[str, Any] = {"help": f"{f.metadata['help']} [{shown}]".replace("%", "%%")}
        if f.name == "data":
            extra["help"] = f.metadata["help"]
        if kind is bool:
            extra["action"] = argparse.BooleanOptionalAction
        elif f.metadata["choices"]:
            extra["choices"] = f.metadata["choices"]
        else:
            extra["metavar"] = f.metadata["metavar"] or ("N" if kind is int else "X")
            extra["type"] = or_none(kind) if types.NoneType in other and kind is int else kind
        group.add_argument(flag_of(f.name), dest=f.name, default=argparse.SUPPRESS, **extra)


def add_starting_points(parser: argparse.ArgumentParser) -> None:
    """The flags that choose many things at once."""
    parser.add_argument("--preset", choices=PRESETS, help="named settings, see below [default]")
    parser.add_argument(
        "--config", type=path, metavar="FILE", help="TOML file of choices, `width = 64` and the "
        "like; flags go before it, and it before the preset"
    )  # fmt: skip


def presets_as_flags() -> Iterator[str]:
    """Each preset as the flags that would make it of the default one."""
    default = PRESETS["default"]
    for name, preset in PRESETS.items():
        words = []
        for field, value in preset.to_json().items():
            if value != getattr(default, field):
                if isinstance(value, bool):
                    words.append(flag_of(field) if value else flag_of("no_" + field))
                else:
                    shown = _shown(value)
                    words.append(f"{flag_of(field)} {repr(shown) if ' ' in shown else shown}")
        flags = "  ".join(words) or "the values in brackets above"
        yield textwrap.fill(
            flags, 78, initial_indent=f"  {name}: ", subsequent_indent="    ",
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip


def chosen(given: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The preset, and what the file of choices and the flags say; the flags go before."""
    preset, file = given.pop("preset"), given.pop("config")
    given = {**(settings.read(file) if file else {}), **given}
    named = given.pop("preset", None)
    return preset or named, given
