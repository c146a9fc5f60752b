"""The choices of a run from a TOML file: a line ``width = 64`` is the flag ``--width 64``."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

from .config import from_json
from .presets import PRESETS, RunConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(path: Path) -> dict[str, Any]:
    """The choices in the file at ``path`` by their names in RunConfig, and perhaps ``preset``.

    A name may be written with hyphens, as its flag is; the text "none" is no value at all.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is not TOML, a name is unknown, or a value is not of its type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: name a TOML file with the choices")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    given = {name.replace("-", "_"): value for name, value in table.items()}
    preset = given.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"{path}: there is no preset {preset!r}, but {', '.join(PRESETS)}")
    known = list(RunConfig.__dataclass_fields__)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"do you mean {near[0]}?" if near else "train --help lists the flags"
            raise ValueError(f"{path}: there is no choice {name!r}; {hint}")
    given = {name: None if value == "none" else value for name, value in given.items()}
    try:
        from_json(RunConfig, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return given if preset is None else {"preset": preset, **given}
